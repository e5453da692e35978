//! Owns what becomes of a network of the Swarm after its engine crashed. The engine keeps neither
//! those networks nor their endpoints: it asks for the network again, with the settings of now,
//! and never says a word of the endpoints of before (protocol.md 5.5).

use super::{Driver, Error, count};
use crate::api::Empty;
use crate::datapath::desired;
use crate::model::{Endpoint, LinkRole, Network, NetworkSpec, Phase};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, LinkOwner, lock};

impl Driver {
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
        let network = self.promise_change(&old, &spec).inspect_err(|_| self.go_on_with(&old))?;
        held.network = network.clone();
        // All of it is wanted from here on, so each part is asked for whatever becomes of the one
        // before: what the kernel refuses now is left to the next comparison.
        let mut done = self.realise(&desired::network(&old), &desired::network(&network));
        for endpoint in held.endpoints.values() {
            let (before, after) = (desired::endpoint(&old, endpoint), desired::endpoint(&network, endpoint));
            done = done.and(self.realise(&before, &after));
        }
        done.and(self.raise_tunnel(&network)).map_err(failed)?;
        tracing::info!(network = %spec.id, endpoints = held.endpoints.len(), "network changed under its endpoints");
        Ok(Empty {})
    }

    /// Takes what the new settings need, and writes them down.
    fn promise_change(&self, old: &Network, spec: &NetworkSpec) -> Result<Network, Error> {
        let (overlay, mtu) = match self.spans_hosts(spec)? {
            true => self.claim_overlay(spec).map(|(overlay, mtu)| (Some(overlay), mtu))?,
            false => (None, spec.options.mtu.unwrap_or(old.mtu)),
        };
        let network = Network { spec: spec.clone(), mtu, overlay, ..old.clone() };
        let mut ipam = lock(&self.ipam);
        let mut records = vec![Record::Network(Box::new(network.clone()))];
        records.extend(ipam.claim(&network));
        let written = self.commit(&mut ipam, &records);
        drop(ipam);
        written.inspect_err(|_| self.release_overlay(&network))?;
        Ok(network)
    }

    /// The old settings hold after all.
    fn go_on_with(&self, old: &Network) {
        let id = &old.spec.id;
        let pools: Vec<_> = old.spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, _, owner)) = self.table.claim_subnets(id, &pools) {
            tracing::warn!(network = %id, %subnet, %owner, "another network took this subnet meanwhile");
        }
        if let Some(overlay) = &old.overlay {
            self.table.claim_link(LinkRole::Vxlan, id.as_str(), LinkOwner::Network(id.clone()));
            self.mesh().vnis.carry(overlay.vni, id);
        }
        if let Err(error) = self.raise_tunnel(old) {
            tracing::warn!(%error, network = %id, "the tunnel is left to the next comparison");
            self.call_attention();
        }
    }
}
