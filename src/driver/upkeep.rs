//! Upkeep without a request: applies the desired state at start, and reaps what lost replies and missing calls
//! leave behind. Called by the app, never on the request path.

use super::status::PlanLines;
use super::{ADDRESS_GRACE, Driver, Error, count, now};
use crate::datapath::kind::{self, Presence};
use crate::datapath::{KernelError, Repair};
use crate::model::{Endpoint, IfName, Phase};
use crate::state::record::Holder;
use crate::state::table::{LinkOwner, lock};

/// How long an endpoint may remain between CreateEndpoint and Join, or between Leave and DeleteEndpoint, in
/// seconds. The engine sends these pairs back to back.
const ENDPOINT_GRACE: u64 = 120;

/// How long after Join the container's end may still be on the host, in seconds. The engine moves it as soon as
/// Join is answered, and returns it when the sandbox ends.
const JOIN_GRACE: u64 = 30;

impl Driver {
    /// Applies the ledger to the kernel before the first request is answered.
    ///
    /// Objects that the ledger does not know stay: [`crate::datapath::unknown`].
    pub fn start(&self) -> Result<(), KernelError> {
        self.remember_reach();
        self.desire_tunnels();
        self.retake_ports();
        self.reconciler.find_host()?;
        let repaired = self.repair();
        self.tell_unknown(&repaired.plan.unknown);
        self.resume_flows();
        self.sweep_leaks();
        repaired.whole().map(|_| ())
    }

    /// Reaps what lost replies and missing calls left behind.
    fn sweep_leaks(&self) {
        self.sweep_endpoints(now());
        if let Err(error) = self.reclaim_addresses(now()) {
            tracing::error!(%error, "unclaimed addresses are not reclaimed");
        }
    }

    /// Reconciles everything with the kernel and reaps dead endpoints.
    pub fn repair(&self) -> Repair {
        let repair = self.reconciler.reconcile();
        let plan = &repair.plan;
        if !plan.steps.is_empty() {
            tracing::info!(steps = plan.steps.len(), "kernel brought to the state");
        }
        let known = std::mem::replace(&mut *lock(&self.missing), plan.missing.clone());
        for bridge in plan.missing.iter().filter(|bridge| !known.contains(bridge)) {
            tracing::warn!(%bridge, "a bridge that a network uses does not exist: create it, or remove the network");
        }
        for host in &plan.dead {
            self.bury(host);
        }
        repair
    }

    /// Runs all upkeep at once at the request of an operator. Returns the plan that was carried out.
    pub fn repair_all(&self) -> Result<PlanLines, Error> {
        let kernel = |source| Error::Kernel { object: "the whole datapath".to_owned(), source };
        self.reconciler.find_host().map_err(kernel)?;
        self.reconciler.hurry();
        let plan = self.repair().whole().map_err(kernel)?;
        self.settle_debts();
        self.sweep_leaks();
        Ok(PlanLines::new(&plan, |step| self.kernel().commands(step)))
    }

    /// The same for the firewall alone.
    pub fn repair_firewall(&self) -> Repair {
        let repair = self.reconciler.reconcile_firewall();
        if !repair.plan.steps.is_empty() {
            let steps = repair.plan.steps.len();
            tracing::warn!(steps, "the firewall was changed by someone else and is repaired");
        }
        repair
    }

    /// The same after another program changed the host's forwarding: this does not count as drift.
    pub fn repair_forwarding(&self) -> Repair {
        tracing::info!("somebody else has decided about forwarding");
        self.reconciler.reconcile_firewall()
    }

    /// Periodic upkeep: a full reconciliation, leaks of lost replies, the ledger's size.
    pub fn tick(&self) {
        // The reconciliation reports a failure, since it reads the same objects.
        let _ = self.reconciler.follow_host();
        let _ = self.repair();
        self.free_unknown_ports();
        if let Err(error) = self.attend_mesh() {
            tracing::error!(%error, "overlay networks are looked after at the next tick");
        }
        self.settle_debts();
        self.sweep_leaks();
        self.flush_ledger();
    }

    /// Reclaims addresses that were allocated and never appeared in an endpoint.
    pub fn reclaim_addresses(&self, now: u64) -> Result<usize, Error> {
        let subnets = self.table.subnets();
        let mut ipam = lock(&self.ipam);
        let records = ipam.reclaim(&|subnet| subnets.contains(subnet), now, ADDRESS_GRACE);
        self.commit(&mut ipam, &records)?;
        if !records.is_empty() {
            tracing::warn!(addresses = records.len(), "addresses of lost replies reclaimed");
            count(&self.counts.addresses_reclaimed, records.len());
        }
        Ok(records.len())
    }

    /// Removes endpoints that the engine abandoned: its reply was lost, or it was killed between two calls.
    pub fn sweep_endpoints(&self, now: u64) {
        for id in self.table.ids() {
            let Some(slot) = self.table.find(&id) else { continue };
            let mut place = lock(&slot);
            let Some(held) = place.as_mut() else { continue };
            let given_up: Vec<Endpoint> = held.endpoints.values().filter(|e| self.given_up(e, now)).cloned().collect();
            for endpoint in given_up {
                tracing::warn!(network = %id, endpoint = %endpoint.spec.id, phase = ?endpoint.phase, "the engine gave this endpoint up without deleting it");
                held.endpoints.remove(&endpoint.spec.id);
                if let Err(error) = self.remove_endpoint(&held.network, &endpoint, &Holder::Stale) {
                    tracing::error!(%error, endpoint = %endpoint.spec.id, "its record stays in the ledger");
                }
                count(&self.counts.endpoints_buried, 1);
            }
        }
    }

    /// Where the links of an endpoint are.
    pub(super) fn presence(&self, endpoint: &Endpoint) -> Result<Presence, KernelError> {
        kind::presence(&endpoint.attachment, |name| self.kernel().link(name))
    }

    /// Whether the engine has abandoned this endpoint. When Pontoon does not answer, the engine removes a
    /// container without further calls, and leaves both ends of the pair on the host.
    fn given_up(&self, endpoint: &Endpoint, now: u64) -> bool {
        let age = now.saturating_sub(endpoint.since);
        match endpoint.phase {
            Phase::Joined => age > JOIN_GRACE && matches!(self.presence(endpoint), Ok(Presence::OnHost)),
            // An endpoint in this phase that is in a sandbox joined after this ledger was copied.
            Phase::Ready => age > ENDPOINT_GRACE && !matches!(self.presence(endpoint), Ok(Presence::InSandbox)),
            Phase::Left => age > ENDPOINT_GRACE,
        }
    }

    /// Removes the endpoint whose host end vanished with its sandbox. Checks again under the network's lock,
    /// because a verb may have handled it meanwhile.
    fn bury(&self, host: &IfName) {
        let Some(LinkOwner::Endpoint(network, id)) = self.table.link_owner(host) else { return };
        let Some(slot) = self.table.find(&network) else { return };
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
        tracing::warn!(%network, endpoint = %id, link = %host, "the sandbox of this endpoint is gone, the endpoint is removed");
        count(&self.counts.endpoints_buried, 1);
        if let Err(error) = self.remove_endpoint(&held.network, &endpoint, &Holder::Stale) {
            tracing::error!(%error, endpoint = %endpoint.spec.id, "its record stays in the ledger");
        }
    }
}
