//! Fields of a packet that rules use: its links, addresses and ports, and where the kernel finds them
//! (include/uapi/linux/netfilter/nf_tables.h).
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
    /// The link that it came in by.
    In,
    /// The link that it goes out by.
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
    /// The source.
    Source,
    /// The destination.
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

/// A field of a packet, or metadata about it, that can be loaded into registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub(super) from: From,
    pub(super) len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Metadata of the packet.
    Meta(u32),
    /// Bytes from the start of one of its headers: 0 Ethernet, 1 network, 2 transport.
    Payload(u32, u32),
}

impl Part {
    /// Family of the packet, a byte (`meta nfproto`).
    pub const FAMILY: Part = Part::meta(15, 1);
    /// Transport protocol, a byte (`meta l4proto`).
    pub const TRANSPORT: Part = Part::meta(16, 1);
    /// EtherType of the payload (`meta protocol`): of a tagged frame, the one behind the VLAN tag.
    pub const CARRIES: Part = Part::meta(1, 2);
    /// Whether the packet is for this host, a broadcast or a multicast (`meta pkttype`).
    pub const PACKET_TYPE: Part = Part::meta(META_PACKET_TYPE, 1);
    /// Flags of a TCP segment.
    pub const TCP_FLAGS: Part = Part::payload(2, 13, 1);
    /// EtherType in the frame's header (`ether type`): of a tagged frame the first tag, also where the kernel
    /// has already stripped it.
    pub const FRAME_TYPE: Part = Part::payload(0, 12, 2);
    /// Type of the link that it came in by (`meta iiftype`), in host byte order.
    pub const LINK_TYPE: Part = Part::meta(8, 2);
    /// Destination port of TCP, UDP and SCTP.
    pub const PORT: Part = Part::payload(2, 2, 2);
    /// The VNI and the byte after it in a VXLAN packet: after the UDP header and four bytes of flags (RFC
    /// 7348, 5).
    pub const VNI: Part = Part::payload(2, 12, 4);
    /// Destination of an Ethernet frame.
    pub const FRAME_TARGET: Part = Part::payload(0, 0, 6);
    /// Source of an Ethernet frame.
    pub const FRAME_SOURCE: Part = Part::payload(0, 6, 6);
    /// Fragmentation of an IPv4 packet: three flags and the offset.
    pub const FRAGMENT: Part = Part::header(6, 2);
    /// Type of an IGMP message.
    pub const IGMP_TYPE: Part = Part::payload(2, 0, 1);
    /// Next header of an IPv6 packet.
    pub const NEXT_HEADER: Part = Part::header(6, 1);
    /// Sender hardware address of an ARP packet.
    pub const ARP_MAC: Part = Part::header(8, 6);
    /// Sender IP address of an ARP packet.
    pub const ARP_ADDRESS: Part = Part::header(14, 4);
    /// Operation of an ARP packet: request or reply.
    pub const ARP_OPERATION: Part = Part::header(6, 2);
    /// Target IP address of an ARP packet.
    pub const ARP_TARGET: Part = Part::header(24, 4);
    /// Type of an ICMPv6 message.
    pub const ICMPV6_TYPE: Part = Part::payload(2, 0, 1);
    /// Target address of a neighbour advertisement or solicitation.
    pub const NEIGHBOUR: Part = Part::payload(2, 8, 16);
    /// Source port of TCP, UDP and SCTP.
    pub const SOURCE_PORT: Part = Part::payload(2, 0, 2);
    /// The first byte of the packet's Ethernet frame; for a tunnel packet that this host sends, of the inner
    /// frame. A packet sent by a process is in no frame yet, and a rule with this field does not match it.
    pub const IN_A_FRAME: Part = Part::payload(0, 0, 1);
    /// User of the sending process; a rule with this field does not match packets that the kernel sends.
    pub const USER: Part = Part::meta(10, 4);
    /// Kind of the link that it came in by; a rule with this field does not match hardware links.
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
