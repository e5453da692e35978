//! The testbed: a node with a driver under test.

use std::{collections::BTreeSet, ops::Deref, path::PathBuf, thread, time::Duration};

use serde_json::Value;

use crate::{Node, Options, Output, wait_until};

/// Deadline for changes in the background.
pub const SOON: Duration = Duration::from_secs(40);

/// A network driver, and the node where it is tested.
#[derive(Debug)]
pub struct Testbed<'a> {
    /// The node of the engine.
    pub node: &'a Node,
    /// The name for `docker network create -d`.
    pub driver: &'a str,
    /// The engine's major version.
    pub engine: u32,
    /// The previous traces in the node.
    before: BTreeSet<String>,
}

/// Runs a scenario on the built-in driver, then on Pontoon as a program.
pub fn on_both(scenario: fn(&Testbed)) {
    on_both_with(Options::new(), scenario);
}

/// [`on_both`] on a node with these options.
pub fn on_both_with(options: Options, scenario: fn(&Testbed)) {
    let node = options.up();
    try_on(&node, "bridge", scenario);
    node.start_pontoon(&binary(), &[]);
    try_on(&node, "pontoon", scenario);
}

/// Runs a scenario on Pontoon as a program.
pub fn on_pontoon(scenario: fn(&Testbed)) {
    on_pontoon_with(Options::new(), scenario);
}

/// [`on_pontoon`] on a node with these options.
pub fn on_pontoon_with(options: Options, scenario: fn(&Testbed)) {
    let node = options.up();
    node.start_pontoon(&binary(), &[]);
    try_on(&node, "pontoon", scenario);
}

/// Runs a scenario, removes its objects, and verifies that the node is in its previous state.
pub fn try_on(node: &Node, driver: &str, scenario: fn(&Testbed)) {
    let testbed = Testbed::new(node, driver);
    scenario(&testbed);
    testbed.sweep();
}

/// The static binary, which runs with any C library of an engine's root.
pub fn binary() -> PathBuf {
    built("pontoon", "make build")
}

/// The managed plugin's directory.
pub fn plugin() -> PathBuf {
    built("plugin", "make plugin")
}

/// A file in `target/`, built by the command `remedy`.
pub fn built(name: &str, remedy: &str) -> PathBuf {
    let path = crate::root().join("target").join(name);
    assert!(path.exists(), "{} is missing: run {remedy}", path.display());
    path
}

impl<'a> Testbed<'a> {
    /// Records the present traces in the node.
    pub fn new(node: &'a Node, driver: &'a str) -> Self {
        let engine = node.engine_version().0;
        Self { node, driver, engine, before: traces(node) }
    }

    /// Whether the driver is Pontoon instead of the built-in one.
    pub fn is_pontoon(&self) -> bool {
        self.driver != "bridge"
    }

    /// Creates a network of this driver; `args` precede the name.
    #[track_caller]
    pub fn network(&self, name: &str, args: &[&str]) {
        self.try_network(name, args).ok();
    }

    /// [`Testbed::network`], but may fail.
    pub fn try_network(&self, name: &str, args: &[&str]) -> Output {
        self.create_network(self.driver, name, args)
    }

    /// Creates a network of any driver.
    pub fn create_network(&self, driver: &str, name: &str, args: &[&str]) -> Output {
        let mut create = vec!["network", "create", "-d", driver];
        create.extend(args);
        create.push(name);
        self.docker(&create)
    }

    /// Whether the node gets an answer to a ping.
    pub fn host_pings(&self, to: &str) -> bool {
        self.exec(&["ping", "-c1", "-W1", to]).success()
    }

    /// Pings by name over one family (`-4` or `-6`) until there is an answer.
    #[track_caller]
    pub fn names(&self, from: &str, family: &str, to: &str) {
        let what = format!("{from} to reach {to} with {family} on {}", self.driver);
        wait_until(SOON, &what, || self.exec_in(from, &["ping", family, "-c1", "-W1", to]).success());
    }

    /// Starts a server for `/etc` on a TCP port of a container.
    #[track_caller]
    pub fn serve(&self, container: &str, port: u16) {
        self.exec_in(container, &["httpd", "-p", &port.to_string(), "-h", "/etc"]).ok();
    }

    /// Whether a container gets a response from a server; `at` is an address, in brackets if necessary, and a port.
    pub fn fetches(&self, from: &str, at: &str) -> bool {
        self.exec_in(from, &["wget", "-q", "-T", "1", "-O", "-", &format!("http://{at}/hosts")]).success()
    }

    /// Waits until a container gets a response from a server.
    #[track_caller]
    pub fn gets(&self, from: &str, at: &str) {
        let what = format!("{from} to get something from {at} with driver {}", self.driver);
        wait_until(SOON, &what, || self.fetches(from, at));
    }

    /// The same as [`Testbed::fetches`] from the node itself.
    pub fn host_fetches(&self, at: &str) -> bool {
        fetches(self, at)
    }

    /// Waits until the node gets a response from a server.
    #[track_caller]
    pub fn host_gets(&self, at: &str) {
        wait_until(SOON, &format!("the node to reach {at} with driver {}", self.driver), || self.host_fetches(at));
    }

    /// Asserts that neither a ping nor a connection to port 8080 reaches any of these addresses; all are tried in
    /// parallel.
    #[track_caller]
    pub fn shut_out(&self, from: &str, addresses: &[String]) {
        let mut script = String::new();
        for address in addresses {
            let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            for (means, command) in [
                ("ping", format!("ping -c1 -W1 {address}")),
                ("connection", format!("wget -q -T 1 -O - http://{host}:8080/hosts")),
            ] {
                script += &format!("( {command} >/dev/null 2>&1 && echo {means} to {address} ) & ");
            }
        }
        let through = self.exec_in(from, &["sh", "-c", &format!("{script} wait")]).ok();
        assert_eq!(through, "", "{from} reaches an address, driver {}", self.driver);
    }

    /// Asserts that a name does not resolve in a container.
    #[track_caller]
    pub fn nameless(&self, from: &str, name: &str) {
        // A known name is resolved at once, an unknown one only after the timeout of the host's resolver.
        self.exec_in(from, &["timeout", "2", "ping", "-c1", "-W1", name]).err();
    }

    /// The content of a container's file, without the last line's end.
    #[track_caller]
    pub fn cat(&self, container: &str, file: &str) -> String {
        self.exec_in(container, &["cat", file]).ok()
    }

    /// The next hop of a container's default route.
    pub fn way_out(&self, container: &str, family: &str) -> Option<String> {
        let routes = self.exec_in(container, &["ip", family, "route", "show", "default"]).ok();
        let words: Vec<_> = routes.lines().next()?.split_whitespace().collect();
        words.iter().position(|word| *word == "via").map(|at| words[at + 1].to_owned())
    }

    /// The links in a container, without the loopback.
    #[track_caller]
    pub fn links_in(&self, container: &str) -> Vec<String> {
        // Links are directories; the bonding driver has a file there.
        let links = self.exec_in(container, &["sh", "-c", "cd /sys/class/net && ls -d */"]).ok();
        let skip = ["lo", "tunl0", "sit0", "ip6tnl0", "gre0", "erspan0", "gretap0", "ip_vti0", "ip6_vti0", "ip6gre0"];
        let names = links.split_whitespace().map(|link| link.trim_end_matches('/'));
        names.filter(|link| !skip.contains(link)).map(str::to_owned).collect()
    }

    /// The containers shown by `docker network inspect`, by name.
    pub fn members(&self, network: &str) -> BTreeSet<String> {
        let network = self.network_info(network);
        let members = network["Containers"].as_object().cloned().unwrap_or_default();
        members.values().filter_map(|member| member["Name"].as_str().map(str::to_owned)).collect()
    }

    /// The engine's data about a network.
    #[track_caller]
    pub fn network_info(&self, network: &str) -> Value {
        self.docker(&["network", "inspect", network]).json()[0].take()
    }

    /// Removes all containers and networks, and waits until no trace is left.
    #[track_caller]
    pub fn sweep(&self) {
        let containers = self.docker(&["ps", "-aq"]).ok();
        let containers: Vec<_> = containers.lines().collect();
        if !containers.is_empty() {
            self.docker(&[&["rm", "-f"][..], &containers].concat()).ok();
        }
        let networks = self.docker(&["network", "ls", "-q", "--filter", "type=custom"]).ok();
        let networks: Vec<_> = networks.lines().collect();
        if !networks.is_empty() {
            self.docker(&[&["network", "rm"][..], &networks].concat()).ok();
        }
        self.expect_traces(&self.before);
    }

    /// Removes these containers and networks.
    #[track_caller]
    pub fn sweep_names(&self, containers: &[&str], networks: &[&str]) {
        self.docker(&[&["rm", "-f"][..], containers].concat()).ok();
        self.docker(&[&["network", "rm"][..], networks].concat()).ok();
    }

    /// Waits until the node's links and Pontoon's table are in the previous state.
    #[track_caller]
    pub fn expect_traces(&self, before: &BTreeSet<String>) {
        let mut now = BTreeSet::new();
        let done = (0..100).any(|turn| {
            if turn > 0 {
                thread::sleep(Duration::from_millis(50));
            }
            now = traces(self.node);
            now == *before
        });
        let more: Vec<_> = now.difference(before).collect();
        let less: Vec<_> = before.difference(&now).collect();
        assert!(done, "{} left {more:?} and removed {less:?}", self.driver);
    }
}

impl Deref for Testbed<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}

impl Drop for Testbed<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- with driver {} on engine {}", self.driver, self.engine);
        }
    }
}

/// Sets that depend on the host and the engine instead of Pontoon's networks: foreign bridges, forwarding that stays
/// enabled, and sets in which rules record packets.
const OF_THE_HOST: [&str; 10] = [
    "engine_bridges",
    "limited_forwarding",
    "forwarding_link4",
    "forwarding_link6",
    "foreign_bridge",
    "broadcasts",
    "privileged_sender4",
    "privileged_sender6",
    "unknown_sender4",
    "unknown_sender6",
];

/// The traces of networks and endpoints in a node: links, and elements of Pontoon's sets.
pub fn traces(node: &Node) -> BTreeSet<String> {
    let links = node.exec(&["ip", "-json", "link"]).json();
    let mut traces: BTreeSet<_> =
        links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str()).map(str::to_owned).collect();
    let table = node.exec(&["nft", "-json", "list", "table", "inet", "pontoon"]);
    if table.success() {
        for object in table.json()["nftables"].as_array().into_iter().flatten() {
            let set = if object["set"].is_object() { &object["set"] } else { &object["map"] };
            if OF_THE_HOST.iter().any(|name| set["name"] == *name) {
                continue;
            }
            let elements = set["elem"].as_array().cloned().unwrap_or_default();
            traces.extend(elements.iter().map(|element| format!("{} {element}", set["name"])));
        }
    }
    traces
}

/// Whether a node gets a response from a server; `at` is an address, in brackets if necessary, and a port.
pub fn fetches(node: &Node, at: &str) -> bool {
    node.exec(&["curl", "-sf", "--globoff", "-o", "/dev/null", "--max-time", "1", &format!("http://{at}/hosts")])
        .success()
}

/// A text in the engine's JSON.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
