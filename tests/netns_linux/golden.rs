//! The whole ruleset of a host with one network, as an administrator reads it: the kernel's state is compared with
//! tests/golden/ruleset.txt, which docs/firewall.md shows. UPDATE_EXPECT=1 writes it. The effect of each option is in
//! tests/golden/policy.txt.

use pontoon::datapath::access::{Access, Place, Way};
use pontoon::datapath::policy::Limit;
use pontoon::datapath::{Kernel, LinkProperty, Policy, Step};
use pontoon::model::access::Transport;
use pontoon::model::{Family, Mac, Vni};

use testkit::netns::*;
use testkit::topology::{TCP, UDP, ip, port};

/// A network with the egress list `tcp:443@192.0.2.0/24+udp:53@host` and a second container with the ingress list
/// `tcp:5432@net` and a DNS name in its egress list; a third one is only audited.
fn lists() -> Vec<Policy> {
    let transport = |protocol: u8, port: u16| Transport { protocols: (protocol, protocol), ports: (port, port) };
    let range = |first: &str, last: &str| (ip(first), ip(last));
    let (end, address) = (name("pnth0123456789a"), ip("10.1.0.3"));
    let (pool, own) = (range("10.1.0.0", "10.1.0.255"), (address, address));
    let mut access = vec![Access::TrackedPort(end.clone()), Access::AllowedHost(Way::Egress, pool, transport(17, 53))];
    for way in Way::ALL {
        access.extend([Access::Restricted(way, address), Access::RestrictedPort(way, end.clone())]);
    }
    for place in Place::ALL {
        let servers = range("192.0.2.0", "192.0.2.255");
        access.push(Access::Allowed(place, Way::Egress, pool, transport(6, 443), servers));
        access.push(Access::Allowed(place, Way::Ingress, own, transport(6, 5432), pool));
    }
    for way in Way::ALL {
        access.extend([Access::Audited(way, ip("10.1.0.4")), Access::AuditedPort(way, name("pnthfedcba98765"))]);
    }
    access.push(Access::Redirected(name("pntbone"), address, ip("10.1.0.1")));
    access.into_iter().map(Policy::Access).collect()
}

/// At least one element of each kind that a network and a container have by default.
fn policy() -> Vec<Policy> {
    let (bridge, docker, end) = (|| name("pntbone"), || name("docker0"), || name("pnthadec5e726bb"));
    vec![
        Policy::Link(LinkProperty::ProtectedBridge, bridge()),
        Policy::Link(LinkProperty::ContainerBridge, bridge()),
        Policy::IntraNetwork(bridge()),
        Policy::BridgeAddress(ip("10.1.0.1")),
        Policy::BridgeAddress(ip("fd00:1::1")),
        Policy::Masquerade(net("10.1.0.0/24")),
        Policy::Masquerade(net("fd00:1::/64")),
        Policy::Link(LinkProperty::EngineBridge, docker()),
        Policy::Link(LinkProperty::ContainerBridge, docker()),
        port(TCP, "0.0.0.0", 8080, "10.1.0.2"),
        port(TCP, "::", 8080, "fd00:1::2"),
        port(UDP, "192.0.2.1", 53, "10.1.0.2"),
        Policy::Link(LinkProperty::SpoofChecked, end()),
        Policy::SourceMac(end(), Mac::derive("peer", "golden")),
        Policy::SourceAddress(end(), ip("10.1.0.2")),
        Policy::SourceAddress(end(), ip("fd00:1::2")),
        Policy::Source(end(), Mac::derive("peer", "golden"), ip("10.1.0.2")),
        Policy::Source(end(), Mac::derive("peer", "golden"), ip("fd00:1::2")),
    ]
}

/// What makes the chains exist that a host has only with such a network: an internal one, one with isolated containers,
/// an overlay, and one for which only Pontoon turned forwarding on.
fn more() -> Vec<Policy> {
    vec![
        Policy::Link(LinkProperty::Internal, name("pntbinside")),
        Policy::Isolated(name("pntbapart")),
        Policy::LimitedForwarding(Family::V4),
        Policy::Tunnel(Vni::new(77).unwrap()),
        Policy::Link(LinkProperty::NoMulticast, name("pntxover")),
    ]
}

/// Counters at zero; elements, whose order the kernel does not define, one a line and sorted.
fn normalised(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("elements = {") {
        out += before;
        let (elements, after) = after.split_once('}').expect("elements end");
        let mut elements: Vec<_> = elements.split(',').map(str::trim).collect();
        elements.sort_unstable();
        out += &format!("elements = {{\n\t\t\t{}\n\t\t}}", elements.join(",\n\t\t\t"));
        rest = after;
    }
    out += rest;
    let zeroed = |line: &str| match line.split_once("counter packets ") {
        Some((head, tail)) => {
            let words: Vec<_> = tail.splitn(4, ' ').collect();
            format!("{head}counter packets 0 bytes 0 {}", words.get(3).unwrap_or(&""))
        }
        None => line.to_owned(),
    };
    out.lines().map(zeroed).map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_ruleset_equals_the_golden_file() {
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateFirewall([policy(), lists(), more()].concat())]).unwrap();
        let text = normalised(&run("nft list table inet pontoon; nft list table bridge pontoon"));
        // nft reads what it prints, except the target of a neighbour advertisement, which it knows by name only since
        // 1.0.9.
        let known = text.replace("iifname . @th,64,128 != @source_address6", "iifname . ip6 saddr != @source_address6");
        // No nft release has a name for the VNI of an overlay network; the target of a solicitation has one only since
        // 1.0.9.
        let known = known.replace("@th,96,32", "meta mark");
        let known =
            known.replace("nd-neighbor-solicit iifname . @th,64,128", "nd-neighbor-solicit iifname . ip6 saddr");
        let known = known.replace("{ iifname . @th,64,128 }", "{ iifname . ip6 saddr }");
        run("nft flush ruleset");
        let known = if reads_ranges_of_protocols() { known } else { without_lists(&known) };
        run(&format!("nft -c -f - <<'EOF'\n{known}\nEOF"));
        testkit::golden::file("tests/golden/ruleset.txt", &text);
    });
}

/// Whether the kernel accepts what nft writes for a set of ranges with a protocol: nft 1.0.6 converts the byte order of its
/// one byte, which Linux 7.3 refuses. docs/firewall.md states it.
fn reads_ranges_of_protocols() -> bool {
    let set = "set s { type ipv4_addr . inet_proto . inet_service; flags interval; }";
    let rule = "chain c { ip saddr . meta l4proto . th dport @s accept; }";
    succeeds(&format!("nft -c 'table inet probe {{ {set}; {rule}; }}'"))
}

/// The ruleset without the rules that have such sets.
fn without_lists(text: &str) -> String {
    let lists = ["_allowed4", "_allowed6", "_names4", "_names6", "_host4", "_host6"];
    let concerned = |line: &&str| lists.iter().any(|list| line.contains(&format!("{list} accept")));
    let kept: Vec<&str> = text.lines().filter(|line| !concerned(line)).collect();
    assert!(kept.len() < text.lines().count());
    kept.join("\n")
}

/// Limits of the connections of one container.
#[test]
fn the_tables_of_limits_equal_the_golden_file() {
    in_netns(|kernel| {
        let limits = [Limit::Connections(500), Limit::ConnectionRate { rate: 50, burst: 5 }];
        let of = |address: &str| limits.map(|limit| Policy::Limited(ip(address), limit)).to_vec();
        kernel.apply(&[Step::CreateFirewall([of("10.1.0.2"), of("fd00:1::2")].concat())]).unwrap();
        let text = normalised(&run("nft list table ip pontoon; nft list table ip6 pontoon"));
        run("nft flush ruleset");
        run(&format!("nft -c -f - <<'EOF'\n{text}\nEOF"));
        testkit::golden::file("tests/golden/limits.txt", &text);
    });
}
