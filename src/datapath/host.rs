//! Owns what the rest of the host looks like, as far as it can stand in Pontoon's way: links,
//! routes, other people's firewall rules, and what this kernel can do.
//!
//! A value; read by `linux::survey`, judged by the doctor. Nothing on a request's path asks for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::ForwardRule;

/// A link of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// Its kind, empty for physical links.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is in one of Pontoon's groups.
    pub ours: bool,
    /// What a VXLAN link listens for.
    pub tunnel: Option<HostTunnel>,
}

/// What a VXLAN link listens for, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTunnel {
    /// Its number; 0 for one that takes all.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
}

/// A rule of Pontoon's that dropped packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Whether it is in table `inet pontoon`, and not in `bridge pontoon`.
    pub of_inet: bool,
    /// Its chain.
    pub chain: String,
    /// What it is for: its comment.
    pub rule: String,
    /// How many packets.
    pub packets: u64,
}

/// What lies between this host and the others of its overlay networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ways {
    /// The link that has this host's address.
    pub link: Option<String>,
    /// What that link does of the tunnels' work itself: names of its features that are on.
    pub offloads: Vec<String>,
    /// The way to each peer.
    pub peers: Vec<Way>,
}

/// The way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Its address.
    pub peer: IpAddr,
    /// The link that packets to it leave by; `None` without a route.
    pub link: Option<String>,
    /// Bytes that a packet may have, as far as this host knows by now.
    pub mtu: Option<u32>,
    /// How many seconds ago it was heard, if it is remembered.
    pub heard: Option<u64>,
}

/// Chain FORWARD of iptables-legacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyChain {
    /// Whether it is that of ip6tables.
    pub v6: bool,
    /// Whether its policy is to drop.
    pub drops: bool,
    /// Whether a rule in it names Pontoon's links.
    pub names_ours: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads; prefix length 0 for a default route.
    pub destination: IpNetwork,
    /// The link it uses, or empty.
    pub link: String,
}

/// A rule that lets nothing of what comes to it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostEnd {
    /// The kernel's number for it.
    pub handle: u64,
    /// Its place in the chain, from 1.
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
    /// Whether forwarded packets pass it (hook forward of IP).
    pub forward: bool,
    /// Whether its policy is to drop.
    pub drops: bool,
    /// The accepting rules in it that are of the form of Pontoon's, whoever made them.
    pub accepts: BTreeSet<ForwardRule>,
    /// The first rule that lets nothing pass, if there is one before Pontoon's links are accepted.
    pub end: Option<HostEnd>,
    /// Whether a rule in it names Pontoon's links.
    pub names_ours: bool,
}

/// Something that Pontoon needs of the kernel, tried in a network namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// What was tried.
    pub name: &'static str,
    /// The modules that bring it.
    pub modules: &'static str,
    /// Whether Pontoon cannot work without it.
    pub needed: bool,
    /// What the kernel said when it refused.
    pub refused: Option<String>,
}

/// The host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// All links.
    pub links: Vec<HostLink>,
    /// The link of the default route.
    pub uplink: Option<String>,
    /// Unicast routes of the main table, default routes included.
    pub routes: Vec<HostRoute>,
    /// Chains of others.
    pub chains: Vec<HostChain>,
    /// Chains FORWARD of iptables-legacy, where there are any.
    pub legacy: Vec<LegacyChain>,
    /// What Pontoon's own rules dropped since they were made.
    pub dropped: Vec<Dropped>,
    /// Hosts that are no peers and sent to overlay networks lately, and the number that they sent to.
    pub strangers: BTreeSet<(IpAddr, u32)>,
    /// Tunnels, and addresses that containers of other hosts announced there lately.
    pub heard: BTreeSet<(String, IpAddr)>,
    /// What this kernel can do; empty when it could not be tried.
    pub features: Vec<Feature>,
    /// Why it could not be tried.
    pub untried: Option<String>,
}
