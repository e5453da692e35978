//! Owns the fake's bridges and pairs: how they are made, and what they are called.

use std::collections::BTreeMap;

use super::{World, refused};
use crate::datapath::{BRIDGE_PORTS, Bridge, Datapath, KernelError, Step, Veth};
use crate::model::IfName;

impl World {
    /// Settings of a link that have no other effect here.
    pub(super) fn link_step(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::SetMac(link, mac) => {
                if let Some(bridge) = self.datapath.bridges.get_mut(link) {
                    bridge.mac = Some(*mac);
                } else {
                    self.veth(link, "set mac of")?.host_mac = *mac;
                }
            }
            Step::HardenBridge(link) => self.bridge(link, "harden")?.hardened = true,
            Step::ArpOff(host) => self.veth(host, "turn arp off on")?.arp = false,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn create_bridge(&mut self, name: &IfName, bridge: &Bridge) -> Result<(), KernelError> {
        if self.foreign.contains_key(name) {
            return Err(refused("create bridge", name, libc::EEXIST));
        }
        self.datapath.bridges.insert(name.clone(), bridge.clone());
        Ok(())
    }

    pub(super) fn create_veth(&mut self, host: &IfName, veth: &Veth) -> Result<(), KernelError> {
        if let Some(bridge) = &veth.bridge {
            self.port_of(bridge)?;
            let ports = self.datapath.veths.iter().filter(|(h, v)| v.bridge.as_ref() == Some(bridge) && *h != host);
            if ports.count() >= BRIDGE_PORTS {
                return Err(refused("create veth", host, libc::EXFULL));
            }
        }
        if self.foreign.contains_key(host) {
            return Err(refused("create veth", host, libc::EEXIST));
        }
        self.datapath.veths.insert(host.clone(), veth.clone());
        Ok(())
    }

    pub(super) fn port_of(&self, bridge: &IfName) -> Result<(), KernelError> {
        let foreign = self.foreign.get(bridge).is_some_and(|link| link.kind == "bridge");
        if foreign || self.datapath.bridges.contains_key(bridge) {
            Ok(())
        } else {
            Err(refused("find bridge", bridge, libc::ENODEV))
        }
    }

    /// Whoever has that name gets the other one, and stays the bridge of its ports.
    pub(super) fn rename(&mut self, from: &IfName, to: &IfName) -> Result<(), KernelError> {
        let datapath = &mut self.datapath;
        let there = |name| {
            let Datapath { bridges, veths, vxlans, .. } = &*datapath;
            bridges.contains_key(name) || veths.contains_key(name) || vxlans.contains_key(name)
        };
        match (there(from), there(to) || self.foreign.contains_key(to)) {
            (true, true) => return Err(refused("rename", to, libc::EEXIST)),
            (false, true) => return Ok(()),
            _ => {}
        }
        let moved = renamed(&mut datapath.bridges, from, to)
            || renamed(&mut datapath.veths, from, to)
            || renamed(&mut datapath.vxlans, from, to);
        datapath.bridge_renamed(from, to);
        if moved { Ok(()) } else { Err(refused("rename", from, libc::ENODEV)) }
    }
}

fn renamed<T>(links: &mut BTreeMap<IfName, T>, from: &IfName, to: &IfName) -> bool {
    let Some(link) = links.remove(from) else { return false };
    links.insert(to.clone(), link);
    true
}
