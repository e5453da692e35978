//! Owns the memory of which links Pontoon itself has just changed, so that a watcher does not
//! take our own change for somebody else's: the kernel does not say who caused most of them.
//!
//! Written by `LinuxKernel` and `reaper`, read by `watch`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::IfName;

/// How long after a change of ours a notification is taken to be its echo.
pub const ECHO: Duration = Duration::from_secs(1);

/// Entries at which those that are too old are swept out.
const CROWD: usize = 1024;

/// Links and when they were last changed by us.
#[derive(Debug, Default)]
pub struct Touches(Mutex<HashMap<IfName, Instant>>);

impl Touches {
    /// Notes that this link is about to be changed.
    pub fn mark(&self, name: &IfName) {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.len() >= CROWD {
            touched.retain(|_, at| at.elapsed() < ECHO);
        }
        touched.insert(name.clone(), Instant::now());
    }

    /// Whether it has been changed by us a moment ago.
    pub fn recent(&self, name: &IfName) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).is_some_and(|at| at.elapsed() < ECHO)
    }
}
