//! Owns the deletion of links: one thread that takes what the verbs gave up and deletes it in
//! batches, because the kernel waits a grace period of about 15 ms per *deletion*, not per link.
//!
//! Deletes by group, and only after a listing has shown that nothing in the group is anybody
//! else's. Has a socket of its own, so that verbs never queue behind it. Called by `LinuxKernel`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rtnetlink::LinkUnspec;

use super::link::{self, LinkRecord};
use super::netlink::{Failure, Socket};
use super::touch::Touches;
use crate::datapath::GROUP_DEAD;
use crate::model::IfName;

/// Links in one deletion. The kernel unregisters all of them under its one lock for links, about
/// 0.3 ms each; verbs wait that long.
const BATCH: usize = 64;

/// Pause after a failure before the batch is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long dropping waits for the queue to drain.
const FAREWELL: Duration = Duration::from_secs(2);

/// The queue and its thread.
#[derive(Debug)]
pub struct Reaper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Given up, not yet begun.
    queued: BTreeSet<IfName>,
    /// In the batch that is being deleted.
    busy: BTreeSet<IfName>,
    /// The group is to be looked at even without a name: a former life may have left links in it.
    sweep: bool,
    /// A batch, possibly without names, is being worked on.
    working: bool,
    stop: bool,
    finished: bool,
}

impl State {
    fn idle(&self) -> bool {
        self.queued.is_empty() && !self.working && !self.sweep
    }

    fn holds(&self, name: &IfName) -> bool {
        self.queued.contains(name) || self.busy.contains(name)
    }
}

impl Reaper {
    /// Starts the thread; its first work is what a former life left in the group.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn start(socket: Socket, touches: Arc<Touches>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().sweep = true;
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || Worker { shared: theirs, socket, touches, indexes: BTreeSet::new(), failures: 0 }.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Queues a link for deletion and returns at once.
    pub fn retire(&self, name: &IfName) {
        self.shared.lock().queued.insert(name.clone());
        self.shared.changed.notify_all();
    }

    /// Waits until a link that was retired is gone, at most `patience`; false when it is not.
    /// Costs next to nothing for a link that was not retired.
    pub fn await_gone(&self, name: &IfName, patience: Duration) -> bool {
        self.shared.wait(patience, |state| !state.holds(name))
    }

    /// Waits until nothing is left to delete, at most `patience`; false when something is.
    pub fn settle(&self, patience: Duration) -> bool {
        self.shared.wait(patience, State::idle)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        let finished = self.shared.wait(FAREWELL, |state| state.finished);
        match self.thread.take() {
            Some(thread) if finished => drop(thread.join()),
            // What is left in the group is the first work of the next life.
            _ => tracing::warn!("links are still being deleted at shutdown"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, patience: Duration, done: impl Fn(&State) -> bool) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }
}

struct Worker {
    shared: Arc<Shared>,
    socket: Socket,
    touches: Arc<Touches>,
    /// Links whose names were queued here: ours even if the name does not show it.
    indexes: BTreeSet<u32>,
    failures: u32,
}

impl Worker {
    fn run(mut self) {
        while let Some(batch) = self.take() {
            let (failed, failure) = self.delete(&batch);
            let mut state = self.shared.lock();
            state.busy.clear();
            state.working = false;
            match failure {
                None => self.failures = 0,
                Some(failure) => {
                    self.failures = self.failures.saturating_add(1);
                    if self.failures == 1 {
                        tracing::warn!(?failure, links = batch.len(), "links could not be deleted, trying again");
                    }
                    state.queued.extend(failed);
                    state.sweep = true;
                }
            }
            self.shared.changed.notify_all();
        }
        self.shared.lock().finished = true;
        self.shared.changed.notify_all();
    }

    /// The next batch, which may be empty for a sweep; `None` when it is time to end.
    fn take(&mut self) -> Option<BTreeSet<IfName>> {
        let mut state = self.shared.lock();
        if self.failures > 0 {
            let until = Instant::now() + PAUSE;
            while !state.stop && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                (state, _) = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            }
        }
        while state.idle() && !state.stop {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // A last batch is still done at the end, but not one that keeps failing.
        if state.stop && (state.queued.is_empty() || self.failures > 0) {
            return None;
        }
        let mut batch = BTreeSet::new();
        while batch.len() < BATCH
            && let Some(name) = state.queued.pop_first()
        {
            batch.insert(name);
        }
        state.busy = batch.clone();
        state.sweep = false;
        state.working = true;
        Some(batch)
    }

    /// Deletes a batch and what else is in the group; returns the names that are not in the group
    /// yet, and the last failure.
    fn delete(&mut self, batch: &BTreeSet<IfName>) -> (Vec<IfName>, Option<Failure>) {
        let mut failed = Vec::new();
        let mut last = None;
        for name in batch {
            if let Err(failure) = self.bury(name) {
                failed.push(name.clone());
                last = Some(failure);
            }
        }
        let deleted = self.delete_group();
        (failed, deleted.err().or(last))
    }

    fn delete_group(&mut self) -> Result<(), Failure> {
        let seen = RefCell::new(BTreeMap::new());
        let survey = link::survey(&mut self.socket, |link| {
            if link.dead() {
                seen.borrow_mut().insert(link.index, link);
            }
        });
        // Where links come and go all the time, no listing is whole. Waiting for a quiet moment
        // would let the queue grow without end; and what is looked for here, a link of somebody
        // else's, stands still.
        match survey {
            Err(Failure::Torn) | Ok(()) => {}
            Err(failure) => return Err(failure),
        }
        let dead: Vec<LinkRecord> = seen.into_inner().into_values().collect();
        self.indexes.retain(|index| dead.iter().any(|link| link.index == *index));
        if dead.is_empty() {
            return Ok(());
        }
        let indexes = &self.indexes;
        let (ours, strangers): (Vec<_>, Vec<_>) = dead.into_iter().partition(|link| is_ours(link, indexes));
        if strangers.is_empty() {
            return link::delete_dead(&mut self.socket);
        }
        let names: Vec<&str> = strangers.iter().map(|link| link.name.as_str()).collect();
        tracing::warn!(?names, "links that are not Pontoon's are in its group for deletion; they are left alone");
        // In batches this is not possible; one by one it takes as long as it takes.
        ours.iter().try_for_each(|link| link::delete(&mut self.socket, link.index))
    }

    /// Takes a link out of service and into the group.
    fn bury(&mut self, name: &IfName) -> Result<(), Failure> {
        let Some(found) = link::find(&mut self.socket, name.as_str())? else { return Ok(()) };
        if !(found.live() || found.dead()) || !deletable(&found) {
            tracing::warn!(link = %name, kind = %found.kind, "not Pontoon's any more, it is left alone");
            return Ok(());
        }
        self.indexes.insert(found.index);
        if found.dead() {
            return Ok(());
        }
        self.touches.mark(name);
        let change = LinkUnspec::new_with_index(found.index).nocontroller().down().link_group(GROUP_DEAD);
        match link::change(&mut self.socket, change) {
            Err(failure) if failure.errno() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }
}

fn deletable(link: &LinkRecord) -> bool {
    matches!(link.kind.as_str(), "veth" | "bridge" | "vxlan")
}

fn is_ours(link: &LinkRecord, indexes: &BTreeSet<u32>) -> bool {
    let named = link.ifname().is_some_and(|name| name.has_prefix());
    deletable(link) && (named || indexes.contains(&link.index))
}
