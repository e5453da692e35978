//! Objects in the kernel: one file per kind creates, completes and reads it and prints it as shell commands;
//! `change` carries out changes of existing objects.

mod bridge;
pub(super) mod change;
mod child;
mod host_link;
mod ifb;
mod ipvlan;
mod macvlan;
mod veth;
pub(super) mod vlan;
pub(super) mod vxlan;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use bridge::is_hardened;
pub(super) use vxlan::{Identity, identity, listens};
pub use vxlan::{LOW_PORTS, MOST_LEARNED};

use super::LinuxKernel;
use super::addr::AddressRecord;
use super::feature;
use super::link::LinkRecord;
use super::netlink::{Failure, Socket};
use super::sysctl::Sysctls;
use crate::datapath::{Object, Shape};
use crate::model::{IfName, PortVlans};

/// Kinds of links that Pontoon creates, as the kernel names them.
pub(super) const KINDS: [&str; 7] = ["bridge", "ifb", "ipvlan", "macvlan", "veth", "vlan", "vxlan"];

impl LinuxKernel {
    pub(super) fn create(&self, name: &IfName, object: &Object) -> Result<(), Failure> {
        let created = match object {
            Object::Bridge(bridge) => self.create_bridge(name, bridge),
            Object::Vxlan(vxlan) => self.create_vxlan(name, vxlan),
            Object::Veth(veth) => self.create_veth(name, veth),
            Object::Macvlan(macvlan) => self.create_child(name, macvlan),
            Object::Ipvlan(ipvlan) => self.create_child(name, ipvlan),
            Object::Vlan(vlan) => self.create_child(name, vlan),
            Object::HostLink(link) => self.create_host_link(name, link),
            Object::Ifb(ifb) => self.create_ifb(name, ifb),
        };
        created.map_err(|failure| feature::named(failure, object.kind()))
    }
}

/// What reading a link may need besides the link itself.
pub(super) struct Around<'a> {
    /// For requests about single links.
    pub socket: &'a mut Socket,
    /// Settings of links.
    pub sysctls: &'a Sysctls,
    /// All links by index.
    pub names: &'a BTreeMap<u32, &'a LinkRecord>,
    /// All addresses.
    pub addresses: &'a [AddressRecord],
    /// Names of links that Pontoon uses but did not create.
    pub foreign: &'a BTreeSet<IfName>,
    /// VLANs of Pontoon's ports by index, if they were read; ports without any are left out.
    pub vlans: Option<BTreeMap<u32, PortVlans>>,
    /// Limits of Pontoon's links by index.
    pub shapes: BTreeMap<u32, Shape>,
}

impl Around<'_> {
    fn name_of(&self, index: Option<u32>) -> Option<IfName> {
        self.record(index).and_then(LinkRecord::ifname)
    }

    fn record(&self, index: Option<u32>) -> Option<&LinkRecord> {
        self.names.get(&index?).copied()
    }
}

/// Whether [`observe`] reads the data of links of this kind, which is copied for them only: a host has thousands
/// of other links.
pub(super) fn reads_data(kind: &str) -> bool {
    matches!(kind, "macvlan" | "ipvlan" | "vlan")
}

/// Reads a link; `None` for one that Pontoon neither created nor uses.
pub(super) fn observe(around: &mut Around<'_>, link: &LinkRecord, name: &IfName) -> Result<Option<Object>, Failure> {
    Ok(match link.kind.as_str() {
        "bridge" => bridge::observe(around, link, name).map(Object::Bridge),
        "veth" => veth::observe(around, link, name).map(Object::Veth),
        "macvlan" | "ipvlan" if host_link::is_host_link(name) => {
            host_link::observe(around, link, name).map(Object::HostLink)
        }
        "macvlan" => macvlan::observe(around, link).map(Object::Macvlan),
        "ipvlan" => ipvlan::observe(around, link).map(Object::Ipvlan),
        "vlan" => vlan::observe(around, link).map(Object::Vlan),
        "ifb" => ifb::observe(around, link).map(Object::Ifb),
        "vxlan" => vxlan::observe(around, link)?.map(Object::Vxlan),
        _ => None,
    })
}

/// Name of creating an object in errors, and the object.
pub(super) fn describe(name: &IfName, object: &Object) -> (&'static str, String) {
    let detail = match object {
        Object::Vxlan(vxlan) => format!(" with VNI {}", vxlan.vni),
        _ => String::new(),
    };
    ("create", format!("{} {name}{detail}", object.kind().word()))
}

/// The commands that create an object.
pub(super) fn commands(name: &IfName, object: &Object) -> Vec<String> {
    match object {
        Object::Bridge(bridge) => bridge::commands(name, bridge),
        Object::Vxlan(vxlan) => vxlan::commands(name, vxlan),
        Object::Veth(veth) => veth::commands(name, veth),
        Object::Macvlan(macvlan) => macvlan::commands(name, macvlan),
        Object::Ipvlan(ipvlan) => ipvlan::commands(name, ipvlan),
        Object::Vlan(vlan) => vlan::commands(name, vlan),
        Object::HostLink(link) => host_link::commands(name, link),
        Object::Ifb(ifb) => ifb::commands(name, ifb),
    }
}
