//! The experience of a Swarm's user across hosts: throughput, round trips, and the time until a joining node has
//! connectivity. Three engines in one Swarm, with a network of Pontoon and one of the built-in overlay on the same
//! hosts, alternately.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::flow::{self, PORT};
use crate::report::{Row, median, middle};
use testkit::{Node, Options, Segment, wait_until};

const ROUNDS: usize = 7;
/// For one connection each, whose speed depends on the processors that it happens to get.
const CONNECTIONS: usize = 31;
const ROUND_TRIPS: usize = 2000;
const SPAN: Duration = Duration::from_millis(700);
const JOINS: usize = 5;
const SOON: Duration = Duration::from_secs(60);

/// Drivers and names of the two networks.
const SIDES: [(&str, &str); 2] = [("pontoon:latest", "ours"), ("overlay", "builtin")];

/// The measurements of one network.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    trip: Vec<Duration>,
    start: Vec<Duration>,
    join: Vec<Duration>,
}

/// A network with a server on host two and a client on host one.
struct Side {
    name: &'static str,
    server: SocketAddr,
    client: PathBuf,
}

pub fn run() -> Vec<Row> {
    let segment = Segment::up();
    let nodes: Vec<Node> = (11..14).map(|n| Options::new().uplink(&segment, n).up()).collect();
    let (major, minor) = nodes[0].engine_version();
    for node in &nodes {
        node.copy_in(Path::new("target/plugin"), "plugin");
        for command in
            ["create pontoon /lab/plugin", "set pontoon PONTOON_SCOPE=global PONTOON_LOG=warn", "enable pontoon"]
        {
            node.docker(&[&["plugin"], &command.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        }
    }
    nodes[0].docker(&["swarm", "init", "--advertise-addr", &address(0)]).ok();
    let token = nodes[0].docker(&["swarm", "join-token", "-q", "worker"]).ok();
    join(&nodes[1], 1, &token);
    let sides = SIDES.map(|(driver, name)| {
        nodes[0].docker(&["network", "create", "-d", driver, "--attachable", name]).ok();
        let (client, server) = (format!("{name}-client"), format!("{name}-server"));
        nodes[0].run_container(&client, &["--network", name]);
        nodes[1].run_container(&server, &["--network", name]);
        flow::serve(&flow::of_container(&nodes[1], &server));
        let at = nodes[1].container_addr(&server, name).v4.expect("an IPv4 address");
        nodes[0].ping_soon(&client, &at.to_string());
        Side { name, server: SocketAddr::new(at.into(), PORT), client: flow::of_container(&nodes[0], &client) }
    });

    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..CONNECTIONS {
        for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (side, figures) = (&sides[at], &mut figures[at]);
            figures.rate.push(flow::throughput(&side.client, side.server, SPAN));
            figures.trip.push(median(&flow::round_trips(&side.client, side.server, ROUND_TRIPS)));
            if round < ROUNDS {
                figures.start.push(first_packet(&nodes[0], side));
            }
        }
    }
    for round in 0..JOINS * 2 {
        let at = round % 2;
        figures[at].join.push(way_in(&nodes, &sides[at], &token));
    }

    let [ours, theirs] = &figures;
    let label = |what: &str| format!("{what}, engine {major}.{minor}");
    let times = |what: &str, ours: &[Duration], theirs: &[Duration]| {
        Row::ratio(&label(what), median(ours), "built-in overlay", median(theirs), Some(1.05))
    };
    vec![
        Row::rate(
            &label("throughput, container to container across hosts"),
            middle(&ours.rate),
            "built-in overlay",
            middle(&theirs.rate),
            "Gbit/s",
            Some(1.05),
        ),
        times("round trip, container to container across hosts", &ours.trip, &theirs.trip),
        times("docker run until the first answer from another host", &ours.start, &theirs.start),
        times("docker swarm join until a container there has its first answer", &ours.join, &theirs.join),
    ]
}

/// The time from `docker run` on a host to the first answer from the other.
fn first_packet(node: &Node, side: &Side) -> Duration {
    let began = Instant::now();
    reach(node, side);
    let took = began.elapsed();
    node.docker(&["rm", "-f", "first"]).ok();
    took
}

/// Starts a container that ends at the first answer.
fn reach(node: &Node, side: &Side) {
    let until = format!("until ping -c 1 -W 1 {}; do :; done", side.server.ip());
    wait_until(SOON, "a container that reaches the other host", || {
        node.docker(&["rm", "-f", "first"]);
        node.docker(&["run", "--name", "first", "--network", side.name, "busybox", "sh", "-c", &until]).success()
    });
}

/// Host three joins, gets its first answer, and leaves.
fn way_in(nodes: &[Node], side: &Side, token: &str) -> Duration {
    let began = Instant::now();
    join(&nodes[2], 2, token);
    reach(&nodes[2], side);
    let took = began.elapsed();
    nodes[2].docker(&["rm", "-f", "first"]).ok();
    let id = nodes[2].docker(&["info", "--format", "{{.Swarm.NodeID}}"]).ok();
    nodes[2].docker(&["swarm", "leave", "--force"]).ok();
    wait_until(SOON, "the node to be removed", || nodes[0].docker(&["node", "rm", "--force", &id]).success());
    took
}

fn address(host: usize) -> String {
    format!("192.168.77.{}", 11 + host)
}

fn join(node: &Node, host: usize, token: &str) {
    let to = format!("{}:2377", address(0));
    node.docker(&["swarm", "join", "--advertise-addr", &address(host), "--token", token, &to]).ok();
}
