//! Rules about traffic that no connection makes acceptable: between isolated containers, into and out of internal networks,
//! and between links of other programs while only Pontoon turned forwarding on. Their drops hold for established
//! connections too, which chain `forward_filter` accepts first: therefore they are in chains of their own, which exist once
//! there is such a network, or such forwarding.
//!
//! Pure. Part of `parts`.

use crate::model::Family;
use nft::message::Chain;
use nft::{Direction, Expressions, Field, Side};

use super::ruleset::{Rule, chain, rule};
use super::sets::Set;

const fn forward(name: &'static str, comment: &'static str) -> Chain {
    chain(name, "filter", libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER, comment)
}

const ISOLATED: Chain = forward("forward_isolated", "containers of networks with enable_icc=false");
const INTERNAL: Chain = forward("forward_internal", "internal networks");
const OTHERS: Chain = forward("forward_others", "links of other programs, while only Pontoon turned forwarding on");
const BRIDGES: Chain = chain(
    "prerouting_bridges",
    "filter",
    libc::NF_INET_PRE_ROUTING,
    libc::NF_IP_PRI_RAW,
    "which bridges other programs have",
);

/// The chains of [`BETWEEN_CONTAINERS`], [`OF_INTERNAL`] and [`BETWEEN_OTHERS`].
pub(super) static ISOLATED_CHAINS: [Chain; 1] = [ISOLATED];
pub(super) static INTERNAL_CHAINS: [Chain; 1] = [INTERNAL];
pub(super) static OTHERS_CHAINS: [Chain; 2] = [BRIDGES, OTHERS];

/// Matches packets that the kernel forwards only because Pontoon turned forwarding on, and that do not belong
/// to its networks.
fn between_others(rule: Expressions, family: Family) -> Expressions {
    let (forwarding_links, guests) = (
        family.choose(Set::ForwardingLink4, Set::ForwardingLink6),
        family.choose(Set::UserBridgeContainer4, Set::UserBridgeContainer6),
    );
    let rule = rule.key_in(&[Field::FAMILY], Set::LimitedForwarding).family(family);
    let rule = rule.link_not_in(Direction::In, Set::Bridges).link_not_in(Direction::Out, Set::Bridges);
    let rule = rule.key_not_in(&[Side::Source.address(family)], guests);
    let rule =
        rule.key_not_in(&[Side::Destination.address(family)], guests).link_not_in(Direction::In, forwarding_links);
    rule.key_not_in(&[Direction::In.name(), Direction::Out.name()], Set::ForeignBridge)
}

/// Matches packets from one container on a bridge of the user to another, routed by the host. Other stations
/// on such a bridge are not affected, so both addresses are looked up: with br_netfilter all bridged packets
/// come here too.
fn between_guests(rule: Expressions, guests: Set) -> Expressions {
    let rule = rule.links_in(Set::Isolated).is_not_dnat().family(guests.family());
    rule.key_in(&[Side::Source.address(guests.family())], guests)
        .key_in(&[Side::Destination.address(guests.family())], guests)
}

pub(super) static BETWEEN_CONTAINERS: [Rule; 3] = [
    // Their ports are isolated from each other, but not from the host, which would forward packets sent to it
    // for a sibling. A published port of a sibling stays reachable.
    rule(ISOLATED, "between isolated containers, routed by the host", |rule| {
        rule.links_in(Set::Isolated).link_in(Direction::In, Set::Bridges).is_not_dnat().counter().drop()
    }),
    rule(ISOLATED, "between isolated containers on a user's bridge, IPv4", |rule| {
        between_guests(rule, Set::UserBridgeContainer4).counter().drop()
    }),
    rule(ISOLATED, "between isolated containers on a user's bridge, IPv6", |rule| {
        between_guests(rule, Set::UserBridgeContainer6).counter().drop()
    }),
];

pub(super) static OF_INTERNAL: [Rule; 3] = [
    // With br_netfilter, frames within a bridge are forwarded packets too.
    rule(INTERNAL, "within one network", |rule| rule.links_in(Set::IntraNetwork).accept()),
    rule(INTERNAL, "out of an internal network", |rule| rule.link_in(Direction::In, Set::Internal).counter().drop()),
    rule(INTERNAL, "into an internal network", |rule| rule.link_in(Direction::Out, Set::Internal).counter().drop()),
];

pub(super) static BETWEEN_OTHERS: [Rule; 3] = [
    // With br_netfilter the forward chain also sees frames within foreign bridges, and cannot distinguish
    // them from routed packets by itself: it uses what is recorded here.
    rule(BRIDGES, "record bridges of other programs", |rule| {
        let name = Direction::In.name();
        let rule =
            rule.is(Field::LINK_KIND, b"bridge\0\0\0\0\0\0\0\0\0\0").key_in(&[Field::FAMILY], Set::LimitedForwarding);
        rule.link_not_in(Direction::In, Set::Bridges).add_to(&[name, name], Set::ForeignBridge)
    }),
    // Replies too: a connection may date from the time when another program had forwarding on.
    rule(OTHERS, "IPv4 between links of other programs", |rule| between_others(rule, Family::V4).counter().drop()),
    rule(OTHERS, "IPv6 between links of other programs", |rule| between_others(rule, Family::V6).counter().drop()),
];
