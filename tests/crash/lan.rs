//! Networks on a parent link of the host, and in VLANs of a bridge: what is seen of them, and what should be there for the
//! facts of a ledger.

use serde_json::Value;

use super::expected::{link_local, published};
use super::host::Host;
use super::kernel_view::{GROUP, Objects, plain};
use testkit::ledger::{self, text};

/// The mark on routes to containers (`rtm_protocol`, docs/options.md).
const PROTOCOL: &str = "112";

/// What a host link does not do, as `ip` and `/proc` show it: it answers where the route leads back, and it has no
/// link-local address.
const QUIET: [(&str, &str); 6] = [
    ("ipv4/conf/{}/arp_filter", "1"),
    ("ipv4/conf/{}/arp_ignore", "0"),
    ("ipv4/conf/{}/rp_filter", "1"),
    ("ipv4/conf/{}/route_localnet", "1"),
    ("ipv6/conf/{}/accept_ra", "0"),
    ("ipv6/conf/{}/addr_gen_mode", "1"),
];

/// Whether a link is a host link, by its name.
pub fn is_host_link(name: &str) -> bool {
    name.starts_with("pnts")
}

/// What a host link has besides: its settings.
pub fn host_link(host: &Host, name: &str) -> String {
    let values = host.netns.enter(|| {
        QUIET.map(|(setting, _)| {
            let path = format!("/proc/sys/net/{}", setting.replace("{}", name));
            std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
        })
    });
    format!("quiet {values:?}")
}

/// The containers that the host reaches by a host link, each with its route and its neighbour entry.
pub fn stations(host: &Host, link: &str) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        // The link may have gone since it was listed.
        let listed = |words: &[&str]| {
            let output = host.netns.output(&[&["ip", "-j", family][..], words].concat()).stdout;
            let list: Value = serde_json::from_slice(&output).unwrap_or_default();
            list.as_array().cloned().unwrap_or_default()
        };
        let neighbours = listed(&["neigh", "show", "nud", "permanent", "dev", link]);
        for route in listed(&["route", "show", "proto", PROTOCOL, "dev", link]) {
            let address = text(&route, "dst");
            let entry = neighbours.iter().find(|entry| text(entry, "dst") == address);
            found.push(station(link, address, entry.map_or("", |entry| text(entry, "lladdr"))));
        }
    }
    found
}

fn station(link: &str, address: &str, mac: &str) -> String {
    format!("station: {link} {address} {mac}")
}

/// The VLANs of a port.
pub fn port_vlans(host: &Host, name: &str) -> String {
    let output = host.netns.output(&["bridge", "-j", "vlan", "show", "dev", name]).stdout;
    let list: Value = serde_json::from_slice(&output).unwrap_or_default();
    let vlans = list.as_array().into_iter().flatten().flat_map(|port| port["vlans"].as_array().into_iter().flatten());
    let mut texts: Vec<String> = vlans.map(|vlan| format!("{}{}", vlan["vlan"], vlan["flags"])).collect();
    texts.sort();
    if texts.is_empty() { String::new() } else { format!(" vlans {texts:?}") }
}

/// The kind of a network on a parent, as `ip` names its links.
fn on_parent(network: &Value) -> Option<(&'static str, &Value)> {
    ["macvlan", "ipvlan"].into_iter().find_map(|word| Some((word, network["kind"].get(word)?)))
}

/// Whether it is a network on a parent.
pub fn is_on_parent(network: &Value) -> bool {
    on_parent(network).is_some()
}

/// What a network on a parent needs; nothing for another kind.
pub fn network(network: &Value, addresses_of_parent: &[&str], objects: &mut Objects) {
    let Some((word, kind)) = on_parent(network) else { return };
    let mtu = &network["mtu"];
    let line = |kind: &str, addresses: &[&str]| {
        format!("{kind} up group {GROUP} mtu {mtu} master \"\" {addresses:?} isolated false hairpin false")
    };
    if let Some(vlan) = kind.get("vlan") {
        objects.links.insert(text(kind, "parent").to_owned(), format!("{} id {}", line("vlan", &[]), vlan["vid"]));
    }
    let Some(host) = kind.get("host") else { return };
    let link = text(host, "link");
    let own: Vec<String> = ["v4", "v6"]
        .into_iter()
        .filter_map(|family| host["addresses"].get(family)?.as_str())
        .map(|address| format!("{address}/{}", if address.contains(':') { 128 } else { 32 }))
        .collect();
    let addresses: Vec<&str> = match word {
        "ipvlan" => own.iter().map(String::as_str).collect(),
        _ if kind.get("vlan").is_some() => Vec::new(),
        _ => addresses_of_parent.to_vec(),
    };
    let quiet = QUIET.map(|(_, value)| value.to_owned());
    objects.links.insert(link.to_owned(), format!("{} quiet {quiet:?}", line(word, &addresses)));
    for set in ["bridges", "container_bridges"] {
        objects.elements.insert(format!("{set}: {link}"));
    }
}

/// What an endpoint on a parent needs; nothing for another kind. `on_host`: its link is not in a sandbox.
pub fn endpoint(network: &Value, endpoint: &Value, on_host: bool, objects: &mut Objects) {
    let Some((word, kind)) = on_parent(network) else { return };
    if on_host {
        let line =
            format!("{word} down group {GROUP} mtu {} master \"\" [] isolated false hairpin false", network["mtu"]);
        objects.links.insert(text(ledger::links(endpoint), "link").to_owned(), line);
    }
    let Some(host) = kind.get("host") else { return };
    let (link, mac) = (text(host, "link"), if word == "macvlan" { text(endpoint, "mac") } else { "" });
    for family in ["v4", "v6"] {
        let Some(address) = endpoint["spec"].get(family).and_then(Value::as_str).map(plain) else { continue };
        objects.elements.insert(format!("station{}: {address}", &family[1..]));
        objects.elements.insert(station(link, &address, mac));
    }
    if !mac.is_empty() {
        objects.elements.insert(format!("station6: {}", link_local(mac)));
    }
    published(endpoint, &mut |set, element| {
        objects.elements.insert(format!("{set}: {element}"));
    });
}
