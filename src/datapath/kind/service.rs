//! Service ports: by a veth pair whose two ends stay on the host, Pontoon itself is a station in a VLAN of a bridge of the
//! user, as its containers are. The bridge itself is in another VLAN, or in none.
//!
//! The end that is no port has no address and answers nothing; the kernel's part of the wire brings it up when it is
//! needed.

use crate::datapath::Veth;
use crate::model::{IfName, LinkRole, Mac, Network, NetworkKind, PortVlans, Vid, Vids};

/// The end of the pair that is no port: frames of Pontoon are sent and received there.
pub fn link(bridge: &IfName, vid: Vid) -> IfName {
    // Not by the readable name: networks and endpoints have such.
    IfName::derive(LinkRole::Peer, &id(bridge, vid), 1)
}

fn id(bridge: &IfName, vid: Vid) -> String {
    format!("service {bridge} {vid}")
}

/// The service port that a network needs: one whose containers get their addresses from a VLAN.
pub(super) fn of(network: &Network) -> Option<(IfName, Veth)> {
    let options = &network.spec.options;
    let NetworkKind::UserBridge { bridge, bridge_mtu } = &network.kind else { return None };
    let vid = options.vlan.filter(|_| options.dhcp.is_on())?;
    let id = id(bridge, vid);
    let mtu = bridge_mtu.unwrap_or(network.mtu);
    let pair = Veth {
        peer: link(bridge, vid),
        host_mac: Mac::derive_port(&id),
        peer_mac: Some(Mac::derive("peer", &id)),
        mtu,
        peer_mtu: mtu,
        bridge: Some(bridge.clone()),
        isolated: false,
        hairpin: false,
        vlans: Some(PortVlans::of(vid, Vids::default())),
        shape: None,
        arp: false,
        up: true,
    };
    Some((IfName::derive(LinkRole::Host, &id, 1), pair))
}
