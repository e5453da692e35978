//! Owns the fake's tunnels: VXLAN links, whom they flood to, what was heard and announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{FakeKernel, World};
use crate::datapath::shortcut;
use crate::datapath::{Announcement, Shortcut, Underlay};
use crate::model::{DataPath, IfName};

/// What the fake knows of other hosts.
#[derive(Default)]
pub(super) struct Beyond {
    pub underlays: BTreeMap<Option<IfName>, Underlay>,
    pub heard: BTreeMap<IpAddr, Duration>,
    pub announced: Vec<Announcement>,
    pub addresses: BTreeSet<IpAddr>,
}

impl Beyond {
    pub fn own(&self) -> BTreeSet<IpAddr> {
        self.underlays.values().map(|found| found.address).chain(self.addresses.iter().copied()).collect()
    }

    pub fn underlay(&self, path: &DataPath) -> Option<Underlay> {
        match path {
            DataPath::DefaultRoute => self.underlays.get(&None).copied(),
            DataPath::Link(link) => self.underlays.get(&Some(link.clone())).copied(),
            DataPath::Address(address) => self.underlays.values().find(|found| found.address == *address).copied(),
        }
    }
}

impl FakeKernel {
    /// Gives the host an address towards other hosts, on this link or on the default route's.
    pub fn set_underlay(&self, link: Option<&IfName>, underlay: Option<Underlay>) {
        let mut world = self.world();
        match underlay {
            Some(underlay) => world.beyond.underlays.insert(link.cloned(), underlay),
            None => world.beyond.underlays.remove(&link.cloned()),
        };
    }

    /// Gives the host a further address, or takes it.
    pub fn set_address(&self, address: IpAddr, there: bool) {
        let addresses = &mut self.world().beyond.addresses;
        if there {
            addresses.insert(address)
        } else {
            addresses.remove(&address)
        };
    }

    /// A packet from another host taught an entry, so long ago.
    pub fn hear(&self, peer: IpAddr, age: Duration) {
        self.world().beyond.heard.insert(peer, age);
    }

    /// What was announced so far, and forgets it.
    pub fn take_announced(&self) -> Vec<Announcement> {
        std::mem::take(&mut self.world().beyond.announced)
    }
}

impl World {
    /// As the real one: no way leads past a link that is not there.
    pub(super) fn shortcuts(&mut self, add: &[Shortcut], remove: &[Shortcut]) {
        let held = self.datapath.shortcuts.get_or_insert_default();
        held.retain(|shortcut| !remove.contains(shortcut));
        held.extend(add.iter().cloned());
        *held = shortcut::whole(std::mem::take(held));
    }
}
