//! Ipvlan links: children of a link of the host, which share its hardware address. The whole link moves into a
//! sandbox, so the host sees it only before and after.

use super::Change;
use crate::model::IfName;
use crate::model::kind::{IpvlanFlag, IpvlanMode};

/// An ipvlan link, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipvlan {
    /// The parent, a link of the host.
    pub parent: IfName,
    /// At which layer the parent forwards. The kernel has one mode for each parent: creating a child with another
    /// mode changes the mode of all (`ipvlan_link_new`, drivers/net/ipvlan/ipvlan_main.c).
    pub mode: IpvlanMode,
    /// Which stations it reaches through its parent; one for each parent, too.
    pub flag: IpvlanFlag,
    /// MTU in bytes, at most that of the parent.
    pub mtu: u32,
}

impl Ipvlan {
    /// The changes that turn `self` into `want`; `None` when it must be deleted and created again.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if (&self.parent, self.mode, self.flag) != (&want.parent, want.mode, want.flag) {
            return None;
        }
        Some((self.mtu != want.mtu).then_some(Change::Mtu(want.mtu)).into_iter().collect())
    }

    /// Applies a change, for the fake kernel; false when an ipvlan link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Mtu(mtu) => self.mtu = *mtu,
            _ => return false,
        }
        true
    }
}
