//! Checks what Pontoon's own rules dropped: how much, and what that means if the packets are wanted.

use super::overlay::settings;
use super::{Facts, Finding, Level, wiring};
use crate::datapath::host::Dropped;

/// The meaning of a rule's drops by the start of its comment, and the remedy if the packets are wanted.
const MEANINGS: &[(&str, &str, &str)] = &[
    (
        "the host's loopback addresses",
        "containers sent to 127.0.0.0/8 of the host",
        "a service for containers has to listen on the address of their gateway",
    ),
    (
        "nobody else sends from them",
        "containers sent from 127.0.0.0/8",
        "no program does so by mistake: look for one that forges",
    ),
    (
        "an IPv4 peer that does not come this way",
        "packets for overlay networks came with a peer's address by a link that leads to no peer",
        "a container forges, or the route to that peer is wrong: ip route get PEER",
    ),
    (
        "an IPv6 peer that does not come this way",
        "packets for overlay networks came with a peer's address by a link that leads to no peer",
        "a container forges, or the route to that peer is wrong: ip -6 route get PEER",
    ),
    (
        "this host itself",
        "packets for overlay networks came from this host itself",
        "take this host's own addresses out of PONTOON_PEERS and pontoon.peers",
    ),
    (
        "to another IPv",
        "packets for overlay networks came to another address of this host than its tunnels have",
        "name this host to the others by the address that its tunnels have: PONTOON_DATA_PATH here, PONTOON_PEERS there",
    ),
    (
        "a process of an IPv",
        "a peer's packets came from a port that any user may have, beside those of its tunnels",
        "a process there forges, or that host went back to an earlier release: then they pass after five minutes",
    ),
    (
        "to an IPv",
        "somebody sent to a peer's tunnels through this host: a container, or a machine behind it",
        "only the kernel's tunnels may; one of its own needs another port than the daemon's",
    ),
    (
        "to overlay networks, over",
        "somebody sent to overlay networks through this host: a container, or a machine behind it",
        "only the kernel's tunnels may; one of its own needs another number, or port",
    ),
    (
        "a process, to",
        "a process of this host, or of a container with its network, sent to overlay networks past the tunnels",
        "only the kernel's tunnels may; a program with tunnels of its own needs another port",
    ),
    (
        "nothing leaves an internal",
        "containers of internal networks sent to the outside",
        "docker network create without --internal",
    ),
    ("nothing enters an internal", "somebody sent into internal networks", "docker network create without --internal"),
    ("no loopback address comes", "somebody sent from 127.0.0.0/8 to containers", "look for a program that forges"),
    (
        "IPv4 sources that are not allowed",
        "clients that pontoon.publish.allow does not name asked for published ports",
        "name them in pontoon.publish.allow, if they should",
    ),
    (
        "IPv6 sources that are not allowed",
        "clients that pontoon.publish.allow does not name asked for published ports",
        "name them in pontoon.publish.allow, if they should",
    ),
    (
        "nothing else enters a network",
        "somebody sent to containers past their published ports",
        "docker run -p for what should be reached from outside its network",
    ),
    (
        "only published ports of the engine",
        "containers sent to networks of Docker's own driver past published ports",
        "docker run -p for what should be reached, or put both on one network",
    ),
    (
        "another's",
        "a container sent from an address that is not its own",
        "a program that needs it: docker network create -o pontoon.spoofcheck=false",
    ),
    (
        "a VLAN",
        "a container sent frames with a VLAN tag",
        "docker network create -o pontoon.spoofcheck=false, if it should",
    ),
    (
        "what bridges tell each other",
        "a container sent frames for bridges (spanning tree, LLDP)",
        "docker network create -o pontoon.spoofcheck=false, if it should",
    ),
    (
        "neighbour discovery behind",
        "a container sent IPv6 neighbour discovery behind other headers, where it cannot be checked",
        "no system does so by itself: look for a program that forges",
    ),
    (
        "IGMP in fragments",
        "a container sent IGMP in fragments, where it cannot be checked",
        "no system does so by itself: look for a program that forges",
    ),
    (
        "a multicast",
        "a container sent what only multicast routers send (IGMP or PIM)",
        "docker network create -o pontoon.spoofcheck=false, if it is one",
    ),
    (
        "an IPv6 multicast",
        "a container sent what only multicast routers send (MLD)",
        "docker network create -o pontoon.spoofcheck=false, if it is one",
    ),
    (
        "containers speak to the host by their bridge",
        "packets reached the host by a container's port, past its bridge",
        "no system does so by itself: look for a program that forges",
    ),
    (
        "and so do other hosts",
        "packets reached the host by a tunnel, past its bridge",
        "no system does so by itself: look for a program that forges on another host",
    ),
    (
        "containers that are apart",
        "containers of networks with enable_icc=false sent to each other through the host",
        "docker run -p for what they should reach, or docker network create without enable_icc=false",
    ),
    (
        "the same on a bridge of the user's",
        "containers of networks with enable_icc=false sent to each other through the host, on a bridge of yours",
        "docker run -p for what they should reach, or docker network create without enable_icc=false",
    ),
    (
        "IPv4 between links",
        "IPv4 packets came by one link of this host for another, and neither is Pontoon's",
        "sysctl -w net.ipv4.ip_forward=1, if this host should be a router for them",
    ),
    (
        "IPv6 between links",
        "IPv6 packets came by one link of this host for another, and neither is Pontoon's",
        "sysctl -w net.ipv6.conf.all.forwarding=1, if this host should be a router for them",
    ),
    (
        "a connection is reset",
        "connections to published ports were not led to a container",
        "docs/ports.md lists the addresses at which a published port is not reached",
    ),
    (
        "a datagram is unreachable",
        "datagrams to published ports were not led to a container",
        "docs/ports.md lists the addresses at which a published port is not reached",
    ),
    (
        "a router that is none",
        "a container announced itself as an IPv6 router",
        "docker network create -o pontoon.spoofcheck=false, if it is one",
    ),
    (
        "a better way that is none",
        "a container told others of a better way (ICMPv6 redirect)",
        "docker network create -o pontoon.spoofcheck=false, if it should",
    ),
    (
        "broadcasts and multicasts that stay",
        "broadcasts and multicasts stayed on this host, as pontoon.multicast=false says",
        "docker network create without pontoon.multicast=false, if others should hear them",
    ),
];

/// The chain whose rules reject packets with an answer.
const REFUSING: &str = "input_refuse";

/// Rules that have findings of their own.
const TOLD: &str = "hosts that are no peers";

fn meaning(dropped: &Dropped) -> (String, String) {
    let known = MEANINGS.iter().find(|(start, _, _)| dropped.rule.starts_with(start));
    let table = if dropped.of_inet { "inet" } else { "bridge" };
    match known {
        Some((_, what, help)) => ((*what).to_owned(), (*help).to_owned()),
        None => (
            format!("packets were dropped: {}", dropped.rule),
            format!("nft list chain {table} pontoon {}   # docs/firewall.md says what the rule is for", dropped.chain),
        ),
    }
}

pub(super) fn own(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    let mut findings = Vec::new();
    for (address, number) in &host.strangers {
        if facts.status.reach.as_ref().is_some_and(|reach| reach.peers.iter().any(|peer| peer.address == *address)) {
            // The sender has become a peer since.
            continue;
        }
        let networks = facts.status.networks.iter();
        let of =
            networks.filter(|network| network.overlay.as_ref().is_some_and(|overlay| overlay.vni.get() == *number));
        let name = of.map(super::host::short).next().unwrap_or_default();
        let title =
            format!("host {address} sends to overlay network {name} and is no peer of this host: it is dropped");
        let finding = Finding::new(Level::Degraded, title).seen(format!("VNI {number}, within the last hour"));
        findings.push(finding.mended_by(format!(
            "{}   # if it is yours, beside those that are named already; in a Swarm it has to join again\n\
             docker network create -o pontoon.peers={address} ...   # or for one network",
            settings(facts, &format!("PONTOON_PEERS={address}"))
        )));
    }
    for dropped in host.dropped.iter().filter(|dropped| !dropped.rule.contains(TOLD)) {
        let (what, help) = meaning(dropped);
        let done = if dropped.chain == REFUSING { "refused" } else { "dropped" };
        let finding = Finding::new(Level::Note, format!("{what}: {done}"));
        let finding = finding
            .seen(format!("{} packets by the rule {:?} of chain {}", dropped.packets, dropped.rule, dropped.chain));
        findings.push(finding.mended_by(format!("# {help}")));
    }
    if findings.is_empty() { vec![Finding::ok("Pontoon's own rules dropped nothing")] } else { findings }
}

pub(super) fn moved(facts: &Facts) -> Vec<Finding> {
    let Some(reach) = &facts.status.reach else { return Vec::new() };
    let Some(told) = reach.told.filter(|told| Some(*told) != reach.local) else {
        return vec![Finding::ok("the Swarm knows this host by an address that it has")];
    };
    let title = format!("the Swarm knows this host by {told}, which it does not have: other hosts send there");
    let finding = Finding::new(Level::Note, title)
        .seen(format!("tunnels leave from {}", reach.local.map_or("nowhere".to_owned(), |local| local.to_string())));
    vec![finding.mended_by(format!(
        "systemctl restart docker   # if the address of this host changed: the Swarm announces the new one only then\n\
         # nothing, if {told} is translated on the way\n{}   # after that, where tunnels should leave from another",
        wiring::command(facts, "doctor --docker")
    ))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complete ruleset, as a test writes it from the kernel's state.
    const RULESET: &str = include_str!("../../tests/golden/nothing.txt");

    #[test]
    fn every_rule_that_counts_has_a_meaning_and_every_meaning_a_rule() {
        let counted = RULESET.lines().filter(|line| line.contains("counter packets "));
        let rules: Vec<&str> =
            counted.map(|line| line.split("comment \"").nth(1).unwrap().trim_end_matches('"')).collect();
        assert!(rules.len() > 50, "{rules:?}");
        for rule in rules.iter().filter(|rule| !rule.contains(TOLD)) {
            assert!(MEANINGS.iter().any(|(start, ..)| rule.starts_with(start)), "what does {rule:?} mean?");
        }
        for (start, ..) in MEANINGS {
            assert!(rules.iter().any(|rule| rule.starts_with(start)), "no rule starts with {start:?}");
        }
    }
}
