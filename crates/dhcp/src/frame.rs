//! Ethernet frames with a message: Ethernet II, IPv4 and UDP.

use std::net::Ipv4Addr;

use crate::message::{CLIENT_PORT, SERVER_PORT};

const BROADCAST: [u8; 6] = [0xff; 6];
const IPV4: [u8; 2] = [0x08, 0];
const UDP: u8 = 17;
/// Lengths of the headers.
const ETHERNET: usize = 14;
const IP: usize = 20;
const HEADER_OF_UDP: usize = 8;
/// The flag "more fragments" and the offset of a fragment.
const FRAGMENT: u16 = 0x3fff;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To all, from a client without an address.
    Broadcast,
    /// To one server, from a client's address.
    Server {
        /// The hardware address of the server, or of the router before it.
        hardware: [u8; 6],
        /// The server.
        server: Ipv4Addr,
        /// The client's address.
        client: Ipv4Addr,
    },
}

/// The frame that carries a client's message to a server, sent by the link with the hardware address `from`.
pub fn to_server(message: &[u8], from: [u8; 6], to: Destination) -> Vec<u8> {
    let (hardware, source, destination) = match to {
        Destination::Broadcast => (BROADCAST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
        Destination::Server { hardware, server, client } => (hardware, client, server),
    };
    wrap(message, (from, hardware), (source, destination), (CLIENT_PORT, SERVER_PORT))
}

/// The frame that carries a server's message to clients, by broadcast: for tests.
pub fn to_clients(message: &[u8], from: [u8; 6], server: Ipv4Addr) -> Vec<u8> {
    wrap(message, (from, BROADCAST), (server, Ipv4Addr::BROADCAST), (SERVER_PORT, CLIENT_PORT))
}

fn wrap(
    message: &[u8],
    (from, to): ([u8; 6], [u8; 6]),
    (source, destination): (Ipv4Addr, Ipv4Addr),
    ports: (u16, u16),
) -> Vec<u8> {
    let (source, destination) = (source.octets(), destination.octets());
    let len = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let total = len(IP + HEADER_OF_UDP + message.len());
    let datagram = len(HEADER_OF_UDP + message.len());
    // Version and length, type of service "low delay", length, no id, may not be fragmented, 64 hops.
    let mut ip = [&[0x45, 0x10][..], &total, &[0, 0, 0x40, 0, 64, UDP, 0, 0], &source, &destination].concat();
    let sum = checksum(&[&ip]);
    set(&mut ip, 10, sum);
    let mut udp = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &datagram, &[0, 0], message].concat();
    let pseudo = [&source[..], &destination, &[0, UDP], &datagram].concat();
    // A computed 0 is sent as its complement: 0 means that there is no checksum.
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => 0xffff,
        sum => sum,
    };
    set(&mut udp, 6, sum);
    [&to[..], &from, &IPV4, &ip, &udp].concat()
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(slot) = bytes.get_mut(at..at + 2) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// The message for clients in a frame without a VLAN tag, and the hardware address that sent the frame; `None` for every
/// other frame.
///
/// The checksum of UDP is not looked at: between links of one host the kernel leaves it incomplete.
pub fn for_clients(frame: &[u8]) -> Option<(&[u8], [u8; 6])> {
    let from = *frame.get(6..)?.first_chunk::<6>()?;
    if frame.get(12..ETHERNET)? != IPV4 {
        return None;
    }
    let packet = frame.get(ETHERNET..)?;
    let head = packet.first()?;
    let ip = usize::from(head & 0xf) * 4;
    let two = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk::<2>()?));
    let total = usize::from(two(2)?);
    if head >> 4 != 4 || ip < IP || two(6)? & FRAGMENT != 0 || *packet.get(9)? != UDP {
        return None;
    }
    if checksum(&[packet.get(..ip)?]) != 0 {
        return None;
    }
    let udp = packet.get(ip..total)?;
    let two = |at: usize| Some(usize::from(u16::from_be_bytes(*udp.get(at..)?.first_chunk::<2>()?)));
    if two(2)? != usize::from(CLIENT_PORT) {
        return None;
    }
    Some((udp.get(HEADER_OF_UDP..two(4)?)?, from))
}

/// The Internet checksum (RFC 1071) of parts, of which all but the last have an even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| u32::from(*pair.first().unwrap_or(&0)) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn a_request_is_a_broadcast_without_an_address() {
        let frame = to_server(b"odd", MAC, Destination::Broadcast);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 0]);
        assert_eq!((frame.len(), frame[16..18].to_vec()), (14 + 20 + 8 + 3, vec![0, 31]));
        assert_eq!(frame[26..38], [0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67]);
        let pseudo = [&frame[26..34], &[0, UDP], &frame[38..40]].concat();
        assert_eq!((checksum(&[&frame[14..34]]), checksum(&[&pseudo, &frame[34..]])), (0, 0));
        assert_eq!(for_clients(&frame), None, "it is not for clients");
    }

    #[test]
    fn a_release_goes_to_one_server() {
        let to = Destination::Server { hardware: [6; 6], server: [192, 0, 2, 1].into(), client: [192, 0, 2, 9].into() };
        let frame = to_server(b"even", MAC, to);
        assert_eq!((&frame[..6], &frame[26..34]), (&[6; 6][..], &[192, 0, 2, 9, 192, 0, 2, 1][..]));
    }

    #[test]
    fn only_whole_datagrams_for_clients_are_read() {
        let frame = to_clients(b"hello", MAC, [192, 0, 2, 1].into());
        assert_eq!(for_clients(&frame), Some((&b"hello"[..], MAC)));
        // Short frames are padded on the wire.
        let padded = [&frame[..], &[0; 20]].concat();
        assert_eq!(for_clients(&padded), Some((&b"hello"[..], MAC)));
        for end in 0..frame.len() {
            assert_eq!(for_clients(&frame[..end]), None, "{end}");
        }
        for (at, byte) in
            [(12, 0x81), (14, 0x44), (14, 0x65), (20, 0x20), (21, 1), (23, 6), (24, 1), (37, 67), (39, 99)]
        {
            let mut other = frame.clone();
            other[at] = byte;
            if at != 24 {
                // Each of them alone is the reason.
                other[24..26].copy_from_slice(&[0, 0]);
                let sum = checksum(&[&other[14..34]]).to_be_bytes();
                other[24..26].copy_from_slice(&sum);
            }
            assert_eq!(for_clients(&other), None, "{byte} at {at}");
        }
    }

    #[test]
    fn options_of_ip_are_skipped_and_an_incomplete_checksum_of_udp_is_no_reason() {
        let frame = to_clients(b"hello", MAC, [192, 0, 2, 1].into());
        let mut with = [&frame[..34], &[1, 1, 1, 0], &frame[34..]].concat();
        with[14] = 0x46;
        with[17] += 4;
        with[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&[&with[14..38]]).to_be_bytes();
        with[24..26].copy_from_slice(&sum);
        with[44] ^= 0xff;
        assert_eq!(for_clients(&with), Some((&b"hello"[..], MAC)));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = for_clients(&bytes);
            let head = [&[0; 12][..], &IPV4, &[0x45]].concat();
            let _ = for_clients(&[head, bytes].concat());
        }
    }
}
