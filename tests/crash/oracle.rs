//! The engine's view: networks, endpoints, and what it lost track of.

use std::collections::BTreeSet;

/// The kind of a network, besides its IPv4 subnet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kind {
    /// IPv6 subnet; none if empty.
    pub six: &'static str,
    pub internal: bool,
    /// `-o` of `docker network create`.
    pub options: &'static [(&'static str, &'static str)],
}

impl Kind {
    /// The number of families in which published ports are translated.
    pub fn families(&self) -> usize {
        let routed = |family: &str| self.options.iter().any(|(key, mode)| key.ends_with(family) && *mode == "routed");
        let six = !self.six.is_empty() && !routed("mode_ipv6");
        if self.internal { 0 } else { usize::from(!routed("mode_ipv4")) + usize::from(six) }
    }
}

/// The addresses of a network in one family.
#[derive(Debug, Clone)]
pub struct Subnet {
    pub pool: String,
    pub subnet: String,
    pub gateway: String,
}

/// A network in the engine's view.
#[derive(Debug, Clone)]
pub struct Network {
    pub pool: String,
    pub subnet: String,
    pub gateway: String,
    pub six: Option<Subnet>,
    /// How many host ports, of different families, one published port takes.
    pub families: usize,
}

impl Network {
    /// The subnets of both families.
    pub fn subnets(&self) -> Vec<Subnet> {
        let four = Subnet { pool: self.pool.clone(), subnet: self.subnet.clone(), gateway: self.gateway.clone() };
        std::iter::once(four).chain(self.six.clone()).collect()
    }
}

/// An endpoint of a running container in the engine's view.
#[derive(Debug, Clone)]
pub struct Attached {
    pub network: String,
    /// With prefix length.
    pub address: String,
    /// The IPv6 address, if it has one.
    pub six: Option<String>,
    pub source: String,
    pub link: String,
    /// Host port and protocol number, each published for port 7 of the container.
    pub ports: Vec<(u8, u16)>,
    /// The sandbox of the test that it is in.
    pub sandbox: usize,
    /// Whether its link was moved there.
    pub plugged: bool,
}

/// Possible leftovers of calls with an unknown result, and of refused removals.
#[derive(Debug, Default, Clone)]
pub struct Lost {
    pub networks: BTreeSet<String>,
    pub endpoints: BTreeSet<(String, String)>,
    pub pools: BTreeSet<String>,
    /// Addresses may be left; the engine cannot tell which.
    pub addresses: bool,
}

impl Lost {
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.endpoints.is_empty() && self.pools.is_empty() && !self.addresses
    }
}
