//! Macvlan links: children of a link of the host, each with a hardware address of its own on that link's
//! network. A child goes into a sandbox whole, so the host sees it only before and after.

use super::Change;
use crate::model::kind::MacvlanMode;
use crate::model::{IfName, Mac};

/// A macvlan link, as it should be or as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macvlan {
    /// The link of the host that it is a child of.
    pub parent: IfName,
    /// Whom it reaches on its parent.
    pub mode: MacvlanMode,
    /// Its hardware address.
    pub mac: Mac,
    /// MTU in bytes, at most that of the parent.
    pub mtu: u32,
}

impl Macvlan {
    /// What turns `self` into `want`; `None` when it must be deleted and created again, because the kernel
    /// fixes the parent at creation. It has no user while it is on the host, so neither has a mode that
    /// can wait.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if (&self.parent, self.mode) != (&want.parent, want.mode) {
            return None;
        }
        let mac = (self.mac != want.mac).then_some(Change::Mac(want.mac));
        let mtu = (self.mtu != want.mtu).then_some(Change::Mtu(want.mtu));
        Some(mac.into_iter().chain(mtu).collect())
    }

    /// Carries out a change, as the fake kernel does; false when a macvlan link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Mtu(mtu) => self.mtu = *mtu,
            Change::Mac(mac) => self.mac = *mac,
            _ => return false,
        }
        true
    }
}
