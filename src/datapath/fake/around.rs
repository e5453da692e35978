//! Surroundings of Pontoon on the fake's host: routes, addresses, the uplink.

use ipnetwork::IpNetwork;

use super::FakeKernel;
use crate::datapath::{Surroundings, surroundings::Route};
use crate::model::IfName;

impl FakeKernel {
    /// Adds a route to the host.
    pub fn add_route(&self, destination: IpNetwork) {
        let way = Route { destination, link: "eth0".to_owned(), connected: false, yields: false, ours: false };
        self.world().surroundings.ways.push(way);
    }

    /// Changes the surroundings of the host.
    pub fn surround(&self, change: impl FnOnce(&mut Surroundings)) {
        change(&mut self.world().surroundings);
    }

    /// Removes a link that is not Pontoon's, and with it the links on it.
    pub fn remove_link(&self, name: &IfName) {
        let world = &mut *self.world();
        world.foreign.remove(name);
        let objects = &mut world.datapath.objects;
        let mut gone = vec![name.clone()];
        while let Some(parent) = gone.pop() {
            gone.extend(objects.iter().filter(|(_, on)| on.parent() == Some(&parent)).map(|(name, _)| name.clone()));
            objects.retain(|_, on| on.parent() != Some(&parent));
            world.datapath.stations.retain(|station| station.link != parent);
        }
    }

    /// Adds a rule of another program that decides about frames between containers, or removes it.
    pub fn oppose(&self, rule: Option<&str>) {
        self.world().opposed = rule.map(str::to_owned);
    }

    /// Sets the MTU of the default route's link.
    pub fn set_uplink_mtu(&self, mtu: Option<u32>) {
        self.world().uplink_mtu = mtu;
    }
}
