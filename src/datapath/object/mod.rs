//! Objects: the links that Pontoon creates or uses, one type for all kinds, and the changes that turn an
//! observed object into the desired one.
//!
//! Planning, renaming, protecting and removing use objects only through this type. A new kind needs a file
//! here with its fields and its `changes`, an arm in each function of [`Object`], and a file in
//! `crate::linux::object` that creates and reads it.

mod bridge;
mod host_link;
mod ifb;
mod ipvlan;
mod macvlan;
mod veth;
mod vlan;
mod vxlan;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub use bridge::Bridge;
pub use host_link::{HostChild, HostLink};
pub use ifb::Ifb;
pub use ipvlan::Ipvlan;
pub use macvlan::Macvlan;
pub use veth::Veth;
pub use vlan::Vlan;
pub use vxlan::Vxlan;

use super::Shape;
use crate::model::{IfName, Mac, PortVlans};

/// Kinds of objects, in order of creation: ports after their bridges. They are deleted in reverse order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A bridge.
    Bridge,
    /// A VLAN link.
    Vlan,
    /// A host link.
    HostLink,
    /// A VXLAN link.
    Vxlan,
    /// A veth pair.
    Veth,
    /// A macvlan link.
    Macvlan,
    /// An ipvlan link.
    Ipvlan,
    /// An ifb link.
    Ifb,
}

impl ObjectKind {
    /// All kinds, in order.
    pub const ALL: [Self; 8] =
        [Self::Bridge, Self::Vlan, Self::HostLink, Self::Vxlan, Self::Veth, Self::Macvlan, Self::Ipvlan, Self::Ifb];

    /// Its name in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Vxlan => "vxlan link",
            Self::Veth => "veth pair",
            Self::Macvlan => "macvlan link",
            Self::Ipvlan => "ipvlan link",
            Self::Vlan => "VLAN link",
            Self::HostLink => "host link",
            Self::Ifb => "ifb link",
        }
    }
}

/// One link, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A bridge.
    Bridge(Bridge),
    /// A VXLAN link.
    Vxlan(Vxlan),
    /// A veth pair, keyed by the name of its host end.
    Veth(Veth),
    /// A macvlan link.
    Macvlan(Macvlan),
    /// An ipvlan link.
    Ipvlan(Ipvlan),
    /// A VLAN link.
    Vlan(Vlan),
    /// A host link.
    HostLink(HostLink),
    /// An ifb link.
    Ifb(Ifb),
}

/// One idempotent change of an existing object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the MTU, in bytes; for a pair, of the host end.
    Mtu(u32),
    /// Sets the hardware address; for a pair, of the host end.
    Mac(Mac),
    /// Brings the link up.
    Up,
    /// Hardens a bridge against frames that make it learn wrong addresses: [`Bridge::hardened`].
    Harden,
    /// Disables ARP on a host end.
    ArpOff,
    /// Enables IPv6 on a bridge: `disable_ipv6` = 0, `accept_ra` = 0.
    EnableIpv6,
    /// Adds an address to a bridge, without duplicate address detection.
    AddAddress(IpNetwork),
    /// Removes an address from a bridge.
    RemoveAddress(IpNetwork),
    /// Changes the flood list of a VXLAN link.
    Flood {
        /// Peers to add to the list.
        add: Vec<IpAddr>,
        /// Peers to remove from the list.
        remove: Vec<IpAddr>,
    },
    /// Makes the link a port of this bridge.
    Master(IfName),
    /// Makes the link a port of this bridge with exactly these VLANs, and brings it up. It is down in between: no frame
    /// of another VLAN passes.
    JoinVlans {
        /// The bridge.
        bridge: IfName,
        /// The VLANs.
        vlans: PortVlans,
    },
    /// Gives a port exactly these VLANs.
    Vlans(PortVlans),
    /// Sets or clears isolation of a port.
    Isolate(bool),
    /// Lets a port send frames back where they came from (hairpin), for a container that reaches itself
    /// through its published port while br_netfilter translates on the bridge.
    Hairpin,
    /// Limits what a link sends; `None` removes the limit. For a pair, of the host end: what the container receives.
    Shape(Option<Shape>),
    /// Makes a host link quiet: [`HostLink::quiet`].
    Quiet,
    /// Gives a host link the addresses of its parent, and removes others.
    CopyAddresses,
    /// Lets the host reach published ports over 127.0.0.1: `route_localnet` = 1 on a bridge.
    RouteLocalnet,
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Bridge(_) => ObjectKind::Bridge,
            Object::Vxlan(_) => ObjectKind::Vxlan,
            Object::Veth(_) => ObjectKind::Veth,
            Object::Macvlan(_) => ObjectKind::Macvlan,
            Object::Ipvlan(_) => ObjectKind::Ipvlan,
            Object::Vlan(_) => ObjectKind::Vlan,
            Object::HostLink(_) => ObjectKind::HostLink,
            Object::Ifb(_) => ObjectKind::Ifb,
        }
    }

    /// The hardware address derived from the id of its owner. The kernel keeps it when the link is renamed,
    /// so it identifies the object. `None` for a link that is not Pontoon's.
    pub fn identity(&self) -> Option<Mac> {
        match self {
            Object::Bridge(bridge) => bridge.mac.filter(|_| bridge.owned),
            Object::Vxlan(vxlan) => Some(vxlan.mac),
            Object::Veth(veth) => Some(veth.host_mac),
            Object::Ifb(ifb) => Some(ifb.mac),
            // Its address is derived from the network and the container's IP address, which another container
            // may get next.
            Object::Macvlan(_) | Object::HostLink(_) => None,
            // They have the address of the link below.
            Object::Ipvlan(_) | Object::Vlan(_) => None,
        }
    }

    /// Whether Pontoon created it and may therefore delete it.
    pub fn is_ours(&self, name: &IfName) -> bool {
        match self {
            Object::Bridge(bridge) => bridge.owned,
            Object::Vxlan(_) | Object::Macvlan(_) | Object::Ipvlan(_) | Object::HostLink(_) | Object::Ifb(_) => {
                name.has_prefix()
            }
            // Its name is chosen by the user; only those in Pontoon's group are observed.
            Object::Vlan(_) => true,
            // A pair without one of Pontoon's names at either end may belong to another program.
            Object::Veth(veth) => name.has_prefix() || veth.peer.has_prefix(),
        }
    }

    /// Whether one part stays on the host while the rest is in a sandbox, so that its absence means that the
    /// sandbox is gone.
    pub fn stays_on_host(&self) -> bool {
        matches!(self, Object::Veth(_))
    }

    /// The bridge whose port it is; the outer `None` for kinds that are never ports.
    pub fn master_mut(&mut self) -> Option<&mut Option<IfName>> {
        match self {
            Object::Vxlan(vxlan) => Some(&mut vxlan.bridge),
            Object::Veth(veth) => Some(&mut veth.bridge),
            _ => None,
        }
    }

    /// The bridge whose port it is, if any.
    pub fn master(&self) -> Option<&IfName> {
        match self {
            Object::Vxlan(vxlan) => vxlan.bridge.as_ref(),
            Object::Veth(veth) => veth.bridge.as_ref(),
            _ => None,
        }
    }

    /// The link of the host on which it is, for kinds that need one.
    pub fn parent(&self) -> Option<&IfName> {
        match self {
            Object::Macvlan(link) => Some(&link.parent),
            Object::Ipvlan(link) => Some(&link.parent),
            Object::HostLink(link) => Some(&link.parent),
            Object::Vlan(link) => Some(&link.below),
            Object::Bridge(_) | Object::Vxlan(_) | Object::Veth(_) | Object::Ifb(_) => None,
        }
    }

    /// The changes that turn `self` into `want`, which has the same name; `None` when `want` must be created
    /// as a whole, see [`Object::is_completed`].
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        match (self, want) {
            (Object::Bridge(have), Object::Bridge(want)) => have.changes(want),
            (Object::Vxlan(have), Object::Vxlan(want)) => have.changes(want),
            (Object::Veth(have), Object::Veth(want)) => Some(have.changes(want)),
            (Object::Macvlan(have), Object::Macvlan(want)) => have.changes(want),
            (Object::Ipvlan(have), Object::Ipvlan(want)) => have.changes(want),
            (Object::Vlan(have), Object::Vlan(want)) => have.changes(want),
            (Object::HostLink(have), Object::HostLink(want)) => have.changes(want),
            (Object::Ifb(have), Object::Ifb(want)) => have.changes(want),
            _ => None,
        }
    }

    /// Applies a change, for the fake kernel; false when this kind has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match self {
            Object::Bridge(bridge) => bridge.apply(change),
            Object::Vxlan(vxlan) => vxlan.apply(change),
            Object::Veth(veth) => veth.apply(change),
            Object::Macvlan(macvlan) => macvlan.apply(change),
            Object::Ipvlan(ipvlan) => ipvlan.apply(change),
            Object::Vlan(vlan) => vlan.apply(change),
            Object::HostLink(link) => link.apply(change),
            Object::Ifb(ifb) => ifb.apply(change),
        }
    }

    /// Its kind as the kernel names it, its MTU in bytes, and its hardware address, for the fake kernel.
    pub(super) fn info(&self) -> (&'static str, u32, Option<Mac>) {
        match self {
            Object::Bridge(bridge) => ("bridge", bridge.mtu, bridge.mac),
            Object::Vxlan(vxlan) => ("vxlan", vxlan.mtu, Some(vxlan.mac)),
            Object::Veth(veth) => ("veth", veth.mtu, Some(veth.host_mac)),
            Object::Macvlan(macvlan) => ("macvlan", macvlan.mtu, Some(macvlan.mac)),
            Object::Ifb(ifb) => ("ifb", 1500, Some(ifb.mac)),
            // The MTU is that of the parent, which only the kernel knows.
            Object::HostLink(link) => ("macvlan", 1500, link.mac()),
            Object::Ipvlan(ipvlan) => ("ipvlan", ipvlan.mtu, None),
            // Both are those of the link below, which only the kernel knows.
            Object::Vlan(vlan) => ("vlan", 1500, Some(Mac::derive("link", vlan.below.as_str()))),
        }
    }

    /// Whether creating it again completes an incomplete object. If not, the existing link must be deleted
    /// first.
    pub(super) fn is_completed(&self) -> bool {
        matches!(self, Object::Bridge(_))
    }
}

/// Appends the changes of a port's bridge and isolation, each given as (bridge, isolated). A port that
/// changes bridges starts with default flags. Returns whether it changes bridges.
fn port(changes: &mut Vec<Change>, have: (&Option<IfName>, bool), want: (&Option<IfName>, bool)) -> bool {
    let moved = want.0.as_ref().filter(|bridge| have.0.as_ref() != Some(*bridge));
    changes.extend(moved.cloned().map(Change::Master));
    let isolated = moved.is_none() && have.1;
    changes.extend((isolated != want.1).then_some(Change::Isolate(want.1)));
    moved.is_some()
}

impl From<Bridge> for Object {
    fn from(bridge: Bridge) -> Self {
        Object::Bridge(bridge)
    }
}

impl From<Vxlan> for Object {
    fn from(vxlan: Vxlan) -> Self {
        Object::Vxlan(vxlan)
    }
}

impl From<Veth> for Object {
    fn from(veth: Veth) -> Self {
        Object::Veth(veth)
    }
}

impl From<Ipvlan> for Object {
    fn from(ipvlan: Ipvlan) -> Self {
        Object::Ipvlan(ipvlan)
    }
}

impl From<Vlan> for Object {
    fn from(vlan: Vlan) -> Self {
        Object::Vlan(vlan)
    }
}

impl From<HostLink> for Object {
    fn from(link: HostLink) -> Self {
        Object::HostLink(link)
    }
}

impl From<Ifb> for Object {
    fn from(ifb: Ifb) -> Self {
        Object::Ifb(ifb)
    }
}

impl From<Macvlan> for Object {
    fn from(macvlan: Macvlan) -> Self {
        Object::Macvlan(macvlan)
    }
}
