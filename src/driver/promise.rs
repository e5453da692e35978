//! The driver's write-ahead journal. Records are persisted before the kernel is changed; a deletion leaves a
//! tombstone until cleanup has finished; a deletion that cannot be persisted stays pending.
//!
//! The engine ignores errors of its deletions and forgets the object. So an object whose deletion cannot be
//! persisted is removed nevertheless, and its tombstone is written before the next record, or on the next tick.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::{Driver, Error, Event};
use crate::ipam::Ipam;
use crate::state::record::Record;
use crate::state::table::lock;

impl Driver {
    /// Writes one transaction, preceded by the pending records. After an error none of it is in the ledger.
    pub(super) fn write(&self, records: Vec<Record>) -> Result<(), Error> {
        let mut owed = lock(&self.owed);
        if owed.is_empty() {
            self.ledger.append(&records)?;
        } else {
            let all: Vec<Record> = owed.iter().cloned().chain(records).collect();
            self.ledger.append(&all)?;
            tracing::info!(records = owed.len(), "what the ledger did not take earlier is written");
            owed.clear();
        }
        drop(owed);
        self.watch_size();
        Ok(())
    }

    /// Requests compaction when the ledger is much larger than its live data. Requested once: if it fails, the
    /// next tick retries.
    fn watch_size(&self) {
        if self.ledger.compact_due() && !self.outgrown.swap(true, Ordering::Relaxed) {
            self.events.send(Event::LedgerBacklog);
        }
    }

    /// Compacts the ledger if it is much larger than its live data. Verbs that write wait meanwhile.
    pub(super) fn compact_ledger(&self) {
        if !self.ledger.compact_due() {
            return;
        }
        match self.ledger.compact() {
            Ok(ended) => {
                self.outgrown.store(false, Ordering::Relaxed);
                // By now these are removed or about to be; only the ledger is behind.
                self.settle_flows_later(self.flows.owe(ended));
            }
            Err(error) => tracing::error!(%error, "the ledger was not rewritten"),
        }
    }

    /// Writes a record that must not be lost although it can no longer be refused: a deletion, or the rollback
    /// of a failed change. After an error it is pending.
    pub(super) fn write_or_owe(&self, records: Vec<Record>) -> Result<(), Error> {
        let written = self.write(records.clone());
        if let Err(error) = &written {
            tracing::error!(%error, "the ledger does not take the end of something; it ends all the same, and is written with the next change");
            lock(&self.owed).extend(records);
        }
        written
    }

    /// Retries the pending records.
    pub(super) fn settle_debts(&self) {
        let none = lock(&self.owed).is_empty();
        if !none && let Err(error) = self.write(Vec::new()) {
            tracing::error!(%error, "the ledger still does not take what has ended");
        }
    }

    /// Writes records to the ledger and then into the address index.
    ///
    /// The index is passed in locked, so that a decision made under the lock still holds when the records are on
    /// disk.
    pub(super) fn commit(&self, ipam: &mut MutexGuard<'_, Ipam>, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.write(records.to_vec())?;
        records.iter().for_each(|record| ipam.apply(record));
        Ok(())
    }

    /// The same for a deletion: the index is updated even if the write fails.
    pub(super) fn commit_end(&self, ipam: &mut MutexGuard<'_, Ipam>, records: Vec<Record>) -> Result<(), Error> {
        records.iter().for_each(|record| ipam.apply(record));
        self.write_or_owe(records)
    }
}
