//! Deletes tracked connections in the background: one thread collects what is to be flushed and sends the
//! requests, because each makes the kernel walk its whole table, which takes some milliseconds on a large
//! host.
//!
//! Has its own sockets, so that verbs never queue behind it. Requests that arrive while it works are merged.
//! A failure is only logged: a flow that survives is a nuisance, and expires. Called by `LinuxKernel`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::netlink::Socket;
use super::{conntrack, route};
use crate::model::Published;

/// The queue; its thread ends by itself when the queue is dropped.
#[derive(Debug)]
pub struct ConntrackWorker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queued: Queued,
    working: bool,
    stop: bool,
}

/// Pending work, and the callbacks for its completion.
#[derive(Default)]
struct Queued {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<Published>,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

impl Queued {
    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty() && self.waiting.is_empty()
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}, {} waiting", self.addresses, self.ports, self.waiting.len())
    }
}

impl ConntrackWorker {
    /// Starts the thread. `nft` is the socket for netfilter; `links` is used to check whether an address
    /// belongs to the host.
    ///
    /// # Errors
    /// The system's error when it cannot start a thread.
    pub fn start(nft: Socket, links: Socket) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::Builder::new().name("conntrack_worker".to_owned()).spawn(move || theirs.work(nft, links))?;
        Ok(Self { shared })
    }

    /// Queues a flush of the flows from and to these container addresses.
    pub fn flush(&self, addresses: &[IpAddr]) {
        self.shared.lock().queued.addresses.extend(addresses);
        self.shared.changed.notify_all();
    }

    /// Queues a flush of the stale flows of these published ports.
    pub fn flush_stale(&self, ports: &[Published]) {
        self.shared.lock().queued.ports.extend(ports);
        self.shared.changed.notify_all();
    }

    /// Calls `done`, on the thread, when everything that is queued now is done.
    pub fn when_done(&self, done: Box<dyn FnOnce() + Send>) {
        self.shared.lock().queued.waiting.push(done);
        self.shared.changed.notify_all();
    }

    /// Waits until nothing is queued, at most `patience`; false when something is.
    pub fn settle(&self, patience: Duration) -> bool {
        let busy = |state: &mut State| state.working || !state.queued.is_empty();
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), patience, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for ConntrackWorker {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut nft: Socket, mut links: Socket) {
        while let Some(Queued { addresses, ports, waiting }) = self.take() {
            if let Err(failure) = conntrack::flush(&mut nft, &addresses) {
                tracing::warn!(
                    ?failure,
                    ?addresses,
                    "cannot flush conntrack entries of containers; they stay until they expire"
                );
            }
            let mut local = |address| route::is_local(&mut links, address);
            if let Err(failure) = conntrack::flush_stale(&mut nft, &ports, &mut local) {
                tracing::warn!(
                    ?failure,
                    "cannot flush stale conntrack entries of published ports; their packets may reach the host"
                );
            }
            waiting.into_iter().for_each(|done| done());
            self.lock().working = false;
            self.changed.notify_all();
        }
    }

    /// Everything that is queued; `None` when the thread must end.
    fn take(&self) -> Option<Queued> {
        let idle = |state: &mut State| state.queued.is_empty() && !state.stop;
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.queued.is_empty() {
            return None;
        }
        state.working = true;
        Some(std::mem::take(&mut state.queued))
    }
}
