//! Owns the driver's writing to the ledger: what is promised is on the disk before anything is
//! done, what has ended stays on the disk until nothing is left of it, and an end that the disk
//! does not take is owed.
//!
//! The engine ignores errors of its deletions and forgets the object. So an object whose end
//! cannot be written ends all the same, and its tombstone goes in front of whatever is written
//! next, or on the next tick.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::{Driver, Error};
use crate::ipam::Ipam;
use crate::state::record::Record;
use crate::state::table::lock;

impl Driver {
    /// Writes one transaction, and what is owed before it. After an error none of it is there.
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

    /// Asks for the ledger to be rewritten when it has outgrown what is alive in it: once, for if
    /// that fails the tick is soon enough to try again.
    fn watch_size(&self) {
        if self.ledger.compact_due() && !self.outgrown.swap(true, Ordering::Relaxed) {
            self.flows.call();
        }
    }

    /// Rewrites the ledger if it has outgrown what is alive in it. Verbs that write wait meanwhile.
    pub(super) fn compact_ledger(&self) {
        if !self.ledger.compact_due() {
            return;
        }
        match self.ledger.compact() {
            Ok(ended) => {
                self.outgrown.store(false, Ordering::Relaxed);
                // By now they are removed or about to be: only the ledger does not know.
                self.settle_flows_later(self.flows.owe(ended));
            }
            Err(error) => tracing::error!(%error, "the ledger was not rewritten"),
        }
    }

    /// Writes what must not be lost although it cannot be refused any more: an end, or the way
    /// back from a change that failed. After an error it is owed.
    pub(super) fn write_or_owe(&self, records: Vec<Record>) -> Result<(), Error> {
        let written = self.write(records.clone());
        if let Err(error) = &written {
            tracing::error!(%error, "the ledger does not take the end of something; it ends all the same, and is written with the next change");
            lock(&self.owed).extend(records);
        }
        written
    }

    /// Tries again to write what is owed.
    pub(super) fn settle_debts(&self) {
        let none = lock(&self.owed).is_empty();
        if !none && let Err(error) = self.write(Vec::new()) {
            tracing::error!(%error, "the ledger still does not take what has ended");
        }
    }

    /// Writes records to the ledger and, once they are there, into the address index.
    ///
    /// The index is passed in locked: what was decided under the lock is still true when the
    /// records are on disk.
    pub(super) fn commit(&self, ipam: &mut MutexGuard<'_, Ipam>, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.write(records.to_vec())?;
        records.iter().for_each(|record| ipam.apply(record));
        Ok(())
    }

    /// The same for an end: the index follows in any case.
    pub(super) fn commit_end(&self, ipam: &mut MutexGuard<'_, Ipam>, records: Vec<Record>) -> Result<(), Error> {
        records.iter().for_each(|record| ipam.apply(record));
        self.write_or_owe(records)
    }
}
