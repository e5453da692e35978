//! Reads the host's routes (`struct rtmsg`, include/uapi/linux/rtnetlink.h): the destinations that pools must
//! not overlap, and the uplink.
//!
//! Never changes a route. Called by `LinuxKernel`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::addr::{self, ip};
use super::link;
use super::netlink::{Failure, Socket};
use super::tlv::{Attributes, Writer, native32};
use crate::datapath::Underlay;
use crate::datapath::surroundings::{Route, Surroundings};
use crate::model::DataPath;

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u32 = 255;
/// `RTPROT_KERNEL` and `RTPROT_RA`: routes that result from an address.
const CONNECTED: [u8; 2] = [2, 9];
/// Bytes of `struct rtnexthop`.
const NEXT_HOP: usize = 8;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;

/// `RTM_F_FIB_MATCH`: reply with the route itself, not with the result for the address.
const FIB_MATCH: u32 = 0x2000;

/// Documentation addresses (RFC 5737, RFC 3849), which therefore match a default route. Not always: a host
/// may have a blackhole route for them, or use them after all.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// A route, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRecord {
    /// The routing table.
    pub table: u32,
    /// `RTN_UNICAST`, ... .
    pub kind: u8,
    /// Destination; prefix length 0 for a default route.
    pub destination: IpNetwork,
    /// Index of the link that it uses, if it names one.
    pub link: Option<u32>,
    /// Of two routes to the same destination the one with the lower metric is used.
    pub metric: u32,
    /// The first gateway, if it has any.
    pub gateway: Option<IpAddr>,
    /// Whether it results from an address of its link.
    pub connected: bool,
    /// Source address of packets that use it, if set.
    pub source: Option<IpAddr>,
}

/// Parses the payload of an `RTM_NEWROUTE`; `None` when it is invalid.
pub fn parse_route(payload: &[u8]) -> Option<RouteRecord> {
    let [family, prefix, _, _, table, protocol, _, kind] = *payload.first_chunk()?;
    payload.get(..HEADER)?;
    let attributes = Attributes::after(payload, HEADER);
    let destination = match (attributes.find(RTA_DST), i32::from(family)) {
        (Some(bytes), family) => ip(family, bytes)?,
        (None, libc::AF_INET) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (None, libc::AF_INET6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        (None, _) => return None,
    };
    let gateway = gateway(i32::from(family), &attributes);
    Some(RouteRecord {
        gateway,
        connected: gateway.is_none() && CONNECTED.contains(&protocol),
        table: attributes.find(RTA_TABLE).and_then(native32).unwrap_or(u32::from(table)),
        kind,
        destination: IpNetwork::new(destination, prefix).ok()?,
        link: attributes.find(RTA_OIF).and_then(native32),
        metric: attributes.find(RTA_PRIORITY).and_then(native32).unwrap_or(0),
        source: attributes.find(RTA_PREFSRC).and_then(|bytes| ip(i32::from(family), bytes)),
    })
}

/// The gateway of a route, the first one if there are several.
fn gateway(family: i32, attributes: &Attributes<'_>) -> Option<IpAddr> {
    let of = |attributes: &Attributes<'_>| {
        let same = attributes.find(RTA_GATEWAY).and_then(|bytes| ip(family, bytes));
        // `struct rtvia`: a family and an address of that family.
        let other = attributes.find(RTA_VIA).and_then(|via| {
            let (family, address) = via.split_first_chunk::<2>()?;
            ip(i32::from(u16::from_ne_bytes(*family)), address)
        });
        same.or(other)
    };
    of(attributes).or_else(|| of(&Attributes::after(attributes.find(RTA_MULTIPATH)?, NEXT_HOP)))
}

/// The surroundings: the unicast routes of all tables, and the addresses of links that are not Pontoon's.
pub fn surroundings(socket: &mut Socket) -> Result<Surroundings, Failure> {
    let links = link::list(socket)?;
    let link = |index: Option<u32>| index.and_then(|index| links.iter().find(|link| link.index == index));
    let mut around = Surroundings::default();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for route in listed(socket, family, 0, elsewhere)? {
            let link = link(route.link);
            around.gateways.extend(route.gateway.filter(|gateway| !is_link_local(*gateway)));
            if !counts(&route) {
                continue;
            }
            let tunnel = link.is_some_and(|link| link.point_to_point) && !route.connected;
            around.ways.push(Route {
                destination: route.destination,
                link: link.map(|link| link.name.clone()).unwrap_or_default(),
                connected: route.connected,
                yields: route.gateway.is_some() || tunnel,
                ours: link.is_some_and(|link| link.live() || link.dead()),
            });
        }
    }
    around.gateways.sort();
    around.gateways.dedup();
    for record in addr::list(socket)? {
        let Some(link) = link(Some(record.index)).filter(|link| !link.live() && !link.dead()) else { continue };
        let address = record.address.ip();
        if !address.is_loopback() && !is_link_local(address) {
            around.addresses.push((record.address, link.name.clone()));
        }
    }
    around.uplink = link(uplink(socket)?).and_then(link::LinkRecord::ifname);
    Ok(around)
}

/// The unicast routes in the main table, default routes included.
pub fn all(socket: &mut Socket) -> Result<Vec<RouteRecord>, Failure> {
    let mut found = of_family(socket, libc::AF_INET)?;
    found.extend(of_family(socket, libc::AF_INET6)?);
    Ok(found)
}

fn of_family(socket: &mut Socket, family: i32) -> Result<Vec<RouteRecord>, Failure> {
    listed(socket, family, RT_TABLE_MAIN, in_main)
}

fn listed(
    socket: &mut Socket,
    family: i32,
    table: u8,
    wanted: fn(&RouteRecord) -> bool,
) -> Result<Vec<RouteRecord>, Failure> {
    let mut header = [0u8; HEADER];
    header[0] = family as u8;
    header[4] = table;
    match socket.list(libc::RTM_GETROUTE, &header, |_, payload| parse_route(payload).filter(wanted)) {
        // "FIB table does not exist": no route of this family was ever added.
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        // IPv6 is disabled in this kernel.
        Err(failure) if matches!(failure.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => Ok(Vec::new()),
        result => result,
    }
}

fn in_main(route: &RouteRecord) -> bool {
    route.table == u32::from(RT_TABLE_MAIN) && route.kind == RTN_UNICAST
}

fn elsewhere(route: &RouteRecord) -> bool {
    route.table != RT_TABLE_LOCAL && route.kind == RTN_UNICAST
}

fn counts(route: &RouteRecord) -> bool {
    let local = match route.destination.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    elsewhere(route) && route.destination.prefix() > 0 && !local
}

/// Index of the uplink, IPv4 first; `None` without a default route.
pub fn uplink(socket: &mut Socket) -> Result<Option<u32>, Failure> {
    Ok(way_out(socket)?.and_then(|route| route.link))
}

/// Underlay of the overlay networks; `None` when there is no such address, link or route at present.
pub fn underlay(socket: &mut Socket, path: &DataPath) -> Result<Option<Underlay>, Failure> {
    let addresses = addr::list(socket)?;
    let found = match path {
        DataPath::Address(address) => addresses.iter().find(|record| record.address.ip() == *address),
        DataPath::Link(name) => {
            let Some(link) = link::find(socket, name.as_str())? else { return Ok(None) };
            let usable =
                |record: &&addr::AddressRecord| record.index == link.index && !is_link_local(record.address.ip());
            addresses.iter().filter(usable).min_by_key(|record| (record.address.is_ipv6(), record.passing))
        }
        DataPath::DefaultRoute => {
            let Some(route) = way_out(socket)? else { return Ok(None) };
            let source = addresses.iter().find(|record| Some(record.address.ip()) == route.source);
            // An address that is replaced every day is not suitable to identify the host.
            let beside = |record: &&addr::AddressRecord| {
                Some(record.index) == route.link
                    && record.address.is_ipv6() == route.destination.is_ipv6()
                    && !is_link_local(record.address.ip())
                    && !record.passing
            };
            source.filter(|record| !record.passing).or_else(|| addresses.iter().find(beside)).or(source)
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

/// The route to the outside, IPv4 first: a default route, and only if there is none, any route that leads
/// there (two halves instead of a default route, or a table of the user).
fn way_out(socket: &mut Socket) -> Result<Option<RouteRecord>, Failure> {
    for address in OUTSIDE {
        let default = default_route(socket, address)?;
        if default.is_some() {
            return Ok(default);
        }
    }
    for address in OUTSIDE {
        let route = look_up(socket, address, 0)?.filter(leads);
        if route.is_some() {
            return Ok(route);
        }
    }
    Ok(None)
}

fn leads(route: &RouteRecord) -> bool {
    route.kind == RTN_UNICAST && route.link.is_some()
}

/// The default route of the family of `outside`. All routes are listed only when the lookup returns another
/// route.
fn default_route(socket: &mut Socket, outside: IpAddr) -> Result<Option<RouteRecord>, Failure> {
    let is_default = |route: &RouteRecord| leads(route) && route.destination.prefix() == 0;
    if look_up(socket, outside, FIB_MATCH)?.is_some_and(|route| is_default(&route)) {
        // Looked up again to get the source address that belongs to it.
        return Ok(look_up(socket, outside, 0)?.filter(leads));
    }
    let family = if outside.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let routes = of_family(socket, family)?;
    Ok(routes.into_iter().filter(is_default).min_by_key(|route| route.metric))
}

/// `rtm_protocol` of the routes of stations: a number that no routing program uses (/etc/iproute2/rt_protos).
pub const STATION_PROTOCOL: u8 = 112;

/// Body of the request about the route to one container on a host link.
pub fn to_station(address: IpAddr, link: u32) -> Vec<u8> {
    // `RT_SCOPE_LINK`; IPv6 knows only the universe.
    let (family, bits, scope) = match address {
        IpAddr::V4(_) => (libc::AF_INET, 32, 253),
        IpAddr::V6(_) => (libc::AF_INET6, 128, 0),
    };
    let header = [family as u8, bits, 0, 0, RT_TABLE_MAIN, STATION_PROTOCOL, scope, RTN_UNICAST, 0, 0, 0, 0];
    let mut body = Writer::with_header(&header);
    match address {
        IpAddr::V4(ip) => body.bytes(RTA_DST, &ip.octets()),
        IpAddr::V6(ip) => body.bytes(RTA_DST, &ip.octets()),
    };
    body.native(RTA_OIF, link);
    body.finish()
}

/// The addresses of the containers that have a route on a host link. The kernel filters by the index of the link
/// (`ip_valid_fib_dump_req`, net/ipv4/fib_frontend.c).
pub fn stations(socket: &mut Socket, link: u32) -> Result<Vec<IpAddr>, Failure> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0u8; HEADER];
        header[0] = family as u8;
        let mut body = Writer::with_header(&header);
        body.native(RTA_OIF, link);
        let parse = |payload: &[u8]| {
            let route = parse_route(payload).filter(|route| route.link == Some(link))?;
            (payload.get(5) == Some(&STATION_PROTOCOL)).then(|| route.destination.ip())
        };
        found.extend(socket.list(libc::RTM_GETROUTE, &body.finish(), |_, payload| parse(payload))?);
    }
    Ok(found)
}

/// Removes the route of an IPv4 broadcast address on a link; success if there is none.
pub fn remove_broadcast(socket: &mut Socket, link: u32, address: Ipv4Addr) -> Result<(), Failure> {
    let mut body =
        Writer::with_header(&[libc::AF_INET as u8, 32, 0, 0, RT_TABLE_LOCAL as u8, 0, 253, RTN_BROADCAST, 0, 0, 0, 0]);
    body.bytes(RTA_DST, &address.octets()).native(RTA_OIF, link);
    match socket.execute(libc::RTM_DELROUTE, 0, &body.finish()) {
        Err(failure) if failure.errno() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// Whether packets to this address are delivered to the host itself.
pub fn is_local(socket: &mut Socket, address: IpAddr) -> Result<bool, Failure> {
    Ok(look_up(socket, address, 0)?.is_some_and(|route| route.kind == RTN_LOCAL))
}

/// The route that a packet to this address would take, and the path MTU if the host has learned one; `None`
/// without a route.
pub fn way(socket: &mut Socket, address: IpAddr) -> Result<Option<(RouteRecord, Option<u32>)>, Failure> {
    let Some(payload) = ask(socket, address, 0)? else { return Ok(None) };
    let metrics = Attributes::new(Attributes::after(&payload, HEADER).find(RTA_METRICS).unwrap_or_default());
    let mtu = metrics.find(RTAX_MTU).and_then(native32).filter(|mtu| *mtu > 0);
    Ok(parse_route(&payload).map(|route| (route, mtu)))
}

/// The route that a packet to this address would take; `None` without a route. `flags` are those of
/// `rtm_flags`.
fn look_up(socket: &mut Socket, address: IpAddr, flags: u32) -> Result<Option<RouteRecord>, Failure> {
    Ok(ask(socket, address, flags)?.and_then(|payload| parse_route(&payload)))
}

fn ask(socket: &mut Socket, address: IpAddr, flags: u32) -> Result<Option<Vec<u8>>, Failure> {
    let (family, bytes, bits) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec(), 32),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec(), 128),
    };
    let mut header = [0u8; HEADER];
    header[0] = family as u8;
    header[1] = bits;
    if let Some(slot) = header.get_mut(8..12) {
        slot.copy_from_slice(&flags.to_ne_bytes());
    }
    let mut body = Writer::with_header(&header);
    body.bytes(RTA_DST, &bytes);
    match socket.get(libc::RTM_GETROUTE, &body.finish()) {
        Ok(payload) => Ok(Some(payload)),
        // Whatever the reason, the address is unreachable.
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
        // A prefix length that is invalid for the family.
        let mut wrong = bytes;
        wrong[1] = 99;
        assert_eq!(parse_route(&wrong), None);
    }
}
