//! Rules about who may talk to whom within a bridge. Connection tracking of bridges exists since Linux 5.3 and not in
//! every kernel, and br_netfilter may be turned on and off by others, so these rules depend on neither: flows that
//! both ends' lists allowed are recorded in sets whose elements expire.
//!
//! A TCP connection is forgotten when it has been idle for three hours, or a minute after it was closed or reset; other
//! flows after three minutes. After that, packets are evaluated again. Echo replies and errors may be sent to addresses
//! from which a packet came within three minutes.
//!
//! Pure. Part of `access_rules`.

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

fn flows(v6: bool) -> Set {
    if v6 { Set::Flows6 } else { Set::Flows4 }
}

/// The key of the flow that a packet belongs to, and that of its replies.
pub(super) fn keys(v6: bool) -> [[Field; 5]; 2] {
    let (from, to) = (Side::Source.address(v6), Side::Destination.address(v6));
    [
        [from, to, Field::TRANSPORT, Field::SOURCE_PORT, Field::PORT],
        [to, from, Field::TRANSPORT, Field::PORT, Field::SOURCE_PORT],
    ]
}

pub(super) fn tracked(rule: Expressions, v6: bool) -> Expressions {
    of_family(rule, v6).key_in(&keys(v6)[0], flows(v6)).accept()
}

/// Matches packets to an address from which packets recently came.
fn to_partner(rule: Expressions, v6: bool) -> Expressions {
    rule.key_in(&[Side::Source.address(v6), Side::Destination.address(v6)], partners(v6)).accept()
}

fn partners(v6: bool) -> Set {
    if v6 { Set::Partners6 } else { Set::Partners4 }
}

pub(super) fn echo_reply(rule: Expressions, v6: bool) -> Expressions {
    let (protocol, kind) = if v6 { (ICMPV6, ECHO_REPLY6) } else { (ICMP, ECHO_REPLY) };
    let rule = of_family(rule, v6).is(Field::TRANSPORT, &[protocol]).is(Field::ICMP_TYPE, &[kind]);
    to_partner(rule, v6)
}

pub(super) fn error(rule: Expressions, v6: bool) -> Expressions {
    let rule = of_family(rule, v6);
    let rule = match v6 {
        false => rule.is(Field::TRANSPORT, &[ICMP]).is(Field::ICMP_TYPE, &[UNREACHABLE]),
        true => rule.is(Field::TRANSPORT, &[ICMPV6]).below(Field::ICMPV6_TYPE, &[AFTER_ERRORS6]),
    };
    to_partner(rule, v6)
}

/// What a later fragment has where others have ports is chosen by its sender, and some kernels read it as ports.
pub(super) fn is_later_fragment(rule: Expressions) -> Expressions {
    of_family(rule, false).with_bits(Field::FRAGMENT, &FRAGMENT_OFFSET)
}

fn later_fragment(rule: Expressions) -> Expressions {
    is_later_fragment(rule).counter().drop()
}

pub(super) fn allowed(rule: Expressions, egress: bool, v6: bool) -> Expressions {
    let (own, peer) = if egress { (Side::Source, Side::Destination) } else { (Side::Destination, Side::Source) };
    let set = match (egress, v6) {
        (true, false) => Set::BridgeEgress4,
        (true, true) => Set::BridgeEgress6,
        (false, false) => Set::BridgeIngress4,
        (false, true) => Set::BridgeIngress6,
    };
    let key = [own.address(v6), Field::TRANSPORT, Field::PORT, peer.address(v6)];
    of_family(rule, v6).key_in(&key, set).accept()
}

const fn rule(chain: Chain, comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain, comment, write }
}

/// What the chains decide by their lists, in order.
pub(super) static RULES: [Rule; 43] = [
    rule(LOCAL, "containers without a list", |rule| rule.link_not_in(Direction::In, Set::EgressPorts).accept()),
    // Packets with other source addresses are looked up by their address.
    rule(LOCAL, "DHCP", |rule| dhcp_request(of_family(rule, false), false)),
    rule(LOCAL, "DHCPv6", |rule| dhcp_request(of_family(rule, true), true)),
    rule(LOCAL, "ICMPv6", |rule| of_family(rule, true).is(Field::TRANSPORT, &[ICMPV6]).accept()),
    rule(LOCAL, "not in the egress list: IPv4 without an address", |rule| {
        of_family(rule, false).is(Side::Source.address(false), &[0; 4]).counter().drop()
    }),
    rule(LOCAL, "not in the egress list: IPv6 without an address", |rule| {
        of_family(rule, true).is(Side::Source.address(true), &[0; 16]).counter().drop()
    }),
    rule(LOCAL, "not in the egress list: from a link-local address", |rule| {
        let (network, prefix) = super::ruleset::LINK_LOCAL;
        of_family(rule, true).within(Side::Source.address(true), &network, prefix).counter().drop()
    }),
    rule(EGRESS, "from containers without a list", |rule| rule.link_not_in(Direction::In, Set::EgressPorts).accept()),
    rule(EGRESS, "ARP", arp),
    rule(EGRESS, "not in the egress list: later fragments", later_fragment),
    rule(EGRESS, "tracked IPv4 flows", |rule| tracked(rule, false)),
    rule(EGRESS, "tracked IPv6 flows", |rule| tracked(rule, true)),
    rule(EGRESS, "replies to IPv4 echo requests", |rule| echo_reply(rule, false)),
    rule(EGRESS, "replies to IPv6 echo requests", |rule| echo_reply(rule, true)),
    rule(EGRESS, "IPv4 errors", |rule| error(rule, false)),
    rule(EGRESS, "IPv6 errors", |rule| error(rule, true)),
    rule(EGRESS, "neighbour discovery", |rule| discovery(of_family(rule, true))),
    rule(EGRESS, "listener discovery", |rule| listeners(of_family(rule, true))),
    rule(EGRESS, "listener reports", |rule| listener_report(of_family(rule, true))),
    rule(EGRESS, "IGMP", |rule| igmp(of_family(rule, false))),
    rule(EGRESS, "DHCP", |rule| dhcp_request(of_family(rule, false), false)),
    rule(EGRESS, "DHCPv6", |rule| dhcp_request(of_family(rule, true), true)),
    rule(EGRESS, "allowed IPv4 addresses", |rule| allowed(rule, true, false)),
    rule(EGRESS, "allowed IPv6 addresses", |rule| allowed(rule, true, true)),
    rule(EGRESS, NOT_IN_EGRESS, |rule| rule.counter().drop()),
    rule(INGRESS, "to containers without a list", |rule| rule.link_not_in(Direction::Out, Set::IngressPorts).accept()),
    rule(INGRESS, "ARP", arp),
    rule(INGRESS, "not in the ingress list: later fragments", later_fragment),
    rule(INGRESS, "tracked IPv4 flows", |rule| tracked(rule, false)),
    rule(INGRESS, "tracked IPv6 flows", |rule| tracked(rule, true)),
    rule(INGRESS, "replies to IPv4 echo requests", |rule| echo_reply(rule, false)),
    rule(INGRESS, "replies to IPv6 echo requests", |rule| echo_reply(rule, true)),
    rule(INGRESS, "IPv4 errors", |rule| error(rule, false)),
    rule(INGRESS, "IPv6 errors", |rule| error(rule, true)),
    rule(INGRESS, "neighbour discovery", |rule| discovery(of_family(rule, true))),
    rule(INGRESS, "listener discovery", |rule| listeners(of_family(rule, true))),
    rule(INGRESS, "listener reports", |rule| listener_report(of_family(rule, true))),
    rule(INGRESS, "IGMP", |rule| igmp(of_family(rule, false))),
    rule(INGRESS, "DHCP", |rule| dhcp_reply(of_family(rule, false), false)),
    rule(INGRESS, "DHCPv6", |rule| dhcp_reply(of_family(rule, true), true)),
    rule(INGRESS, "allowed IPv4 addresses", |rule| allowed(rule, false, false)),
    rule(INGRESS, "allowed IPv6 addresses", |rule| allowed(rule, false, true)),
    rule(INGRESS, NOT_IN_INGRESS, |rule| rule.counter().drop()),
];

/// Records a flow in both directions; each packet restarts its time.
fn record(rule: Expressions, keys: [[Field; 5]; 2], v6: bool, milliseconds: u64) -> Expressions {
    keys.iter().fold(rule, |rule, key| rule.update_in(key, flows(v6), milliseconds))
}

fn tcp(rule: Expressions, v6: bool) -> Expressions {
    of_family(rule, v6).is(Field::TRANSPORT, &[TCP])
}

/// Segments of connections that were cut, unless they have been opened again. The other end would take them up otherwise.
fn cut(rule: Expressions, v6: bool) -> Expressions {
    let rule = tcp(rule, v6).key_in(&keys(v6)[0], if v6 { Set::BridgeCut6 } else { Set::BridgeCut4 });
    rule.key_not_in(&keys(v6)[0], flows(v6)).without_bits(Field::TCP_FLAGS, &OPENING).counter().drop()
}

fn tcp_data(rule: Expressions, v6: bool) -> Expressions {
    let (length, least) = if v6 { (Field::LENGTH6, MORE_THAN_ACK6) } else { (Field::LENGTH4, MORE_THAN_ACK4) };
    let rule = tcp(rule, v6).without_bits(Field::TCP_FLAGS, &ENDING).at_least(length, &least);
    record(rule, keys(v6), v6, FLOW_TIMEOUT)
}

fn tcp_end(rule: Expressions, v6: bool) -> Expressions {
    record(tcp(rule, v6).with_bits(Field::TCP_FLAGS, &ENDING), keys(v6), v6, CLOSED)
}

/// Records a connection that is not recorded, and leaves the time of one that is.
fn tcp_other(rule: Expressions, v6: bool) -> Expressions {
    let rule = tcp(rule, v6).without_bits(Field::TCP_FLAGS, &ENDING);
    keys(v6).iter().fold(rule, |rule, key| rule.add_to(key, flows(v6)))
}

fn datagram(rule: Expressions, v6: bool, protocol: u8) -> Expressions {
    record(of_family(rule, v6).is(Field::TRANSPORT, &[protocol]), keys(v6), v6, DATAGRAMS)
}

fn partner(rule: Expressions, v6: bool) -> Expressions {
    let key = [Side::Destination.address(v6), Side::Source.address(v6)];
    of_family(rule, v6).update_in(&key, partners(v6), DATAGRAMS)
}

/// The rules that record flows, in order.
pub(super) static TRACKING: [Rule; 16] = [
    rule(FLOWS, "between containers without a list", |rule| {
        let rule = rule.link_not_in(Direction::In, Set::TrackedPorts);
        rule.link_not_in(Direction::Out, Set::TrackedPorts).accept()
    }),
    rule(FLOWS, "broadcasts and multicasts", |rule| rule.with_bits(Field::FRAME_TARGET, &SEVERAL).accept()),
    rule(FLOWS, "not in the lists any more: IPv4 connections that were cut", |rule| cut(rule, false)),
    rule(FLOWS, "not in the lists any more: IPv6 connections that were cut", |rule| cut(rule, true)),
    rule(FLOWS, "who may get IPv4 echo replies and errors", |rule| partner(rule, false)),
    rule(FLOWS, "who may get IPv6 echo replies and errors", |rule| partner(rule, true)),
    rule(FLOWS, "IPv4 connections that end", |rule| tcp_end(rule, false)),
    rule(FLOWS, "IPv6 connections that end", |rule| tcp_end(rule, true)),
    rule(FLOWS, "data of IPv4 connections", |rule| tcp_data(rule, false)),
    rule(FLOWS, "data of IPv6 connections", |rule| tcp_data(rule, true)),
    rule(FLOWS, "other segments of IPv4 connections", |rule| tcp_other(rule, false)),
    rule(FLOWS, "other segments of IPv6 connections", |rule| tcp_other(rule, true)),
    rule(FLOWS, "UDP over IPv4", |rule| datagram(rule, false, UDP)),
    rule(FLOWS, "UDP over IPv6", |rule| datagram(rule, true, UDP)),
    rule(FLOWS, "SCTP over IPv4", |rule| datagram(rule, false, SCTP)),
    rule(FLOWS, "SCTP over IPv6", |rule| datagram(rule, true, SCTP)),
];
