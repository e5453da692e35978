//! The endpoints of each container: those that share a sandbox may use each other's addresses as sources.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::applier::Applier;
use crate::datapath::Datapath;
use crate::datapath::companion::{Companion, Companions, between};
use crate::model::{Endpoint, Network};
use crate::state::table::lock;

/// See the module documentation.
pub(super) struct Containers {
    sandboxes: Mutex<HashMap<String, Companions>>,
    applier: Arc<Applier>,
}

impl Containers {
    pub fn new(applier: Arc<Applier>) -> Self {
        Self { sandboxes: Mutex::default(), applier }
    }

    /// Records that an endpoint is in a container, and permits the shared addresses. A kernel failure is left to the
    /// next reconciliation; the container works otherwise.
    pub fn joined(&self, network: &Network, endpoint: &Endpoint) {
        self.add(network, endpoint, |shared| {
            let object = format_args!("endpoint {}", endpoint.spec.id);
            self.applier.apply_or_defer(&Datapath::empty(), shared, "permit the addresses of its container", object);
        });
    }

    /// The same while the ledger is read; the kernel is updated later with everything else.
    pub fn restore(&self, network: &Network, endpoint: &Endpoint) {
        self.add(network, endpoint, |shared| self.applier.reconciler.desire(&Datapath::empty(), shared));
    }

    /// Applies the changes under the lock, because one of the endpoints may be about to leave.
    fn add(&self, network: &Network, endpoint: &Endpoint, apply: impl Fn(&Datapath)) {
        let Some(companion) = Companion::of(network, endpoint) else { return };
        let mut sandboxes = lock(&self.sandboxes);
        let all = sandboxes.entry(endpoint.sandbox.clone()).or_default();
        all.insert(endpoint.spec.id.clone(), companion);
        if all.len() > 1 {
            apply(&between(&endpoint.spec.id, all));
        }
    }

    /// Records that an endpoint leaves its container or is gone with it. An unknown endpoint is not an error.
    pub fn left(&self, endpoint: &Endpoint) {
        let mut sandboxes = lock(&self.sandboxes);
        let Some(all) = sandboxes.get_mut(&endpoint.sandbox) else { return };
        let shared = between(&endpoint.spec.id, all);
        all.remove(&endpoint.spec.id);
        if all.is_empty() {
            sandboxes.remove(&endpoint.sandbox);
        } else {
            let object = format_args!("endpoint {}", endpoint.spec.id);
            self.applier.apply_or_defer(&shared, &Datapath::empty(), "withdraw the addresses of its container", object);
        }
    }
}
