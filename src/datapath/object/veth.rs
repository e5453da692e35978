//! Veth pairs: the end on the host is a port of a bridge, the other one goes into a sandbox.

use super::{Change, port};
use crate::datapath::Shape;
use crate::model::{IfName, Mac, PortVlans};

/// A veth pair, named by its host end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
    /// Name of the container end, while it is in the host's namespace.
    pub peer: IfName,
    /// MAC of the host end.
    pub host_mac: Mac,
    /// MAC of the container end; `None` when read from the kernel (the end may be invisible).
    pub peer_mac: Option<Mac>,
    /// MTU of the host end, in bytes.
    pub mtu: u32,
    /// MTU of the container end, in bytes. Not compared: the end may be invisible.
    pub peer_mtu: u32,
    /// The bridge whose port the host end is.
    pub bridge: Option<IfName>,
    /// Whether the port is isolated: it talks to the bridge itself but to no other isolated port.
    pub isolated: bool,
    /// Whether the port sends frames back where they came from.
    pub hairpin: bool,
    /// The VLANs of the port; `None` when the bridge decides, or in what is read from the kernel when no bridge that
    /// networks use filters VLANs.
    pub vlans: Option<PortVlans>,
    /// How much the host end sends, which is what the container receives; `None` without a limit.
    pub shape: Option<Shape>,
    /// Whether ARP is on for the host end. It must be off: the bridge answers ARP.
    pub arp: bool,
    /// Whether the host end is administratively up.
    pub up: bool,
}

impl Veth {
    /// The changes that turn `self` into `want`; every setting of a pair can be changed.
    pub(super) fn changes(&self, want: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend((self.host_mac != want.host_mac).then_some(Change::Mac(want.host_mac)));
        changes.extend((self.arp && !want.arp).then_some(Change::ArpOff));
        changes.extend((self.mtu != want.mtu).then_some(Change::Mtu(want.mtu)));
        let moved = port(&mut changes, (&self.bridge, self.isolated), (&want.bridge, want.isolated));
        changes.extend((want.hairpin && (moved || !self.hairpin)).then_some(Change::Hairpin));
        changes.extend((self.shape != want.shape).then_some(Change::Shape(want.shape)));
        let Some(vlans) = &want.vlans else {
            changes.extend((want.up && !self.up).then_some(Change::Up));
            return changes;
        };
        // A port that joins a bridge has the bridge's default VLAN, so this is one change. A port must
        // not come up with VLANs that another program gave it.
        if moved || (want.up && !self.up) {
            let bridge = want.bridge.clone();
            changes.retain(|change| !matches!(change, Change::Master(_)));
            let join = bridge.map(|bridge| Change::JoinVlans { bridge, vlans: vlans.clone() });
            changes.splice(0..0, join);
        } else if self.vlans.as_ref().is_some_and(|have| have != vlans) {
            changes.push(Change::Vlans(vlans.clone()));
        }
        changes
    }

    /// Applies a change, for the fake kernel; false when a pair has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            // Nothing compares the container end.
            Change::Mtu(mtu) => (self.mtu, self.peer_mtu) = (*mtu, *mtu),
            Change::Mac(mac) => self.host_mac = *mac,
            Change::Up => self.up = true,
            Change::ArpOff => self.arp = false,
            Change::Shape(shape) => self.shape = *shape,
            Change::Hairpin => self.hairpin = true,
            Change::Isolate(on) => self.isolated = *on,
            Change::Vlans(vlans) => self.vlans = Some(vlans.clone()),
            Change::JoinVlans { bridge, vlans } => {
                if self.bridge.as_ref() != Some(bridge) {
                    (self.isolated, self.hairpin) = (false, false);
                }
                (self.bridge, self.vlans, self.up) = (Some(bridge.clone()), Some(vlans.clone()), true);
            }
            Change::Master(bridge) => {
                self.bridge = Some(bridge.clone());
                (self.isolated, self.hairpin) = (false, false);
            }
            _ => return false,
        }
        true
    }
}
