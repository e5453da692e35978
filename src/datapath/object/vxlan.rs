//! VXLAN links, the tunnels of overlay networks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Change, port};
use crate::model::{IfName, Mac, Vni};

/// A VXLAN link, desired or observed. The VNI, the port and the local address are fixed at creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// VNI of the network.
    pub vni: Vni,
    /// UDP port on both sides.
    pub port: u16,
    /// This host's underlay address.
    pub local: IpAddr,
    /// Its hardware address: the same on every host, so that other hosts ignore frames sent by the link
    /// itself rather than by a container behind it (`vxlan_set_mac`, drivers/net/vxlan).
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// The bridge whose port it is.
    pub bridge: Option<IfName>,
    /// Whether the port is isolated, as the ports of the endpoints then are.
    pub isolated: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether its packets use source ports below 1024, which only root may bind.
    pub low_ports: bool,
    /// Its flood list.
    pub peers: BTreeSet<IpAddr>,
}

impl Vxlan {
    /// The changes that turn `self` into `want`; `None` when it must be deleted and created again, because
    /// the kernel fixes VNI, port, local address and source ports at creation.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        let fixed = |vxlan: &Vxlan| (vxlan.vni, vxlan.port, vxlan.local, vxlan.mac, vxlan.low_ports);
        if fixed(self) != fixed(want) {
            return None;
        }
        let mut changes = Vec::new();
        changes.extend((self.mtu != want.mtu).then_some(Change::Mtu(want.mtu)));
        let add: Vec<_> = want.peers.difference(&self.peers).copied().collect();
        let remove: Vec<_> = self.peers.difference(&want.peers).copied().collect();
        if !add.is_empty() || !remove.is_empty() {
            changes.push(Change::Flood { add, remove });
        }
        port(&mut changes, (&self.bridge, self.isolated), (&want.bridge, want.isolated));
        changes.extend((want.up && !self.up).then_some(Change::Up));
        Some(changes)
    }

    /// Applies a change, for the fake kernel; false when a VXLAN link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Mtu(mtu) => self.mtu = *mtu,
            Change::Up => self.up = true,
            Change::Isolate(on) => self.isolated = *on,
            Change::Master(bridge) => (self.bridge, self.isolated) = (Some(bridge.clone()), false),
            Change::Flood { add, remove } => {
                self.peers.extend(add.iter().copied());
                self.peers.retain(|peer| !remove.contains(peer));
            }
            _ => return false,
        }
        true
    }
}
