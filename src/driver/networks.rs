//! The networks of this host with their endpoints, the names and subnets that they hold, and what was observed of
//! them. Each network has a lock of its own ([`Slot`]): a slow verb on one network does not delay another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::Error;
use crate::datapath::LinkInfo;
use crate::model::{Endpoint, IfName, Network, NetworkId, NetworkKind, NetworkSpec};
use crate::state::table::{Held, LinkOwner, NotShared, Slot, Table, lock};

/// How long the engine may take from creating a network to its first endpoint, while another network asks for
/// the same resources.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// See the module documentation.
#[derive(Default)]
pub(super) struct Networks {
    pub table: Table,
    /// Bridges that were last seen missing.
    missing: Mutex<Vec<IfName>>,
    /// When the engine last asked for each network, in this process.
    requested: Mutex<HashMap<NetworkId, Instant>>,
}

impl Networks {
    /// A network that must exist.
    pub fn existing(&self, id: &NetworkId) -> Result<Arc<Slot>, Error> {
        let slot = self.table.find(id).ok_or_else(|| Error::UnknownNetwork { network: id.clone() })?;
        if lock(&slot).is_none() {
            return Err(Error::UnknownNetwork { network: id.clone() });
        }
        Ok(slot)
    }

    /// Visits each network under its lock, one at a time. Waits for verbs under way.
    pub fn each(&self, mut visit: impl FnMut(&mut Held)) {
        for slot in self.table.ids().iter().filter_map(|id| self.table.find(id)) {
            if let Some(held) = lock(&slot).as_mut() {
                visit(held);
            }
        }
    }

    /// Visits each network that has no verb under way.
    pub fn each_idle(&self, mut visit: impl FnMut(&mut Held)) {
        for slot in self.table.ids().iter().filter_map(|id| self.table.find(id)) {
            let mut place = match slot.try_lock() {
                Ok(place) => place,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if let Some(held) = place.as_mut() {
                visit(held);
            }
        }
    }

    /// Copies of all networks. Waits for verbs under way, one network at a time.
    pub fn snapshot(&self) -> Vec<Held> {
        let mut all = Vec::new();
        self.each(|held| all.push(held.clone()));
        all
    }

    /// The numbers of networks and endpoints. A network with a verb under way counts without its endpoints:
    /// reading counters must not wait for the kernel.
    pub fn sizes(&self) -> (usize, usize) {
        let ids = self.table.ids();
        let endpoints = ids
            .iter()
            .filter_map(|id| self.table.find(id))
            .filter_map(|slot| slot.try_lock().ok().and_then(|held| held.as_ref().map(|held| held.endpoints.len())));
        (ids.len(), endpoints.sum())
    }

    /// Reserves the subnets of a network, in place of those that it has.
    pub fn claim_subnets(&self, spec: &NetworkSpec) -> Result<(), Error> {
        let pools: Vec<_> = spec.subnets().map(|subnet| subnet.pool).collect();
        let (bridge, vlan) = (spec.options.bridge_name.clone(), spec.options.vlan);
        let claimed = self.table.claim_subnets(&spec.id, &pools, bridge.zip(vlan));
        claimed.map_err(|(subnet, held, owner)| Error::SubnetOverlap { subnet, held, owner })
    }

    /// Reserves the name of a bridge that the user chose: for one network if Pontoon creates the bridge, together
    /// with other networks if it is the user's.
    pub fn claim_bridge_name(&self, spec: &NetworkSpec, name: &IfName, found: Option<&LinkInfo>) -> Result<(), Error> {
        let taken = |other: LinkOwner| {
            let (LinkOwner::Network(owner) | LinkOwner::Endpoint(owner, _)) = other;
            Error::BridgeTaken { bridge: name.clone(), owner }
        };
        let Some(link) = found.filter(|link| !link.is_ours()) else {
            let claimed = self.table.claim_named_link(name, LinkOwner::Network(spec.id.clone()));
            return claimed.map_err(|other| match other {
                // Pontoon would create the bridge, which belongs to the user as long as networks use it.
                LinkOwner::Network(owner) if found.is_none() && self.table.link_owner(name).is_none() => {
                    Error::BridgeMissing { bridge: name.clone(), owner }
                }
                other => taken(other),
            });
        };
        if let Some(mtu) = spec.options.mtu.filter(|mtu| *mtu > link.mtu) {
            return Err(Error::MtuOfBridge { bridge: name.clone(), mtu, limit: link.mtu });
        }
        let kind = NetworkKind::UserBridge { bridge: name.clone(), bridge_mtu: None };
        self.share_link(spec, &kind)
    }

    /// Records that a network uses its link of the host, if other networks may use it as well.
    pub fn share_link(&self, spec: &NetworkSpec, kind: &NetworkKind) -> Result<(), Error> {
        let Some(terms) = kind.terms(spec.options.icc) else { return Ok(()) };
        let link = kind.link();
        self.table.share_link(link, &spec.id, terms).map_err(|error| match error {
            NotShared::Owned(LinkOwner::Network(owner) | LinkOwner::Endpoint(owner, _)) => {
                Error::BridgeTaken { bridge: link.clone(), owner }
            }
            NotShared::Terms(owner, terms) => {
                Error::LinkTerms { network: spec.id.clone(), link: link.clone(), owner, terms }
            }
        })
    }

    /// Adds a network of the ledger. Its links and subnets were checked when it was made; a ledger edited by hand
    /// may differ.
    pub fn restore_network(&self, network: &Network) {
        let id = &network.spec.id;
        if let Err(error) = self.share_link(&network.spec, &network.kind) {
            tracing::warn!(network = %id, %error, "two networks of the ledger disagree about one link");
        }
        let bridge = network.kind.bridge().filter(|_| network.kind.owns_bridge());
        for link in bridge.into_iter().chain(network.kind.overlay().map(|overlay| &overlay.link)) {
            if let Err(other) = self.table.claim_named_link(link, LinkOwner::Network(id.clone())) {
                tracing::warn!(network = %id, %link, ?other, "two networks of the ledger have one link");
            }
        }
        if let Err(error) = self.claim_subnets(&network.spec) {
            tracing::warn!(network = %id, %error, "two networks of the ledger overlap");
        }
        *lock(&self.table.slot(id)) = Some(Held { network: network.clone(), endpoints: BTreeMap::new() });
    }

    /// Adds an endpoint of the ledger; returns its network, or `None` if the ledger has none.
    pub fn restore_endpoint(&self, endpoint: &Endpoint) -> Option<Network> {
        let (network, id) = (&endpoint.spec.network, &endpoint.spec.id);
        let slot = self.table.find(network)?;
        let mut place = lock(&slot);
        let held = place.as_mut()?;
        for name in endpoint.attachment.links() {
            let owner = LinkOwner::Endpoint(network.clone(), id.clone());
            if let Err(other) = self.table.claim_named_link(name, owner) {
                tracing::warn!(endpoint = %id, link = %name, ?other, "two endpoints of the ledger have one link");
            }
        }
        held.endpoints.insert(id.clone(), endpoint.clone());
        Some(held.network.clone())
    }

    /// Records which bridges are missing; returns those that were there before. Each is logged once, not at every
    /// reconciliation.
    pub fn newly_missing<'a>(&self, missing: &'a [IfName]) -> Vec<&'a IfName> {
        let before = std::mem::replace(&mut *lock(&self.missing), missing.to_vec());
        missing.iter().filter(|bridge| !before.contains(bridge)).collect()
    }

    /// Records that the engine has just asked for a network.
    pub fn remember_requested(&self, id: &NetworkId) {
        let mut requested = lock(&self.requested);
        requested.retain(|_, at| at.elapsed() < UNDER_WAY);
        requested.insert(id.clone(), Instant::now());
    }

    /// Whether the engine has just asked for a network, so that its first endpoint may be under way.
    pub fn recently_requested(&self, id: &NetworkId) -> bool {
        lock(&self.requested).get(id).is_some_and(|at| at.elapsed() < UNDER_WAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_bridge_is_new_once() {
        let networks = Networks::default();
        let [a, b] = ["a", "b"].map(|name| IfName::parse(name).unwrap());
        assert_eq!(networks.newly_missing(std::slice::from_ref(&a)), [&a]);
        assert_eq!(networks.newly_missing(&[a.clone(), b.clone()]), [&b]);
        assert_eq!(networks.newly_missing(&[]), [&a; 0]);
        assert_eq!(networks.newly_missing(std::slice::from_ref(&a)), [&a], "it was there meanwhile");
    }

    #[test]
    fn a_network_that_does_not_exist_is_an_error() {
        let networks = Networks::default();
        let id = NetworkId::parse("n").unwrap();
        assert!(matches!(networks.existing(&id), Err(Error::UnknownNetwork { .. })));
        // A verb may be about to create it.
        let _slot = networks.table.slot(&id);
        assert!(matches!(networks.existing(&id), Err(Error::UnknownNetwork { .. })));
        assert!(!networks.recently_requested(&id));
        networks.remember_requested(&id);
        assert!(networks.recently_requested(&id));
    }
}
