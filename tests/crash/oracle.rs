//! What an engine asked for and believes in: networks, endpoints, and what it lost track of.

use std::collections::BTreeSet;

/// What kind of network a user asks for, beside its IPv4 subnet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kind {
    /// IPv6 subnet; none if empty.
    pub six: &'static str,
    pub internal: bool,
    /// `-o` of `docker network create`.
    pub options: &'static [(&'static str, &'static str)],
}

impl Kind {
    /// In how many families published ports are translated.
    pub fn ways(&self) -> usize {
        let routed = |family: &str| self.options.iter().any(|(key, mode)| key.ends_with(family) && *mode == "routed");
        let six = !self.six.is_empty() && !routed("mode_ipv6");
        if self.internal { 0 } else { usize::from(!routed("mode_ipv4")) + usize::from(six) }
    }
}

/// One family's addresses of a network.
#[derive(Debug, Clone)]
pub struct Subnet {
    pub pool: String,
    pub subnet: String,
    pub gateway: String,
}

/// A network as the engine believes in it.
#[derive(Debug, Clone)]
pub struct Network {
    pub pool: String,
    pub subnet: String,
    pub gateway: String,
    pub six: Option<Subnet>,
    /// How many host ports, of different families, one published port takes.
    pub ways: usize,
}

impl Network {
    /// What it has of each family.
    pub fn subnets(&self) -> Vec<Subnet> {
        let four = Subnet { pool: self.pool.clone(), subnet: self.subnet.clone(), gateway: self.gateway.clone() };
        std::iter::once(four).chain(self.six.clone()).collect()
    }
}

/// An endpoint of a running container as the engine believes in it.
#[derive(Debug, Clone)]
pub struct Attached {
    pub network: String,
    /// With prefix length.
    pub address: String,
    /// The same of IPv6, if it has one.
    pub six: Option<String>,
    pub source: String,
    pub link: String,
    /// Host port and protocol number, each leading to port 7 of the container.
    pub ports: Vec<(u8, u16)>,
    /// Which of the test's sandboxes it is in.
    pub sandbox: usize,
    /// Whether its link was moved there.
    pub plugged: bool,
}

/// What may be left of calls that nobody knows the end of, or that were refused when something
/// was to be removed.
#[derive(Debug, Default, Clone)]
pub struct Lost {
    pub networks: BTreeSet<String>,
    pub endpoints: BTreeSet<(String, String)>,
    pub pools: BTreeSet<String>,
    /// Addresses are in doubt; whose, the engine cannot tell.
    pub addresses: bool,
}

impl Lost {
    pub fn nothing(&self) -> bool {
        self.networks.is_empty() && self.endpoints.is_empty() && self.pools.is_empty() && !self.addresses
    }
}
