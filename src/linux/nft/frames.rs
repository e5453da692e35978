//! Owns the rules of table `bridge pontoon`: frames that a checked port may send, and what does
//! not come out of a tunnel. A container uses its own addresses, and speaks in ARP and neighbour
//! discovery only for those. A gateway serves its own host. And what does not go into a
//! tunnel: of networks that keep broadcasts and multicasts on their hosts, all but what finds
//! addresses.
//!
//! Pure. Part of `ruleset`. Frames come to the first chain as they enter a bridge, before
//! br_netfilter and before the bridge learns anything from them; to the second one as they leave by
//! a port, those that the host itself says among them.

use super::element::Set;
use super::expression::{Direction, Expressions, Part, Side};
use super::message::{BRIDGE, Chain};
use super::ruleset::{LINK_LOCAL, Rule};

/// `NF_BR_PRE_ROUTING` and a place before everything else (`NF_BR_PRI_NAT_DST_BRIDGED`).
pub const PREROUTING: Chain = Chain {
    family: BRIDGE,
    name: "prerouting_source",
    kind: "filter",
    hook: 0,
    priority: -300,
    comment: "what a checked port may send",
};

/// `NF_BR_POST_ROUTING`, at the usual place of a filter (`NF_BR_PRI_FILTER_BRIDGED`).
pub const POSTROUTING: Chain = Chain {
    family: BRIDGE,
    name: "postrouting_tunnel",
    kind: "filter",
    hook: 4,
    priority: -200,
    comment: "what leaves by a tunnel",
};

/// The bit of a frame's receiver that says that there may be several (IEEE 802: the lowest of the
/// first byte, which is sent first).
const SEVERAL: [u8; 6] = [1, 0, 0, 0, 0, 0];

/// What an Ethernet frame carries.
pub(super) const IP: [u8; 2] = 0x0800u16.to_be_bytes();
const ARP: [u8; 2] = 0x0806u16.to_be_bytes();
pub(super) const IPV6: [u8; 2] = 0x86ddu16.to_be_bytes();
const VLAN: [u8; 2] = 0x8100u16.to_be_bytes();
const VLAN_SERVICE: [u8; 2] = 0x88a8u16.to_be_bytes();

/// Types of ICMPv6 messages (RFC 4861).
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const fn rule(comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain: PREROUTING, comment, write }
}

pub(super) fn carries(rule: Expressions, what: [u8; 2]) -> Expressions {
    rule.is(Part::CARRIES, &what)
}

fn message(rule: Expressions, kind: u8) -> Expressions {
    let rule = carries(rule, IPV6).is(Part::TRANSPORT, &[libc::IPPROTO_ICMPV6 as u8]);
    rule.is(Part::ICMPV6_TYPE, &[kind])
}

/// How the names of tunnels start (`LinkRole::Vxlan`).
const TUNNEL: &[u8] = b"pntx";

/// An ARP question.
const QUESTION: [u8; 2] = 1u16.to_be_bytes();

const fn leaving(comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain: POSTROUTING, comment, write }
}

/// What leaves by a port, in order. Nearly every frame has one receiver, and goes no further.
pub static LEAVING: [Rule; 6] = [
    leaving("for one receiver", |rule| rule.without_bits(Part::FRAME_TARGET, &SEVERAL).accept()),
    leaving("tunnels that carry all, and other ports", |rule| rule.link_not_in(Direction::Out, Set::Quiet).accept()),
    leaving("who has an IPv4 address", |rule| carries(rule, ARP).accept()),
    leaving("who has an IPv6 address", |rule| message(rule, NEIGHBOUR_SOLICITATION).accept()),
    leaving("where an IPv6 address is now", |rule| message(rule, NEIGHBOUR_ADVERTISEMENT).accept()),
    leaving("broadcasts and multicasts that stay on their host", |rule| rule.counter().drop()),
];

/// What enters by a port, in order.
pub static RULES: [Rule; 22] = [
    // Each host has the gateway, with the same addresses. Its answer would come from everywhere.
    // The name is looked at first: frames of containers need not pay for the set.
    rule("another host's gateway", |rule| {
        let rule = rule.link_starts(Direction::In, TUNNEL);
        rule.key_in(&[Part::LINK, Part::FRAME_SOURCE], Set::Gateways).drop()
    }),
    rule("who asks for an IPv4 gateway has one", |rule| {
        let rule = carries(rule, ARP).is(Part::ARP_OPERATION, &QUESTION);
        rule.key_in(&[Part::LINK, Part::ARP_TARGET], Set::Gateway4).drop()
    }),
    rule("who asks for an IPv6 gateway has one", |rule| {
        message(rule, NEIGHBOUR_SOLICITATION).key_in(&[Part::LINK, Part::NEIGHBOUR], Set::Gateway6).drop()
    }),
    rule("ports that are not checked", |rule| rule.link_not_in(Direction::In, Set::Checked).accept()),
    // Nearly every frame, after three look-ups; all that follows would let it pass as well.
    rule("its own IPv4 address", |rule| {
        let rule = carries(rule, IP).key_in(&[Part::LINK, Part::FRAME_SOURCE], Set::Macs);
        rule.key_in(&[Part::LINK, Side::Source.address(false)], Set::Addr4).accept()
    }),
    rule("another's hardware address", |rule| {
        rule.key_not_in(&[Part::LINK, Part::FRAME_SOURCE], Set::Macs).counter().drop()
    }),
    // The kernel has taken off the first tag. One more would hide what is behind it from these
    // rules, while a receiver takes off as many as there are (VLAN 0).
    rule("a tag within a tag", |rule| carries(rule, VLAN).counter().drop()),
    rule("a tag within a service tag", |rule| carries(rule, VLAN_SERVICE).counter().drop()),
    rule("any IPv4 address", |rule| carries(rule, IP).link_in(Direction::In, Set::Any4).accept()),
    rule("DHCP, before there is an address", |rule| {
        carries(rule, IP).is(Side::Source.address(false), &[0; 4]).accept()
    }),
    rule("another's IPv4 address", |rule| {
        carries(rule, IP).key_not_in(&[Part::LINK, Side::Source.address(false)], Set::Addr4).counter().drop()
    }),
    rule("another's hardware address in ARP", |rule| {
        carries(rule, ARP).key_not_in(&[Part::LINK, Part::ARP_MAC], Set::Macs).counter().drop()
    }),
    rule("any IPv4 address in ARP", |rule| carries(rule, ARP).link_in(Direction::In, Set::Any4).accept()),
    rule("a probe whether an address is free", |rule| carries(rule, ARP).is(Part::ARP_ADDRESS, &[0; 4]).accept()),
    rule("another's IPv4 address in ARP", |rule| {
        carries(rule, ARP).key_not_in(&[Part::LINK, Part::ARP_ADDRESS], Set::Addr4).counter().drop()
    }),
    rule("a router that is none", |rule| message(rule, ROUTER_ADVERTISEMENT).counter().drop()),
    rule("a better way that is none", |rule| message(rule, REDIRECT).counter().drop()),
    rule("any IPv6 address", |rule| carries(rule, IPV6).link_in(Direction::In, Set::Any6).accept()),
    rule("another's IPv6 address in neighbour discovery", |rule| {
        let rule = message(rule, NEIGHBOUR_ADVERTISEMENT).outside(Part::NEIGHBOUR, &LINK_LOCAL.0, LINK_LOCAL.1);
        rule.key_not_in(&[Part::LINK, Part::NEIGHBOUR], Set::Addr6).counter().drop()
    }),
    rule("link-local addresses", |rule| {
        carries(rule, IPV6).within(Side::Source.address(true), &LINK_LOCAL.0, LINK_LOCAL.1).accept()
    }),
    rule("IPv6, before there is an address", |rule| {
        carries(rule, IPV6).is(Side::Source.address(true), &[0; 16]).accept()
    }),
    rule("another's IPv6 address", |rule| {
        carries(rule, IPV6).key_not_in(&[Part::LINK, Side::Source.address(true)], Set::Addr6).counter().drop()
    }),
];
