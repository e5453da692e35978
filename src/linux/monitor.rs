//! A value that threads change and wait for: a mutex with its condition variable.
//!
//! Used by the queues of background threads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the module documentation. A thread that panicked while it held the value does not spoil it for the others.
#[derive(Debug, Default)]
pub struct Monitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    /// The value, to read.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value, and wakes those that wait.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `done` holds, and returns the value.
    pub fn wait_until(&self, done: impl Fn(&T) -> bool) -> MutexGuard<'_, T> {
        self.changed.wait_while(self.lock(), |value| !done(value)).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` holds, at most `patience`; false when it does not.
    pub fn wait_for(&self, patience: Duration, done: impl Fn(&T) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |value| !done(value));
        let (value, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&value)
    }
}
