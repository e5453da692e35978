//! Veth pairs: the end on the host is a port of a bridge, the other one goes into a sandbox.

use super::{Change, port};
use crate::model::{IfName, Mac};

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
        changes.extend((want.up && !self.up).then_some(Change::Up));
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
            Change::Hairpin => self.hairpin = true,
            Change::Isolate(on) => self.isolated = *on,
            Change::Master(bridge) => {
                self.bridge = Some(bridge.clone());
                (self.isolated, self.hairpin) = (false, false);
            }
            _ => return false,
        }
        true
    }
}
