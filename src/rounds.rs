//! Threads that work in rounds: each round does what is due and says when the next one is, unless an event comes before.
//!
//! `prober` asks other hosts for the addresses that will be requested next, so that no start of a container waits for
//! their answers. `leaser` speaks with DHCP servers, for all leases.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::driver::Driver;

/// A round; `None` if nothing is due before the next event.
pub type Round = fn(&Driver) -> Option<Instant>;

/// Starts a thread of this name; each value from `due` begins a round at once. It ends with the sender.
///
/// # Errors
/// The system's error when it cannot start a thread.
pub fn start(name: &str, driver: Arc<Driver>, due: Receiver<()>, round: Round) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&driver, &due, round)).map(drop)
}

fn run(driver: &Driver, due: &Receiver<()>, round: Round) {
    loop {
        // All events up to here are served by the same round.
        due.try_iter().for_each(drop);
        let woken = match round(driver) {
            Some(next) => due.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => due.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
