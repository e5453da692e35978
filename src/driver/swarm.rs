//! Owns what becomes of a network of the Swarm after its engine crashed. The engine keeps neither
//! those networks nor their endpoints: it asks for the network again, with the settings of now,
//! and never says a word of the endpoints of before (protocol.md 5.5).

use ipnetwork::IpNetwork;

use super::{Driver, Error, count};
use crate::api::Empty;
use crate::api::network::NetworkRequest;
use crate::datapath::desired;
use crate::model::{Endpoint, Network, NetworkId, NetworkSpec, Phase, Scope};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, lock};

impl Driver {
    /// Whether a network is the Swarm's, which means that its engine keeps nothing of it.
    pub(super) fn is_of_swarm(&self, id: &NetworkId) -> bool {
        self.overlay.scope == Scope::Global || id.is_of_swarm()
    }

    /// Forgets the network of the Swarm that has this subnet, with its pools, if nothing on it
    /// lives; whether there was one. The engine asks for the pool as if nobody had it: it crashed,
    /// and is about to make the network anew. Refused, this host would never again be part of it.
    pub(super) fn forget_network_of(&self, subnet: &IpNetwork) -> Result<bool, Error> {
        let Some(id) = self.table.subnet_owner(subnet).filter(|id| self.is_of_swarm(id)) else { return Ok(false) };
        let Some(slot) = self.table.find(&id) else { return Ok(false) };
        let subnets: Vec<IpNetwork> = match lock(&slot).as_ref() {
            Some(held) if !held.endpoints.values().any(|endpoint| self.is_live(endpoint)) => {
                held.network.spec.subnets().map(|subnet| subnet.pool).collect()
            }
            _ => return Ok(false),
        };
        tracing::info!(network = %id, %subnet, "the engine asks for this subnet anew, its network of before is removed");
        self.delete_network(NetworkRequest { network_id: id.as_str().to_owned() })?;
        let mut ipam = lock(&self.ipam);
        let records: Vec<Record> = subnets.iter().flat_map(|subnet| ipam.release_subnet(subnet)).collect();
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

    /// Whether it is in a sandbox: its host end is there and its other end is not. When the kernel
    /// does not say, it counts as live.
    fn is_live(&self, endpoint: &Endpoint) -> bool {
        endpoint.phase != Phase::Ready
            && !matches!(self.kernel().link(&endpoint.host), Ok(None))
            && !matches!(self.kernel().link(&endpoint.peer), Ok(Some(_)))
    }

    /// Gives a network other settings under endpoints that live, which keep what they have.
    pub(super) fn change_network(&self, held: &mut Held, spec: NetworkSpec) -> Result<Empty, Error> {
        let old = held.network.clone();
        let failed = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        if spec.options.bridge_name != old.spec.options.bridge_name {
            return Err(Error::NetworkDiffers { network: spec.id, endpoints: held.endpoints.len() });
        }
        let pools: Vec<_> = spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, held, owner)) = self.table.claim_subnets(&spec.id, &pools) {
            return Err(Error::SubnetOverlap { subnet, held, owner });
        }
        self.lower_tunnel(&old);
        self.release_overlay(&old);
        let (overlay, mtu) = match self.spans_hosts(&spec)? {
            true => self.claim_overlay(&spec).map(|(overlay, mtu)| (Some(overlay), mtu))?,
            false => (None, spec.options.mtu.unwrap_or(old.mtu)),
        };
        let network = Network { spec: spec.clone(), mtu, overlay, ..old.clone() };
        {
            let mut ipam = lock(&self.ipam);
            let mut records = vec![Record::Network(Box::new(network.clone()))];
            records.extend(ipam.claim(&network));
            self.commit(&mut ipam, &records)?;
        }
        held.network = network.clone();
        self.realise(&desired::network(&old), &desired::network(&network)).map_err(failed)?;
        for endpoint in held.endpoints.values() {
            self.realise(&desired::endpoint(&old, endpoint), &desired::endpoint(&network, endpoint)).map_err(failed)?;
        }
        self.raise_tunnel(&network).map_err(failed)?;
        tracing::info!(network = %spec.id, endpoints = held.endpoints.len(), "network changed under its endpoints");
        Ok(Empty {})
    }
}
