//! Owns what Pontoon asks of the host's routes (`struct rtmsg`, include/uapi/linux/rtnetlink.h):
//! the destinations that pools must not overlap, and the link that leads outside.
//!
//! Never changes a route. Called by `LinuxKernel`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::addr::{self, ip};
use super::link;
use super::netlink::{Failure, Socket};
use super::tlv::{Attributes, Writer, native32};
use crate::datapath::Underlay;
use crate::model::DataPath;

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

/// Addresses that are nowhere (RFC 5737, RFC 3849): only a default route leads to them.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// A route, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRecord {
    /// The routing table.
    pub table: u32,
    /// `RTN_UNICAST`, ... .
    pub kind: u8,
    /// Where it leads; prefix length 0 for a default route.
    pub destination: IpNetwork,
    /// Index of the link it uses, if it names one.
    pub link: Option<u32>,
    /// Source address of packets that take it, if it tells.
    pub source: Option<IpAddr>,
}

/// Reads the payload of an `RTM_NEWROUTE`; `None` when it is not one.
pub fn parse_route(payload: &[u8]) -> Option<RouteRecord> {
    let [family, prefix, _, _, table, _, _, kind] = *payload.first_chunk()?;
    payload.get(..HEADER)?;
    let attributes = Attributes::after(payload, HEADER);
    let destination = match (attributes.find(RTA_DST), i32::from(family)) {
        (Some(bytes), family) => ip(family, bytes)?,
        (None, libc::AF_INET) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (None, libc::AF_INET6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        (None, _) => return None,
    };
    Some(RouteRecord {
        table: attributes.find(RTA_TABLE).and_then(native32).unwrap_or(u32::from(table)),
        kind,
        destination: IpNetwork::new(destination, prefix).ok()?,
        link: attributes.find(RTA_OIF).and_then(native32),
        source: attributes.find(RTA_PREFSRC).and_then(|bytes| ip(i32::from(family), bytes)),
    })
}

/// Destinations of the unicast routes in the main table, without default routes and without what
/// is multicast or link-local.
pub fn destinations(socket: &mut Socket) -> Result<Vec<IpNetwork>, Failure> {
    let mut found: Vec<_> = all(socket)?.iter().filter(|route| counts(route)).map(|route| route.destination).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// The unicast routes in the main table, default routes included.
pub fn all(socket: &mut Socket) -> Result<Vec<RouteRecord>, Failure> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0u8; HEADER];
        header[0] = family as u8;
        header[4] = RT_TABLE_MAIN;
        match socket.list(libc::RTM_GETROUTE, &header, |_, payload| parse_route(payload).filter(in_main)) {
            Ok(routes) => found.extend(routes),
            // "FIB table does not exist": no route of this family has ever been made.
            Err(failure) if failure.errno() == Some(libc::ENOENT) => {}
            // IPv6 is switched off in this kernel.
            Err(failure) if matches!(failure.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

fn in_main(route: &RouteRecord) -> bool {
    route.table == u32::from(RT_TABLE_MAIN) && route.kind == RTN_UNICAST
}

fn counts(route: &RouteRecord) -> bool {
    let local = match route.destination.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    in_main(route) && route.destination.prefix() > 0 && !local
}

/// Index of the link that leads outside, IPv4 first; `None` without a default route.
pub fn uplink(socket: &mut Socket) -> Result<Option<u32>, Failure> {
    Ok(way_out(socket)?.and_then(|route| route.link))
}

/// Where packets between hosts leave; `None` when there is no such address, link or route now.
pub fn underlay(socket: &mut Socket, path: &DataPath) -> Result<Option<Underlay>, Failure> {
    let addresses = addr::list(socket)?;
    let found = match path {
        DataPath::Address(address) => addresses.iter().find(|record| record.address.ip() == *address),
        DataPath::Link(name) => {
            let Some(link) = link::find(socket, name.as_str())? else { return Ok(None) };
            let usable =
                |record: &&addr::AddressRecord| record.index == link.index && !is_link_local(record.address.ip());
            addresses.iter().filter(usable).min_by_key(|record| record.address.is_ipv6())
        }
        DataPath::DefaultRoute => {
            let source = way_out(socket)?.and_then(|route| route.source);
            addresses.iter().find(|record| Some(record.address.ip()) == source)
        }
    };
    let Some(record) = found else { return Ok(None) };
    let link = link::find_index(socket, record.index)?;
    Ok(link.map(|link| Underlay { address: record.address.ip(), mtu: link.mtu }))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The route that leads outside, IPv4 first.
fn way_out(socket: &mut Socket) -> Result<Option<RouteRecord>, Failure> {
    for address in OUTSIDE {
        let route = look_up(socket, address)?.filter(|route| route.kind == RTN_UNICAST && route.link.is_some());
        if route.is_some() {
            return Ok(route);
        }
    }
    Ok(None)
}

/// Whether what is sent to this address is for the host itself.
pub fn is_local(socket: &mut Socket, address: IpAddr) -> Result<bool, Failure> {
    Ok(look_up(socket, address)?.is_some_and(|route| route.kind == RTN_LOCAL))
}

/// The route that a packet to this address would take, and how large it may be if the host has
/// come to know; `None` when there is none.
pub fn way(socket: &mut Socket, address: IpAddr) -> Result<Option<(RouteRecord, Option<u32>)>, Failure> {
    let Some(payload) = ask(socket, address)? else { return Ok(None) };
    let metrics = Attributes::new(Attributes::after(&payload, HEADER).find(RTA_METRICS).unwrap_or_default());
    let mtu = metrics.find(RTAX_MTU).and_then(native32).filter(|mtu| *mtu > 0);
    Ok(parse_route(&payload).map(|route| (route, mtu)))
}

/// The route that a packet to this address would take; `None` when there is none.
fn look_up(socket: &mut Socket, address: IpAddr) -> Result<Option<RouteRecord>, Failure> {
    Ok(ask(socket, address)?.and_then(|payload| parse_route(&payload)))
}

fn ask(socket: &mut Socket, address: IpAddr) -> Result<Option<Vec<u8>>, Failure> {
    let (family, bytes, bits) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec(), 32),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec(), 128),
    };
    let mut header = [0u8; HEADER];
    header[0] = family as u8;
    header[1] = bits;
    let mut body = Writer::with_header(&header);
    body.bytes(RTA_DST, &bytes);
    match socket.get(libc::RTM_GETROUTE, &body.finish()) {
        Ok(payload) => Ok(Some(payload)),
        // Whatever the reason, nothing gets there.
        Err(Failure::Refused(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_route_and_knows_which_count() {
        let mut body = Writer::with_header(&[2, 24, 0, 0, RT_TABLE_MAIN, 0, 0, RTN_UNICAST, 0, 0, 0, 0]);
        body.bytes(RTA_DST, &[10, 1, 2, 0]).native(RTA_OIF, 5);
        let bytes = body.finish();
        let route = parse_route(&bytes).unwrap();
        assert_eq!((route.destination.to_string().as_str(), route.link), ("10.1.2.0/24", Some(5)));
        assert!(counts(&route));
        for other in ["224.0.0.0/4", "169.254.0.0/16", "0.0.0.0/0", "fe80::/64", "ff00::/8"] {
            assert!(!counts(&RouteRecord { destination: other.parse().unwrap(), ..route }), "{other}");
        }
        for end in 0..bytes.len() {
            let _ = parse_route(&bytes[..end]);
        }
        // A prefix length that the family does not have.
        let mut wrong = bytes;
        wrong[1] = 99;
        assert_eq!(parse_route(&wrong), None);
    }
}
