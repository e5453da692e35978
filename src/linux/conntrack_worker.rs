//! Deletes tracked connections in the background, and the flows that allow lists recorded within bridges: one thread
//! collects what is to be flushed and sends the requests, because each makes the kernel walk its whole table, which takes
//! some milliseconds on a large host.
//!
//! Has its own sockets, so that verbs never queue behind it. Requests that arrive while it works are merged.
//! A failure is only logged: a flow that survives is a nuisance, and expires. Called by `LinuxKernel`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::monitor::Monitor;
use super::netlink::{Failure, Socket};
use super::{conntrack, firewall, route};
use crate::datapath::Verdicts;
use crate::model::Published;

/// The queue; its thread ends by itself when the queue is dropped.
#[derive(Debug)]
pub struct ConntrackWorker {
    state: Arc<Monitor<State>>,
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
    verdicts: Vec<Verdicts>,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

impl Queued {
    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty() && self.verdicts.is_empty() && self.waiting.is_empty()
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
        let state = Arc::new(Monitor::default());
        let theirs = Arc::clone(&state);
        std::thread::Builder::new().name("conntrack_worker".to_owned()).spawn(move || work(&theirs, nft, links))?;
        Ok(Self { state })
    }

    /// Queues a flush of the flows from and to these container addresses.
    pub fn flush(&self, addresses: &[IpAddr]) {
        self.state.change(|state| state.queued.addresses.extend(addresses));
    }

    /// Queues a flush of the stale flows of these published ports.
    pub fn flush_stale(&self, ports: &[Published]) {
        self.state.change(|state| state.queued.ports.extend(ports));
    }

    /// Queues the end of flows that are not allowed any more.
    pub fn cut(&self, verdicts: Verdicts) {
        self.state.change(|state| state.queued.verdicts.push(verdicts));
    }

    /// Calls `done`, on the thread, when everything that is queued now is done.
    pub fn when_done(&self, done: Box<dyn FnOnce() + Send>) {
        self.state.change(|state| state.queued.waiting.push(done));
    }

    /// Waits until nothing is queued, at most `patience`; false when something is.
    pub fn settle(&self, patience: Duration) -> bool {
        self.state.wait_for(patience, |state| !state.working && state.queued.is_empty())
    }
}

impl Drop for ConntrackWorker {
    fn drop(&mut self) {
        self.state.change(|state| state.stop = true);
    }
}

fn work(state: &Monitor<State>, mut nft: Socket, mut links: Socket) {
    while let Some(Queued { addresses, ports, verdicts, waiting }) = take(state) {
        if let Err(failure) = conntrack::flush(&mut nft, &addresses) {
            tracing::warn!(
                ?failure,
                ?addresses,
                "cannot flush conntrack entries of containers; they stay until they expire"
            );
        }
        if let Err(failure) = firewall::expiring::forget_flows(&mut nft, &addresses) {
            tracing::warn!(
                ?failure,
                ?addresses,
                "cannot forget flows of containers within their bridge; the next containers with these addresses may use them"
            );
        }
        let mut local = |address| route::is_local(&mut links, address);
        if let Err(failure) = conntrack::flush_stale(&mut nft, &ports, &mut local) {
            tracing::warn!(
                ?failure,
                "cannot flush stale conntrack entries of published ports; their packets may reach the host"
            );
        }
        for verdicts in &verdicts {
            if let Err(failure) = cut(&mut nft, verdicts.clone(), &mut local) {
                tracing::warn!(
                    ?failure,
                    addresses = ?verdicts.concerned(),
                    "cannot end flows that lists do not allow any more: set the policy again"
                );
            }
        }
        waiting.into_iter().for_each(|done| done());
        state.change(|state| state.working = false);
    }
}

/// Ends flows that neither lists nor the names in them allow any more.
fn cut(
    nft: &mut Socket,
    mut verdicts: Verdicts,
    local: &mut dyn FnMut(IpAddr) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    for (own, transport, peer) in firewall::names::admitted(nft, verdicts.concerned())? {
        verdicts.admit(own, peer, transport);
    }
    // First those within bridges, so that none is taken up from the other side meanwhile.
    firewall::cut_flows::within_bridges(nft, &verdicts)?;
    let connections = conntrack::cut(nft, &verdicts, local)?;
    firewall::cut_flows::block(nft, &connections, false)
}

/// Everything that is queued; `None` when the thread must end.
fn take(state: &Monitor<State>) -> Option<Queued> {
    let mut state = state.wait_until(|state| !state.queued.is_empty() || state.stop);
    if state.queued.is_empty() {
        return None;
    }
    state.working = true;
    Some(std::mem::take(&mut state.queued))
}
