//! Handles networks of the Swarm after a crash of the engine. The engine persists neither those networks nor
//! their endpoints: it creates the network again, with the current settings, and never mentions the earlier
//! endpoints (protocol.md 5.5).

use ipnetwork::IpNetwork;

use crate::datapath::kind::Presence;
use crate::driver::{Driver, Error};
use crate::model::{Endpoint, Network, NetworkId, NetworkOptions, NetworkSpec, Phase};
use crate::state::record::Record;
use crate::state::table::Held;

impl Driver {
    /// Forgets the network of the Swarm that has this subnet, with its pools, if it has no live endpoint;
    /// returns whether there was one. The engine requests a pool that is already allocated: it crashed, and is
    /// about to create the network again, or a successor with the same subnet. If this request failed, this host
    /// could never join that network again.
    pub(in crate::driver) fn forget_network_of(&self, subnet: &IpNetwork) -> Result<bool, Error> {
        match self.networks.table.subnet_owner(subnet) {
            Some(id) => self.forget_stale(&id),
            None => Ok(false),
        }
    }

    /// Reserves what a network needs. Takes over resources (subnet, bridge name, VNI) that a stale network of
    /// the Swarm holds: two networks of a Swarm never share one of those, so that network was removed while the
    /// engine was down.
    pub(in crate::driver) fn claim_from_stale(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        loop {
            let error = match self.claim(spec) {
                Err(error) if self.overlays.is_of_swarm(&spec.id) => error,
                result => return result,
            };
            let owner = match &error {
                Error::SubnetOverlap { owner, .. }
                | Error::BridgeTaken { owner, .. }
                | Error::LinkTerms { owner, .. }
                | Error::VniTaken { owner, .. } => owner.clone(),
                _ => return Err(error),
            };
            if !self.forget_stale(&owner)? {
                return Err(error);
            }
        }
    }

    /// Removes a network of the Swarm with its pools if it has no live endpoint and the engine has not just
    /// asked for it; returns whether it did. A network with a verb under way is not stale.
    fn forget_stale(&self, id: &NetworkId) -> Result<bool, Error> {
        if !self.overlays.is_of_swarm(id) || self.networks.recently_requested(id) {
            return Ok(false);
        }
        let Some(slot) = self.networks.table.find(id) else { return Ok(false) };
        let held = {
            let Ok(mut place) = slot.try_lock() else { return Ok(false) };
            let lives = |held: &Held| held.endpoints.values().any(|endpoint| self.is_live(endpoint));
            if place.as_ref().is_none_or(lives) {
                return Ok(false);
            }
            let Some(held) = place.take() else { return Ok(false) };
            tracing::warn!(network = %id, "removing a network of the Swarm: another network uses its subnet, bridge or VNI");
            // Removed while the slot is locked: a concurrent request for the network waits.
            self.remove_network(&held)?;
            held
        };
        drop(slot);
        self.networks.table.forget_if_empty(id);
        let mut index = self.addresses.lock();
        let vlan = held.network.spec.options.vlan;
        let records: Vec<Record> =
            held.network.spec.subnets().flat_map(|subnet| index.release_subnet(&subnet.pool, vlan)).collect();
        index.commit(&records)?;
        Ok(true)
    }

    /// Removes the endpoints that are in no sandbox. The engine creates a network before any endpoint of it, so
    /// none can be under way.
    pub(in crate::driver) fn forget_dead(&self, held: &mut Held) {
        let dead: Vec<Endpoint> = held.endpoints.values().filter(|endpoint| !self.is_live(endpoint)).cloned().collect();
        for endpoint in dead {
            tracing::info!(network = %held.network.spec.id, endpoint = %endpoint.spec.id, "reaped an endpoint: the engine creates its network again, and it is in no sandbox");
            held.endpoints.remove(&endpoint.spec.id);
            self.remove_reaped(&held.network, &endpoint);
        }
    }

    /// Whether it is in a sandbox; if the kernel cannot tell, it counts as live.
    fn is_live(&self, endpoint: &Endpoint) -> bool {
        endpoint.phase != Phase::Ready && !matches!(self.presence(endpoint), Ok(Presence::Gone | Presence::OnHost))
    }

    /// Changes the settings of a network with live endpoints, which keep theirs. The old tunnel stays until the
    /// new one replaces it; after an error everything is as before.
    pub(in crate::driver) fn change_network(&self, held: &mut Held, spec: NetworkSpec) -> Result<(), Error> {
        let old = held.network.clone();
        // A network that has no bridge, or is to have none, cannot move under its endpoints.
        let bridges = spec.options.kind.has_bridge() && old.spec.options.kind.has_bridge();
        let stays = |options: &NetworkOptions| (options.bridge_name.clone(), options.vlan);
        if !bridges || stays(&spec.options) != stays(&old.spec.options) {
            return Err(Error::NetworkDiffers { network: spec.id, endpoints: held.endpoints.len() });
        }
        self.networks.claim_subnets(&spec)?;
        // The containers and the other hosts already use it.
        let chosen = spec.options.mtu.or(old.spec.options.mtu);
        let keeps = chosen.is_none() && old.kind.overlay().is_some();
        let claimed = self.overlays.spans_hosts(&spec).and_then(|spans| match spans {
            true => self
                .claim_overlay(&spec, old.kind.overlay())
                .map(|(overlay, mtu)| (Some(overlay), if keeps { old.mtu } else { mtu })),
            false => Ok((None, spec.options.mtu.unwrap_or(old.mtu))),
        });
        let (overlay, mtu) = claimed.inspect_err(|_| self.reclaim_subnets(&old))?;
        let network = Network { spec, mtu, kind: old.kind.with_overlay(overlay), stored: old.stored.clone() };
        if let Err(error) = self.apply_change(held, &old, &network) {
            self.roll_back(held, &old, &network);
            return Err(error);
        }
        if network.kind.overlay().is_none() {
            self.overlays.delete_tunnel(&old);
            self.release_overlay(&old);
        }
        tracing::info!(network = %old.spec.id, endpoints = held.endpoints.len(), "network changed under its endpoints");
        held.network = network;
        Ok(())
    }

    fn apply_change(&self, held: &Held, old: &Network, network: &Network) -> Result<(), Error> {
        let failed = |source| Error::of_network(&network.spec.id, source);
        {
            let mut index = self.addresses.lock();
            let mut records = vec![Record::Network(Box::new(network.clone()))];
            records.extend(index.claim(network));
            index.commit(&records)?;
        }
        self.change_all(&held.of(old), &held.of(network)).map_err(failed)?;
        self.overlays.create_tunnel(network).map_err(failed)
    }

    /// Rolls a network back after a failed change. Kernel errors are left to the next reconciliation.
    fn roll_back(&self, held: &Held, old: &Network, network: &Network) {
        self.reclaim_subnets(old);
        {
            let mut index = self.addresses.lock();
            let mut records = vec![Record::Network(Box::new(old.clone()))];
            records.extend(index.claim(old));
            // The journal logs an error and retries.
            let _ = index.commit_or_defer(records);
        }
        let undone = self.change_all(&held.of(network), &held.of(old)).map(drop);
        if old.kind.overlay().is_none() {
            self.overlays.delete_tunnel(network);
            self.release_overlay(network);
        }
        if let Err(error) = undone.and(self.overlays.create_tunnel(old)) {
            self.applier.defer(&error, "roll back a change", format_args!("network {}", old.spec.id));
        }
    }

    fn reclaim_subnets(&self, network: &Network) {
        if let Err(error) = self.networks.claim_subnets(&network.spec) {
            tracing::warn!(%error, network = %network.spec.id, "cannot reserve the earlier subnets again: another network took one");
        }
    }
}
