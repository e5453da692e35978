//! The expected kernel state for the facts of a ledger, derived independently of Pontoon's code.

use std::net::Ipv6Addr;

use serde_json::Value;

use super::kernel_view::{GROUP, Objects, plain};
use super::lan;
use testkit::ledger::{self, Facts, text};

/// The host's address towards other hosts, see `fixture::add_foreign_objects`.
const UNDERLAY: &str = "198.51.100.1";

/// Elements for the objects of `fixture::add_foreign_objects`: an engine bridge, whose containers are neighbours, and
/// the only link with an address on which broadcasts can reach published ports (with br_netfilter, bridges cannot).
const OF_THE_HOST: [&str; 3] = [
    "container_bridges: docker0",
    "broadcasts: wire0 . 198.51.100.255 : 198.51.100.1",
    "broadcasts: wire0 . 255.255.255.255 : 198.51.100.1",
];

/// The expected kernel state for these facts. `inside` tells whether the other end of an endpoint is in a sandbox; all
/// other ends are on the host.
pub fn expect(facts: &Facts, inside: &dyn Fn(&str) -> Option<bool>) -> Objects {
    let mut objects = Objects::default();
    objects.elements.extend(OF_THE_HOST.map(str::to_owned));
    let group = GROUP;
    for network in facts.networks.values() {
        lan::network(network, &[&format!("{UNDERLAY}/24")], &mut objects);
    }
    for ((network, id), endpoint) in &facts.endpoints {
        lan::endpoint(&facts.networks[network], endpoint, inside(id) == Some(false), &mut objects);
    }
    let (mut tunnels, mut fastpath) = (Vec::new(), Vec::new());
    let mut element = |set: &str, element: String| {
        objects.elements.insert(format!("{set}: {element}"));
    };
    for network in facts.networks.values().filter(|network| !lan::is_on_parent(network)) {
        let (bridge, spec) = (text(ledger::kind(network), "bridge"), &network["spec"]);
        let internal = spec["internal"] == true;
        let mut addresses = Vec::new();
        for family in ["4", "6"] {
            let Some(subnet) = spec.get(format!("v{family}")) else { continue };
            let pool = text(subnet, "pool");
            element(&format!("bridge_address{family}"), text(subnet, "gateway").to_owned());
            addresses.push(format!("{}/{}", text(subnet, "gateway"), pool.split('/').nth(1).unwrap()));
            match text(&spec["options"], &format!("mode{family}")) {
                _ if internal => {}
                "routed" => element(&format!("routed{family}"), bridge.to_owned()),
                _ => element(&format!("masquerade{family}"), pool.to_owned()),
            }
            if let Some(overlay) = network["kind"].get("overlay") {
                element(
                    &format!("gateway{family}"),
                    format!("{} . {}", text(overlay, "link"), text(subnet, "gateway")),
                );
            }
        }
        if internal {
            element("internal", bridge.to_owned());
        }
        let isolated = spec["options"]["icc"] == false;
        if let Some(overlay) = network["kind"].get("overlay") {
            let link = text(overlay, "link");
            element("tunnel_ports", "4789".to_owned());
            element("tunnel_address4", UNDERLAY.to_owned());
            element("vnis", (overlay["vni"].as_u64().unwrap() << 8).to_string());
            element("gateways", format!("{link} . {bridge}"));
            if !isolated {
                fastpath.extend(network_fastpath(link, bridge));
            }
            let mut peers: Vec<&str> =
                spec["options"]["peers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            peers.sort_unstable();
            peers.iter().for_each(|peer| element("peers4", (*peer).to_owned()));
            let line = format!(
                "vxlan up group {group} mtu {} master {bridge:?} [] isolated {isolated} hairpin false \
                 vni {} port 4789 local {UNDERLAY} floods {peers:?}",
                network["mtu"], overlay["vni"]
            );
            tunnels.push((link.to_owned(), line));
        }
        if has_neighbours(network) {
            fastpath.extend([4, 6].map(|family| format!("map {bridge}_near{family}")));
        }
        addresses.sort();
        element("bridges", bridge.to_owned());
        element("container_bridges", bridge.to_owned());
        element(if isolated { "isolated" } else { "intra_network" }, format!("{bridge} . {bridge}"));
        let alias = format!("pontoon network {}", text(spec, "id"));
        let off = if spec.get("v6").is_some() { 0 } else { 1 };
        let line = format!(
            "bridge up group {group} mtu {} master \"\" {addresses:?} localnet {} ipv6 off {off} {alias:?}",
            network["mtu"],
            u8::from(!internal)
        );
        objects.links.insert(bridge.to_owned(), line);
    }
    for ((network, id), endpoint) in &facts.endpoints {
        let network = &facts.networks[network];
        if lan::is_on_parent(network) {
            continue;
        }
        let pair = ledger::pair(endpoint);
        let (host, peer, bridge) = (text(pair, "host"), text(pair, "peer"), text(ledger::kind(network), "bridge"));
        let mtu = &network["mtu"];
        let options = &network["spec"]["options"];
        let count = endpoint["published"].as_array().map_or(0, Vec::len);
        let flags = format!("isolated {} hairpin {}", options["icc"] == false, count > 0);
        let line = format!("veth up group {group} mtu {mtu} master {bridge:?} [] {flags}");
        objects.links.insert(host.to_owned(), line);
        if inside(id) == Some(false) {
            let line = format!("veth down group default mtu {mtu} master \"\" [] isolated false hairpin false");
            objects.links.insert(peer.to_owned(), line);
        }
        if let Some(overlay) = network["kind"].get("overlay").filter(|_| options["icc"] != false) {
            fastpath.extend(port_fastpath(text(overlay, "link"), endpoint));
        }
        if has_neighbours(network) {
            fastpath.extend(neighbour_fastpath(bridge, endpoint));
        }
        element("spoof_checked", host.to_owned());
        element("source_macs", format!("{host} . {}", text(endpoint, "mac")));
        element("source_address6", format!("{host} . {}", link_local(text(endpoint, "mac"))));
        for family in ["v4", "v6"] {
            let Some(address) = endpoint["spec"].get(family).and_then(Value::as_str) else { continue };
            let (family, address) = (&family[1..], plain(address));
            element(&format!("source_address{family}"), format!("{host} . {address}"));
            element(&format!("sources{family}"), format!("{host} . {} . {address}", text(endpoint, "mac")));
            let routed = text(options, &format!("mode{family}")) == "routed" && network["spec"]["internal"] != true;
            // Answers from an address that is reached without translation can leave through any network of its
            // container.
            let beside = facts.endpoints.values().filter(|other| routed && share_a_sandbox(endpoint, other));
            for other in beside {
                element(
                    &format!("source_address{family}"),
                    format!("{} . {address}", text(ledger::pair(other), "host")),
                );
            }
            for binding in endpoint["bindings"].as_array().into_iter().flatten().filter(|_| routed) {
                let port = format!("{} . {}", text(binding, "protocol"), binding["container_port"]);
                element(&format!("open_port{family}"), format!("{address} . {port}"));
            }
        }
        published(endpoint, &mut element);
    }
    objects.elements.extend(fastpath);
    objects.links.extend(tunnels);
    objects
}

/// The published ports of an endpoint, as elements.
pub fn published(endpoint: &Value, element: &mut dyn FnMut(&str, String)) {
    for published in endpoint["published"].as_array().into_iter().flatten() {
        let (on, to) = (&published["host"], text(published, "container"));
        let family = if to.contains(':') { 6 } else { 4 };
        let key = format!("{} . {}", text(on, "protocol"), on["port"]);
        let value = format!("{to} . {}", published["container_port"]);
        match text(on, "address") {
            "0.0.0.0" if text(on, "protocol") == "udp" => {
                element("broadcast_ports", key.clone());
                element("published4", format!("{key} : {value}"));
            }
            "0.0.0.0" | "::" => element(&format!("published{family}"), format!("{key} : {value}")),
            address => element(&format!("published_at{family}"), format!("{address} . {key} : {value}")),
        }
    }
}

/// Whether two endpoints belong to one container.
fn share_a_sandbox(one: &Value, other: &Value) -> bool {
    let joined = |endpoint: &Value| text(endpoint, "phase") == "joined";
    let sandbox = |endpoint: &Value| endpoint["sandbox"].as_str().unwrap_or_default().to_owned();
    joined(one) && joined(other) && !sandbox(one).is_empty() && sandbox(one) == sandbox(other)
}

/// The IPv6 link-local address of a MAC address: EUI-64 (RFC 4291, appendix A).
pub fn link_local(mac: &str) -> Ipv6Addr {
    let bytes: Vec<u16> = mac.split(':').map(|part| u16::from_str_radix(part, 16).unwrap()).collect();
    let [a, b, c, d, e, f] = bytes.try_into().unwrap();
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// The fast path of an overlay network, which bypasses the bridge.
fn network_fastpath(tunnel: &str, bridge: &str) -> Vec<String> {
    let rules = [(format!("{tunnel}_on"), 2), (tunnel.to_owned(), 4)];
    let rule = |chain: &str, nth: usize| format!("rule {chain} {nth} network {tunnel} now {bridge}");
    let rules = rules.iter().flat_map(|(chain, count)| (1..=*count).map(move |nth| rule(chain, nth)));
    let named = [format!("chain {tunnel}_on"), format!("chain {tunnel}")];
    let sets = [format!("map {tunnel}_here"), format!("set {tunnel}_there")];
    rules.chain(named).chain(sets).collect()
}

/// Whether containers of a network of one host reach each other past the bridge.
fn has_neighbours(network: &Value) -> bool {
    let options = &network["spec"]["options"];
    network["kind"].get("overlay").is_none() && options["shortcut"] == true && options["icc"] != false
}

/// The fast path of a container of a network of one host.
fn neighbour_fastpath(bridge: &str, endpoint: &Value) -> Vec<String> {
    let (host, mac) = (text(ledger::pair(endpoint), "host"), text(endpoint, "mac"));
    let addresses = ["v4", "v6"].iter().filter_map(|family| endpoint["spec"].get(family)?.as_str());
    let addresses: Vec<String> = addresses.map(plain).collect();
    let count = addresses.iter().map(|address| if address.contains(':') { 2 } else { 1 }).sum();
    let rule = |nth: usize| format!("rule {host} {nth} neighbour {bridge} now {mac} {}", addresses.join(" "));
    let place = |address: &String| {
        let family = if address.contains(':') { 6 } else { 4 };
        format!("{bridge}_near{family}: {mac} . {address} : {host}")
    };
    let places = addresses.iter().map(place);
    (1..=count).map(rule).chain([format!("chain {host}")]).chain(places).collect()
}

/// The fast path of a container.
fn port_fastpath(tunnel: &str, endpoint: &Value) -> Vec<String> {
    let (host, mac) = (text(ledger::pair(endpoint), "host"), text(endpoint, "mac"));
    let addresses = ["v4", "v6"].iter().filter_map(|family| endpoint["spec"].get(family)?.as_str());
    let addresses: Vec<String> = addresses.map(plain).collect();
    let count = addresses.iter().map(|address| if address.contains(':') { 2 } else { 1 }).sum();
    let rule = |nth: usize| format!("rule {host} {nth} port {tunnel} now {mac} {}", addresses.join(" "));
    let other = [format!("chain {host}"), format!("{tunnel}_here: {mac} : {host}")];
    (1..=count).map(rule).chain(other).collect()
}
