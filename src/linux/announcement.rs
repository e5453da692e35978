//! Announcements: frames that tell where an endpoint is, sent into its bridge as if the endpoint had sent
//! them, and thus to every container on the network, here and on other hosts.
//!
//! The engine itself does so from version 28 on, once, from inside the container; older versions do not, and
//! a flooded frame may be lost. The ARP form is a reply with both hardware addresses equal: a kernel treats
//! it as gratuitous and lets it override a recently learned entry (`arp_is_garp`, net/ipv4/arp.c). Opening
//! the socket needs CAP_NET_RAW, sending does not. Called by `LinuxKernel`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::netlink::Failure;
use crate::model::Mac;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet address of `ff02::1` (RFC 2464, 7).
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// `Override`, the only flag set (RFC 4861, 4.4).
const OVERRIDE: u8 = 0x20;

/// A socket that sends frames and receives none.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens the socket in the network namespace of the calling thread. `None` without CAP_NET_RAW, or in a
    /// kernel without packet sockets: networks of a single host do not need them.
    pub fn open() -> Option<Self> {
        // SAFETY: socket(2) takes three numbers; its result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        let fd =
            Errno::result(fd).inspect_err(|error| tracing::debug!(%error, "cannot open the socket for announcements"));
        let fd = fd.ok()?;
        // SAFETY: the descriptor is new, valid and owned by no other value.
        Some(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends one frame out of the link with this index.
    pub fn send(&self, link: u32, frame: &[u8]) -> Result<(), Failure> {
        // SAFETY: every field of this structure may be zero.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = link as i32;
        to.sll_halen = 6;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: both pointers are to live values of the given lengths, which the kernel only reads.
        let sent = unsafe {
            let to = std::ptr::from_ref(&to).cast();
            libc::sendto(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, len)
        };
        if sent >= 0 {
            return Ok(());
        }
        Err(Failure::refused(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO), ""))
    }
}

/// The frame that announces an address.
pub fn frame(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(mac, address),
        IpAddr::V6(address) => advertisement(mac, address),
    }
}

fn arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let (mac, address) = (mac.bytes(), address.octets());
    // Ethernet, IPv4, address lengths 6 and 4, reply.
    let head = [0, 1, 0x08, 0, 6, 4, 0, 2];
    let packet = [&head[..], &mac, &address, &mac, &address].concat();
    ethernet(BROADCAST, mac, ETHERTYPE_ARP, &packet)
}

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    // Option 2, the target's link-layer address, in units of eight bytes.
    message.extend([2, 1]);
    message.extend(mac.bytes());
    let len = message.len() as u16;
    let pseudo =
        [&address.octets()[..], &all_nodes.octets(), &u32::from(len).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[&pseudo, &message]).to_be_bytes();
    if let Some(slot) = message.get_mut(2..4) {
        slot.copy_from_slice(&sum);
    }
    let [high, low] = len.to_be_bytes();
    // Version 6, no traffic class, no flow label; hop limit 255 proves that it was not routed.
    let head = [0x60, 0, 0, 0, high, low, ICMPV6, 255];
    let packet = [&head[..], &address.octets(), &all_nodes.octets(), &message].concat();
    ethernet(ALL_NODES, mac.bytes(), ETHERTYPE_IPV6, &packet)
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), packet].concat();
    // The minimum length of a frame, without its checksum.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The Internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.filter_map(|w| w.first_chunk()).map(|w| u32::from(u16::from_be_bytes(*w))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arp_frame_is_a_gratuitous_reply() {
        let mac = Mac::parse("02:00:00:00:00:07").unwrap();
        let frame = frame(mac, "10.1.0.7".parse().unwrap());
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 6]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!((&frame[22..32], &frame[22..32]), (&frame[32..42], &[2, 0, 0, 0, 0, 7, 10, 1, 0, 7][..]));
    }

    #[test]
    fn an_advertisement_has_a_checksum_that_holds() {
        let mac = Mac::parse("02:00:00:00:00:07").unwrap();
        let frame = frame(mac, "fd00::7".parse().unwrap());
        assert_eq!(frame.len(), 14 + 40 + 32);
        let (ip, message) = (&frame[14..54], &frame[54..]);
        let pseudo = [&ip[8..40], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo, message]), 0);
        assert_eq!((ip[7], message[0], message[4]), (255, 136, 0x20));
    }
}
