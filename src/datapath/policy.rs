//! The policy of the firewall in terms of networks: which traffic is isolated, translated, published, trusted or
//! checked.
//!
//! A value is one statement; a desired policy is a set of them, and their order does not matter. Only
//! `linux::firewall` knows the rules and sets that enforce a statement.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::access::Access;
use crate::model::{Family, IfName, Mac, Protocol, Published, Vid, Vni};

/// What a statement about one link alone says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkProperty {
    /// Only traffic of its own network, replies and what other statements allow enter this bridge.
    ProtectedBridge,
    /// Routed traffic neither leaves nor enters this bridge.
    Internal,
    /// This bridge has containers, of Pontoon or of another program.
    ContainerBridge,
    /// This bridge belongs to the engine's built-in driver; its unpublished ports are not reachable from
    /// Pontoon's networks.
    EngineBridge,
    /// Router advertisements do not reach this port.
    NoRouterAdvertisements,
    /// Sources of packets from this port are checked.
    SpoofChecked,
    /// This tunnel carries no broadcasts and multicasts except those for address resolution.
    NoMulticast,
}

/// A limit of the connections of a container, of those to it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// So many at a time.
    Connections(u32),
    /// So many new ones in a second.
    ConnectionRate {
        /// Connections per second.
        rate: u32,
        /// How many may exceed it at once.
        burst: u32,
    },
}

/// One statement of the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// A link has a property.
    Link(LinkProperty, IfName),
    /// Containers on this bridge reach each other.
    IntraNetwork(IfName),
    /// Containers on this bridge do not reach each other, except at published ports.
    Isolated(IfName),
    /// The host has this address on the bridge of a network.
    BridgeAddress(IpAddr),
    /// Outbound traffic of this subnet is masqueraded.
    Masquerade(IpNetwork),
    /// A port of the host leads to a port of a container. Two statements about one port of one address never
    /// coexist.
    Published(Published),
    /// This port of a container is reachable without translation, in mode `routed` and from trusted links.
    OpenPort(Protocol, IpAddr, u16),
    /// All ports of containers on this bridge are reachable, mode `nat-unprotected`.
    Unprotected(IfName, Family),
    /// This bridge is in mode `routed`: open ports and ICMP are reachable.
    Routed(IfName, Family),
    /// Open ports on the bridge, the second link, are reachable from this link of the host, the first.
    TrustedLink(IfName, IfName),
    /// Outbound traffic of this subnet gets this source address.
    SourceNat(IpNetwork, IpAddr),
    /// Only allowed sources reach the published ports of this container.
    SourceFiltered(IpAddr),
    /// This subnet is an allowed source for the container.
    AllowedSource(IpAddr, IpNetwork),
    /// This port may send from this MAC address.
    SourceMac(IfName, Mac),
    /// This port may send from this address, and announce it in ARP and neighbour discovery. The unspecified
    /// address stands for every address of its family.
    SourceAddress(IfName, IpAddr),
    /// This port may send from this address with this MAC address. It says nothing that is not also stated by
    /// [`Policy::SourceMac`] and [`Policy::SourceAddress`]: packets that are checked by one look-up are faster.
    Source(IfName, Mac, IpAddr),
    /// This port may send frames with the tag of this VLAN.
    TrunkVlan(IfName, Vid),
    /// This UDP port of the host carries overlay networks.
    TunnelPort(u16),
    /// This VNI belongs to an overlay network of Pontoon. Other programs may share the port.
    Tunnel(Vni),
    /// Overlay networks accept packets from this host.
    Peer(IpAddr),
    /// The tunnels have this local address: a packet to another address of this host does not come from a
    /// peer's tunnel.
    TunnelAddress(IpAddr),
    /// The gateway behind this tunnel has this MAC address: every host has the gateway, so its frames stay on
    /// their host.
    Gateway(IfName, Mac),
    /// The gateway behind this tunnel has this address: requests for it stay on their host.
    GatewayAddress(IfName, IpAddr),
    /// This UDP port is published on every IPv4 address, and receives broadcasts.
    BroadcastPort(u16),
    /// The host accepts this broadcast address on this link; packets to published ports get the last address
    /// as destination.
    Broadcast(IfName, Ipv4Addr, Ipv4Addr),
    /// This family is forwarded only because of Pontoon: it is not forwarded between links of
    /// other programs.
    LimitedForwarding(Family),
    /// The kernel forwarded packets from this link before Pontoon turned forwarding on for all links.
    ForwardingLink(IfName, Family),
    /// This container is on a bridge of the user; packets to and from it are forwarded.
    UserBridgeContainer(IpAddr),
    /// A container on a parent has this address: the host accepts packets from it by the parent's host link.
    Station(IpAddr),
    /// Who may talk to whom.
    Access(Access),
    /// The connections of the container with this address are limited. Two statements about one kind of limit of one
    /// address never coexist.
    Limited(IpAddr, Limit),
}
