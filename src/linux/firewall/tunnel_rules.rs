//! Rules about the packets of overlay networks (VXLAN): only the kernel's own tunnels may send them, and only
//! those of peers are accepted.
//!
//! A packet that a container or a process sends to a peer's tunnel leaves with this host's address, so the
//! peer cannot distinguish it from this host's tunnel. It is dropped here: forwarded packets in chain
//! `forward_tunnel`, those of processes in `output_tunnel`. Chain `input_filter` checks incoming packets.
//! Other programs may use the same port: packets of other networks pass, but to peers only the kernel and
//! peers may send any.
//!
//! The chains exist once there is a peer or an overlay network: without one, their rules match no packet.
//!
//! Pure. Part of `parts`.

use crate::model::Family;
use nft::message::Chain;
use nft::{Expressions, Field, Side};

use super::ruleset::{Rule, chain, rule};
use super::sets::Set;

/// After defragmentation, and before connection tracking.
const RAW: Chain = chain(
    "prerouting_tunnel",
    "filter",
    libc::NF_INET_PRE_ROUTING,
    libc::NF_IP_PRI_RAW,
    "forged packets of overlay networks",
);

/// Before the other chains, whose drops would say less about such a packet.
const FORWARD: Chain = chain(
    "forward_tunnel",
    "filter",
    libc::NF_INET_FORWARD,
    libc::NF_IP_PRI_FILTER - 1,
    "packets to overlay networks through this host",
);

/// Decides which hosts may send to overlay networks.
const INPUT: Chain = chain(
    "input_filter",
    "filter",
    libc::NF_INET_LOCAL_IN,
    libc::NF_IP_PRI_FILTER,
    "incoming packets of overlay networks",
);

/// Decides which senders may send to overlay networks.
const OUTPUT: Chain = chain(
    "output_tunnel",
    "filter",
    libc::NF_INET_LOCAL_OUT,
    libc::NF_IP_PRI_FILTER,
    "outgoing packets of overlay networks",
);

/// All chains about tunnels.
pub(super) static CHAINS: [Chain; 4] = [RAW, FORWARD, INPUT, OUTPUT];

/// The first port that needs no privilege.
const UNPRIVILEGED: [u8; 2] = 1024u16.to_be_bytes();

/// The invalid user id.
const INVALID_USER: [u8; 4] = u32::MAX.to_ne_bytes();

/// Kinds of links that lead to other hosts as hardware links do: a peer's packets may come in by one and go
/// out by another.
const TO_OTHER_HOSTS: [&str; 6] = ["vlan", "bond", "team", "vrf", "macvlan", "ipvlan"];

const UDP: [u8; 1] = [libc::IPPROTO_UDP as u8];

fn source(family: Family) -> Field {
    Side::Source.address(family)
}

fn destination(family: Family) -> Field {
    Side::Destination.address(family)
}

/// Matches packets to the port of the tunnels, in the family of `set`.
fn to_tunnels(rule: Expressions, set: Set) -> Expressions {
    rule.is(Field::TRANSPORT, &UDP).key_in(&[Field::PORT], Set::TunnelPorts).family(set.family())
}

/// Matches packets with a peer's source address that come in by a link that does not lead to the peer: a
/// bridge or a link of a container. Connection tracking has reassembled fragments before.
fn forged(rule: Expressions, peers: Set) -> Expressions {
    let rule = to_tunnels(rule, peers).key_in(&[source(peers.family())], peers);
    let rule = TO_OTHER_HOSTS.iter().fold(rule, |rule, kind| {
        let mut name = [0; 16];
        name.iter_mut().zip(kind.bytes()).for_each(|(byte, letter)| *byte = letter);
        rule.is_not(Field::LINK_KIND, &name)
    });
    rule.no_reverse_route().counter().drop()
}

/// Matches packets that are forwarded to a peer, but not from another peer. A peer has more addresses than
/// the known one.
fn forwarded_to_peer(rule: Expressions, peers: Set) -> Expressions {
    let rule = to_tunnels(rule, peers).key_in(&[destination(peers.family())], peers);
    rule.key_not_in(&[source(peers.family())], peers).counter().drop()
}

fn forwarded_of_ours(rule: Expressions, peers: Set) -> Expressions {
    let rule = to_tunnels(rule, peers).key_in(&[Field::VNI], Set::Tunnels);
    rule.key_not_in(&[source(peers.family())], peers).counter().drop()
}

/// Matches packets sent by a process: those of the kernel have no user.
fn by_a_process(rule: Expressions) -> Expressions {
    rule.is_not(Field::USER, &INVALID_USER).counter().drop()
}

fn to_peer(rule: Expressions, peers: Set) -> Expressions {
    by_a_process(rule.family(peers.family()).key_in(&[destination(peers.family())], peers))
}

fn no_peer(rule: Expressions, peers: Set) -> Expressions {
    rule.family(peers.family()).key_not_in(&[source(peers.family())], peers)
}

fn elsewhere(rule: Expressions, here: Set) -> Expressions {
    rule.family(here.family()).key_not_in(&[destination(here.family())], here).counter().drop()
}

fn sender(set: Set) -> [Field; 2] {
    [source(set.family()), Field::VNI]
}

fn low(rule: Expressions, set: Set) -> Expressions {
    rule.family(set.family()).below(Field::SOURCE_PORT, &UNPRIVILEGED).add_to(&sender(set), set)
}

fn high(rule: Expressions, set: Set) -> Expressions {
    let rule = rule.family(set.family()).at_least(Field::SOURCE_PORT, &UNPRIVILEGED);
    rule.key_in(&sender(set), set).counter().drop()
}

/// All of them; within a chain in this order.
pub(super) static RULES: [Rule; 26] = [
    rule(RAW, "IPv4 peer address on a link that does not lead to the peer", |rule| forged(rule, Set::Peers4)),
    rule(RAW, "IPv6 peer address on a link that does not lead to the peer", |rule| forged(rule, Set::Peers6)),
    rule(FORWARD, "forged overlay packets to an IPv4 peer", |rule| forwarded_to_peer(rule, Set::Peers4)),
    rule(FORWARD, "forged overlay packets to an IPv6 peer", |rule| forwarded_to_peer(rule, Set::Peers6)),
    rule(FORWARD, "forged packets of our overlays, over IPv4", |rule| forwarded_of_ours(rule, Set::Peers4)),
    rule(FORWARD, "forged packets of our overlays, over IPv6", |rule| forwarded_of_ours(rule, Set::Peers6)),
    // Packets that the other rules do not concern leave early.
    rule(OUTPUT, "not UDP", |rule| rule.is_not(Field::TRANSPORT, &UDP).accept()),
    rule(OUTPUT, "other UDP ports", |rule| rule.key_not_in(&[Field::PORT], Set::TunnelPorts).accept()),
    rule(OUTPUT, "sent by a tunnel of this host", |rule| rule.at_least(Field::IN_A_FRAME, &[0]).accept()),
    rule(OUTPUT, "sent by a process to an IPv4 peer", |rule| to_peer(rule, Set::Peers4)),
    rule(OUTPUT, "sent by a process to an IPv6 peer", |rule| to_peer(rule, Set::Peers6)),
    rule(OUTPUT, "sent by a process with a VNI of ours", |rule| by_a_process(rule.key_in(&[Field::VNI], Set::Tunnels))),
    rule(INPUT, "not UDP", |rule| rule.is_not(Field::TRANSPORT, &UDP).accept()),
    rule(INPUT, "other UDP ports", |rule| rule.key_not_in(&[Field::PORT], Set::TunnelPorts).accept()),
    rule(INPUT, "VNIs of other programs", |rule| rule.key_not_in(&[Field::VNI], Set::Tunnels).accept()),
    rule(INPUT, "from this host itself", |rule| rule.is(Field::LINK, &LOOPBACK).counter().drop()),
    rule(INPUT, "not to the IPv4 address of the tunnels", |rule| elsewhere(rule, Set::TunnelAddress4)),
    rule(INPUT, "not to the IPv6 address of the tunnels", |rule| elsewhere(rule, Set::TunnelAddress6)),
    rule(INPUT, "record IPv4 senders that are not peers", |rule| {
        no_peer(rule, Set::Peers4).add_to(&sender(Set::UnknownSender4), Set::UnknownSender4)
    }),
    rule(INPUT, "IPv4 senders that are not peers", |rule| no_peer(rule, Set::Peers4).counter().drop()),
    rule(INPUT, "record IPv6 senders that are not peers", |rule| {
        no_peer(rule, Set::Peers6).add_to(&sender(Set::UnknownSender6), Set::UnknownSender6)
    }),
    rule(INPUT, "IPv6 senders that are not peers", |rule| no_peer(rule, Set::Peers6).counter().drop()),
    // Tunnels of this release send from ports that only root may use. Where a peer is known to do so, packets
    // from other ports are not accepted from it; a peer with an earlier release is accepted while it is the
    // only one that sends.
    rule(INPUT, "record IPv4 peers that send from privileged ports", |rule| low(rule, Set::PrivilegedSender4)),
    rule(INPUT, "record IPv6 peers that send from privileged ports", |rule| low(rule, Set::PrivilegedSender6)),
    rule(INPUT, "unprivileged source port of an IPv4 peer", |rule| high(rule, Set::PrivilegedSender4)),
    rule(INPUT, "unprivileged source port of an IPv6 peer", |rule| high(rule, Set::PrivilegedSender6)),
];

/// Name of the link to this host itself.
const LOOPBACK: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
