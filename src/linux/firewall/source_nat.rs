//! Rules of chain `postrouting_nat`: which connections get another source address.
//!
//! Pure. Used by `ruleset`.

use nft::{Direction, Expressions, Side};

use super::ruleset::{LOOPBACK4, LOOPBACK6, POSTROUTING, Rule, rule};
use super::sets::Set;
use crate::model::Family::{self, V4, V6};
use crate::model::ifname::HOST_LINK;

/// Matches a connection to a published port from this set of addresses.
fn published_from(rule: Expressions, clients: Set) -> Expressions {
    rule.is_dnat().family(clients.family()).key_in(&[Side::Source.address(clients.family())], clients)
}

/// Matches a connection from a container to a published port of one on a bridge of the user.
fn published_to(rule: Expressions, guests: Set) -> Expressions {
    let rule = rule.is_dnat().family(guests.family()).link_in(Direction::In, Set::ContainerBridges);
    rule.key_in(&[Side::Destination.address(guests.family())], guests)
}

/// Matches packets from one Pontoon network to another, without translated destination.
fn between(rule: Expressions, family: Family) -> Expressions {
    let rule = rule.family(family).link_in(Direction::In, Set::Bridges).link_in(Direction::Out, Set::Bridges);
    rule.links_not_in(Set::IntraNetwork)
}

/// Matches traffic that leaves Pontoon's networks.
fn leaving(rule: Expressions, family: Family) -> Expressions {
    rule.family(family).link_not_in(Direction::Out, Set::Bridges)
}

/// Masquerades packets from these subnets.
fn hidden(rule: Expressions, subnets: Set) -> Expressions {
    rule.key_in(&[Side::Source.address(subnets.family())], subnets).masquerade()
}

/// Translates the source of packets from a subnet to the address that the map has for it.
fn chosen(rule: Expressions, map: Set) -> Expressions {
    rule.snat_to(&[Side::Source.address(map.family())], map)
}

/// All of them, in order.
pub(super) static RULES: [Rule; 19] = [
    rule(POSTROUTING, "from 127.0.0.0/8 to published ports", |rule| {
        let rule = rule.family(V4).within(Side::Source.address(V4), &[127, 0, 0, 0], LOOPBACK4);
        rule.is_dnat().link_in(Direction::Out, Set::Bridges).masquerade()
    }),
    rule(POSTROUTING, "from ::1 to published ports", |rule| {
        let rule = rule.family(V6).is(Side::Source.address(V6), &LOOPBACK6);
        rule.is_dnat().link_in(Direction::Out, Set::Bridges).masquerade()
    }),
    // A container on a parent would reply to the client directly, bypassing the translation.
    rule(POSTROUTING, "to published ports on a host link", |rule| {
        rule.link_name_starts(Direction::Out, HOST_LINK.as_bytes()).is_dnat().masquerade()
    }),
    // The container may be on the client's network as well, and would reply there directly, bypassing the
    // translation.
    rule(POSTROUTING, "from containers to published ports", |rule| {
        rule.is_dnat().link_in(Direction::In, Set::ContainerBridges).link_in(Direction::Out, Set::Bridges).masquerade()
    }),
    // With br_netfilter such a packet is translated without leaving the bridge: it has no incoming link then,
    // although it is not the host's.
    rule(POSTROUTING, "from containers to published ports, with bridge-nf-call-iptables", |rule| {
        let rule = rule.has_no_link(Direction::In).link_in(Direction::Out, Set::Bridges).is_dnat();
        rule.local(Side::Source, false).masquerade()
    }),
    rule(POSTROUTING, "from containers on a user's bridge to published ports, IPv4", |rule| {
        published_from(rule, Set::UserBridgeContainer4).masquerade()
    }),
    rule(POSTROUTING, "from containers on a user's bridge to published ports, IPv6", |rule| {
        published_from(rule, Set::UserBridgeContainer6).masquerade()
    }),
    rule(POSTROUTING, "from containers to published ports on a user's bridge, IPv4", |rule| {
        published_to(rule, Set::UserBridgeContainer4).masquerade()
    }),
    rule(POSTROUTING, "from containers to published ports on a user's bridge, IPv6", |rule| {
        published_to(rule, Set::UserBridgeContainer6).masquerade()
    }),
    rule(POSTROUTING, "from a bridge's IPv4 address to published ports of another network", |rule| {
        published_from(rule.has_no_link(Direction::In), Set::BridgeAddress4).masquerade()
    }),
    rule(POSTROUTING, "from a bridge's IPv6 address to published ports of another network", |rule| {
        published_from(rule.has_no_link(Direction::In), Set::BridgeAddress6).masquerade()
    }),
    rule(POSTROUTING, "IPv4 between networks, host_ipv4", |rule| chosen(between(rule, V4), Set::Snat4)),
    rule(POSTROUTING, "IPv6 between networks, host_ipv6", |rule| chosen(between(rule, V6), Set::Snat6)),
    rule(POSTROUTING, "IPv4 between networks", |rule| hidden(between(rule, V4), Set::Masq4)),
    rule(POSTROUTING, "IPv6 between networks", |rule| hidden(between(rule, V6), Set::Masq6)),
    rule(POSTROUTING, "outbound IPv4, host_ipv4", |rule| chosen(leaving(rule, V4), Set::Snat4)),
    rule(POSTROUTING, "outbound IPv6, host_ipv6", |rule| chosen(leaving(rule, V6), Set::Snat6)),
    rule(POSTROUTING, "outbound IPv4", |rule| hidden(leaving(rule, V4), Set::Masq4)),
    rule(POSTROUTING, "outbound IPv6", |rule| hidden(leaving(rule, V6), Set::Masq6)),
];
