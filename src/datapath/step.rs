//! Owns the steps: the only changes Pontoon ever makes to a kernel.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::{Bridge, Shortcut, Veth, Vxlan};
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
    /// Creates a bridge, up, with its addresses, MTU (sticky), MAC and group.
    CreateBridge(IfName, Bridge),
    /// Sets the MTU of a bridge of ours, of a host end or of a VXLAN link.
    SetMtu(IfName, u32),
    /// Gives a bridge of ours or a host end its hardware address back.
    SetMac(IfName, Mac),
    /// Brings a link up.
    SetUp(IfName),
    /// Closes a bridge of ours to frames that teach it what is not so: [`Bridge::hardened`].
    HardenBridge(IfName),
    /// Keeps the host from speaking ARP by a host end.
    ArpOff(IfName),
    /// Turns IPv6 on for a bridge of ours: `disable_ipv6` = 0, `accept_ra` = 0.
    EnableIpv6(IfName),
    /// Adds an address to a bridge of ours (without duplicate address detection).
    AddAddress(IfName, IpNetwork),
    /// Removes an address from a bridge of ours.
    RemoveAddress(IfName, IpNetwork),
    /// Creates a pair with the host end up and a port of its bridge, one queue a side.
    CreateVeth(IfName, Veth),
    /// Creates a VXLAN link, up, with its floods and as a port of its bridge.
    CreateVxlan(IfName, Vxlan),
    /// Gives up a VXLAN link of ours: deleted in the background.
    RetireVxlan(IfName),
    /// Changes whom a VXLAN link floods to.
    Flood {
        /// The link.
        link: IfName,
        /// Peers that it must flood to afterwards.
        add: Vec<IpAddr>,
        /// Peers that it must not.
        remove: Vec<IpAddr>,
    },
    /// Gives a link of ours its name back.
    Rename {
        /// The name that somebody gave it.
        from: IfName,
        /// Its own.
        to: IfName,
    },
    /// Makes the host end a port of the bridge.
    SetMaster(IfName, IfName),
    /// Sets or clears isolation of a port.
    Isolate(IfName, bool),
    /// Lets a port send frames back where they came from (hairpin), for a container that reaches
    /// itself through its published port while br_netfilter translates on the bridge.
    Hairpin(IfName),
    /// Lets the host reach published ports over 127.0.0.1: `route_localnet` = 1 on a bridge of ours.
    RouteLocalnet(IfName),
    /// Has the connection tracking entries to or from these container addresses removed in the
    /// background, so that no flow sticks to what was there before.
    ForgetFlows(Vec<IpAddr>),
    /// Has the entries removed in the background that came for these ports and lead elsewhere than
    /// they do now: the kernel translates the first packet of a flow only.
    ForgetMisled(Vec<Published>),
    /// Gives up a pair: deleted in the background, batched with others.
    RetireVeth(IfName),
    /// Gives up a bridge of ours: down at once, deleted in the background.
    RetireBridge(IfName),
}

impl Step {
    /// The link that it is about, by its own name; `None` when it is about none, or several.
    pub fn link(&self) -> Option<&IfName> {
        match self {
            Step::CreateBridge(link, _)
            | Step::SetMtu(link, _)
            | Step::SetMac(link, _)
            | Step::SetUp(link)
            | Step::HardenBridge(link)
            | Step::ArpOff(link)
            | Step::EnableIpv6(link)
            | Step::AddAddress(link, _)
            | Step::RemoveAddress(link, _)
            | Step::CreateVeth(link, _)
            | Step::CreateVxlan(link, _)
            | Step::RetireVxlan(link)
            | Step::Flood { link, .. }
            | Step::Rename { to: link, .. }
            | Step::SetMaster(link, _)
            | Step::Isolate(link, _)
            | Step::Hairpin(link)
            | Step::RouteLocalnet(link)
            | Step::RetireVeth(link)
            | Step::RetireBridge(link) => Some(link),
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
