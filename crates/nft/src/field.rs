//! Fields of a packet that rules use: its links, addresses and ports, and where the kernel finds them
//! (include/uapi/linux/netfilter/nf_tables.h).

use netlink::Family;

const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
/// `NFT_META_IIFNAME`.
pub const META_IIFNAME: u32 = 6;
/// `NFT_META_OIFNAME`.
pub const META_OIFNAME: u32 = 7;
pub(crate) const META_PACKET_TYPE: u32 = 19;

/// Which link of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The link that it came in by.
    In,
    /// The link that it goes out by.
    Out,
}

impl Direction {
    /// The index of the link.
    pub fn index(self) -> Field {
        match self {
            Direction::In => Field::meta(META_IIF, 4),
            Direction::Out => Field::meta(META_OIF, 4),
        }
    }

    /// The name of the link.
    pub fn name(self) -> Field {
        match self {
            Direction::In => Field::meta(META_IIFNAME, 16),
            Direction::Out => Field::meta(META_OIFNAME, 16),
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
    pub fn address(self, family: Family) -> Field {
        match (self, family) {
            (Side::Source, Family::V4) => Field::header(12, 4),
            (Side::Destination, Family::V4) => Field::header(16, 4),
            (Side::Source, Family::V6) => Field::header(8, 16),
            (Side::Destination, Family::V6) => Field::header(24, 16),
        }
    }

    /// `NFTA_FIB_F_SADDR` and `NFTA_FIB_F_DADDR`.
    pub(crate) fn fib(self) -> u32 {
        match self {
            Side::Source => 1,
            Side::Destination => 2,
        }
    }
}

/// A field of a packet, or metadata about it, that can be loaded into registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub(crate) from: From,
    pub(crate) len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Metadata of the packet.
    Meta(u32),
    /// Bytes from the start of one of its headers: 0 Ethernet, 1 network, 2 transport.
    Payload(u32, u32),
}

impl Field {
    /// Family of the packet, a byte (`meta nfproto`).
    pub const FAMILY: Field = Field::meta(15, 1);
    /// Transport protocol, a byte (`meta l4proto`).
    pub const TRANSPORT: Field = Field::meta(16, 1);
    /// EtherType of the payload (`meta protocol`): of a tagged frame, the one behind the VLAN tag.
    pub const CARRIES: Field = Field::meta(1, 2);
    /// Whether the packet is for this host, a broadcast or a multicast (`meta pkttype`).
    pub const PACKET_TYPE: Field = Field::meta(META_PACKET_TYPE, 1);
    /// Flags of a TCP segment.
    pub const TCP_FLAGS: Field = Field::payload(2, 13, 1);
    /// EtherType in the frame's header (`ether type`): of a tagged frame the first tag, also where the kernel
    /// has already stripped it.
    pub const FRAME_TYPE: Field = Field::payload(0, 12, 2);
    /// The tag of a frame with one: three bits of priority, one that permits to drop the frame, and the VLAN id.
    pub const TAG: Field = Field::payload(0, 14, 2);
    /// The EtherType behind the first tag.
    pub const TAGGED_TYPE: Field = Field::payload(0, 16, 2);
    /// Type of the link that it came in by (`meta iiftype`), in host byte order.
    pub const LINK_TYPE: Field = Field::meta(8, 2);
    /// Destination port of TCP, UDP and SCTP.
    pub const PORT: Field = Field::payload(2, 2, 2);
    /// The VNI and the byte after it in a VXLAN packet: after the UDP header and four bytes of flags (RFC
    /// 7348, 5).
    pub const VNI: Field = Field::payload(2, 12, 4);
    /// Destination of an Ethernet frame.
    pub const FRAME_TARGET: Field = Field::payload(0, 0, 6);
    /// Source of an Ethernet frame.
    pub const FRAME_SOURCE: Field = Field::payload(0, 6, 6);
    /// Fragmentation of an IPv4 packet: three flags and the offset.
    pub const FRAGMENT: Field = Field::header(6, 2);
    /// Type of an IGMP message.
    pub const IGMP_TYPE: Field = Field::payload(2, 0, 1);
    /// Next header of an IPv6 packet.
    pub const NEXT_HEADER: Field = Field::header(6, 1);
    /// Sender hardware address of an ARP packet.
    pub const ARP_MAC: Field = Field::header(8, 6);
    /// Sender IP address of an ARP packet.
    pub const ARP_ADDRESS: Field = Field::header(14, 4);
    /// Operation of an ARP packet: request or reply.
    pub const ARP_OPERATION: Field = Field::header(6, 2);
    /// Target IP address of an ARP packet.
    pub const ARP_TARGET: Field = Field::header(24, 4);
    /// Type of an ICMPv6 message.
    pub const ICMPV6_TYPE: Field = Field::payload(2, 0, 1);
    /// Target address of a neighbour advertisement or solicitation.
    pub const NEIGHBOUR: Field = Field::payload(2, 8, 16);
    /// Source port of TCP, UDP and SCTP.
    pub const SOURCE_PORT: Field = Field::payload(2, 0, 2);
    /// The first byte of the packet's Ethernet frame; for a tunnel packet that this host sends, of the inner
    /// frame. A packet sent by a process is in no frame yet, and a rule with this field does not match it.
    pub const IN_A_FRAME: Field = Field::payload(0, 0, 1);
    /// User of the sending process; a rule with this field does not match packets that the kernel sends.
    pub const USER: Field = Field::meta(10, 4);
    /// Kind of the link that it came in by; a rule with this field does not match hardware links.
    pub const LINK_KIND: Field = Field::meta(26, 16);
    /// Name of the link that it came in by.
    pub const LINK: Field = Field::meta(META_IIFNAME, 16);

    /// Type of an ICMP message.
    pub const ICMP_TYPE: Field = Field::payload(2, 0, 1);
    /// Time to live of an IPv4 packet.
    pub const TIME_TO_LIVE: Field = Field::header(8, 1);
    /// Hop limit of an IPv6 packet.
    pub const HOP_LIMIT: Field = Field::header(7, 1);
    /// Length of an IPv4 packet, in bytes.
    pub const LENGTH4: Field = Field::header(2, 2);
    /// Length of what follows the header of an IPv6 packet, in bytes.
    pub const LENGTH6: Field = Field::header(4, 2);

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
