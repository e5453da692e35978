//! What is known about other hosts and the networks that span them, and the desired tunnels that follow from it.
//! Pure: no ledger and no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::OverlaySettings;
use crate::datapath::{Datapath, Object, Underlay, tunnel};
use crate::driver::now;
use crate::model::{Network, NetworkId};
use crate::state::peers::Peers;
use crate::state::record::{ReachRecord, Record};
use crate::state::vnis::Vnis;

/// See the module documentation.
#[derive(Debug)]
pub struct OverlayState {
    /// The other hosts.
    pub peers: Peers,
    /// The VNIs in use.
    pub vnis: Vnis,
    /// UDP port of the tunnels.
    port: u16,
    /// The address of this host according to the Swarm.
    advertised: Option<IpAddr>,
    /// The local address of the tunnels; the last known one while there is none.
    underlay: Option<Underlay>,
    /// Every address of this host: none of them is a peer.
    local: BTreeSet<IpAddr>,
    /// The overlay settings according to the ledger.
    recorded: Option<ReachRecord>,
    networks: BTreeMap<NetworkId, Network>,
}

impl OverlayState {
    /// The state before any record, with the peers that the operator configured.
    pub fn new(settings: &OverlaySettings) -> Self {
        Self {
            peers: Peers::new(settings.peers.iter().copied().collect(), now()),
            vnis: Vnis::default(),
            port: settings.port,
            advertised: None,
            underlay: None,
            local: BTreeSet::new(),
            recorded: None,
            networks: BTreeMap::new(),
        }
    }

    /// Applies a record.
    pub fn apply(&mut self, record: &Record) {
        self.peers.apply(record);
        self.vnis.apply(record);
        match record {
            Record::OwnAddress { address } => self.advertised = Some(*address),
            Record::Reach(reach) => self.recorded = Some(reach.clone()),
            Record::Network(network) if network.kind.overlay().is_some() => {
                self.networks.insert(network.spec.id.clone(), (**network).clone());
            }
            Record::Network(network) => drop(self.networks.remove(&network.spec.id)),
            Record::NoNetwork { id } => drop(self.networks.remove(id)),
            _ => {}
        }
    }

    /// The address of this host according to the Swarm.
    pub fn advertised(&self) -> Option<IpAddr> {
        self.advertised
    }

    /// The local address of the tunnels.
    pub fn underlay(&self) -> Option<Underlay> {
        self.underlay
    }

    /// Sets the local address of the tunnels.
    pub fn set_underlay(&mut self, underlay: Option<Underlay>) {
        self.underlay = underlay;
    }

    /// Every address of this host.
    pub fn local(&self) -> &BTreeSet<IpAddr> {
        &self.local
    }

    /// Sets the addresses of this host.
    pub fn set_local(&mut self, local: BTreeSet<IpAddr>) {
        self.local = local;
    }

    /// Whether an address belongs to this host. A tunnel that floods to it would loop back each frame.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.local.contains(&address)
    }

    /// The overlay settings according to the ledger.
    pub fn recorded(&self) -> Option<&ReachRecord> {
        self.recorded.as_ref()
    }

    /// Whether no network spans hosts.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Peers that only certain networks name.
    pub fn peers_of_networks(&self) -> BTreeSet<IpAddr> {
        self.networks.values().flat_map(|network| &network.spec.options.peers).copied().collect()
    }

    /// Every address that is reported as a peer.
    pub fn all_peers(&self) -> BTreeSet<IpAddr> {
        self.peers.accepted().into_iter().chain(self.peers_of_networks()).collect()
    }

    fn tunnel(&self, network: &Network) -> Datapath {
        let Some(underlay) = self.underlay else { return Datapath::empty() };
        let mut tunnel = tunnel::of(network, underlay.address, self.port, &self.peers.flooded());
        if let Some(Object::Vxlan(vxlan)) = tunnel.objects.values_mut().next() {
            vxlan.peers.retain(|peer| !self.is_local(*peer));
        }
        if network.kind.overlay().is_some() { tunnel } else { Datapath::empty() }
    }

    /// A host without peers and overlay networks needs no guard. A host that knows peers is known to them: they
    /// trust what it sends.
    fn guard(&self) -> Datapath {
        let mut accepted = self.all_peers();
        accepted.retain(|peer| !self.is_local(*peer));
        if self.networks.is_empty() && accepted.is_empty() {
            return Datapath::empty();
        }
        tunnel::guard(self.port, &accepted, self.underlay.map(|underlay| underlay.address))
    }

    /// All tunnels, and the peers whose packets they accept.
    pub fn desired(&self) -> Datapath {
        let mut all = self.guard();
        for network in self.networks.values() {
            all = merged(all, self.tunnel(network));
        }
        all
    }

    /// Makes a change and returns the desired tunnels before and after it: of `network` alone if it concerns no
    /// other, else of all.
    pub fn change(&mut self, network: Option<&Network>, change: impl FnOnce(&mut Self)) -> (Datapath, Datapath) {
        let only = network.is_some_and(|network| self.networks.keys().all(|id| *id == network.spec.id));
        let has_peers = |network: &Network| !network.spec.options.peers.is_empty();
        let had_peers = network.and_then(|network| self.networks.get(&network.spec.id)).is_some_and(has_peers);
        let desired = |state: &Self| match network {
            None => state.desired(),
            Some(network) => {
                let held = state.networks.get(&network.spec.id);
                let tunnel = held.map_or_else(Datapath::empty, |held| state.tunnel(held));
                // Only the network's own peers can change with it; all do with the first and the last network.
                if only || had_peers || has_peers(network) { merged(tunnel, state.guard()) } else { tunnel }
            }
        };
        let before = desired(self);
        change(self);
        (before, desired(self))
    }
}

fn merged(mut one: Datapath, other: Datapath) -> Datapath {
    one.objects.extend(other.objects);
    one.policy.get_or_insert_default().extend(other.policy.into_iter().flatten());
    one.fastpath.get_or_insert_default().extend(other.fastpath.into_iter().flatten());
    one
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
