//! The fields of a described packet, as the kernel's rules load them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nft::evaluate::{Lookup, Subject};
use nft::registers::Value;

use crate::datapath::passage::{Packet, PacketLink};
use crate::linux::reserve::MARK;
use crate::model::Family;

/// `RTN_UNICAST`, `RTN_LOCAL`, `RTN_BROADCAST` and `RTN_MULTICAST`.
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;
const BROADCAST: u32 = 3;
const MULTICAST: u32 = 5;

/// Bits of a connection: its state is `new`, and its destination was rewritten (`IPS_DST_NAT`).
const NEW: u32 = 8;
const DESTINATION_REWRITTEN: u32 = 1 << 5;

/// A port from which programs send, and hop counts of packets that they send.
const SOURCE_PORT: u16 = 50_000;
const HOPS: u8 = 64;
/// Type of an echo request in both families.
const ECHO: [u8; 2] = [8, 128];
const SYN: u8 = 2;

/// A packet at a hook, with what a set lookup needs.
pub struct Seen<'a, L> {
    /// The packet.
    pub packet: &'a Packet,
    /// Whether the hook is one of bridges.
    pub bridged: bool,
    /// Addresses of the host.
    pub local: &'a BTreeSet<IpAddr>,
    /// Looks up sets of the rule's table: the length of a key, and a key.
    pub sets: L,
}

/// Lookups in the sets of one table.
pub trait Sets {
    /// Bytes of a key.
    fn key_length(&self, set: &str) -> Option<usize>;
    /// Looks up a key.
    fn lookup(&self, set: &str, key: &[u8]) -> Lookup;
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn number(value: u32) -> Value {
    Value::Known(value.to_ne_bytes().to_vec())
}

fn name(link: Option<&PacketLink>) -> Value {
    let mut bytes = link.map(|link| link.name.clone()).unwrap_or_default().into_bytes();
    bytes.resize(16, 0);
    Value::Known(bytes)
}

fn kind(link: Option<&PacketLink>) -> Value {
    match link.filter(|link| !link.kind.is_empty()) {
        Some(link) => {
            let mut bytes = link.kind.clone().into_bytes();
            bytes.resize(16, 0);
            Value::Known(bytes)
        }
        None => Value::Missing,
    }
}

fn part(header: &[u8], offset: u32, len: u32, what: &str) -> Value {
    let range = offset as usize..(offset + len) as usize;
    header.get(range).map_or_else(|| Value::Unknown(what.to_owned()), |bytes| Value::Known(bytes.to_vec()))
}

impl<L> Seen<'_, L> {
    fn network_header(&self) -> Vec<u8> {
        let packet = self.packet;
        let addresses = [octets(packet.source), octets(packet.destination)].concat();
        let start: &[u8] = match packet.family() {
            Family::V4 => &[0x45, 0, 0, 60, 0, 0, 0x40, 0, HOPS, packet.protocol, 0, 0],
            Family::V6 => &[0x60, 0, 0, 0, 0, 40, packet.protocol, HOPS],
        };
        [start, &addresses].concat()
    }

    fn transport_header(&self) -> Vec<u8> {
        let packet = self.packet;
        match i32::from(packet.protocol) {
            libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => vec![ECHO[packet.family() as usize], 0, 0, 0, 0, 1, 0, 1],
            protocol => {
                let mut header = [SOURCE_PORT.to_be_bytes(), packet.port.to_be_bytes()].concat();
                if protocol == libc::IPPROTO_TCP {
                    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
                }
                header
            }
        }
    }

    /// The destination is a unicast address; which one does not matter.
    fn link_header(&self, offset: u32, len: u32) -> Value {
        const WHAT: &str = "the Ethernet header";
        let protocol: [u8; 2] = self.packet.family().choose([8, 0], [0x86, 0xdd]);
        let header = [&[2, 0, 0, 0, 0, 1][..], &self.packet.mac.map(|mac| mac.bytes()).unwrap_or_default(), &protocol];
        match self.bridged && (self.packet.mac.is_some() || offset + len <= 6 || offset >= 12) {
            true => part(&header.concat(), offset, len, WHAT),
            false => Value::Unknown(WHAT.to_owned()),
        }
    }

    fn address_kind(&self, address: IpAddr) -> u32 {
        if address.is_loopback() || self.local.contains(&address) {
            LOCAL
        } else if address.is_multicast() {
            MULTICAST
        } else if address == IpAddr::from([255; 4]) {
            BROADCAST
        } else {
            UNICAST
        }
    }
}

impl<L: Sets> Subject for Seen<'_, L> {
    fn meta(&self, key: u32) -> Value {
        let packet = self.packet;
        let (incoming, outgoing) = (packet.link_in.as_ref(), packet.link_out.as_ref());
        let index = |link: Option<&PacketLink>| number(link.map_or(0, |link| link.index));
        match key {
            1 => Value::Known(packet.family().choose(vec![8, 0], vec![0x86, 0xdd])),
            // A mark or a priority that nothing has set yet.
            2 | 3 => number(0),
            4 => index(incoming),
            5 => index(outgoing),
            6 => name(incoming),
            7 => name(outgoing),
            // Users are those of sockets of the host.
            10 | 11 if packet.link_in.is_some() => Value::Missing,
            15 => Value::Known(vec![if self.bridged {
                libc::NFPROTO_BRIDGE as u8
            } else {
                packet.family().choose(libc::NFPROTO_IPV4, libc::NFPROTO_IPV6) as u8
            }]),
            16 => Value::Known(vec![packet.protocol]),
            // `PACKET_HOST`
            19 => Value::Known(vec![0]),
            26 => kind(incoming),
            27 => kind(outgoing),
            other => Value::Unknown(format!("meta {other}")),
        }
    }

    fn payload(&self, base: u32, offset: u32, len: u32) -> Value {
        match base {
            0 if self.packet.link_in.is_none() && !self.bridged => Value::Missing,
            0 => self.link_header(offset, len),
            1 => part(&self.network_header(), offset, len, "the IP header"),
            2 => part(&self.transport_header(), offset, len, "the transport header"),
            _ => Value::Missing,
        }
    }

    fn connection(&self, key: u32) -> Value {
        let packet = self.packet;
        let address = |address: IpAddr, family: Family| match Family::of(&address) == family {
            true => Value::Known(octets(address)),
            false => Value::Missing,
        };
        match key {
            0 => number(NEW),
            1 => Value::Known(vec![0]),
            2 => number(if packet.translated { DESTINATION_REWRITTEN } else { 0 }),
            3 => number(0),
            8 => Value::Known(octets(packet.source)),
            9 => Value::Known(octets(packet.original)),
            10 => Value::Known(vec![packet.protocol]),
            19 => address(packet.source, Family::V4),
            20 => address(packet.original, Family::V4),
            21 => address(packet.source, Family::V6),
            22 => address(packet.original, Family::V6),
            other => Value::Unknown(format!("ct {other}")),
        }
    }

    fn fib(&self, result: u32, flags: u32) -> Value {
        let address = if flags & 1 != 0 { self.packet.source } else { self.packet.destination };
        match result {
            // The packet is described with the link that leads to its source.
            1 if flags & 1 != 0 => number(self.packet.link_in.as_ref().map_or(0, |link| link.index)),
            2 if flags & 1 != 0 => name(self.packet.link_in.as_ref()),
            3 if self.address_kind(address) == LOCAL && flags & 0x18 != 0 => Value::Unknown("fib".to_owned()),
            3 => number(self.address_kind(address)),
            _ => Value::Unknown("fib".to_owned()),
        }
    }

    fn socket(&self, key: u32) -> Value {
        match key {
            1 if self.packet.reserved => number(MARK),
            1 => Value::Missing,
            _ => Value::Unknown("socket".to_owned()),
        }
    }

    fn key_length(&self, set: &str) -> Option<usize> {
        self.sets.key_length(set)
    }

    fn lookup(&self, set: &str, key: &[u8]) -> Lookup {
        self.sets.lookup(set, key)
    }
}
