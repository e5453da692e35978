//! Links of kind ifb: what a container sends passes one on its way to the bridge, because the kernel shapes only what
//! a link sends.

use super::Change;
use crate::datapath::Shape;
use crate::model::Mac;

/// An ifb link, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ifb {
    /// Its hardware address. No frame has it; it identifies the link.
    pub mac: Mac,
    /// How much passes; `None` only in what is read from the kernel.
    pub shape: Option<Shape>,
    /// Whether it is administratively up. It drops everything while it is down.
    pub up: bool,
}

impl Ifb {
    /// The changes that turn `self` into `want`; `None` when it must be deleted and created again, because the kernel
    /// fixes the hardware address at creation.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if self.mac != want.mac {
            return None;
        }
        let shape = (self.shape != want.shape).then_some(Change::Shape(want.shape));
        let up = (want.up && !self.up).then_some(Change::Up);
        Some([shape, up].into_iter().flatten().collect())
    }

    /// Applies a change, for the fake kernel; false when an ifb link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Shape(shape) => self.shape = *shape,
            Change::Up => self.up = true,
            _ => return false,
        }
        true
    }
}
