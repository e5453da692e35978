//! Rules about DNS names: queries of containers whose list has names are redirected to Pontoon, and the addresses that it
//! answered are reachable for a time. Without such a container, their maps and sets are empty.
//!
//! The key of the redirection is the bridge and the source address, which source address validation has proven: so the
//! answering process knows by the address alone which container asks.
//!
//! Pure. Part of `access_rules`.

use nft::message::Chain;
use nft::{Direction, Expressions, Field, Side};

use super::ruleset::{Rule, chain, rule};
use super::sets::Set;
use crate::datapath::access::NAMES_PORT;
use crate::model::Family;

const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const DNS: [u8; 2] = dns::PORT.to_be_bytes();
const HERE: [u8; 2] = NAMES_PORT.to_be_bytes();

/// Before published ports: port 53 of the host may be one.
pub(super) const QUERIES: Chain = chain(
    "prerouting_queries",
    "nat",
    libc::NF_INET_PRE_ROUTING,
    libc::NF_IP_PRI_NAT_DST - 1,
    "DNS queries of containers whose egress list has names",
);

fn redirected(rule: Expressions, transport: u8, family: Family) -> Expressions {
    let rule = rule.is(Field::TRANSPORT, &[transport]).is(Field::PORT, &DNS).family(family);
    let map = family.choose(Set::Redirected4, Set::Redirected6);
    rule.dnat_to(&[Direction::In.name(), Side::Source.address(family)], map)
}

/// Whichever server they are for.
pub(super) static RULES: [Rule; 4] = [
    rule(QUERIES, "IPv4, UDP", |rule| redirected(rule, UDP, Family::V4)),
    rule(QUERIES, "IPv4, TCP", |rule| redirected(rule, TCP, Family::V4)),
    rule(QUERIES, "IPv6, UDP", |rule| redirected(rule, UDP, Family::V6)),
    rule(QUERIES, "IPv6, TCP", |rule| redirected(rule, TCP, Family::V6)),
];

/// Packets for the port at which Pontoon answers.
pub(super) fn at_port(rule: Expressions, transport: u8) -> Expressions {
    rule.is(Field::TRANSPORT, &[transport]).is(Field::PORT, &HERE)
}

/// Who was not redirected does not reach the port: neither other hosts nor containers without names. Before the rules by
/// which these leave the chain.
pub(super) fn not_redirected(rule: Expressions, transport: u8) -> Expressions {
    at_port(rule, transport).is_not_dnat().counter().drop()
}

/// The addresses of names that the container looked up.
pub(super) fn allowed(rule: Expressions, family: Family) -> Expressions {
    let key = [Side::Source.address(family), Field::TRANSPORT, Field::PORT, Side::Destination.address(family)];
    rule.family(family).key_in(&key, family.choose(Set::EgressName4, Set::EgressName6)).accept()
}
