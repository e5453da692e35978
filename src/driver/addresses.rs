//! The pools and addresses, with the journal of their changes.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use super::journal::Journal;
use crate::ipam::Ipam;
use crate::state::StoreError;
use crate::state::record::Record;
use crate::state::table::lock;

/// See the module documentation.
pub(super) struct Addresses {
    index: Mutex<Ipam>,
    journal: Arc<Journal>,
}

impl Addresses {
    pub fn new(index: Ipam, journal: Arc<Journal>) -> Self {
        Self { index: Mutex::new(index), journal }
    }

    /// Locks the index. A decision made under the lock still holds when its records are persisted.
    pub fn lock(&self) -> Index<'_> {
        Index { index: lock(&self.index), journal: &self.journal }
    }
}

/// The locked index.
pub(super) struct Index<'a> {
    index: MutexGuard<'a, Ipam>,
    journal: &'a Journal,
}

impl Index<'_> {
    /// Persists records and applies them to the index. After an error neither is done.
    pub fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.journal.write(records)?;
        records.iter().for_each(|record| self.index.apply(record));
        Ok(())
    }

    /// The same for a deletion or a rollback: the index is updated even if the records are still pending.
    pub fn commit_or_defer(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        records.iter().for_each(|record| self.index.apply(record));
        self.journal.write_or_defer(records)
    }
}

impl Deref for Index<'_> {
    type Target = Ipam;

    fn deref(&self) -> &Ipam {
        &self.index
    }
}

impl DerefMut for Index<'_> {
    fn deref_mut(&mut self) -> &mut Ipam {
        &mut self.index
    }
}
