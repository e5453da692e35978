//! Counts which networks need the same object, policy or rule, so that the end of one network does not remove
//! what another one still needs: several networks may use one bridge of the user, or one parent.
//!
//! Parts of networks are counted, and of endpoints in a VLAN, which may have the addresses of endpoints in another
//! VLAN. Other endpoints share nothing. Used by the reconciler.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Datapath, ForwardRule, Policy};
use crate::model::{EndpointId, IfName, NetworkId};

/// Whose need is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharer {
    /// A network.
    Network(NetworkId),
    /// An endpoint of a network in a VLAN: another VLAN may have the same addresses.
    Endpoint(NetworkId, EndpointId),
}

/// One thing that several networks may need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Link(IfName),
    Policy(Policy),
    /// The flag is IPv6.
    Rule(bool, ForwardRule),
}

/// See the module documentation. Each operation costs as much as the network it is about.
#[derive(Debug, Default)]
pub struct Sharing {
    sharers: BTreeMap<Sharer, BTreeSet<Need>>,
    users: BTreeMap<Need, usize>,
}

impl Sharing {
    /// Records that `before`, a part of a network or endpoint or empty, is replaced with `after`. Returns `before` without
    /// what other networks still need and `after` does not contain.
    ///
    /// May be repeated: what counts is the last `after` of each network.
    pub fn replaced<'a>(&mut self, before: &'a Datapath, after: &Datapath) -> Cow<'a, Datapath> {
        let mut rest = Cow::Borrowed(before);
        let Some(id) = before.sharer.as_ref().or(after.sharer.as_ref()) else { return rest };
        let new = if after.sharer.is_some() { needs(after) } else { BTreeSet::new() };
        for need in &new {
            *self.users.entry(need.clone()).or_default() += 1;
        }
        let old = match new.is_empty() {
            true => self.sharers.remove(id),
            false => self.sharers.insert(id.clone(), new.clone()),
        };
        for need in old.into_iter().flatten() {
            if let Some(count) = self.users.get_mut(&need) {
                *count -= 1;
                if *count == 0 {
                    self.users.remove(&need);
                }
            }
        }
        let kept = needs(before).into_iter().filter(|need| self.users.contains_key(need) && !new.contains(need));
        kept.for_each(|need| remove(rest.to_mut(), &need));
        rest
    }
}

fn needs(part: &Datapath) -> BTreeSet<Need> {
    let links = part.objects.keys().cloned().map(Need::Link);
    let policy = part.policy.iter().flatten().cloned().map(Need::Policy);
    let rules = [(false, &part.forward4), (true, &part.forward6)];
    let rules = rules.into_iter().flat_map(|(v6, set)| set.iter().flatten().cloned().map(move |r| Need::Rule(v6, r)));
    links.chain(policy).chain(rules).collect()
}

fn remove(from: &mut Datapath, need: &Need) {
    match need {
        Need::Link(name) => drop(from.objects.remove(name)),
        Need::Policy(policy) => drop(from.policy.as_mut().map(|set| set.remove(policy))),
        Need::Rule(false, rule) => drop(from.forward4.as_mut().map(|set| set.remove(rule))),
        Need::Rule(true, rule) => drop(from.forward6.as_mut().map(|set| set.remove(rule))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::{LinkMatch, LinkProperty};

    fn part(network: &str, bridges: &[&str]) -> Datapath {
        let name = |text: &str| IfName::parse(text).unwrap();
        Datapath {
            sharer: Some(Sharer::Network(NetworkId::parse(network).unwrap())),
            policy: Some(bridges.iter().map(|text| Policy::Link(LinkProperty::ContainerBridge, name(text))).collect()),
            forward4: Some([ForwardRule::From(LinkMatch::Name(name("br-lan")))].into()),
            ..Datapath::default()
        }
    }

    #[test]
    fn the_last_user_takes_it_along() {
        let mut sharing = Sharing::default();
        let (a, b) = (part("a", &["br-lan", "a0"]), part("b", &["br-lan"]));
        // Repeating changes nothing.
        for _ in 0..2 {
            sharing.replaced(&Datapath::empty(), &a);
            sharing.replaced(&Datapath::empty(), &b);
            assert_eq!(*sharing.replaced(&b, &b), b);
        }
        let rest = sharing.replaced(&a, &Datapath::empty()).into_owned();
        assert_eq!((rest.policy, rest.forward4), (part("a", &["a0"]).policy, Some(BTreeSet::new())));
        assert_eq!(*sharing.replaced(&b, &Datapath::empty()), b);
        assert!(sharing.users.is_empty() && sharing.sharers.is_empty());
    }

    #[test]
    fn a_change_keeps_what_others_need() {
        let mut sharing = Sharing::default();
        let (a, b) = (part("a", &["br-lan"]), part("b", &["br-lan"]));
        sharing.replaced(&Datapath::empty(), &a);
        sharing.replaced(&Datapath::empty(), &b);
        let moved = part("a", &["a0"]);
        let rest = sharing.replaced(&a, &moved).into_owned();
        assert_eq!((rest.policy, rest.forward4), (Some(BTreeSet::new()), a.forward4.clone()));
        assert_eq!(*sharing.replaced(&moved, &a), moved);
    }
}
