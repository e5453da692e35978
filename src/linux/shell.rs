//! Shell commands for steps: what an operator would type to do the same by hand, for `pontoon plan` and the
//! output of the doctor.
//!
//! Pure, and never run by Pontoon. Each line is a command of `ip`, `bridge`, `sysctl`, `nft`, `iptables` or
//! `conntrack` that has the effect of the step and may be repeated; where no such command exists, the line is
//! a comment.

use std::net::IpAddr;

use super::nft::element::{Set, set_of};
use super::nft::message::BRIDGE;
use super::nft::shortcut::words as shortcut;
use super::object::{self, change};
use super::sysctl::FORWARDED_BY_PONTOON;
use crate::datapath::{Element, ForwardRule, LinkMatch, Step};
use crate::model::{HostPort, IfName};

/// The lines for a step.
pub fn commands(step: &Step) -> Vec<String> {
    match step {
        Step::Forward { v6 } => vec![nft("add", &Element::Closed(*v6)), turn_on_forwarding(*v6)],
        Step::CreateTable(elements) => {
            let count = elements.len();
            vec![format!(
                "# pontoon repair: recreate tables inet pontoon and bridge pontoon with {count} elements (no nft command)"
            )]
        }
        Step::Elements { add, remove } => {
            let removed = remove.iter().map(|element| nft("delete", element));
            removed.chain(add.iter().map(|element| nft("add", element))).collect()
        }
        Step::ForwardRules { v6, rules } => rules.iter().map(|rule| forward(*v6, rule)).collect(),
        Step::Shortcuts { add, remove } => {
            shortcut::removals(remove).into_iter().chain(add.iter().filter_map(shortcut::addition)).collect()
        }
        Step::Create(name, object) => object::commands(name, object),
        Step::Change(name, change) => change::commands(name, change),
        Step::Delete(name, _) => vec![format!("! {} || ip link del dev {}", is_there(name), word(name))],
        Step::Rename { from, to } => vec![rename(from, to)],
        Step::ForgetFlows(addresses) => addresses.iter().flat_map(forget).collect(),
        Step::ForgetMisled(ports) => ports.iter().map(|port| misled(port.host)).collect(),
    }
}

/// Forwarding that is on already is left as it is.
fn turn_on_forwarding(v6: bool) -> String {
    let name = if v6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
    format!("sysctl -n {name} | grep -qvx 0 || sysctl -w {name}={FORWARDED_BY_PONTOON}")
}

/// Kernels before 6.2 rename only links that are down.
fn rename(from: &IfName, to: &IfName) -> String {
    let (from, to) = (word(from), word(to));
    let name = format!("ip link set dev {from} name {to}");
    format!(
        "ip link show dev {to} >/dev/null 2>&1 || {name} || {{ ip link set dev {from} down; {name}; ip link set dev {to} up; }}"
    )
}

/// With slashes, because a link's name may contain dots.
pub(super) fn setting(path: &[&str], value: &str) -> String {
    format!("sysctl -w {}", quoted(&format!("net/{}={value}", path.join("/"))))
}

fn forward(v6: bool, rule: &ForwardRule) -> String {
    let iptables = if v6 { "ip6tables" } else { "iptables" };
    let (flag, link) = match rule {
        ForwardRule::From(link) => ("-i", link),
        ForwardRule::To(link) => ("-o", link),
    };
    let link = match link {
        LinkMatch::Prefix(prefix) => format!("{prefix}+"),
        LinkMatch::Name(name) => word(name),
    };
    let rule = format!("FORWARD {flag} {link} -m comment --comment pontoon -j ACCEPT");
    format!("{iptables} -C {rule} 2>/dev/null || {iptables} -A {rule}")
}

fn forget(address: &IpAddr) -> [String; 2] {
    // conntrack fails when there was nothing to delete.
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    ["-s", "-r"].map(|flag| format!("conntrack -D -f {family} {flag} {address} || true"))
}

/// Every flow to the port, wherever it leads: a flow with the right destination is tracked again.
fn misled(port: HostPort) -> String {
    let family = if port.address.is_ipv4() { "ipv4" } else { "ipv6" };
    let at = if port.address.is_unspecified() { String::new() } else { format!(" -d {}", port.address) };
    format!("conntrack -D -f {family} -p {}{at} --dport {} || true", port.protocol, port.port)
}

fn nft(verb: &str, element: &Element) -> String {
    let set = set_of(element);
    let spec = set.spec();
    let family = if spec.family == BRIDGE { "bridge" } else { "inet" };
    let (key, value) = key_and_value(element);
    // The present value may differ: nft deletes by key.
    let value = if verb == "add" { value } else { String::new() };
    let what = format!("element {family} pontoon {} {}", spec.name, quoted(&format!("{{ {key}{value} }}")));
    let guard = match element {
        _ if verb != "delete" => String::new(),
        // nft cannot look up ranges in maps.
        Element::SourceNat(..) => {
            format!("! nft list map {family} pontoon {} | grep -qF {} || ", spec.name, quoted(&format!(" {key} : ")))
        }
        _ => format!("! nft get {what} >/dev/null 2>&1 || "),
    };
    format!("{guard}nft {verb} {what}")
}

fn key_and_value(element: &Element) -> (String, String) {
    let name = |link: &IfName| format!("\"{link}\"");
    let key = match element {
        Element::Bridge(link)
        | Element::Internal(link)
        | Element::Engine(link)
        | Element::Neighbour(link)
        | Element::Direct(link, _)
        | Element::Routed(link, _)
        | Element::Checked(link)
        | Element::Router(link, _)
        | Element::Quiet(link) => name(link),
        Element::Closed(v6) => (if *v6 { "ipv6" } else { "ipv4" }).to_owned(),
        Element::Intra(link) | Element::Apart(link) => format!("{} . {}", name(link), name(link)),
        Element::Trusted(from, to) => format!("{} . {}", name(from), name(to)),
        Element::Masquerade(subnet) => subnet.to_string(),
        Element::SourceNat(subnet, address) => return (subnet.to_string(), format!(" : {address}")),
        Element::Port(port) => {
            let at = format!("{} . {}", port.host.protocol, port.host.port);
            let key = match set_of(element) {
                Set::At4 | Set::At6 => format!("{} . {at}", port.host.address),
                _ => at,
            };
            return (key, format!(" : {} . {}", port.container, port.container_port));
        }
        Element::Open(protocol, address, port) => format!("{address} . {protocol} . {port}"),
        Element::Guarded(address)
        | Element::Peer(address)
        | Element::Here(address)
        | Element::OwnAddress(address)
        | Element::Guest(address) => address.to_string(),
        Element::TunnelPort(port) => port.to_string(),
        Element::BroadcastPort(port) => format!("udp . {port}"),
        Element::Broadcast(link, at, own) => return (format!("{} . {at}", name(link)), format!(" : {own}")),
        Element::Tunnel(vni) => format!("0x{:08x}", vni.get() << 8),
        Element::Gateway(link, mac) => format!("{} . {mac}", name(link)),
        Element::GatewayAddress(link, address) => format!("{} . {address}", name(link)),
        Element::Allow(address, source) => format!("{address} . {source}"),
        Element::SourceMac(link, mac) => format!("{} . {mac}", name(link)),
        Element::SourceAddress(link, address) if address.is_unspecified() => name(link),
        Element::SourceAddress(link, address) => format!("{} . {address}", name(link)),
    };
    (key, String::new())
}

/// A test whether a link of this name exists.
pub(super) fn is_there(name: &IfName) -> String {
    format!("ip link show dev {} >/dev/null 2>&1", word(name))
}

/// A link's name, quoted for the shell.
pub(super) fn word(name: &IfName) -> String {
    quoted(name.as_str())
}

/// A text, quoted for the shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/=@+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod shell_tests;
