//! Leases of endpoints from DHCP servers of the local network.
//!
//! A thread does all the talking ([`super::Driver::serve_leases`]): it sends what is due and reads what servers answer.
//! A request only gives an endpoint its identity and waits until the thread has a lease for it. Every change is in the
//! ledger before the message that follows from it is sent.

mod book;
mod error;
mod obtain;
mod routes;
mod slot;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use book::Leased;
use book::{Asked, Book, Due};
use dhcp::Message;
use dhcp::client::{Notice, Time};
pub use error::LeaseError;
pub(super) use routes::routes;
pub use slot::{LeaseState, Slot};

use super::clock::boot_millis;
use super::journal::Journal;
use super::{Error, Event, Events};
use crate::datapath::{Kernel, kind};
use crate::model::{EndpointId, EndpointSpec, IfName, LeaseKey, LeaseRecord, Network, NetworkId, NetworkKind};
use crate::state::table::lock;

/// Most messages that wait for the thread; more are lost, and asked for again.
const INBOX: usize = 1024;

/// Longest time between two rounds: the clock of deadlines also runs while the host is suspended, that of the thread
/// does not.
const ROUND: Duration = Duration::from_secs(30);

/// How often it makes sure that it listens on the links of now.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// A message with the link on which it arrived and the hardware address that sent it.
type Received = (IfName, [u8; 6], Vec<u8>);

/// Messages of servers that were received and not yet read.
struct Inbox {
    messages: Mutex<VecDeque<Received>>,
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
    random: RandomState,
    /// The links on which it listens, and since when.
    listens: Mutex<Option<(BTreeSet<IfName>, Instant)>>,
    /// Counters since the start.
    pub counts: LeaseCounts,
}

impl Leases {
    pub fn new(kernel: Arc<dyn Kernel>, journal: Arc<Journal>, events: Events) -> Self {
        let inbox = Arc::new(Inbox { messages: Mutex::default(), events: events.clone() });
        // The kernel keeps its watcher as long as it lives, and outlives the driver.
        let receiver = Arc::downgrade(&inbox);
        kernel.watch_dhcp(Box::new(move |link, from, message| {
            if let Some(inbox) = receiver.upgrade() {
                let mut messages = lock(&inbox.messages);
                if messages.len() < INBOX {
                    messages.push_back((link.clone(), from, message.to_vec()));
                }
                drop(messages);
                inbox.events.send(Event::LeasesDue);
            }
        }));
        let (book, changed, random, counts) = Default::default();
        Self { kernel, journal, book, changed, inbox, events, random, listens: Mutex::default(), counts }
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
    pub fn settle(&self, used: impl Fn(&NetworkId, &EndpointId) -> Option<Ipv4Addr>) {
        let mut book = self.book();
        let records = book.settle(used, boot_millis());
        if !records.is_empty() {
            let _ = self.journal.write_or_defer(records);
        }
        drop(book);
        self.events.send(Event::LeasesDue);
    }

    /// Parks the lease of an endpoint that is gone.
    pub fn park(&self, endpoint: &EndpointId) {
        let mut book = self.book();
        let Some(record) = book.park(endpoint, boot_millis()) else { return };
        let _ = self.journal.write_or_defer(vec![record]);
        drop(book);
        self.events.send(Event::LeasesDue);
    }

    /// Gives the parked leases of a network back, at once: its link may be deleted next.
    pub fn end_network(&self, network: &NetworkId) {
        let mut book = self.book();
        let due = book.end_network(network, boot_millis());
        self.carry_out(book, due, Instant::now());
    }

    /// Refuses a network whose options cannot be honoured.
    pub fn check_network(&self, network: &Network) -> Result<(), LeaseError> {
        let (id, options) = (&network.spec.id, &network.spec.options);
        if !options.dhcp.v4 {
            return match options.dhcp.detail() {
                Some(option) => Err(LeaseError::NoEffect { network: id.clone(), option }),
                None => Ok(()),
            };
        }
        let link = network.kind.link();
        let why = match &network.kind {
            NetworkKind::Overlay { .. } => {
                "is not possible on an overlay network, whose containers are on no local network: remove it".to_owned()
            }
            NetworkKind::Bridge { .. } => format!(
                "needs a local network: add -o com.docker.network.bridge.name=BRIDGE, a bridge of yours with an uplink, or -o parent=LINK ({link} has no other hosts)"
            ),
            _ if network.spec.subnets().next().is_some() => {
                "excludes a subnet of another IPAM driver: create the network with --ipam-driver null and no --subnet"
                    .to_owned()
            }
            _ if kind::lan(network).is_none() && options.vlan.is_none() => {
                "is not possible in the modes l3 and l3s of ipvlan, which have no broadcasts: use ipvlan_mode=l2"
                    .to_owned()
            }
            _ if !self.kernel.probes() => {
                "is not possible without packet sockets: give Pontoon CAP_NET_RAW when it starts".to_owned()
            }
            _ => return Ok(()),
        };
        Err(LeaseError::Impossible { network: id.clone(), why })
    }

    /// Refuses an endpoint whose options cannot be honoured: servers are asked in the VLAN of the link alone.
    pub fn check_endpoint(&self, spec: &EndpointSpec) -> Result<(), LeaseError> {
        let why = "excludes pontoon.vlan for a single container: create a network with -o parent=LINK.VID for it";
        let refused = || LeaseError::Impossible { network: spec.network.clone(), why: why.to_owned() };
        if spec.options.vlan.is_some() { Err(refused()) } else { Ok(()) }
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
        for (key, message, to) in sends {
            tracing::debug!(link = %key.place(), owner = %key.owner, kind = ?message.kind(), after = ?began.elapsed(), "sending to DHCP servers");
            let sent = self.kernel.send_dhcp(&book::spoken(&key), &message.encode(), to);
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

    fn report(&self, slot: &mut Slot, notice: &Notice, now: Time) {
        let (key, network) = (&slot.record.key, &slot.record.network);
        let state = slot.state(now);
        let Some(endpoint) = &slot.record.endpoint else { return };
        match notice {
            Notice::Granted if state == LeaseState::Lost => {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                let granted = slot.client.held().map(|held| held.lease.address.to_string()).unwrap_or_default();
                let used = slot.record.used.map(|used| used.to_string()).unwrap_or_default();
                tracing::warn!(%network, %endpoint, link = %key.place(), %used, %granted, "the DHCP server gave a running container another address: docker network disconnect and connect it, or restart it; the new address is kept for it");
            }
            Notice::Granted => tracing::debug!(%network, %endpoint, link = %key.place(), "lease granted"),
            Notice::Refused { server, text } if slot.record.used.is_some() => {
                tracing::warn!(%network, %endpoint, link = %key.place(), %server, text = text.as_deref().unwrap_or(""), "the DHCP server refuses the address of a running container: asking for it again");
            }
            Notice::Refused { server, .. } => {
                tracing::debug!(%network, link = %key.place(), %server, "address refused")
            }
            Notice::Expired => {
                let used = slot.record.used.map(|used| used.to_string()).unwrap_or_default();
                tracing::warn!(%network, %endpoint, link = %key.place(), address = %used, "the lease of a running container has ended because no DHCP server answers: the container keeps its address, and Pontoon goes on asking");
            }
        }
    }

    fn assign(&self, network: &Network, spec: &EndpointSpec, fingerprint: String) -> Result<LeaseKey, Error> {
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
        let (key, mut due) = book.assign(&asked, self.seed(&spec.id.as_str()), boot_millis())?;
        // Before anything is sent: a later process must know who asked.
        if let Err(error) = self.journal.write(&std::mem::take(&mut due.records)) {
            let _ = book.park(&spec.id, boot_millis());
            return Err(error.into());
        }
        if let Some(slot) = book.slot(&key) {
            slot.waiting += 1;
        }
        self.carry_out(book, due, Instant::now());
        self.events.send(Event::LeasesDue);
        Ok(key)
    }

    /// Waits until there is a lease; `None` when the time is over.
    fn await_lease(&self, key: &LeaseKey, until: Instant) -> Option<Leased> {
        let mut book = self.book();
        loop {
            let lease = book.lease(key, boot_millis()).map(|held| held.lease.clone());
            if let Some(lease) = lease {
                let mac = book.slot(key)?.record.mac;
                return Some((key.clone(), mac, lease));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn done_waiting(&self, key: &LeaseKey) {
        if let Some(slot) = self.book().slot(key) {
            slot.waiting = slot.waiting.saturating_sub(1);
        }
    }

    fn decline(&self, key: &LeaseKey) {
        self.counts.declined.fetch_add(1, Ordering::Relaxed);
        let mut book = self.book();
        let due = book.decline(key, boot_millis());
        self.carry_out(book, due, Instant::now());
        self.events.send(Event::LeasesDue);
    }

    /// Reads what servers sent, and does what is due. Returns how long nothing is due.
    fn round(&self) -> Duration {
        let began = Instant::now();
        loop {
            let message = lock(&self.inbox.messages).pop_front();
            let Some((link, from, bytes)) = message else { break };
            let Some(message) = Message::decode(&bytes) else { continue };
            let mut book = self.book();
            let due = book.receive(&link, from, &message, boot_millis());
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
