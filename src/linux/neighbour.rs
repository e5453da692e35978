//! Neighbour entries (`struct ndmsg`, include/uapi/linux/neighbour.h): the flood list and learned entries of
//! a VXLAN link, forwarding entries of a bridge, and the host's own neighbour table.
//!
//! Called by `vxlan`, `observe`, `announce`, `sandbox` and `LinuxKernel`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::addr::ip;
use super::netlink::{APPEND, CREATE, Failure, REPLACE, Request, Socket};
use super::tlv::{Attributes, Writer, native16, native32};
use crate::model::Mac;

/// Bytes of `struct ndmsg`.
const HEADER: usize = 12;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;
const NDA_IFINDEX: u16 = 8;

/// `NUD_REACHABLE`, `NUD_STALE`, and `NUD_NOARP | NUD_PERMANENT`.
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_FIXED: u16 = 0x40 | 0x80;
const NUD_PERMANENT: u16 = 0x80;

/// `NTF_SELF`: the link's own table, and `NTF_MASTER`: that of its bridge.
const NTF_SELF: u8 = 0x02;
const NTF_MASTER: u8 = 0x04;

/// Ticks per second of the times that the kernel reports (`USER_HZ`).
const USER_HZ: u64 = 100;

/// The address of the default entry, for unknown destinations.
const FLOOD: [u8; 6] = [0; 6];

/// A group address that bridges never forward (IEEE 802.1Q, table 8-1).
const NOWHERE: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];

/// An entry of a VXLAN link's own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Destination of the frames; all zero is the default entry.
    pub mac: [u8; 6],
    /// The host that they are sent to.
    pub peer: IpAddr,
    /// Whether the kernel learned it.
    pub learned: bool,
    /// Time since it was last used or refreshed.
    pub age: Duration,
}

impl Entry {
    /// Whether frames to unknown destinations are sent there.
    pub fn is_flood(&self) -> bool {
        self.mac == FLOOD
    }
}

/// Parses the payload of an `RTM_NEWNEIGH` about a link's own table; `None` when it concerns another table,
/// or has no remote host.
pub fn parse_entry(payload: &[u8]) -> Option<Entry> {
    let own = *payload.first()? == libc::AF_BRIDGE as u8 && *payload.get(10)? & NTF_SELF != 0;
    let state = payload.get(8..).and_then(native16)?;
    let attributes = Attributes::after(payload, HEADER);
    let mac = attributes.find(NDA_LLADDR).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())?;
    let destination = attributes.find(NDA_DST)?;
    let family = if destination.len() == 4 { libc::AF_INET } else { libc::AF_INET6 };
    // Confirmed, used, updated, references. Before Linux 6.15 a received packet counts only as a use, since
    // then as an update; a sent packet always counts as a use. The younger of the two therefore never makes a
    // live peer look silent.
    let info = attributes.find(NDA_CACHEINFO).unwrap_or_default();
    let time = |at: usize| info.get(at..).and_then(native32);
    let ticks = time(4).into_iter().chain(time(8)).min().unwrap_or(u32::MAX);
    own.then_some(Entry {
        mac,
        peer: ip(family, destination)?,
        learned: state & NUD_FIXED == 0,
        age: Duration::from_millis(u64::from(ticks) * 1000 / USER_HZ),
    })
}

/// Lists the own table of one VXLAN link. Pontoon's sockets enable strict checks, and with those the kernel
/// filters by the index in the header (`valid_fdb_dump_strict`, net/core/rtnetlink.c).
pub fn entries(socket: &mut Socket, index: u32) -> Result<Vec<Entry>, Failure> {
    let mut header = [0u8; HEADER];
    header[0] = libc::AF_BRIDGE as u8;
    if let Some(slot) = header.get_mut(4..8) {
        slot.copy_from_slice(&index.to_ne_bytes());
    }
    let of_link = |payload: &[u8]| payload.get(4..).and_then(native32) == Some(index);
    socket.list(libc::RTM_GETNEIGH, &header, |_, payload| parse_entry(payload).filter(|_| of_link(payload)))
}

/// Adds these peers to the flood list of a VXLAN link; peers that are in it already are success.
pub fn flood(socket: &mut Socket, index: u32, peers: impl Iterator<Item = IpAddr>) -> Result<(), Failure> {
    let add = |peer| {
        let body = body(libc::AF_BRIDGE, index, NUD_FIXED, NTF_SELF, Some(&FLOOD), Some(peer));
        Request { kind: libc::RTM_NEWNEIGH, flags: CREATE | APPEND, body }
    };
    all(socket, &peers.map(add).collect::<Vec<_>>())
}

/// Removes a peer from the flood list of a VXLAN link; success if it is not in it.
pub fn stop_flood(socket: &mut Socket, index: u32, peer: IpAddr) -> Result<(), Failure> {
    let body = body(libc::AF_BRIDGE, index, NUD_FIXED, NTF_SELF, Some(&FLOOD), Some(peer));
    match socket.execute(libc::RTM_DELNEIGH, 0, &body) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Sets a bridge's forwarding entry of an address to this port, whatever the bridge learned before. The entry
/// ages like a learned one.
///
/// # Errors
/// `EPERM` while the port has no carrier, because its other end is down.
pub fn place(socket: &mut Socket, port: u32, mac: Mac) -> Result<(), Failure> {
    let body = body(libc::AF_BRIDGE, port, NUD_REACHABLE, NTF_MASTER, Some(&mac.bytes()), None);
    socket.execute(libc::RTM_NEWNEIGH, CREATE | REPLACE, &body)
}

/// Corrects the host's own neighbour entry of an IP address on a link; a missing entry is success, because
/// the host will resolve it.
pub fn correct(socket: &mut Socket, link: u32, address: IpAddr, mac: Mac) -> Result<(), Failure> {
    let body = body(family(address), link, NUD_STALE, 0, Some(&mac.bytes()), Some(address));
    match socket.execute(libc::RTM_NEWNEIGH, REPLACE, &body) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// The request that sets the host's neighbour entry of an IP address on a link for good: the host never asks for it.
pub fn pin(link: u32, address: IpAddr, mac: Mac) -> Request {
    let body = body(family(address), link, NUD_PERMANENT, 0, Some(&mac.bytes()), Some(address));
    Request { kind: libc::RTM_NEWNEIGH, flags: CREATE | REPLACE, body }
}

/// Removes the host's neighbour entry of an IP address on a link.
///
/// # Errors
/// `ENOENT` when there is none.
pub fn unpin(socket: &mut Socket, link: u32, address: IpAddr) -> Result<(), Failure> {
    let body = body(family(address), link, 0, 0, None, Some(address));
    socket.execute(libc::RTM_DELNEIGH, 0, &body)
}

/// The permanent neighbour entries of a link. The kernel filters by its index (`neigh_valid_dump_req`,
/// net/core/neighbour.c).
pub fn pinned(socket: &mut Socket, link: u32) -> Result<Vec<(IpAddr, Mac)>, Failure> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut body = Writer::with_header(&[family as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.native(NDA_IFINDEX, link);
        let parse = |payload: &[u8]| {
            let on_link = payload.get(4..).and_then(native32)? == link;
            let permanent = payload.get(8..).and_then(native16)? & NUD_PERMANENT != 0;
            let attributes = Attributes::after(payload, HEADER);
            let mac = attributes.find(NDA_LLADDR).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())?;
            let address = ip(family, attributes.find(NDA_DST)?)?;
            (on_link && permanent).then(|| (address, Mac::from_bytes(mac)))
        };
        found.extend(socket.list(libc::RTM_GETNEIGH, &body.finish(), |_, payload| parse(payload))?);
    }
    Ok(found)
}

fn family(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Releases the packets that wait for an address to be resolved on a link, by sending them to a hardware
/// address that no bridge forwards: no host has that IP address, and the senders retransmit what was lost. No
/// waiting packets is success.
pub fn let_go(socket: &mut Socket, link: u32, address: Ipv4Addr) -> Result<(), Failure> {
    let body = body(libc::AF_INET, link, NUD_STALE, 0, Some(&NOWHERE), Some(address.into()));
    match socket.execute(libc::RTM_NEWNEIGH, REPLACE, &body) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn all(socket: &mut Socket, requests: &[Request]) -> Result<(), Failure> {
    // A number of requests that safely fits in a datagram.
    requests.chunks(256).try_for_each(|chunk| socket.execute_all(chunk).map_err(|(_, failure)| failure))
}

fn body(family: i32, index: u32, state: u16, flags: u8, mac: Option<&[u8; 6]>, address: Option<IpAddr>) -> Vec<u8> {
    let [a, b, c, d] = index.to_ne_bytes();
    let [e, f] = state.to_ne_bytes();
    let mut body = Writer::with_header(&[family as u8, 0, 0, 0, a, b, c, d, e, f, flags, 0]);
    match address {
        Some(IpAddr::V4(ip)) => drop(body.bytes(NDA_DST, &ip.octets())),
        Some(IpAddr::V6(ip)) => drop(body.bytes(NDA_DST, &ip.octets())),
        None => {}
    }
    if let Some(mac) = mac {
        body.bytes(NDA_LLADDR, mac);
    }
    body.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_entries_and_their_age() {
        let peer: IpAddr = "192.0.2.7".parse().unwrap();
        let flood = body(libc::AF_BRIDGE, 3, NUD_FIXED, NTF_SELF, Some(&FLOOD), Some(peer));
        let entry = parse_entry(&flood).unwrap();
        assert!(entry.is_flood() && !entry.learned && entry.peer == peer);
        let mut learned = Writer::with_header(&body(
            libc::AF_BRIDGE,
            3,
            NUD_REACHABLE,
            NTF_SELF,
            Some(&[2, 0, 0, 0, 0, 1]),
            Some("fd00::7".parse().unwrap()),
        ));
        let times: Vec<u8> = [0u32, 500, 250, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
        learned.bytes(NDA_CACHEINFO, &times);
        let bytes = learned.finish();
        let entry = parse_entry(&bytes).unwrap();
        assert!(entry.learned && !entry.is_flood());
        assert_eq!(entry.age, Duration::from_millis(2500));
        for end in 0..bytes.len() {
            let _ = parse_entry(&bytes[..end]);
        }
        let bridges = body(libc::AF_BRIDGE, 3, NUD_REACHABLE, NTF_MASTER, Some(&[2, 0, 0, 0, 0, 1]), Some(peer));
        assert_eq!(parse_entry(&bridges), None);
    }
}
