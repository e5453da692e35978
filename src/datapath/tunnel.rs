//! The part of the datapath that leads to other hosts: the VXLAN link of an overlay network, its flood list,
//! and which hosts may send to it.
//!
//! Frames to a hardware address that has not been learned go to every peer (head-end replication), as do
//! broadcasts and multicasts, unless the network keeps those on their hosts; frames to a learned address go
//! only to its host. Every host has the network's gateway with the same addresses (the engine is told so), so
//! frames of a gateway must stay on its host: two sets of table `bridge pontoon` enforce it.
//!
//! Pure. Used by `desired` and by the driver.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Datapath, LinkProperty, Policy, Protected, Vxlan, fastpath};
use crate::model::{Mac, Network};

/// Where the packets between hosts leave this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Underlay {
    /// An address of this host.
    pub address: IpAddr,
    /// MTU in bytes of the link that has it.
    pub mtu: u32,
}

/// What an overlay network needs on top of its bridge; empty for other networks.
pub fn of(network: &Network, local: IpAddr, port: u16, peers: &BTreeSet<IpAddr>) -> Datapath {
    let spec = &network.spec;
    let (Some(overlay), Some(bridge)) = (network.kind.overlay(), network.kind.bridge()) else {
        return Datapath::default();
    };
    let reachable = |peer: &&IpAddr| peer.is_ipv4() == local.is_ipv4() && **peer != local;
    let vxlan = Vxlan {
        vni: overlay.vni,
        port,
        local,
        mac: Mac::derive("vxlan", spec.id.as_str()),
        mtu: network.mtu,
        bridge: Some(bridge.clone()),
        isolated: !spec.options.icc,
        up: true,
        low_ports: true,
        peers: peers.iter().chain(&spec.options.peers).filter(reachable).copied().collect(),
    };
    let link = || overlay.link.clone();
    let mut policy =
        BTreeSet::from([Policy::Tunnel(overlay.vni), Policy::Gateway(link(), Mac::of_bridge(spec.id.as_str()))]);
    policy.extend((!spec.options.multicast).then(|| Policy::Link(LinkProperty::NoMulticast, link())));
    policy.extend(spec.subnets().filter_map(|s| s.gateway).map(|ip| Policy::GatewayAddress(link(), ip)));
    let fastpath = Some(fastpath::of_overlay(network));
    Datapath { objects: [(link(), vxlan.into())].into(), policy: Some(policy), fastpath, ..Datapath::default() }
}

/// Which peers the tunnels accept packets from, on which port, and to which address of this host.
pub fn guard(port: u16, accepted: &BTreeSet<IpAddr>, local: Option<IpAddr>) -> Datapath {
    let peers = accepted.iter().copied().map(Policy::Peer);
    let here = local.map(Policy::TunnelAddress);
    Datapath { policy: Some(peers.chain(here).chain([Policy::TunnelPort(port)]).collect()), ..Datapath::default() }
}

/// The tunnels in the kernel, to be protected by a program that does not know the daemon's settings for
/// tunnels: local address, port and peers do not come from the networks themselves.
pub fn present(have: &Datapath) -> Protected {
    let of_tunnel = |element: &&Policy| {
        matches!(
            element,
            Policy::TunnelPort(_)
                | Policy::Tunnel(_)
                | Policy::Peer(_)
                | Policy::TunnelAddress(_)
                | Policy::Gateway(..)
                | Policy::GatewayAddress(..)
                | Policy::Link(LinkProperty::NoMulticast, _)
        )
    };
    Protected {
        links: have.vxlans().into_keys().collect(),
        policy: have.policy.iter().flatten().filter(of_tunnel).cloned().collect(),
        ..Protected::default()
    }
}
