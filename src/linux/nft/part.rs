//! Owns the parts of a packet that rules look at: its links, addresses and ports, and where the
//! kernel finds them (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Pure. Used by `expression`, which loads, compares and writes them.

const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const META_PACKET_TYPE: u32 = 19;

/// Which link of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The link it came in by.
    In,
    /// The link it goes out by.
    Out,
}

impl Direction {
    pub(super) fn index(self) -> Part {
        match self {
            Direction::In => Part::meta(META_IIF, 4),
            Direction::Out => Part::meta(META_OIF, 4),
        }
    }

    pub(super) fn name(self) -> Part {
        match self {
            Direction::In => Part::meta(META_IIFNAME, 16),
            Direction::Out => Part::meta(META_OIFNAME, 16),
        }
    }
}

/// Which address of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
}

impl Side {
    /// The address in the packet's header.
    pub fn address(self, v6: bool) -> Part {
        match (self, v6) {
            (Side::Source, false) => Part::header(12, 4),
            (Side::Destination, false) => Part::header(16, 4),
            (Side::Source, true) => Part::header(8, 16),
            (Side::Destination, true) => Part::header(24, 16),
        }
    }

    /// `NFTA_FIB_F_SADDR` and `NFTA_FIB_F_DADDR`.
    pub(super) fn fib(self) -> u32 {
        match self {
            Side::Source => 1,
            Side::Destination => 2,
        }
    }
}

/// A part of a packet, or something known about it, that is put into registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub(super) from: From,
    pub(super) len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// What the kernel knows of the packet.
    Meta(u32),
    /// Bytes from the start of one of its headers: 0 Ethernet, 1 network, 2 transport.
    Payload(u32, u32),
}

impl Part {
    /// Family of the packet, a byte (`meta nfproto`).
    pub const FAMILY: Part = Part::meta(15, 1);
    /// Transport protocol, a byte (`meta l4proto`).
    pub const TRANSPORT: Part = Part::meta(16, 1);
    /// What an Ethernet frame carries (`meta protocol`): behind a VLAN tag, what is tagged.
    pub const CARRIES: Part = Part::meta(1, 2);
    /// For whom the link took it (`meta pkttype`).
    pub const PACKET_TYPE: Part = Part::meta(META_PACKET_TYPE, 1);
    /// Flags of a TCP segment.
    pub const TCP_FLAGS: Part = Part::payload(2, 13, 1);
    /// What an Ethernet frame says that it carries (`ether type`): of a tagged one the first tag,
    /// also where the kernel has taken that off.
    pub const FRAME_TYPE: Part = Part::payload(0, 12, 2);
    /// Kind of the link that it came in by (`meta iiftype`), in the machine's byte order.
    pub const LINK_TYPE: Part = Part::meta(8, 2);
    /// Destination port of TCP, UDP and SCTP.
    pub const PORT: Part = Part::payload(2, 2, 2);
    /// Number of an overlay network and the byte behind it, in a VXLAN packet: behind the UDP
    /// header and four bytes of flags (RFC 7348, 5).
    pub const VNI: Part = Part::payload(2, 12, 4);
    /// Receiver of an Ethernet frame.
    pub const FRAME_TARGET: Part = Part::payload(0, 0, 6);
    /// Sender of an Ethernet frame.
    pub const FRAME_SOURCE: Part = Part::payload(0, 6, 6);
    /// Whether an IPv4 packet is a fragment, and which: three flags and the offset.
    pub const FRAGMENT: Part = Part::header(6, 2);
    /// Type of an IGMP message.
    pub const IGMP_TYPE: Part = Part::payload(2, 0, 1);
    /// What comes behind the header of an IPv6 packet.
    pub const NEXT_HEADER: Part = Part::header(6, 1);
    /// Hardware address that an ARP packet announces.
    pub const ARP_MAC: Part = Part::header(8, 6);
    /// Address that an ARP packet announces.
    pub const ARP_ADDRESS: Part = Part::header(14, 4);
    /// What an ARP packet is: a question or an answer.
    pub const ARP_OPERATION: Part = Part::header(6, 2);
    /// Address that an ARP packet asks for.
    pub const ARP_TARGET: Part = Part::header(24, 4);
    /// Type of an ICMPv6 message.
    pub const ICMPV6_TYPE: Part = Part::payload(2, 0, 1);
    /// Address that a neighbour advertisement is about.
    pub const NEIGHBOUR: Part = Part::payload(2, 8, 16);
    /// Source port of TCP, UDP and SCTP.
    pub const SOURCE_PORT: Part = Part::payload(2, 0, 2);
    /// The first byte of the Ethernet frame that a packet is in; of a packet of a tunnel that this host
    /// sends, of the frame in it. What a process sends is in no frame yet, and a rule that asks for
    /// it does not apply.
    pub const IN_A_FRAME: Part = Part::payload(0, 0, 1);
    /// User of the process that sends; a rule that asks for it does not apply to what the kernel sends.
    pub const USER: Part = Part::meta(10, 4);
    /// Kind of the link that it came in by; a rule that asks for it does not apply to hardware.
    pub const LINK_KIND: Part = Part::meta(26, 16);
    /// Name of the link that it came in by.
    pub const LINK: Part = Part::meta(META_IIFNAME, 16);

    const fn meta(key: u32, len: u32) -> Self {
        Self { from: From::Meta(key), len }
    }

    const fn header(offset: u32, len: u32) -> Self {
        Self::payload(1, offset, len)
    }

    const fn payload(base: u32, offset: u32, len: u32) -> Self {
        Self { from: From::Payload(base, offset), len }
    }
}
