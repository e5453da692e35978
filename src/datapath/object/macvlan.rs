//! Macvlan links: children of a link of the host, each with its own hardware address on that link's network.
//! The whole link moves into a sandbox, so the host sees it only before and after.

use super::Change;
use crate::model::kind::MacvlanMode;
use crate::model::{IfName, Mac};

/// A macvlan link, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macvlan {
    /// The parent, a link of the host.
    pub parent: IfName,
    /// Which stations it reaches through its parent.
    pub mode: MacvlanMode,
    /// Its hardware address.
    pub mac: Mac,
    /// MTU in bytes, at most that of the parent.
    pub mtu: u32,
}

impl Macvlan {
    /// The changes that turn `self` into `want`; `None` when it must be deleted and created again, because
    /// the kernel fixes the parent at creation. A change of mode is handled the same way: no container uses
    /// the link while it is on the host.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if (&self.parent, self.mode) != (&want.parent, want.mode) {
            return None;
        }
        let mac = (self.mac != want.mac).then_some(Change::Mac(want.mac));
        let mtu = (self.mtu != want.mtu).then_some(Change::Mtu(want.mtu));
        Some(mac.into_iter().chain(mtu).collect())
    }

    /// Applies a change, for the fake kernel; false when a macvlan link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Mtu(mtu) => self.mtu = *mtu,
            Change::Mac(mac) => self.mac = *mac,
            _ => return false,
        }
        true
    }
}
