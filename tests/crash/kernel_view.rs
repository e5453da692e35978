//! The kernel state as read with `ip`, `nft` and `conntrack`, and its comparison with the state that the ledger
//! implies, without using Pontoon's code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::engine::Engine;
use super::expected;
use super::host::Host;
use super::lan;
use super::oracle::Subnet;
use super::parts::{self, Chains};
use testkit::ledger::{self, Facts, text};

/// Longest time that the kernel may differ from the ledger: repairs are due within a second, and links are deleted in
/// the background, which takes long while other tests hold the kernel's lock for links.
pub const SOON: Duration = Duration::from_secs(60);

/// Pontoon's links are in this group, as documented: "pnt" and 1.
pub const GROUP: u32 = 0x706e_7401;

/// Pontoon's objects in the kernel, actual or expected; comparable as text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Objects {
    /// By name, the relevant properties.
    pub links: BTreeMap<String, String>,
    /// `set: element`.
    pub elements: BTreeSet<String>,
    /// The chains that exist because something needs them, or needed them.
    pub chains: Chains,
}

/// Everything else on the host, and the static part of Pontoon's tables.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Surroundings(BTreeSet<String>);

/// The complete view.
pub struct Seen {
    pub objects: Objects,
    pub surroundings: Surroundings,
    /// Families for which only Pontoon enabled forwarding, as nft names them.
    pub closed: Vec<&'static str>,
}

/// Sets in which rules record properties of packets: they are no objects of Pontoon.
const RECORDED: [&str; 7] = [
    "foreign_bridge",
    "privileged_sender4",
    "privileged_sender6",
    "unknown_sender4",
    "unknown_sender6",
    "announced4",
    "announced6",
];

/// The value that Pontoon writes to enable forwarding (docs/firewall.md).
const BY_PONTOON: &str = "706";

/// Reads the kernel of a host.
pub fn read_kernel(host: &Host) -> Seen {
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
        // A VLAN link has the name that its user chose.
        let ours = name.starts_with("pnt") || (kind == "vlan" && text(link, "group") == GROUP.to_string());
        if ours {
            let line = match kind {
                "bridge" => format!("{line} {}", details(host, name, link)),
                "vxlan" => format!("{line} {} {}", port(link), tunnel(host, name, link)),
                "vlan" => format!("{line} {} id {}", port(link), link["linkinfo"]["info_data"]["id"]),
                _ if lan::is_host_link(name) => {
                    seen.objects.elements.extend(lan::stations(host, name));
                    format!("{line} {} {}", port(link), lan::host_link(host, name))
                }
                "veth" => format!("{line} {}{}", port(link), lan::port_vlans(host, name)),
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
            seen.objects.elements.extend(fastpath(kind, value, &links, &mut rules_of));
            continue;
        }
        if ours && matches!(kind.as_str(), "set" | "map") && !RECORDED.contains(&text(value, "name")) {
            for element in value["elem"].as_array().or(value["elements"].as_array()).into_iter().flatten() {
                let mut element = format!("{}: {}", text(value, "name"), canonical(element));
                if text(value, "name") == "gateways" {
                    // The ledger does not contain the address: it is that of one of the bridges.
                    let bridge = links.iter().find(|link| element.ends_with(text(link, "address")));
                    element = element.replace(
                        bridge.map_or("", |of| text(of, "address")),
                        bridge.map_or("", |of| text(of, "ifname")),
                    );
                }
                seen.objects.elements.insert(element);
            }
        }
        if ours && parts::add(&mut seen.objects.chains, kind, value) {
            continue;
        }
        if kind != "metainfo" {
            seen.surroundings.0.insert(format!("{kind} {}", without_moving(value, ours)));
        }
    }
    seen
}

/// The relevant properties of an object in the table whose chains depend on links. The table itself persists.
fn fastpath(kind: &str, value: &Value, links: &[Value], rules_of: &mut BTreeMap<String, usize>) -> Vec<String> {
    let (name, chain) = (text(value, "name"), text(value, "chain"));
    match kind {
        "chain" | "map" | "set" => {
            let elements = value["elem"].as_array().into_iter().flatten().filter(|_| kind == "map");
            let mut seen: Vec<_> = elements.map(|element| format!("{name}: {}", canonical(element))).collect();
            // nft 1.0.6 does not print the link of a chain; the rules contain it.
            seen.push(format!("{kind} {name}"));
            seen
        }
        "rule" => {
            let nth = rules_of.entry(chain.to_owned()).or_default();
            *nth += 1;
            let mut words: Vec<String> = text(value, "comment").split(' ').map(str::to_owned).collect();
            // The rule was written for the existing link, and the gateway is one of the bridges.
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

/// Further properties of a bridge: its settings and its alias.
fn details(host: &Host, bridge: &str, link: &Value) -> String {
    let settings = host.netns.enter(|| {
        ["ipv4/conf/{}/route_localnet", "ipv6/conf/{}/disable_ipv6"].map(|setting| {
            let path = format!("/proc/sys/net/{}", setting.replace("{}", bridge));
            std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
        })
    });
    format!("localnet {} ipv6 off {} {:?}", settings[0], settings[1], text(link, "ifalias"))
}

/// Further properties of a bridge port.
fn port(link: &Value) -> String {
    let slave = &link["linkinfo"]["info_slave_data"];
    format!("isolated {} hairpin {}", slave["isolated"] == true, slave["hairpin"] == true)
}

/// Further properties of a tunnel: its VNI, its port, its local address, and the peers that it floods to.
fn tunnel(host: &Host, name: &str, link: &Value) -> String {
    let data = &link["linkinfo"]["info_data"];
    // It may have been removed since it was listed.
    let entries = host.netns.output(&["bridge", "-j", "fdb", "show", "dev", name]).stdout;
    let entries: Value = serde_json::from_slice(&entries).unwrap_or_default();
    let floods = entries.as_array().into_iter().flatten().filter(|entry| text(entry, "mac") == "00:00:00:00:00:00");
    let mut floods: Vec<&str> = floods.map(|entry| text(entry, "dst")).collect();
    floods.sort_unstable();
    format!("vni {} port {} local {} floods {floods:?}", data["id"], data["port"], text(data, "local"))
}

/// A value without handles and counters, and for Pontoon's tables without elements.
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

/// Waits until the kernel holds exactly what the ledger implies, and the surroundings are unchanged. Returns how long
/// that took.
#[track_caller]
pub fn assert_matches_ledger(host: &Host, inside: &dyn Fn(&str) -> Option<bool>, before: &Surroundings) -> Duration {
    let began = Instant::now();
    loop {
        let facts = ledger::read(&host.paths.ledger());
        let seen = read_kernel(host);
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
    // The other end of an endpoint that no engine knows may be on the host or in a sandbox.
    let peers: BTreeSet<&str> = facts
        .endpoints
        .iter()
        .filter(|((_, id), _)| inside(id).is_none())
        .map(|(_, endpoint)| ledger::sandbox_link(endpoint))
        .collect();
    for (name, line) in &wanted.links {
        match seen.objects.links.get(name) {
            // A port may keep hairpin mode after the last published port.
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
    complaints.extend(parts::complaints(&seen.objects.chains, &wanted.elements));
    for line in before.0.symmetric_difference(&seen.surroundings.0) {
        let was = before.0.contains(line);
        complaints.push(format!("{}: {line}", if was { "foreign, removed" } else { "foreign, added" }));
    }
    complaints
}

/// Compares the ledger with the engines' view: nothing is missing, and anything extra is what the engines lost track
/// of.
#[track_caller]
pub fn assert_matches_engines(facts: &Facts, engines: &[&Engine<'_>]) {
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
            if text(held, "phase") != "joined" || ports != attached.ports.len() * network.families {
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
        // A pool that was never used is released for the next request.
        let gives_way = pool["used"] == false;
        if !pools.contains(id) && !gives_way && !engines.iter().any(|e| e.lost.pools.contains(id)) {
            complain(format!("pool {id} is left"));
        }
    }
    for (key, holder) in &facts.addresses {
        // A stale address is free for the next request.
        let gives_way = text(holder, "kind") == "stale";
        if !addresses.contains(key) && pools.contains(&key.0) && !gives_way && !doubt {
            complain(format!("address {key:?} is left: {holder}"));
        }
    }
    assert!(complaints.is_empty(), "the ledger differs from the engine's view:\n{}", complaints.join("\n"));
}

/// An address without its prefix length.
pub fn plain(address: &str) -> String {
    address.split('/').next().unwrap().to_owned()
}
