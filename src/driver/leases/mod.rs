//! Leases of endpoints from DHCP servers and routers of the local network.
//!
//! A thread does all the talking ([`super::Driver::serve_leases`]): it sends what is due and reads what servers and routers
//! answer. A request only gives an endpoint its identity and waits until the thread has its leases. Every change is in the
//! ledger before the message that follows from it is sent.

mod asked;
mod book;
mod check;
mod error;
mod lessee;
mod obtain;
mod report;
mod routes;
mod slot;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use asked::{Asked, Due};
use book::Book;
use dhcp::client::Time;
use dhcp::wire::Incoming;
pub use error::LeaseError;
pub use lessee::Lessee;
pub(super) use obtain::Leased;
pub(super) use routes::routes;
pub use slot::{LeaseState, Slot};

use super::clock::boot_millis;
use super::history::History;
use super::journal::Journal;
use super::{Error, Event, Events};
use crate::datapath::Kernel;
use crate::model::{
    EndpointId, EndpointSpec, Held, IfName, LeaseKey, LeaseRecord, LeaseSource, Mac, Network, NetworkId, NetworkKind,
};
use crate::state::table::lock;

/// Most messages that wait for the thread; more are lost, and asked for again.
const INBOX: usize = 1024;

/// Longest time between two rounds: the clock of deadlines also runs while the host is suspended, that of the thread
/// does not.
const ROUND: Duration = Duration::from_secs(30);

/// How often it makes sure that it listens on the links of now.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Messages of servers and routers that were received and not yet read, each with the link on which it arrived.
struct Inbox {
    messages: Mutex<VecDeque<(IfName, Incoming)>>,
    events: Events,
}

/// Counters for the operator.
#[derive(Debug, Default)]
pub struct LeaseCounts {
    /// Leases that a server took away from a running endpoint.
    pub lost: AtomicU64,
    /// Addresses that another host had.
    pub declined: AtomicU64,
    /// Requests that got no lease in time.
    pub failed: AtomicU64,
}

/// See the module documentation.
pub(super) struct Leases {
    kernel: Arc<dyn Kernel>,
    journal: Arc<Journal>,
    book: Mutex<Book>,
    changed: Condvar,
    inbox: Arc<Inbox>,
    events: Events,
    history: Arc<History>,
    random: RandomState,
    /// The links on which it listens, and since when.
    listens: Mutex<Option<(BTreeSet<IfName>, Instant)>>,
    /// Counters since the start.
    pub counts: LeaseCounts,
}

impl Leases {
    pub fn new(kernel: Arc<dyn Kernel>, journal: Arc<Journal>, events: Events, history: Arc<History>) -> Self {
        let inbox = Arc::new(Inbox { messages: Mutex::default(), events: events.clone() });
        // The kernel keeps its watcher as long as it lives, and outlives the driver.
        let receiver = Arc::downgrade(&inbox);
        kernel.watch_dhcp(Box::new(move |link, message| {
            if let Some(inbox) = receiver.upgrade() {
                let mut messages = lock(&inbox.messages);
                if messages.len() < INBOX {
                    messages.push_back((link.clone(), message));
                }
                drop(messages);
                inbox.events.send(Event::LeasesDue);
            }
        }));
        let (book, changed, random, counts) = Default::default();
        Self { kernel, journal, book, changed, inbox, events, history, random, listens: Mutex::default(), counts }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// A number that other hosts cannot predict.
    fn seed(&self, key: &impl std::hash::Hash) -> u64 {
        self.random.hash_one(key)
    }

    /// Adds an identity of the ledger.
    pub fn restore(&self, record: &LeaseRecord) {
        let seed = self.seed(&record.label);
        self.book().restore(record.clone(), seed);
    }

    /// See [`Book::settle`].
    pub fn settle(&self, used: impl Fn(&NetworkId, &EndpointId, LeaseSource) -> Option<IpAddr>) {
        let mut book = self.book();
        let records = book.settle(used, boot_millis());
        if !records.is_empty() {
            let _ = self.journal.write_or_defer(records);
        }
        drop(book);
        self.events.send(Event::LeasesDue);
    }

    /// Parks the leases of an endpoint that is gone.
    pub fn park(&self, endpoint: &EndpointId) {
        let mut book = self.book();
        let records = book.park(endpoint, boot_millis());
        if records.is_empty() {
            return;
        }
        let _ = self.journal.write_or_defer(records);
        drop(book);
        self.events.send(Event::LeasesDue);
    }

    /// Gives the parked leases of a network back, at once: its link may be deleted next.
    pub fn end_network(&self, network: &NetworkId) {
        let mut book = self.book();
        let due = book.end_network(network, boot_millis());
        self.carry_out(book, due, Instant::now());
    }

    /// Writes, then sends, then tells the requests that wait.
    fn carry_out(&self, mut book: MutexGuard<'_, Book>, due: Due, began: Instant) {
        let Due { records, sends, notices } = due;
        if !records.is_empty() {
            let _ = self.journal.write_or_defer(records);
        }
        let now = boot_millis();
        for (key, notice) in &notices {
            if let Some(slot) = book.slot(key) {
                self.report(slot, notice, now);
            }
        }
        drop(book);
        if !notices.is_empty() {
            self.changed.notify_all();
        }
        let mut failed = Vec::new();
        for (key, message) in sends {
            tracing::debug!(link = %key.place(), owner = %key.owner, ?message, after = ?began.elapsed(), "sending to DHCP servers and routers");
            let sent = self.kernel.send_dhcp(&book::spoken(&key), &message);
            failed.push((key, sent.err().map(|error| error.to_string())));
        }
        if failed.is_empty() {
            return;
        }
        let mut book = self.book();
        for (key, failure) in failed {
            if let Some(slot) = book.slot(&key) {
                slot.failure = failure;
            }
        }
    }

    fn assign(&self, network: &Network, spec: &EndpointSpec, fingerprint: String) -> Result<Vec<LeaseKey>, Error> {
        let link = network.kind.link();
        let shared = match network.kind {
            NetworkKind::Ipvlan { .. } => {
                let found = self.kernel.link(link).map_err(|source| Error::of_network(&network.spec.id, source))?;
                found.and_then(|found| found.mac)
            }
            _ => None,
        };
        let asked = Asked {
            network: &network.spec.id,
            endpoint: &spec.id,
            link,
            vlan: network.spec.options.vlan,
            mac: spec.mac,
            shared,
            network_options: &network.spec.options.dhcp,
            options: &spec.options.dhcp,
            fingerprint,
        };
        let mut book = self.book();
        let (keys, mut due) = book.assign(&asked, self.seed(&spec.id.as_str()), boot_millis())?;
        // Before anything is sent: a later process must know who asked.
        if let Err(error) = self.journal.write(&std::mem::take(&mut due.records)) {
            let _ = book.park(&spec.id, boot_millis());
            return Err(error.into());
        }
        for key in &keys {
            if let Some(slot) = book.slot(key) {
                slot.waiting += 1;
            }
        }
        self.carry_out(book, due, Instant::now());
        self.events.send(Event::LeasesDue);
        Ok(keys)
    }

    /// Waits until there is a lease; `None` when the time is over.
    fn await_lease(&self, key: &LeaseKey, until: Instant) -> Option<(Mac, Held)> {
        let mut book = self.book();
        loop {
            if let Some(lease) = book.lease(key, boot_millis()) {
                return Some(lease);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn done_waiting(&self, keys: &[LeaseKey]) {
        let mut book = self.book();
        for key in keys {
            if let Some(slot) = book.slot(key) {
                slot.waiting = slot.waiting.saturating_sub(1);
            }
        }
    }

    fn decline(&self, key: &LeaseKey) {
        self.counts.declined.fetch_add(1, Ordering::Relaxed);
        let mut book = self.book();
        let due = book.decline(key, boot_millis());
        self.carry_out(book, due, Instant::now());
        self.events.send(Event::LeasesDue);
    }

    /// Reads what servers and routers sent, and does what is due. Returns how long nothing is due.
    fn round(&self) -> Duration {
        let began = Instant::now();
        loop {
            let message = lock(&self.inbox.messages).pop_front();
            let Some((link, message)) = message else { break };
            let mut book = self.book();
            let due = book.receive(&link, &message, boot_millis());
            self.carry_out(book, due, began);
        }
        self.listen();
        let mut book = self.book();
        let due = book.poll(boot_millis());
        let next = book.next(boot_millis());
        self.carry_out(book, due, began);
        Duration::from_millis(next.saturating_sub(boot_millis())).min(ROUND)
    }

    /// Listens on the links of all active clients; again from time to time, because a link may have been replaced.
    fn listen(&self) {
        let links = self.book().links();
        let mut listens = lock(&self.listens);
        let fresh = |(on, since): &(BTreeSet<IfName>, Instant)| *on == links && since.elapsed() < LISTEN_AGAIN;
        if listens.as_ref().is_some_and(fresh) || listens.is_none() && links.is_empty() {
            return;
        }
        if let Err(error) = self.kernel.listen_dhcp(&links) {
            tracing::warn!(%error, "cannot listen to DHCP servers");
        }
        *listens = Some((links, Instant::now()));
    }

    /// Reads all identities.
    pub fn read<T>(&self, read: impl Fn(&Slot, Time) -> T) -> Vec<T> {
        let now = boot_millis();
        self.book().slots().map(|slot| read(slot, now)).collect()
    }
}
