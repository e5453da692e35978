//! The fast path: frames between containers that bypass the bridge. In an overlay network from port to tunnel, from
//! tunnel to port and from port to port; in a network of one host from port to port.
//!
//! A bridge in the host's own namespace passes each frame to the host's firewall as soon as
//! `net.bridge.bridge-nf-call-iptables` is on, and Docker turns it on: every rule of the host and connection
//! tracking then process traffic between two containers of one network, which costs a quarter of the
//! round-trip time. The engine's own overlay has its bridges in namespaces without rules. A fast path entry handles
//! a frame at ingress of a link, before the bridge sees it.
//!
//! FastPath are an optimisation: a frame that no fast path entry matches takes the bridge, with the same result.
//! Therefore they match only unambiguous traffic: TCP, UDP and IPv4 with source addresses that the port may
//! use (the checks of table `bridge pontoon` would accept it), to a container on this host or a hardware
//! address learned from the tunnel. Broadcasts, ARP, neighbour discovery, traffic of the gateway and
//! everything new take the bridge.
//!
//! In a network of one host both ends of a frame are checked: hardware address and address of the sender and of the
//! receiver are those of two endpoints. So either all packets of a flow bypass the bridge, in both directions, or none:
//! connection tracking, which sees bridged packets, never sees half a flow.
//!
//! Pure. Used by `desired` and `tunnel`; `crate::linux::firewall::fastpath` defines the form in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Protected;
use crate::model::options::Shortcut;
use crate::model::{Endpoint, IfName, Mac, Network, NetworkKind};

/// A part of table `netdev pontoon`. Networks come before ports, which depend on them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FastPath {
    /// What the ports of a network share, and the ingress of its tunnel.
    Network {
        /// The tunnel, whose name identifies the network here.
        tunnel: IfName,
        /// The hardware address of the network's gateway, which every host has.
        gateway: Mac,
    },
    /// The paths of frames from and to a container.
    Port {
        /// The tunnel of its network.
        tunnel: IfName,
        /// The host end of its pair.
        port: IfName,
        /// The hardware address of the container.
        mac: Mac,
        /// The source addresses that it may use. Empty: source address validation is off, its frames take the
        /// bridge, and it is not looked up behind the tunnel.
        addresses: BTreeSet<IpAddr>,
    },
    /// Where the containers of a network of one host are.
    Bridge {
        /// Its bridge.
        bridge: IfName,
    },
    /// The paths of frames from a container to its neighbours on a bridge, and from them to it.
    Neighbour {
        /// The bridge of its network.
        bridge: IfName,
        /// The host end of its pair.
        port: IfName,
        /// The hardware address of the container.
        mac: Mac,
        /// Its addresses, at least one.
        addresses: BTreeSet<IpAddr>,
    },
    /// Not a fast path entry: drops frames that a checked port of a foreign bridge must not send even to that
    /// bridge. The bridge belongs to the user, and so do its settings: whether it learns from frames to
    /// 01:80:c2:00:00:0x and whether it speaks the spanning tree protocol. No rule of table `bridge pontoon`
    /// sees these frames.
    Guard {
        /// The host end of its pair.
        port: IfName,
    },
    /// Not a fast path entry: what the container sends passes its ifb link first, which limits it. It comes back as if
    /// from the port, past all other rules of this table.
    Shaped {
        /// The host end of its pair.
        port: IfName,
        /// The ifb link.
        ifb: IfName,
    },
    /// Not a fast path entry: drops what the container sends above a rate of packets, before everything else.
    PacketLimit {
        /// The host end of its pair.
        port: IfName,
        /// Packets per second.
        rate: u32,
        /// How many may exceed it at once.
        burst: u32,
    },
    /// Remains of an incomplete fast path entry; never desired.
    Leftover(Leftover),
}

/// See [`FastPath::Leftover`]. The names come from the kernel and are not validated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// The whole table, when it has another release's schema.
    Table,
    /// The chain of a link.
    Chain(String),
    /// The location of a container, by the name of its network's tunnel.
    Place(String, Mac),
    /// What the ports of a network share, by the name of its tunnel.
    Network(String),
    /// The location of a container at one of its addresses, by the name of its network's bridge.
    Neighbour(String, Mac, IpAddr),
    /// What the ports of a bridge share, by its name.
    Bridge(String),
}

impl FastPath {
    /// Whether it belongs to, or leads through, one of these links.
    fn is_of(&self, protected: &Protected) -> bool {
        let named = |name: &str| protected.links.iter().any(|link| link.as_str() == name);
        match self {
            FastPath::Network { tunnel, .. } => protected.links.contains(tunnel),
            FastPath::Guard { port } | FastPath::PacketLimit { port, .. } => protected.links.contains(port),
            FastPath::Shaped { port, ifb } => protected.links.contains(port) || protected.links.contains(ifb),
            FastPath::Port { tunnel, port, .. } => protected.links.contains(tunnel) || protected.links.contains(port),
            FastPath::Bridge { bridge } => protected.links.contains(bridge),
            FastPath::Neighbour { bridge, port, .. } => {
                protected.links.contains(bridge) || protected.links.contains(port)
            }
            FastPath::Leftover(Leftover::Table) => false,
            FastPath::Leftover(
                Leftover::Chain(name)
                | Leftover::Place(name, _)
                | Leftover::Network(name)
                | Leftover::Neighbour(name, ..)
                | Leftover::Bridge(name),
            ) => named(name),
        }
    }

    /// The link whose index its rules have.
    pub fn link(&self) -> Option<&IfName> {
        match self {
            FastPath::Network { tunnel, .. } => Some(tunnel),
            FastPath::Port { port, .. }
            | FastPath::Neighbour { port, .. }
            | FastPath::Guard { port }
            | FastPath::PacketLimit { port, .. } => Some(port),
            FastPath::Shaped { ifb, .. } => Some(ifb),
            FastPath::Bridge { .. } | FastPath::Leftover(_) => None,
        }
    }

    /// The name of its chain at the ingress of a link.
    pub fn chain(&self) -> Option<String> {
        let link = self.link()?;
        Some(match self {
            // The port may have another chain of its own name.
            FastPath::PacketLimit { .. } => format!("{link}_packets"),
            _ => link.as_str().to_owned(),
        })
    }

    /// The links that it depends on.
    pub fn links(&self) -> impl Iterator<Item = &IfName> {
        let hooked = if let FastPath::Shaped { port, .. } = self { Some(port) } else { None };
        self.link().into_iter().chain(hooked)
    }

    /// Whether it is part of what a user asked for: without it, a limit would have no effect.
    pub fn is_needed(&self) -> bool {
        matches!(self, FastPath::Shaped { .. } | FastPath::PacketLimit { .. })
    }
}

/// The tunnel of a network that has a fast path: none where containers are isolated from each other, nor on a
/// foreign bridge, whose owner may filter.
fn tunnel(network: &Network) -> Option<&IfName> {
    let options = &network.spec.options;
    let wanted = options.shortcut != Some(Shortcut::Off) && options.icc;
    network.kind.overlay().filter(|_| wanted).map(|overlay| &overlay.link)
}

/// The bridge of a network of one host that has a fast path: none where containers are isolated from each other, nor on
/// a foreign bridge.
fn bridge(network: &Network) -> Option<&IfName> {
    let options = &network.spec.options;
    match &network.kind {
        NetworkKind::Bridge { bridge } if options.icc => Some(bridge),
        _ => None,
    }
    .filter(|bridge| matches!(options.shortcut, Some(Shortcut::On | Shortcut::Auto)) && is_spelled(bridge))
}

/// The subnets of a network of one host by its bridge, if it has a fast path only as long as no rule of another program
/// could decide about its frames.
pub fn contestable(network: &Network) -> BTreeMap<IfName, Vec<IpNetwork>> {
    let bridge = bridge(network).filter(|_| network.spec.options.shortcut == Some(Shortcut::Auto));
    let subnets = || network.spec.subnets().map(|subnet| subnet.pool).collect();
    bridge.map(|bridge| (bridge.clone(), subnets())).into_iter().collect()
}

/// Leaves out what belongs to these bridges.
pub fn without(mut entries: BTreeSet<FastPath>, bridges: &BTreeSet<IfName>) -> BTreeSet<FastPath> {
    entries.retain(|entry| match entry {
        FastPath::Bridge { bridge } | FastPath::Neighbour { bridge, .. } => !bridges.contains(bridge),
        _ => true,
    });
    entries
}

/// Whether nft reads a name of an object that begins with this one: a saved listing must be readable again.
fn is_spelled(name: &IfName) -> bool {
    let bytes = name.as_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.iter().all(plain)
}

/// The fast path entries of an overlay network with a tunnel.
pub fn of_overlay(network: &Network) -> BTreeSet<FastPath> {
    let gateway = Mac::of_bridge(network.spec.id.as_str());
    tunnel(network).map(|tunnel| FastPath::Network { tunnel: tunnel.clone(), gateway }).into_iter().collect()
}

/// The fast path entries of a network of one host.
pub fn of_bridge(network: &Network) -> BTreeSet<FastPath> {
    bridge(network).map(|bridge| FastPath::Bridge { bridge: bridge.clone() }).into_iter().collect()
}

/// The fast path entries of an endpoint of a network of one host whose sources are validated.
pub fn of_neighbour(network: &Network, host: &IfName, endpoint: &Endpoint) -> BTreeSet<FastPath> {
    // A bridge passes frames for every address to its port; a location has one address.
    let addresses: BTreeSet<_> = endpoint.spec.addresses().filter(|address| !address.is_unspecified()).collect();
    let bridge = bridge(network).filter(|_| !addresses.is_empty()).cloned();
    let entry = |bridge| FastPath::Neighbour { bridge, port: host.clone(), mac: endpoint.mac, addresses };
    bridge.map(entry).into_iter().collect()
}

/// The fast path entries of an endpoint of an overlay network. `checked` tells whether source address validation is on.
pub fn of_port(network: &Network, host: &IfName, endpoint: &Endpoint, checked: bool) -> BTreeSet<FastPath> {
    let addresses: BTreeSet<_> = endpoint.spec.addresses().filter(|_| checked).collect();
    let port = |tunnel: &IfName| FastPath::Port {
        tunnel: tunnel.clone(),
        port: host.clone(),
        mac: endpoint.mac,
        addresses: addresses.clone(),
    };
    tunnel(network).map(port).into_iter().collect()
}

/// Leaves out the ports of networks that have no tunnel now, because this host has no underlay address, and those of
/// bridges without a fast path.
pub fn whole(mut wanted: BTreeSet<FastPath>) -> BTreeSet<FastPath> {
    let shared = |entry: &FastPath| match entry {
        FastPath::Network { tunnel: name, .. } | FastPath::Bridge { bridge: name } => Some(name.clone()),
        _ => None,
    };
    let networks: BTreeSet<_> = wanted.iter().filter_map(shared).collect();
    wanted.retain(|entry| match entry {
        FastPath::Port { tunnel: name, .. } | FastPath::Neighbour { bridge: name, .. } => networks.contains(name),
        _ => true,
    });
    wanted
}

/// What to add and what to remove. `made` are links that were created by then: a link that is created again
/// is a different link to the kernel, so its fast path entry is always added.
pub(super) fn difference(
    have: &BTreeSet<FastPath>,
    want: &BTreeSet<FastPath>,
    made: &BTreeSet<&IfName>,
    protected: &Protected,
) -> (Vec<FastPath>, Vec<FastPath>) {
    let again = |entry: &FastPath| entry.links().any(|link| made.contains(link));
    let add: Vec<_> = want.iter().filter(|entry| !have.contains(*entry) || again(entry)).cloned().collect();
    // An added fast path entry replaces its own remains, which others may depend on.
    let renewed: BTreeSet<String> = add.iter().filter_map(FastPath::chain).collect();
    let shared =
        |name: &str| add.iter().any(|entry| matches!(entry, FastPath::Bridge { bridge } if bridge.as_str() == name));
    let replaced = |entry: &FastPath| match entry {
        FastPath::Leftover(Leftover::Chain(name) | Leftover::Network(name)) => renewed.contains(name),
        FastPath::Leftover(Leftover::Bridge(name)) => shared(name),
        _ => false,
    };
    let gone = |entry: &&FastPath| !replaced(entry) && !entry.is_of(protected);
    let remove = have.difference(want).filter(gone).cloned().collect();
    (add, remove)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        IfName::parse(text).unwrap()
    }

    fn port(tunnel: &str, port: &str) -> FastPath {
        let addresses = ["10.9.0.2".parse().unwrap()].into();
        FastPath::Port { tunnel: name(tunnel), port: name(port), mac: Mac::derive("peer", port), addresses }
    }

    fn network(tunnel: &str) -> FastPath {
        FastPath::Network { tunnel: name(tunnel), gateway: Mac::of_bridge(tunnel) }
    }

    #[test]
    fn a_network_without_a_tunnel_has_no_ports() {
        let wanted = BTreeSet::from([network("pntx1"), port("pntx1", "pnth1"), port("pntx2", "pnth2")]);
        assert_eq!(whole(wanted), [network("pntx1"), port("pntx1", "pnth1")].into());
    }

    #[test]
    fn those_of_a_link_that_is_made_again_are_added_again() {
        let all = BTreeSet::from([network("pntx1"), port("pntx1", "pnth1")]);
        let none = (vec![], vec![]);
        assert_eq!(difference(&all, &all, &BTreeSet::new(), &Protected::default()), none);
        let made = BTreeSet::from([&name("pnth1")].map(|link| link.clone()));
        let (add, remove) = difference(&all, &all, &made.iter().collect(), &Protected::default());
        assert_eq!((add, remove), (vec![port("pntx1", "pnth1")], vec![]));
    }

    #[test]
    fn a_limit_is_added_again_with_either_of_its_links() {
        let all = BTreeSet::from([FastPath::Shaped { port: name("pnth1"), ifb: name("pntq1") }]);
        for made in ["pnth1", "pntq1"].map(name) {
            let (add, _) = difference(&all, &all, &[&made].into(), &Protected::default());
            assert_eq!(add.len(), 1, "{made}");
        }
    }

    #[test]
    fn what_is_protected_stays() {
        let have = BTreeSet::from([network("pntx1"), port("pntx1", "pnth1"), port("pntx2", "pnth2")]);
        let protected = Protected { links: [name("pntx1")].into(), ..Protected::default() };
        let (_, remove) = difference(&have, &BTreeSet::new(), &BTreeSet::new(), &protected);
        assert_eq!(remove, [port("pntx2", "pnth2")]);
    }
}
