//! Rules about who may talk to whom within a bridge. Connection tracking of bridges exists since Linux 5.3 and not in
//! every kernel, and br_netfilter may be turned on and off by others, so these rules depend on neither: flows that
//! both ends' lists allowed are recorded in sets whose elements expire.
//!
//! A TCP connection is forgotten when it has been idle for three hours, or a minute after it was closed or reset; other
//! flows after three minutes. After that, packets are evaluated again. Echo replies and errors may be sent to addresses
//! from which a packet came within three minutes.
//!
//! Pure. Part of `access_rules`.

use crate::model::Family::{self, V4, V6};
use nft::message::{BRIDGE, Chain};
use nft::{Direction, Expressions, Field, Side};

use super::access_rules::{
    NOT_IN_EGRESS, NOT_IN_INGRESS, OPENING, arp, dhcp_reply, dhcp_request, discovery, igmp, listener_report, listeners,
    of_family,
};
use super::ruleset::Rule;
use super::sets::{FLOW_TIMEOUT, Set};

/// `NF_BR_LOCAL_IN` and `NF_BR_FORWARD`.
const TO_HOST: u32 = 1;
const WITHIN: u32 = 2;

const fn chain(name: &'static str, hook: u32, priority: i32, comment: &'static str) -> Chain {
    Chain { family: BRIDGE, name, kind: "filter", hook, priority, comment }
}

pub(super) const LOCAL: Chain = chain(
    "bridge_local",
    TO_HOST,
    -200,
    "what containers with an egress list may send to the host without their address",
);
pub(super) const EGRESS: Chain =
    chain("bridge_egress", WITHIN, -200, "what containers with an egress list may reach on their bridge");
pub(super) const INGRESS: Chain =
    chain("bridge_ingress", WITHIN, -199, "what may reach containers with an ingress list on their bridge");
/// After both: `audit_rules` has two chains from here on.
pub(super) const AFTER_LISTS: i32 = -198;
/// After these: only what both ends allow is recorded.
pub(super) const FLOWS: Chain = chain("bridge_flows", WITHIN, -196, "record flows that lists allowed");

/// Types of ICMP and ICMPv6 messages (RFC 792, RFC 4443).
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const AFTER_ERRORS6: u8 = 5;
const ECHO_REPLY6: u8 = 129;

/// The offset of an IPv4 fragment.
const FRAGMENT_OFFSET: [u8; 2] = 0x1fffu16.to_be_bytes();

/// FIN and RST.
const ENDING: [u8; 1] = [0x05];
/// IPv4 packets of this length, and IPv6 packets with this payload, are more than an acknowledgement: those must not
/// extend the time of a connection that was closed.
const MORE_THAN_ACK4: [u8; 2] = 81u16.to_be_bytes();
const MORE_THAN_ACK6: [u8; 2] = 61u16.to_be_bytes();
/// The group bit of a frame's destination address.
const SEVERAL: [u8; 6] = [1, 0, 0, 0, 0, 0];

/// Timeouts in milliseconds.
const CLOSED: u64 = 60_000;
const DATAGRAMS: u64 = 180_000;

const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const SCTP: u8 = libc::IPPROTO_SCTP as u8;
const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;

fn flows(family: Family) -> Set {
    family.choose(Set::Flows4, Set::Flows6)
}

/// The key of the flow that a packet belongs to, and that of its replies.
pub(super) fn keys(family: Family) -> [[Field; 5]; 2] {
    let (from, to) = (Side::Source.address(family), Side::Destination.address(family));
    [
        [from, to, Field::TRANSPORT, Field::SOURCE_PORT, Field::PORT],
        [to, from, Field::TRANSPORT, Field::PORT, Field::SOURCE_PORT],
    ]
}

pub(super) fn tracked(rule: Expressions, family: Family) -> Expressions {
    of_family(rule, family).key_in(&keys(family)[0], flows(family)).accept()
}

/// Matches packets to an address from which packets recently came.
fn to_partner(rule: Expressions, family: Family) -> Expressions {
    rule.key_in(&[Side::Source.address(family), Side::Destination.address(family)], partners(family)).accept()
}

fn partners(family: Family) -> Set {
    family.choose(Set::Partners4, Set::Partners6)
}

pub(super) fn echo_reply(rule: Expressions, family: Family) -> Expressions {
    let (protocol, kind) = family.choose((ICMP, ECHO_REPLY), (ICMPV6, ECHO_REPLY6));
    let rule = of_family(rule, family).is(Field::TRANSPORT, &[protocol]).is(Field::ICMP_TYPE, &[kind]);
    to_partner(rule, family)
}

pub(super) fn error(rule: Expressions, family: Family) -> Expressions {
    let rule = of_family(rule, family);
    let rule = match family {
        V4 => rule.is(Field::TRANSPORT, &[ICMP]).is(Field::ICMP_TYPE, &[UNREACHABLE]),
        V6 => rule.is(Field::TRANSPORT, &[ICMPV6]).below(Field::ICMPV6_TYPE, &[AFTER_ERRORS6]),
    };
    to_partner(rule, family)
}

/// What a later fragment has where others have ports is chosen by its sender, and some kernels read it as ports.
pub(super) fn is_later_fragment(rule: Expressions) -> Expressions {
    of_family(rule, V4).with_bits(Field::FRAGMENT, &FRAGMENT_OFFSET)
}

fn later_fragment(rule: Expressions) -> Expressions {
    is_later_fragment(rule).counter().drop()
}

pub(super) fn allowed(rule: Expressions, egress: bool, family: Family) -> Expressions {
    let (own, peer) = if egress { (Side::Source, Side::Destination) } else { (Side::Destination, Side::Source) };
    let set = match (egress, family) {
        (true, V4) => Set::BridgeEgress4,
        (true, V6) => Set::BridgeEgress6,
        (false, V4) => Set::BridgeIngress4,
        (false, V6) => Set::BridgeIngress6,
    };
    let key = [own.address(family), Field::TRANSPORT, Field::PORT, peer.address(family)];
    of_family(rule, family).key_in(&key, set).accept()
}

const fn rule(chain: Chain, comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain, comment, write }
}

/// What the chains decide by their lists, in order.
pub(super) static RULES: [Rule; 43] = [
    rule(LOCAL, "containers without a list", |rule| rule.link_not_in(Direction::In, Set::EgressPorts).accept()),
    // Packets with other source addresses are looked up by their address.
    rule(LOCAL, "DHCP", |rule| dhcp_request(of_family(rule, V4), V4)),
    rule(LOCAL, "DHCPv6", |rule| dhcp_request(of_family(rule, V6), V6)),
    rule(LOCAL, "ICMPv6", |rule| of_family(rule, V6).is(Field::TRANSPORT, &[ICMPV6]).accept()),
    rule(LOCAL, "not in the egress list: IPv4 without an address", |rule| {
        of_family(rule, V4).is(Side::Source.address(V4), &[0; 4]).counter().drop()
    }),
    rule(LOCAL, "not in the egress list: IPv6 without an address", |rule| {
        of_family(rule, V6).is(Side::Source.address(V6), &[0; 16]).counter().drop()
    }),
    rule(LOCAL, "not in the egress list: from a link-local address", |rule| {
        let (network, prefix) = super::ruleset::LINK_LOCAL;
        of_family(rule, V6).within(Side::Source.address(V6), &network, prefix).counter().drop()
    }),
    rule(EGRESS, "from containers without a list", |rule| rule.link_not_in(Direction::In, Set::EgressPorts).accept()),
    rule(EGRESS, "ARP", arp),
    rule(EGRESS, "not in the egress list: later fragments", later_fragment),
    rule(EGRESS, "tracked IPv4 flows", |rule| tracked(rule, V4)),
    rule(EGRESS, "tracked IPv6 flows", |rule| tracked(rule, V6)),
    rule(EGRESS, "replies to IPv4 echo requests", |rule| echo_reply(rule, V4)),
    rule(EGRESS, "replies to IPv6 echo requests", |rule| echo_reply(rule, V6)),
    rule(EGRESS, "IPv4 errors", |rule| error(rule, V4)),
    rule(EGRESS, "IPv6 errors", |rule| error(rule, V6)),
    rule(EGRESS, "neighbour discovery", |rule| discovery(of_family(rule, V6))),
    rule(EGRESS, "listener discovery", |rule| listeners(of_family(rule, V6))),
    rule(EGRESS, "listener reports", |rule| listener_report(of_family(rule, V6))),
    rule(EGRESS, "IGMP", |rule| igmp(of_family(rule, V4))),
    rule(EGRESS, "DHCP", |rule| dhcp_request(of_family(rule, V4), V4)),
    rule(EGRESS, "DHCPv6", |rule| dhcp_request(of_family(rule, V6), V6)),
    rule(EGRESS, "allowed IPv4 addresses", |rule| allowed(rule, true, V4)),
    rule(EGRESS, "allowed IPv6 addresses", |rule| allowed(rule, true, V6)),
    rule(EGRESS, NOT_IN_EGRESS, |rule| rule.counter().drop()),
    rule(INGRESS, "to containers without a list", |rule| rule.link_not_in(Direction::Out, Set::IngressPorts).accept()),
    rule(INGRESS, "ARP", arp),
    rule(INGRESS, "not in the ingress list: later fragments", later_fragment),
    rule(INGRESS, "tracked IPv4 flows", |rule| tracked(rule, V4)),
    rule(INGRESS, "tracked IPv6 flows", |rule| tracked(rule, V6)),
    rule(INGRESS, "replies to IPv4 echo requests", |rule| echo_reply(rule, V4)),
    rule(INGRESS, "replies to IPv6 echo requests", |rule| echo_reply(rule, V6)),
    rule(INGRESS, "IPv4 errors", |rule| error(rule, V4)),
    rule(INGRESS, "IPv6 errors", |rule| error(rule, V6)),
    rule(INGRESS, "neighbour discovery", |rule| discovery(of_family(rule, V6))),
    rule(INGRESS, "listener discovery", |rule| listeners(of_family(rule, V6))),
    rule(INGRESS, "listener reports", |rule| listener_report(of_family(rule, V6))),
    rule(INGRESS, "IGMP", |rule| igmp(of_family(rule, V4))),
    rule(INGRESS, "DHCP", |rule| dhcp_reply(of_family(rule, V4), V4)),
    rule(INGRESS, "DHCPv6", |rule| dhcp_reply(of_family(rule, V6), V6)),
    rule(INGRESS, "allowed IPv4 addresses", |rule| allowed(rule, false, V4)),
    rule(INGRESS, "allowed IPv6 addresses", |rule| allowed(rule, false, V6)),
    rule(INGRESS, NOT_IN_INGRESS, |rule| rule.counter().drop()),
];

/// Records a flow in both directions; each packet restarts its time.
fn record(rule: Expressions, keys: [[Field; 5]; 2], family: Family, milliseconds: u64) -> Expressions {
    keys.iter().fold(rule, |rule, key| rule.update_in(key, flows(family), milliseconds))
}

fn tcp(rule: Expressions, family: Family) -> Expressions {
    of_family(rule, family).is(Field::TRANSPORT, &[TCP])
}

/// Segments of connections that were cut, unless they have been opened again. The other end would take them up otherwise.
fn cut(rule: Expressions, family: Family) -> Expressions {
    let rule = tcp(rule, family).key_in(&keys(family)[0], family.choose(Set::BridgeCut4, Set::BridgeCut6));
    rule.key_not_in(&keys(family)[0], flows(family)).without_bits(Field::TCP_FLAGS, &OPENING).counter().drop()
}

fn tcp_data(rule: Expressions, family: Family) -> Expressions {
    let (length, least) = family.choose((Field::LENGTH4, MORE_THAN_ACK4), (Field::LENGTH6, MORE_THAN_ACK6));
    let rule = tcp(rule, family).without_bits(Field::TCP_FLAGS, &ENDING).at_least(length, &least);
    record(rule, keys(family), family, FLOW_TIMEOUT)
}

fn tcp_end(rule: Expressions, family: Family) -> Expressions {
    record(tcp(rule, family).with_bits(Field::TCP_FLAGS, &ENDING), keys(family), family, CLOSED)
}

/// Records a connection that is not recorded, and leaves the time of one that is.
fn tcp_other(rule: Expressions, family: Family) -> Expressions {
    let rule = tcp(rule, family).without_bits(Field::TCP_FLAGS, &ENDING);
    keys(family).iter().fold(rule, |rule, key| rule.add_to(key, flows(family)))
}

fn datagram(rule: Expressions, family: Family, protocol: u8) -> Expressions {
    record(of_family(rule, family).is(Field::TRANSPORT, &[protocol]), keys(family), family, DATAGRAMS)
}

fn partner(rule: Expressions, family: Family) -> Expressions {
    let key = [Side::Destination.address(family), Side::Source.address(family)];
    of_family(rule, family).update_in(&key, partners(family), DATAGRAMS)
}

/// The rules that record flows, in order.
pub(super) static TRACKING: [Rule; 16] = [
    rule(FLOWS, "between containers without a list", |rule| {
        let rule = rule.link_not_in(Direction::In, Set::TrackedPorts);
        rule.link_not_in(Direction::Out, Set::TrackedPorts).accept()
    }),
    rule(FLOWS, "broadcasts and multicasts", |rule| rule.with_bits(Field::FRAME_TARGET, &SEVERAL).accept()),
    rule(FLOWS, "not in the lists any more: IPv4 connections that were cut", |rule| cut(rule, V4)),
    rule(FLOWS, "not in the lists any more: IPv6 connections that were cut", |rule| cut(rule, V6)),
    rule(FLOWS, "who may get IPv4 echo replies and errors", |rule| partner(rule, V4)),
    rule(FLOWS, "who may get IPv6 echo replies and errors", |rule| partner(rule, V6)),
    rule(FLOWS, "IPv4 connections that end", |rule| tcp_end(rule, V4)),
    rule(FLOWS, "IPv6 connections that end", |rule| tcp_end(rule, V6)),
    rule(FLOWS, "data of IPv4 connections", |rule| tcp_data(rule, V4)),
    rule(FLOWS, "data of IPv6 connections", |rule| tcp_data(rule, V6)),
    rule(FLOWS, "other segments of IPv4 connections", |rule| tcp_other(rule, V4)),
    rule(FLOWS, "other segments of IPv6 connections", |rule| tcp_other(rule, V6)),
    rule(FLOWS, "UDP over IPv4", |rule| datagram(rule, V4, UDP)),
    rule(FLOWS, "UDP over IPv6", |rule| datagram(rule, V6, UDP)),
    rule(FLOWS, "SCTP over IPv4", |rule| datagram(rule, V4, SCTP)),
    rule(FLOWS, "SCTP over IPv6", |rule| datagram(rule, V6, SCTP)),
];
