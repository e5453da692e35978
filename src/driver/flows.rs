//! Removals of conntrack entries that run in the background. A pending removal is in the ledger from before
//! anything else changes until the kernel has finished, so that the next process can resume it after a crash.
//!
//! Endpoints that end need no such record: their tombstones suffice until the ledger is compacted. Nothing here
//! waits for the kernel; upkeep writes finished removals.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::journal::Journal;
use super::{Event, Events};
use crate::datapath::{Kernel, Step};
use crate::model::{Protocol, Published};
use crate::state::record::Record;
use crate::state::table::lock;

/// Addresses whose conntrack entries are to be removed.
#[must_use = "a removal that does not finish stays in the ledger"]
pub(super) struct Removal(Vec<IpAddr>);

impl Removal {
    /// The record for the ledger, to be written before the removal; `None` without an address.
    pub fn record(&self) -> Option<Record> {
        (!self.0.is_empty()).then(|| Record::Flows { addresses: self.0.clone() })
    }
}

/// See the module documentation.
pub(super) struct Flows {
    /// The number of unfinished removals per address.
    pending: Mutex<BTreeMap<IpAddr, u32>>,
    /// Removals that have finished but are not written yet.
    finished: Arc<Mutex<Vec<Removal>>>,
    kernel: Arc<dyn Kernel>,
    journal: Arc<Journal>,
    events: Events,
}

impl Flows {
    pub fn new(kernel: Arc<dyn Kernel>, journal: Arc<Journal>, events: Events) -> Self {
        Self { pending: Mutex::default(), finished: Arc::default(), kernel, journal, events }
    }

    /// Registers that the conntrack entries of these addresses are going to be removed. To be passed to
    /// [`Flows::remove`] or [`Flows::finish`].
    pub fn begin(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Removal {
        let mut pending = lock(&self.pending);
        let removal = Removal(addresses.into_iter().collect());
        removal.0.iter().for_each(|address| *pending.entry(*address).or_default() += 1);
        removal
    }

    /// Removes the conntrack entries of these container addresses in the background. A surviving entry does not
    /// justify failing a container.
    pub fn flush(&self, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        if let Err(error) = self.kernel.apply(&[Step::FlushConntrack(addresses.to_vec())]) {
            tracing::warn!(%error, ?addresses, "cannot remove the conntrack entries of these addresses: their next holders may get packets of old connections");
        }
    }

    /// The same for a removal whose record is in the ledger.
    pub fn remove(&self, removal: Removal) {
        self.flush(&removal.0);
        self.finish(removal);
    }

    /// Clears this removal from the ledger once all removals under way have finished.
    pub fn finish(&self, removal: Removal) {
        if removal.0.is_empty() {
            return;
        }
        let (finished, events) = (Arc::clone(&self.finished), self.events.clone());
        self.kernel.when_flushed(Box::new(move || {
            lock(&finished).push(removal);
            events.send(Event::LedgerBacklog);
        }));
    }

    /// At start: resumes the removals that an earlier process may not have finished.
    pub fn resume(&self) {
        // Each has been pending once since the ledger was read.
        self.remove(Removal(lock(&self.pending).keys().copied().collect()));
    }

    /// At start: removes entries of UDP and SCTP clients that used a port before it was published. Their flows lead
    /// elsewhere.
    pub fn flush_stale(&self, mut published: Vec<Published>) {
        published.retain(|port| port.host.protocol != Protocol::Tcp);
        if !published.is_empty()
            && let Err(error) = self.kernel.apply(&[Step::FlushStaleConntrack(published)])
        {
            tracing::warn!(%error, "cannot remove stale conntrack entries: earlier clients of published ports may reach the host instead of the container");
        }
    }

    /// Writes finished removals. The lock is held until they are written, so that a new removal for the same address
    /// is written after them.
    pub fn write_finished(&self) {
        let finished = std::mem::take(&mut *lock(&self.finished));
        let mut pending = lock(&self.pending);
        let mut cleared = Vec::new();
        for address in finished.into_iter().flat_map(|removal| removal.0) {
            let left = pending.remove(&address).unwrap_or_default().saturating_sub(1);
            match left {
                0 => cleared.push(address),
                left => drop(pending.insert(address, left)),
            }
        }
        if !cleared.is_empty() {
            let _ = self.journal.write_or_defer(vec![Record::NoFlows { addresses: cleared }]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::fake::FakeKernel;
    use crate::state::Ledger;

    #[test]
    fn an_address_is_cleared_after_the_last_of_its_removals() {
        let dir = std::env::temp_dir().join(format!("pontoon-flows-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let (events, sent) = Events::queue();
        let ledger = Ledger::open(&dir, "boot").unwrap().ledger;
        let journal = Arc::new(Journal::new(ledger, events.clone()));
        let kernel = Arc::new(FakeKernel::new());
        let flows = Flows::new(Arc::<FakeKernel>::clone(&kernel), Arc::clone(&journal), events);
        let records = || Ledger::open_read_only(&dir, "boot").unwrap().records;
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        let (one, other) = (flows.begin([address]), flows.begin([address]));
        journal.write(&[one.record().unwrap()]).unwrap();
        flows.remove(one);
        assert_eq!(kernel.take_flushed(), [address]);
        flows.write_finished();
        assert_eq!(records(), [Record::Flows { addresses: vec![address] }], "the other is under way");
        flows.remove(other);
        flows.write_finished();
        assert_eq!(records(), []);
        assert_eq!(sent.try_iter().count(), 2, "each end is reported");
        assert!(flows.begin([]).record().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
