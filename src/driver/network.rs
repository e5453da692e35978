//! The network verbs: gw_alloc_check, create_network, delete_network.

use super::{Driver, Error, sanity, spec};
use crate::api::Empty;
use crate::api::network::{
    CapabilitiesResponse, CreateNetworkRequest, GwAllocCheckRequest, GwAllocCheckResponse, NetworkRequest,
};
use crate::datapath::{Datapath, kind};
use crate::model::{GatewayMode, Mac, Network, NetworkId};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, lock};

impl Driver {
    /// NetworkDriver.GetCapabilities. Pure, and must never fail: after one failure an engine does not register
    /// the driver until the engine is restarted (protocol.md 1.3).
    pub fn get_capabilities(&self) -> CapabilitiesResponse {
        self.overlay.capabilities()
    }

    /// GwAllocCheck: a network whose bridge has no address needs no gateway.
    pub fn gw_alloc_check(&self, request: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Error> {
        let (options, internal) = spec::network_options(&request.options)?;
        let bridge = options.kind.has_bridge();
        Ok(GwAllocCheckResponse {
            skip_ipv4: !bridge || internal && (options.inhibit_ipv4 || options.mode4 == GatewayMode::Isolated),
            skip_ipv6: !bridge || internal && options.mode6 == GatewayMode::Isolated,
        })
    }

    /// CreateNetwork. A known id with the same settings is success; with other settings the network is replaced
    /// as long as nothing is attached. In a Swarm a known id means that the engine crashed, and always succeeds
    /// (protocol.md 5.5): see `forget_dead` and `change_network`.
    pub fn create_network(&self, request: CreateNetworkRequest) -> Result<Empty, Error> {
        let spec = spec::network(&request)?;
        let slot = self.table.slot(&spec.id);
        let mut place = lock(&slot);
        if let Some(held) = place.as_mut() {
            let of_swarm = self.is_of_swarm(&spec.id);
            if of_swarm {
                self.forget_dead(held);
            }
            self.remember_asked(&spec.id);
            if held.network.spec == spec {
                let desired = kind::network(&held.network);
                return self.made(&held.network, &desired, &desired).map(|()| Empty {});
            }
            if !held.endpoints.is_empty() && of_swarm {
                return self.change_network(held, spec);
            }
            if !held.endpoints.is_empty() {
                return Err(Error::NetworkDiffers { network: spec.id, endpoints: held.endpoints.len() });
            }
            let old = held.network.clone();
            *place = None;
            self.unmake(&old)?;
        }
        let created = sanity::network(&spec).map_err(Error::from).and_then(|()| self.claim_from_stale(&spec)).and_then(
            |network| {
                self.make(&network).inspect_err(|_| self.release(&network))?;
                Ok(network)
            },
        );
        match created {
            Ok(network) => {
                for idle in sanity::without_effect(&spec) {
                    tracing::warn!(network = %spec.id, "an option has no effect: {idle}");
                }
                tracing::info!(network = %spec.id, link = %network.kind.link(), mtu = network.mtu, "network created");
                self.remember_asked(&spec.id);
                *place = Some(Held { network, endpoints: Default::default() });
                Ok(Empty {})
            }
            Err(error) => {
                drop(place);
                drop(slot);
                self.table.forget_if_empty(&spec.id);
                Err(error)
            }
        }
    }

    /// DeleteNetwork. An unknown network is success; endpoints that the engine forgot are removed with it.
    pub fn delete_network(&self, request: NetworkRequest) -> Result<Empty, Error> {
        let id = NetworkId::parse(&request.network_id)?;
        let Some(slot) = self.table.find(&id) else {
            self.unknown_ended(["bridge", "vxlan"].map(|link| Mac::derive(link, id.as_str())));
            return Ok(Empty {});
        };
        let mut place = lock(&slot);
        let done = place.take().map_or(Ok(()), |held| self.remove_network(&held));
        drop(place);
        self.table.forget_if_empty(&id);
        done.map(|()| Empty {})
    }

    /// Removes a network that was taken out of its slot, with all its endpoints.
    pub(super) fn remove_network(&self, held: &Held) -> Result<(), Error> {
        let id = &held.network.spec.id;
        let mut done = Ok(());
        for endpoint in held.endpoints.values() {
            tracing::warn!(network = %id, endpoint = %endpoint.spec.id, "an endpoint was left in a deleted network");
            done = done.and(self.remove_endpoint(&held.network, endpoint, &Holder::Stale));
        }
        done = done.and(self.unmake(&held.network));
        tracing::info!(network = %id, link = %held.network.kind.link(), "network deleted");
        done
    }

    /// Writes the ledger first, then changes the kernel; if the kernel refuses, the record is removed again.
    fn make(&self, network: &Network) -> Result<(), Error> {
        {
            let mut ipam = lock(&self.ipam);
            let mut records = vec![Record::Network(Box::new(network.clone()))];
            records.extend(ipam.claim(network));
            self.commit(&mut ipam, &records)?;
        }
        let after = kind::network(network);
        let failed = |source| Error::Kernel { object: format!("network {}", network.spec.id), source };
        let made =
            self.made(network, &Datapath::empty(), &after).and_then(|()| self.raise_tunnel(network).map_err(failed));
        if made.is_err() {
            self.undo(network, &after);
        }
        made
    }

    fn made(&self, network: &Network, before: &Datapath, after: &Datapath) -> Result<(), Error> {
        let failed = |source| Error::Kernel { object: format!("network {}", network.spec.id), source };
        if before == after {
            // A repeated request: reconciliation finds whatever is missing.
            return self.reconciler.reconcile().whole().map(|_| ()).map_err(failed);
        }
        self.realise(before, after).map_err(failed)?;
        if network.kind.bridge().is_some_and(|bridge| !bridge.has_prefix()) {
            // Rules in a foreign chain are replaced as a whole, so they are compared as a whole.
            self.reconciler.reconcile_firewall().whole().map_err(failed)?;
        }
        Ok(())
    }

    fn undo(&self, network: &Network, after: &Datapath) {
        let id = network.spec.id.clone();
        let _ = self.commit_end(&mut lock(&self.ipam), vec![Record::NoNetwork { id: id.clone() }]);
        self.lower_tunnel(network);
        if let Err(error) = self.reconciler.replace(after, &Datapath::empty()) {
            tracing::warn!(%error, network = %id, "what was made of a network is left to the next comparison");
            self.schedule_maintenance();
        }
    }

    /// Removes a network without endpoints from the ledger and the kernel. Kernel errors are logged and left to
    /// the next reconciliation: for the engine the network is gone either way. Even after an error it is gone.
    ///
    /// The order differs from that of an endpoint: the next process finds all remains of a network by
    /// reconciliation, and the engine never repeats the request if this process ends here.
    fn unmake(&self, network: &Network) -> Result<(), Error> {
        let id = &network.spec.id;
        let written = self.commit_end(&mut lock(&self.ipam), vec![Record::NoNetwork { id: id.clone() }]);
        self.lower_tunnel(network);
        if let Err(error) = self.reconciler.replace(&kind::network(network), &Datapath::empty()) {
            tracing::warn!(%error, network = %id, "the rest of a deleted network is left to the next comparison");
            self.schedule_maintenance();
        }
        if network.kind.bridge().is_some_and(|bridge| !bridge.has_prefix())
            && let Err(error) = self.reconciler.reconcile_firewall().whole()
        {
            tracing::warn!(%error, network = %id, "rules of a deleted network are left to the next comparison");
            self.schedule_maintenance();
        }
        self.release(network);
        written
    }
}
