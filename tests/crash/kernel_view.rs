//! What the kernel holds, seen with `ip`, `nft` and `conntrack`, and what it should hold, derived
//! from the ledger's text by the tests' own understanding. Nothing of Pontoon's code is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::engine::Engine;
use super::expected;
use super::host::Host;
use super::ledger::{self, Facts, text};
use super::oracle::Subnet;

/// How long the kernel may differ from the ledger: repairs are due within a second and links are
/// deleted in the background, which takes long while other tests keep the kernel's lock for links.
pub const SOON: Duration = Duration::from_secs(60);

/// Pontoon's objects in the kernel, or as they should be; comparable as text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Objects {
    /// Name, and what matters of it.
    pub links: BTreeMap<String, String>,
    /// `set: element`.
    pub elements: BTreeSet<String>,
}

/// Everything else on the host, and the fixed part of Pontoon's tables.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Surroundings(BTreeSet<String>);

/// Both halves of what is seen.
pub struct Seen {
    pub objects: Objects,
    pub surroundings: Surroundings,
    /// Families that are forwarded because Pontoon alone wants it, as nft names them.
    pub closed: Vec<&'static str>,
}

/// Sets in which rules note what packets are like: they are no objects of Pontoon's.
const RECORDED: [&str; 7] = [
    "foreign_bridge",
    "privileged_sender4",
    "privileged_sender6",
    "unknown_sender4",
    "unknown_sender6",
    "announced4",
    "announced6",
];

/// What Pontoon writes to turn forwarding on (docs/firewall.md).
const BY_PONTOON: &str = "706";

/// Reads the kernel of a host.
pub fn look(host: &Host) -> Seen {
    let closed = host.netns.enter(|| {
        let families = [("ipv4", "ipv4/ip_forward"), ("ipv6", "ipv6/conf/all/forwarding")];
        let value = |setting: &str| std::fs::read_to_string(format!("/proc/sys/net/{setting}")).unwrap_or_default();
        families.into_iter().filter(|(_, of)| value(of).trim() == BY_PONTOON).map(|(family, _)| family).collect()
    });
    let mut seen = Seen { objects: Objects::default(), surroundings: Surroundings::default(), closed };
    let links: Vec<Value> = serde_json::from_str(&host.netns.run(&["ip", "-j", "-d", "addr"])).unwrap();
    for link in &links {
        let name = text(link, "ifname");
        let flags = link["flags"].to_string();
        let mut addresses = Vec::new();
        for address in link["addr_info"].as_array().into_iter().flatten().filter(|a| text(a, "scope") != "link") {
            addresses.push(format!("{}/{}", text(address, "local"), address["prefixlen"]));
        }
        addresses.sort();
        let up = if flags.contains("\"UP\"") { "up" } else { "down" };
        let kind = text(&link["linkinfo"], "info_kind");
        let line = format!(
            "{kind} {up} group {} mtu {} master {:?} {addresses:?}",
            text(link, "group"),
            link["mtu"],
            text(link, "master")
        );
        if name.starts_with("pnt") {
            let line = match kind {
                "bridge" => format!("{line} {}", details(host, name, link)),
                "vxlan" => format!("{line} {} {}", port(link), tunnel(host, name, link)),
                _ => format!("{line} {}", port(link)),
            };
            seen.objects.links.insert(name.to_owned(), line);
        } else {
            seen.surroundings.0.insert(format!("link {name} {} {line}", text(link, "address")));
        }
    }
    let mut rules_of = BTreeMap::new();
    let rules: Value = serde_json::from_str(&host.netns.run(&["nft", "-j", "list", "ruleset"])).unwrap();
    for item in rules["nftables"].as_array().unwrap() {
        let (kind, value) = item.as_object().unwrap().iter().next().unwrap();
        let ours = text(value, if kind == "table" { "name" } else { "table" }) == "pontoon";
        if ours && text(value, "family") == "netdev" {
            seen.objects.elements.extend(passages(kind, value, &links, &mut rules_of));
            continue;
        }
        if ours && matches!(kind.as_str(), "set" | "map") && !RECORDED.contains(&text(value, "name")) {
            for element in value["elem"].as_array().or(value["elements"].as_array()).into_iter().flatten() {
                let mut element = format!("{}: {}", text(value, "name"), canonical(element));
                if text(value, "name") == "gateways" {
                    // Whose address it is does not stand in the ledger: that of one of the bridges.
                    let bridge = links.iter().find(|link| element.ends_with(text(link, "address")));
                    element = element.replace(
                        bridge.map_or("", |of| text(of, "address")),
                        bridge.map_or("", |of| text(of, "ifname")),
                    );
                }
                seen.objects.elements.insert(element);
            }
        }
        if kind != "metainfo" {
            seen.surroundings.0.insert(format!("{kind} {}", without_moving(value, ours)));
        }
    }
    seen
}

/// What matters of an object of the table whose chains come and go with links. The table itself stays
/// once it is there.
fn passages(kind: &str, value: &Value, links: &[Value], rules_of: &mut BTreeMap<String, usize>) -> Vec<String> {
    let (name, chain) = (text(value, "name"), text(value, "chain"));
    match kind {
        "chain" | "map" | "set" => {
            let elements = value["elem"].as_array().into_iter().flatten().filter(|_| kind == "map");
            let mut seen: Vec<_> = elements.map(|element| format!("{name}: {}", canonical(element))).collect();
            // nft 1.0.6 does not say of which link a chain is; the rules do.
            seen.push(format!("{kind} {name}"));
            seen
        }
        "rule" => {
            let nth = rules_of.entry(chain.to_owned()).or_default();
            *nth += 1;
            let mut words: Vec<String> = text(value, "comment").split(' ').map(str::to_owned).collect();
            // It was written for the link that is there now, and the gateway is one of the bridges.
            let of = if words[0] == "network" { words[1].clone() } else { chain.to_owned() };
            let link = links.iter().find(|link| text(link, "ifname") == of);
            if link.is_some_and(|link| link["ifindex"].as_u64() == words[2].parse().ok()) {
                words[2] = "now".to_owned();
            }
            let gateway = links.iter().find(|link| words[0] == "network" && text(link, "address") == words[3]);
            words[3] = gateway.map_or(words[3].clone(), |bridge| text(bridge, "ifname").to_owned());
            vec![format!("rule {chain} {nth} {}", words.join(" "))]
        }
        _ => Vec::new(),
    }
}

/// What else belongs to a bridge: its settings and its alias.
fn details(host: &Host, bridge: &str, link: &Value) -> String {
    let settings = host.netns.enter(|| {
        ["ipv4/conf/{}/route_localnet", "ipv6/conf/{}/disable_ipv6"].map(|setting| {
            let path = format!("/proc/sys/net/{}", setting.replace("{}", bridge));
            std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
        })
    });
    format!("localnet {} ipv6 off {} {:?}", settings[0], settings[1], text(link, "ifalias"))
}

/// What a port of a bridge has besides.
fn port(link: &Value) -> String {
    let slave = &link["linkinfo"]["info_slave_data"];
    format!("isolated {} hairpin {}", slave["isolated"] == true, slave["hairpin"] == true)
}

/// What a tunnel has besides: its number, where it ends, and whom it floods to.
fn tunnel(host: &Host, name: &str, link: &Value) -> String {
    let data = &link["linkinfo"]["info_data"];
    // It may have gone since it was listed.
    let entries = host.netns.output(&["bridge", "-j", "fdb", "show", "dev", name]).stdout;
    let entries: Value = serde_json::from_slice(&entries).unwrap_or_default();
    let floods = entries.as_array().into_iter().flatten().filter(|entry| text(entry, "mac") == "00:00:00:00:00:00");
    let mut floods: Vec<&str> = floods.map(|entry| text(entry, "dst")).collect();
    floods.sort_unstable();
    format!("vni {} port {} local {} floods {floods:?}", data["id"], data["port"], text(data, "local"))
}

/// A value without handles and counters, and, of Pontoon's, without elements.
fn without_moving(value: &Value, ours: bool) -> Value {
    match value {
        Value::Object(map) => {
            let moving = |key: &str| match key {
                "handle" | "counter" => true,
                "elem" | "elements" => ours,
                _ => false,
            };
            let kept = map.iter().filter(|(key, _)| !moving(key));
            kept.map(|(key, value)| (key.clone(), without_moving(value, ours)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Value::Array(list) => list.iter().map(|value| without_moving(value, ours)).collect(),
        other => other.clone(),
    }
}

/// An element as text: `10.1.0.0/24`, `tcp . 8080 : 10.1.0.2 . 80`.
fn canonical(element: &Value) -> String {
    match element {
        Value::Array(pair) if pair.len() == 2 => format!("{} : {}", canonical(&pair[0]), canonical(&pair[1])),
        Value::Object(map) if map.contains_key("prefix") => {
            format!("{}/{}", text(&map["prefix"], "addr"), map["prefix"]["len"])
        }
        Value::Object(map) if map.contains_key("concat") => {
            let parts: Vec<String> = map["concat"].as_array().unwrap().iter().map(canonical).collect();
            parts.join(" . ")
        }
        Value::Object(map) if map.contains_key("elem") => canonical(&map["elem"]["val"]),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Waits until the kernel holds what the ledger says and nothing else of Pontoon's, and the
/// surroundings are as they were. Returns how long that took.
#[track_caller]
pub fn agrees(host: &Host, inside: &dyn Fn(&str) -> Option<bool>, before: &Surroundings) -> Duration {
    let began = Instant::now();
    loop {
        let facts = ledger::read(&host.paths.ledger());
        let seen = look(host);
        let complaints = complaints(&facts, &seen, inside, before);
        if complaints.is_empty() {
            return began.elapsed();
        }
        if began.elapsed() > SOON {
            panic!("ledger and kernel differ:\n{}\n{}", complaints.join("\n"), host.log());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn complaints(facts: &Facts, seen: &Seen, inside: &dyn Fn(&str) -> Option<bool>, before: &Surroundings) -> Vec<String> {
    let mut wanted = expected::expect(facts, inside);
    wanted.elements.extend(seen.closed.iter().map(|family| format!("limited_forwarding: {family}")));
    let mut complaints = Vec::new();
    // Of an endpoint that nobody believes in, the other end may be on the host or not.
    let peers: BTreeSet<&str> = facts
        .endpoints
        .iter()
        .filter(|((_, id), _)| inside(id).is_none())
        .map(|(_, endpoint)| text(ledger::pair(endpoint), "peer"))
        .collect();
    for (name, line) in &wanted.links {
        match seen.objects.links.get(name) {
            // A port that sent frames back once may go on to: nobody publishes there any more.
            Some(held) if held == line || *held == line.replace("hairpin false", "hairpin true") => {}
            Some(held) => complaints.push(format!("link {name} should be {line}, is {held}")),
            None => complaints.push(format!("link {name} is missing")),
        }
    }
    for (name, line) in &seen.objects.links {
        if !wanted.links.contains_key(name) && !peers.contains(name.as_str()) {
            complaints.push(format!("link {name} is left: {line}"));
        }
    }
    if !facts.flows.is_empty() {
        complaints.push(format!("tracked connections of {:?} are still to be removed", facts.flows));
    }
    let engine = |element: &&String| !element.starts_with("engine_bridges: ");
    for element in wanted.elements.difference(&seen.objects.elements) {
        complaints.push(format!("element {element} is missing"));
    }
    for element in seen.objects.elements.difference(&wanted.elements).filter(engine) {
        complaints.push(format!("element {element} is left"));
    }
    for line in before.0.symmetric_difference(&seen.surroundings.0) {
        let was = before.0.contains(line);
        complaints.push(format!("{}: {line}", if was { "not Pontoon's, and gone" } else { "not Pontoon's, and new" }));
    }
    complaints
}

/// Compares the ledger with what engines believe: nothing is missing, and what is more is only
/// what they lost track of.
#[track_caller]
pub fn believed(facts: &Facts, engines: &[&Engine<'_>]) {
    let mut complaints = Vec::new();
    let mut complain = |what: String| complaints.push(what);
    let (mut networks, mut endpoints, mut pools) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut addresses, mut doubt) = (BTreeSet::new(), false);
    for engine in engines {
        doubt |= engine.lost.addresses;
        for (id, network) in &engine.networks {
            networks.insert(id.clone());
            for Subnet { pool, subnet, gateway } in network.subnets() {
                pools.insert(pool.clone());
                let key = (pool, plain(&gateway));
                if text(facts.addresses.get(&key).unwrap_or(&Value::Null), "kind") != "gateway" {
                    complain(format!("the gateway {gateway} of {id} is not its own"));
                }
                addresses.insert(key);
                let family = if subnet.contains(':') { "v6" } else { "v4" };
                match facts.networks.get(id) {
                    Some(held) if text(&held["spec"][family], "pool") == subnet => {}
                    held => complain(format!("network {id} should be there with {subnet}: {held:?}")),
                }
            }
        }
        for (id, attached) in &engine.attached {
            let key = (attached.network.clone(), id.clone());
            endpoints.insert(key.clone());
            let network = &engine.networks[&attached.network];
            let six = network.six.iter().zip(&attached.six).map(|(six, address)| (&six.pool, address));
            for (pool, address) in six.chain([(&network.pool, &attached.address)]) {
                let key = (pool.clone(), plain(address));
                if text(facts.addresses.get(&key).unwrap_or(&Value::Null), "endpoint") != id {
                    complain(format!("{address} is not {id}'s: {:?}", facts.addresses.get(&key)));
                }
                addresses.insert(key);
            }
            let Some(held) = facts.endpoints.get(&key) else {
                complain(format!("endpoint {id} is missing"));
                continue;
            };
            let ports = held["published"].as_array().map_or(0, Vec::len);
            if text(held, "phase") != "joined" || ports != attached.ports.len() * network.ways {
                complain(format!("endpoint {id} should be joined with {:?}: {held}", attached.ports));
            }
        }
    }
    for id in facts.networks.keys() {
        if !networks.contains(id) && !engines.iter().any(|e| e.lost.networks.contains(id)) {
            complain(format!("network {id} is left"));
        }
    }
    for key in facts.endpoints.keys() {
        if !endpoints.contains(key) && !engines.iter().any(|e| e.lost.endpoints.contains(key)) {
            complain(format!("endpoint {key:?} is left"));
        }
    }
    for (id, pool) in &facts.pools {
        // One that was never used gives way to whoever asks next.
        let gives_way = pool["used"] == false;
        if !pools.contains(id) && !gives_way && !engines.iter().any(|e| e.lost.pools.contains(id)) {
            complain(format!("pool {id} is left"));
        }
    }
    for (key, holder) in &facts.addresses {
        // A stale one is free for whoever needs it.
        let gives_way = text(holder, "kind") == "stale";
        if !addresses.contains(key) && pools.contains(&key.0) && !gives_way && !doubt {
            complain(format!("address {key:?} is left: {holder}"));
        }
    }
    assert!(complaints.is_empty(), "the ledger is not what the engine believes:\n{}", complaints.join("\n"));
}

/// An address without its prefix length.
pub fn plain(address: &str) -> String {
    address.split('/').next().unwrap().to_owned()
}
