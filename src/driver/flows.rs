//! Tracks removals of conntrack entries that run in the background. A pending removal is in the ledger from
//! before anything else changes until the kernel has finished, so that the next process can resume it after a
//! crash.
//!
//! Endpoints that end need no such record: their tombstones suffice until the ledger is compacted. Nothing here
//! waits for the kernel; upkeep writes finished removals.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::Driver;
use crate::datapath::Step;
use crate::model::{Protocol, Published};
use crate::state::record::Record;
use crate::state::table::lock;

/// Addresses whose conntrack entries are to be removed.
#[must_use = "what is owed must be settled, or it stays in the ledger"]
pub(super) struct Removal(Vec<IpAddr>);

impl Removal {
    /// The record for the ledger, to be written before the removal; `None` without an address.
    pub fn record(&self) -> Option<Record> {
        (!self.0.is_empty()).then(|| Record::Flows { addresses: self.0.clone() })
    }
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct Flows {
    /// The number of unfinished removals per address.
    owed: Mutex<BTreeMap<IpAddr, u32>>,
    over: Arc<Over>,
}

/// Removals that have finished but are not yet written, and the callback to report them.
#[derive(Default)]
struct Over {
    removals: Mutex<Vec<Removal>>,
    call: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Flows {
    /// Registers that the conntrack entries of these addresses are going to be removed.
    pub fn owe(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Removal {
        let mut owed = lock(&self.owed);
        let removal = Removal(addresses.into_iter().collect());
        removal.0.iter().for_each(|address| *owed.entry(*address).or_default() += 1);
        removal
    }

    /// Reports that there are records to write to the ledger.
    pub fn call(&self) {
        self.over.call();
    }
}

impl Over {
    fn call(&self) {
        if let Some(call) = &*lock(&self.call) {
            call();
        }
    }
}

impl Driver {
    /// Sets the callback for records to write that no verb waits for: see [`Driver::settle_ledger`].
    pub fn on_backlog(&self, call: impl Fn() + Send + 'static) {
        *lock(&self.flows.over.call) = Some(Box::new(call));
        // A removal of the start may have finished before the callback was set.
        self.flows.call();
    }

    /// Writes what no verb waits for: finished removals of conntrack entries. Compacts the ledger when it has
    /// grown.
    pub fn settle_ledger(&self) {
        self.settle_flows();
        self.compact_ledger();
    }

    /// Removes the conntrack entries of these container addresses in the background. A surviving entry does not
    /// justify failing a container.
    pub(super) fn forget_flows(&self, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        if let Err(error) = self.kernel().apply(&[Step::FlushConntrack(addresses.to_vec())]) {
            tracing::warn!(%error, ?addresses, "old flows may stick to these addresses");
        }
    }

    /// The same for a removal that the ledger has already recorded.
    pub(super) fn remove_flows(&self, removal: Removal) {
        self.forget_flows(&removal.0);
        self.settle_flows_later(removal);
    }

    /// Clears this removal from the ledger when all removals under way have finished.
    pub(super) fn settle_flows_later(&self, removal: Removal) {
        if removal.0.is_empty() {
            return;
        }
        let over = Arc::clone(&self.flows.over);
        self.kernel().when_flushed(Box::new(move || {
            lock(&over.removals).push(removal);
            over.call();
        }));
    }

    /// At start: resumes removals that an earlier process may not have finished. Also removes entries of UDP and
    /// SCTP clients that used a port before it was published: their flows lead elsewhere.
    pub(super) fn resume_flows(&self) {
        // Each has been pending once since the ledger was read.
        self.remove_flows(Removal(lock(&self.flows.owed).keys().copied().collect()));
        let mut ports: Vec<Published> = Vec::new();
        for slot in self.table.ids().iter().filter_map(|id| self.table.find(id)) {
            let place = lock(&slot);
            let endpoints = place.iter().flat_map(|held| held.endpoints.values());
            ports.extend(endpoints.flat_map(|endpoint| &endpoint.published));
        }
        ports.retain(|port| port.host.protocol != Protocol::Tcp);
        if !ports.is_empty()
            && let Err(error) = self.kernel().apply(&[Step::FlushStaleConntrack(ports)])
        {
            tracing::warn!(%error, "clients of published ports may be let through to the host");
        }
    }

    /// Writes finished removals. The lock is held until they are written, so that a new removal for the same
    /// address is written after them.
    fn settle_flows(&self) {
        let over = std::mem::take(&mut *lock(&self.flows.over.removals));
        let mut owed = lock(&self.flows.owed);
        let mut settled = Vec::new();
        for address in over.into_iter().flat_map(|removal| removal.0) {
            let left = owed.remove(&address).unwrap_or_default().saturating_sub(1);
            match left {
                0 => settled.push(address),
                left => drop(owed.insert(address, left)),
            }
        }
        if !settled.is_empty() {
            let _ = self.write_or_owe(vec![Record::NoFlows { addresses: settled }]);
        }
    }
}
