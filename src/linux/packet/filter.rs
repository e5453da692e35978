//! Which frames a packet socket receives: programs of the classic BPF. Each is attached and locked before the daemon
//! gets the socket, so no code can make it receive other frames, not even an attacker's in the daemon: the kernel
//! refuses to change or remove a locked filter (`SO_LOCK_FILTER`).

use libc::sock_filter;

use dhcp::advertisement::ADVERTISEMENT;
use dhcp::ipv6::HOP_LIMIT;
use dhcp::message::CLIENT_PORT;

use super::frame::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION,
};

/// Offset of the ancillary value that tells whether the frame has a VLAN tag: `SKF_AD_OFF` plus
/// `SKF_AD_VLAN_TAG_PRESENT` (include/uapi/linux/filter.h).
const VLAN_TAG_PRESENT: u32 = (-0x1000_i32 + 48) as u32;

/// Bytes of a frame of ARP or neighbour discovery that are passed on; those of interest are shorter.
pub const SNAP: u32 = 128;

/// Bytes of a frame with a message of a DHCP server or router that are passed on: as many as a client accepts.
pub const DHCP_SNAP: u32 = 1514;

const UDP: u32 = 17;
/// The offset of a fragment: only the first one has ports.
const FRAGMENT: u32 = 0x1fff;

/// What a socket receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Nothing: the socket only sends.
    Nothing,
    /// ARP, and ICMPv6 neighbour solicitations and advertisements, without a VLAN tag: a frame with a tag belongs to
    /// another network, and a VLAN link receives its frames without.
    Neighbours,
    /// Datagrams of UDP over IPv4 to the port of DHCP clients, and advertisements of routers on the link, without a VLAN tag.
    Dhcp,
}

impl Filter {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::Neighbours, Self::Dhcp];

    /// The program.
    pub fn program(self) -> Vec<sock_filter> {
        let load = |size, at| statement(libc::BPF_LD | size | libc::BPF_ABS, at);
        match self {
            Self::Nothing => vec![pass(0)],
            Self::Neighbours => vec![
                load(libc::BPF_B, VLAN_TAG_PRESENT),
                unless(0, 9),
                // The type of the frame.
                load(libc::BPF_H, 12),
                when(u32::from(ETHERTYPE_ARP), 6),
                unless(u32::from(ETHERTYPE_IPV6), 6),
                // The next header, and the type of the message: there are no extension headers.
                load(libc::BPF_B, 14 + 6),
                unless(u32::from(ICMPV6), 4),
                load(libc::BPF_B, 14 + 40),
                when(u32::from(NEIGHBOUR_SOLICITATION), 1),
                unless(u32::from(NEIGHBOUR_ADVERTISEMENT), 1),
                pass(SNAP),
                pass(0),
            ],
            Self::Dhcp => vec![
                load(libc::BPF_B, VLAN_TAG_PRESENT),
                unless(0, 11),
                load(libc::BPF_H, 12),
                when(u32::from(ETHERTYPE_IPV6), 10),
                unless(u32::from(ETHERTYPE_IPV4), 8),
                load(libc::BPF_B, 14 + 9),
                unless(UDP, 6),
                load(libc::BPF_H, 14 + 6),
                statement_of_jump(libc::BPF_JSET, FRAGMENT, (4, 0)),
                // The length of the header of IPv4, to which the position of the port is relative.
                statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 14),
                statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 14 + 2),
                unless(u32::from(CLIENT_PORT), 1),
                pass(DHCP_SNAP),
                pass(0),
                // The next header, the hop limit, and the type of the message: there are no extension headers.
                load(libc::BPF_B, 14 + 6),
                unless(u32::from(ICMPV6), 5),
                load(libc::BPF_B, 14 + 7),
                unless(u32::from(HOP_LIMIT), 3),
                load(libc::BPF_B, 14 + 40),
                unless(u32::from(ADVERTISEMENT), 1),
                pass(DHCP_SNAP),
                pass(0),
            ],
        }
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Skips `next` instructions if the loaded value is `value`.
fn when(value: u32, next: u8) -> sock_filter {
    statement_of_jump(libc::BPF_JEQ, value, (next, 0))
}

/// Skips `next` instructions if the loaded value is another.
fn unless(value: u32, next: u8) -> sock_filter {
    statement_of_jump(libc::BPF_JEQ, value, (0, next))
}

/// Skips as many instructions as the first or the second number says, as the comparison with `value` holds or not.
fn statement_of_jump(comparison: u32, value: u32, (jt, jf): (u8, u8)) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16, jt, jf, k: value }
}

fn pass(bytes: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, bytes)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Probe, announcement, probe};
    use super::*;
    use crate::model::Mac;

    /// Runs a program as the kernel does: the number of bytes that pass.
    fn run(program: &[sock_filter], frame: &[u8], tagged: bool) -> u32 {
        let (mut at, mut value, mut index) = (0, 0, 0);
        loop {
            let op = program[at];
            at += 1;
            match u32::from(op.code) {
                code if code == libc::BPF_RET | libc::BPF_K => return op.k,
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    at += usize::from(if value == op.k { op.jt } else { op.jf });
                }
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => {
                    at += usize::from(if value & op.k != 0 { op.jt } else { op.jf });
                }
                code if code == libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH => {
                    let Some(byte) = frame.get(op.k as usize) else { return 0 };
                    index = usize::from(byte & 0xf) * 4;
                }
                _ if op.k == VLAN_TAG_PRESENT => value = u32::from(tagged),
                code => {
                    let size = if code & libc::BPF_H != 0 { 2 } else { 1 };
                    let from = op.k as usize + if code & 0xe0 == libc::BPF_IND { index } else { 0 };
                    let Some(bytes) = frame.get(from..from + size) else { return 0 };
                    value = bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
                }
            }
        }
    }

    #[test]
    fn only_neighbours_pass() {
        let mac = Mac::parse("02:00:00:00:00:07").unwrap();
        let program = Filter::Neighbours.program();
        for address in ["10.1.0.7", "fd00::7"] {
            let address = address.parse().unwrap();
            for frame in [announcement(mac, address), probe(Probe { mac, address })] {
                assert_eq!(run(&program, &frame, false), SNAP, "{address}");
                assert_eq!(run(&program, &frame, true), 0, "of another VLAN");
                assert_eq!(run(&Filter::Nothing.program(), &frame, false), 0);
                for end in 0..frame.len().min(55) {
                    // What is too short fails to load or has another type.
                    run(&program, &frame[..end], false);
                }
            }
        }
        let advertisement = announcement(mac, "fd00::7".parse().unwrap());
        for (at, byte) in [(12, 0x08), (20, 6), (20, 0), (54, 133), (54, 134), (54, 137), (54, 128)] {
            let mut frame = advertisement.clone();
            frame[at] = byte;
            assert_eq!(run(&program, &frame, false), 0, "{byte} at {at}");
        }
        let mut ip = vec![0; 60];
        ip[12..14].copy_from_slice(&[8, 0]);
        assert_eq!(run(&program, &ip, false), 0);
    }

    #[test]
    fn only_answers_to_dhcp_clients_pass() {
        let program = Filter::Dhcp.program();
        let frame = dhcp::frame::to_clients(&[7; 300], [6; 6], [192, 0, 2, 1].into());
        assert_eq!((run(&program, &frame, false), run(&program, &frame, true)), (DHCP_SNAP, 0));
        let mut with_options = [&frame[..34], &[1; 8], &frame[34..]].concat();
        with_options[14] = 0x47;
        assert_eq!(run(&program, &with_options, false), DHCP_SNAP);
        // Another type, protocol, fragment or port; a request; a longer header of IPv4 than it says.
        for (at, byte) in [(12, 0x86), (13, 6), (23, 6), (21, 1), (20, 0x1f), (37, 67), (36, 1), (14, 0x46)] {
            let mut other = frame.clone();
            other[at] = byte;
            assert_eq!(run(&program, &other, false), 0, "{byte} at {at}");
        }
        let request = dhcp::frame::to_server(&[7; 300], [2; 6], dhcp::frame::Destination::Broadcast);
        let mac = Mac::parse("02:00:00:00:00:07").unwrap();
        for other in
            [request, announcement(mac, "10.1.0.7".parse().unwrap()), announcement(mac, "fd00::7".parse().unwrap())]
        {
            assert_eq!(run(&program, &other, false), 0);
        }
        let said = dhcp::Advertisement {
            router: "fe80::1".parse().unwrap(),
            lifetime: 1800,
            managed: false,
            other: false,
            mtu: Some(1400),
            prefixes: Vec::new(),
            dns: Vec::new(),
        };
        let said = said.frame([6; 6]);
        assert_eq!((run(&program, &said, false), run(&program, &said, true)), (DHCP_SNAP, 0));
        // Another type of frame, header, hop limit or message.
        for (at, byte) in [(13, 0xde), (20, 17), (21, 254), (54, 133), (54, 136)] {
            let mut other = said.clone();
            other[at] = byte;
            assert_eq!(run(&program, &other, false), 0, "{byte} at {at}");
        }
        for frame in [&frame, &said] {
            assert_eq!(run(&Filter::Neighbours.program(), frame, false), 0);
        }
        for end in 0..frame.len().min(38) {
            assert_eq!(run(&program, &frame[..end], false), 0, "{end}");
        }
    }
}
