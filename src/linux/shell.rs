//! Shell commands for steps: what an operator would type to do the same by hand, for `pontoon plan` and the
//! output of the doctor.
//!
//! Pure, and never run by Pontoon. Each line is a command of `ip`, `bridge`, `sysctl`, `nft`, `iptables` or
//! `conntrack` that has the effect of the step and may be repeated; where no such command exists, the line is
//! a comment.

use std::net::IpAddr;

use super::firewall::elements::element;
use super::firewall::fastpath::shell as fastpath;
use super::firewall::parts::PARTS;
use super::object::{self, change};
use super::station;
use super::sysctl::FORWARDED_BY_PONTOON;
use crate::datapath::{ForwardRule, LinkMatch, Policy, Step};
use crate::model::{Family, HostPort, IfName};
use nft::message::family_name;

/// The lines for a step.
pub fn commands(step: &Step) -> Vec<String> {
    match step {
        Step::Forward { family } => {
            let limited = Policy::LimitedForwarding(*family);
            let limit = chains(std::slice::from_ref(&limited)).collect::<Vec<_>>();
            [vec![nft("add", &limited)], limit, vec![turn_on_forwarding(*family)]].concat()
        }
        Step::CreateFirewall(elements) => {
            let count = elements.len();
            vec![format!(
                "# pontoon repair: recreate tables inet pontoon and bridge pontoon with {count} elements (no nft command)"
            )]
        }
        Step::ChangeFirewall { add, remove } => {
            let removed = remove.iter().map(|element| nft("delete", element));
            let limits = |policy: &Policy| matches!(policy, Policy::Limited(..));
            let tables =
                "# pontoon repair: create tables ip pontoon and ip6 pontoon, if they are missing (no nft command)";
            let tables = add.iter().any(limits).then(|| tables.to_owned());
            let parts = chains(add);
            let added = add.iter().map(|element| nft("add", element));
            removed.chain(tables).chain(added).chain(parts).collect()
        }
        Step::ForwardRules { family, rules } => rules.iter().map(|rule| forward(*family, rule)).collect(),
        Step::FastPath { add, remove } => {
            fastpath::removals(remove).into_iter().chain(add.iter().filter_map(fastpath::addition)).collect()
        }
        Step::Stations { add, remove } => station::commands(add, remove),
        Step::Create(name, object) => object::commands(name, object),
        Step::Change(name, change) => change::commands(name, change),
        Step::Delete(name, _) => vec![format!("! {} || ip link del dev {}", is_there(name), word(name))],
        Step::Rename { from, to } => vec![rename(from, to)],
        Step::FlushConntrack(addresses) => addresses.iter().flat_map(flush).collect(),
        Step::FlushStaleConntrack(ports) => ports.iter().map(|port| stale(port.host)).collect(),
    }
}

/// What these statements need besides their elements.
fn chains(add: &[Policy]) -> impl Iterator<Item = String> {
    PARTS.iter().filter(|part| add.iter().any(part.needed_by)).map(|part| {
        format!("# pontoon repair: create the chains of {}, if they are missing (no nft command)", part.about)
    })
}

/// Forwarding that is on already is left as it is. Without the chain that limits it, it stays off.
fn turn_on_forwarding(family: Family) -> String {
    let name = if family.is_v6() { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
    format!(
        "sysctl -n {name} | grep -qvx 0 || {{ nft list chain inet pontoon forward_others >/dev/null && sysctl -w {name}={FORWARDED_BY_PONTOON}; }}"
    )
}

/// Kernels before 6.2 rename only links that are down, and a link loses its IPv6 addresses then unless told otherwise.
fn rename(from: &IfName, to: &IfName) -> String {
    let keep = setting(&["ipv6", "conf", from.as_str(), "keep_addr_on_down"], "1");
    let (from, to) = (word(from), word(to));
    let name = format!("ip link set dev {from} name {to}");
    format!(
        "ip link show dev {to} >/dev/null 2>&1 || {name} || {{ {keep}; ip link set dev {from} down; {name}; ip link set dev {to} up; }}"
    )
}

/// With slashes, because a link's name may contain dots.
pub(super) fn setting(path: &[&str], value: &str) -> String {
    format!("sysctl -w {}", quoted(&format!("net/{}={value}", path.join("/"))))
}

fn forward(family: Family, rule: &ForwardRule) -> String {
    let iptables = if family.is_v6() { "ip6tables" } else { "iptables" };
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

fn flush(address: &IpAddr) -> [String; 2] {
    // conntrack fails when there was nothing to delete.
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    ["-s", "-r"].map(|flag| format!("conntrack -D -f {family} {flag} {address} || true"))
}

/// Every flow to the port, wherever it leads: a flow with the right destination is tracked again.
fn stale(port: HostPort) -> String {
    let family = if port.address.is_ipv4() { "ipv4" } else { "ipv6" };
    let at = if port.address.is_unspecified() { String::new() } else { format!(" -d {}", port.address) };
    format!("conntrack -D -f {family} -p {}{at} --dport {} || true", port.protocol, port.port)
}

fn nft(verb: &str, policy: &Policy) -> String {
    let (set, element) = element(policy);
    let spec = set.spec();
    let family = family_name(spec.family);
    let (table, key) = (format!("{family} pontoon {}", spec.name), element.key);
    if verb == "add" {
        return format!("nft add element {table} {}", quoted(&format!("{{ {element} }}")));
    }
    // The present value may differ: nft deletes by key.
    let what = format!("element {table} {}", quoted(&format!("{{ {key} }}")));
    if spec.is_map() && spec.interval {
        // nft cannot look up ranges in maps.
        return format!("! nft list map {table} | grep -qF {} || nft delete {what}", quoted(&format!(" {key} : ")));
    }
    format!("! nft get {what} >/dev/null 2>&1 || nft delete {what}")
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
