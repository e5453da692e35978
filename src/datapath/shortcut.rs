//! Shortcuts of overlay networks: frames between containers that bypass the bridge, from port to tunnel, from
//! tunnel to port and from port to port.
//!
//! A bridge in the host's own namespace passes each frame to the host's firewall as soon as
//! `net.bridge.bridge-nf-call-iptables` is on, and Docker turns it on: every rule of the host and connection
//! tracking then process traffic between two containers of one network, which costs a quarter of the
//! round-trip time. The engine's own overlay has its bridges in namespaces without rules. A shortcut handles
//! a frame at ingress of a link, before the bridge sees it.
//!
//! Shortcuts are an optimisation: a frame that no shortcut matches takes the bridge, with the same result.
//! Therefore they match only unambiguous traffic: TCP, UDP and IPv4 with source addresses that the port may
//! use (the checks of table `bridge pontoon` would accept it), to a container on this host or a hardware
//! address learned from the tunnel. Broadcasts, ARP, neighbour discovery, traffic of the gateway and
//! everything new take the bridge.
//!
//! Pure. Used by `desired` and `tunnel`; `crate::linux::firewall::fastpath` defines the form in the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Protected;
use crate::model::{Endpoint, IfName, Mac, Network};

/// A part of table `netdev pontoon`. Networks come before ports, which depend on them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortcut {
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
    /// Not a shortcut: drops frames that a checked port of a foreign bridge must not send even to that
    /// bridge. The bridge belongs to the user, and so do its settings: whether it learns from frames to
    /// 01:80:c2:00:00:0x and whether it speaks the spanning tree protocol. No rule of table `bridge pontoon`
    /// sees these frames.
    Guard {
        /// The host end of its pair.
        port: IfName,
    },
    /// Remains of an incomplete shortcut; never desired.
    Rest(Rest),
}

/// See [`Shortcut::Rest`]. The names come from the kernel and are not validated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rest {
    /// The whole table, when it has another release's schema.
    Table,
    /// The chain of a link.
    Chain(String),
    /// The location of a container, by the name of its network's tunnel.
    Place(String, Mac),
    /// What the ports of a network share, by the name of its tunnel.
    Network(String),
}

impl Shortcut {
    /// Whether it belongs to, or leads through, one of these links.
    fn is_of(&self, protected: &Protected) -> bool {
        let named = |name: &str| protected.links.iter().any(|link| link.as_str() == name);
        match self {
            Shortcut::Network { tunnel, .. } => protected.links.contains(tunnel),
            Shortcut::Guard { port } => protected.links.contains(port),
            Shortcut::Port { tunnel, port, .. } => protected.links.contains(tunnel) || protected.links.contains(port),
            Shortcut::Rest(Rest::Table) => false,
            Shortcut::Rest(Rest::Chain(name) | Rest::Place(name, _) | Rest::Network(name)) => named(name),
        }
    }

    /// The link that it depends on.
    pub fn link(&self) -> Option<&IfName> {
        match self {
            Shortcut::Network { tunnel, .. } => Some(tunnel),
            Shortcut::Port { port, .. } | Shortcut::Guard { port } => Some(port),
            Shortcut::Rest(_) => None,
        }
    }
}

/// The tunnel of a network that has shortcuts: none where containers are isolated from each other, nor on a
/// foreign bridge, whose owner may filter.
fn tunnel(network: &Network) -> Option<&IfName> {
    let options = &network.spec.options;
    network.kind.overlay().filter(|_| options.shortcut && options.icc).map(|overlay| &overlay.link)
}

/// The shortcuts of an overlay network with a tunnel.
pub fn of_network(network: &Network) -> BTreeSet<Shortcut> {
    let gateway = Mac::derive("bridge", network.spec.id.as_str());
    tunnel(network).map(|tunnel| Shortcut::Network { tunnel: tunnel.clone(), gateway }).into_iter().collect()
}

/// The shortcuts of an endpoint. `checked` tells whether source address validation is on.
pub fn of_endpoint(network: &Network, host: &IfName, endpoint: &Endpoint, checked: bool) -> BTreeSet<Shortcut> {
    let addresses: BTreeSet<_> = endpoint.spec.addresses().filter(|_| checked).collect();
    let port = |tunnel: &IfName| Shortcut::Port {
        tunnel: tunnel.clone(),
        port: host.clone(),
        mac: endpoint.mac,
        addresses: addresses.clone(),
    };
    tunnel(network).map(port).into_iter().collect()
}

/// Leaves out the ports of networks that have no tunnel now, because this host has no underlay address.
pub fn whole(mut wanted: BTreeSet<Shortcut>) -> BTreeSet<Shortcut> {
    let of_network = |shortcut: &Shortcut| match shortcut {
        Shortcut::Network { tunnel, .. } => Some(tunnel.clone()),
        _ => None,
    };
    let networks: BTreeSet<_> = wanted.iter().filter_map(of_network).collect();
    wanted.retain(|shortcut| !matches!(shortcut, Shortcut::Port { tunnel, .. } if !networks.contains(tunnel)));
    wanted
}

/// What to add and what to remove. `made` are links that were created by then: a link that is created again
/// is a different link to the kernel, so its shortcut is always added.
pub(super) fn difference(
    have: &BTreeSet<Shortcut>,
    want: &BTreeSet<Shortcut>,
    made: &BTreeSet<&IfName>,
    protected: &Protected,
) -> (Vec<Shortcut>, Vec<Shortcut>) {
    let again = |shortcut: &Shortcut| shortcut.link().is_some_and(|link| made.contains(link));
    let add: Vec<_> = want.iter().filter(|shortcut| !have.contains(*shortcut) || again(shortcut)).cloned().collect();
    // An added shortcut replaces its own remains, which others may depend on.
    let renewed: BTreeSet<&str> = add.iter().filter_map(Shortcut::link).map(IfName::as_str).collect();
    let replaced = |shortcut: &Shortcut| match shortcut {
        Shortcut::Rest(Rest::Chain(name) | Rest::Network(name)) => renewed.contains(name.as_str()),
        _ => false,
    };
    let gone = |shortcut: &&Shortcut| !replaced(shortcut) && !shortcut.is_of(protected);
    let remove = have.difference(want).filter(gone).cloned().collect();
    (add, remove)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        IfName::parse(text).unwrap()
    }

    fn port(tunnel: &str, port: &str) -> Shortcut {
        let addresses = ["10.9.0.2".parse().unwrap()].into();
        Shortcut::Port { tunnel: name(tunnel), port: name(port), mac: Mac::derive("peer", port), addresses }
    }

    fn network(tunnel: &str) -> Shortcut {
        Shortcut::Network { tunnel: name(tunnel), gateway: Mac::derive("bridge", tunnel) }
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
    fn what_is_protected_stays() {
        let have = BTreeSet::from([network("pntx1"), port("pntx1", "pnth1"), port("pntx2", "pnth2")]);
        let protected = Protected { links: [name("pntx1")].into(), ..Protected::default() };
        let (_, remove) = difference(&have, &BTreeSet::new(), &BTreeSet::new(), &protected);
        assert_eq!(remove, [port("pntx2", "pnth2")]);
    }
}
