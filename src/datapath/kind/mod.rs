//! Derives what networks and endpoints of each kind need from the kernel, one file per kind.
//!
//! Pure. Change this module when the form of a rule or link changes; creating, removing and repairing follow
//! from the difference between the desired and the observed datapath.

pub mod access;
mod bridge;
pub mod choice;
mod host_access;
mod ipvlan;
pub mod limits;
mod macvlan;
mod parent;
pub mod service;
pub mod vlan;

use std::collections::{BTreeMap, BTreeSet};

pub use bridge::is_checked;

use super::reconcile::merge;
use super::{
    Datapath, EngineBridges, ForwardRule, Forwarding, GROUP_DEAD, KernelError, LinkInfo, LinkMatch, LinkProperty,
    Object, Policy, Sharer,
};
use crate::model::{
    Attachment, Endpoint, EndpointSpec, IfName, LinkRole, Network, NetworkKind, NetworkSpec, Phase, ifname,
};

/// The interface of a kind of network; one file implements it for each.
pub trait Kind {
    /// The part of the datapath that a network without endpoints needs.
    fn network(&self, network: &Network) -> Datapath;

    /// The part of the datapath that an endpoint needs, on top of its network's.
    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> Datapath;

    /// The links of an endpoint; `name` derives and reserves a name for a role.
    fn attach(&self, name: &mut dyn FnMut(LinkRole) -> IfName) -> Attachment;

    /// Maximum number of endpoints on the network.
    fn capacity(&self, network: &Network) -> usize;

    /// Refuses an endpoint whose options this kind cannot honour.
    ///
    /// # Errors
    /// The option and the remedy.
    fn check_endpoint(&self, network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal>;

    /// Whether containers send packets to other networks without a gateway, because their link routes them.
    fn routes_on_link(&self, _: &Network) -> bool {
        false
    }

    /// The link of the host through which its containers reach other hosts as stations of one network, if they are.
    fn lan<'a>(&self, _: &'a Network) -> Option<&'a IfName> {
        None
    }

    /// Refuses published ports where this kind cannot have any.
    ///
    /// # Errors
    /// The network and the remedy.
    fn check_published(&self, network: &Network) -> Result<(), Refusal>;
}

/// Why a network or an endpoint is not possible: one line that names the object and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The implementation for a kind of network.
pub fn of(kind: &NetworkKind) -> &'static dyn Kind {
    match kind {
        NetworkKind::Bridge { .. } | NetworkKind::UserBridge { .. } | NetworkKind::Overlay { .. } => &bridge::Bridges,
        NetworkKind::Macvlan { .. } => &macvlan::Children,
        NetworkKind::Ipvlan { .. } => &ipvlan::Children,
    }
}

/// The link through which frames of the host reach the same stations as those of the network's containers; `None` for
/// a network that has only containers.
pub fn lan(network: &Network) -> Option<&IfName> {
    of(&network.kind).lan(network)
}

/// The kind of a network that needs no bridge, and its MTU in bytes; `None` when the options ask for a
/// bridge.
///
/// # Errors
/// Errors of the kernel, and a [`Refusal`] when the host or the kind does not provide what the options ask for.
pub fn without_bridge<E: From<Refusal>>(
    spec: &NetworkSpec,
    host: &mut choice::Host<'_, E>,
) -> Result<Option<(NetworkKind, u32)>, E> {
    let options = &spec.options.kind;
    if options.has_bridge() {
        return Ok(None);
    }
    parent::chosen(spec, options, host).map(Some)
}

/// The part of the datapath that a network without endpoints needs.
pub fn network(network: &Network) -> Datapath {
    Datapath { sharer: Some(Sharer::Network(network.spec.id.clone())), ..of(&network.kind).network(network) }
}

/// The part of the datapath that an endpoint needs, on top of its network's.
pub fn endpoint(network: &Network, endpoint: &Endpoint) -> Datapath {
    of(&network.kind).endpoint(network, endpoint)
}

/// Where the links of an endpoint are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All on the host: they are in no sandbox.
    OnHost,
    /// One end is known to be in a sandbox.
    InSandbox,
    /// The link that should be on the host is missing: its sandbox ended and took all links with it.
    Gone,
    /// The kernel cannot tell: a link without a host end is invisible while it is in its sandbox.
    Unknown,
}

/// Finds out where the links of an endpoint are, in constant time.
///
/// # Errors
/// Errors of `find`.
pub fn presence(
    attachment: &Attachment,
    mut find: impl FnMut(&IfName) -> Result<Option<LinkInfo>, KernelError>,
) -> Result<Presence, KernelError> {
    if let Some(host) = attachment.host() {
        match find(host)? {
            None => return Ok(Presence::Gone),
            Some(link) if link.group == GROUP_DEAD => return Ok(Presence::Gone),
            Some(link) if link.away => return Ok(Presence::InSandbox),
            Some(_) => {}
        }
    }
    Ok(if find(attachment.sandbox_link())?.is_some() { Presence::OnHost } else { Presence::Unknown })
}

/// The links of an endpoint. Links in a sandbox cannot be created from outside, see [`Datapath::sandboxed`].
fn links(endpoint: &Endpoint, objects: impl IntoIterator<Item = (IfName, Object)>) -> Datapath {
    let objects: BTreeMap<_, _> = objects.into_iter().collect();
    let sandboxed = objects.keys().filter(|_| endpoint.phase != Phase::Ready).cloned().collect();
    Datapath { objects, sandboxed, ..Datapath::empty() }
}

/// Which address families must be forwarded for a network.
pub fn forwarding(spec: &NetworkSpec) -> Forwarding {
    Forwarding { v4: spec.v4.is_some() && !spec.internal, v6: spec.v6.is_some() && !spec.internal }
}

/// What is needed without any network: the accepting rules that cover every link with Pontoon's prefix.
pub fn base() -> Datapath {
    let rules = BTreeSet::from([ForwardRule::From(prefix()), ForwardRule::To(prefix())]);
    Datapath {
        policy: Some(BTreeSet::new()),
        forward4: Some(rules.clone()),
        forward6: Some(rules),
        fastpath: Some(BTreeSet::new()),
        ..Datapath::default()
    }
}

/// Merges what one object needs into `to`.
pub fn add(to: &mut Datapath, more: Datapath) {
    merge(&mut to.policy, &more.policy);
    merge(&mut to.forward4, &more.forward4);
    merge(&mut to.forward6, &more.forward6);
    merge(&mut to.fastpath, &more.fastpath);
    to.objects.extend(more.objects);
    to.sandboxed.extend(more.sandboxed);
    to.contestable.extend(more.contestable);
    to.stations.extend(more.stations);
    // Forwarding is never turned off: other programs on the host may rely on it by now.
    to.forwarding.v4 |= more.forwarding.v4;
    to.forwarding.v6 |= more.forwarding.v6;
}

/// Elements for bridges of the engine's built-in driver: their containers are neighbours, and unless the
/// engine itself protects them, Pontoon's containers must not reach unpublished ports there.
pub fn engine_bridges(engine: &EngineBridges) -> BTreeSet<Policy> {
    let links = || engine.links.iter().cloned();
    let closed = links().filter(|_| !engine.guarded).map(|link| Policy::Link(LinkProperty::EngineBridge, link));
    links().map(|link| Policy::Link(LinkProperty::ContainerBridge, link)).chain(closed).collect()
}

fn prefix() -> LinkMatch {
    LinkMatch::Prefix(ifname::PREFIX.to_owned())
}
