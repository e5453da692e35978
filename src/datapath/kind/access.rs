//! Who may talk to the endpoints of a network with a bridge, and to whom they may talk: the statements for the firewall.
//!
//! As with network policies of Kubernetes: a direction is open until an option of the network or of the endpoint
//! restricts it, lists add up, and replies pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Refusal, bridge};
use crate::datapath::Policy;
use crate::datapath::access::{Access, Place, Range, Way};
use crate::model::access::expand::{Expanded, MOST_RANGES, expand, expand_beyond};
use crate::model::access::names::{MOST_PIECES, NameRules};
use crate::model::access::options::{EGRESS_ALLOW, GROUP, INGRESS_ALLOW};
use crate::model::access::{AccessOptions, StoredLists};
use crate::model::{AllowList, Endpoint, EndpointSpec, Family, IfName, Network, options};

/// What options and stored lists allow together; `None` if neither restrict the direction.
fn of_both(options: &AccessOptions, stored: &StoredLists, way: Way) -> Option<AllowList> {
    union(way.choose(options.egress(), options.ingress()), way.choose(&stored.egress, &stored.ingress).clone())
}

fn union(one: Option<AllowList>, other: Option<AllowList>) -> Option<AllowList> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.union(&other)),
        (one, other) => one.or(other),
    }
}

/// What a network allows its endpoints; `None` if it does not restrict the direction.
pub fn list_of_network(network: &Network, way: Way) -> Option<AllowList> {
    of_both(&network.spec.options.access, &network.stored, way)
}

fn list_of(network: &Network, endpoint: &EndpointSpec, stored: &StoredLists, way: Way) -> Option<AllowList> {
    union(list_of_network(network, way), of_both(&endpoint.options.access, stored, way))
}

/// What an endpoint may exchange in one direction; `None` if it is not restricted.
pub fn list(network: &Network, endpoint: &Endpoint, way: Way) -> Option<AllowList> {
    list_of(network, &endpoint.spec, &endpoint.stored, way)
}

/// Whether an endpoint is restricted in any direction.
pub fn is_restricted(network: &Network, endpoint: &Endpoint) -> bool {
    Way::ALL.into_iter().any(|way| list(network, endpoint, way).is_some())
}

/// Whether an endpoint is only audited: what its lists do not allow is recorded, and passes. What is said of the endpoint
/// precedes what is said of its network, and what an operator stored, the options.
pub fn is_audited(network: &Network, endpoint: &Endpoint) -> bool {
    endpoint.stored.audit.or(endpoint.spec.options.access.audit).unwrap_or_else(|| audits(network))
}

/// Whether the endpoints of a network are only audited, unless something else is said of one.
pub fn audits(network: &Network) -> bool {
    network.stored.audit.or(network.spec.options.access.audit).unwrap_or(false)
}

/// The statements for a network: what its options allow all endpoints that are restricted.
pub(super) fn statements_of_network(network: &Network) -> BTreeSet<Policy> {
    let mut set = BTreeSet::new();
    let spec = &network.spec;
    for way in Way::ALL {
        let Some(list) = list_of_network(network, way) else { continue };
        let list = expand(&list, spec);
        for pool in spec.subnets().map(|subnet| subnet.pool) {
            allowed(&list, way, (pool.network(), pool.broadcast()), &mut set);
        }
    }
    set.into_iter().map(Policy::Access).collect()
}

/// The statements for an endpoint with this port.
pub(super) fn statements(network: &Network, port: &IfName, endpoint: &Endpoint) -> BTreeSet<Policy> {
    let mut set = BTreeSet::new();
    let (spec, audited) = (&endpoint.spec, is_audited(network, endpoint));
    for way in Way::ALL {
        let Some(whole) = list(network, endpoint, way) else { continue };
        set.insert(Access::TrackedPort(port.clone()));
        let of = |address| if audited { Access::Audited(way, address) } else { Access::Restricted(way, address) };
        set.insert(if audited {
            Access::AuditedPort(way, port.clone())
        } else {
            Access::RestrictedPort(way, port.clone())
        });
        set.extend(spec.addresses().map(of));
        // Of an audited endpoint the names are learned.
        if way == Way::Egress && (audited || whole.name().is_some()) {
            set.extend(redirected(network, spec));
        }
        let Some(own) = of_both(&spec.options.access, &endpoint.stored, way) else { continue };
        let own = expand_beyond(&own, &list_of_network(network, way).unwrap_or_default(), &network.spec);
        spec.addresses().for_each(|address| allowed(&own, way, (address, address), &mut set));
    }
    set.into_iter().map(Policy::Access).collect()
}

/// Where DNS queries of an endpoint are answered: at the address of the host on its bridge, in each family that has one.
fn redirected(network: &Network, endpoint: &EndpointSpec) -> Vec<Access> {
    let Some(bridge) = network.kind.bridge() else { return Vec::new() };
    let here: Vec<IpAddr> = bridge::host_addresses(network).iter().map(|net| net.ip()).collect();
    let of = |own: IpAddr| {
        let here = here.iter().find(|here| here.is_ipv4() == own.is_ipv4())?;
        Some(Access::Redirected(bridge.clone(), own, *here))
    };
    endpoint.addresses().filter_map(of).collect()
}

/// What a list allows endpoints with these addresses.
fn allowed(list: &Expanded, way: Way, own: Range, set: &mut BTreeSet<Access>) {
    let of_family = |address: &IpAddr| Family::of(address) == Family::of(&own.0);
    for place in Place::ALL {
        let peers = list.addresses.iter().filter(|(_, first, _)| of_family(first));
        set.extend(peers.map(|(transport, first, last)| Access::Allowed(place, way, own, *transport, (*first, *last))));
    }
    set.extend(list.host.iter().map(|transport| Access::AllowedHost(way, own, *transport)));
}

/// Refuses names where the endpoint's queries cannot be answered here.
fn check_names(network: &Network, endpoint: &EndpointSpec, list: &AllowList, name: &str) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal(format!("endpoint {}: {EGRESS_ALLOW}: {text}", endpoint.id)));
    if redirected(network, endpoint).is_empty() {
        return refuse(format!(
            "the DNS name {name} needs a network whose gateway is this host, because Pontoon answers the container's DNS \
             queries there: use a network with a gateway on a bridge that Pontoon makes, or addresses instead of names"
        ));
    }
    let pieces = NameRules::of(list).map_or(0, |rules| rules.pieces());
    if pieces > MOST_PIECES {
        return refuse(format!(
            "the protocols and ports of all rules with DNS names are {pieces} different ranges, more than {MOST_PIECES}: \
             use fewer or wider ones"
        ));
    }
    Ok(())
}

/// Refuses a policy that could not be enforced.
///
/// # Errors
/// The endpoint, the option and the remedy.
pub(super) fn check(network: &Network, endpoint: &EndpointSpec, stored: &StoredLists) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal(format!("endpoint {}: {text}", endpoint.id)));
    let access = [&network.spec.options.access, &endpoint.options.access];
    let options = access.into_iter().find_map(|options| options.given());
    let stored_here = [&network.stored, stored].into_iter().any(|stored| !stored.is_empty());
    let Some(given) = options.or(stored_here.then_some("a stored policy")) else { return Ok(()) };
    if network.spec.options.vlan.or(endpoint.options.vlan).is_some() || !endpoint.options.trunk.is_empty() {
        return refuse(format!(
            "{given} is not supported together with {} yet, because another VLAN may have the same addresses: remove one \
             of them",
            options::VLAN
        ));
    }
    if !bridge::wants_check(network, endpoint) {
        return refuse(format!(
            "{given} needs source address validation, without which the container could use another's address: remove \
             {}=false, and use an IPAM driver that assigns addresses",
            options::SPOOFCHECK
        ));
    }
    let spans_hosts = network.kind.overlay().is_some();
    if spans_hosts && !endpoint.options.access.groups.is_empty() {
        return refuse(format!(
            "{GROUP} is not supported on overlay networks, because the members on other hosts are not known here: remove \
             it, and use addresses or subnets in allow lists"
        ));
    }
    for way in Way::ALL {
        let Some(list) = list_of(network, endpoint, stored, way) else { continue };
        let key = way.choose(EGRESS_ALLOW, INGRESS_ALLOW);
        if let Some(group) = list.groups().next().filter(|_| spans_hosts) {
            return refuse(format!(
                "{key}: group:{} is not supported on overlay networks, because the members on other hosts are not known \
                 here: use addresses or subnets instead",
                group.as_str()
            ));
        }
        if let Some(name) = list.name() {
            check_names(network, endpoint, &list, name)?;
        }
        let ranges = expand(&list, &network.spec).ranges();
        if ranges > MOST_RANGES {
            return refuse(format!(
                "{key} of the network and the container together are {ranges} ranges of ports and addresses, more than \
                 {MOST_RANGES}: use fewer or wider ones"
            ));
        }
    }
    Ok(())
}

/// Refuses what an operator wants to store for a network and its endpoints where it could not be enforced.
///
/// # Errors
/// The network or endpoint, and the remedy.
pub fn check_stored<'a>(network: &Network, mut endpoints: impl Iterator<Item = &'a Endpoint>) -> Result<(), Refusal> {
    let id = &network.spec.id;
    if network.kind.bridge().is_none() {
        return Err(Refusal(format!(
            "network {id}: allow lists are not supported on {} networks, whose packets the firewall of the host does not \
             see: use a network with a bridge",
            network.kind.word()
        )));
    }
    let lists = || [&network.stored.egress, &network.stored.ingress].into_iter().flatten();
    if let Some(group) = lists().flat_map(|list| list.groups()).next().filter(|_| network.kind.overlay().is_some()) {
        return Err(Refusal(format!(
            "network {id}: group:{} is not supported on overlay networks, because the members on other hosts are not known \
             here: use addresses or subnets instead",
            group.as_str()
        )));
    }
    endpoints.try_for_each(|endpoint| check(network, &endpoint.spec, &endpoint.stored))
}
