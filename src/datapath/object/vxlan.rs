//! VXLAN links, the tunnels of overlay networks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Change, port};
use crate::model::{IfName, Mac, Vni};

/// A VXLAN link, as it should be or as it is. Which number, port and own address it has is fixed
/// when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The network's number.
    pub vni: Vni,
    /// UDP port, of both sides.
    pub port: u16,
    /// This host's address in the underlay.
    pub local: IpAddr,
    /// Its hardware address: the same on every host, so that what the link itself says (not a
    /// container behind it) is ignored by the others (`vxlan_set_mac`, drivers/net/vxlan).
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// The bridge whose port it is.
    pub bridge: Option<IfName>,
    /// Whether the port is isolated, as those of the endpoints are then.
    pub isolated: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether its packets leave from source ports below 1024, which only root may use.
    pub low_ports: bool,
    /// Whom it floods to.
    pub peers: BTreeSet<IpAddr>,
}

impl Vxlan {
    /// What turns `self` into `want`; `None` when it must be deleted and created again, because the
    /// kernel fixes number, port, own address and source ports at creation.
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

    /// Carries out a change, as the fake kernel does; false when a VXLAN link has no such setting.
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
