//! Tracks which endpoints share a container, and applies the resulting rules to the kernel.

use std::collections::HashMap;
use std::sync::Mutex;

use super::Driver;
use crate::datapath::Datapath;
use crate::datapath::companion::{Companion, Companions, between};
use crate::model::{Endpoint, Network};
use crate::state::table::lock;

/// The endpoints of each container, by sandbox.
#[derive(Default)]
pub(super) struct Sandboxes(Mutex<HashMap<String, Companions>>);

impl Driver {
    /// Records that an endpoint is in a container: it and the container's other endpoints may use each other's
    /// addresses. A kernel failure is left to the next reconciliation; the container works otherwise.
    pub(super) fn accompany(&self, network: &Network, endpoint: &Endpoint) {
        self.accompanied(network, endpoint, |datapath| {
            if let Err(error) = self.reconciler.replace(&Datapath::empty(), datapath) {
                tracing::warn!(%error, endpoint = %endpoint.spec.id, "what a container may send is left to the next comparison");
                self.schedule_maintenance();
            }
        });
    }

    /// The same while the ledger is read; the kernel is updated later with everything else.
    pub(super) fn accompany_at_load(&self, network: &Network, endpoint: &Endpoint) {
        self.accompanied(network, endpoint, |datapath| self.reconciler.desire(&Datapath::empty(), datapath));
    }

    /// Applies the changes under the lock, because one of the endpoints may be about to leave.
    fn accompanied(&self, network: &Network, endpoint: &Endpoint, tell: impl Fn(&Datapath)) {
        let Some(companion) = Companion::of(network, endpoint) else { return };
        let mut sandboxes = lock(&self.sandboxes.0);
        let all = sandboxes.entry(endpoint.sandbox.clone()).or_default();
        all.insert(endpoint.spec.id.clone(), companion);
        if all.len() > 1 {
            tell(&between(&endpoint.spec.id, all));
        }
    }

    /// Records that an endpoint leaves its container or is gone with it. An unknown endpoint is not an error.
    pub(super) fn part(&self, endpoint: &Endpoint) {
        let mut sandboxes = lock(&self.sandboxes.0);
        let Some(all) = sandboxes.get_mut(&endpoint.sandbox) else { return };
        let datapath = between(&endpoint.spec.id, all);
        all.remove(&endpoint.spec.id);
        if all.is_empty() {
            sandboxes.remove(&endpoint.sandbox);
        } else if let Err(error) = self.reconciler.replace(&datapath, &Datapath::empty()) {
            tracing::warn!(%error, endpoint = %endpoint.spec.id, "what a container may send no more is left to the next comparison");
            self.schedule_maintenance();
        }
    }
}
