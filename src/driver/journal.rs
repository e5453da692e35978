//! The write-ahead journal. Records are persisted before the kernel is changed; a deletion leaves a tombstone until
//! cleanup has finished.
//!
//! The engine ignores errors of its deletions and forgets the object. So an object whose deletion cannot be
//! persisted is removed nevertheless, and its tombstone is pending: it is written before the next record, or on the
//! next tick.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Event, Events};
use crate::state::record::Record;
use crate::state::table::lock;
use crate::state::{Ledger, StoreError};

/// See the module documentation.
pub(super) struct Journal {
    ledger: Ledger,
    /// Tombstones and rollbacks that could not be written yet, oldest first.
    pending: Mutex<Vec<Record>>,
    /// Whether compaction was requested and has not succeeded yet.
    compaction_requested: AtomicBool,
    events: Events,
}

impl Journal {
    pub fn new(ledger: Ledger, events: Events) -> Self {
        Self { ledger, pending: Mutex::default(), compaction_requested: AtomicBool::new(false), events }
    }

    /// Writes one transaction, preceded by the pending records. After an error none of it is in the ledger.
    pub fn write(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut pending = lock(&self.pending);
        if pending.is_empty() {
            self.ledger.append(records)?;
        } else {
            let all: Vec<Record> = pending.iter().chain(records).cloned().collect();
            self.ledger.append(&all)?;
            tracing::info!(records = pending.len(), "wrote the pending records to the ledger");
            pending.clear();
        }
        drop(pending);
        self.request_compaction();
        Ok(())
    }

    /// Writes records that can no longer be refused: a deletion, or the rollback of a failed change. After an error
    /// they are pending.
    pub fn write_or_defer(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let written = self.write(&records);
        if let Err(error) = &written {
            tracing::error!(%error, records = records.len(), "cannot write a deletion to the ledger: it takes effect and is written with the next change");
            lock(&self.pending).extend(records);
        }
        written
    }

    /// Retries the pending records.
    pub fn retry_pending(&self) {
        let none = lock(&self.pending).is_empty();
        if !none && let Err(error) = self.write(&[]) {
            tracing::error!(%error, "cannot write the pending records to the ledger");
        }
    }

    /// Compacts the ledger if it is much larger than its live data; writers wait meanwhile. Returns the addresses of
    /// deleted endpoints: the ledger now records that their conntrack entries are to be removed.
    pub fn compact(&self) -> Vec<IpAddr> {
        if self.ledger.compact_due() { self.compact_now() } else { Vec::new() }
    }

    /// The same whatever its size.
    pub fn compact_now(&self) -> Vec<IpAddr> {
        match self.ledger.compact() {
            Ok(ended) => {
                self.compaction_requested.store(false, Ordering::Relaxed);
                ended
            }
            Err(error) => {
                tracing::error!(%error, "cannot compact the ledger");
                Vec::new()
            }
        }
    }

    /// Requests compaction when it is due. Requested once: if it fails, the next tick retries.
    fn request_compaction(&self) {
        if self.ledger.compact_due() && !self.compaction_requested.swap(true, Ordering::Relaxed) {
            self.events.send(Event::LedgerBacklog);
        }
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
