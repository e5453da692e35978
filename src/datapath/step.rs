//! Steps: the only changes that Pontoon ever makes to a kernel.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::{Change, Object, ObjectKind, Shortcut};
use crate::model::{IfName, Mac, Protocol, Published, Vni};

/// An element of one of the sets in table `inet pontoon`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// Set `bridges`: a bridge that only traffic of its own network and replies may enter.
    Bridge(IfName),
    /// Set `internal`: a bridge that routed traffic neither leaves nor enters.
    Internal(IfName),
    /// Set `intra`: the pair (bridge, bridge), traffic within one network.
    Intra(IfName),
    /// Set `apart`: the pair (bridge, bridge) of a network whose containers do not reach each other.
    Apart(IfName),
    /// Set `neighbours`: a bridge that containers are on, regardless of which program created it.
    Neighbour(IfName),
    /// Set `own4`/`own6`: an address of the host on the bridge of a network.
    OwnAddress(IpAddr),
    /// Set `masq4` or `masq6`: a subnet whose outbound traffic is masqueraded.
    Masquerade(IpNetwork),
    /// Set `engine`: a bridge of the engine's built-in driver, whose unpublished ports are not reachable.
    Engine(IfName),
    /// Map `port4`/`port6` (any host address) or `at4`/`at6` (one): a published port. The key is (protocol,
    /// host port) or (host address, protocol, host port); the value is (container address, container port).
    /// Two elements with the same key never coexist.
    Port(Published),
    /// Set `open4`/`open6`: (container address, protocol, container port) that is reachable without
    /// translation, in `routed` mode and from trusted links.
    Open(Protocol, IpAddr, u16),
    /// Set `direct4`/`direct6`: a bridge whose ports are all reachable, mode `nat-unprotected`. The flag is
    /// IPv6.
    Direct(IfName, bool),
    /// Set `routed4`/`routed6`: a bridge in mode `routed`: open ports are reachable, and ICMP is accepted.
    /// The flag is IPv6.
    Routed(IfName, bool),
    /// Set `trusted`: the pair (host link, bridge): open ports are reachable from this link.
    Trusted(IfName, IfName),
    /// Map `snat4`/`snat6`: outbound traffic of a subnet gets this source address instead of the outgoing
    /// link's.
    SourceNat(IpNetwork, IpAddr),
    /// Set `guarded4`/`guarded6`: a container whose published ports are restricted to certain sources.
    Guarded(IpAddr),
    /// Set `allow4`/`allow6`: (container address, source subnet) that may reach it.
    Allow(IpAddr, IpNetwork),
    /// Table `bridge pontoon`, set `checked`: a port with source address validation.
    Checked(IfName),
    /// Table `bridge pontoon`, set `macs`: (port, MAC) that may send.
    SourceMac(IfName, Mac),
    /// Table `bridge pontoon`, sets `addr4`/`addr6`: (port, address) that may be used as source and announced
    /// in ARP and neighbour discovery.
    SourceAddress(IfName, IpAddr),
    /// Set `tunnel_ports`: a UDP port of this host that carries overlay networks.
    TunnelPort(u16),
    /// Set `vnis`: the VNI of one of Pontoon's overlay networks. Other programs may share the port.
    Tunnel(Vni),
    /// Set `peers4`/`peers6`: a host whose packets overlay networks accept.
    Peer(IpAddr),
    /// Set `here4`/`here6`: the local address of the tunnels. A VXLAN packet to another address of this host
    /// does not come from a peer's tunnel.
    Here(IpAddr),
    /// Table `bridge pontoon`, set `gateways`: (tunnel, hardware address of the network's gateway): a frame
    /// with this source from the tunnel comes from another host's gateway.
    Gateway(IfName, Mac),
    /// Table `bridge pontoon`, sets `gateway4`/`gateway6`: (tunnel, address of the network's gateway): hosts
    /// that ask for it through the tunnel have their own gateway.
    GatewayAddress(IfName, IpAddr),
    /// Table `bridge pontoon`, set `quiet`: a tunnel that carries no broadcasts and multicasts except those
    /// for address resolution.
    Quiet(IfName),
    /// Set `broadcast_ports`: a UDP port that is published on every IPv4 address.
    BroadcastPort(u16),
    /// Map `broadcasts`: a link of the host, a broadcast address that it accepts, and the host's own address
    /// there, which replaces the destination of packets to a published port.
    Broadcast(IfName, Ipv4Addr, Ipv4Addr),
    /// Set `closed`: a family (true is IPv6) that is forwarded only because of Pontoon: between links that
    /// are not Pontoon's, forwarding stays off.
    Closed(bool),
    /// Sets `routers4`/`routers6`: a link whose packets the kernel forwarded before Pontoon turned forwarding
    /// on for all links. The flag is IPv6.
    Router(IfName, bool),
    /// Sets `guests4`/`guests6`: a container on a bridge of the user; packets to and from it are forwarded.
    Guest(IpAddr),
}

/// Which links a rule in a foreign chain matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkMatch {
    /// Every link whose name starts with this text (`pnt+` in iptables syntax).
    Prefix(String),
    /// One link.
    Name(IfName),
}

/// An accepting rule at the end of the engine's `FORWARD` chain, where it overrides nothing but
/// the chain's policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForwardRule {
    /// Accepts what comes in from the link (`-i`).
    From(LinkMatch),
    /// Accepts what goes out to the link (`-o`).
    To(LinkMatch),
}

/// One idempotent change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Turns on `net.ipv4.ip_forward` (false) or `net.ipv6.conf.all.forwarding` (true), and first adds the
    /// family to [`Element::Closed`]. Does nothing when it is already on.
    Forward {
        /// Which of the two.
        v6: bool,
    },
    /// Creates table `inet pontoon` with this release's schema and exactly these elements, in one
    /// transaction; replaces an existing table of that name.
    CreateTable(Vec<Element>),
    /// Changes elements of its sets in one transaction; removals come first, so that the value of a key can
    /// change.
    Elements {
        /// Elements that must exist afterwards.
        add: Vec<Element>,
        /// Elements that must not exist afterwards.
        remove: Vec<Element>,
    },
    /// Makes Pontoon's accepting rules in one family's `FORWARD` chain exactly these, if the chain exists.
    ForwardRules {
        /// `ip6 filter` instead of `ip filter`.
        v6: bool,
        /// All of Pontoon's rules there.
        rules: Vec<ForwardRule>,
    },
    /// Changes shortcuts in one transaction, removals first. Does nothing where the kernel does not support
    /// shortcuts, nor for ports of a network that has none yet.
    Shortcuts {
        /// Shortcuts that must exist afterwards.
        add: Vec<Shortcut>,
        /// Shortcuts that must not exist afterwards.
        remove: Vec<Shortcut>,
    },
    /// Creates the desired object, or completes an incomplete one of Pontoon: up, in its group, with its
    /// addresses, as a port of its bridge.
    Create(IfName, Object),
    /// Changes an object that exists.
    Change(IfName, Change),
    /// Retires an object of Pontoon: a bridge goes down immediately, and all are deleted in the background,
    /// batched with others.
    Delete(IfName, ObjectKind),
    /// Restores the name of a link of Pontoon.
    Rename {
        /// Its present name.
        from: IfName,
        /// Its proper name.
        to: IfName,
    },
    /// Flushes the connection tracking entries to or from these container addresses in the background, so
    /// that no flow keeps its old destination.
    ForgetFlows(Vec<IpAddr>),
    /// Flushes the stale entries of these ports in the background, those that lead elsewhere than the port
    /// does now: the kernel translates only the first packet of a flow.
    ForgetMisled(Vec<Published>),
}

impl Step {
    /// Creates an object.
    pub fn create(name: IfName, object: impl Into<Object>) -> Self {
        Step::Create(name, object.into())
    }

    /// Whether it creates an object of this kind.
    pub fn creates(&self, kind: ObjectKind) -> bool {
        matches!(self, Step::Create(_, object) if object.kind() == kind)
    }

    /// Whether it deletes an object of this kind.
    pub fn deletes(&self, kind: ObjectKind) -> bool {
        matches!(self, Step::Delete(_, found) if *found == kind)
    }

    /// The link that it concerns, by its proper name; `None` when it concerns none or several.
    pub fn link(&self) -> Option<&IfName> {
        match self {
            Step::Create(link, _) | Step::Change(link, _) | Step::Delete(link, _) | Step::Rename { to: link, .. } => {
                Some(link)
            }
            Step::Forward { .. }
            | Step::CreateTable(_)
            | Step::Elements { .. }
            | Step::ForwardRules { .. }
            | Step::Shortcuts { .. }
            | Step::ForgetFlows(_)
            | Step::ForgetMisled(_) => None,
        }
    }

    /// Whether observing the firewall alone shows that it is needed.
    pub fn is_firewall(&self) -> bool {
        matches!(
            self,
            Step::CreateTable(_)
                | Step::Elements { .. }
                | Step::ForwardRules { .. }
                | Step::Shortcuts { .. }
                | Step::ForgetMisled(_)
        )
    }
}
