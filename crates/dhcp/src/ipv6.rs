//! Ethernet frames with a message of ICMPv6 to or from neighbours (RFC 4861).

use std::net::Ipv6Addr;

use crate::frame::checksum;

/// The type of frames with IPv6.
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 58;
/// Messages to neighbours are sent with this hop limit, which proves that no router passed them on (RFC 4861, 11.2).
pub const HOP_LIMIT: u8 = 255;
/// Lengths of the headers.
const ETHERNET: usize = 14;
const HEADER: usize = 40;
/// The minimum length of a frame, without its checksum.
const SHORTEST: usize = 60;

/// The frame of a message; its checksum is set. `link` has the hardware addresses of destination and sender.
pub fn to_neighbour(
    (to, from): ([u8; 6], [u8; 6]),
    (source, destination): (Ipv6Addr, Ipv6Addr),
    mut message: Vec<u8>,
) -> Vec<u8> {
    let [high, low] = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let sum = sum(source, destination, &message).to_be_bytes();
    if let Some(slot) = message.get_mut(2..4) {
        slot.copy_from_slice(&sum);
    }
    // Version 6, no traffic class, no flow label.
    let head = [0x60, 0, 0, 0, high, low, ICMP, HOP_LIMIT];
    let mut frame = [&to[..], &from, &IPV6, &head, &source.octets(), &destination.octets(), &message].concat();
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// The message of a neighbour in a frame without a VLAN tag and without extension headers, with the address that sent it;
/// `None` for every other frame, and for one that a router passed on.
pub fn of_neighbour(frame: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let packet = frame.get(ETHERNET..)?;
    if frame.get(12..ETHERNET)? != IPV6 {
        return None;
    }
    let (head, rest) = packet.split_first_chunk::<HEADER>()?;
    let (length, rest_of_head) = (u16::from_be_bytes([head[4], head[5]]), (head[6], head[7]));
    if head[0] >> 4 != 6 || rest_of_head != (ICMP, HOP_LIMIT) {
        return None;
    }
    let address = |at: usize| Some(Ipv6Addr::from(*head.get(at..)?.first_chunk::<16>()?));
    let (source, destination) = (address(8)?, address(24)?);
    let message = rest.get(..usize::from(length))?;
    (sum(source, destination, message) == 0).then_some((source, message))
}

/// The checksum of a message, with the pseudo header of IPv6 (RFC 8200, 8.1).
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    checksum(&[&source.octets(), &destination.octets(), &length, &[0, 0, 0, ICMP], message])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let (source, all) = ("fe80::7".parse().unwrap(), "ff02::1".parse().unwrap());
        to_neighbour(([0x33, 0x33, 0, 0, 0, 1], [2, 0, 0, 0, 0, 7]), (source, all), message.to_vec())
    }

    #[test]
    fn what_is_written_is_read() {
        for message in [&[134, 0, 0, 0][..], &[134, 0, 0, 0, 64, 0, 0, 30, 1]] {
            let frame = frame(message);
            assert!(frame.len() >= SHORTEST, "short frames are padded");
            let (source, read) = of_neighbour(&frame).unwrap();
            assert_eq!((source.to_string().as_str(), read.len(), read[0]), ("fe80::7", message.len(), 134));
            for end in 0..ETHERNET + HEADER + message.len() {
                assert_eq!(of_neighbour(&frame[..end]), None, "{end}");
            }
        }
    }

    #[test]
    fn what_did_not_come_from_a_neighbour_is_not_read() {
        let good = frame(&[134, 0, 0, 0, 64, 0, 0, 30]);
        // Type of the frame, version, next header, hop limit, source, checksum, message.
        for at in [12, 14, 20, 21, 29, 56, 60] {
            let mut other = good.clone();
            other[at] ^= 0x10;
            assert_eq!(of_neighbour(&other), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of_neighbour(&bytes);
            let head = [&[0; 12][..], &IPV6, &[0x60]].concat();
            let _ = of_neighbour(&[head, bytes].concat());
        }
    }
}
