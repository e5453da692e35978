//! Owns the shape of table `inet pontoon`: its sets, chains and rules. What grows with the number
//! of networks is in the sets; the rules are always these.
//!
//! Pure. Used by `table`, which writes it and compares what it reads with it.
//!
//! An accept here overrides no drop of another table, and a drop here is final: so the table
//! protects Pontoon's networks, and lets others' rules be.

use super::element::Set;
use super::expression::{Direction, Expressions};
use super::message::Chain;

/// Name of the table, in family `inet`.
pub const TABLE: &str = "pontoon";

/// Comment of the table. Raised with every change of the shape: a table of another release has
/// another comment, and is replaced as a whole.
pub const SHAPE: &str = "pontoon ruleset 1";

/// Decides what may pass between links.
pub const FORWARD: Chain = Chain {
    name: "forward_filter",
    kind: "filter",
    hook: libc::NF_INET_FORWARD as u32,
    priority: libc::NF_IP_PRI_FILTER,
    comment: "who may enter and leave a network",
};

/// Hides subnets behind the host's address.
pub const POSTROUTING: Chain = Chain {
    name: "postrouting_nat",
    kind: "nat",
    hook: libc::NF_INET_POST_ROUTING as u32,
    priority: libc::NF_IP_PRI_NAT_SRC,
    comment: "source addresses of what goes out",
};

/// All chains.
pub const CHAINS: [Chain; 2] = [FORWARD, POSTROUTING];

/// A rule: its chain, its comment (by which it is recognised) and how it is written.
pub struct Rule {
    /// Name of the chain.
    pub chain: &'static str,
    /// What it is for; unique within the chain.
    pub comment: &'static str,
    /// Its expressions.
    pub write: fn(Expressions) -> Expressions,
}

/// All rules, in order.
pub const RULES: [Rule; 8] = [
    Rule { chain: FORWARD.name, comment: "within one network", write: |rule| rule.links_in(Set::Intra).accept() },
    Rule {
        chain: FORWARD.name,
        comment: "nothing leaves an internal network",
        write: |rule| rule.link_in(Direction::In, Set::Internal).counter().drop(),
    },
    Rule {
        chain: FORWARD.name,
        comment: "nothing enters an internal network",
        write: |rule| rule.link_in(Direction::Out, Set::Internal).counter().drop(),
    },
    Rule { chain: FORWARD.name, comment: "answers", write: |rule| rule.is_answer().accept() },
    Rule {
        chain: FORWARD.name,
        comment: "nothing else enters a network",
        write: |rule| rule.link_in(Direction::Out, Set::Bridges).counter().drop(),
    },
    Rule {
        chain: FORWARD.name,
        comment: "only published ports of the engine's own networks",
        write: |rule| {
            let between = rule.link_in(Direction::In, Set::Bridges).link_in(Direction::Out, Set::Engine);
            between.is_unpublished().counter().drop()
        },
    },
    Rule {
        chain: POSTROUTING.name,
        comment: "IPv4 that leaves Pontoon's networks",
        write: |rule| rule.source_in(Set::Masq4).link_not_in(Direction::Out, Set::Bridges).masquerade(),
    },
    Rule {
        chain: POSTROUTING.name,
        comment: "IPv6 that leaves Pontoon's networks",
        write: |rule| rule.source_in(Set::Masq6).link_not_in(Direction::Out, Set::Bridges).masquerade(),
    },
];
