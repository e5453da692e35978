//! Host links: macvlan or ipvlan links that stay on the host, by which the host reaches the containers on their parent and
//! is reached by them.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::Change;
use crate::model::kind::IpvlanMode;
use crate::model::{IfName, Mac};

/// A host link, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// The parent, a link of the host.
    pub parent: IfName,
    /// Which child of the parent it is.
    pub child: HostChild,
    /// Whether it leaves requests from other stations than containers to the parent, so that they never learn its
    /// hardware address for the host.
    pub quiet: bool,
    /// Whether it is administratively up.
    pub up: bool,
}

/// What the children of a parent have in common, and where the host's addresses for them come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostChild {
    /// A macvlan link with the addresses of its parent.
    Macvlan {
        /// The hardware address that it is created with. It is never compared: containers know the present one.
        mac: Mac,
        /// Whether it has the addresses of its parent. Which these are, only the kernel knows.
        addressed: bool,
    },
    /// An ipvlan link with addresses of its own: an address of the parent would take all packets for it away from the
    /// parent (`ipvlan_addr_lookup`, drivers/net/ipvlan/ipvlan_core.c).
    Ipvlan {
        /// The mode of the parent.
        mode: IpvlanMode,
        /// The addresses.
        addresses: BTreeSet<IpNetwork>,
    },
}

impl HostLink {
    /// The changes that turn `self` into `want`; `None` when it must be deleted and created again, because the kernel
    /// fixes parent and kind at creation.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if self.parent != want.parent {
            return None;
        }
        let addresses: Vec<Change> = match (&self.child, &want.child) {
            (HostChild::Macvlan { addressed: have, .. }, HostChild::Macvlan { addressed: want, .. }) => {
                (*want && !have).then_some(Change::CopyAddresses).into_iter().collect()
            }
            (HostChild::Ipvlan { mode, addresses }, HostChild::Ipvlan { mode: wanted, addresses: want }) => {
                if mode != wanted {
                    return None;
                }
                let gone = addresses.difference(want).copied().map(Change::RemoveAddress);
                gone.chain(want.difference(addresses).copied().map(Change::AddAddress)).collect()
            }
            _ => return None,
        };
        // It must not answer anybody before it is quiet.
        let quiet = (want.quiet && !self.quiet).then_some(Change::Quiet);
        let up = (want.up && !self.up).then_some(Change::Up);
        Some([quiet, up].into_iter().flatten().chain(addresses).collect())
    }

    /// Applies a change, for the fake kernel; false when a host link has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match (change, &mut self.child) {
            (Change::Quiet, _) => self.quiet = true,
            (Change::Up, _) => self.up = true,
            (Change::CopyAddresses, HostChild::Macvlan { addressed, .. }) => *addressed = true,
            (Change::AddAddress(address), HostChild::Ipvlan { addresses, .. }) => drop(addresses.insert(*address)),
            (Change::RemoveAddress(address), HostChild::Ipvlan { addresses, .. }) => drop(addresses.remove(address)),
            _ => return false,
        }
        true
    }

    /// Its hardware address, if it has one of its own.
    pub(super) fn mac(&self) -> Option<Mac> {
        match &self.child {
            HostChild::Macvlan { mac, .. } => Some(*mac),
            HostChild::Ipvlan { .. } => None,
        }
    }
}
