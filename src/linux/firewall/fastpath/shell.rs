//! Shell commands that create or remove fast path entries, for operators.
//!
//! Pure, and never run by Pontoon. Each line may be repeated.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::rules::{
    FIRST, LAST, LEARNED_MAX, guard_label, neighbour_label, network_label, packets_label, port_label, shaped_label,
};
use super::{FastPath, Piece, SCHEMA, here, near, on, pieces, there};
use crate::linux::shell::quoted;
use crate::model::{Family, IfName, Mac};
use nft::Stateful;

/// Placeholder for the index of the link until the shell looks it up.
const INDEX: u32 = u32::MAX;

/// The lines that remove these fast path entries.
pub fn removals(remove: &[FastPath]) -> Vec<String> {
    pieces(remove).iter().map(removal).collect()
}

/// The line that creates one fast path entry.
pub fn addition(entry: &FastPath) -> Option<String> {
    let (link, script) = match entry {
        FastPath::Network { tunnel, gateway } => (tunnel, network(tunnel, *gateway)),
        FastPath::Port { tunnel, port, mac, addresses } => (port, self::port(tunnel, port, *mac, addresses)),
        FastPath::Bridge { bridge } => (bridge, self::bridge(bridge.as_str())),
        FastPath::Neighbour { bridge, port, mac, addresses } => (port, neighbour(bridge, port, *mac, addresses)),
        FastPath::Guard { port } => (port, guard(port)),
        FastPath::Shaped { port, ifb } => (ifb, shaped(port, ifb)),
        FastPath::PacketLimit { port, rate, burst } => {
            let limit = Stateful::Packets { rate: *rate, burst: *burst };
            (port, packet_limit(port, &entry.chain()?, limit))
        }
        FastPath::Leftover(_) => return None,
    };
    // Names that Pontoon derives are always plain: nothing that the shell or nft would reject.
    let plain =
        |name: &IfName| name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !plain(link) {
        return Some(format!(
            "# pontoon repair: create the fast path of {link} in table netdev pontoon (no nft command)"
        ));
    }
    let script = script.join("; ").replace('"', "\\\"").replace(&INDEX.to_string(), "$i");
    Some(format!("i=$(ip -o link show dev {link} | cut -d: -f1) && nft \"{script}\""))
}

fn network(tunnel: &IfName, gateway: Mac) -> Vec<String> {
    let [here, there, on] = [here, there, on].map(|name| name(tunnel.as_str()));
    let label = format!("comment \"{}\"", network_label(tunnel, INDEX, gateway));
    let mut script = vec![
        format!("add table netdev pontoon {{ comment \"{SCHEMA}\"; }}"),
        format!("add map netdev pontoon {here} {{ type ether_addr : iface_index; }}"),
        format!(
            "add set netdev pontoon {there} {{ type ether_addr; size {LEARNED_MAX}; flags dynamic,timeout; timeout 5m; }}"
        ),
        format!("flush set netdev pontoon {there}"),
        format!("add chain netdev pontoon {on}"),
        format!("flush chain netdev pontoon {on}"),
    ];
    let rules = [format!("fwd to ether daddr map @{here}"), format!("ether daddr @{there} fwd to \"{tunnel}\"")];
    script.extend(rules.map(|rule| format!("add rule netdev pontoon {on} {rule} {label}")));
    script.extend(chain(tunnel));
    let rules = [
        format!("ether saddr {gateway} accept"),
        format!("update @{there} {{ ether saddr }}"),
        format!("meta protocol ip fwd to ether daddr map @{here}"),
        format!("meta protocol ip6 fwd to ether daddr map @{here}"),
    ];
    script.extend(rules.map(|rule| format!("add rule netdev pontoon {tunnel} {rule} {label}")));
    script
}

fn port(tunnel: &IfName, port: &IfName, mac: Mac, addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    let [here, there, on] = [here, there, on].map(|name| name(tunnel.as_str()));
    let label = format!("comment \"{}\"", port_label(tunnel, INDEX, mac, addresses));
    let mut rules: Vec<String> = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(ip) => rules.push(format!("ether saddr {mac} ether type ip ip saddr {ip} goto {on}")),
            IpAddr::V6(ip) => {
                rules.extend(["tcp", "udp"].map(|next| {
                    format!("ether saddr {mac} ether type ip6 ip6 saddr {ip} ip6 nexthdr {next} goto {on}")
                }))
            }
        }
    }
    let placed = (!rules.is_empty()).then(|| format!("add element netdev pontoon {here} {{ {mac} : \"{port}\" }}"));
    if rules.is_empty() {
        rules.push(format!("delete @{there} {{ ether saddr }}"));
    }
    let mut script = chain(port);
    script.extend(rules.iter().map(|rule| format!("add rule netdev pontoon {port} {rule} {label}")));
    script.extend(placed);
    script
}

fn bridge(name: &str) -> Vec<String> {
    let map = |family: Family, address: &str| {
        let name = near(name, family);
        format!("add map netdev pontoon {name} {{ type ether_addr . {address} : iface_index; }}")
    };
    let table = format!("add table netdev pontoon {{ comment \"{SCHEMA}\"; }}");
    vec![table, map(Family::V4, "ipv4_addr"), map(Family::V6, "ipv6_addr")]
}

fn neighbour(bridge: &IfName, port: &IfName, mac: Mac, addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    let label = format!("comment \"{}\"", neighbour_label(bridge, INDEX, mac, addresses));
    let mut script = chain(port);
    for address in addresses {
        let map = near(bridge.as_str(), Family::of(address));
        let (ip, own): (_, Vec<String>) = match address {
            IpAddr::V4(ip) => ("ip", vec![format!("ether type ip ip saddr {ip}")]),
            IpAddr::V6(ip) => {
                ("ip6", ["tcp", "udp"].map(|next| format!("ether type ip6 ip6 saddr {ip} ip6 nexthdr {next}")).into())
            }
        };
        script.extend(own.iter().map(|own| {
            let to = format!("fwd to ether daddr . {ip} daddr map @{map}");
            format!("add rule netdev pontoon {port} ether saddr {mac} {own} {to} {label}")
        }));
        script.push(format!("add element netdev pontoon {map} {{ {mac} . {address} : \"{port}\" }}"));
    }
    script
}

fn guard(port: &IfName) -> Vec<String> {
    let mut script = vec![format!("add table netdev pontoon {{ comment \"{SCHEMA}\"; }}")];
    script.extend(chain(port));
    let label = format!("comment \"{}\"", guard_label(INDEX));
    let rule = "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 counter drop";
    script.push(format!("add rule netdev pontoon {port} {rule} {label}"));
    script
}

fn shaped(port: &IfName, ifb: &IfName) -> Vec<String> {
    let hook = format!("type filter hook ingress device \"{port}\" priority {LAST}; policy accept;");
    vec![
        format!("add table netdev pontoon {{ comment \"{SCHEMA}\"; }}"),
        format!("add chain netdev pontoon {ifb} {{ {hook} }}"),
        format!("flush chain netdev pontoon {ifb}"),
        format!("add rule netdev pontoon {ifb} fwd to \"{ifb}\" comment \"{}\"", shaped_label(port, INDEX)),
    ]
}

fn packet_limit(port: &IfName, name: &str, limit: Stateful) -> Vec<String> {
    let hook = format!("type filter hook ingress device \"{port}\" priority {FIRST}; policy accept;");
    let label = packets_label(port, INDEX, limit);
    vec![
        format!("add table netdev pontoon {{ comment \"{SCHEMA}\"; }}"),
        format!("add chain netdev pontoon {name} {{ {hook} }}"),
        format!("flush chain netdev pontoon {name}"),
        format!("add rule netdev pontoon {name} {limit} counter drop comment \"{label}\""),
    ]
}

/// An empty chain at ingress of a link.
fn chain(link: &IfName) -> Vec<String> {
    let hook = format!("type filter hook ingress device \"{link}\" priority 0; policy accept;");
    vec![format!("add chain netdev pontoon {link} {{ {hook} }}"), format!("flush chain netdev pontoon {link}")]
}

fn removal(piece: &Piece) -> String {
    let (look, what) = match piece {
        Piece::Table => ("list", "table netdev pontoon".to_owned()),
        Piece::Chain(name) => ("list", format!("chain netdev pontoon {}", quoted(name))),
        Piece::Set(name) if ["_here", "_near4", "_near6"].iter().any(|end| name.ends_with(end)) => {
            ("list", format!("map netdev pontoon {}", quoted(name)))
        }
        Piece::Set(name) => ("list", format!("set netdev pontoon {}", quoted(name))),
        Piece::Place(map, mac) => ("get", format!("element netdev pontoon {} '{{ {mac} }}'", quoted(map))),
        Piece::Near(map, mac, ip) => ("get", format!("element netdev pontoon {} '{{ {mac} . {ip} }}'", quoted(map))),
    };
    format!("! nft {look} {what} >/dev/null 2>&1 || nft delete {what}")
}
