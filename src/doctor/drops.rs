//! Checks what Pontoon's own rules dropped: how much, and what that means if the packets are wanted.

use super::tunnels::settings;
use super::{Facts, Finding, Level, wiring};
use crate::datapath::host::Dropped;

/// The meaning of a rule's drops by the start of its comment, and the remedy if the packets are wanted.
const MEANINGS: &[(&str, &str, &str)] = &[
    (
        "to 127.0.0.0/8",
        "containers sent packets to 127.0.0.0/8",
        "a service for containers has to listen on the address of their gateway",
    ),
    (
        "from 127.0.0.0/8",
        "containers sent packets with a source address in 127.0.0.0/8",
        "look for a program that forges addresses",
    ),
    (
        "IPv4 peer address",
        "overlay packets with a peer's source address arrived on a link that does not lead to the peer",
        "a container forges them, or the route to that peer is wrong: ip route get PEER",
    ),
    (
        "IPv6 peer address",
        "overlay packets with a peer's source address arrived on a link that does not lead to the peer",
        "a container forges them, or the route to that peer is wrong: ip -6 route get PEER",
    ),
    (
        "from this host itself",
        "overlay packets arrived from this host itself",
        "remove this host's own addresses from PONTOON_PEERS and pontoon.peers",
    ),
    (
        "not to the IPv",
        "overlay packets arrived at an address of this host that its tunnels do not use",
        "use the same address here (PONTOON_DATA_PATH) and on the other hosts (PONTOON_PEERS)",
    ),
    (
        "unprivileged source port",
        "a peer sent overlay packets from an unprivileged port, besides those of its tunnels",
        "a process there forges them, or that host was downgraded: then its packets pass after five minutes",
    ),
    (
        "forged overlay packets",
        "a container or a machine behind this host sent packets to a peer's tunnel port",
        "only the kernel's tunnels may; use another UDP port for other tunnels",
    ),
    (
        "forged packets of our overlays",
        "a container or a machine behind this host sent packets with the VNI of an overlay network",
        "only the kernel's tunnels may; use another VNI or UDP port for other tunnels",
    ),
    (
        "sent by a process",
        "a process in the host's network namespace sent overlay packets without using a tunnel",
        "only the kernel's tunnels may; use another UDP port for other tunnels",
    ),
    (
        "out of an internal",
        "containers of internal networks sent packets to other networks",
        "create the network without --internal, if they should",
    ),
    (
        "into an internal",
        "packets were sent into internal networks",
        "create the network without --internal, if they should arrive",
    ),
    (
        "from a container on a parent",
        "containers on macvlan networks sent packets for other networks to this host",
        "use the network's own router as their gateway: --gateway of docker network create",
    ),
    (
        "forwarded from 127.0.0.0/8",
        "packets from 127.0.0.0/8 were forwarded to containers",
        "look for a program that forges addresses",
    ),
    (
        "IPv4 source not",
        "clients that are not in pontoon.publish.allow connected to published ports",
        "add them to pontoon.publish.allow, if they should",
    ),
    (
        "IPv6 source not",
        "clients that are not in pontoon.publish.allow connected to published ports",
        "add them to pontoon.publish.allow, if they should",
    ),
    (
        "not in the lists any more",
        "connections were cut by a change of allow lists, and their ends went on sending",
        "nothing: they give up",
    ),
    (
        "not in the egress list",
        "containers sent packets that their egress list does not allow",
        "add what they should reach to pontoon.egress.allow of the network or the container",
    ),
    (
        "not in the ingress list",
        "packets were sent to containers whose ingress list does not allow them",
        "add who should reach them to pontoon.ingress.allow of the network or the container",
    ),
    (
        "not redirected to Pontoon",
        "packets were sent to the port of this host at which Pontoon answers containers' DNS queries",
        "nothing to do: only redirected queries of containers are answered there; look for a program that scans ports",
    ),
    (
        "above pontoon.conn.rate",
        "containers opened or got more connections in a second than their limit",
        "raise pontoon.conn.rate of the network or the container, if they should",
    ),
    (
        "above pontoon.conn.max",
        "containers had as many connections as their limit, and more were tried",
        "raise pontoon.conn.max of the network or the container, if they should have more",
    ),
    (
        "all other traffic into a network",
        "packets were sent to ports of containers that are not published",
        "publish ports that should be reachable from other networks: docker run -p",
    ),
    (
        "unpublished ports of the engine",
        "containers sent packets to unpublished ports on networks of Docker's bridge driver",
        "publish them (docker run -p), or connect both containers to one network",
    ),
    (
        "foreign",
        "a container sent packets with an address that is not its own",
        "if it needs to: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "802.1",
        "a container sent frames with a VLAN tag",
        "if it needs to: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "link-local frames",
        "a container sent frames to bridges (STP, LLDP)",
        "if it needs to: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "neighbour discovery behind",
        "a container sent IPv6 neighbour discovery behind extension headers, where it cannot be checked",
        "operating systems do not do so: look for a program that forges packets",
    ),
    (
        "fragmented IGMP",
        "a container sent fragmented IGMP, which cannot be checked",
        "operating systems do not do so: look for a program that forges packets",
    ),
    (
        "rogue multicast",
        "a container sent messages of a multicast router (IGMP, MLD or PIM)",
        "if it is one: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "past the bridge, from a container",
        "packets of a container bypassed its bridge",
        "operating systems do not do so: look for a program that forges packets",
    ),
    (
        "past the bridge, from a tunnel",
        "packets from a tunnel bypassed its bridge",
        "operating systems do not do so: look for a program on another host that forges packets",
    ),
    (
        "between isolated containers, routed",
        "containers of a network with enable_icc=false sent packets to each other through the host",
        "publish the ports (docker run -p), or create the network without enable_icc=false",
    ),
    (
        "between isolated containers on a user's bridge",
        "containers of a network with enable_icc=false sent packets to each other through the host, on a bridge of yours",
        "publish the ports (docker run -p), or create the network without enable_icc=false",
    ),
    (
        "IPv4 between links",
        "IPv4 packets were not forwarded between two links that are not Pontoon's",
        "sysctl -w net.ipv4.ip_forward=1, if this host should route them",
    ),
    (
        "IPv6 between links",
        "IPv6 packets were not forwarded between two links that are not Pontoon's",
        "sysctl -w net.ipv6.conf.all.forwarding=1, if this host should route them",
    ),
    (
        "reset TCP connections",
        "connections to published ports were not translated to a container",
        "docs/ports.md lists the addresses where published ports are not reachable",
    ),
    (
        "reject UDP datagrams",
        "datagrams to published ports were not translated to a container",
        "docs/ports.md lists the addresses where published ports are not reachable",
    ),
    (
        "rogue router advertisement",
        "a container sent IPv6 router advertisements",
        "if it is a router: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "rogue ICMPv6 redirect",
        "a container sent ICMPv6 redirects",
        "if it needs to: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "broadcasts and multicasts with",
        "broadcasts and multicasts were not sent to other hosts, because of pontoon.multicast=false",
        "create the network without pontoon.multicast=false, if other hosts should receive them",
    ),
];

/// The chain whose rules reject packets with an answer.
const REFUSING: &str = "input_reject";

/// Rules that have findings of their own.
const REPORTED: &str = "senders that are not peers";

/// What drops of the rule with this comment mean, and the remedy if the packets are wanted.
pub fn meaning_of(rule: &str) -> Option<(&'static str, &'static str)> {
    MEANINGS.iter().find(|(start, ..)| rule.starts_with(start)).map(|(_, what, help)| (*what, *help))
}

/// What the drops of a rule mean, and the remedy if the packets are wanted.
pub fn meaning(dropped: &Dropped) -> (String, String) {
    let table = dropped.family;
    match meaning_of(&dropped.rule) {
        Some((what, help)) => (what.to_owned(), help.to_owned()),
        None => (
            format!("packets were dropped: {}", dropped.rule),
            format!("nft list chain {table} pontoon {}   # docs/firewall.md says what the rule is for", dropped.chain),
        ),
    }
}

pub(super) fn own(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let mut findings = Vec::new();
    for (address, number) in &host.unknown_senders {
        if facts.status.reach.as_ref().is_some_and(|reach| reach.peers.iter().any(|peer| peer.address == *address)) {
            // The sender has become a peer since.
            continue;
        }
        let networks = facts.status.networks.iter();
        let of =
            networks.filter(|network| network.overlay.as_ref().is_some_and(|overlay| overlay.vni.get() == *number));
        let name = of.map(super::host::short).next().unwrap_or_default();
        let title = format!(
            "host {address} sends to overlay network {name}, but is not a peer of this host: its packets are dropped"
        );
        let finding = Finding::new(Level::Degraded, title).seen(format!("VNI {number}, within the last hour"));
        findings.push(finding.mended_by(format!(
            "{}   # if the host is yours, in addition to the present peers; in a Swarm it has to join again\n\
             docker network create -o pontoon.peers={address} ...   # or for one network",
            settings(facts, &format!("PONTOON_PEERS={address}"))
        )));
    }
    for dropped in host.dropped.iter().filter(|dropped| !dropped.rule.contains(REPORTED)) {
        let (what, help) = meaning(dropped);
        let done = if dropped.chain == REFUSING { "refused" } else { "dropped" };
        let finding = Finding::new(Level::Note, format!("{what}: {done}"));
        let finding = finding
            .seen(format!("{} packets by the rule {:?} of chain {}", dropped.packets, dropped.rule, dropped.chain));
        findings.push(finding.mended_by(format!("# {help}")));
    }
    if findings.is_empty() { vec![Finding::ok("Pontoon's rules dropped no packets")] } else { findings }
}

pub(super) fn moved(facts: &Facts) -> Vec<Finding> {
    let Some(reach) = &facts.status.reach else { return Vec::new() };
    let Some(told) = reach.told.filter(|told| Some(*told) != reach.local) else {
        return vec![Finding::ok("the Swarm uses an address that this host has")];
    };
    let title = format!(
        "the Swarm uses {told} for this host, which does not have this address: other hosts send packets there"
    );
    let finding = Finding::new(Level::Note, title)
        .seen(format!("tunnels use {}", reach.local.map_or("no address".to_owned(), |local| local.to_string())));
    vec![finding.mended_by(format!(
        "systemctl restart docker   # if the address of this host changed: the Swarm announces the new one after a restart\n\
         # nothing, if {told} is translated on the way\n{}   # afterwards, to check",
        wiring::command(facts, "doctor --docker")
    ))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complete ruleset, as a test writes it from the kernel's state.
    const RULESET: &str =
        concat!(include_str!("../../tests/golden/ruleset.txt"), include_str!("../../tests/golden/limits.txt"));

    #[test]
    fn every_rule_that_counts_has_a_meaning_and_every_meaning_a_rule() {
        let counted = RULESET.lines().filter(|line| line.contains("counter packets "));
        let rules: Vec<&str> =
            counted.map(|line| line.split("comment \"").nth(1).unwrap().trim_end_matches('"')).collect();
        assert!(rules.len() > 50, "{rules:?}");
        for rule in rules.iter().filter(|rule| !rule.contains(REPORTED)) {
            assert!(MEANINGS.iter().any(|(start, ..)| rule.starts_with(start)), "what does {rule:?} mean?");
        }
        for (start, ..) in MEANINGS {
            assert!(rules.iter().any(|rule| rule.starts_with(start)), "no rule starts with {start:?}");
        }
    }
}
