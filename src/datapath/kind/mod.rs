//! What networks and endpoints of each kind need of the kernel, one file a kind.
//!
//! Pure. This is the place to change when a rule or a link's form changes; creating, removing and
//! repairing follow from the difference between what is desired and what is there.

mod bridge;
mod macvlan;

use std::collections::{BTreeMap, BTreeSet};

pub use bridge::is_checked;

use super::reconcile::unite;
use super::{
    Datapath, Element, EngineBridges, ForwardRule, Forwarding, GROUP_DEAD, KernelError, LinkInfo, LinkMatch, Object,
};
use crate::model::{
    Attachment, Endpoint, EndpointSpec, IfName, LinkRole, Network, NetworkKind, NetworkSpec, Phase, ifname,
};

/// What a kind of network answers; one file implements it for each.
pub trait Kind {
    /// The part of the datapath that a network without endpoints needs.
    fn network(&self, network: &Network) -> Datapath;

    /// The part of the datapath that an endpoint needs, on top of its network's.
    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> Datapath;

    /// The links of an endpoint, with names that `name` derives for a role and reserves.
    fn attach(&self, name: &mut dyn FnMut(LinkRole) -> IfName) -> Attachment;

    /// How many endpoints the network takes.
    fn capacity(&self, network: &Network) -> usize;

    /// Refuses an endpoint whose options this kind cannot honour.
    ///
    /// # Errors
    /// The option and the remedy.
    fn check_endpoint(&self, network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal>;

    /// Refuses published ports where this kind cannot have any.
    ///
    /// # Errors
    /// The network and the remedy.
    fn check_published(&self, network: &Network) -> Result<(), Refusal>;
}

/// Why a network or an endpoint of a kind cannot be: one line that names the object and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The kind of a network.
pub fn of(kind: &NetworkKind) -> &'static dyn Kind {
    match kind {
        NetworkKind::Bridge { .. } | NetworkKind::UserBridge { .. } | NetworkKind::Overlay { .. } => &bridge::Bridges,
        NetworkKind::Macvlan { .. } => &macvlan::Children,
    }
}

/// Looks up a link of the host by name.
pub type FindLink<'a, E> = &'a mut dyn FnMut(&IfName) -> Result<Option<LinkInfo>, E>;

/// The kind of a network that needs no bridge, and its MTU in bytes; `None` when the options ask for a
/// bridge.
///
/// # Errors
/// What `find` says, and a [`Refusal`] when the options ask for what the host or the kind does not have.
pub fn without_bridge<E: From<Refusal>>(
    spec: &NetworkSpec,
    find: FindLink<'_, E>,
) -> Result<Option<(NetworkKind, u32)>, E> {
    let options = &spec.options.kind;
    if options.has_bridge() {
        return Ok(None);
    }
    macvlan::chosen(spec, options.parent.as_ref(), options.macvlan_mode.unwrap_or_default(), find).map(Some)
}

/// The part of the datapath that a network without endpoints needs.
pub fn network(network: &Network) -> Datapath {
    of(&network.kind).network(network)
}

/// The part of the datapath that an endpoint needs, on top of its network's.
pub fn endpoint(network: &Network, endpoint: &Endpoint) -> Datapath {
    of(&network.kind).endpoint(network, endpoint)
}

/// Where the links of an endpoint are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All on the host: no sandbox has it.
    OnHost,
    /// One end is known to be in a sandbox.
    InSandbox,
    /// What should be on the host is not: its sandbox ended and took all links with it.
    Gone,
    /// The kernel does not tell. A link without a host end is out of sight in its sandbox.
    Unknown,
}

/// Looks where the links of an endpoint are, in constant time.
///
/// # Errors
/// What `find` says.
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

/// The part of an endpoint that is its links: those of a sandbox are not created from outside, see
/// [`Datapath::sandboxed`].
fn links(endpoint: &Endpoint, objects: impl IntoIterator<Item = (IfName, Object)>) -> Datapath {
    let objects: BTreeMap<_, _> = objects.into_iter().collect();
    let sandboxed = objects.keys().filter(|_| endpoint.phase != Phase::Ready).cloned().collect();
    Datapath { objects, sandboxed, ..Datapath::empty() }
}

/// Which families a network needs to be forwarded.
pub fn forwarding(spec: &NetworkSpec) -> Forwarding {
    Forwarding { v4: spec.v4.is_some() && !spec.internal, v6: spec.v6.is_some() && !spec.internal }
}

/// What holds with no network at all: the accepting rules that cover every link with our prefix.
pub fn base() -> Datapath {
    let rules = BTreeSet::from([ForwardRule::From(prefix()), ForwardRule::To(prefix())]);
    Datapath {
        elements: Some(BTreeSet::new()),
        forward4: Some(rules.clone()),
        forward6: Some(rules),
        shortcuts: Some(BTreeSet::new()),
        ..Datapath::default()
    }
}

/// Adds what one object needs to what others do.
pub fn add(to: &mut Datapath, more: Datapath) {
    unite(&mut to.elements, &more.elements);
    unite(&mut to.forward4, &more.forward4);
    unite(&mut to.forward6, &more.forward6);
    unite(&mut to.shortcuts, &more.shortcuts);
    to.objects.extend(more.objects);
    to.sandboxed.extend(more.sandboxed);
    // Forwarding is never turned off: others on the host may have come to rely on it.
    to.forwarding.v4 |= more.forwarding.v4;
    to.forwarding.v6 |= more.forwarding.v6;
}

/// Bridges of the engine's built-in driver: their containers are neighbours, and where the engine
/// does not see to it itself, containers of ours must not enter them unpublished.
pub fn engine_bridges(engine: &EngineBridges) -> BTreeSet<Element> {
    let links = || engine.links.iter().cloned();
    let closed = links().filter(|_| !engine.guarded).map(Element::Engine);
    links().map(Element::Neighbour).chain(closed).collect()
}

fn prefix() -> LinkMatch {
    LinkMatch::Prefix(ifname::PREFIX.to_owned())
}
