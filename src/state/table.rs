//! The networks and endpoints in memory, with one lock for each network, so that a slow verb on one network
//! never delays another; and the register of resources that are unique on the host.
//!
//! Never accesses the disk or the kernel. Called by the driver only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnetwork::IpNetwork;

use crate::model::kind::LinkUse;
use crate::model::{Endpoint, EndpointId, IfName, LinkRole, Network, NetworkId, Vid, overlap};

/// A network with its endpoints.
#[derive(Debug, Clone)]
pub struct Held {
    /// The network.
    pub network: Network,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
}

impl Held {
    /// The same endpoints on another state of the network.
    pub fn of(&self, network: &Network) -> Self {
        Self { network: network.clone(), endpoints: self.endpoints.clone() }
    }
}

/// The slot of one network; `None` before its creation and after its deletion.
pub type Slot = Mutex<Option<Held>>;

/// The owner of a link name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOwner {
    /// A network's bridge.
    Network(NetworkId),
    /// An endpoint's host or container end.
    Endpoint(NetworkId, EndpointId),
}

/// Why a network cannot use a link together with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotShared {
    /// The link belongs to this owner alone.
    Owned(LinkOwner),
    /// This network has these other terms.
    Terms(NetworkId, String),
}

/// A VLAN of a bridge.
pub type Segment = (IfName, Vid);

/// A subnet of a network.
struct Subnet {
    net: IpNetwork,
    owner: NetworkId,
    segment: Option<Segment>,
}

#[derive(Default)]
struct Register {
    links: HashMap<IfName, LinkOwner>,
    /// Links of the user that several networks may use, with what each network requires of the others.
    shared: HashMap<(LinkUse, IfName), BTreeMap<NetworkId, String>>,
    subnets: Vec<Subnet>,
}

/// See the module documentation.
#[derive(Default)]
pub struct Table {
    slots: Mutex<HashMap<NetworkId, Arc<Slot>>>,
    register: Mutex<Register>,
}

/// Locks, also after a panic of an earlier holder: every writer leaves the value consistent.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// The slot of a network, created if missing.
    pub fn slot(&self, id: &NetworkId) -> Arc<Slot> {
        Arc::clone(lock(&self.slots).entry(id.clone()).or_default())
    }

    /// The slot of a network, if it exists.
    pub fn find(&self, id: &NetworkId) -> Option<Arc<Slot>> {
        lock(&self.slots).get(id).cloned()
    }

    /// Removes the slot of a network that is gone. A verb that still holds the slot keeps it.
    pub fn forget_if_empty(&self, id: &NetworkId) {
        let mut slots = lock(&self.slots);
        let empty = slots.get(id).is_some_and(|slot| {
            // One reference in the map and one with the caller: no other verb can be about to fill it.
            Arc::strong_count(slot) <= 2 && slot.try_lock().is_ok_and(|held| held.is_none())
        });
        if empty {
            slots.remove(id);
        }
    }

    /// The ids of all networks.
    pub fn ids(&self) -> Vec<NetworkId> {
        lock(&self.slots).keys().cloned().collect()
    }

    /// Allocates a free link name derived from `id`.
    pub fn claim_link(&self, role: LinkRole, id: &str, owner: LinkOwner) -> IfName {
        let mut register = lock(&self.register);
        let mut attempt = 0;
        loop {
            let name = IfName::derive(role, id, attempt);
            if !register.links.contains_key(&name) {
                register.links.insert(name.clone(), owner);
                return name;
            }
            attempt += 1;
        }
    }

    /// Reserves this exact name; the error is its owner.
    pub fn claim_named_link(&self, name: &IfName, owner: LinkOwner) -> Result<(), LinkOwner> {
        let mut register = lock(&self.register);
        let users = register.shared.get(&(LinkUse::Bridge, name.clone()));
        if let Some(user) = users.and_then(|users| users.keys().next()) {
            return Err(LinkOwner::Network(user.clone()));
        }
        match register.links.get(name) {
            Some(other) if *other != owner => Err(other.clone()),
            _ => {
                register.links.insert(name.clone(), owner);
                Ok(())
            }
        }
    }

    /// Records that a network uses a link of the user, which other networks on the same terms may use as well. May
    /// be repeated.
    ///
    /// # Errors
    /// The link belongs to one owner, or a network that uses it has other terms.
    pub fn share_link(&self, name: &IfName, id: &NetworkId, with: (LinkUse, String)) -> Result<(), NotShared> {
        let mut register = lock(&self.register);
        if let Some(owner) = register.links.get(name) {
            return Err(NotShared::Owned(owner.clone()));
        }
        let (link_use, terms) = with;
        let users = register.shared.entry((link_use, name.clone())).or_default();
        if let Some((other, theirs)) = users.iter().find(|(other, theirs)| *other != id && **theirs != terms) {
            return Err(NotShared::Terms(other.clone(), theirs.clone()));
        }
        users.insert(id.clone(), terms);
        Ok(())
    }

    /// Releases a link that a network uses, alone or with others.
    pub fn release_link_of(&self, name: &IfName, id: &NetworkId) {
        let mut register = lock(&self.register);
        if register.links.get(name) == Some(&LinkOwner::Network(id.clone())) {
            register.links.remove(name);
        }
        for link_use in [LinkUse::Bridge, LinkUse::Parent] {
            let key = (link_use, name.clone());
            let Some(users) = register.shared.get_mut(&key) else { continue };
            users.remove(id);
            if users.is_empty() {
                register.shared.remove(&key);
            }
        }
    }

    /// Releases a link name.
    pub fn release_link(&self, name: &IfName) {
        lock(&self.register).links.remove(name);
    }

    /// The owner of a link name.
    pub fn link_owner(&self, name: &IfName) -> Option<LinkOwner> {
        lock(&self.register).links.get(name).cloned()
    }

    /// Reserves subnets for a network, which may be in a VLAN; the error names the overlap and its owner. Only networks
    /// in two different VLANs may overlap.
    pub fn claim_subnets(
        &self,
        id: &NetworkId,
        subnets: &[IpNetwork],
        segment: Option<Segment>,
    ) -> Result<(), (IpNetwork, IpNetwork, NetworkId)> {
        let mut register = lock(&self.register);
        let apart = |held: &Subnet| held.segment.is_some() && segment.is_some() && held.segment != segment;
        for subnet in subnets {
            let meets = |held: &&Subnet| held.owner != *id && overlap(&held.net, subnet) && !apart(held);
            if let Some(held) = register.subnets.iter().find(meets) {
                return Err((*subnet, held.net, held.owner.clone()));
            }
        }
        register.subnets.retain(|held| held.owner != *id);
        let new = |net: &IpNetwork| Subnet { net: *net, owner: id.clone(), segment: segment.clone() };
        register.subnets.extend(subnets.iter().map(new));
        Ok(())
    }

    /// The network that has exactly this subnet.
    pub fn subnet_owner(&self, subnet: &IpNetwork) -> Option<NetworkId> {
        lock(&self.register).subnets.iter().find(|held| held.net == *subnet).map(|held| held.owner.clone())
    }

    /// Releases the subnets of a network.
    pub fn release_subnets(&self, id: &NetworkId) {
        lock(&self.register).subnets.retain(|held| held.owner != *id);
    }

    /// The subnets of all networks.
    pub fn subnets(&self) -> Vec<IpNetwork> {
        lock(&self.register).subnets.iter().map(|held| held.net).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NetworkId {
        NetworkId::parse(text).unwrap()
    }

    #[test]
    fn names_that_collide_after_truncation_are_told_apart() {
        let table = Table::default();
        let (a, b) = ("0123456789abcdef00", "0123456789abcdef11");
        let first = table.claim_link(LinkRole::Bridge, a, LinkOwner::Network(id(a)));
        let second = table.claim_link(LinkRole::Bridge, b, LinkOwner::Network(id(b)));
        assert_ne!(first, second);
        assert_eq!(table.link_owner(&second), Some(LinkOwner::Network(id(b))));
        table.release_link(&first);
        assert_eq!(table.claim_link(LinkRole::Bridge, a, LinkOwner::Network(id(a))), first);
    }

    #[test]
    fn a_link_is_shared_or_owned_and_never_both() {
        let (table, lan) = (Table::default(), IfName::parse("br-lan").unwrap());
        let on = || (LinkUse::Bridge, "on".to_owned());
        let off = || (LinkUse::Bridge, "off".to_owned());
        for _ in 0..2 {
            table.share_link(&lan, &id("a"), on()).unwrap();
        }
        table.share_link(&lan, &id("b"), on()).unwrap();
        assert_eq!(table.share_link(&lan, &id("c"), off()), Err(NotShared::Terms(id("a"), "on".to_owned())));
        // A bridge may be a parent besides.
        table.share_link(&lan, &id("c"), (LinkUse::Parent, "off".to_owned())).unwrap();
        let owner = || LinkOwner::Network(id("c"));
        assert_eq!(table.claim_named_link(&lan, owner()), Err(LinkOwner::Network(id("a"))));
        table.release_link_of(&lan, &id("a"));
        table.release_link_of(&lan, &id("a"));
        assert_eq!(table.claim_named_link(&lan, owner()), Err(LinkOwner::Network(id("b"))));
        table.release_link_of(&lan, &id("b"));
        table.claim_named_link(&lan, owner()).unwrap();
        assert_eq!(table.share_link(&lan, &id("a"), on()), Err(NotShared::Owned(owner())));
    }

    #[test]
    fn subnets_of_two_networks_never_overlap() {
        let table = Table::default();
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        table.claim_subnets(&id("a"), &[net("10.0.0.0/16"), net("fd00::/64")], None).unwrap();
        let (mine, theirs, owner) = table.claim_subnets(&id("b"), &[net("10.0.3.0/24")], None).unwrap_err();
        assert_eq!((mine, theirs, owner), (net("10.0.3.0/24"), net("10.0.0.0/16"), id("a")));
        table.claim_subnets(&id("a"), &[net("10.0.0.0/24")], None).unwrap();
        table.claim_subnets(&id("b"), &[net("10.0.3.0/24")], None).unwrap();
        table.release_subnets(&id("a"));
        assert_eq!(table.subnets(), [net("10.0.3.0/24")]);
    }

    #[test]
    fn subnets_of_two_vlans_may_overlap() {
        let table = Table::default();
        let net = |text: &str| [text.parse::<IpNetwork>().unwrap()];
        let of = |bridge: &str, vid| Some((IfName::parse(bridge).unwrap(), Vid::new(vid).unwrap()));
        table.claim_subnets(&id("a"), &net("10.0.0.0/24"), of("br0", 40)).unwrap();
        table.claim_subnets(&id("b"), &net("10.0.0.0/24"), of("br0", 50)).unwrap();
        for segment in [None, of("br0", 40), of("br0", 50)] {
            table.claim_subnets(&id("c"), &net("10.0.0.0/16"), segment).unwrap_err();
        }
        table.claim_subnets(&id("c"), &net("10.0.0.0/16"), of("br1", 40)).unwrap();
    }

    #[test]
    fn an_empty_place_is_forgotten_and_a_filled_one_is_not() {
        let table = Table::default();
        let slot = table.slot(&id("a"));
        table.forget_if_empty(&id("a"));
        assert!(table.find(&id("a")).is_none());
        drop(slot);
        let slot = table.slot(&id("a"));
        let held = lock(&slot);
        table.forget_if_empty(&id("a"));
        drop(held);
        assert!(table.find(&id("a")).is_some());
    }
}
