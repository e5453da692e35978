//! Owns the steps: the only changes Pontoon ever makes to a kernel.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::{Change, Object, ObjectKind, Shortcut};
use crate::model::{IfName, Mac, Protocol, Published, Vni};

/// An element of one of the sets in table `inet pontoon`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// Set `bridges`: a bridge that only its own network and answers may enter.
    Bridge(IfName),
    /// Set `internal`: a bridge that nothing leaves or enters by routing.
    Internal(IfName),
    /// Set `intra`: the pair (bridge, bridge), traffic within one network.
    Intra(IfName),
    /// Set `apart`: the pair (bridge, bridge) of a network whose containers do not reach each other.
    Apart(IfName),
    /// Set `neighbours`: a bridge that containers are on, whoever made it.
    Neighbour(IfName),
    /// Set `own4`/`own6`: an address of the host on the bridge of a network.
    OwnAddress(IpAddr),
    /// Set `masq4` or `masq6`: a subnet whose outbound traffic is masqueraded.
    Masquerade(IpNetwork),
    /// Set `engine`: a bridge of the engine's built-in driver, not to be entered unpublished.
    Engine(IfName),
    /// Map `port4`/`port6` (any host address) or `at4`/`at6` (one): a published port. The key is
    /// (protocol, host port) or (host address, protocol, host port); the value is (container
    /// address, container port). Two elements with one key never coexist.
    Port(Published),
    /// Set `open4`/`open6`: (container address, protocol, container port) that may be reached
    /// without translation, in `routed` mode and from trusted links.
    Open(Protocol, IpAddr, u16),
    /// Set `direct4`/`direct6`: a bridge all of whose ports may be reached, mode
    /// `nat-unprotected`. The flag is IPv6.
    Direct(IfName, bool),
    /// Set `routed4`/`routed6`: a bridge in mode `routed`: what is open may be reached, and ICMP.
    /// The flag is IPv6.
    Routed(IfName, bool),
    /// Set `trusted`: the pair (host link, bridge): from this link what is open may be reached.
    Trusted(IfName, IfName),
    /// Map `snat4`/`snat6`: outbound traffic of a subnet takes this address instead of the
    /// outgoing link's.
    SourceNat(IpNetwork, IpAddr),
    /// Set `guarded4`/`guarded6`: a container whose published ports only certain sources reach.
    Guarded(IpAddr),
    /// Set `allow4`/`allow6`: (container address, source subnet) that may reach it.
    Allow(IpAddr, IpNetwork),
    /// Table `bridge pontoon`, set `checked`: a port whose source addresses are checked.
    Checked(IfName),
    /// Table `bridge pontoon`, set `macs`: (port, MAC) that may send.
    SourceMac(IfName, Mac),
    /// Table `bridge pontoon`, sets `addr4`/`addr6`: (port, address) that may send and be
    /// announced in ARP and neighbour discovery.
    SourceAddress(IfName, IpAddr),
    /// Set `tunnel_ports`: a UDP port of this host that carries overlay networks.
    TunnelPort(u16),
    /// Set `vnis`: the number of an overlay network of Pontoon's. Others may share the port.
    Tunnel(Vni),
    /// Set `peers4`/`peers6`: a host whose packets overlay networks take.
    Peer(IpAddr),
    /// Set `here4`/`here6`: the address of this host that the tunnels have. What comes for them to
    /// another one is not from a peer's tunnel.
    Here(IpAddr),
    /// Table `bridge pontoon`, set `gateways`: (tunnel, hardware address of the network's gateway):
    /// what comes from there with it is another host's gateway.
    Gateway(IfName, Mac),
    /// Table `bridge pontoon`, sets `gateway4`/`gateway6`: (tunnel, address of the network's
    /// gateway): who asks for it there has one of their own.
    GatewayAddress(IfName, IpAddr),
    /// Table `bridge pontoon`, set `quiet`: a tunnel that carries no broadcasts and multicasts but
    /// those that find addresses.
    Quiet(IfName),
    /// Set `broadcast_ports`: a UDP port that is published on every IPv4 address.
    BroadcastPort(u16),
    /// Map `broadcasts`: a link of the host's, a broadcast address that it takes, and the host's own
    /// address there, which a packet to a published port is meant for.
    Broadcast(IfName, Ipv4Addr, Ipv4Addr),
    /// Set `closed`: a family (true is IPv6) whose forwarding Pontoon turned on, and nobody else:
    /// between links that are not Pontoon's it stays off.
    Closed(bool),
    /// Sets `routers4`/`routers6`: a link whose packets the kernel forwarded before Pontoon turned
    /// forwarding on for all links. The flag is IPv6.
    Router(IfName, bool),
    /// Sets `guests4`/`guests6`: a container on a bridge of the user's, which is forwarded for.
    Guest(IpAddr),
}

/// Which links a rule in a foreign chain matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkMatch {
    /// Every link whose name starts with this text (`pnt+` in iptables words).
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
    /// Turns on `net.ipv4.ip_forward` (false) or `net.ipv6.conf.all.forwarding` (true), and closes
    /// the family first: see [`Element::Closed`]. Where it is on, nothing is done.
    Forward {
        /// Which of the two.
        v6: bool,
    },
    /// Makes table `inet pontoon` of this release's shape, with exactly these elements, in one
    /// transaction; replaces whatever has that name.
    CreateTable(Vec<Element>),
    /// Changes elements of its sets in one transaction; removals come first, so that a key may
    /// change its value.
    Elements {
        /// Elements that must be there afterwards.
        add: Vec<Element>,
        /// Elements that must not.
        remove: Vec<Element>,
    },
    /// Makes the accepting rules of one family's `FORWARD` chain exactly these, if it exists.
    ForwardRules {
        /// `ip6 filter` instead of `ip filter`.
        v6: bool,
        /// All of Pontoon's rules there.
        rules: Vec<ForwardRule>,
    },
    /// Changes ways past bridges in one transaction, removals first. Where the kernel has none to
    /// offer nothing is done; nor for ports of a network that has none yet.
    Shortcuts {
        /// Those that must be there afterwards.
        add: Vec<Shortcut>,
        /// Those that must not.
        remove: Vec<Shortcut>,
    },
    /// Creates an object as it should be, or completes one of Pontoon's that is half made: up, in
    /// its group, with its addresses, as a port of its bridge.
    Create(IfName, Object),
    /// Changes an object that exists.
    Change(IfName, Change),
    /// Gives up an object of Pontoon's: a bridge goes down at once, and all are deleted in the
    /// background, batched with others.
    Delete(IfName, ObjectKind),
    /// Gives a link of Pontoon's its name back.
    Rename {
        /// The name that it has.
        from: IfName,
        /// Its own.
        to: IfName,
    },
    /// Has the connection tracking entries to or from these container addresses removed in the
    /// background, so that no flow sticks to what was there before.
    ForgetFlows(Vec<IpAddr>),
    /// Has the entries removed in the background that came for these ports and lead elsewhere than
    /// they do now: the kernel translates the first packet of a flow only.
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

    /// The link that it is about, by its own name; `None` when it is about none, or several.
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

    /// Whether a look at the firewall alone finds it.
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
