//! The packets of users: new connections through a published port, throughput and round trips. Two hosts with an engine
//! each, one with Pontoon and one with the built-in bridge only, and a third host outside; alternately.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::Client;
use crate::flow::{self, PORT};
use crate::report::{Row, median, middle};
use crate::restart::{publish_many, withdraw_many};
use testkit::{Node, Options, Segment};

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 300;
const ROUND_TRIPS: usize = 2000;
const CLIENTS: usize = 4;
const SPAN: Duration = Duration::from_millis(700);
const PUBLISHED: u16 = 18_080;
/// The built-in driver needs about 0.1 s for each.
const MANY_BUILTIN: &str = "40000-40199:40000-40199";

/// A host with two containers, one of which is a server.
pub struct Host {
    pub node: Node,
    driver: &'static str,
    /// The published port, from outside.
    pub published: SocketAddr,
    /// The server's address in its network.
    pub direct: SocketAddr,
    /// The namespace of the server's neighbour.
    pub neighbour: PathBuf,
}

impl Host {
    /// `binary` is another Pontoon than the one that was built.
    pub fn up(segment: &Segment, n: u8, driver: &'static str, binary: Option<&Path>) -> Self {
        Self::with(segment, n, driver, binary, &[])
    }

    /// The same with options of the network.
    pub fn with(segment: &Segment, n: u8, driver: &'static str, binary: Option<&Path>, options: &[&str]) -> Self {
        let node = Options::new().uplink(segment, n).up();
        if driver == "pontoon" {
            node.start_pontoon(binary.unwrap_or(Path::new("target/pontoon")), &["--log", "warn"]);
        }
        node.docker(&[&["network", "create", "-d", driver][..], options, &["n"]].concat()).ok();
        node.run_container("server", &["--network", "n", "-p", &format!("{PUBLISHED}:{PORT}")]);
        node.run_container("neighbour", &["--network", "n"]);
        flow::serve(&flow::of_container(&node, "server"));
        let address = node.container_addr("server", "n").v4.expect("an IPv4 address");
        let neighbour = flow::of_container(&node, "neighbour");
        Self {
            driver,
            published: SocketAddr::new(IpAddr::from([192, 168, 77, n]), PUBLISHED),
            direct: SocketAddr::new(address.into(), PORT),
            neighbour,
            node,
        }
    }
}

/// The measurements of one host in one configuration.
#[derive(Default)]
struct Figures {
    connection: Vec<Duration>,
    rate: Vec<f64>,
    inside_rate: Vec<f64>,
    outside_rate: Vec<f64>,
    inside_trip: Vec<Duration>,
    outside_trip: Vec<Duration>,
}

impl Figures {
    fn connections(&mut self, host: &Host, outside: &Path) {
        self.connection.push(median(&flow::connections(outside, host.published, CONNECTIONS)));
        self.rate.push(flow::rate(outside, host.published, CLIENTS, SPAN));
    }

    fn streams(&mut self, host: &Host, outside: &Path) {
        self.inside_rate.push(flow::throughput(&host.neighbour, host.direct, SPAN));
        self.outside_rate.push(flow::throughput(outside, host.published, SPAN));
        self.inside_trip.push(median(&flow::round_trips(&host.neighbour, host.direct, ROUND_TRIPS)));
        self.outside_trip.push(median(&flow::round_trips(outside, host.published, ROUND_TRIPS)));
    }
}

pub fn run() -> Vec<Row> {
    let segment = Segment::up();
    let outside = Options::new().uplink(&segment, 9).bare().up();
    let hosts = [Host::up(&segment, 1, "pontoon", None), Host::up(&segment, 2, "bridge", None)];
    let (major, minor) = hosts[0].node.engine_version();
    let from = flow::of_node(&outside);
    let socket = hosts[0].node.path("/run/docker/plugins/pontoon.sock");
    let mut client = Client::connect(&socket).expect("Pontoon listens");
    publish_many(&mut client, "many", 99, true);
    // Pontoon would regard links that stay on the host as abandoned.
    let sandbox = flow::sandbox();
    flow::give_away(&flow::of_node(&hosts[0].node), 0..crate::restart::ENDPOINTS, &sandbox);
    withdraw_many(&mut client, "many");

    let mut figures = [Figures::default(), Figures::default()];
    let (mut many, mut many_builtin) = (Figures::default(), Figures::default());
    for round in 0..ROUNDS {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            figures[side].connections(&hosts[side], &from);
            figures[side].streams(&hosts[side], &from);
        }
        publish_many(&mut client, "many", 99, false);
        many.connections(&hosts[0], &from);
        withdraw_many(&mut client, "many");
        // Withdrawn elements are freed in the background.
        std::thread::sleep(Duration::from_millis(200));
    }
    let [ours, theirs] = &figures;
    assert_eq!(hosts[1].driver, "bridge");
    hosts[1].node.run_container("many", &["--network", "n", "-p", MANY_BUILTIN]);
    for _ in 0..ROUNDS {
        many_builtin.connections(&hosts[1], &from);
    }

    let label = |what: &str| format!("{what}, engine {major}.{minor}");
    let times = |what: &str, ours: &[Duration], against: &str, theirs: &[Duration], goal: f64| {
        Row::ratio(&label(what), median(ours), against, median(theirs), Some(goal))
    };
    let rates = |what: &str, ours: &[f64], against: &str, theirs: &[f64], unit: &str, goal: f64| {
        Row::rate(&label(what), middle(ours), against, middle(theirs), unit, Some(goal))
    };
    // Two runs of the same code differ by a twentieth.
    const EQUAL: f64 = 1.05;
    let built_in = "built-in bridge";
    vec![
        times("new connection from outside, 1 port published", &ours.connection, built_in, &theirs.connection, EQUAL),
        times("the same, 10,000 ports published", &many.connection, "1 port", &ours.connection, EQUAL),
        times("the same, 10,000 : built-in with 201", &many.connection, built_in, &many_builtin.connection, EQUAL),
        rates("4 clients, 1 port published", &ours.rate, built_in, &theirs.rate, "connections/s", EQUAL),
        rates("the same, 10,000 ports published", &many.rate, "1 port", &ours.rate, "connections/s", EQUAL),
        rates("throughput, container to container", &ours.inside_rate, built_in, &theirs.inside_rate, "Gbit/s", EQUAL),
        rates("throughput, outside to container", &ours.outside_rate, built_in, &theirs.outside_rate, "Gbit/s", EQUAL),
        times("round trip, container to container", &ours.inside_trip, built_in, &theirs.inside_trip, EQUAL),
        times("round trip, outside to container", &ours.outside_trip, built_in, &theirs.outside_trip, EQUAL),
    ]
}
