//! Owns the verbs of networks: gw_alloc_check, create_network, delete_network.

use super::unread::Affected;
use super::{Driver, Error, sanity, spec};
use crate::api::Empty;
use crate::api::network::{
    CapabilitiesResponse, CreateNetworkRequest, GwAllocCheckRequest, GwAllocCheckResponse, NetworkRequest,
};
use crate::datapath::{Datapath, desired};
use crate::model::options;
use crate::model::{GatewayMode, LinkRole, Mac, Network, NetworkId, NetworkSpec};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, LinkOwner, lock};

/// MTU when there is no default route to learn it from.
const ETHERNET_MTU: u32 = 1500;

impl Driver {
    /// NetworkDriver.GetCapabilities. Pure, and must never fail: an engine that once saw it fail
    /// does not register the driver until it is restarted (protocol.md 1.3).
    pub fn get_capabilities(&self) -> CapabilitiesResponse {
        self.overlay.capabilities()
    }

    /// GwAllocCheck: a network without a bridge address needs no gateway.
    pub fn gw_alloc_check(&self, request: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Error> {
        let (options, internal) = spec::network_options(&request.options)?;
        Ok(GwAllocCheckResponse {
            skip_ipv4: internal && (options.inhibit_ipv4 || options.mode4 == GatewayMode::Isolated),
            skip_ipv6: internal && options.mode6 == GatewayMode::Isolated,
        })
    }

    /// CreateNetwork. A known id with the same settings is success; with other settings it is
    /// replaced as long as nothing is attached. In a Swarm a known id means that the engine
    /// crashed, and always succeeds (protocol.md 5.5): see `forget_dead` and `change_network`.
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
                let desired = desired::network(&held.network);
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
                tracing::info!(network = %spec.id, bridge = %network.bridge, mtu = network.mtu, "network created");
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

    /// DeleteNetwork. Unknown is success; endpoints that the engine forgot go with it.
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

    /// Removes a network that was taken out of its place, with all endpoints in it.
    pub(super) fn remove_network(&self, held: &Held) -> Result<(), Error> {
        let id = &held.network.spec.id;
        let mut done = Ok(());
        for endpoint in held.endpoints.values() {
            tracing::warn!(network = %id, endpoint = %endpoint.spec.id, "an endpoint was left in a deleted network");
            done = done.and(self.remove_endpoint(&held.network, endpoint, &Holder::Stale));
        }
        done = done.and(self.unmake(&held.network));
        tracing::info!(network = %id, bridge = %held.network.bridge, "network deleted");
        done
    }

    /// Takes bridge name and subnets, and finds out what the host must tell.
    pub(super) fn claim(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        let kernel = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        self.check_settings(&[Affected::Networks], || format!("network {}", spec.id))?;
        let owner = LinkOwner::Network(spec.id.clone());
        let (bridge, found) = match &spec.options.bridge_name {
            None => (self.table.claim_link(LinkRole::Bridge, spec.id.as_str(), owner), None),
            Some(name) => {
                let found = self.kernel().link(name).map_err(kernel)?;
                if let Some(link) = &found
                    && link.kind != "bridge"
                {
                    let kind = if link.kind.is_empty() { "physical".to_owned() } else { link.kind.clone() };
                    return Err(Error::NotABridge { name: name.clone(), kind });
                }
                self.table.claim_named_link(name, owner).map_err(|other| {
                    let (LinkOwner::Network(owner) | LinkOwner::Endpoint(owner, _)) = other;
                    Error::BridgeTaken { bridge: name.clone(), owner }
                })?;
                (name.clone(), found)
            }
        };
        // A bridge in our group is the leftover of a life whose ledger is gone: ours to shape.
        let owns_bridge = found
            .as_ref()
            .is_none_or(|link| matches!(link.group, crate::datapath::GROUP_LIVE | crate::datapath::GROUP_DEAD));
        let release = |error| {
            self.table.release_link(&bridge);
            Err(error)
        };
        if let Some(option) = spec.options.needs_rules().filter(|_| !owns_bridge) {
            return release(Error::ForeignBridge { bridge: bridge.clone(), option });
        }
        if let Some(error) = self.unforwarded(spec).filter(|_| owns_bridge) {
            return release(error);
        }
        if let Err(error) = self.check_unknown(spec) {
            return release(error);
        }
        if let Some(error) = if owns_bridge { self.endangers_host(spec).unwrap_or_else(Some) } else { None } {
            return release(error);
        }
        let pools: Vec<_> = spec.subnets().map(|subnet| subnet.pool).collect();
        if let Err((subnet, held, owner)) = self.table.claim_subnets(&spec.id, &pools) {
            return release(Error::SubnetOverlap { subnet, held, owner });
        }
        let overlay = self.spans_hosts(spec).and_then(|spans| match spans {
            true if !owns_bridge => Err(Error::ForeignBridge { bridge: bridge.clone(), option: options::VNI }),
            true => self.claim_overlay(spec, None).map(Some),
            false => Ok(None),
        });
        let overlay = overlay.inspect_err(|_| {
            self.table.release_subnets(&spec.id);
            self.table.release_link(&bridge);
        })?;
        if let Some((overlay, mtu)) = overlay {
            return Ok(Network { spec: spec.clone(), bridge, owns_bridge, mtu, overlay: Some(overlay) });
        }
        let mtu = match (spec.options.mtu, &found) {
            (Some(mtu), _) => mtu,
            // Ports of a larger MTU would lower nothing but lose frames on the user's bridge.
            (None, Some(link)) if !owns_bridge => link.mtu,
            (None, _) => match self.kernel().uplink_mtu() {
                Ok(mtu) => mtu.unwrap_or(ETHERNET_MTU).clamp(68, 65535),
                Err(error) => {
                    self.table.release_subnets(&spec.id);
                    return release(kernel(error));
                }
            },
        };
        Ok(Network { spec: spec.clone(), bridge, owns_bridge, mtu, overlay: None })
    }

    /// Why a network cannot be: it needs forwarding, which is off and is to stay so.
    fn unforwarded(&self, spec: &NetworkSpec) -> Option<Error> {
        if self.reconciler.opens() {
            return None;
        }
        let (need, (have, _)) = (desired::forwarding(spec), self.kernel().forwarding());
        let families = [
            (need.v4 && !have.v4, "IPv4", "net.ipv4.ip_forward"),
            (need.v6 && !have.v6, "IPv6", "net.ipv6.conf.all.forwarding"),
        ];
        let (_, family, setting) = families.into_iter().find(|(missing, ..)| *missing)?;
        Some(Error::Unforwarded { network: spec.id.clone(), family, setting })
    }

    /// Why the bridge of a network would cut the host off. Who chose the subnet is not told: a Swarm does
    /// so without a look at its hosts. A name server may be a container of the network, where the user
    /// chose; a Swarm's own choice must not hold one either.
    fn endangers_host(&self, spec: &NetworkSpec) -> Result<Option<Error>, Error> {
        let options = &spec.options;
        let v4 = spec.v4.iter().filter(|_| !options.inhibit_ipv4 && options.mode4 != GatewayMode::Isolated);
        let v6 = spec.v6.iter().filter(|_| options.mode6 != GatewayMode::Isolated);
        let routed: Vec<_> = v4.chain(v6).filter(|subnet| subnet.gateway_net().is_some()).collect();
        if routed.is_empty() {
            return Ok(None);
        }
        let kernel = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        let around = self.kernel().surroundings().map_err(kernel)?;
        let resolvers = if self.is_of_swarm(&spec.id) { (self.resolvers)() } else { Vec::new() };
        let found =
            routed.iter().find_map(|subnet| Some((subnet.pool, around.endangered_by(&subnet.pool, &resolvers)?)));
        Ok(found.map(|(subnet, what)| Error::Endangers { network: spec.id.clone(), subnet, what }))
    }

    fn release(&self, network: &Network) {
        self.table.release_subnets(&network.spec.id);
        self.table.release_link(&network.bridge);
        self.release_overlay(network);
    }

    /// Ledger first, then the kernel; a kernel that refuses takes the record back.
    fn make(&self, network: &Network) -> Result<(), Error> {
        {
            let mut ipam = lock(&self.ipam);
            let mut records = vec![Record::Network(Box::new(network.clone()))];
            records.extend(ipam.claim(network));
            self.commit(&mut ipam, &records)?;
        }
        let after = desired::network(network);
        let failed = |source| Error::Kernel { object: format!("network {}", network.spec.id), source };
        let made = self.made(network, &nothing(), &after).and_then(|()| self.raise_tunnel(network).map_err(failed));
        if made.is_err() {
            self.undo(network, &after);
        }
        made
    }

    fn made(&self, network: &Network, before: &Datapath, after: &Datapath) -> Result<(), Error> {
        let failed = |source| Error::Kernel { object: format!("network {}", network.spec.id), source };
        if before == after {
            // A repeated request: whatever is missing is found by looking.
            return self.reconciler.reconcile().whole().map(|_| ()).map_err(failed);
        }
        self.realise(before, after).map_err(failed)?;
        if !network.bridge.has_prefix() {
            // Rules in a foreign chain are replaced as a whole, so they are compared as a whole.
            self.reconciler.reconcile_firewall().whole().map_err(failed)?;
        }
        Ok(())
    }

    fn undo(&self, network: &Network, after: &Datapath) {
        let id = network.spec.id.clone();
        let _ = self.commit_end(&mut lock(&self.ipam), vec![Record::NoNetwork { id: id.clone() }]);
        self.lower_tunnel(network);
        if let Err(error) = self.reconciler.replace(after, &nothing()) {
            tracing::warn!(%error, network = %id, "what was made of a network is left to the next comparison");
            self.call_attention();
        }
    }

    /// Takes a network without endpoints out of the ledger and the kernel. Kernel errors are
    /// logged and left to the next comparison: for the engine the network is gone either way.
    /// After an error it is gone all the same.
    ///
    /// In this order, other than with an endpoint: the next life finds everything there is of a
    /// network by comparing, and the engine never repeats the request if this life ends here.
    fn unmake(&self, network: &Network) -> Result<(), Error> {
        let id = &network.spec.id;
        let written = self.commit_end(&mut lock(&self.ipam), vec![Record::NoNetwork { id: id.clone() }]);
        self.lower_tunnel(network);
        if let Err(error) = self.reconciler.replace(&desired::network(network), &nothing()) {
            tracing::warn!(%error, network = %id, "the rest of a deleted network is left to the next comparison");
            self.call_attention();
        }
        if !network.bridge.has_prefix()
            && let Err(error) = self.reconciler.reconcile_firewall().whole()
        {
            tracing::warn!(%error, network = %id, "rules of a deleted network are left to the next comparison");
            self.call_attention();
        }
        self.release(network);
        written
    }
}

/// A datapath without any object, with the table in place: what a network is made from.
pub(super) fn nothing() -> Datapath {
    Datapath { elements: Some(Default::default()), shortcuts: Some(Default::default()), ..Datapath::default() }
}
