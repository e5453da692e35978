//! What lets a network span several hosts: its VNI, its scope, and how the host's underlay address is chosen.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::IfName;

/// How long a forwarding entry that was learned from another host lasts without traffic: the kernel's own default
/// (`FDB_AGE_DEFAULT`, drivers/net/vxlan), set explicitly because peers are judged by it.
pub const FDB_AGEING: Duration = Duration::from_secs(300);

/// UDP port that the IANA assigned to VXLAN (RFC 7348).
pub const VXLAN_PORT: u16 = 4789;

/// VXLAN network identifier (VNI) of a network: 24 bits, not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number that is not a valid VNI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a VNI: those are 1 to {max}", max = Vni::MAX.0)]
pub struct VniError(u32);

impl Vni {
    /// The largest VNI.
    pub const MAX: Vni = Vni((1 << 24) - 1);

    /// The smallest VNI that Pontoon allocates. The engine's own overlay driver counts up from 4096, and one
    /// socket of the host serves both drivers: the first 65,536 are left to that driver and to users.
    pub const FIRST_CHOSEN: Vni = Vni(1 << 16);

    /// Checks the range.
    pub fn new(number: u32) -> Result<Self, VniError> {
        if (1..=Self::MAX.0).contains(&number) { Ok(Self(number)) } else { Err(VniError(number)) }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The next VNI in the range that Pontoon allocates from; the last is followed by the first.
    pub fn next_chosen(self) -> Self {
        if self < Self::FIRST_CHOSEN || self >= Self::MAX { Self::FIRST_CHOSEN } else { Self(self.0 + 1) }
    }

    /// A VNI in the range that Pontoon allocates from, the same for the same id on every host.
    pub fn derive(id: &str) -> Self {
        let span = u64::from(Self::MAX.0 - Self::FIRST_CHOSEN.0) + 1;
        // The remainder is below 2^24.
        Self(Self::FIRST_CHOSEN.0 + (super::digest::digest(["vni", id]) % span) as u32)
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;
    fn try_from(number: u32) -> Result<Self, VniError> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a network that spans hosts needs besides its bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Its VNI, the same on every host.
    pub vni: Vni,
    /// The VXLAN link, a port of the bridge.
    pub link: IfName,
}

/// The scope of networks, as the engine defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// A network belongs to this host.
    #[default]
    Local,
    /// A network belongs to the Swarm and is an overlay.
    Global,
}

impl Scope {
    /// The engine's name for it.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Local => "local",
            Scope::Global => "global",
        }
    }
}

/// How the underlay address is chosen: the host's address for packets between hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataPath {
    /// The source address of the default route.
    #[default]
    DefaultRoute,
    /// The first address of this link, IPv4 first.
    Link(IfName),
    /// This address.
    Address(IpAddr),
}

impl DataPath {
    /// Parses an address, or else the name of a link.
    pub fn parse(text: &str) -> Result<Self, super::ifname::IfNameError> {
        match text.parse() {
            Ok(address) => Ok(DataPath::Address(address)),
            Err(_) => IfName::parse(text).map(DataPath::Link),
        }
    }
}

/// MTU assumed for the links between hosts when no MTU is chosen: all hosts of a network must use the same
/// MTU, and none knows the links of the others.
const ORDINARY_MTU: u32 = 1500;

/// The default MTU of a network over a link with this MTU.
pub fn network_mtu(link: u32, underlay_is_v6: bool) -> u32 {
    link.min(ORDINARY_MTU).saturating_sub(overhead(underlay_is_v6))
}

/// Why an address cannot belong to another host; `None` if it can.
pub fn no_host(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("it stands for every address"),
        _ if address.is_multicast() => Some("it is a multicast address"),
        _ if address.is_loopback() => Some("it is this host's own loopback address"),
        IpAddr::V4(ip) if ip.octets()[0] == 127 || ip.octets()[0] == 0 => Some("it is this host's own"),
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => Some("it is a broadcast address, or reserved"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("write the IPv4 address in it"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address does not identify its link"),
        _ => None,
    }
}

/// Bytes that a VXLAN packet adds to a frame's payload: inner Ethernet 14, VXLAN 8, UDP 8 and the outer IP
/// header.
pub fn overhead(underlay_is_v6: bool) -> u32 {
    if underlay_is_v6 { 70 } else { 50 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_24_bits() {
        assert!(Vni::new(0).is_err() && Vni::new(1 << 24).is_err());
        assert_eq!(Vni::new(1).unwrap().get(), 1);
        assert_eq!(Vni::MAX.next_chosen(), Vni::FIRST_CHOSEN);
        assert_eq!(Vni::new(5).unwrap().next_chosen(), Vni::FIRST_CHOSEN);
        assert_eq!(Vni::FIRST_CHOSEN.next_chosen().get(), 65537);
    }

    #[test]
    fn derived_numbers_are_stable_and_leave_the_engines_alone() {
        // Every manager has these values on disk and in raft: changing them is a change of the format.
        assert_eq!(Vni::derive("u4ylute1if55shzy1kj09qow0"), Vni(11_436_691));
        assert_eq!(Vni::derive("network0"), Vni(2_840_620));
        for n in 0..1000 {
            let vni = Vni::derive(&format!("network{n}"));
            assert!(vni >= Vni::FIRST_CHOSEN && vni <= Vni::MAX);
        }
    }

    #[test]
    fn hosts_with_large_links_choose_what_hosts_with_ordinary_ones_do() {
        assert_eq!((network_mtu(9000, false), network_mtu(1500, false), network_mtu(9000, true)), (1450, 1450, 1430));
        assert_eq!((network_mtu(1400, false), network_mtu(20, true)), (1350, 0));
    }

    #[test]
    fn only_what_another_host_can_have_is_a_peer() {
        let no = [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "255.255.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "ff02::1",
            "fe80::1",
            "::ffff:192.0.2.1",
        ];
        for text in no {
            assert!(no_host(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "169.254.1.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(no_host(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_data_path_is_an_address_or_a_link() {
        assert_eq!(DataPath::parse("192.0.2.1").unwrap(), DataPath::Address("192.0.2.1".parse().unwrap()));
        assert_eq!(DataPath::parse("fd00::1").unwrap(), DataPath::Address("fd00::1".parse().unwrap()));
        assert_eq!(DataPath::parse("eth1").unwrap(), DataPath::Link(IfName::parse("eth1").unwrap()));
        assert!(DataPath::parse("not a link").is_err());
    }
}
