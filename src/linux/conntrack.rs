//! Connection tracking through ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h): finds the
//! entries of an address or of a published port, and deletes them.
//!
//! Each request makes the kernel walk its whole table. Called by `conntrack_worker` and `sandbox`, never while a verb
//! is waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use super::netlink::{Failure, Request, Socket};
use super::tlv::{Attributes, Writer, big16};
use crate::datapath::Verdicts;
use crate::datapath::verdicts::End;
use crate::model::Family;
use crate::model::Published;

/// `NFNL_SUBSYS_CTNETLINK`, as encoded in a message type, with `IPCTNL_MSG_CT_GET` and
/// `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;

/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// `CTA_FILTER_F_*` (net/netfilter/nf_internals.h).
const BY_SOURCE: u32 = 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_DESTINATION_PORT: u32 = 1 << 5;

/// Entries deleted per datagram.
const CHUNK: usize = 256;

/// With more addresses than these, one dump per family is cheaper than two walks per address.
const FEW: usize = 2;

/// Direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowSide {
    There,
    Back,
}

impl FlowSide {
    fn tuple(self) -> u16 {
        match self {
            FlowSide::There => CTA_TUPLE_ORIG,
            FlowSide::Back => CTA_TUPLE_REPLY,
        }
    }
}

/// A tracked connection: its endpoints in each direction, and its identity in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Source of the packets that opened it; the port is 0 for protocols without ports.
    client: (IpAddr, u16),
    /// Their original destination; the port is 0 for protocols without ports.
    target: (IpAddr, u16),
    /// Source of the replies: the actual server, behind a translation.
    server: (IpAddr, u16),
    /// IANA number.
    protocol: u8,
    family: u8,
    original: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Deletes every entry that one of these addresses opened or answers. Missing entries are success; so is a
/// kernel without ctnetlink, which is logged: a container must not fail to start because of it.
///
/// Since Linux 6.10 the kernel filters by itself, and skips empty buckets of its table quickly; an older
/// kernel rejects the filter, and its entries are listed first.
pub fn flush(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    if addresses.len() > FEW {
        return forget_listed(socket, addresses);
    }
    for address in addresses {
        for way in [FlowSide::There, FlowSide::Back] {
            match socket.execute(DELETE, 0, &filter(*address, way)) {
                Err(failure) if unsupported(&failure) => return forget_listed(socket, addresses),
                Err(failure) if failure.errno() == Some(libc::ENOENT) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

fn unsupported(failure: &Failure) -> bool {
    matches!(failure.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// The same, entry by entry. The kernel's walk through its table is most of the cost, so each family of
/// addresses is listed once.
pub fn forget_listed(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    let concerned = |flow: &Flow| addresses.contains(&flow.client.0) || addresses.contains(&flow.server.0);
    let mut flows = Vec::new();
    for family in Family::ALL {
        if addresses.iter().any(|address| Family::of(address) == family) {
            flows.extend(list(socket, &everything(family), concerned)?);
        }
    }
    remove(socket, &flows)
}

/// Deletes the entries of flows that are not allowed any more, and returns the ends of TCP connections among them. `local`
/// tells whether an address belongs to the host.
pub fn cut(
    socket: &mut Socket,
    verdicts: &Verdicts,
    local: &mut dyn FnMut(IpAddr) -> Result<bool, Failure>,
) -> Result<Vec<[End; 2]>, Failure> {
    let concerned =
        |flow: &Flow| [flow.client.0, flow.server.0].iter().any(|address| verdicts.concerned().contains(address));
    let mut own = HashMap::new();
    let mut is_host = |address: IpAddr| -> Result<bool, Failure> {
        if let Some(known) = own.get(&address) {
            return Ok(*known);
        }
        let is_host = local(address)?;
        own.insert(address, is_host);
        Ok(is_host)
    };
    let (mut refused, mut connections) = (Vec::new(), Vec::new());
    for family in Family::ALL {
        if !verdicts.concerned().iter().any(|address| Family::of(address) == family) {
            continue;
        }
        for flow in list(socket, &everything(family), concerned)? {
            let (client, server) = (flow.client, flow.server);
            let client = End { address: client.0, port: client.1, is_host: is_host(client.0)? };
            let server = End { address: server.0, port: server.1, is_host: is_host(server.0)? };
            if !verdicts.allows(flow.protocol, client, server) {
                if flow.protocol == libc::IPPROTO_TCP as u8 {
                    connections.push([client, server]);
                }
                refused.push(flow);
            }
        }
    }
    remove(socket, &refused)?;
    Ok(connections)
}

/// Deletes the entries of these published ports that lead elsewhere than the port does now: to the host
/// itself, because the port was not published when they began, or to a container that had the port before.
/// UDP and SCTP clients that never change their source port would keep such entries alive forever. `local`
/// tells whether an address belongs to the host: traffic that is only routed through the host, to the same
/// port of another host, is not affected.
pub fn flush_stale(
    socket: &mut Socket,
    ports: &BTreeSet<Published>,
    local: &mut dyn FnMut(IpAddr) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut stale = Vec::new();
    for family in Family::ALL {
        let mut wanted: HashMap<(u8, u16), Vec<&Published>> = HashMap::new();
        for port in ports.iter().filter(|port| Family::of(&port.container) == family) {
            wanted.entry((port.host.protocol.number(), port.host.port)).or_default().push(port);
        }
        if wanted.is_empty() {
            continue;
        }
        let concerned = |flow: &Flow| wanted.contains_key(&(flow.protocol, flow.target.1));
        // The kernel filters as far as possible; with a single port that excludes nearly everything else.
        let (protocol, port) = (shared(wanted.keys().map(|key| key.0)), shared(wanted.keys().map(|key| key.1)));
        let listed = match protocol {
            Some(protocol) => list(socket, &arriving(family, protocol, port), concerned),
            None => list(socket, &everything(family), concerned),
        };
        let found = match listed {
            Err(failure) if unsupported(&failure) => list(socket, &everything(family), concerned)?,
            result => result?,
        };
        let mut own = HashMap::new();
        for flow in found {
            let (to, number) = flow.target;
            let here = match own.get(&to) {
                Some(known) => *known,
                None => *own.entry(to).or_insert(local(to)?),
            };
            let meant = wanted.get(&(flow.protocol, number)).into_iter().flatten();
            let mut meant =
                meant.filter(|port| port.host.address == to || (here && port.host.address.is_unspecified()));
            if meant.any(|port| flow.server != (port.container, port.container_port)) {
                stale.push(flow);
            }
        }
    }
    remove(socket, &stale)
}

/// Deletes entries of these service addresses that have no backend, because they began before the address was
/// balanced, and UDP entries whose server is no longer a backend of the address: a client that never changes
/// its source port would keep them forever. TCP entries of a former backend are kept, because a terminating
/// backend may still finish its connections.
pub fn forget_astray(socket: &mut Socket, leads: &BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>>) -> Result<(), Failure> {
    let stale = |flow: &Flow| {
        let (IpAddr::V4(target), IpAddr::V4(server)) = (flow.target.0, flow.server.0) else { return false };
        let Some(serving) = leads.get(&target) else { return false };
        let gone = i32::from(flow.protocol) == libc::IPPROTO_UDP && !serving.contains(&server);
        gone || (server == target && !serving.is_empty())
    };
    let flows = list(socket, &everything(Family::V4), stale)?;
    remove(socket, &flows)
}

/// The value that all of them share, if they do.
fn shared<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

fn list(socket: &mut Socket, filter: &[u8], concerned: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, Failure> {
    socket.list(GET, filter, |_, payload| parse_flow(payload).filter(&concerned))
}

fn remove(socket: &mut Socket, flows: &[Flow]) -> Result<(), Failure> {
    let requests: Vec<Request> = flows.iter().map(removal).collect();
    for requests in requests.chunks(CHUNK) {
        match socket.execute_all(requests) {
            // It expired meanwhile; the entries after it are still deleted.
            Err((_, failure)) if failure.errno() != Some(libc::ENOENT) => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}

/// Parses one entry; `None` when it does not have two addresses.
pub fn parse_flow(payload: &[u8]) -> Option<Flow> {
    let entry = Attributes::after(payload, HEADER);
    let original = entry.find(CTA_TUPLE_ORIG)?;
    let reply = entry.find(CTA_TUPLE_REPLY)?;
    let protocol = Attributes::new(original).find(CTA_TUPLE_PROTO).unwrap_or_default();
    Some(Flow {
        client: (address(original, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(original, CTA_PROTO_SRC_PORT)),
        target: (address(original, CTA_IP_V4_DST, CTA_IP_V6_DST)?, port(original, CTA_PROTO_DST_PORT)),
        server: (address(reply, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(reply, CTA_PROTO_SRC_PORT)),
        protocol: Attributes::new(protocol).find(CTA_PROTO_NUM).and_then(<[u8]>::first).copied().unwrap_or_default(),
        family: *payload.first()?,
        original: original.to_vec(),
        id: entry.find(CTA_ID)?.to_vec(),
        zone: entry.find(CTA_ZONE).map(<[u8]>::to_vec),
    })
}

fn address(tuple: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = Attributes::new(Attributes::new(tuple).find(CTA_TUPLE_IP)?);
    let four = addresses.find(v4).and_then(<[u8]>::first_chunk::<4>).map(|octets| IpAddr::from(*octets));
    four.or_else(|| addresses.find(v6).and_then(<[u8]>::first_chunk::<16>).map(|octets| IpAddr::from(*octets)))
}

fn port(tuple: &[u8], kind: u16) -> u16 {
    let protocol = Attributes::new(tuple).find(CTA_TUPLE_PROTO).unwrap_or_default();
    Attributes::new(protocol).find(kind).and_then(big16).unwrap_or_default()
}

/// `struct nfgenmsg`. With version 0 the kernel would ignore the family.
fn header(family: Family) -> [u8; HEADER] {
    [if family.is_v6() { libc::AF_INET6 } else { libc::AF_INET } as u8, 1, 0, 0]
}

/// Selects all entries of a family.
fn everything(family: Family) -> Vec<u8> {
    header(family).to_vec()
}

/// Selects all entries of a protocol, or of one original destination port. The kernel compares ports of TCP
/// and UDP only, and does not filter at all before Linux 5.8: the reply is filtered again in any case.
fn arriving(family: Family, protocol: u8, port: Option<u16>) -> Vec<u8> {
    let mut body = Writer::with_header(&header(family));
    body.nest(CTA_TUPLE_ORIG, |tuple| {
        tuple.nest(CTA_TUPLE_PROTO, |proto| {
            proto.bytes(CTA_PROTO_NUM, &[protocol]);
            if let Some(port) = port {
                proto.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            }
        });
    });
    body.nest(CTA_FILTER, |filter| {
        let by_port = if port.is_some() { BY_DESTINATION_PORT } else { 0 };
        filter.native(1, BY_PROTOCOL | by_port).native(2, 0);
    });
    body.finish()
}

/// Selects all entries with this source in one direction. The tuple alone is incomplete, so a kernel that
/// does not support the filter rejects it; it never deletes everything instead.
fn filter(address: IpAddr, way: FlowSide) -> Vec<u8> {
    let mut body = Writer::with_header(&header(Family::of(&address)));
    body.nest(way.tuple(), |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            match address {
                IpAddr::V4(address) => ip.bytes(CTA_IP_V4_SRC, &address.octets()),
                IpAddr::V6(address) => ip.bytes(CTA_IP_V6_SRC, &address.octets()),
            };
        });
    });
    body.nest(CTA_FILTER, |filter| {
        let flag = |of: FlowSide| if of == way { BY_SOURCE } else { 0 };
        // CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS.
        filter.native(1, flag(FlowSide::There)).native(2, flag(FlowSide::Back));
    });
    body.finish()
}

fn removal(flow: &Flow) -> Request {
    let mut body = Writer::with_header(&[flow.family, 0, 0, 0]);
    // NLA_F_NESTED; the id ensures that exactly this entry is deleted and not one that replaced it.
    body.bytes(CTA_TUPLE_ORIG | (1 << 15), &flow.original).bytes(CTA_ID, &flow.id);
    if let Some(zone) = &flow.zone {
        body.bytes(CTA_ZONE, zone);
    }
    Request { kind: DELETE, flags: 0, body: body.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_and_named_by_what_was_read() {
        let mut body = Writer::with_header(&[2, 0, 0, 0]);
        for (kind, from, to) in
            [(CTA_TUPLE_ORIG, [192, 0, 2, 1], [192, 0, 2, 9]), (CTA_TUPLE_REPLY, [10, 0, 0, 2], [192, 0, 2, 1])]
        {
            body.nest(kind, |tuple| {
                tuple.nest(CTA_TUPLE_IP, |ip| {
                    ip.bytes(CTA_IP_V4_SRC, &from).bytes(CTA_IP_V4_DST, &to);
                });
                tuple.nest(CTA_TUPLE_PROTO, |proto| {
                    proto.bytes(CTA_PROTO_NUM, &[17]);
                    proto.bytes(CTA_PROTO_SRC_PORT, &5353u16.to_be_bytes());
                    proto.bytes(CTA_PROTO_DST_PORT, &53u16.to_be_bytes());
                });
            });
        }
        body.bytes(CTA_ID, &[1, 2, 3, 4]);
        let bytes = body.finish();
        let flow = parse_flow(&bytes).unwrap();
        assert_eq!((flow.client.0, flow.server.0), ("192.0.2.1".parse().unwrap(), "10.0.0.2".parse().unwrap()));
        assert_eq!((flow.target, flow.protocol), (("192.0.2.9".parse().unwrap(), 53), 17));
        assert_eq!(flow.server.1, 5353);
        let request = removal(&flow);
        let named = Attributes::after(&request.body, HEADER);
        assert_eq!(named.find(CTA_TUPLE_ORIG), Some(flow.original.as_slice()));
        for end in 0..bytes.len() {
            let _ = parse_flow(&bytes[..end]);
        }
    }
}
