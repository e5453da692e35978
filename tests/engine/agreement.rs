//! Compares the state of the engine, of Pontoon and of the kernel.
//!
//! Extra objects of Pontoon are left over from lost replies: endpoints and addresses expire, networks and pools are
//! removed by `pontoon gc --yes` (docs/reliability.md). Both happen here, and then nothing may be left.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::doctor::{findings, shell};
use testkit::{
    SOCKET, STATE, Signal, ledger,
    testbed::{Testbed, binary, fetches, text},
    wait_until,
};

/// Deadline for an engine's work after a crash.
pub const LONG: Duration = Duration::from_secs(60);

/// Time in which the states may converge without expiry.
const SHORT: Duration = Duration::from_secs(3);

/// The checks of `check` and `doctor` that a crash can affect.
const CHECKS: [&str; 10] = [
    "daemon",
    "state",
    "quarantined",
    "drift",
    "missing_bridges",
    "dead_endpoints",
    "leaked_endpoints",
    "leaked_addresses",
    "ports",
    "engine",
];

/// A state: each line describes one object in the same form, whatever its source.
type View = BTreeSet<String>;

/// Waits until all states are equal, and until `from` reaches every running container, also at its published ports.
#[track_caller]
pub fn reached(testbed: &Testbed, from: &str) {
    if still_differ(testbed, SHORT).is_some() {
        expire_leftovers(testbed);
        let left = still_differ(testbed, LONG);
        assert!(left.is_none(), "engine, Pontoon and kernel differ:\n{}", left.unwrap_or_default());
    }
    assert_healthy(testbed);
    plan_is_empty(testbed);
    let engine = Engine::ask(testbed);
    all_answer(testbed, from, &engine);
}

/// The differences that are left after this time; none if they disappeared before.
fn still_differ(testbed: &Testbed, time: Duration) -> Option<String> {
    let began = Instant::now();
    loop {
        let found = differences(testbed);
        if found.is_none() || began.elapsed() > time {
            return found;
        }
    }
}

/// Lets leftovers in Pontoon's ledger expire, and removes objects that the engine does not know.
fn expire_leftovers(testbed: &Testbed) {
    testbed.kill_pontoon(Signal::Kill);
    ledger::age(&testbed.path(&format!("{STATE}/ledger")));
    testbed.start_pontoon(&binary(), &[]);
    shell(testbed, "pontoon gc --docker=/lab/docker.sock --yes --wait 1").ok();
}

/// Names of the running containers according to the engine.
pub fn running(testbed: &Testbed) -> BTreeSet<String> {
    let names = testbed.docker(&["ps", "--format", "{{.Names}}"]);
    if names.success() { names.ok().lines().map(str::to_owned).collect() } else { BTreeSet::new() }
}

/// An attachment of a running container.
struct Attachment {
    network: String,
    endpoint: String,
    address: String,
}

/// The engine's state.
struct Engine {
    /// Subnets and their gateways by network id.
    networks: BTreeMap<String, Vec<[String; 2]>>,
    attachments: Vec<Attachment>,
    /// Published ports by container.
    ports: BTreeMap<String, Vec<String>>,
}

impl Engine {
    #[track_caller]
    fn ask(testbed: &Testbed) -> Self {
        let ids = |args: &[&str]| -> Vec<String> { testbed.docker(args).ok().lines().map(str::to_owned).collect() };
        let inspect = |what: &[&str], ids: Vec<String>| -> Vec<Value> {
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            if ids.is_empty() {
                return Vec::new();
            }
            testbed.docker(&[what, &ids].concat()).json().as_array().cloned().unwrap_or_default()
        };
        let mut engine = Self { networks: BTreeMap::new(), attachments: Vec::new(), ports: BTreeMap::new() };
        let networks = ["network", "ls", "-q", "--no-trunc", "--filter", "driver=pontoon"];
        for network in inspect(&["network", "inspect"], ids(&networks)) {
            let subnets = network["IPAM"]["Config"].as_array().into_iter().flatten();
            let subnets =
                subnets.map(|config| ["Subnet", "Gateway"].map(|key| text(&config[key]).to_owned())).collect();
            engine.networks.insert(text(&network["Id"]).to_owned(), subnets);
        }
        for container in inspect(&["inspect"], ids(&["ps", "-q", "--no-trunc"])) {
            let name = text(&container["Name"]).trim_start_matches('/').to_owned();
            let before = engine.attachments.len();
            let networks = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten().map(|(_, n)| n);
            // A failed start ("task already exists") releases the networks (`Cleanup`, daemon/start.go); 20.10
            // sometimes lists such a container as running, with neither network nor endpoint.
            let is_named =
                |network: &&Value| ["NetworkID", "EndpointID"].iter().any(|id| !text(&network[id]).is_empty());
            for network in networks.filter(is_named) {
                engine.attachments.push(Attachment {
                    network: text(&network["NetworkID"]).to_owned(),
                    endpoint: text(&network["EndpointID"]).to_owned(),
                    address: format!("{}/{}", text(&network["IPAddress"]), network["IPPrefixLen"]),
                });
            }
            // A container that was removed from all its networks publishes nothing.
            if engine.attachments.len() > before {
                let bindings = container["HostConfig"]["PortBindings"].as_object().into_iter().flatten();
                let ports = bindings.flat_map(|(_, at)| at.as_array().cloned().unwrap_or_default());
                engine.ports.insert(name, ports.map(|at| text(&at["HostPort"]).to_owned()).collect());
            }
        }
        engine
    }

    fn view(&self) -> View {
        let networks = self.networks.iter().flat_map(|(id, subnets)| {
            let subnet = subnets.iter().map(|[subnet, _]| subnet.as_str()).collect::<Vec<_>>().join(", ");
            let pools = subnets
                .iter()
                .flat_map(|[subnet, gateway]| [format!("pool {subnet}"), format!("address {gateway} of {subnet}")]);
            pools.chain([format!("network {id} with {subnet}")]).collect::<Vec<_>>()
        });
        let attachments = self.attachments.iter().flat_map(|at| {
            let address = at.address.split('/').next().unwrap_or_default();
            let subnets = self.networks.get(&at.network).into_iter().flatten();
            let held = subnets.map(move |[subnet, _]| format!("address {address} of {subnet}"));
            held.chain([format!("endpoint {} of {} at {}", at.endpoint, at.network, at.address)]).collect::<Vec<_>>()
        });
        networks.chain(attachments).collect()
    }
}

/// The objects of Pontoon, and the links that belong to them.
fn pontoon(testbed: &Testbed, status: &Value) -> (View, BTreeSet<String>) {
    let (mut view, mut links) = (View::new(), BTreeSet::new());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for network in list(&status["networks"]) {
        let id = text(&network["id"]);
        let subnets: Vec<_> = list(&network["subnets"]).iter().map(|subnet| text(subnet).to_owned()).collect();
        view.insert(format!("network {id} with {}", subnets.join(", ")));
        links.insert(text(&network["link"]).to_owned());
        for endpoint in list(&network["endpoints"]) {
            let addresses: Vec<_> = list(&endpoint["addresses"]).iter().map(|at| text(at).to_owned()).collect();
            view.insert(format!("endpoint {} of {id} at {}", text(&endpoint["id"]), addresses.join(", ")));
            links.insert(text(&endpoint["attachment"]["veth"]["host"]).to_owned());
        }
    }
    for pool in list(&status["pools"]) {
        view.insert(format!("pool {}", text(&pool["subnet"])));
    }
    let facts = ledger::read(&testbed.path(&format!("{STATE}/ledger")));
    // A stale address is free for the next request.
    let had = facts.addresses.iter().filter(|(_, holder)| ledger::text(holder, "kind") != "stale");
    let of = |pool: &String| facts.pools.get(pool).map_or("no pool", |pool| ledger::text(pool, "subnet"));
    view.extend(had.map(|((pool, address), _)| format!("address {address} of {}", of(pool))));
    (view, links)
}

/// The differences between engine, Pontoon and kernel, as text.
fn differences(testbed: &Testbed) -> Option<String> {
    let status = testbed.exec(&["curl", "-s", "--unix-socket", SOCKET, "http://pontoon/status"]).json();
    let engine = Engine::ask(testbed).view();
    let (pontoon, wanted) = pontoon(testbed, &status);
    let links = testbed.exec(&["ip", "-json", "link"]).json();
    let names = links.as_array().into_iter().flatten().map(|link| text(&link["ifname"]).to_owned());
    let links: BTreeSet<String> = names.filter(|name| name.starts_with("pnt")).collect();
    let mut words = Vec::new();
    let mut compare = |who: [&str; 2], a: &BTreeSet<String>, b: &BTreeSet<String>| {
        words.extend(a.difference(b).map(|line| format!("{} alone: {line}", who[0])));
        words.extend(b.difference(a).map(|line| format!("{} alone: {line}", who[1])));
    };
    compare(["engine", "Pontoon"], &engine, &pontoon);
    compare(["kernel", "Pontoon"], &links, &wanted);
    (!words.is_empty()).then(|| words.join("\n"))
}

/// Neither the daemon nor its ledger reports a problem.
#[track_caller]
fn assert_healthy(testbed: &Testbed) {
    for command in ["check", "doctor --docker=/lab/docker.sock"] {
        let ill = || {
            let (_, found) = findings(testbed, command);
            let concerns = |check: &str| CHECKS.contains(&check) || check == "engine_leaks";
            let ill = |f: &Value| concerns(text(&f["check"])) && !matches!(text(&f["level"]), "ok" | "note");
            found.into_iter().filter(ill).collect::<Vec<_>>()
        };
        let began = Instant::now();
        let mut left = ill();
        while !left.is_empty() && began.elapsed() < LONG {
            left = ill();
        }
        assert!(left.is_empty(), "{command}: {left:#?}");
    }
}

#[track_caller]
fn plan_is_empty(testbed: &Testbed) {
    let nothing = || shell(testbed, "pontoon plan").ok().starts_with("# nothing to do");
    wait_until(LONG, "a plan without steps", nothing);
}

/// Every running container answers at each of its addresses, and its server at its published ports.
#[track_caller]
fn all_answer(testbed: &Testbed, from: &str, engine: &Engine) {
    let addresses = engine.attachments.iter().filter_map(|at| at.address.split('/').next());
    let addresses: Vec<_> = addresses.filter(|address| address.parse::<IpAddr>().is_ok()).collect();
    let distinct: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "an address is used twice: {addresses:?}");
    // Containers on the client's own network are pinged from the host, which is their gateway.
    let script = format!("for at in {}; do ping -c1 -W1 $at >/dev/null || echo $at; done", addresses.join(" "));
    wait_until(LONG, "the host to reach all containers", || shell(testbed, &script).ok().is_empty());
    let near = |at: &&str| at.starts_with("10.150.") || at.starts_with("10.151.");
    let near: Vec<_> = addresses.iter().copied().filter(near).collect();
    let script = format!("for at in {}; do ping -c1 -W1 $at >/dev/null || echo $at; done", near.join(" "));
    let what = format!("{from} to reach all containers");
    wait_until(LONG, &what, || testbed.exec_in(from, &["sh", "-c", &script]).ok().is_empty());
    for (container, port) in engine.ports.iter().flat_map(|(name, ports)| ports.iter().map(move |port| (name, port))) {
        let what = format!("{container} at the published port {port}");
        wait_until(LONG, &what, || fetches(testbed, &format!("127.0.0.1:{port}")));
    }
}
