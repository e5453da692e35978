//! The topology: a node with an engine, and a host outside on the same segment.

use std::{fs, ops::Deref, time::Duration};

use serde_json::Value;

use testkit::{
    Node, Options, Output, Segment,
    testbed::{Testbed, binary},
    wait_until,
};

/// Deadline for changes that happen in the background.
pub const SOON: Duration = Duration::from_secs(15);
/// The node's own addresses; the outside host has .2 and ::2.
pub const NODE4: &str = "192.168.77.1";
pub const NODE6: &str = "fd77::1";
pub const OUTSIDE4: &str = "192.168.77.2";
pub const OUTSIDE6: &str = "fd77::2";

const TOOL: &str = include_str!("tool.pl");

/// A node at 192.168.77.1 and a bare host at 192.168.77.2.
pub struct Topology {
    pub node: Node,
    pub outside: Node,
    _segment: Segment,
}

impl Topology {
    #[track_caller]
    pub fn up(options: Options) -> Self {
        let segment = Segment::up();
        let outside = options.beside().uplink(&segment, 2).up();
        let node = options.uplink(&segment, 1).up();
        for host in [&node, &outside] {
            fs::write(host.shared().join("tool.pl"), TOOL).expect("the tool can be written");
        }
        Self { node, outside, _segment: segment }
    }

    pub fn scenario<'a>(&'a self, driver: &'a str) -> Scenario<'a> {
        Scenario { testbed: Testbed::new(&self.node, driver), outside: &self.outside }
    }

    /// Runs a scenario with a driver, removes its objects, and verifies that the node is in its previous state.
    #[track_caller]
    pub fn run_scenario(&self, driver: &str, run: fn(&Scenario)) {
        let scenario = self.scenario(driver);
        run(&scenario);
        scenario.sweep();
    }

    pub fn start_pontoon(&self) {
        self.node.start_pontoon(&binary(), &[]);
    }
}

/// On the built-in driver, then on Pontoon.
pub fn on_both(run: fn(&Scenario)) {
    on_both_with(Options::new(), run);
}

pub fn on_both_with(options: Options, run: fn(&Scenario)) {
    let topology = Topology::up(options);
    // While working on the tests: run one of them only.
    let only = std::env::var("PONTOON_ONLY_DRIVER").ok();
    let wanted = |driver| only.as_deref().is_none_or(|only| only == driver);
    if wanted("bridge") {
        topology.run_scenario("bridge", run);
    }
    if wanted("pontoon") {
        topology.start_pontoon();
        topology.run_scenario("pontoon", run);
    }
}

/// On Pontoon.
pub fn on_pontoon(run: fn(&Scenario)) {
    on_pontoon_with(Options::new(), run);
}

pub fn on_pontoon_with(options: Options, run: fn(&Scenario)) {
    let topology = Topology::up(options);
    topology.start_pontoon();
    topology.run_scenario("pontoon", run);
}

/// A driver under test, the node and the outside host.
pub struct Scenario<'a> {
    testbed: Testbed<'a>,
    pub outside: &'a Node,
}

impl<'a> Deref for Scenario<'a> {
    type Target = Testbed<'a>;

    fn deref(&self) -> &Testbed<'a> {
        &self.testbed
    }
}

/// The mounts with which a container can run the tool with the node's perl.
const MOUNTS: [&str; 10] = [
    "-v",
    "/usr/bin/perl:/usr/bin/perl:ro",
    "-v",
    "/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:ro",
    "-v",
    "/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro",
    "-v",
    "/lib64:/lib64:ro",
    "-v",
    "/lab:/lab",
];

impl Scenario<'_> {
    /// Before 27 the built-in driver publishes IPv6 through a proxy only, and does not filter it.
    pub fn has_six(&self) -> bool {
        self.is_pontoon() || self.engine >= 27
    }

    /// Runs a container that serves `specs` (`tcp:80`, `udp:53`); `args` go before the image.
    #[track_caller]
    pub fn serve(&self, name: &str, specs: &[&str], args: &[&str]) {
        self.try_serve(name, specs, args).ok();
        self.listens(name);
    }

    pub fn try_serve(&self, name: &str, specs: &[&str], args: &[&str]) -> Output {
        self.not_ready(name);
        let mut run = vec!["run", "-d", "--name", name];
        run.extend(MOUNTS);
        run.extend(args);
        run.extend(["busybox", "perl", "/lab/tool.pl", "serve", name]);
        run.extend(specs);
        self.docker(&run)
    }

    /// Call this before a server starts again.
    pub fn not_ready(&self, name: &str) {
        let _ = fs::remove_file(self.shared().join(format!("ready-{name}")));
    }

    /// Waits until a server listens.
    #[track_caller]
    pub fn listens(&self, name: &str) {
        let file = self.shared().join(format!("ready-{name}"));
        wait_until(SOON, &format!("{name} to listen"), || file.exists());
    }

    /// Starts a server on the outside host.
    #[track_caller]
    pub fn serve_outside(&self, name: &str, specs: &[&str]) -> testkit::Process {
        let ready = self.outside.shared().join(format!("ready-{name}"));
        let _ = fs::remove_file(&ready);
        let server = self.outside.spawn(&[&["perl", "/lab/tool.pl", "serve", name][..], specs].concat());
        wait_until(SOON, &format!("{name} to listen"), || ready.exists());
        server
    }

    /// Adds routes for these subnets on the outside host via the node.
    #[track_caller]
    pub fn route_from_outside(&self, subnets: &[&str]) {
        for subnet in subnets {
            let via = if subnet.contains(':') { NODE6 } else { NODE4 };
            self.outside.exec(&["ip", "route", "replace", subnet, "via", via]).ok();
        }
    }

    /// A process of the node holds a port until the value is dropped.
    #[track_caller]
    pub fn take(&self, protocol: &str, addr: &str, port: &str) -> testkit::Process {
        let process = self.spawn(&["perl", "/lab/tool.pl", "take", protocol, addr, port]);
        wait_until(SOON, &format!("{addr}:{port}/{protocol} to be taken"), || {
            let log = process.log();
            assert!(!log.contains("busy"), "{addr}:{port}/{protocol}: {log}");
            log.contains("taken")
        });
        process
    }

    /// Whether a port of the node is free.
    pub fn free(&self, protocol: &str, addr: &str, port: &str) -> bool {
        let text = self.exec(&["perl", "/lab/tool.pl", "take", protocol, addr, port, "once"]);
        assert!(text.stdout.contains("taken") != text.stdout.contains("busy"), "{text}");
        text.stdout.contains("taken")
    }

    /// Host addresses and ports of a container's port (`80/tcp`), as an operator sees them.
    #[track_caller]
    pub fn published(&self, container: &str, port: &str) -> Vec<(String, u16)> {
        if self.is_pontoon() {
            let (number, protocol) = port.split_once('/').expect("a port and a protocol");
            let lines = self.ports();
            let here = lines.iter().filter(|line| {
                line["container_name"] == container
                    && line["container_port"].as_u64() == number.parse().ok()
                    && line["at"]["protocol"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(protocol))
            });
            return here
                .map(|line| {
                    let at = &line["at"];
                    let number = at["port"].as_u64().and_then(|number| u16::try_from(number).ok());
                    (at["address"].as_str().unwrap_or_default().to_owned(), number.expect("a port"))
                })
                .collect();
        }
        let text = self.docker(&["port", container, port]).ok();
        let one = |line: &str| {
            let (addr, port) = line.rsplit_once(':').expect("an address and a port");
            (addr.trim_matches(['[', ']']).to_owned(), port.parse().expect("a number"))
        };
        text.lines().map(one).collect()
    }

    /// The output of `pontoon ports --json`, with names.
    #[track_caller]
    pub fn ports(&self) -> Vec<Value> {
        let list = ["/lab/pontoon", "ports", "--json", "--docker", "/run/docker.sock"];
        self.exec(&list).json().as_array().cloned().unwrap_or_default()
    }

    /// The chain for an administrator's iptables rules; an engine with its own tables has none.
    pub fn user_chain(&self) -> &'static str {
        if self.exec(&["iptables", "-S", "DOCKER-USER"]).success() { "DOCKER-USER" } else { "FORWARD" }
    }

    /// The number of repair steps that Pontoon has counted.
    #[track_caller]
    pub fn repairs(&self) -> u64 {
        let curl = ["curl", "-sf", "--unix-socket", "/run/docker/plugins/pontoon.sock", "http://pontoon/metrics"];
        let text = self.exec(&curl).ok();
        let line = text.lines().find_map(|line| line.strip_prefix("pontoon_repairs_total "));
        line.and_then(|count| count.parse().ok()).expect("a count of repairs")
    }

    /// Runs a command that damages the firewall; returns the time from its end until Pontoon's rules were restored.
    #[track_caller]
    pub fn damage_firewall(&self, command: &[&str]) -> Duration {
        // Where the chain exists, the last accept rule has to be the last of the chain.
        let script = r#"
            last() { ! nft list chain $1 filter FORWARD || nft list chain $1 filter FORWARD | tail -n 3 | grep 'oifname "pnt.*pontoon'; }
            "$@" >&2 || exit
            began=$(date +%s%N)
            until last ip && last ip6 && nft list chain inet pontoon forward_filter | grep drop; do
                sleep 0.01
            done >/dev/null 2>&1
            echo $((($(date +%s%N) - began) / 1000000))"#;
        let millis = self.exec(&[&["bash", "-c", script, "harm"][..], command].concat()).ok();
        Duration::from_millis(millis.parse().expect("a number"))
    }

    /// Connects from a container, and stays connected until the value is dropped.
    #[track_caller]
    pub fn hold_in(&self, container: &str, addr: &str, port: u16) -> Held {
        let script = "pid=$(docker inspect -f '{{.State.Pid}}' \"$0\") && exec nsenter -t $pid -n \"$@\"";
        let hold = ["perl", "/lab/tool.pl", "hold", addr, &port.to_string()];
        let process = self.spawn(&[&["bash", "-c", script, container][..], &hold].concat());
        let held = Held { to: format!("{addr} port {port} from {container}"), process };
        held.assert_continues();
        held
    }

    /// Connects from outside, and stays connected until the value is dropped.
    #[track_caller]
    pub fn hold(&self, from: &Node, addr: &str, port: u16) -> Held {
        let process = from.spawn(&["perl", "/lab/tool.pl", "hold", addr, &port.to_string()]);
        let held = Held { to: format!("{addr} port {port}"), process };
        held.assert_continues();
        held
    }
}

/// A TCP connection with continuous traffic in both directions.
pub struct Held {
    to: String,
    process: testkit::Process,
}

impl Held {
    /// Waits for some more round trips.
    #[track_caller]
    pub fn assert_continues(&self) {
        let turns = || {
            let log = self.process.log();
            assert!(
                !log.contains("lost"),
                "the connection to {} is gone: {}",
                self.to,
                &log[log.len().saturating_sub(60)..]
            );
            log.lines().filter(|line| line.starts_with("turn ")).count()
        };
        let before = turns();
        wait_until(SOON, "the connection to continue", || turns() > before + 2);
    }
}
