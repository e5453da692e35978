//! Surroundings of Pontoon on the fake's host: routes, addresses, the uplink.

use ipnetwork::IpNetwork;

use super::FakeKernel;
use crate::datapath::{Surroundings, surroundings::Route};

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

    /// Sets the MTU of the default route's link.
    pub fn set_uplink_mtu(&self, mtu: Option<u32>) {
        self.world().uplink_mtu = mtu;
    }
}
