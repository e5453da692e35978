//! Schema of table `inet pontoon`: its chains and rules, but for those that exist only once they are needed (`parts`). Everything that grows with the number of networks
//! and ports is in the sets and maps; the rules are constant. The rules of table `bridge pontoon` are in
//! `bridge_rules`.
//!
//! Pure. Used by `tables`, which writes it, and by `schema`, which compares the kernel's tables with it.
//!
//! Within a rule, conditions that are cheap and rarely true come first: comparing bytes of the packet costs
//! less than looking a link up in a set, and every packet of the host passes the raw chain.
//!
//! An accept here does not override a drop in another table, and a drop here is final: the table therefore
//! protects Pontoon's networks without bypassing the rules of other programs.

use nft::message::{BRIDGE, Chain, INET};
use nft::{Direction, Expressions, Field, Side};

use super::sets::Set;
use super::{bridge_rules, reject, source_nat};
use crate::model::Family::{self, V4, V6};
use crate::model::ifname::HOST_LINK;

/// Name of the tables.
pub const TABLE: &str = "pontoon";

/// Families of the tables.
pub const FAMILIES: [u8; 2] = [INET, BRIDGE];

/// How much later than other NAT chains Pontoon's are evaluated. The kernel translates at one place of each
/// hook, whatever priority a chain of type nat has: the priority only determines the order of such chains,
/// and the first one that translates a connection decides (`nf_nat_inet_fn`). The chains of users, of the
/// engine and of firewalld have the usual priorities, or ten more.
const LATER: i32 = 1000;

pub(super) const fn chain(
    name: &'static str,
    kind: &'static str,
    hook: libc::c_int,
    priority: i32,
    comment: &'static str,
) -> Chain {
    Chain { family: INET, name, kind, hook: hook as u32, priority, comment }
}

/// Before connection tracking: drops packets that must not even be tracked.
pub const RAW: Chain = chain(
    "prerouting_raw",
    "filter",
    libc::NF_INET_PRE_ROUTING,
    libc::NF_IP_PRI_RAW,
    "packets to reject before connection tracking; broadcasts",
);

/// Published ports, for packets from any link.
pub const PREROUTING: Chain =
    chain("prerouting_nat", "nat", libc::NF_INET_PRE_ROUTING, libc::NF_IP_PRI_NAT_DST + LATER, "published ports");

/// Published ports, for packets of the host itself.
pub const OUTPUT: Chain = chain(
    "output_nat",
    "nat",
    libc::NF_INET_LOCAL_OUT,
    libc::NF_IP_PRI_NAT_DST + LATER,
    "published ports, for local processes",
);

/// Decides which packets may be forwarded between links.
pub const FORWARD: Chain = chain(
    "forward_filter",
    "filter",
    libc::NF_INET_FORWARD,
    libc::NF_IP_PRI_FILTER,
    "traffic into and out of networks",
);

/// Source addresses of packets that leave the host or reach a container.
pub const POSTROUTING: Chain =
    chain("postrouting_nat", "nat", libc::NF_INET_POST_ROUTING, libc::NF_IP_PRI_NAT_SRC + LATER, "source NAT");

/// Replies to ::1 on input, after address translation.
pub const LOOPBACK_IN: Chain = chain(
    "prerouting_loopback",
    "filter",
    libc::NF_INET_PRE_ROUTING,
    libc::NF_IP_PRI_FILTER,
    "replies to ::1, before routing",
);

/// Replies to ::1 on delivery, after the filters of other programs.
pub const LOOPBACK_HERE: Chain =
    chain("input_loopback", "filter", libc::NF_INET_LOCAL_IN, libc::NF_IP_PRI_SECURITY, "replies to ::1, on delivery");

/// The chains that always exist; those of `parts` exist only once they are needed.
pub const CHAINS: [Chain; 9] = [
    RAW,
    PREROUTING,
    LOOPBACK_IN,
    LOOPBACK_HERE,
    OUTPUT,
    reject::CHAIN,
    FORWARD,
    POSTROUTING,
    bridge_rules::PREROUTING,
];

/// A rule: its chain, its comment (by which it is recognised) and its expressions.
pub struct Rule {
    /// The chain.
    pub chain: Chain,
    /// Its purpose; unique within the chain.
    pub comment: &'static str,
    /// Its expressions.
    pub write: fn(Expressions) -> Expressions,
}

/// All rules of [`CHAINS`], in order; those that not every kernel supports only if `wanted` is set.
pub fn rules(wanted: bool) -> impl Iterator<Item = &'static Rule> {
    let rejecting: &[Rule] = if wanted { &reject::RULES } else { &[] };
    let all = [
        RAWS.as_slice(),
        &reject::BROADCASTS,
        &DESTINATIONS,
        &LOOPBACKS,
        rejecting,
        &FORWARDS,
        &source_nat::RULES,
        &bridge_rules::RULES,
    ];
    all.into_iter().flatten()
}

pub(super) const fn rule(chain: Chain, comment: &'static str, write: fn(Expressions) -> Expressions) -> Rule {
    Rule { chain, comment, write }
}

/// Prefix length of `127.0.0.0/8`.
pub(super) const LOOPBACK4: u32 = 8;
pub(super) const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// `fe80::/10`.
pub(super) const LINK_LOCAL: ([u8; 16], u32) = ([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10);

/// Pontoon enables `route_localnet` on its bridges, and only there. With it the kernel would deliver packets
/// to and from 127.0.0.0/8 that it otherwise rejects as martian; these rules reject them again. Other links
/// keep the kernel's behaviour, or what their owner configured: no rule here translates packets to
/// 127.0.0.0/8 from a link, and `FORWARDS` drops packets from there. IPv6 needs no such rule: the kernel
/// accepts ::1 from no link but `lo` (ipv6_rcv).
///
/// A bridge delivers frames to 01:80:c2:00:00:0x to the host's IP stack with their port as incoming link,
/// bypassing all checks on the bridge. No other packet has a port as incoming link.
///
/// A host link receives all broadcasts and multicasts of its parent's network, which the host receives on the parent
/// too. Nothing but packets of containers is for it: an answer to another station would tell that station the hardware
/// address of the link for the host. These drops are not counted, because they are no loss.
static RAWS: [Rule; 6] = [
    rule(RAW, "past the bridge, from a container port", |rule| {
        rule.link_name_starts(Direction::In, bridge_rules::PORT).counter().drop()
    }),
    rule(RAW, "past the bridge, from a tunnel", |rule| {
        rule.link_name_starts(Direction::In, bridge_rules::TUNNEL).counter().drop()
    }),
    rule(RAW, "to 127.0.0.0/8 from a container", |rule| {
        let rule = rule.family(V4).within(Side::Destination.address(V4), &[127, 0, 0, 0], LOOPBACK4);
        rule.link_in(Direction::In, Set::Bridges).counter().drop()
    }),
    rule(RAW, "from 127.0.0.0/8, sent by a container", |rule| {
        let rule = rule.family(V4).within(Side::Source.address(V4), &[127, 0, 0, 0], LOOPBACK4);
        rule.link_in(Direction::In, Set::Bridges).counter().drop()
    }),
    rule(RAW, "IPv4 on a host link, not from a container", |rule| not_from_station(rule, Set::Station4).drop()),
    rule(RAW, "IPv6 on a host link, not from a container", |rule| not_from_station(rule, Set::Station6).drop()),
];

fn not_from_station(rule: Expressions, stations: Set) -> Expressions {
    let rule = rule.link_name_starts(Direction::In, HOST_LINK.as_bytes()).family(stations.family());
    rule.key_not_in(&[Side::Source.address(stations.family())], stations)
}

/// The lookup key of a published port.
fn at(family: Family) -> [Field; 3] {
    [Side::Destination.address(family), Field::TRANSPORT, Field::PORT]
}

/// A mapping for one address of the host takes precedence over one for all addresses.
fn translated(rule: Expressions, map: Set) -> Expressions {
    let [address, transport, port] = at(map.family());
    match map {
        Set::PublishedAt4 | Set::PublishedAt6 => rule.dnat_to(&[address, transport, port], map),
        _ => rule.dnat_to(&[transport, port], map),
    }
}

fn from_links(rule: Expressions, map: Set) -> Expressions {
    let rule = rule.family(map.family());
    let destination = Side::Destination.address(map.family());
    let rule = match map.family() {
        V4 => rule.outside(destination, &[127, 0, 0, 0], LOOPBACK4),
        // A reply to a link-local address would not find its way back through the translation.
        V6 => rule.outside(Side::Source.address(V6), &LINK_LOCAL.0, LINK_LOCAL.1).is_not(destination, &LOOPBACK6),
    };
    translated(rule.local(Side::Destination, true), map)
}

fn from_host(rule: Expressions, map: Set) -> Expressions {
    let rule = rule.family(map.family());
    let rule = match map.family() {
        V4 => rule,
        // The source would be link-local as well, and the container could not reply to it.
        V6 => rule.outside(Side::Destination.address(V6), &LINK_LOCAL.0, LINK_LOCAL.1),
    };
    translated(rule.local(Side::Destination, true), map)
}

static DESTINATIONS: [Rule; 8] = [
    rule(PREROUTING, "published on one IPv4 address", |rule| from_links(rule, Set::PublishedAt4)),
    rule(PREROUTING, "published on all IPv4 addresses", |rule| from_links(rule, Set::Published4)),
    rule(PREROUTING, "published on one IPv6 address", |rule| from_links(rule, Set::PublishedAt6)),
    rule(PREROUTING, "published on all IPv6 addresses", |rule| from_links(rule, Set::Published6)),
    rule(OUTPUT, "published on one IPv4 address", |rule| from_host(rule, Set::PublishedAt4)),
    rule(OUTPUT, "published on all IPv4 addresses", |rule| from_host(rule, Set::Published4)),
    rule(OUTPUT, "published on one IPv6 address", |rule| from_host(rule, Set::PublishedAt6)),
    rule(OUTPUT, "published on all IPv6 addresses", |rule| from_host(rule, Set::Published6)),
];

/// A container's reply to ::1 is sent to the address of its bridge, and its destination is translated to ::1
/// on input. The kernel accepts such a packet from no link but `lo`, and with br_netfilter, which translates
/// on the bridge, it checks this only afterwards (`ip6_rcv_core`): therefore the destination is set to the
/// bridge's address until the packet is delivered.
static LOOPBACKS: [Rule; 2] = [
    rule(LOOPBACK_IN, "replace ::1 as destination of replies until delivery", |rule| {
        let rule = rule.family(V6).is(Side::Destination.address(V6), &LOOPBACK6);
        let rule = rule.link_in(Direction::In, Set::Bridges).is_reply_of_snat();
        rule.set_destination_to_reply_destination()
    }),
    rule(LOOPBACK_HERE, "restore ::1 as destination of replies", |rule| {
        let rule = rule.family(V6).is_reply_of_snat().link_in(Direction::In, Set::Bridges);
        rule.original_source_is(&LOOPBACK6).set_destination(&LOOPBACK6)
    }),
];

/// Matches packets to a container with restricted sources, from a source that is not allowed.
fn unwelcome(rule: Expressions, guarded: Set, allowed: Set) -> Expressions {
    let (from, to) = (Side::Source.address(guarded.family()), Side::Destination.address(guarded.family()));
    let rule = rule.family(guarded.family()).key_in(&[to], guarded).link_in(Direction::Out, Set::Bridges);
    rule.key_not_in(&[to, from], allowed)
}

fn open(rule: Expressions, set: Set) -> Expressions {
    rule.family(set.family()).key_in(&at(set.family()), set)
}

fn icmp(rule: Expressions, routed: Set) -> Expressions {
    let protocol = routed.family().choose(libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6);
    rule.family(routed.family()).is(Field::TRANSPORT, &[protocol as u8]).link_in(Direction::Out, routed)
}

/// Packets of established connections leave at the second rule. What must hold for them as well is dropped before: here,
/// or in one of the chains of `parts`, whose drops are final.
static FORWARDS: [Rule; 17] = [
    rule(FORWARD, "forwarded from 127.0.0.0/8", |rule| {
        let rule = rule.family(V4).within(Side::Source.address(V4), &[127, 0, 0, 0], LOOPBACK4);
        rule.link_in(Direction::Out, Set::Bridges).counter().drop()
    }),
    rule(FORWARD, "established and related", |rule| rule.is_reply().accept()),
    rule(FORWARD, "within one network", |rule| rule.links_in(Set::IntraNetwork).accept()),
    // The host is no router for the parent's network: only published ports are reached by a host link.
    rule(FORWARD, "from a container on a parent, through the host", |rule| {
        rule.link_name_starts(Direction::In, HOST_LINK.as_bytes()).is_not_dnat().counter().drop()
    }),
    rule(FORWARD, "IPv4 source not in the allow list", |rule| {
        unwelcome(rule, Set::SourceFiltered4, Set::AllowedSource4).counter().drop()
    }),
    rule(FORWARD, "IPv6 source not in the allow list", |rule| {
        unwelcome(rule, Set::SourceFiltered6, Set::AllowedSource6).counter().drop()
    }),
    rule(FORWARD, "published ports", |rule| rule.link_in(Direction::Out, Set::Bridges).is_dnat().accept()),
    rule(FORWARD, "IPv4 into nat-unprotected networks", |rule| {
        rule.family(V4).link_in(Direction::Out, Set::Unprotected4).accept()
    }),
    rule(FORWARD, "IPv6 into nat-unprotected networks", |rule| {
        rule.family(V6).link_in(Direction::Out, Set::Unprotected6).accept()
    }),
    rule(FORWARD, "open IPv4 ports of routed networks", |rule| {
        open(rule.link_in(Direction::Out, Set::Routed4), Set::OpenPort4).accept()
    }),
    rule(FORWARD, "open IPv6 ports of routed networks", |rule| {
        open(rule.link_in(Direction::Out, Set::Routed6), Set::OpenPort6).accept()
    }),
    rule(FORWARD, "ICMP into routed networks", |rule| icmp(rule, Set::Routed4).accept()),
    rule(FORWARD, "ICMPv6 into routed networks", |rule| icmp(rule, Set::Routed6).accept()),
    rule(FORWARD, "open IPv4 ports, from trusted links", |rule| {
        open(rule.links_in(Set::Trusted), Set::OpenPort4).accept()
    }),
    rule(FORWARD, "open IPv6 ports, from trusted links", |rule| {
        open(rule.links_in(Set::Trusted), Set::OpenPort6).accept()
    }),
    rule(FORWARD, "all other traffic into a network", |rule| {
        rule.link_in(Direction::Out, Set::Bridges).counter().drop()
    }),
    rule(FORWARD, "unpublished ports of the engine's networks", |rule| {
        let between = rule.link_in(Direction::In, Set::Bridges).link_in(Direction::Out, Set::EngineBridges);
        between.is_not_dnat().counter().drop()
    }),
];
