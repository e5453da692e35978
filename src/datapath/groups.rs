//! Statements that follow from groups: an endpoint whose list names a group may exchange something with each member.
//!
//! They are about pairs. Whichever endpoint of a pair comes second brings the statements, and whichever ends first takes
//! them along: so one about an address never outlives the endpoint with the address. What a list allows anyway is not
//! stated again, because the firewall's sets reject ranges that overlap.
//!
//! Pure. Used by the driver, and for the desired state without a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::access::{Access, Place, Way};
use super::{Datapath, Policy, kind};
use crate::model::access::GroupName;
use crate::model::access::expand::expand_member;
use crate::model::{AllowList, Endpoint, EndpointId, Network};

/// Maximum number of statements about pairs on one network: the kernel copies a set of ranges at each change.
pub const MOST_STATEMENTS: usize = 65_536;

/// An endpoint that is in groups or whose lists name some.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Party {
    addresses: Vec<IpAddr>,
    groups: BTreeSet<GroupName>,
    /// Its lists that name groups.
    lists: Vec<(Way, AllowList)>,
}

/// The parties of one network, by their groups. A change costs as much as the pairs that it is about.
#[derive(Debug, Default)]
pub struct Parties {
    all: BTreeMap<EndpointId, Party>,
    members: BTreeMap<GroupName, BTreeSet<EndpointId>>,
    /// Those whose lists name a group.
    seekers: BTreeMap<GroupName, BTreeSet<EndpointId>>,
    /// Number of statements about all pairs.
    statements: usize,
}

impl Party {
    fn of(network: &Network, endpoint: &Endpoint) -> Option<Self> {
        let list = |way| Some((way, kind::access::list(network, endpoint, way)?));
        let lists = Way::ALL.into_iter().filter_map(list);
        let lists: Vec<_> = lists.filter(|(_, list)| list.groups().next().is_some()).collect();
        let groups = endpoint.spec.options.access.groups.clone();
        let addresses = endpoint.spec.addresses().collect();
        (!groups.is_empty() || !lists.is_empty()).then_some(Self { addresses, groups, lists })
    }

    fn sought(&self) -> BTreeSet<&GroupName> {
        self.lists.iter().flat_map(|(_, list)| list.groups()).collect()
    }

    /// What its lists allow it to exchange with a member.
    fn with(&self, network: &Network, member: &Self, statements: &mut BTreeSet<Policy>) {
        for (way, list) in &self.lists {
            for peer in &member.addresses {
                let own = self.addresses.iter().find(|own| own.is_ipv4() == peer.is_ipv4());
                let Some(own) = own else { continue };
                for transport in expand_member(list, &member.groups, *peer, &network.spec) {
                    let allowed = |place| Access::Allowed(place, *way, (*own, *own), transport, (*peer, *peer));
                    statements.extend(Place::ALL.map(allowed).map(Policy::Access));
                }
            }
        }
    }
}

impl Parties {
    /// Whether it has no parties.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Number of statements about all pairs.
    pub fn statements(&self) -> usize {
        self.statements
    }

    /// Adds an endpoint, in place of what it was; returns what it brings.
    pub fn add(&mut self, network: &Network, endpoint: &Endpoint) -> Datapath {
        let id = &endpoint.spec.id;
        self.remove(network, id);
        let Some(party) = Party::of(network, endpoint) else { return Datapath::default() };
        for group in &party.groups {
            self.members.entry(group.clone()).or_default().insert(id.clone());
        }
        for group in party.sought() {
            self.seekers.entry(group.clone()).or_default().insert(id.clone());
        }
        self.all.insert(id.clone(), party);
        let brought = self.between(network, id);
        self.statements += brought.len();
        Datapath { policy: Some(brought), ..Datapath::default() }
    }

    /// Removes an endpoint; returns what it takes along. `network` is as it was when the endpoint was added.
    pub fn remove(&mut self, network: &Network, id: &EndpointId) -> Datapath {
        let taken = self.between(network, id);
        let Some(party) = self.all.remove(id) else { return Datapath::default() };
        self.statements = self.statements.saturating_sub(taken.len());
        let leave = |index: &mut BTreeMap<GroupName, BTreeSet<EndpointId>>, group: &GroupName| {
            let Some(of_group) = index.get_mut(group) else { return };
            of_group.remove(id);
            if of_group.is_empty() {
                index.remove(group);
            }
        };
        party.groups.iter().for_each(|group| leave(&mut self.members, group));
        party.sought().into_iter().for_each(|group| leave(&mut self.seekers, group));
        Datapath { policy: Some(taken), ..Datapath::default() }
    }

    /// The statements about all pairs of which this endpoint is one, the pair with itself included.
    fn between(&self, network: &Network, id: &EndpointId) -> BTreeSet<Policy> {
        let mut statements = BTreeSet::new();
        let Some(one) = self.all.get(id) else { return statements };
        let of = |index: &BTreeMap<GroupName, BTreeSet<EndpointId>>, groups: BTreeSet<&GroupName>| {
            let ids: BTreeSet<_> = groups.into_iter().filter_map(|group| index.get(group)).flatten().cloned().collect();
            ids.into_iter().filter_map(|id| self.all.get(&id)).collect::<Vec<_>>()
        };
        of(&self.members, one.sought()).into_iter().for_each(|member| one.with(network, member, &mut statements));
        of(&self.seekers, one.groups.iter().collect())
            .into_iter()
            .for_each(|seeker| seeker.with(network, one, &mut statements));
        statements
    }
}
