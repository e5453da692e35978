//! The parts of the tables that exist only once the policy has a statement that needs them: until then no packet is
//! evaluated there. A part stays until the tables are created again.
//!
//! Rules of a part drop or record packets, and accept none that a chain of [`super::ruleset::CHAINS`] drops: a missing part
//! can let a packet pass that it would drop, so it is created in the transaction that adds the first statement, and tables
//! with such a statement but without the part are damaged (`tables`).
//!
//! Pure. Used by `tables`, `schema` and `shell`.

use nft::message::Chain;

use super::ruleset::Rule;
use super::{access_rules, audit_rules, bridge_rules, isolation_rules, tunnel_rules};
use crate::datapath::{LinkProperty, Policy};

/// Chains with their rules, in both tables.
pub struct Part {
    /// What they are about, for operators.
    pub about: &'static str,
    /// The chains.
    pub chains: &'static [Chain],
    /// The rules, and those for a kernel that cannot reject packets.
    rules: [&'static [&'static [Rule]]; 2],
    /// Whether a statement needs them.
    pub needed_by: fn(&Policy) -> bool,
}

impl Part {
    /// Its rules, in order; those that reject packets drop them if `rejecting` is not set.
    pub fn rules(&self, rejecting: bool) -> impl Iterator<Item = &'static Rule> + use<> {
        self.rules[usize::from(!rejecting)].iter().copied().flatten()
    }

    /// Whether it has a chain in the table of this family.
    pub fn is_in(&self, family: u8) -> bool {
        self.chains.iter().any(|chain| chain.family == family)
    }
}

const fn part(
    about: &'static str,
    chains: &'static [Chain],
    rules: &'static [&'static [Rule]],
    needed_by: fn(&Policy) -> bool,
) -> Part {
    Part { about, chains, rules: [rules, rules], needed_by }
}

/// All of them.
pub static PARTS: [Part; 7] = [
    Part {
        about: "allow lists",
        chains: &access_rules::CHAINS,
        rules: [&access_rules::RULES[0], &access_rules::RULES[1]],
        needed_by: |policy| matches!(policy, Policy::Access(access) if access.restricts()),
    },
    part(
        "audited containers",
        &audit_rules::CHAINS,
        &audit_rules::RULES,
        |policy| matches!(policy, Policy::Access(access) if access.audits()),
    ),
    part("isolated containers", &isolation_rules::ISOLATED_CHAINS, &[&isolation_rules::BETWEEN_CONTAINERS], |policy| {
        matches!(policy, Policy::Isolated(_))
    }),
    part("internal networks", &isolation_rules::INTERNAL_CHAINS, &[&isolation_rules::OF_INTERNAL], |policy| {
        matches!(policy, Policy::Link(LinkProperty::Internal, _))
    }),
    part("limited forwarding", &isolation_rules::OTHERS_CHAINS, &[&isolation_rules::BETWEEN_OTHERS], |policy| {
        matches!(policy, Policy::LimitedForwarding(_))
    }),
    // A packet that its rules drop is to or from a peer, or carries a VNI of Pontoon.
    part("tunnels", &tunnel_rules::CHAINS, &[&tunnel_rules::RULES], |policy| {
        matches!(policy, Policy::Peer(_) | Policy::Tunnel(_))
    }),
    part("broadcasts", &bridge_rules::LEAVING_CHAINS, &[&bridge_rules::LEAVING], |policy| {
        matches!(policy, Policy::Link(LinkProperty::NoMulticast | LinkProperty::NoRouterAdvertisements, _))
    }),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::ruleset::CHAINS;
    use super::*;

    #[test]
    fn each_chain_is_in_one_part_with_its_rules() {
        let mut seen: BTreeSet<_> = CHAINS.iter().map(|chain| (chain.family, chain.name)).collect();
        for part in &PARTS {
            for chain in part.chains {
                assert!(seen.insert((chain.family, chain.name)), "{}", chain.name);
                for rejecting in [false, true] {
                    assert!(part.rules(rejecting).any(|rule| rule.chain == *chain), "{} is empty", chain.name);
                }
            }
            for rule in part.rules(true).chain(part.rules(false)) {
                assert!(part.chains.contains(&rule.chain), "{}: {}", part.about, rule.comment);
            }
        }
    }
}
