//! `docker run -p` beside a thousand endpoints and beside none. The endpoints exist only in Pontoon and the kernel,
//! since an engine with as many containers would be slower by itself.

use std::path::Path;
use std::time::Duration;

use crate::client::{self, Client};
use crate::flow;
use crate::report::{Row, median};
use crate::verbs::time;
use testkit::Node;

const ROUNDS: usize = 3;
const RUNS: usize = 8;
const NETWORKS: usize = 10;
const EACH: usize = 100;

pub fn run() -> Vec<Row> {
    let node = Node::up();
    let (major, minor) = node.engine_version();
    node.start_pontoon(Path::new("target/pontoon"), &["--log", "warn"]);
    node.docker(&["network", "create", "-d", "pontoon", "n"]).ok();
    let mut client = Client::connect(&node.path("/run/docker/plugins/pontoon.sock")).expect("Pontoon listens");
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let run = |times: &mut Vec<Duration>| {
        let run = ["run", "--rm", "--network", "n", "-p", "18080:80", "busybox", "true"];
        times.extend((0..RUNS).map(|_| time(|| drop(node.docker(&run).ok()))));
    };
    let (at, sandbox) = (flow::of_node(&node), flow::sandbox());
    run(&mut Vec::new());
    for round in 0..ROUNDS {
        run(&mut alone);
        let endpoints =
            || (0..NETWORKS * EACH).map(|n| (format!("crowd{round}x{}", n / EACH), 100 + (n / EACH) as u8, n));
        for (network, subnet, n) in endpoints() {
            if n % EACH == 0 {
                client.call("NetworkDriver.CreateNetwork", &client::network(&network, subnet, true));
            }
            client.call("NetworkDriver.CreateEndpoint", &client::create(&network, subnet, n));
            client.call("NetworkDriver.Join", &client::join(&network, n));
        }
        // Pontoon would regard links that stay on the host as abandoned.
        flow::give_away(&at, 0..NETWORKS * EACH, &sandbox);
        run(&mut beside);
        for (network, _, n) in endpoints() {
            client.call("NetworkDriver.Leave", &client::of(&network, n));
            client.call("NetworkDriver.DeleteEndpoint", &client::of(&network, n));
            if n % EACH == EACH - 1 {
                let network = serde_json::json!({ "NetworkID": network }).to_string();
                client.call("NetworkDriver.DeleteNetwork", &network);
            }
        }
        // Deleted in the background: the next round must not be slowed down by that.
        let links = || node.exec(&["sh", "-c", "ls /sys/class/net | grep -c ^pnth || true"]).ok();
        testkit::wait_until(Duration::from_secs(60), "the endpoints to be gone", || links().trim() == "0");
    }
    let what = format!("docker run --rm -p, 1 port, beside 1,000 endpoints, engine {major}.{minor}");
    vec![Row::ratio(&what, median(&beside), "beside none", median(&alone), Some(1.2))]
}
