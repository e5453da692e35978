//! Owns connection tracking as ctnetlink shows it (include/uapi/linux/netfilter/
//! nfnetlink_conntrack.h): finding the entries of an address, and removing them.
//!
//! Called by `LinuxKernel` for a container that comes, goes or is published anew.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::netlink::{Failure, Request, Socket};
use super::tlv::{Attributes, Writer};

/// `NFNL_SUBSYS_CTNETLINK`, as it stands in a message type, with `IPCTNL_MSG_CT_GET` and
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
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;

/// `CTA_FILTER_F_CTA_IP_SRC`.
const BY_SOURCE: u32 = 1;

/// Entries removed in one datagram.
const CHUNK: usize = 256;

/// Which of an entry's two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

impl Way {
    fn tuple(self) -> u16 {
        match self {
            Way::There => CTA_TUPLE_ORIG,
            Way::Back => CTA_TUPLE_REPLY,
        }
    }
}

/// A tracked connection: who speaks in each direction, and what names it to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Source of the packets that opened it.
    client: IpAddr,
    /// Source of the answers: who really serves, behind a translation.
    server: IpAddr,
    family: u8,
    original: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Removes every entry that one of these addresses opened or answers. What is not there is
/// success; a kernel without ctnetlink is too, with a word in the log: nobody's container should
/// fail to start for it.
///
/// Since Linux 6.10 the kernel does it by itself, and passes over the empty places of its table
/// quickly; an older one refuses, and is asked for the entries first.
pub fn forget(socket: &mut Socket, addresses: &[IpAddr]) -> Result<(), Failure> {
    for address in addresses {
        for way in [Way::There, Way::Back] {
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

/// The same, entry by entry. The kernel's walk through its table is most of the cost, so there is
/// one for each family of addresses.
pub fn forget_listed(socket: &mut Socket, addresses: &[IpAddr]) -> Result<(), Failure> {
    let mut flows = BTreeSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        if !addresses.iter().any(|address| address.is_ipv4() == (family == libc::AF_INET)) {
            continue;
        }
        let concerned = |flow: &Flow| addresses.contains(&flow.client) || addresses.contains(&flow.server);
        match socket.list(GET, &[family as u8, 0, 0, 0], |_, payload| parse_flow(payload).filter(concerned)) {
            Ok(found) => flows.extend(found),
            Err(failure) if unsupported(&failure) => {
                tracing::warn!(?failure, "connections cannot be listed, old ones live on until they expire");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
    }
    let requests: Vec<Request> = flows.iter().map(removal).collect();
    for requests in requests.chunks(CHUNK) {
        match socket.execute_all(requests) {
            // It expired meanwhile; those behind it are removed all the same.
            Err((_, failure)) if failure.errno() != Some(libc::ENOENT) => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}

/// Reads one entry; `None` when it is not one with two addresses.
pub fn parse_flow(payload: &[u8]) -> Option<Flow> {
    let entry = Attributes::after(payload, HEADER);
    let original = entry.find(CTA_TUPLE_ORIG)?;
    Some(Flow {
        client: source(original)?,
        server: source(entry.find(CTA_TUPLE_REPLY)?)?,
        family: *payload.first()?,
        original: original.to_vec(),
        id: entry.find(CTA_ID)?.to_vec(),
        zone: entry.find(CTA_ZONE).map(<[u8]>::to_vec),
    })
}

fn source(tuple: &[u8]) -> Option<IpAddr> {
    let addresses = Attributes::new(Attributes::new(tuple).find(CTA_TUPLE_IP)?);
    let v4 = addresses.find(CTA_IP_V4_SRC).and_then(<[u8]>::first_chunk::<4>).map(|octets| IpAddr::from(*octets));
    v4.or_else(|| addresses.find(CTA_IP_V6_SRC).and_then(<[u8]>::first_chunk::<16>).map(|o| IpAddr::from(*o)))
}

/// Names all entries with this source in one direction. The tuple alone is not a whole one, so a
/// kernel that does not know the filter refuses; it never takes it for "all".
fn filter(address: IpAddr, way: Way) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // With version 0 the kernel would not look at the family.
    let mut body = Writer::with_header(&[family as u8, 1, 0, 0]);
    body.nest(way.tuple(), |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            match address {
                IpAddr::V4(address) => ip.bytes(CTA_IP_V4_SRC, &address.octets()),
                IpAddr::V6(address) => ip.bytes(CTA_IP_V6_SRC, &address.octets()),
            };
        });
    });
    body.nest(CTA_FILTER, |filter| {
        let flag = |of: Way| if of == way { BY_SOURCE } else { 0 };
        // CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS.
        filter.native(1, flag(Way::There)).native(2, flag(Way::Back));
    });
    body.finish()
}

fn removal(flow: &Flow) -> Request {
    let mut body = Writer::with_header(&[flow.family, 0, 0, 0]);
    // NLA_F_NESTED; with its number the entry is this one and none that took its place.
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
                    ip.bytes(CTA_IP_V4_SRC, &from).bytes(2, &to);
                });
            });
        }
        body.bytes(CTA_ID, &[1, 2, 3, 4]);
        let bytes = body.finish();
        let flow = parse_flow(&bytes).unwrap();
        assert_eq!((flow.client, flow.server), ("192.0.2.1".parse().unwrap(), "10.0.0.2".parse().unwrap()));
        let request = removal(&flow);
        let named = Attributes::after(&request.body, HEADER);
        assert_eq!(named.find(CTA_TUPLE_ORIG), Some(flow.original.as_slice()));
        for end in 0..bytes.len() {
            let _ = parse_flow(&bytes[..end]);
        }
    }
}
