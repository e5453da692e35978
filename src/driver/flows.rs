//! Owns whose tracked connections wait for their removal, which is done in the background: that
//! they do is in the ledger from before anything else changes until the kernel is done with them,
//! so that a life that ends in between leaves its successor something to go by.
//!
//! Endpoints that end need no word about it, their tombstones say enough until the ledger is
//! rewritten. Never waits for the kernel: what is done is written when the upkeep comes to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::Driver;
use crate::datapath::Step;
use crate::model::{Protocol, Published};
use crate::state::record::Record;
use crate::state::table::lock;

/// Addresses whose connections are to be removed on behalf of somebody.
#[must_use = "what is owed must be settled, or it stays in the ledger"]
pub(super) struct Removal(Vec<IpAddr>);

impl Removal {
    /// What the ledger is told before the removal; nothing without an address.
    pub fn record(&self) -> Option<Record> {
        (!self.0.is_empty()).then(|| Record::Flows { addresses: self.0.clone() })
    }
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Flows {
    /// How many removals of an address are not over.
    owed: Mutex<BTreeMap<IpAddr, u32>>,
    over: Arc<Over>,
}

/// Removals that are over and not yet written, and who is to hear of them.
#[derive(Default)]
struct Over {
    removals: Mutex<Vec<Removal>>,
    call: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Flows {
    /// Notes that the connections of these addresses are going to be removed.
    pub fn owe(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Removal {
        let mut owed = lock(&self.owed);
        let removal = Removal(addresses.into_iter().collect());
        removal.0.iter().for_each(|address| *owed.entry(*address).or_default() += 1);
        removal
    }

    /// Says that the ledger has something to take.
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
    /// Sets what is called when the ledger has something to take that no verb waits for: see
    /// [`Driver::settle_ledger`].
    pub fn on_backlog(&self, call: impl Fn() + Send + 'static) {
        *lock(&self.flows.over.call) = Some(Box::new(call));
        // A removal of the start may have been faster.
        self.flows.call();
    }

    /// Writes what no verb waits for: that tracked connections are removed, and the ledger anew
    /// when it has grown.
    pub fn settle_ledger(&self) {
        self.settle_flows();
        self.compact_ledger();
    }

    /// Has the tracked connections of these container addresses removed in the background. One
    /// that survives is a nuisance, not a reason to fail a container.
    pub(super) fn forget_flows(&self, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        if let Err(error) = self.kernel().apply(&[Step::ForgetFlows(addresses.to_vec())]) {
            tracing::warn!(%error, ?addresses, "old flows may stick to these addresses");
        }
    }

    /// The same for what the ledger has been told of.
    pub(super) fn remove_flows(&self, removal: Removal) {
        self.forget_flows(&removal.0);
        self.settle_flows_later(removal);
    }

    /// Takes this out of the ledger again when all removals that are under way are over.
    pub(super) fn settle_flows_later(&self, removal: Removal) {
        if removal.0.is_empty() {
            return;
        }
        let over = Arc::clone(&self.flows.over);
        self.kernel().when_forgotten(Box::new(move || {
            lock(&over.removals).push(removal);
            over.call();
        }));
    }

    /// At start: what an earlier life may not have got round to. Of UDP and SCTP clients that
    /// asked for a port before it was published, too: their flows lead elsewhere.
    pub(super) fn resume_flows(&self) {
        // Owed once each since the ledger was read.
        self.remove_flows(Removal(lock(&self.flows.owed).keys().copied().collect()));
        let mut ports: Vec<Published> = Vec::new();
        for slot in self.table.ids().iter().filter_map(|id| self.table.find(id)) {
            let place = lock(&slot);
            let endpoints = place.iter().flat_map(|held| held.endpoints.values());
            ports.extend(endpoints.flat_map(|endpoint| &endpoint.published));
        }
        ports.retain(|port| port.host.protocol != Protocol::Tcp);
        if !ports.is_empty()
            && let Err(error) = self.kernel().apply(&[Step::ForgetMisled(ports)])
        {
            tracing::warn!(%error, "clients of published ports may be let through to the host");
        }
    }

    /// Writes down what is over. Held until it is written: whoever owes for the same address
    /// meanwhile writes behind it.
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
