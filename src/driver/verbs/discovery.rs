//! The verbs about other nodes: discover_new, discover_delete, allocate_network and free_network. With local
//! connectivity they succeed without effect.

use std::net::IpAddr;

use crate::api::Empty;
use crate::api::network::{AllocateNetworkRequest, AllocateNetworkResponse, DiscoverRequest, NetworkRequest};
use crate::driver::settings::Affected;
use crate::driver::{Driver, Error, now, spec};
use crate::model::{NetworkId, Scope, options, overlay};
use crate::state::record::Record;

/// The only discovery type that engines pass on: a node.
const NODE: i64 = 1;

impl Driver {
    /// DiscoverNew: reports a node, or the address by which other nodes know this one. Engines send the latter
    /// even to local drivers (protocol.md 5.6).
    pub fn discover_new(&self, request: DiscoverRequest) -> Result<Empty, Error> {
        let Some((address, own)) = self.node(&request) else { return Ok(Empty {}) };
        let state = &mut *self.overlays.lock();
        if !own {
            let announced = state.peers.announced(address);
            if announced.is_some() {
                tracing::info!(peer = %address, "a peer joined");
            }
            self.overlays.record(state, announced.as_slice())?;
            return Ok(Empty {});
        }
        if state.advertised() != Some(address) {
            self.overlays.record(state, &[Record::OwnAddress { address }])?;
        }
        self.overlays
            .refresh_underlay(state)
            .map_err(|source| Error::Kernel { object: format!("own address {address}"), source })?;
        Ok(Empty {})
    }

    /// DiscoverDelete: a hint that a node left; see `state::peers` for how it is handled.
    pub fn discover_delete(&self, request: DiscoverRequest) -> Result<Empty, Error> {
        let Some((address, false)) = self.node(&request) else { return Ok(Empty {}) };
        let state = &mut *self.overlays.lock();
        let doubted = state.peers.doubted(address, now());
        if doubted.is_some() {
            tracing::info!(peer = %address, "Swarm reports that a peer left: keeping its tunnel until it is silent");
        }
        self.overlays.record(state, doubted.as_slice())?;
        Ok(Empty {})
    }

    /// AllocateNetwork: allocates the VNI of a Swarm network. Nodes only receive options that the answer echoes.
    /// Each new leading manager repeats the request for every network, with the earlier answer among the
    /// options. That answer then takes precedence: another manager may have reassigned the VNI, and this one is
    /// never told that its former owner is gone.
    pub fn allocate_network(&self, request: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Error> {
        if self.overlays.settings.scope == Scope::Local {
            NetworkId::parse(&request.network_id)?;
            return Ok(AllocateNetworkResponse { options: request.options });
        }
        let (id, options) = spec::allocation(&request)?;
        let mut echo = request.options;
        if !options.kind.has_bridge() {
            return Ok(AllocateNetworkResponse { options: echo });
        }
        let repeated = options.allocated.as_ref() == Some(&id);
        if !repeated && options.allocated.is_some() {
            return Err(Error::NotAllocated { network: id });
        }
        self.unusable.check(&[Affected::Networks, Affected::Overlays], || format!("network {id}"))?;
        let state = &mut *self.overlays.lock();
        let vni = options.vni.unwrap_or_else(|| state.vnis.choose(&id));
        if let Some(owner) = state.vnis.other_owner(vni, &id) {
            if !repeated {
                return Err(Error::VniTaken { vni, owner: owner.clone() });
            }
            tracing::warn!(%vni, network = %id, former = %owner, "reassigning a VNI: another manager gave it to this network");
        }
        let mut records = state.vnis.free(&id, Some(vni), now());
        records.extend(state.vnis.grant(vni, &id));
        self.overlays.record(state, &records)?;
        echo.insert(options::VNI.to_owned(), vni.to_string());
        // The MTU must be equal on all hosts. A network allocated without one gets the MTU that each host
        // chooses.
        if options.mtu.is_none()
            && !repeated
            && let Some(underlay) = state.underlay()
        {
            let mtu = overlay::network_mtu(underlay.mtu, underlay.address.is_ipv6());
            echo.insert(options::MTU.to_owned(), mtu.to_string());
        }
        echo.insert(options::ALLOCATED.to_owned(), id.as_str().to_owned());
        tracing::info!(network = %id, %vni, "allocated a VNI for a network of the Swarm");
        Ok(AllocateNetworkResponse { options: echo })
    }

    /// FreeNetwork: the VNI is not reused for a while, because nodes may still use it.
    pub fn free_network(&self, request: NetworkRequest) -> Result<Empty, Error> {
        let id = NetworkId::parse(&request.network_id)?;
        let state = &mut *self.overlays.lock();
        let records = state.vnis.free(&id, None, now());
        self.overlays.record(state, &records)?;
        Ok(Empty {})
    }

    /// The node that a request is about, and whether it is this one; `None` if the request contains no usable
    /// node.
    fn node(&self, request: &DiscoverRequest) -> Option<(IpAddr, bool)> {
        if self.overlays.settings.effective_connectivity() == Scope::Local || request.discovery_type != NODE {
            return None;
        }
        let data = &request.discovery_data;
        let text = data.get("Address").and_then(|value| value.as_str()).unwrap_or_default();
        let own = data.get("Self").and_then(|value| value.as_bool()).unwrap_or(false);
        match text.parse::<IpAddr>() {
            Ok(address) if overlay::no_host(address).is_none() => Some((address, own)),
            _ => {
                tracing::warn!(address = text, "ignoring a node without a usable address");
                None
            }
        }
    }
}
