//! The verbs of a Swarm's managers: allocate_network and free_network. With local scope they succeed without effect.

use crate::driver::settings::Affected;
use crate::driver::{Driver, Error, now, sanity};
use crate::model::{NetworkId, NetworkOptions, Scope, Vni, overlay};

/// What all nodes must know about a network of the Swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The network.
    pub network: NetworkId,
    /// Its VNI.
    pub vni: Vni,
    /// Its MTU in bytes, if the network does not have one yet.
    pub mtu: Option<u32>,
}

impl Driver {
    /// Whether networks of the Swarm need an allocation.
    pub fn allocates(&self) -> bool {
        self.overlays.settings.scope == Scope::Global
    }

    /// AllocateNetwork: allocates the VNI of a Swarm network. Nodes only receive options that the answer echoes.
    /// Each new leading manager repeats the request for every network, with the earlier answer among the
    /// options. That answer then takes precedence: another manager may have reassigned the VNI, and this one is
    /// never told that its former owner is gone.
    ///
    /// `None` for a network that needs no allocation: on a LAN, the LAN itself leads to the other hosts.
    pub fn allocate_network(
        &self,
        id: &NetworkId,
        options: &NetworkOptions,
        has_v6: bool,
    ) -> Result<Option<Allocation>, Error> {
        sanity::mtu(options, has_v6)?;
        if !self.allocates() || !options.kind.has_bridge() || options.vlan.is_some() {
            return Ok(None);
        }
        let repeated = options.allocated.as_ref() == Some(id);
        if !repeated && options.allocated.is_some() {
            return Err(Error::NotAllocated { network: id.clone() });
        }
        self.unusable.check(&[Affected::Networks, Affected::Overlays], || format!("network {id}"))?;
        let state = &mut *self.overlays.lock();
        let vni = options.vni.unwrap_or_else(|| state.vnis.choose(id));
        if let Some(owner) = state.vnis.other_owner(vni, id) {
            if !repeated {
                return Err(Error::VniTaken { vni, owner: owner.clone() });
            }
            tracing::warn!(%vni, network = %id, former = %owner, "reassigning a VNI: another manager gave it to this network");
        }
        let mut records = state.vnis.free(id, Some(vni), now());
        records.extend(state.vnis.grant(vni, id));
        self.overlays.record(state, &records)?;
        // The MTU must be equal on all hosts. A network allocated without one gets the MTU that each host
        // chooses.
        let underlay = state.underlay().filter(|_| options.mtu.is_none() && !repeated);
        let mtu = underlay.map(|underlay| overlay::network_mtu(underlay.mtu, underlay.address.is_ipv6()));
        tracing::info!(network = %id, %vni, "allocated a VNI for a network of the Swarm");
        Ok(Some(Allocation { network: id.clone(), vni, mtu }))
    }

    /// FreeNetwork: the VNI is not reused for a while, because nodes may still use it.
    pub fn free_network(&self, id: &NetworkId) -> Result<(), Error> {
        let state = &mut *self.overlays.lock();
        let records = state.vnis.free(id, None, now());
        self.overlays.record(state, &records)
    }
}
