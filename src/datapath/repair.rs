//! The result of a comparison of the desired with the observed kernel, and counters of all of them.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::{KernelError, Plan};

/// Counters of the reconciler, for the log and the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Comparisons with the observed kernel.
    pub reconciles: AtomicU64,
    /// Steps that those comparisons needed, not counting the first comparison.
    pub repairs: AtomicU64,
    /// Comparisons that failed.
    pub failures: AtomicU64,
    /// When everything was last compared and nothing failed.
    pub in_order: Mutex<Option<Instant>>,
}

/// Result of a comparison.
#[derive(Debug)]
#[must_use]
pub struct Repair {
    /// The executed plan, and problems that no step can fix: the caller removes the endpoints listed as dead.
    pub plan: Plan,
    /// The first failure, which is logged if it is new. The other steps were carried out nevertheless.
    pub failed: Option<KernelError>,
}

impl Repair {
    /// The plan, or the error that kept part of it from being carried out.
    pub fn whole(self) -> Result<Plan, KernelError> {
        self.failed.map_or(Ok(self.plan), Err)
    }
}
