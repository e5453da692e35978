//! Repairs the kernel, reaps what lost replies and missing calls leave behind, and flushes the ledger.

use std::time::Instant;

use crate::datapath::kind::{self, Presence};
use crate::datapath::{KernelError, Plan, Repair};
use crate::driver::history::{self, Happening, ShortId};
use crate::driver::{ADDRESS_GRACE, Driver, Error, count, now};
use crate::model::{Endpoint, IfName, Network, Phase};
use crate::state::record::Holder;
use crate::state::table::{LinkOwner, lock};

/// How long an endpoint may remain between CreateEndpoint and Join, between Leave and DeleteEndpoint, or after Join with
/// the container's end still on the host, in seconds. The engine sends each pair back to back. It moves the link when
/// the sandbox exists: up to version 27 that is after Join, when containerd and runc have prepared the container, which
/// took 35 s on a loaded machine.
const ENDPOINT_GRACE: u64 = 120;

impl Driver {
    /// Periodic upkeep: a full reconciliation, leaks of lost replies, the ledger's size.
    pub fn tick(&self) {
        // The reconciliation reports a failure, since it reads the same objects.
        let _ = self.applier.reconciler.follow_host();
        let _ = self.repair();
        self.release_unknown_ports();
        if let Err(error) = self.tick_overlays() {
            tracing::error!(%error, "cannot update the overlay networks: the next tick retries");
        }
        self.journal.retry_pending();
        self.reap_leaks();
        self.flush_ledger();
        self.note_health();
    }

    /// Records a change of the condition since the last call.
    fn note_health(&self) {
        let state = match (self.is_degraded(), self.applier.reconciler.failing() > 0) {
            (true, _) => "degraded",
            (false, true) => "failing",
            (false, false) => "well",
        };
        self.history.note_health(state);
    }

    fn note_repair(&self, scope: &'static str, began: Instant, repair: &Repair) {
        let steps = repair.plan.steps.len();
        if steps > 0 || repair.failed.is_some() {
            let error = repair.failed.as_ref().map(history::words);
            self.history.record(Happening::Repair { scope, steps, took: began.elapsed(), error });
        }
    }

    /// Periodic upkeep of what is known about other hosts.
    pub fn tick_overlays(&self) -> Result<(), Error> {
        self.overlays.tick()
    }

    /// Reconciles everything with the kernel and reaps dead endpoints.
    pub fn repair(&self) -> Repair {
        let began = Instant::now();
        self.choose_parents();
        let repair = self.applier.reconciler.reconcile();
        self.note_repair("everything", began, &repair);
        let plan = &repair.plan;
        if !plan.steps.is_empty() {
            tracing::info!(steps = plan.steps.len(), "repaired the kernel: it differed from the desired state");
        }
        for bridge in self.networks.newly_missing(&plan.missing) {
            tracing::warn!(%bridge, "a bridge that a network uses does not exist: create it, or remove the network");
        }
        for host in &plan.dead {
            self.reap(host);
        }
        repair
    }

    /// Runs all upkeep at once at the request of an operator. Returns the plan that was carried out.
    pub fn repair_all(&self) -> Result<Plan, Error> {
        let kernel = |source| Error::Kernel { object: "the whole datapath".to_owned(), source };
        self.applier.reconciler.find_host().map_err(kernel)?;
        self.applier.reconciler.hurry();
        let plan = self.repair().whole().map_err(kernel)?;
        self.journal.retry_pending();
        self.reap_leaks();
        Ok(plan)
    }

    /// The same for the firewall alone.
    pub fn repair_firewall(&self) -> Repair {
        let began = Instant::now();
        let repair = self.applier.reconciler.reconcile_firewall();
        self.note_repair("firewall", began, &repair);
        if !repair.plan.steps.is_empty() {
            tracing::warn!(steps = repair.plan.steps.len(), "repaired the firewall: another program changed it");
        }
        repair
    }

    /// The same after another program changed the host's forwarding: this does not count as drift.
    pub fn repair_forwarding(&self) -> Repair {
        tracing::info!("another program changed the host's forwarding: updating the firewall");
        self.applier.reconciler.reconcile_firewall()
    }

    /// The same after rules of other programs changed so that a fast path opens or closes: this does not count as drift.
    pub fn follow_rules(&self) -> Repair {
        tracing::info!("rules of other programs changed: updating the fast path");
        self.applier.reconciler.reconcile_firewall()
    }

    /// Writes what no verb waits for: finished removals of conntrack entries. Compacts the ledger when it has
    /// grown.
    pub fn flush_ledger(&self) {
        self.flows.write_finished();
        // By now these are removed or about to be; only the ledger is behind.
        self.flows.finish(self.flows.begin(self.journal.compact()));
    }

    /// Reaps what lost replies and missing calls left behind.
    pub(super) fn reap_leaks(&self) {
        self.reap_abandoned(now());
        if let Err(error) = self.reclaim_addresses(now()) {
            tracing::error!(%error, "cannot reclaim the addresses of lost replies");
        }
    }

    /// Reclaims addresses that were allocated and never appeared in an endpoint.
    pub fn reclaim_addresses(&self, now: u64) -> Result<usize, Error> {
        let subnets = self.networks.table.subnets();
        let mut index = self.addresses.lock();
        let records = index.reclaim(&|subnet| subnets.contains(subnet), now, ADDRESS_GRACE);
        index.commit(&records)?;
        if !records.is_empty() {
            tracing::warn!(addresses = records.len(), "reclaimed the addresses of lost replies");
            count(&self.counts.addresses_reclaimed, records.len());
        }
        Ok(records.len())
    }

    /// Removes endpoints that the engine abandoned: its reply was lost, or it was killed between two calls.
    pub fn reap_abandoned(&self, now: u64) {
        self.networks.each(|held| {
            let abandoned: Vec<Endpoint> =
                held.endpoints.values().filter(|endpoint| self.is_abandoned(endpoint, now)).cloned().collect();
            for endpoint in abandoned {
                tracing::warn!(network = %held.network.spec.id, endpoint = %endpoint.spec.id, phase = ?endpoint.phase, "reaped an endpoint: the engine abandoned it without deleting it");
                held.endpoints.remove(&endpoint.spec.id);
                self.remove_reaped(&held.network, &endpoint);
            }
        });
    }

    /// Where the links of an endpoint are.
    pub(super) fn presence(&self, endpoint: &Endpoint) -> Result<Presence, KernelError> {
        kind::presence(&endpoint.attachment, |name| self.kernel().link(name))
    }

    /// Whether the engine has abandoned this endpoint. When Pontoon does not answer, the engine removes a
    /// container without further calls, and leaves both ends of the pair on the host.
    fn is_abandoned(&self, endpoint: &Endpoint, now: u64) -> bool {
        if now.saturating_sub(endpoint.since) <= ENDPOINT_GRACE {
            return false;
        }
        match endpoint.phase {
            Phase::Joined => matches!(self.presence(endpoint), Ok(Presence::OnHost)),
            // An endpoint in this phase that is in a sandbox joined after this ledger was copied.
            Phase::Ready => !matches!(self.presence(endpoint), Ok(Presence::InSandbox)),
            Phase::Left => true,
        }
    }

    /// Removes the endpoint whose host end vanished with its sandbox. Checks again under the network's lock,
    /// because a verb may have handled it meanwhile.
    fn reap(&self, host: &IfName) {
        let Some(LinkOwner::Endpoint(network, id)) = self.networks.table.link_owner(host) else { return };
        let Some(slot) = self.networks.table.find(&network) else { return };
        let mut place = lock(&slot);
        let Some(held) = place.as_mut() else { return };
        let dead = held.endpoints.get(&id).is_some_and(|endpoint| {
            let named = endpoint.attachment.host() == Some(host) && endpoint.phase != Phase::Ready;
            named && matches!(self.presence(endpoint), Ok(Presence::Gone))
        });
        if !dead {
            return;
        }
        let Some(endpoint) = held.endpoints.remove(&id) else { return };
        tracing::warn!(%network, endpoint = %id, link = %host, "reaped an endpoint: its sandbox is gone");
        self.remove_reaped(&held.network, &endpoint);
    }

    /// Counts and removes an endpoint that was taken out of its network without a request.
    pub(super) fn remove_reaped(&self, network: &Network, endpoint: &Endpoint) {
        count(&self.counts.endpoints_reaped, 1);
        let (network_id, id) = (ShortId::of(network.spec.id.as_str()), ShortId::of(endpoint.spec.id.as_str()));
        self.history.record(Happening::Reaped { network: network_id, endpoint: id });
        if let Err(error) = self.remove_endpoint(network, endpoint, &Holder::Stale) {
            tracing::error!(%error, endpoint = %endpoint.spec.id, "cannot write the end of a reaped endpoint: its record stays in the ledger");
        }
    }
}
