//! Changes the kernel from one desired state to the next. Everything that the driver does to the kernel's links and
//! rules passes here.

use std::fmt::Display;
use std::time::Duration;

use super::{Event, Events};
use crate::datapath::{Datapath, Kernel, KernelError, Reconciler};

/// How long a change waits for links that are being deleted, when a bridge has no free port.
const DELETIONS: Duration = Duration::from_secs(2);

/// See the module documentation.
pub(super) struct Applier {
    pub reconciler: Reconciler,
    events: Events,
}

impl Applier {
    pub fn new(reconciler: Reconciler, events: Events) -> Self {
        Self { reconciler, events }
    }

    /// The kernel, for look-ups.
    pub fn kernel(&self) -> &dyn Kernel {
        self.reconciler.kernel()
    }

    /// Changes the kernel from `before` to `after`. On failure, reconciles everything with the observed kernel
    /// (often an object vanished) and tries once more.
    pub fn apply_desired(&self, before: &Datapath, after: &Datapath) -> Result<(), KernelError> {
        let Err(first) = self.reconciler.replace(before, after) else { return Ok(()) };
        tracing::warn!(error = %first, "cannot change the kernel: comparing everything and trying again");
        if first.errno() == Some(libc::EXFULL) {
            // Ports of endpoints that are already deleted may not be closed yet.
            self.kernel().settle(DELETIONS);
        }
        // The second attempt reports what is still wrong.
        let _ = self.reconciler.reconcile();
        self.schedule_maintenance();
        self.reconciler.replace(before, after).map_err(|_| first)
    }

    /// Changes the kernel as part of a deletion or rollback, which cannot fail: after an error the next comparison
    /// does the rest. `operation` and `object` are for the log.
    pub fn apply_or_defer(&self, before: &Datapath, after: &Datapath, operation: &str, object: impl Display) {
        if let Err(error) = self.reconciler.replace(before, after) {
            self.defer(&error, operation, object);
        }
    }

    /// Leaves the rest of a failed operation to the next comparison, and requests it.
    pub fn defer(&self, error: &KernelError, operation: &str, object: impl Display) {
        tracing::warn!(%error, %object, "cannot {operation}: the next comparison retries");
        self.schedule_maintenance();
    }

    /// Requests a comparison with the kernel before the next tick.
    pub fn schedule_maintenance(&self) {
        self.events.send(Event::Maintenance);
    }
}
