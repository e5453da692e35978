//! Handles networks of the Swarm after a crash of the engine. The engine persists neither those networks nor
//! their endpoints: it creates the network again, with the current settings, and never mentions the earlier
//! endpoints (protocol.md 5.5).

use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::{Driver, Error, count};
use crate::api::Empty;
use crate::datapath::kind::{self, Presence};
use crate::model::{Endpoint, Network, NetworkId, NetworkSpec, Phase, Scope};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, lock};

/// How long the engine may take from creating a network to its first endpoint, while another network asks for
/// the same resources.
const UNDER_WAY: Duration = Duration::from_secs(30);

impl Driver {
    /// Whether a network belongs to the Swarm, so that its engine persists nothing of it.
    pub(super) fn is_of_swarm(&self, id: &NetworkId) -> bool {
        self.overlay.scope == Scope::Global || id.is_of_swarm()
    }

    /// Forgets the network of the Swarm that has this subnet, with its pools, if it has no live endpoint;
    /// returns whether there was one. The engine requests a pool that is already allocated: it crashed, and is
    /// about to create the network again, or a successor with the same subnet. If this request failed, this host
    /// could never join that network again.
    pub(super) fn forget_network_of(&self, subnet: &IpNetwork) -> Result<bool, Error> {
        match self.table.subnet_owner(subnet) {
            Some(id) => self.forget_stale(&id),
            None => Ok(false),
        }
    }

    /// Reserves what a network needs. Takes over resources (subnet, bridge name, VNI) that a stale network of
    /// the Swarm holds: two networks of a Swarm never share one of those, so that network was removed while the
    /// engine was down.
    pub(super) fn claim_from_stale(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        loop {
            let error = match self.claim(spec) {
                Err(error) if self.is_of_swarm(&spec.id) => error,
                result => return result,
            };
            let owner = match &error {
                Error::SubnetOverlap { owner, .. }
                | Error::BridgeTaken { owner, .. }
                | Error::VniTaken { owner, .. } => owner.clone(),
                _ => return Err(error),
            };
            if !self.forget_stale(&owner)? {
                return Err(error);
            }
        }
    }

    /// Records that the engine has just asked for a network.
    pub(super) fn remember_asked(&self, id: &NetworkId) {
        let mut asked = lock(&self.asked);
        asked.retain(|_, at| at.elapsed() < UNDER_WAY);
        asked.insert(id.clone(), Instant::now());
    }

    /// Removes a network of the Swarm with its pools if it has no live endpoint and the engine has not just
    /// asked for it; returns whether it did. A network with a verb under way is not stale.
    fn forget_stale(&self, id: &NetworkId) -> Result<bool, Error> {
        let is_young = lock(&self.asked).get(id).is_some_and(|at| at.elapsed() < UNDER_WAY);
        let Some(slot) = self.table.find(id).filter(|_| self.is_of_swarm(id) && !is_young) else { return Ok(false) };
        let held = {
            let Ok(mut place) = slot.try_lock() else { return Ok(false) };
            let lives = |held: &Held| held.endpoints.values().any(|endpoint| self.is_live(endpoint));
            if place.as_ref().is_none_or(lives) {
                return Ok(false);
            }
            let Some(held) = place.take() else { return Ok(false) };
            tracing::warn!(network = %id, "another network has come in the place of this one, which the Swarm has no more: it is removed");
            // Removed while the slot is locked: a concurrent request for the network waits.
            self.remove_network(&held)?;
            held
        };
        drop(slot);
        self.table.forget_if_empty(id);
        let mut ipam = lock(&self.ipam);
        let records: Vec<Record> =
            held.network.spec.subnets().flat_map(|subnet| ipam.release_subnet(&subnet.pool)).collect();
        self.commit(&mut ipam, &records)?;
        Ok(true)
    }

    /// Removes the endpoints that are in no sandbox. The engine creates a network before any endpoint of it, so
    /// none can be under way.
    pub(super) fn forget_dead(&self, held: &mut Held) {
        let dead: Vec<Endpoint> = held.endpoints.values().filter(|endpoint| !self.is_live(endpoint)).cloned().collect();
        for endpoint in dead {
            tracing::info!(network = %held.network.spec.id, endpoint = %endpoint.spec.id, "the engine asks for the network anew, an endpoint without sandbox is removed");
            held.endpoints.remove(&endpoint.spec.id);
            count(&self.counts.endpoints_buried, 1);
            if let Err(error) = self.remove_endpoint(&held.network, &endpoint, &Holder::Stale) {
                tracing::error!(%error, endpoint = %endpoint.spec.id, "its record stays in the ledger");
            }
        }
    }

    /// Whether it is in a sandbox; if the kernel cannot tell, it counts as live.
    fn is_live(&self, endpoint: &Endpoint) -> bool {
        endpoint.phase != Phase::Ready && !matches!(self.presence(endpoint), Ok(Presence::Gone | Presence::OnHost))
    }

    /// Changes the settings of a network with live endpoints, which keep theirs. The old tunnel stays until the
    /// new one replaces it; after an error everything is as before.
    pub(super) fn change_network(&self, held: &mut Held, spec: NetworkSpec) -> Result<Empty, Error> {
        let old = held.network.clone();
        // A network that has no bridge, or is to have none, cannot move under its endpoints.
        let bridges = spec.options.kind.has_bridge() && old.spec.options.kind.has_bridge();
        if !bridges || spec.options.bridge_name != old.spec.options.bridge_name {
            return Err(Error::NetworkDiffers { network: spec.id, endpoints: held.endpoints.len() });
        }
        let pools: Vec<_> = spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, held, owner)) = self.table.claim_subnets(&spec.id, &pools) {
            return Err(Error::SubnetOverlap { subnet, held, owner });
        }
        // The containers and the other hosts already use it.
        let chosen = spec.options.mtu.or(old.spec.options.mtu);
        let keeps = chosen.is_none() && old.kind.overlay().is_some();
        let claimed = self.spans_hosts(&spec).and_then(|spans| match spans {
            true => self
                .claim_overlay(&spec, old.kind.overlay())
                .map(|(overlay, mtu)| (Some(overlay), if keeps { old.mtu } else { mtu })),
            false => Ok((None, spec.options.mtu.unwrap_or(old.mtu))),
        });
        let (overlay, mtu) = claimed.inspect_err(|_| self.take_subnets_back(&old))?;
        let network = Network { spec, mtu, kind: old.kind.with_overlay(overlay) };
        if let Err(error) = self.move_to(held, &old, &network) {
            self.put_back(held, &old, &network);
            return Err(error);
        }
        if network.kind.overlay().is_none() {
            self.lower_tunnel(&old);
            self.release_overlay(&old);
        }
        tracing::info!(network = %old.spec.id, endpoints = held.endpoints.len(), "network changed under its endpoints");
        held.network = network;
        Ok(Empty {})
    }

    fn move_to(&self, held: &Held, old: &Network, network: &Network) -> Result<(), Error> {
        let failed = |source| Error::Kernel { object: format!("network {}", network.spec.id), source };
        {
            let mut ipam = lock(&self.ipam);
            let mut records = vec![Record::Network(Box::new(network.clone()))];
            records.extend(ipam.claim(network));
            self.commit(&mut ipam, &records)?;
        }
        self.realise(&kind::network(old), &kind::network(network)).map_err(failed)?;
        for endpoint in held.endpoints.values() {
            self.realise(&kind::endpoint(old, endpoint), &kind::endpoint(network, endpoint)).map_err(failed)?;
        }
        self.raise_tunnel(network).map_err(failed)
    }

    /// Rolls a network back after a failed change. Kernel errors are left to the next reconciliation.
    fn put_back(&self, held: &Held, old: &Network, network: &Network) {
        self.take_subnets_back(old);
        {
            let mut ipam = lock(&self.ipam);
            let mut records = vec![Record::Network(Box::new(old.clone()))];
            records.extend(ipam.claim(old));
            if let Err(error) = self.commit_end(&mut ipam, records) {
                tracing::error!(%error, network = %old.spec.id, "its record is written later");
            }
        }
        let mut undone = self.reconciler.replace(&kind::network(network), &kind::network(old));
        for endpoint in held.endpoints.values() {
            let before = kind::endpoint(network, endpoint);
            undone = undone.and(self.reconciler.replace(&before, &kind::endpoint(old, endpoint)));
        }
        if old.kind.overlay().is_none() {
            self.lower_tunnel(network);
            self.release_overlay(network);
        }
        if let Err(error) = undone.and(self.raise_tunnel(old)) {
            tracing::warn!(%error, network = %old.spec.id, "what a network was is left to the next comparison");
            self.schedule_maintenance();
        }
    }

    fn take_subnets_back(&self, network: &Network) {
        let pools: Vec<_> = network.spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, other, owner)) = self.table.claim_subnets(&network.spec.id, &pools) {
            tracing::warn!(network = %network.spec.id, %subnet, %other, %owner, "another network took this subnet meanwhile");
        }
    }
}
