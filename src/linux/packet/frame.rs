//! Frames by which hosts of one network find each other, ARP and neighbour discovery: their bytes, and what those of
//! other hosts say.
//!
//! Pure. Frames come from anybody on the network: every length is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dhcp::ipv6::{HOP_LIMIT, to_neighbour};

use crate::model::Mac;

pub(in crate::linux) const ETHERTYPE_ARP: u16 = 0x0806;
pub(in crate::linux) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(in crate::linux) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(super) const ICMPV6: u8 = 58;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet address of `ff02::1` (RFC 2464, 7).
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Ethernet, IPv4, address lengths 6 and 4; the operation follows.
const ARP_HEAD: [u8; 7] = [0, 1, 0x08, 0, 6, 4, 0];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
/// `Override`, the only flag set (RFC 4861, 4.4).
const OVERRIDE: u8 = 0x20;
/// The options with the sender's and the target's link-layer address, one unit of eight bytes each.
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

/// The question whether anybody has an address. No host learns anything from it, because it claims no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Hardware address of the link that sends it and receives the answer.
    pub mac: Mac,
    /// The address.
    pub address: IpAddr,
}

/// The frame of a probe: an ARP probe (RFC 5227, 2.1.1), or the neighbour solicitation of duplicate address detection
/// (RFC 4862, 5.4.2).
pub fn probe(probe: Probe) -> Vec<u8> {
    let mac = probe.mac.bytes();
    match probe.address {
        IpAddr::V4(address) => arp(BROADCAST, mac, ARP_REQUEST, [mac, [0; 6]], [Ipv4Addr::UNSPECIFIED, address]),
        IpAddr::V6(address) => {
            let [.., a, b, c] = address.octets();
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(address.octets());
            to_neighbour(([0x33, 0x33, 0xff, a, b, c], mac), (Ipv6Addr::UNSPECIFIED, group), message)
        }
    }
}

/// The frame that announces that `mac` has an address, as if it had sent the frame itself: switches learn its place
/// from the source. The ARP form is a reply with both hardware addresses equal: a kernel treats it as gratuitous and
/// lets it override a recently learned entry (`arp_is_garp`, net/ipv4/arp.c).
pub fn announcement(mac: Mac, address: IpAddr) -> Vec<u8> {
    let mac = mac.bytes();
    match address {
        IpAddr::V4(address) => arp(BROADCAST, mac, ARP_REPLY, [mac, mac], [address, address]),
        IpAddr::V6(address) => {
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
            message.extend(address.octets());
            message.extend([TARGET_LINK, 1]);
            message.extend(mac);
            to_neighbour((ALL_NODES, mac), (address, all_nodes), message)
        }
    }
}

/// An address that the sender of a frame says to have, with the sender's hardware address. Probes of others claim
/// nothing.
pub fn claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let from = frame.get(6..12)?;
    let kind = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    let packet = frame.get(14..)?;
    match kind {
        ETHERTYPE_ARP => claim_of_arp(packet),
        ETHERTYPE_IPV6 => claim_of_discovery(packet, from),
        _ => None,
    }
}

fn claim_of_arp(packet: &[u8]) -> Option<(IpAddr, Mac)> {
    let (head, rest) = packet.split_first_chunk::<7>()?;
    let (operation, rest) = rest.split_first()?;
    if *head != ARP_HEAD || ![ARP_REQUEST, ARP_REPLY].contains(operation) {
        return None;
    }
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    let is_host = !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast();
    Some((IpAddr::V4(address), Mac::unicast(*mac)?)).filter(|_| is_host)
}

fn claim_of_discovery(packet: &[u8], from: &[u8]) -> Option<(IpAddr, Mac)> {
    let (head, message) = packet.split_first_chunk::<40>()?;
    if head[6] != ICMPV6 || head[7] != HOP_LIMIT {
        return None;
    }
    let source = Ipv6Addr::from(*head.get(8..)?.first_chunk::<16>()?);
    let (message, options) = message.split_first_chunk::<24>()?;
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let (address, option) = match (message[0], message[1]) {
        (NEIGHBOUR_ADVERTISEMENT, 0) => (target, TARGET_LINK),
        (NEIGHBOUR_SOLICITATION, 0) => (source, SOURCE_LINK),
        _ => return None,
    };
    if address.is_unspecified() || address.is_multicast() {
        return None;
    }
    let mac = link_option(options, option).or(from.first_chunk().copied())?;
    Some((IpAddr::V6(address), Mac::unicast(mac)?))
}

/// The link-layer address in the options of a message.
fn link_option(mut options: &[u8], wanted: u8) -> Option<[u8; 6]> {
    while let [kind, units, ..] = *options {
        // No option has length 0 (RFC 4861, 4.6).
        let len = usize::from(units) * 8;
        let option = options.get(..len).filter(|_| len > 0)?;
        if kind == wanted {
            return option.get(2..)?.first_chunk().copied();
        }
        options = options.get(len..)?;
    }
    None
}

fn arp(to: [u8; 6], from: [u8; 6], operation: u8, macs: [[u8; 6]; 2], addresses: [Ipv4Addr; 2]) -> Vec<u8> {
    let ([sender, target], [by, of]) = (macs, addresses.map(|address| address.octets()));
    ethernet(to, from, ETHERTYPE_ARP, &[&ARP_HEAD[..], &[operation], &sender, &by, &target, &of].concat())
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), packet].concat();
    // The minimum length of a frame, without its checksum.
    frame.resize(frame.len().max(60), 0);
    frame
}

#[cfg(test)]
mod tests {
    use dhcp::frame::checksum;

    use super::*;

    fn mac() -> Mac {
        Mac::parse("02:00:00:00:00:07").unwrap()
    }

    fn checked(frame: &[u8]) -> u16 {
        let (ip, message) = (&frame[14..54], &frame[54..54 + usize::from(frame[19])]);
        let pseudo = [&ip[8..40], &[0, 0, 0, frame[19], 0, 0, 0, 58]].concat();
        checksum(&[&pseudo, message])
    }

    #[test]
    fn an_announcement_of_arp_is_a_gratuitous_reply() {
        let frame = announcement(mac(), "10.1.0.7".parse().unwrap());
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 6]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!((&frame[22..32], &frame[22..32]), (&frame[32..42], &[2, 0, 0, 0, 0, 7, 10, 1, 0, 7][..]));
    }

    #[test]
    fn an_advertisement_has_a_checksum_that_holds() {
        let frame = announcement(mac(), "fd00::7".parse().unwrap());
        assert_eq!((frame.len(), checked(&frame)), (14 + 40 + 32, 0));
        assert_eq!((frame[21], frame[54], frame[58]), (255, 136, 0x20));
    }

    #[test]
    fn a_probe_claims_no_address() {
        let v4 = probe(Probe { mac: mac(), address: "10.1.0.7".parse().unwrap() });
        assert_eq!(v4[..22], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(v4[22..42], [2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 1, 0, 7]);
        let v6 = probe(Probe { mac: mac(), address: "fd00::12:3456".parse().unwrap() });
        assert_eq!(v6[..14], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        // Without the option that names the sender's link-layer address (RFC 4861, 4.3).
        assert_eq!((v6.len(), checked(&v6), &v6[22..38]), (14 + 40 + 24, 0, &[0; 16][..]));
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!(v6[38..54], group.octets());
        assert_eq!([&v4, &v6].map(|frame| claim(frame)), [None, None]);
    }

    #[test]
    fn claims_are_read_and_nothing_else_is() {
        for address in ["10.1.0.7", "fd00::7"] {
            let address: IpAddr = address.parse().unwrap();
            let mut frame = announcement(mac(), address);
            // What is announced counts, not which link sent it.
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            assert_eq!(claim(&frame), Some((address, mac())));
            for end in 0..frame.len() {
                let _ = claim(&frame[..end]);
            }
        }
        let v4 = announcement(mac(), "10.1.0.7".parse().unwrap());
        for (at, byte) in [(13, 0), (15, 6), (17, 1), (18, 8), (19, 16), (20, 1), (21, 8), (22, 3), (28, 224)] {
            let mut frame = v4.clone();
            frame[at] = byte;
            assert_eq!(claim(&frame), None, "{byte} at {at}");
        }
        let v6 = announcement(mac(), "fd00::7".parse().unwrap());
        // The target is at 62, the option at 78; an option of length 0 has no end.
        for (at, byte) in [(20, 6), (21, 64), (54, 134), (55, 1), (62, 0xff), (80, 1)] {
            let mut frame = v6.clone();
            frame[at] = byte;
            assert_eq!(claim(&frame), None, "{byte} at {at}");
        }
        let mut endless = v6.clone();
        (endless[78], endless[79]) = (14, 0);
        assert_eq!(claim(&endless), Some(("fd00::7".parse().unwrap(), mac())), "the frame's own source");
    }

    #[test]
    fn a_solicitation_claims_its_source() {
        let mut frame = announcement(mac(), "fd00::7".parse().unwrap());
        (frame[54], frame[78]) = (NEIGHBOUR_SOLICITATION, SOURCE_LINK);
        frame[62..78].fill(1);
        assert_eq!(claim(&frame), Some(("fd00::7".parse().unwrap(), mac())));
    }
}
