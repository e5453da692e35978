//! Stations: containers on a parent that the host reaches by its host link, each with a route and, on a macvlan link, a
//! permanent neighbour entry there.
//!
//! The neighbour entry is permanent so that the host never asks for the address: its request would tell every station
//! of the parent's network the hardware address of the host link. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Protected;
use crate::model::{IfName, Mac};

/// One address of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// The host link.
    pub link: IfName,
    /// The address.
    pub address: IpAddr,
    /// The hardware address that has it; `None` on a link whose children share one: the host may ask for it.
    pub mac: Option<Mac>,
}

/// What to add and what to remove. The kernel removes the stations of a link together with the link, so those of the
/// links `made`, which were created by then, are all added.
pub(super) fn difference(
    have: &BTreeSet<Station>,
    want: &BTreeSet<Station>,
    made: &BTreeSet<&IfName>,
    protected: &Protected,
) -> (Vec<Station>, Vec<Station>) {
    let add = want.iter().filter(|station| !have.contains(*station) || made.contains(&station.link)).cloned().collect();
    // An address may have moved to another container: adding it replaces the entry.
    let is_wanted = |one: &Station| want.iter().any(|w| (&w.link, w.address) == (&one.link, one.address));
    let gone = |one: &&Station| !want.contains(*one) && !is_wanted(one) && !protected.links.contains(&one.link);
    (add, have.iter().filter(gone).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(link: &str, address: &str, mac: &str) -> Station {
        let link = IfName::parse(link).unwrap();
        Station { link, address: address.parse().unwrap(), mac: Some(Mac::derive("peer", mac)) }
    }

    #[test]
    fn an_address_that_moved_is_only_added() {
        let have = BTreeSet::from([station("pnts1", "192.0.2.1", "a"), station("pnts1", "192.0.2.2", "b")]);
        let want = BTreeSet::from([station("pnts1", "192.0.2.1", "c")]);
        let (add, remove) = difference(&have, &want, &BTreeSet::new(), &Protected::default());
        assert_eq!((add, remove), (want.into_iter().collect(), vec![station("pnts1", "192.0.2.2", "b")]));
    }

    #[test]
    fn those_of_a_new_link_are_added_and_those_of_a_protected_link_stay() {
        let all = BTreeSet::from([station("pnts1", "192.0.2.1", "a")]);
        let link = IfName::parse("pnts1").unwrap();
        let (add, _) = difference(&all, &all, &BTreeSet::from([&link]), &Protected::default());
        assert_eq!(add, all.iter().cloned().collect::<Vec<_>>());
        let protected = Protected { links: [link].into(), ..Protected::default() };
        assert_eq!(difference(&all, &BTreeSet::new(), &BTreeSet::new(), &protected), (vec![], vec![]));
    }
}
