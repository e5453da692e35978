//! Rules about who may talk to whom: what containers with a list may send and receive. Routed packets and those of the
//! host are matched by the container's address, which source address validation has proven; frames within a bridge by
//! its port, because they pass table `inet pontoon` only with br_netfilter.
//!
//! The chains exist only while a container has a list ([`CHAINS`]): without one, no packet is evaluated here. In each of
//! them, packets of established flows leave at the first rules, packets of containers without a list next; the last
//! rule drops everything else. A packet that
//! cannot be read (a later fragment, a header that is cut off) matches no rule that accepts.
//!
//! Pure. Part of `parts`.

use crate::model::Family::{self, V4, V6};
use nft::message::Chain;
use nft::{Expressions, Field, Side};

use super::bridge_flows;
use super::bridge_rules::{ARP, IP, IPV6, carries};
use super::name_rules;
use super::ruleset::{Rule, chain, rule};
use super::sets::Set;

/// `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`.
const UNREACHABLE: u32 = 2;
const PROHIBITED: u8 = 3;

/// Ports of DHCP, each the client's and the server's.
const DHCP4: [u16; 2] = [68, 67];
const DHCP6: [u16; 2] = [546, 547];
/// ff02::1:2, all servers and relays on the link (RFC 8415, 7.1).
const DHCP_SERVERS6: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];

/// Types of ICMPv6 messages: from the first of multicast listener discovery to the last of neighbour discovery, and the
/// second version of a listener report (RFC 3810, RFC 4861).
const LISTENER_QUERY: u8 = 130;
const ROUTER_SOLICITATION: u8 = 133;
const AFTER_REDIRECT: u8 = 138;
const LISTENER_REPORT: u8 = 143;

/// SYN.
pub(super) const OPENING: [u8; 1] = [0x02];

const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

pub(super) const ESTABLISHED: &str = "established and related";

/// Comments of the rules about connections that were cut. The other end would take them up without an opening segment.
const CUT4: &str = "not in the lists any more: IPv4 connections that were cut";
const CUT6: &str = "not in the lists any more: IPv6 connections that were cut";

/// Comments of the rules that drop; the doctor explains them by their start.
pub(super) const NOT_IN_EGRESS: &str = "not in the egress list";
pub(super) const NOT_IN_INGRESS: &str = "not in the ingress list";

pub(super) const FORWARD_EGRESS: Chain = chain(
    "forward_egress",
    "filter",
    libc::NF_INET_FORWARD,
    libc::NF_IP_PRI_FILTER,
    "what containers with an egress list may reach",
);
pub(super) const FORWARD_INGRESS: Chain = chain(
    "forward_ingress",
    "filter",
    libc::NF_INET_FORWARD,
    libc::NF_IP_PRI_FILTER + 1,
    "what may reach containers with an ingress list",
);
pub(super) const INPUT_EGRESS: Chain = chain(
    "input_egress",
    "filter",
    libc::NF_INET_LOCAL_IN,
    libc::NF_IP_PRI_FILTER,
    "what containers with an egress list may send to the host",
);
pub(super) const OUTPUT_INGRESS: Chain = chain(
    "output_ingress",
    "filter",
    libc::NF_INET_LOCAL_OUT,
    libc::NF_IP_PRI_FILTER,
    "what the host may send to containers with an ingress list",
);

/// All chains about lists, of both tables.
pub(super) static CHAINS: [Chain; 9] = [
    name_rules::QUERIES,
    FORWARD_EGRESS,
    FORWARD_INGRESS,
    INPUT_EGRESS,
    OUTPUT_INGRESS,
    bridge_flows::LOCAL,
    bridge_flows::EGRESS,
    bridge_flows::INGRESS,
    bridge_flows::FLOWS,
];

/// All rules of these chains, in order; the second list if the kernel does not support rejecting packets.
pub(super) static RULES: [[&[Rule]; 5]; 2] = [
    [&name_rules::RULES, &ROUTED, &REJECTING, &bridge_flows::RULES, &bridge_flows::TRACKING],
    [&name_rules::RULES, &ROUTED, &DROPPING, &bridge_flows::RULES, &bridge_flows::TRACKING],
];

/// Sets of one direction in table `inet pontoon`, each for IPv4 and IPv6.
pub(super) struct Direct {
    /// The address of the container.
    own: Side,
    /// The address of the peer.
    peer: Side,
    restricted: [Set; 2],
    audited: [Set; 2],
    allowed: [Set; 2],
    host: [Set; 2],
}

pub(super) const EGRESS: Direct = Direct {
    own: Side::Source,
    peer: Side::Destination,
    restricted: [Set::EgressRestricted4, Set::EgressRestricted6],
    audited: [Set::EgressAudited4, Set::EgressAudited6],
    allowed: [Set::EgressAllowed4, Set::EgressAllowed6],
    host: [Set::EgressHost4, Set::EgressHost6],
};
pub(super) const INGRESS: Direct = Direct {
    own: Side::Destination,
    peer: Side::Source,
    restricted: [Set::IngressRestricted4, Set::IngressRestricted6],
    audited: [Set::IngressAudited4, Set::IngressAudited6],
    allowed: [Set::IngressAllowed4, Set::IngressAllowed6],
    host: [Set::IngressHost4, Set::IngressHost6],
};

impl Direct {
    fn unrestricted(&self, rule: Expressions, family: Family) -> Expressions {
        rule.family(family).key_not_in(&[self.own.address(family)], self.restricted[family as usize]).accept()
    }

    pub fn not_audited(&self, rule: Expressions, family: Family) -> Expressions {
        rule.family(family).key_not_in(&[self.own.address(family)], self.audited[family as usize]).accept()
    }

    pub fn allowed(&self, rule: Expressions, family: Family) -> Expressions {
        let key = [self.own.address(family), Field::TRANSPORT, Field::PORT, self.peer.address(family)];
        rule.family(family).key_in(&key, self.allowed[family as usize]).accept()
    }

    pub fn allowed_host(&self, rule: Expressions, family: Family) -> Expressions {
        let key = [self.own.address(family), Field::TRANSPORT, Field::PORT];
        rule.family(family).key_in(&key, self.host[family as usize]).accept()
    }
}

/// Neighbour discovery, without which IPv6 does not work. Its hop limit proves that it was not routed (RFC 4861, 6.1).
pub(super) fn discovery(rule: Expressions) -> Expressions {
    let rule = rule.is(Field::TRANSPORT, &[libc::IPPROTO_ICMPV6 as u8]).is(Field::HOP_LIMIT, &[255]);
    rule.at_least(Field::ICMPV6_TYPE, &[ROUTER_SOLICITATION]).below(Field::ICMPV6_TYPE, &[AFTER_REDIRECT]).accept()
}

/// Multicast listener discovery, which is never routed either.
pub(super) fn listeners(rule: Expressions) -> Expressions {
    let rule = rule.is(Field::TRANSPORT, &[libc::IPPROTO_ICMPV6 as u8]).is(Field::HOP_LIMIT, &[1]);
    rule.at_least(Field::ICMPV6_TYPE, &[LISTENER_QUERY]).below(Field::ICMPV6_TYPE, &[ROUTER_SOLICITATION]).accept()
}

pub(super) fn listener_report(rule: Expressions) -> Expressions {
    let rule = rule.is(Field::TRANSPORT, &[libc::IPPROTO_ICMPV6 as u8]).is(Field::HOP_LIMIT, &[1]);
    rule.is(Field::ICMPV6_TYPE, &[LISTENER_REPORT]).accept()
}

pub(super) fn igmp(rule: Expressions) -> Expressions {
    rule.is(Field::TRANSPORT, &[libc::IPPROTO_IGMP as u8]).is(Field::TIME_TO_LIVE, &[1]).accept()
}

/// DHCP from a client to all servers: a unicast packet would be a way to any host.
pub(super) fn dhcp_request(rule: Expressions, family: Family) -> Expressions {
    let to = Side::Destination.address(family);
    let rule = match family {
        V4 => rule.is(to, &[255; 4]),
        V6 => rule.is(to, &DHCP_SERVERS6),
    };
    dhcp(rule, family, true)
}

/// DHCP from a server to a client.
pub(super) fn dhcp_reply(rule: Expressions, family: Family) -> Expressions {
    dhcp(rule, family, false)
}

fn dhcp(rule: Expressions, family: Family, from_client: bool) -> Expressions {
    let [client, server] = family.choose(DHCP4, DHCP6);
    let (from, to) = if from_client { (client, server) } else { (server, client) };
    let rule = rule.is(Field::TRANSPORT, &[libc::IPPROTO_UDP as u8]);
    rule.is(Field::SOURCE_PORT, &from.to_be_bytes()).is(Field::PORT, &to.to_be_bytes()).accept()
}

/// With br_netfilter, frames within a bridge are forwarded packets too, so link-local protocols are here as well.
static ROUTED: [Rule; 54] = [
    rule(FORWARD_EGRESS, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(FORWARD_EGRESS, CUT4, |rule| cut(rule.family(V4), V4)),
    rule(FORWARD_EGRESS, CUT6, |rule| cut(rule.family(V6), V6)),
    rule(FORWARD_EGRESS, "IPv4 of containers without a list", |rule| EGRESS.unrestricted(rule, V4)),
    rule(FORWARD_EGRESS, "IPv6 of containers without a list", |rule| EGRESS.unrestricted(rule, V6)),
    rule(FORWARD_EGRESS, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(FORWARD_EGRESS, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(FORWARD_EGRESS, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(FORWARD_EGRESS, "IGMP", |rule| igmp(rule.family(V4))),
    rule(FORWARD_EGRESS, "DHCP", |rule| dhcp_request(rule.family(V4), V4)),
    rule(FORWARD_EGRESS, "DHCPv6", |rule| dhcp_request(rule.family(V6), V6)),
    rule(FORWARD_EGRESS, "allowed IPv4 addresses", |rule| EGRESS.allowed(rule, V4)),
    rule(FORWARD_EGRESS, "allowed IPv6 addresses", |rule| EGRESS.allowed(rule, V6)),
    rule(FORWARD_EGRESS, "IPv4 addresses of allowed names", |rule| name_rules::allowed(rule, V4)),
    rule(FORWARD_EGRESS, "IPv6 addresses of allowed names", |rule| name_rules::allowed(rule, V6)),
    rule(FORWARD_INGRESS, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(FORWARD_INGRESS, "IPv4 to containers without a list", |rule| INGRESS.unrestricted(rule, V4)),
    rule(FORWARD_INGRESS, "IPv6 to containers without a list", |rule| INGRESS.unrestricted(rule, V6)),
    rule(FORWARD_INGRESS, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(FORWARD_INGRESS, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(FORWARD_INGRESS, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(FORWARD_INGRESS, "IGMP", |rule| igmp(rule.family(V4))),
    rule(FORWARD_INGRESS, "DHCP", |rule| dhcp_reply(rule.family(V4), V4)),
    rule(FORWARD_INGRESS, "DHCPv6", |rule| dhcp_reply(rule.family(V6), V6)),
    rule(FORWARD_INGRESS, "allowed IPv4 addresses", |rule| INGRESS.allowed(rule, V4)),
    rule(FORWARD_INGRESS, "allowed IPv6 addresses", |rule| INGRESS.allowed(rule, V6)),
    rule(INPUT_EGRESS, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(INPUT_EGRESS, CUT4, |rule| cut(rule.family(V4), V4)),
    rule(INPUT_EGRESS, CUT6, |rule| cut(rule.family(V6), V6)),
    rule(INPUT_EGRESS, "not redirected to Pontoon, UDP", |rule| name_rules::not_redirected(rule, UDP)),
    rule(INPUT_EGRESS, "not redirected to Pontoon, TCP", |rule| name_rules::not_redirected(rule, TCP)),
    rule(INPUT_EGRESS, "DNS queries to Pontoon, UDP", |rule| name_rules::at_port(rule, UDP).accept()),
    rule(INPUT_EGRESS, "DNS queries to Pontoon, TCP", |rule| name_rules::at_port(rule, TCP).accept()),
    rule(INPUT_EGRESS, "IPv4 of containers without a list", |rule| EGRESS.unrestricted(rule, V4)),
    rule(INPUT_EGRESS, "IPv6 of containers without a list", |rule| EGRESS.unrestricted(rule, V6)),
    rule(INPUT_EGRESS, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(INPUT_EGRESS, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(INPUT_EGRESS, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(INPUT_EGRESS, "DHCP", |rule| dhcp_request(rule.family(V4), V4)),
    rule(INPUT_EGRESS, "DHCPv6", |rule| dhcp_request(rule.family(V6), V6)),
    rule(INPUT_EGRESS, "allowed by IPv4", |rule| EGRESS.allowed_host(rule, V4)),
    rule(INPUT_EGRESS, "allowed by IPv6", |rule| EGRESS.allowed_host(rule, V6)),
    rule(OUTPUT_INGRESS, ESTABLISHED, |rule| rule.is_reply().accept()),
    rule(OUTPUT_INGRESS, CUT4, |rule| cut(rule.family(V4), V4)),
    rule(OUTPUT_INGRESS, CUT6, |rule| cut(rule.family(V6), V6)),
    rule(OUTPUT_INGRESS, "IPv4 to containers without a list", |rule| INGRESS.unrestricted(rule, V4)),
    rule(OUTPUT_INGRESS, "IPv6 to containers without a list", |rule| INGRESS.unrestricted(rule, V6)),
    rule(OUTPUT_INGRESS, "neighbour discovery", |rule| discovery(rule.family(V6))),
    rule(OUTPUT_INGRESS, "listener discovery", |rule| listeners(rule.family(V6))),
    rule(OUTPUT_INGRESS, "listener reports", |rule| listener_report(rule.family(V6))),
    rule(OUTPUT_INGRESS, "DHCP", |rule| dhcp_reply(rule.family(V4), V4)),
    rule(OUTPUT_INGRESS, "DHCPv6", |rule| dhcp_reply(rule.family(V6), V6)),
    rule(OUTPUT_INGRESS, "allowed by IPv4", |rule| INGRESS.allowed_host(rule, V4)),
    rule(OUTPUT_INGRESS, "allowed by IPv6", |rule| INGRESS.allowed_host(rule, V6)),
];

/// Segments of TCP connections that were cut; not those that open one.
fn cut(rule: Expressions, family: Family) -> Expressions {
    let rule = rule.key_in(&bridge_flows::keys(family)[0], family.choose(Set::Cut4, Set::Cut6));
    rule.is(Field::TRANSPORT, &[TCP]).without_bits(Field::TCP_FLAGS, &OPENING).counter().drop()
}

fn reject(rule: Expressions) -> Expressions {
    rule.counter().reject(UNREACHABLE, PROHIBITED)
}

/// The last rule of each chain: clients fail at once instead of waiting for an answer.
static REJECTING: [Rule; 4] = [
    rule(FORWARD_EGRESS, NOT_IN_EGRESS, reject),
    rule(FORWARD_INGRESS, NOT_IN_INGRESS, reject),
    rule(INPUT_EGRESS, NOT_IN_EGRESS, reject),
    rule(OUTPUT_INGRESS, NOT_IN_INGRESS, reject),
];

/// The same for kernels that cannot reject.
static DROPPING: [Rule; 4] = [
    rule(FORWARD_EGRESS, NOT_IN_EGRESS, |rule| rule.counter().drop()),
    rule(FORWARD_INGRESS, NOT_IN_INGRESS, |rule| rule.counter().drop()),
    rule(INPUT_EGRESS, NOT_IN_EGRESS, |rule| rule.counter().drop()),
    rule(OUTPUT_INGRESS, NOT_IN_INGRESS, |rule| rule.counter().drop()),
];

/// Frames of this family, for rules of table `bridge pontoon`.
pub(super) fn of_family(rule: Expressions, family: Family) -> Expressions {
    carries(rule, family.choose(IP, IPV6))
}

pub(super) fn arp(rule: Expressions) -> Expressions {
    carries(rule, ARP).accept()
}
