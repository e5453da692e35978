//! A packet as rules see it, and what the chains of a hook decide about it.
//!
//! Plain values: `linux::ruleset` evaluates the rules in the kernel, and `explain` follows a packet through the hooks.

use std::fmt;
use std::net::IpAddr;

use crate::model::{Family, Mac};

/// Protocol numbers of ICMP in both families.
pub const ICMP: [u8; 2] = [libc::IPPROTO_ICMP as u8, libc::IPPROTO_ICMPV6 as u8];

/// A place where the kernel evaluates chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A frame enters a bridge.
    BridgeIn,
    /// A bridge delivers a frame to the host.
    BridgeLocal,
    /// A bridge forwards a frame between its ports.
    BridgeForward,
    /// A frame leaves a bridge by a port.
    BridgeOut,
    /// A packet arrives, before routing.
    Prerouting,
    /// A packet is for the host.
    Input,
    /// A packet is forwarded between links.
    Forward,
    /// The host sends a packet.
    Output,
    /// A packet leaves the host.
    Postrouting,
}

impl Hook {
    /// The number of the hook, and whether it is one of bridges.
    pub fn number(self) -> (u32, bool) {
        match self {
            Hook::BridgeIn => (0, true),
            Hook::BridgeLocal => (1, true),
            Hook::BridgeForward => (2, true),
            Hook::BridgeOut => (4, true),
            Hook::Prerouting => (0, false),
            Hook::Input => (1, false),
            Hook::Forward => (2, false),
            Hook::Output => (3, false),
            Hook::Postrouting => (4, false),
        }
    }
}

/// A link that a packet comes in by or goes out by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketLink {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its kind, or empty.
    pub kind: String,
}

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination before any translation.
    pub original: IpAddr,
    /// Number of the transport protocol.
    pub protocol: u8,
    /// Destination port, for protocols with ports.
    pub port: u16,
    /// The link that it came in by; `None` if the host sends it.
    pub link_in: Option<PacketLink>,
    /// The link that it goes out by; `None` while that is not decided, and if it is for the host.
    pub link_out: Option<PacketLink>,
    /// Source hardware address, where it is known.
    pub mac: Option<Mac>,
    /// Whether its destination was translated.
    pub translated: bool,
    /// Whether the socket that would receive it only reserves a published port.
    pub reserved: bool,
}

impl Packet {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(&self.destination)
    }
}

/// What a chain decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It lets the packet continue.
    Accept,
    /// It drops the packet, without an answer.
    Drop,
    /// It rejects the packet, with an answer.
    Reject,
    /// It translates the destination.
    Destination(IpAddr, u16),
    /// It translates the source.
    Source,
    /// Some condition cannot be decided here; this is it.
    Unknown(String),
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSeen {
    /// Its chain: another one than that of the passage after a jump.
    pub chain: String,
    /// Its place in the chain, from 1.
    pub place: usize,
    /// Its handle.
    pub handle: u64,
    /// Its comment, or empty.
    pub comment: String,
    /// Packets that it counted, if it counts.
    pub packets: Option<u64>,
}

/// The way of a packet through one chain of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Family of the table as nft names it; `iptables-legacy` and `ip6tables-legacy` for tables that nft does not show.
    pub family: String,
    /// Its table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Whether the table is Pontoon's.
    pub ours: bool,
    /// What it decided.
    pub decision: Decision,
    /// The rule that decided; `None` for the policy of the chain.
    pub rule: Option<RuleSeen>,
}

impl Passage {
    /// Whether the packet ends here.
    pub fn ends(&self) -> bool {
        matches!(self.decision, Decision::Drop | Decision::Reject)
    }
}

impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// A route of the host or of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSeen {
    /// Whether the destination is an address of the namespace itself.
    pub local: bool,
    /// The link.
    pub link: PacketLink,
    /// The gateway, if it leads by one.
    pub gateway: Option<IpAddr>,
    /// The source address of packets that use it.
    pub source: Option<IpAddr>,
}

/// A socket that waits for connections or datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSeen {
    /// Its address; unspecified for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

impl ListenerSeen {
    /// Whether it takes packets to this address. A socket for all IPv6 addresses takes IPv4 too, unless its program
    /// forbids that.
    pub fn takes(&self, address: IpAddr) -> bool {
        self.address == address || self.address.is_unspecified() && (self.address.is_ipv6() || address.is_ipv4())
    }
}
