//! What commands that list need of the daemon: the objects without a comparison with the kernel.

use serde::{Deserialize, Serialize};

use super::conflict::{self, ConflictStatus};
use super::lease::{self, LeaseStatus};
use super::overlay::{self, OverlayStatus};
use super::status::{LedgerStatus, NetworkStatus, PoolStatus, Status, network_lines, pool_lines};
use crate::driver::{Driver, now};

/// Networks with their endpoints, pools, other hosts and leases.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the same as in the status")]
pub struct Objects {
    pub version: String,
    pub pid: u32,
    pub state: LedgerStatus,
    pub networks: Vec<NetworkStatus>,
    pub pools: Vec<PoolStatus>,
    pub reach: Option<OverlayStatus>,
    pub conflicts: Option<ConflictStatus>,
    pub leases: Vec<LeaseStatus>,
}

impl Objects {
    /// The objects of this daemon. Waits for verbs under way, one network at a time.
    pub fn of_daemon(driver: &Driver) -> Self {
        let mut networks = network_lines(&driver.networks(), now());
        for network in &mut networks {
            network.detail.opposed_by = driver.reconciler().opposes(&network.link);
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: LedgerStatus::new(driver.health(), driver.is_degraded()),
            networks,
            pools: pool_lines(&driver.pools(), now()),
            reach: overlay::of_daemon(driver),
            conflicts: conflict::of_daemon(driver),
            leases: lease::of_daemon(driver),
        }
    }
}

impl From<Objects> for Status {
    fn from(objects: Objects) -> Self {
        let Objects { version, pid, state, networks, pools, reach, conflicts, leases } = objects;
        Status { version, pid, state, networks, pools, reach, conflicts, leases, ..Status::default() }
    }
}
