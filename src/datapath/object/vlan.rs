//! VLAN links that Pontoon creates on a link of the host, as parents of endpoints' links. A VLAN link of another program
//! is never observed.

use super::Change;
use crate::model::IfName;

/// A VLAN link, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// The link below it.
    pub below: IfName,
    /// The VLAN id, 1 to 4094.
    pub vid: u16,
    /// Whether it is administratively up.
    pub up: bool,
}

impl Vlan {
    /// The changes that turn `self` into `want`; `None` when it must be deleted and created again, because the kernel
    /// fixes the link below and the VLAN id at creation.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if (&self.below, self.vid) != (&want.below, want.vid) {
            return None;
        }
        Some((want.up && !self.up).then_some(Change::Up).into_iter().collect())
    }

    /// Applies a change, for the fake kernel; false when a VLAN link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Up => self.up = true,
            _ => return false,
        }
        true
    }
}
