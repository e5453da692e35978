//! Arithmetic of subnets: addresses as numbers, and the first and last address of a subnet.
//!
//! Pure. Used by `elements`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// First and last address as numbers.
pub(super) fn range(network: &IpNetwork) -> (u128, u128) {
    let (first, bits) = match network.network() {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let hosts = bits - u32::from(network.prefix()).min(bits);
    let mask = u128::MAX.checked_shr(128 - hosts).unwrap_or(0);
    (first, first | mask)
}

/// The subnet with these first and last addresses; `None` when there is no such subnet.
pub(super) fn subnet(first: u128, last: u128, bits: u32) -> Option<IpNetwork> {
    let mask = first ^ last;
    let whole = mask & mask.wrapping_add(1) == 0 && first & mask == 0;
    let prefix = u8::try_from(bits - mask.count_ones()).ok().filter(|_| whole)?;
    let ip = match bits {
        32 => IpAddr::V4(Ipv4Addr::from(u32::try_from(first).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(first)),
    };
    IpNetwork::new(ip, prefix).ok()
}

/// An address with this number of bits, as a number.
pub(super) fn number(bytes: &[u8], bits: u32) -> Option<u128> {
    let fits = bytes.len() == bits as usize / 8;
    fits.then(|| bytes.iter().fold(0u128, |value, byte| (value << 8) | u128::from(*byte)))
}
