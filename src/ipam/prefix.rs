//! Subnet arithmetic: converts between addresses and numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The address as a number of its family.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `like`'s family with this number; a number that is too large loses its upper bits.
pub(super) fn address(like: &IpNetwork, number: u128) -> IpAddr {
    match like {
        IpNetwork::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        IpNetwork::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

/// First and last address of `net`, regardless of its host bits.
pub(super) fn span(net: &IpNetwork) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

/// The number of bits in an address of `net`'s family.
pub(super) fn bits(net: &IpNetwork) -> u8 {
    if net.is_ipv4() { 32 } else { 128 }
}

/// `net` without its host bits.
pub(super) fn trimmed(net: &IpNetwork) -> IpNetwork {
    IpNetwork::new(net.network(), net.prefix()).unwrap_or(*net)
}

/// `address` with the prefix length of `subnet`, which contains it.
pub(super) fn with_prefix(address: IpAddr, subnet: &IpNetwork) -> IpNetwork {
    IpNetwork::new(address, subnet.prefix()).unwrap_or_else(|_| address.into())
}

/// `IPv4` or `IPv6`.
pub(super) fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}
