//! Owns what becomes of a network of the Swarm after its engine crashed. The engine keeps neither
//! those networks nor their endpoints: it asks for the network again, with the settings of now,
//! and never says a word of the endpoints of before (protocol.md 5.5).

use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::{Driver, Error, count};
use crate::api::Empty;
use crate::datapath::kind::{self, Presence};
use crate::model::{Endpoint, Network, NetworkId, NetworkSpec, Phase, Scope};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, lock};

/// How long the engine may take from asking for a network to its first endpoint, as far as somebody
/// else wants what the network has.
const UNDER_WAY: Duration = Duration::from_secs(30);

impl Driver {
    /// Whether a network is the Swarm's, which means that its engine keeps nothing of it.
    pub(super) fn is_of_swarm(&self, id: &NetworkId) -> bool {
        self.overlay.scope == Scope::Global || id.is_of_swarm()
    }

    /// Forgets the network of the Swarm that has this subnet, with its pools, if nothing on it
    /// lives; whether there was one. The engine asks for the pool as if nobody had it: it crashed,
    /// and is about to make the network anew, or one that has come in its place. Refused, this host
    /// would never again be part of it.
    pub(super) fn forget_network_of(&self, subnet: &IpNetwork) -> Result<bool, Error> {
        match self.table.subnet_owner(subnet) {
            Some(id) => self.forget_stale(&id),
            None => Ok(false),
        }
    }

    /// Claims what a network needs. What a network of the Swarm has of it that is no more (its subnet,
    /// its bridge's name, its number) is taken from it: the Swarm has no two networks with one of those,
    /// so it was removed while the engine here was down.
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

    /// Notes that the engine asked for a network just now.
    pub(super) fn remember_asked(&self, id: &NetworkId) {
        let mut asked = lock(&self.asked);
        asked.retain(|_, at| at.elapsed() < UNDER_WAY);
        asked.insert(id.clone(), Instant::now());
    }

    /// Removes a network of the Swarm with its pools, if nothing on it lives and the engine has not
    /// just asked for it; whether it did. A network that a verb is busy with is not stale.
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
            // Removed while the place is locked: whoever asks for it again waits.
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

    /// Removes the endpoints that no sandbox has. The engine asks for a network before it makes
    /// an endpoint of it, so none can be under way.
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

    /// Whether it is in a sandbox: when the kernel does not say, it counts as live.
    fn is_live(&self, endpoint: &Endpoint) -> bool {
        endpoint.phase != Phase::Ready && !matches!(self.presence(endpoint), Ok(Presence::Gone | Presence::OnHost))
    }

    /// Gives a network other settings under endpoints that live, which keep what they have. The old
    /// tunnel stands until the new one takes its place; after an error all is as before.
    pub(super) fn change_network(&self, held: &mut Held, spec: NetworkSpec) -> Result<Empty, Error> {
        let old = held.network.clone();
        if spec.options.bridge_name != old.spec.options.bridge_name {
            return Err(Error::NetworkDiffers { network: spec.id, endpoints: held.endpoints.len() });
        }
        let pools: Vec<_> = spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, held, owner)) = self.table.claim_subnets(&spec.id, &pools) {
            return Err(Error::SubnetOverlap { subnet, held, owner });
        }
        // Containers have it already, and so have other hosts.
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

    /// Makes a network again what it was before a change that failed. What the kernel refuses is
    /// left to the next comparison.
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
            self.call_attention();
        }
    }

    fn take_subnets_back(&self, network: &Network) {
        let pools: Vec<_> = network.spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, other, owner)) = self.table.claim_subnets(&network.spec.id, &pools) {
            tracing::warn!(network = %network.spec.id, %subnet, %other, %owner, "another network took this subnet meanwhile");
        }
    }
}
