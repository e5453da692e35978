//! Deletes links: one thread takes the links that verbs retired and deletes them in batches, because the
//! kernel waits a grace period of about 15 ms per *deletion*, not per link.
//!
//! Deletes by group, and only after a dump has shown that every link in the group is Pontoon's. Has its own
//! socket, so that verbs never queue behind it. Called by `LinuxKernel`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rtnetlink::LinkUnspec;

use super::echo_filter::EchoFilter;
use super::link::{self, LinkRecord};
use super::monitor::Monitor;
use super::netlink::{Failure, Request, Socket};
use crate::datapath::{ALIAS, GROUP_DEAD};
use crate::model::IfName;

/// Links per deletion. The kernel unregisters all of them under its one lock for links, about 0.3 ms each;
/// verbs wait that long.
const BATCH: usize = 64;

/// Delay after a failure before the batch is retried.
const PAUSE: Duration = Duration::from_secs(1);

/// How long dropping waits for the queue to drain.
const FAREWELL: Duration = Duration::from_secs(2);

/// The queue and its thread.
#[derive(Debug)]
pub struct Reaper {
    state: Arc<Monitor<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Retired, deletion not yet started.
    queued: BTreeSet<IfName>,
    /// In the batch that is being deleted.
    busy: BTreeSet<IfName>,
    /// The group is to be checked even without a name: an earlier process may have left links in it.
    sweep: bool,
    /// A batch, possibly without names, is being processed.
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
    /// Starts the thread, which first deletes what an earlier process left in the group.
    ///
    /// # Errors
    /// The system's error when it cannot start a thread.
    pub fn start(socket: Socket, echoes: Arc<EchoFilter>) -> std::io::Result<Self> {
        let state: Arc<Monitor<State>> = Arc::default();
        state.change(|state| state.sweep = true);
        let theirs = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || Worker { state: theirs, socket, echoes, indexes: BTreeSet::new(), failures: 0 }.run())?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Queues a link for deletion and returns at once.
    pub fn retire(&self, name: &IfName) {
        self.state.change(|state| state.queued.insert(name.clone()));
    }

    /// Waits until a retired link is gone, at most `patience`; false when it is not. Costs next to nothing
    /// for a link that was not retired.
    pub fn await_gone(&self, name: &IfName, patience: Duration) -> bool {
        self.state.wait_for(patience, |state| !state.holds(name))
    }

    /// Waits until no deletion is pending, at most `patience`; false when one is.
    pub fn settle(&self, patience: Duration) -> bool {
        self.state.wait_for(patience, State::idle)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.state.change(|state| state.stop = true);
        let finished = self.state.wait_for(FAREWELL, |state| state.finished);
        match self.thread.take() {
            Some(thread) if finished => drop(thread.join()),
            // The next process deletes first what is left in the group.
            _ => tracing::warn!("stopping while links are still being deleted"),
        }
    }
}

struct Worker {
    state: Arc<Monitor<State>>,
    socket: Socket,
    echoes: Arc<EchoFilter>,
    /// Links whose names were queued here: Pontoon's even if their names do not show it.
    indexes: BTreeSet<u32>,
    failures: u32,
}

impl Worker {
    fn run(mut self) {
        while let Some(batch) = self.take() {
            let (failed, failure) = self.delete(&batch);
            self.failures = if failure.is_some() { self.failures.saturating_add(1) } else { 0 };
            if let Some(failure) = failure.as_ref().filter(|_| self.failures == 1) {
                tracing::warn!(?failure, links = batch.len(), "cannot delete links; retrying");
            }
            self.state.change(|state| {
                state.busy.clear();
                state.working = false;
                state.queued.extend(failed);
                state.sweep |= failure.is_some();
            });
        }
        self.state.change(|state| state.finished = true);
    }

    /// The next batch, which may be empty for a sweep; `None` when the thread must end.
    fn take(&mut self) -> Option<BTreeSet<IfName>> {
        if self.failures > 0 {
            self.state.wait_for(PAUSE, |state| state.stop);
        }
        let mut state = self.state.wait_until(|state| !state.idle() || state.stop);
        // A last batch is still deleted at the end, but not one that keeps failing.
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

    /// Deletes a batch and everything else in the group; returns the names that are not in the group yet, and
    /// the last failure.
    fn delete(&mut self, batch: &BTreeSet<IfName>) -> (Vec<IfName>, Option<Failure>) {
        match self.bury(batch) {
            Err(failure) => (batch.iter().cloned().collect(), Some(failure)),
            Ok((dead, failure)) => {
                let in_group = |name: &&IfName| dead.iter().any(|link| link.name == name.as_str());
                let failed = match &failure {
                    Some(_) => batch.iter().filter(|name| !in_group(name)).cloned().collect(),
                    None => Vec::new(),
                };
                let deleted = self.delete_group(dead);
                (failed, deleted.err().or(failure))
            }
        }
    }

    /// Moves the links of a batch into the group, and returns all links in it.
    ///
    /// One dump and one datagram, regardless of the number of links: while other programs change links too,
    /// each further request would queue for the kernel's lock again, and the queue here would grow faster
    /// than it shrinks. For the same reason the links stay up, and ports of their bridges: the kernel waits a
    /// grace period, under its lock, for each link that is taken down or removed from its bridge, and the
    /// deletion does both anyway.
    fn bury(&mut self, batch: &BTreeSet<IfName>) -> Result<(Vec<LinkRecord>, Option<Failure>), Failure> {
        let mut links = self.survey(batch)?;
        let mut moving = Vec::new();
        for name in batch {
            let Some(link) = links.iter().find(|link| link.name == name.as_str()) else { continue };
            if !(link.live() || link.dead()) || !deletable(link) {
                tracing::warn!(link = %name, kind = %link.kind, "link no longer belongs to Pontoon; leaving it alone");
                continue;
            }
            self.indexes.insert(link.index);
            if !link.dead() {
                self.echoes.mark(name);
                moving.push(link.index);
            }
        }
        let request = |index: &u32| link::changing(LinkUnspec::new_with_index(*index).link_group(GROUP_DEAD));
        let requests: Vec<Request> = moving.iter().map(request).collect();
        let (mut done, mut failure) = (0, None);
        while let Some(rest) = requests.get(done..).filter(|rest| !rest.is_empty()) {
            match self.socket.execute_all(rest) {
                Ok(()) => break,
                // It vanished by itself, as the peers of links in sandboxes do. The requests after it were
                // carried out, only their replies were not read.
                Err((at, gone)) if gone.errno() == Some(libc::ENODEV) => done += at + 1,
                Err((_, other)) => {
                    failure = Some(other);
                    break;
                }
            }
        }
        if failure.is_none() {
            links.iter_mut().filter(|link| moving.contains(&link.index)).for_each(|link| link.group = GROUP_DEAD);
        }
        links.retain(LinkRecord::dead);
        Ok((links, failure))
    }

    /// All links in the group or with one of these names.
    fn survey(&mut self, names: &BTreeSet<IfName>) -> Result<Vec<LinkRecord>, Failure> {
        let seen = RefCell::new(BTreeMap::new());
        let wanted = |link: &LinkRecord| link.dead() || link.ifname().is_some_and(|name| names.contains(&name));
        let survey = link::survey(&mut self.socket, |link| {
            if wanted(&link) {
                seen.borrow_mut().insert(link.index, link);
            }
        });
        let mut links: Vec<LinkRecord> = seen.into_inner().into_values().collect();
        match survey {
            Ok(()) => {}
            // Where links are created and deleted all the time, every dump is interrupted. Waiting for a
            // quiet moment would let the queue grow without limit; and the links sought here either stay
            // unchanged (links of other programs), or can be looked up by name.
            Err(Failure::Torn) => {
                for name in names {
                    if !links.iter().any(|link| link.name == name.as_str()) {
                        links.extend(link::find(&mut self.socket, name.as_str())?);
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(links)
    }

    fn delete_group(&mut self, dead: Vec<LinkRecord>) -> Result<(), Failure> {
        self.indexes.retain(|index| dead.iter().any(|link| link.index == *index));
        if dead.is_empty() {
            return Ok(());
        }
        let indexes = &self.indexes;
        let (ours, foreign): (Vec<_>, Vec<_>) = dead.into_iter().partition(|link| is_ours(link, indexes));
        if foreign.is_empty() {
            return link::delete_dead(&mut self.socket);
        }
        let names: Vec<&str> = foreign.iter().map(|link| link.name.as_str()).collect();
        tracing::warn!(?names, "links of other programs are in Pontoon's group for deletion; leaving them alone");
        // This cannot be batched, so the links are deleted one by one, however long it takes.
        ours.iter().try_for_each(|link| link::delete(&mut self.socket, link.index))
    }
}

fn deletable(link: &LinkRecord) -> bool {
    super::object::KINDS.contains(&link.kind.as_str())
}

/// Whether a link in the group is Pontoon's: by its name, by its alias if the user chose the name, or because this
/// process moved it there. An earlier process may have ended before it deleted what it moved.
fn is_ours(link: &LinkRecord, indexes: &BTreeSet<u32>) -> bool {
    let named = link.ifname().is_some_and(|name| name.has_prefix());
    let marked = link.alias.split(' ').next() == Some(ALIAS);
    deletable(link) && (named || marked || indexes.contains(&link.index))
}
