//! Owns the removal of tracked connections: one thread that takes what is to be forgotten and asks
//! the kernel for it, because each question makes the kernel walk its whole table, some
//! milliseconds on a large host.
//!
//! Has sockets of its own, so that verbs never queue behind it. What is asked for while it works is
//! put together. A failure is logged and no more: a flow that survives is a nuisance, and expires.
//! Called by `LinuxKernel`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::netlink::Socket;
use super::{conntrack, route};
use crate::model::Published;

/// The queue; its thread ends by itself when this is dropped.
#[derive(Debug)]
pub struct Sweeper {
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

/// What is to be done, and who wants to hear of it.
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

impl Sweeper {
    /// Starts the thread. `nft` speaks to netfilter, `links` is asked whose an address is.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn start(nft: Socket, links: Socket) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::Builder::new().name("sweeper".to_owned()).spawn(move || theirs.work(nft, links))?;
        Ok(Self { shared })
    }

    /// Queues the removal of what comes from and goes to these container addresses.
    pub fn forget(&self, addresses: &[IpAddr]) {
        self.shared.lock().queued.addresses.extend(addresses);
        self.shared.changed.notify_all();
    }

    /// Queues the removal of what came for these published ports and leads elsewhere.
    pub fn forget_misled(&self, ports: &[Published]) {
        self.shared.lock().queued.ports.extend(ports);
        self.shared.changed.notify_all();
    }

    /// Calls `done`, on the thread, when all that is queued by now is done.
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

impl Drop for Sweeper {
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
            if let Err(failure) = conntrack::forget(&mut nft, &addresses) {
                tracing::warn!(?failure, ?addresses, "connections of these containers live on until they expire");
            }
            let mut local = |address| route::is_local(&mut links, address);
            if let Err(failure) = conntrack::forget_misled(&mut nft, &ports, &mut local) {
                tracing::warn!(?failure, "clients of ports that are published now may be let through to the host");
            }
            waiting.into_iter().for_each(|done| done());
            self.lock().working = false;
            self.changed.notify_all();
        }
    }

    /// All that is queued; `None` when it is time to end.
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
