//! The register of host ports that endpoints publish: the owner of each port, and which port to allocate next.
//!
//! In memory only: the records of endpoints contain what they publish. The kernel decides whether another
//! process has a port; this register knows which endpoint of Pontoon has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{EndpointId, HostPort, NetworkId, Protocol};

/// The owner of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOwner {
    /// Its network.
    pub network: NetworkId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The sandbox that it joined; two endpoints of one container may publish the same port.
    pub sandbox: String,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Ports {
    /// By protocol, family and port: the addresses in use. Rarely more than one or two.
    taken: BTreeMap<(Protocol, bool, u16), Vec<(IpAddr, PortOwner)>>,
    /// The ephemeral port that was allocated last.
    last: u16,
}

impl Ports {
    /// The endpoint that conflicts with this port, if any: one with the same address, or where either of the two
    /// is the wildcard address of the family.
    pub fn holder(&self, port: &HostPort) -> Option<&PortOwner> {
        let held = self.taken.get(&key(port))?;
        let meets = |ip: &IpAddr| *ip == port.address || ip.is_unspecified() || port.address.is_unspecified();
        held.iter().find(|(ip, _)| meets(ip)).map(|(_, owner)| owner)
    }

    /// Registers that an endpoint has the port.
    pub fn take(&mut self, port: &HostPort, owner: &PortOwner) {
        let held = self.taken.entry(key(port)).or_default();
        held.retain(|(ip, _)| *ip != port.address);
        held.push((port.address, owner.clone()));
    }

    /// Releases the port.
    pub fn give_back(&mut self, port: &HostPort) {
        if let Some(held) = self.taken.get_mut(&key(port)) {
            held.retain(|(ip, _)| *ip != port.address);
            if held.is_empty() {
                self.taken.remove(&key(port));
            }
        }
    }

    /// The ephemeral ports in the order in which to try them: round-robin, starting after the one that was
    /// allocated last, without the reserved ports.
    pub fn candidates(
        &self,
        range: std::ops::RangeInclusive<u16>,
        reserved: Vec<std::ops::RangeInclusive<u16>>,
    ) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = (*range.start(), *range.end());
        let from = if range.contains(&self.last) && self.last < last { self.last + 1 } else { first };
        let around = (from..=last).chain(first..from);
        around.filter(move |port| !reserved.iter().any(|range| range.contains(port)))
    }

    /// Records which ephemeral port was allocated.
    pub fn gave(&mut self, port: u16) {
        self.last = port;
    }
}

fn key(port: &HostPort) -> (Protocol, bool, u16) {
    (port.protocol, port.address.is_ipv6(), port.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, port: u16) -> HostPort {
        HostPort { protocol: Protocol::Tcp, address: address.parse().unwrap(), port }
    }

    fn owner(text: &str) -> PortOwner {
        PortOwner {
            network: NetworkId::parse("n").unwrap(),
            endpoint: EndpointId::parse(text).unwrap(),
            sandbox: String::new(),
        }
    }

    #[test]
    fn every_address_stands_in_the_way_of_each_and_each_of_every() {
        let mut ports = Ports::default();
        ports.take(&at("192.0.2.1", 80), &owner("a"));
        assert_eq!(ports.holder(&at("0.0.0.0", 80)), Some(&owner("a")));
        assert_eq!(ports.holder(&at("192.0.2.1", 80)), Some(&owner("a")));
        for free in [at("192.0.2.2", 80), at("0.0.0.0", 81), at("::", 80)] {
            assert_eq!(ports.holder(&free), None, "{free}");
        }
        ports.take(&at("::", 80), &owner("b"));
        assert_eq!(ports.holder(&at("2001:db8::1", 80)), Some(&owner("b")));
        ports.give_back(&at("::", 80));
        assert_eq!(ports.holder(&at("2001:db8::1", 80)), None);
    }

    #[test]
    fn ephemeral_ports_go_around() {
        let mut ports = Ports::default();
        let order = |ports: &Ports| ports.candidates(10..=14, vec![12..=12]).collect::<Vec<_>>();
        assert_eq!(order(&ports), [10, 11, 13, 14]);
        ports.gave(11);
        assert_eq!(order(&ports), [13, 14, 10, 11]);
        ports.gave(14);
        assert_eq!(order(&ports), [10, 11, 13, 14]);
    }
}
