//! Rules of table `bridge pontoon`: source address validation of checked ports, and filters at the tunnels. A
//! container may use only its own addresses, also in ARP and neighbour discovery. Frames of a gateway stay on
//! its host. Networks that keep broadcasts and multicasts on their hosts send only those for address
//! resolution into a tunnel.
//!
//! Pure. Part of `ruleset`. The first chain sees frames as they enter a bridge, before br_netfilter and
//! before the bridge learns from them; the second one sees them as they leave by a port, including those that
//! the host itself sends.

use crate::model::Family;
use nft::message::{BRIDGE, Chain};
use nft::{Direction, Expressions, Field, Side};

use super::ruleset::Rule;
use super::sets::Set;

/// `NF_BR_PRE_ROUTING`, with a priority before everything else (`NF_BR_PRI_NAT_DST_BRIDGED`).
pub const PREROUTING: Chain = Chain {
    family: BRIDGE,
    name: "prerouting_source",
    kind: "filter",
    hook: 0,
    priority: -300,
    comment: "source address validation; overlay gateways",
};

/// `NF_BR_POST_ROUTING`, with the usual priority of a filter (`NF_BR_PRI_FILTER_BRIDGED`).
pub const POSTROUTING: Chain = Chain {
    family: BRIDGE,
    name: "postrouting_tunnel",
    kind: "filter",
    hook: 4,
    priority: -200,
    comment: "broadcasts and multicasts into tunnels",
};

/// The group bit of a frame's destination address (IEEE 802: the lowest bit of the first byte, which is sent
/// first).
const SEVERAL: [u8; 6] = [1, 0, 0, 0, 0, 0];

/// EtherTypes.
pub(super) const IP: [u8; 2] = 0x0800u16.to_be_bytes();
pub(super) const ARP: [u8; 2] = 0x0806u16.to_be_bytes();
pub(super) const IPV6: [u8; 2] = 0x86ddu16.to_be_bytes();
const VLAN: [u8; 2] = 0x8100u16.to_be_bytes();
const VLAN_SERVICE: [u8; 2] = 0x88a8u16.to_be_bytes();
const VLAN_OLD_SERVICE: [u8; 2] = 0x9100u16.to_be_bytes();
/// The bits of a tag that are the VLAN id; the others are its priority.
const VLAN_ID: [u8; 2] = 0x0fffu16.to_be_bytes();

/// `PACKET_MULTICAST`: a frame to a group address that is not the broadcast address.
const FOR_SEVERAL: u8 = 2;

/// 01:80:c2:00:00:00 to 0f, which bridges use to talk to each other (IEEE 802.1Q, table 8-1).
const BRIDGES: ([u8; 6], u32) = ([0x01, 0x80, 0xc2, 0, 0, 0], 44);

/// Types of IGMP messages (RFC 2236, RFC 4286), and the protocol number of PIM.
const IGMP_QUERY: u8 = 0x11;
const IGMP_ROUTER: u8 = 0x30;
const PIM: u8 = 103;
/// Mask of a fragment: the flag for more fragments, and the offset.
const IS_FRAGMENT: [u8; 2] = 0x3fffu16.to_be_bytes();

/// Types of ICMPv6 messages (RFC 2710, RFC 3810, RFC 4286, RFC 4861).
const LISTENER_QUERY: u8 = 130;
const LISTENER_REPORT: u8 = 143;
const MULTICAST_ROUTER: u8 = 151;
const LAST_OF_LISTENERS: u8 = 132;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const fn rule(comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain: PREROUTING, comment, write }
}

pub(super) fn carries(rule: Expressions, what: [u8; 2]) -> Expressions {
    rule.is(Field::CARRIES, &what)
}

pub(super) fn message(rule: Expressions, kind: u8) -> Expressions {
    let rule = carries(rule, IPV6).is(Field::TRANSPORT, &[libc::IPPROTO_ICMPV6 as u8]);
    rule.is(Field::ICMPV6_TYPE, &[kind])
}

/// Matches frames to the bridges themselves.
pub(super) fn to_bridges(rule: Expressions) -> Expressions {
    rule.within(Field::FRAME_TARGET, &BRIDGES.0, BRIDGES.1)
}

/// Matches untagged frames of this EtherType with the container's own source hardware address and a unicast
/// destination: multicast queries are among the others.
fn own(rule: Expressions, what: [u8; 2]) -> Expressions {
    let rule = rule.link_name_starts(Direction::In, PORT).is(Field::FRAME_TYPE, &what);
    rule.is_not(Field::PACKET_TYPE, &[FOR_SEVERAL])
}

/// One look-up: each of a port's hardware addresses with each of its addresses is in this set.
fn own_address(rule: Expressions, sources: Set) -> Expressions {
    rule.key_in(&[Field::LINK, Field::FRAME_SOURCE, Side::Source.address(sources.family())], sources)
}

fn igmp(rule: Expressions) -> Expressions {
    carries(rule, IP).is(Field::TRANSPORT, &[libc::IPPROTO_IGMP as u8])
}

/// Name prefixes of all of Pontoon's links, of host ends (`LinkRole::Host`) and of tunnels
/// (`LinkRole::Vxlan`).
const OURS: &[u8] = b"pnt";
pub(super) const PORT: &[u8] = b"pnth";
pub(super) const TUNNEL: &[u8] = b"pntx";

/// An ARP request.
const QUESTION: [u8; 2] = 1u16.to_be_bytes();

const fn leaving(comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain: POSTROUTING, comment, write }
}

/// The chain of [`LEAVING`].
pub(super) static LEAVING_CHAINS: [Chain; 1] = [POSTROUTING];

/// Rules for frames that leave by a port, in order. Nearly every frame is unicast, and leaves the chain at
/// the first rule, or the third with IPv6: routers may send unicast advertisements (RFC 4861, 6.2.6).
pub static LEAVING: [Rule; 8] = [
    leaving("unicast, not IPv6", |rule| {
        rule.is_not(Field::CARRIES, &IPV6).without_bits(Field::FRAME_TARGET, &SEVERAL).accept()
    }),
    leaving("router advertisements with pontoon.ra=refuse", |rule| {
        message(rule, ROUTER_ADVERTISEMENT).link_in(Direction::Out, Set::NoRouterAdvertisements).drop()
    }),
    leaving("unicast", |rule| rule.without_bits(Field::FRAME_TARGET, &SEVERAL).accept()),
    leaving("ports other than tunnels with pontoon.multicast=false", |rule| {
        rule.link_not_in(Direction::Out, Set::NoMulticast).accept()
    }),
    leaving("ARP", |rule| carries(rule, ARP).accept()),
    leaving("neighbour solicitation", |rule| message(rule, NEIGHBOUR_SOLICITATION).accept()),
    leaving("neighbour advertisement", |rule| message(rule, NEIGHBOUR_ADVERTISEMENT).accept()),
    leaving("broadcasts and multicasts with pontoon.multicast=false", |rule| rule.counter().drop()),
];

/// Rules for frames that enter by a port, in order.
pub static RULES: [Rule; 37] = [
    // Nearly every frame matches, after one look-up; all rules that follow would accept it as well.
    rule("own IPv4 address", |rule| own_address(own(rule, IP), Set::Source4).accept()),
    rule("ports without source address validation", |rule| {
        rule.link_name_starts(Direction::In, PORT).link_not_in(Direction::In, Set::SpoofChecked).accept()
    }),
    rule("own IPv6 address", |rule| {
        let rule = own(rule, IPV6).is_not(Field::TRANSPORT, &[libc::IPPROTO_ICMPV6 as u8]);
        own_address(rule, Set::Source6).accept()
    }),
    rule("ports of other programs", |rule| rule.link_name_starts_not(Direction::In, OURS).accept()),
    // Records addresses that containers on other hosts announce: one that is in none of the network's subnets
    // belongs to a host with different subnets for it.
    rule("record IPv4 addresses announced by other hosts", |rule| {
        let rule = carries(rule, ARP).link_name_starts(Direction::In, TUNNEL);
        rule.add_to(&[Field::LINK, Field::ARP_ADDRESS], Set::Announced4)
    }),
    rule("record IPv6 addresses announced by other hosts", |rule| {
        let rule = message(rule, NEIGHBOUR_ADVERTISEMENT).link_name_starts(Direction::In, TUNNEL);
        rule.add_to(&[Field::LINK, Field::NEIGHBOUR], Set::Announced6)
    }),
    // Every host has the gateway, with the same addresses. Without these rules replies would come from all
    // hosts.
    rule("another host's gateway", |rule| {
        let rule = rule.link_name_starts(Direction::In, TUNNEL);
        rule.key_in(&[Field::LINK, Field::FRAME_SOURCE], Set::Gateways).drop()
    }),
    rule("ARP request for the gateway, from another host or to it", |rule| {
        let rule = carries(rule, ARP).is(Field::ARP_OPERATION, &QUESTION);
        rule.key_in(&[Field::LINK, Field::ARP_TARGET], Set::Gateway4).drop()
    }),
    rule("neighbour solicitation for the gateway, from another host or to it", |rule| {
        message(rule, NEIGHBOUR_SOLICITATION).key_in(&[Field::LINK, Field::NEIGHBOUR], Set::Gateway6).drop()
    }),
    rule("tunnels", |rule| rule.link_name_starts_not(Direction::In, PORT).accept()),
    rule("foreign MAC address", |rule| {
        rule.key_not_in(&[Field::LINK, Field::FRAME_SOURCE], Set::Macs).counter().drop()
    }),
    // With spanning tree off, or if its owner configures it so, a bridge forwards these frames.
    rule("link-local frames to bridges (STP, LLDP)", |rule| to_bridges(rule).counter().drop()),
    // The bridge takes them by their tag alone, and its VLANs have addresses that Pontoon does not know.
    rule("802.1Q tag of a VLAN that the port carries", |rule| {
        let single = [VLAN, VLAN_SERVICE, VLAN_OLD_SERVICE];
        let rule = rule.is(Field::FRAME_TYPE, &VLAN);
        let rule = single.iter().fold(rule, |rule, tag| rule.is_not(Field::TAGGED_TYPE, tag));
        rule.load(&[Field::TAG, Field::LINK]).mask(&VLAN_ID).lookup(Set::TrunkVlans, false).accept()
    }),
    // A receiver strips any number of tags (VLAN 0), and these rules may not see what is behind one. On a
    // bridge of the user a tag leads into another network.
    rule("802.1Q tag", |rule| rule.is(Field::FRAME_TYPE, &VLAN).counter().drop()),
    rule("802.1ad tag", |rule| rule.is(Field::FRAME_TYPE, &VLAN_SERVICE).counter().drop()),
    rule("802.1ad tag with EtherType 0x9100", |rule| rule.is(Field::FRAME_TYPE, &VLAN_OLD_SERVICE).counter().drop()),
    // A bridge that detects a multicast router no longer sends multicasts to ports without reports.
    rule("rogue multicast router, PIM", |rule| rule.is(Field::TRANSPORT, &[PIM]).counter().drop()),
    rule("fragmented IGMP", |rule| igmp(rule).with_bits(Field::FRAGMENT, &IS_FRAGMENT).counter().drop()),
    rule("rogue multicast querier, IGMP", |rule| igmp(rule).is(Field::IGMP_TYPE, &[IGMP_QUERY]).counter().drop()),
    rule("rogue multicast router, IGMP", |rule| igmp(rule).is(Field::IGMP_TYPE, &[IGMP_ROUTER]).counter().drop()),
    rule("any IPv4 address", |rule| carries(rule, IP).link_in(Direction::In, Set::AnyAddr4).accept()),
    rule("IPv4 without an address yet (DHCP)", |rule| {
        carries(rule, IP).is(Side::Source.address(Family::V4), &[0; 4]).accept()
    }),
    rule("foreign IPv4 address", |rule| {
        carries(rule, IP).key_not_in(&[Field::LINK, Side::Source.address(Family::V4)], Set::Addr4).counter().drop()
    }),
    rule("foreign MAC address in ARP", |rule| {
        carries(rule, ARP).key_not_in(&[Field::LINK, Field::ARP_MAC], Set::Macs).counter().drop()
    }),
    rule("any IPv4 address in ARP", |rule| carries(rule, ARP).link_in(Direction::In, Set::AnyAddr4).accept()),
    rule("ARP probe", |rule| carries(rule, ARP).is(Field::ARP_ADDRESS, &[0; 4]).accept()),
    rule("foreign IPv4 address in ARP", |rule| {
        carries(rule, ARP).key_not_in(&[Field::LINK, Field::ARP_ADDRESS], Set::Addr4).counter().drop()
    }),
    rule("rogue multicast querier, MLD", |rule| message(rule, LISTENER_QUERY).counter().drop()),
    rule("rogue multicast router, MLD", |rule| message(rule, MULTICAST_ROUTER).counter().drop()),
    rule("rogue router advertisement", |rule| message(rule, ROUTER_ADVERTISEMENT).counter().drop()),
    rule("rogue ICMPv6 redirect", |rule| message(rule, REDIRECT).counter().drop()),
    rule("any IPv6 address", |rule| carries(rule, IPV6).link_in(Direction::In, Set::AnyAddr6).accept()),
    // No legitimate sender does so, and the rules below expect the message directly after the IPv6 header.
    rule("neighbour discovery behind extension headers", |rule| {
        let icmp = [libc::IPPROTO_ICMPV6 as u8];
        let rule = carries(rule, IPV6).is(Field::TRANSPORT, &icmp).is_not(Field::NEXT_HEADER, &icmp);
        let rule = rule.above(Field::ICMPV6_TYPE, &[LAST_OF_LISTENERS]);
        rule.is_not(Field::ICMPV6_TYPE, &[LISTENER_REPORT]).counter().drop()
    }),
    rule("foreign IPv6 address in duplicate address detection", |rule| {
        let rule = message(rule, NEIGHBOUR_SOLICITATION).is(Side::Source.address(Family::V6), &[0; 16]);
        rule.key_not_in(&[Field::LINK, Field::NEIGHBOUR], Set::Addr6).counter().drop()
    }),
    rule("foreign IPv6 address in a neighbour advertisement", |rule| {
        let rule = message(rule, NEIGHBOUR_ADVERTISEMENT);
        rule.key_not_in(&[Field::LINK, Field::NEIGHBOUR], Set::Addr6).counter().drop()
    }),
    rule("IPv6 without an address yet", |rule| {
        carries(rule, IPV6).is(Side::Source.address(Family::V6), &[0; 16]).accept()
    }),
    rule("foreign IPv6 address", |rule| {
        carries(rule, IPV6).key_not_in(&[Field::LINK, Side::Source.address(Family::V6)], Set::Addr6).counter().drop()
    }),
];
