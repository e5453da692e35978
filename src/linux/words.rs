//! Owns the words for steps: what an operator would type at a shell to do by hand what a step
//! does, for `pontoon plan` and the log of a doctor.
//!
//! Pure, and never run by Pontoon. Each line is a command of `ip`, `bridge`, `sysctl`, `nft`,
//! `iptables` or `conntrack` that does what the step does and may be repeated; where there is no
//! such command the line is a comment.

use std::net::IpAddr;

use super::nft::element::{Set, set_of};
use super::nft::message::BRIDGE;
use super::nft::shortcut::words as shortcut;
use super::sysctl::FORWARDED_BY_PONTOON;
use super::vxlan::{LOW_PORTS, MOST_LEARNED};
use crate::datapath::{Bridge, Element, ForwardRule, GROUP_LIVE, LinkMatch, Step, Veth, Vxlan};
use crate::model::{HostPort, IfName};

/// The lines for a step.
pub fn commands(step: &Step) -> Vec<String> {
    match step {
        Step::Forward { v6 } => vec![nft("add", &Element::Closed(*v6)), turn_on_forwarding(*v6)],
        Step::CreateTable(elements) => {
            let count = elements.len();
            vec![format!(
                "# pontoon repair: make tables inet pontoon and bridge pontoon anew, with {count} elements (no nft command)"
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
        Step::CreateBridge(name, bridge) => create_bridge(name, bridge),
        Step::SetMtu(name, mtu) => vec![format!("ip link set dev {} mtu {mtu}", word(name))],
        Step::SetMac(name, mac) => vec![format!("ip link set dev {} address {mac}", word(name))],
        Step::HardenBridge(name) => harden(name),
        Step::ArpOff(name) => vec![format!("ip link set dev {} arp off", word(name))],
        Step::SetUp(name) => vec![format!("ip link set dev {} up", word(name))],
        Step::EnableIpv6(name) => enable_ipv6(name),
        Step::AddAddress(name, address) => vec![add_address(name, &address.to_string())],
        Step::RemoveAddress(name, address) => {
            let (link, there) = (word(name), quoted(&format!(" {address} ")));
            vec![format!("! ip -o address show dev {link} | grep -qF {there} || ip address del {address} dev {link}")]
        }
        Step::CreateVeth(name, veth) => create_veth(name, veth),
        Step::Rename { from, to } => vec![rename(from, to)],
        Step::SetMaster(name, bridge) => vec![format!("ip link set dev {} master {}", word(name), word(bridge))],
        Step::Isolate(name, on) => vec![port_flag(name, "isolated", *on)],
        Step::Hairpin(name) => vec![port_flag(name, "hairpin", true)],
        Step::RouteLocalnet(name) => vec![setting(&["ipv4", "conf", name.as_str(), "route_localnet"], "1")],
        Step::ForgetFlows(addresses) => addresses.iter().flat_map(forget).collect(),
        Step::ForgetMisled(ports) => ports.iter().map(|port| misled(port.host)).collect(),
        Step::CreateVxlan(name, vxlan) => create_vxlan(name, vxlan),
        Step::Flood { link, add, remove } => {
            let gone = remove.iter().map(|peer| flood("del", link, *peer));
            gone.chain(add.iter().map(|peer| flood("append", link, *peer))).collect()
        }
        Step::RetireVeth(name) | Step::RetireVxlan(name) | Step::RetireBridge(name) => {
            vec![format!("! {} || ip link del dev {}", is_there(name), word(name))]
        }
    }
}

/// What is on already stays as it is.
fn turn_on_forwarding(v6: bool) -> String {
    let name = if v6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
    format!("sysctl -n {name} | grep -qvx 0 || sysctl -w {name}={FORWARDED_BY_PONTOON}")
}

fn create_bridge(name: &IfName, bridge: &Bridge) -> Vec<String> {
    let link = word(name);
    let mac = bridge.mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
    // One that was left half made is completed.
    let there = is_there(name);
    let mut lines = vec![format!("{there} || ip link add name {link}{mac} group {GROUP_LIVE} type bridge")];
    if bridge.ipv6 {
        lines.extend(enable_ipv6(name));
    } else {
        lines.push(setting(&["ipv6", "conf", name.as_str(), "disable_ipv6"], "1"));
    }
    if !bridge.alias.is_empty() {
        lines.push(format!("ip link set dev {link} alias {}", quoted(&bridge.alias)));
    }
    // Only a change of the MTU keeps ports from changing it later.
    lines.push(format!("ip link set dev {link} mtu {}", bridge.mtu ^ 1));
    lines.push(format!("ip link set dev {link} mtu {}", bridge.mtu));
    if bridge.hardened {
        lines.extend(harden(name));
    }
    if bridge.up {
        lines.push(format!("ip link set dev {link} up"));
    }
    if bridge.localnet {
        lines.push(setting(&["ipv4", "conf", name.as_str(), "route_localnet"], "1"));
    }
    lines.extend(bridge.addresses.iter().map(|address| add_address(name, &address.to_string())));
    lines
}

/// Not every kernel and not every release of iproute2 knows the bound.
fn harden(name: &IfName) -> Vec<String> {
    let link = word(name);
    let settings = ["no_linklocal_learn 1", "mcast_snooping 0", "fdb_max_learned 65536 2>/dev/null || true"];
    settings.map(|setting| format!("ip link set dev {link} type bridge {setting}")).into()
}

fn create_vxlan(name: &IfName, vxlan: &Vxlan) -> Vec<String> {
    let link = word(name);
    let sums = if vxlan.local.is_ipv4() { " noudpcsum" } else { "" };
    let mut lines = vec![format!(
        "{} || ip link add name {link} mtu {} address {} group {GROUP_LIVE} type vxlan id {} local {} srcport {} {} dstport {}{sums} learning maxaddress {}",
        is_there(name),
        vxlan.mtu,
        vxlan.mac,
        vxlan.vni,
        vxlan.local,
        LOW_PORTS.start,
        LOW_PORTS.end,
        vxlan.port,
        MOST_LEARNED
    )];
    lines.push(format!("ip link set dev {link} alias {}", quoted(&format!("pontoon overlay {}", vxlan.vni))));
    lines.extend(vxlan.bridge.iter().map(|bridge| format!("ip link set dev {link} master {}", word(bridge))));
    if vxlan.isolated {
        lines.push(port_flag(name, "isolated", true));
    }
    lines.extend(vxlan.peers.iter().map(|peer| flood("append", name, *peer)));
    if vxlan.up {
        lines.push(format!("ip link set dev {link} up"));
    }
    lines
}

/// `bridge` ends with an error when it appends what is there, or deletes what is not.
fn flood(verb: &str, link: &IfName, peer: IpAddr) -> String {
    let (link, not) = (word(link), if verb == "del" { "! " } else { "" });
    let there = format!("{not}bridge fdb show dev {link} | grep -qF '00:00:00:00:00:00 dst {peer} '");
    format!("{there} || bridge fdb {verb} 00:00:00:00:00:00 dev {link} dst {peer}")
}

fn create_veth(name: &IfName, veth: &Veth) -> Vec<String> {
    let (link, mtu) = (word(name), veth.mtu);
    let peer_mac = veth.peer_mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
    let mut lines = vec![format!(
        "{} || ip link add name {link} mtu {mtu} address {} group {GROUP_LIVE} numtxqueues 1 numrxqueues 1 \
         type veth peer name {} mtu {mtu}{peer_mac} numtxqueues 1 numrxqueues 1",
        is_there(name),
        veth.host_mac,
        word(&veth.peer)
    )];
    if let Some(bridge) = &veth.bridge {
        lines.push(format!("ip link set dev {link} master {}", word(bridge)));
        let flags = [("isolated", veth.isolated), ("hairpin", veth.hairpin)];
        lines.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| port_flag(name, flag, true)));
    }
    if !veth.arp {
        lines.push(format!("ip link set dev {link} arp off"));
    }
    if veth.up {
        lines.push(format!("ip link set dev {link} up"));
    }
    lines
}

/// Kernels before 6.2 rename only what is down.
fn rename(from: &IfName, to: &IfName) -> String {
    let (from, to) = (word(from), word(to));
    let name = format!("ip link set dev {from} name {to}");
    format!(
        "ip link show dev {to} >/dev/null 2>&1 || {name} || {{ ip link set dev {from} down; {name}; ip link set dev {to} up; }}"
    )
}

fn enable_ipv6(name: &IfName) -> Vec<String> {
    let of = |key| ["ipv6", "conf", name.as_str(), key];
    vec![setting(&of("accept_ra"), "0"), setting(&of("disable_ipv6"), "0")]
}

/// With slashes, because a link's name may have dots.
fn setting(path: &[&str], value: &str) -> String {
    format!("sysctl -w {}", quoted(&format!("net/{}={value}", path.join("/"))))
}

fn add_address(name: &IfName, address: &str) -> String {
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("ip address replace {address} dev {}{nodad}", word(name))
}

fn port_flag(name: &IfName, flag: &str, on: bool) -> String {
    format!("bridge link set dev {} {flag} {}", word(name), if on { "on" } else { "off" })
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
    // conntrack ends with an error when there was nothing to remove.
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    ["-s", "-r"].map(|flag| format!("conntrack -D -f {family} {flag} {address} || true"))
}

/// What came for the port, wherever it went: a flow that is led right is found again.
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
    // What is there may have another value: nft deletes by key.
    let value = if verb == "add" { value } else { String::new() };
    let what = format!("element {family} pontoon {} {}", spec.name, quoted(&format!("{{ {key}{value} }}")));
    let guard = match element {
        _ if verb != "delete" => String::new(),
        // nft finds no ranges in maps.
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

/// Whether there is a link of this name.
fn is_there(name: &IfName) -> String {
    format!("ip link show dev {} >/dev/null 2>&1", word(name))
}

/// A link's name as a word of the shell.
fn word(name: &IfName) -> String {
    quoted(name.as_str())
}

/// A text as a word of the shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/=@+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod words_tests;
