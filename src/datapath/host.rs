//! Snapshot of the host as far as it can conflict with Pontoon: links, routes, firewall rules of other
//! programs, and the features of this kernel.
//!
//! A plain value: `linux::survey` reads it and the doctor evaluates it. No request handler reads it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{BridgePort, ForwardRule};
use crate::model::{Family, IfName};

/// A link of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// Its kind, empty for physical links.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively down.
    pub down: bool,
    /// Whether it is in one of Pontoon's interface groups.
    pub ours: bool,
    /// Where a VXLAN link listens.
    pub tunnel: Option<HostTunnel>,
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBridge {
    /// Its name.
    pub name: IfName,
    /// Whether it filters VLANs.
    pub filters_vlans: bool,
    /// Its ports with a VLAN, and the bridge itself.
    pub ports: Vec<BridgePort>,
}

/// Where a VXLAN link listens, regardless of which program created it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTunnel {
    /// Its VNI; 0 for one that accepts every VNI.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
}

/// A rule of Pontoon that dropped packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Family of its table as nft names it: `inet`, `bridge`, `ip` or `ip6`.
    pub family: String,
    /// Its chain.
    pub chain: String,
    /// Its purpose, taken from its comment.
    pub rule: String,
    /// Number of packets that it dropped.
    pub packets: u64,
}

/// The paths between this host and the other hosts of its overlay networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerPaths {
    /// The link that has this host's underlay address.
    pub link: Option<String>,
    /// Names of the tunnel offloads that are enabled on that link.
    pub offloads: Vec<String>,
    /// The path to each peer.
    pub peers: Vec<PeerPath>,
}

/// The path to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPath {
    /// Address of the peer.
    pub peer: IpAddr,
    /// The link that packets to the peer leave by; `None` without a route.
    pub link: Option<String>,
    /// Path MTU in bytes, as far as this host has learned it.
    pub mtu: Option<u32>,
    /// Seconds since a packet of the peer was last seen, if a forwarding entry remains.
    pub heard: Option<u64>,
}

/// Chain FORWARD of iptables-legacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyChain {
    /// Its family.
    pub family: Family,
    /// Whether its policy is drop.
    pub drops: bool,
    /// Whether one of its rules names Pontoon's links.
    pub names_ours: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Destination; prefix length 0 for a default route.
    pub destination: IpNetwork,
    /// The link it uses, or empty.
    pub link: String,
}

/// A rule that lets no packet past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostEnd {
    /// The kernel's handle of the rule.
    pub handle: u64,
    /// Its position in the chain, counted from 1.
    pub place: usize,
}

/// A chain of nf_tables that is not Pontoon's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostChain {
    /// `ip`, `ip6`, `inet`, `bridge`, ...
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether it filters forwarded packets (hook forward of IP).
    pub forward: bool,
    /// Whether its policy is drop.
    pub drops: bool,
    /// Its accepting rules that have the form of Pontoon's, regardless of which program added them.
    pub accepts: BTreeSet<ForwardRule>,
    /// The first rule that lets no packet past it, if it precedes the rules that accept Pontoon's links.
    pub end: Option<HostEnd>,
    /// Whether one of its rules names Pontoon's links.
    pub names_ours: bool,
}

/// The oldest supported kernel release.
pub const OLDEST: (u32, u32) = (5, 10);

/// A kernel feature that Pontoon uses, probed in a temporary network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feature {
    /// Name of the feature.
    pub name: &'static str,
    /// The kernel modules that provide it.
    pub modules: &'static str,
    /// Whether Pontoon cannot work without it.
    pub needed: bool,
    /// Whether only networks that ask for it use it.
    pub on_request: bool,
    /// The consequence of its absence.
    pub without: &'static str,
    /// The kernel's error when it is not available.
    pub refused: Option<String>,
}

/// The host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// All links.
    pub links: Vec<HostLink>,
    /// All bridges; none on a kernel that cannot filter VLANs.
    pub bridges: Vec<HostBridge>,
    /// The link of the default route.
    pub uplink: Option<String>,
    /// Unicast routes of the main table, default routes included.
    pub routes: Vec<HostRoute>,
    /// Chains of other programs.
    pub chains: Vec<HostChain>,
    /// Chains FORWARD of iptables-legacy, if the module is loaded.
    pub legacy: Vec<LegacyChain>,
    /// Drop counters of Pontoon's own rules since they were created.
    pub dropped: Vec<Dropped>,
    /// Hosts that are not peers but recently sent to overlay networks, each with the VNI.
    pub unknown_senders: BTreeSet<(IpAddr, u32)>,
    /// Tunnels, each with an address that a container on another host recently announced there.
    pub heard: BTreeSet<(String, IpAddr)>,
    /// Features of this kernel; empty when they could not be probed.
    pub features: Vec<Feature>,
    /// Why they could not be probed.
    pub untried: Option<String>,
}
