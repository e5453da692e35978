//! Addresses of links (`struct ifaddrmsg`, include/uapi/linux/if_addr.h): lists them, adds them without
//! duplicate address detection, removes them.
//!
//! Never changes an address other than the one passed in. Called by `bridge`, `observe` and `LinuxKernel`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use super::link::encode;
use super::netlink::{CREATE, EXCLUSIVE, Failure, Socket};
use super::tlv::{Attributes, native32};
use crate::model::Mac;

/// Bytes of `struct ifaddrmsg`.
const HEADER: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;

/// `IFA_F_TEMPORARY` (for IPv4 the same bit is `IFA_F_SECONDARY`), `IFA_F_DADFAILED`,
/// `IFA_F_DEPRECATED` and `IFA_F_TENTATIVE`.
const PASSING: u32 = 0x01 | 0x08 | 0x20 | 0x40;

/// `IFAPROT_KERNEL_LL`: derived by the kernel from the hardware address.
const KERNEL_LINK_LOCAL: u8 = 3;

/// An address of a link, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRecord {
    /// Index of the link.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// Whether the kernel marks it as a link-local address that it assigned itself (since Linux 5.18).
    pub automatic: bool,
    /// Not suitable to identify the host by: temporary, deprecated, tentative, or failed duplicate detection.
    pub passing: bool,
}

impl AddressRecord {
    /// Whether the kernel derived it from this hardware address (`addrconf_addr_gen`, net/ipv6).
    pub fn automatic_for(&self, mac: Option<Mac>) -> bool {
        let IpNetwork::V6(network) = self.address else { return false };
        let derived = mac.is_some_and(|mac| {
            let [a, b, c, d, e, f] = mac.bytes();
            let [.., h, i, j, k, l, m, n, o] = network.ip().octets();
            [h, i, j, k, l, m, n, o] == [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
        });
        network.ip().is_unicast_link_local() && (self.automatic || derived)
    }
}

/// Parses the payload of an `RTM_NEWADDR` or `RTM_DELADDR`; `None` when it is invalid.
pub fn parse_address(payload: &[u8]) -> Option<AddressRecord> {
    let family = i32::from(*payload.first()?);
    let prefix = *payload.get(1)?;
    let index = payload.get(4..).and_then(native32)?;
    let attributes = Attributes::after(payload, HEADER);
    // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always the local address.
    let value = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    let ip = ip(family, value)?;
    let automatic = attributes.find(IFA_PROTO).and_then(<[u8]>::first) == Some(&KERNEL_LINK_LOCAL);
    // The byte in the header has room for half of the flags, and for all of these.
    let flags = attributes.find(IFA_FLAGS).and_then(native32).or(payload.get(2).map(|flags| u32::from(*flags)));
    let passing = flags.unwrap_or(0) & PASSING != 0;
    Some(AddressRecord { index, address: IpNetwork::new(ip, prefix).ok()?, automatic, passing })
}

/// Decodes an address in network byte order.
pub fn ip(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => <[u8; 4]>::try_from(bytes).ok().map(|b| IpAddr::V4(Ipv4Addr::from(b))),
        libc::AF_INET6 => <[u8; 16]>::try_from(bytes).ok().map(|b| IpAddr::V6(Ipv6Addr::from(b))),
        _ => None,
    }
}

/// Lists the addresses of all links.
pub fn list(socket: &mut Socket) -> Result<Vec<AddressRecord>, Failure> {
    socket.list(libc::RTM_GETADDR, &[0; HEADER], |_, payload| parse_address(payload))
}

/// Lists the IPv4 addresses of all links: the kernel leaves out the others, of which each link may have one.
pub fn list_ipv4(socket: &mut Socket) -> Result<Vec<AddressRecord>, Failure> {
    let mut header = [0; HEADER];
    header[0] = libc::AF_INET as u8;
    socket.list(libc::RTM_GETADDR, &header, |_, payload| parse_address(payload))
}

/// Lists the addresses of one link: Pontoon's sockets enable strict checks, and with those the kernel filters by the
/// index in the header (`inet_valid_dump_ifaddr_req`, net/ipv4/devinet.c).
pub fn of_link(socket: &mut Socket, index: u32) -> Result<Vec<AddressRecord>, Failure> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0; HEADER];
        header[0] = family as u8;
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let of_link = |payload: &[u8]| parse_address(payload).filter(|record| record.index == index);
        found.extend(socket.list(libc::RTM_GETADDR, &header, |_, payload| of_link(payload))?);
    }
    Ok(found)
}

/// Every address of the host, on any link.
pub fn own(socket: &mut Socket) -> Result<BTreeSet<IpAddr>, Failure> {
    Ok(list(socket)?.iter().map(|record| record.address.ip()).collect())
}

/// Adds an address; success if it exists already. An IPv6 address that exists with another prefix length gets
/// this one.
pub fn add(socket: &mut Socket, index: u32, address: IpNetwork) -> Result<(), Failure> {
    let refused = match add_new(socket, index, address) {
        Err(failure) if failure.errno() == Some(libc::EEXIST) => failure,
        result => return result,
    };
    let same_ip = |a: &AddressRecord| a.index == index && a.address.ip() == address.ip();
    let present: Vec<IpNetwork> = list(socket)?.iter().filter(|a| same_ip(a)).map(|a| a.address).collect();
    if present.contains(&address) {
        return Ok(());
    }
    let Some(other) = present.first() else { return Err(refused) };
    remove(socket, index, *other)?;
    add_new(socket, index, address)
}

fn add_new(socket: &mut Socket, index: u32, address: IpNetwork) -> Result<(), Failure> {
    let mut message = message(index, address);
    if address.is_ipv6() {
        // Only Pontoon assigns addresses in the subnet: detection would only delay the address by a second.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    socket.execute(libc::RTM_NEWADDR, CREATE | EXCLUSIVE, &encode(&message))
}

/// Adds an address that has no route to its subnet, without duplicate address detection; success if it exists.
pub fn add_without_route(socket: &mut Socket, index: u32, address: IpNetwork) -> Result<(), Failure> {
    let mut message = message(index, address);
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute | AddressFlags::Nodad));
    match socket.execute(libc::RTM_NEWADDR, CREATE | EXCLUSIVE, &encode(&message)) {
        Err(failure) if failure.errno() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Removes an address; success if it does not exist.
pub fn remove(socket: &mut Socket, index: u32, address: IpNetwork) -> Result<(), Failure> {
    match socket.execute(libc::RTM_DELADDR, 0, &encode(&message(index, address))) {
        Err(failure) if matches!(failure.errno(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
        result => result,
    }
}

fn message(index: u32, address: IpNetwork) -> AddressMessage {
    match address {
        IpNetwork::V4(a) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(a.ip(), a.prefix()).build(),
        IpNetwork::V6(a) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(a.ip(), a.prefix()).build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_recognises_the_kernels_own() {
        let network: IpNetwork = "fe80::42:acff:fe11:2/64".parse().unwrap();
        let bytes = encode(&message(4, network));
        let mut record = parse_address(&bytes).unwrap();
        assert_eq!((record.index, record.address), (4, network));
        assert!(record.automatic_for(Some(Mac::parse("02:42:ac:11:00:02").unwrap())));
        assert!(!record.automatic_for(Some(Mac::parse("02:42:ac:11:00:03").unwrap())));
        record.automatic = true;
        assert!(record.automatic_for(None));
        for end in 0..bytes.len() {
            let _ = parse_address(&bytes[..end]);
        }
    }
}
