//! The waiting times of users: `docker run --rm` and `docker network create/rm` on Pontoon and on the built-in bridge
//! of the same engine, alternately.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::report::{Row, median};
use crate::verbs::time;
use testkit::Node;

const RUNS: usize = 21;
/// The built-in driver takes seconds for 200 ports.
const MANY_RUNS: usize = 3;
const MANY: &str = "20000-20199:20000-20199";

pub fn run() -> Vec<Row> {
    let node = Node::up();
    let (major, minor) = node.engine_version();
    node.start_pontoon(Path::new("target/pontoon"), &["--log", "warn"]);
    for driver in ["bridge", "pontoon"] {
        node.docker(&["network", "create", "-d", driver, &format!("n-{driver}")]).ok();
    }
    let (mut run, mut create, mut remove) =
        ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for turn in 0..RUNS + 2 {
        // The order alternates; the first two turns are a warm-up.
        let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let driver = ["bridge", "pontoon"][side];
            let keep = |times: &mut Vec<Duration>, took| {
                if turn >= 2 {
                    times.push(took);
                }
            };
            let network = format!("n-{driver}");
            keep(
                &mut run[side],
                time(|| drop(node.docker(&["run", "--rm", "--network", &network, "busybox", "true"]).ok())),
            );
            keep(&mut create[side], time(|| drop(node.docker(&["network", "create", "-d", driver, "extra"]).ok())));
            keep(&mut remove[side], time(|| drop(node.docker(&["network", "rm", "extra"]).ok())));
        }
    }
    // The time of the engine itself, and the time for a network without ports.
    let (mut no_network, mut no_ports) = (Vec::new(), Vec::new());
    let (mut one_port, mut many_ports) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let (mut own_share, mut own_share_of_many) = (Vec::new(), Vec::new());
    for turn in 0..RUNS {
        let bare =
            |network: &str| time(|| drop(node.docker(&["run", "--rm", "--network", network, "busybox", "true"]).ok()));
        no_network.push(bare("none"));
        no_ports.push(bare("n-pontoon"));
        for side in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let network = format!("n-{}", ["bridge", "pontoon"][side]);
            let run = |ports: &str| {
                time(|| drop(node.docker(&["run", "--rm", "--network", &network, "-p", ports, "busybox", "true"]).ok()))
            };
            let shared = |share: &mut Vec<Duration>, ports: &str| {
                let before = request_seconds(&node);
                let took = run(ports);
                if side == 1 {
                    share.push(Duration::from_secs_f64(request_seconds(&node) - before));
                }
                took
            };
            one_port[side].push(shared(&mut own_share, "18080:80"));
            if turn < MANY_RUNS {
                many_ports[side].push(shared(&mut own_share_of_many, MANY));
            }
        }
    }
    let row = |what: &str, times: &[Vec<Duration>; 2]| {
        let what = format!("{what}, engine {major}.{minor}");
        Row::ratio(&what, median(&times[1]), "built-in bridge", median(&times[0]), Some(1.0))
    };
    let with_goal = |mut row: Row, goal: f64| {
        row.goal = Some(goal);
        row
    };
    vec![
        with_goal(row("docker run --rm -p, 1 port", &one_port), 0.75),
        with_goal(row("docker run --rm -p, 200 ports", &many_ports), 0.05),
        Row::ratio(
            "Pontoon's own share of docker run --rm -p, 1 port: all its verbs",
            median(&own_share),
            "the whole",
            median(&one_port[1]),
            None,
        ),
        Row::ratio(
            "Pontoon's own share of docker run --rm -p, 200 ports: all its verbs",
            median(&own_share_of_many),
            "goal",
            Duration::from_millis(10),
            Some(1.0),
        ),
        Row::ratio("docker run --rm on Pontoon without -p", median(&no_ports), "with", median(&one_port[1]), None),
        Row::ratio(
            "docker run --rm --network none",
            median(&no_network),
            "Pontoon, 1 port",
            median(&one_port[1]),
            None,
        ),
        Row::ratio("the same", median(&no_network), "built-in bridge, 1 port", median(&one_port[0]), None),
        row("docker run --rm busybox true", &run),
        row("docker network create", &create),
        row("docker network rm", &remove),
    ]
}

/// The total time of all requests so far, from the daemon's metrics.
fn request_seconds(node: &Node) -> f64 {
    let text = get_metrics(node);
    let lines = text.lines().filter(|line| line.starts_with("pontoon_request_duration_seconds_sum{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn get_metrics(node: &Node) -> String {
    let mut stream = UnixStream::connect(node.path("/run/docker/plugins/pontoon.sock")).expect("Pontoon listens");
    let ask = b"GET /metrics HTTP/1.1\r\nHost: pontoon\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).expect("Pontoon takes requests");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("Pontoon answers");
    text
}
