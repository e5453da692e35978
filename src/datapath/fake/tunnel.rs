//! Tunnels of the fake: VXLAN links, their flood lists, learned peers and announcements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{FakeKernel, World};
use crate::datapath::fastpath;
use crate::datapath::{FastPath, Underlay};
use crate::model::{DataPath, IfName};

/// What the fake knows about other hosts.
#[derive(Default)]
pub(super) struct Beyond {
    pub underlays: BTreeMap<Option<IfName>, Underlay>,
    pub heard: BTreeMap<IpAddr, Duration>,
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
    /// Sets the host's underlay address, on this link or on the link of the default route.
    pub fn set_underlay(&self, link: Option<&IfName>, underlay: Option<Underlay>) {
        let mut world = self.world();
        match underlay {
            Some(underlay) => world.beyond.underlays.insert(link.cloned(), underlay),
            None => world.beyond.underlays.remove(&link.cloned()),
        };
    }

    /// Adds a further address to the host, or removes it.
    pub fn set_address(&self, address: IpAddr, there: bool) {
        let addresses = &mut self.world().beyond.addresses;
        if there {
            addresses.insert(address)
        } else {
            addresses.remove(&address)
        };
    }

    /// Records a forwarding entry that was learned from a packet of another host this long ago.
    pub fn hear(&self, peer: IpAddr, age: Duration) {
        self.world().beyond.heard.insert(peer, age);
    }
}

impl World {
    /// Like the real kernel: no fast path entry exists for a link that does not exist.
    pub(super) fn change_fastpath(&mut self, add: &[FastPath], remove: &[FastPath]) {
        let held = self.datapath.fastpath.get_or_insert_default();
        held.retain(|entry| !remove.contains(entry));
        held.extend(add.iter().cloned());
        *held = fastpath::whole(std::mem::take(held));
    }
}
