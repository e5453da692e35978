//! Remembers which links Pontoon itself has just changed, so that a watcher does not mistake Pontoon's own
//! change for one by another program: for most changes the kernel does not tell which process caused them.
//!
//! Written by `LinuxKernel` and `reaper`, read by `watch`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::IfName;

/// How long after a change by Pontoon a notification is treated as its echo.
pub const ECHO: Duration = Duration::from_secs(1);

/// Number of entries at which expired ones are removed.
const SWEEP_SIZE: usize = 1024;

/// Links with the time of Pontoon's last change.
#[derive(Debug, Default)]
pub struct EchoFilter(Mutex<HashMap<IfName, Instant>>);

impl EchoFilter {
    /// Records that this link is about to be changed.
    pub fn mark(&self, name: &IfName) {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.len() >= SWEEP_SIZE {
            touched.retain(|_, at| at.elapsed() < ECHO);
        }
        touched.insert(name.clone(), Instant::now());
    }

    /// Whether Pontoon has changed it within [`ECHO`].
    pub fn recent(&self, name: &IfName) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).is_some_and(|at| at.elapsed() < ECHO)
    }
}
