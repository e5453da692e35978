//! What the driver shows of itself, for the layers above that report to operators. Nothing here changes anything.

use super::settings::UnusableSetting;
use super::{Conflict, Driver, OverlaySettings};
use crate::driver::overlay::OverlayState;
use crate::model::HostPort;
use crate::state::record::Record;
use crate::state::table::Held;

impl Driver {
    /// Copies of all networks with their endpoints. Waits for verbs under way, one network at a time.
    pub fn networks(&self) -> Vec<Held> {
        self.networks.snapshot()
    }

    /// The records of all pools and addresses.
    pub fn pools(&self) -> Vec<Record> {
        self.addresses.lock().snapshot()
    }

    /// The operator's settings for overlay networks.
    pub fn overlay_settings(&self) -> &OverlaySettings {
        &self.overlays.settings
    }

    /// Reads what is known about other hosts. Waits for verbs of overlay networks.
    pub fn read_overlays<T>(&self, read: impl FnOnce(&OverlayState) -> T) -> T {
        read(&self.overlays.lock())
    }

    /// Settings that cannot be used at present.
    pub fn unusable_settings(&self) -> Vec<UnusableSetting> {
        self.unusable.all(&self.overlays.settings, self.kernel())
    }

    /// Address conflicts of the last minutes.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.conflicts.present()
    }

    /// How many address conflicts were found since the start.
    pub fn conflict_count(&self) -> u64 {
        self.conflicts.count()
    }

    /// Whether address conflicts can be found; `None` if no network has other hosts.
    pub fn finds_conflicts(&self) -> Option<bool> {
        self.conflicts.listens()
    }

    /// Whether further networks with other hosts can be listened to; see [`crate::datapath::Wire::opens_sockets`].
    pub fn opens_sockets(&self) -> bool {
        self.kernel().opens_sockets()
    }

    /// Of these ports, those that cannot be reserved on the host, each with the reason. Ports that this process
    /// already holds count as reserved.
    pub fn unreserved(&self, ports: impl Iterator<Item = HostPort>) -> Vec<(HostPort, String)> {
        self.ports.unreserved(ports)
    }
}
