//! Owns the register of host ports that endpoints have: who has which, and which is next.
//!
//! In memory only: the endpoints' own records say what they publish. Whether another process has
//! a port is for the kernel to say; here is known which of our endpoints has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{EndpointId, HostPort, NetworkId, Protocol};

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOwner {
    /// Its network.
    pub network: NetworkId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The sandbox that it joined; two endpoints of one container may be told to publish the same.
    pub sandbox: String,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Ports {
    /// By protocol, family and port: the addresses that are taken. Rarely more than one or two.
    taken: BTreeMap<(Protocol, bool, u16), Vec<(IpAddr, PortOwner)>>,
    /// The ephemeral port that was given out last.
    last: u16,
}

impl Ports {
    /// The endpoint that stands in the way of taking this port, if one does: one with the same
    /// address, or where either of the two means every address of the family.
    pub fn holder(&self, port: &HostPort) -> Option<&PortOwner> {
        let held = self.taken.get(&key(port))?;
        let meets = |ip: &IpAddr| *ip == port.address || ip.is_unspecified() || port.address.is_unspecified();
        held.iter().find(|(ip, _)| meets(ip)).map(|(_, owner)| owner)
    }

    /// Notes that an endpoint has the port.
    pub fn take(&mut self, port: &HostPort, owner: &PortOwner) {
        let held = self.taken.entry(key(port)).or_default();
        held.retain(|(ip, _)| *ip != port.address);
        held.push((port.address, owner.clone()));
    }

    /// Notes that nobody has it any more.
    pub fn give_back(&mut self, port: &HostPort) {
        if let Some(held) = self.taken.get_mut(&key(port)) {
            held.retain(|(ip, _)| *ip != port.address);
            if held.is_empty() {
                self.taken.remove(&key(port));
            }
        }
    }

    /// The ephemeral ports in the order in which they should be tried: from after the one that
    /// was given out last, around, without the reserved ones.
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

    /// Notes which ephemeral port was given out.
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
