//! Which names the addresses belong to that audited endpoints were answered: the list of what they did has them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use dns::Name;

use super::{Driver, LONGEST, MOST_ADDRESSES, Named, Names, is_admissible};
use crate::state::table::lock;

impl Named {
    /// Which of the names that an audited endpoint looked up an address was the answer for, each in the last day.
    pub fn learned(&self) -> BTreeMap<IpAddr, BTreeSet<Name>> {
        lock(&self.admitted).iter().flatten().map(|(peer, standing)| (*peer, standing.names())).collect()
    }
}

impl Names {
    /// Remembers that these addresses were the answer for a name of an audited endpoint, as far as there is room.
    fn learn(&self, named: &Named, name: &Name, found: &[(IpAddr, u32)]) {
        let mut admitted = lock(&named.admitted);
        let Some(admitted) = admitted.as_mut() else { return };
        let now = Instant::now();
        for (peer, _) in found.iter().filter(|(peer, _)| is_admissible(peer)) {
            if admitted.len() >= MOST_ADDRESSES && !admitted.contains_key(peer) {
                admitted.retain(|_, standing| standing.is_valid(now));
            }
            if admitted.len() < MOST_ADDRESSES || admitted.contains_key(peer) {
                admitted.entry(*peer).or_default().prolong(now + LONGEST, name);
            }
        }
    }
}

impl Driver {
    /// Remembers what the addresses that an audited endpoint was answered belong to.
    pub fn learn(&self, named: &Named, name: &Name, found: &[(IpAddr, u32)]) {
        self.names.learn(named, name, found);
    }
}
