//! Subnet arithmetic: converts between addresses and numbers, and compares subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The address as a number of its family.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `like`'s family with this number; a number that is too large loses its upper bits.
pub fn address(like: &IpNetwork, number: u128) -> IpAddr {
    match like {
        IpNetwork::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        IpNetwork::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

/// First and last address of `net`, regardless of its host bits.
pub fn span(net: &IpNetwork) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

/// The number of bits in an address of `net`'s family.
pub fn bits(net: &IpNetwork) -> u8 {
    if net.is_ipv4() { 32 } else { 128 }
}

/// `net` without its host bits.
pub fn trimmed(net: &IpNetwork) -> IpNetwork {
    IpNetwork::new(net.network(), net.prefix()).unwrap_or(*net)
}

/// `address` with the prefix length of `subnet`, which contains it.
pub fn with_prefix(address: IpAddr, subnet: &IpNetwork) -> IpNetwork {
    IpNetwork::new(address, subnet.prefix()).unwrap_or_else(|_| address.into())
}

/// The subnet with these first and last addresses, of this number of bits; `None` when there is no such subnet.
pub fn of_span(first: u128, last: u128, bits: u8) -> Option<IpNetwork> {
    let mask = first ^ last;
    let whole = mask & mask.wrapping_add(1) == 0 && first & mask == 0;
    let prefix = bits.checked_sub(u8::try_from(mask.count_ones()).ok()?).filter(|_| whole)?;
    let ip = match bits {
        32 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(first).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(first)),
    };
    IpNetwork::new(ip, prefix).ok()
}

/// Whether two subnets of one family share an address.
pub fn overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(*b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(*b),
        _ => false,
    }
}
