//! Surroundings of Pontoon's networks on a host: routes, addresses and gateways that a subnet may conflict
//! with.
//!
//! Pure. Read by `Kernel::surroundings`; used when a subnet is chosen, and when a network is created.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::model::IfName;

/// A route of the host, except default routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its destination.
    pub destination: IpNetwork,
    /// The link it uses, or empty.
    pub link: String,
    /// Whether it results from an address of that link: the host is part of that subnet.
    pub connected: bool,
    /// Whether it does not prove that its destination is in use: it leads through a gateway or into a tunnel.
    /// Such a route that is wider than a subnet yields to it, as a default route does.
    pub yields: bool,
    /// Whether the link is Pontoon's.
    pub ours: bool,
}

/// See the module documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Routes of all tables.
    pub ways: Vec<Route>,
    /// Addresses of links that are not Pontoon's, with the link's name.
    pub addresses: Vec<(IpNetwork, String)>,
    /// Gateways of routes, default routes among them.
    pub gateways: Vec<IpAddr>,
    /// The link of the default route, IPv4 first.
    pub uplink: Option<IfName>,
}

impl Surroundings {
    /// What a subnet must not overlap unless the user chose it.
    pub fn firm(&self) -> Vec<IpNetwork> {
        let ways = self.ways.iter().filter(|way| !way.yields).map(|way| way.destination);
        let addresses = self.addresses.iter().map(|(address, _)| address.ip());
        ways.chain(addresses.chain(self.gateways.iter().copied()).map(IpNetwork::from)).collect()
    }

    /// What yields to a narrower subnet.
    pub fn yielding(&self) -> Vec<IpNetwork> {
        self.ways.iter().filter(|way| way.yields).map(|way| way.destination).collect()
    }

    /// Why a bridge with this subnet would cut the host off; the text follows the subnet in a message.
    pub fn endangered_by(&self, subnet: &IpNetwork, resolvers: &[IpAddr]) -> Option<String> {
        if let Some((address, link)) = self.addresses.iter().find(|(address, _)| subnet.contains(address.ip())) {
            return Some(format!("holds {}, the address of link {link} of this host", address.ip()));
        }
        let same = |way: &&Route| way.connected && !way.ours && way.destination == *subnet;
        if let Some(way) = self.ways.iter().find(same) {
            return Some(format!("is that of link {} of this host", way.link));
        }
        if let Some(gateway) = self.gateways.iter().find(|gateway| subnet.contains(**gateway)) {
            return Some(format!("holds {gateway}, a gateway of this host"));
        }
        let resolver = resolvers.iter().find(|resolver| subnet.contains(**resolver))?;
        Some(format!("holds {resolver}, a name server of this host"))
    }
}
