//! Owns the carrying out of steps: which kernel requests one step is, and what makes it
//! idempotent.
//!
//! Decides nothing: what is to be done comes from the plan. Called through `Kernel::apply`.

use std::collections::BTreeSet;
use std::time::Duration;

use rtnetlink::LinkUnspec;

use super::link::PortFlag;
use super::netlink::{Explain as _, Failure};
use super::nft::table;
use super::{LinuxKernel, Master, Route, addr, bridge, forward, link, neighbour, observe, veth};
use crate::datapath::{Bridge, Element, GROUP_DEAD, KernelError, Step, Veth};
use crate::model::IfName;

/// How long a step waits for a link of the same name that is being deleted.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How often a step is tried while links of the same name come and go.
pub(super) const TRIES: u32 = 4;

impl LinuxKernel {
    pub(super) fn carry_out(&self, step: &Step) -> Result<(), KernelError> {
        self.announce(step);
        let (operation, object) = describe(step);
        self.try_out(step).map_err(|failure| failure.of(operation, &object))
    }

    fn try_out(&self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Forward { v6 } => self.turn_on_forwarding(*v6),
            Step::CreateTable(elements) => table::create(&mut self.nft(), &elements.iter().cloned().collect()),
            Step::Elements { add, remove } => {
                let (add, remove) = (add.iter().cloned().collect(), remove.iter().cloned().collect());
                table::change(&mut self.nft(), &add, &remove)
            }
            Step::ForwardRules { v6, rules } => forward::ensure(&mut self.nft(), *v6, rules),
            Step::Shortcuts { add, remove } => self.change_shortcuts(add, remove),
            Step::CreateBridge(name, bridge) => self.create_bridge(name, bridge),
            Step::SetMtu(name, mtu) => link::change(&mut self.route().socket, link::named(name).mtu(*mtu)),
            Step::SetMac(name, mac) => {
                link::change(&mut self.route().socket, link::named(name).address(mac.bytes().to_vec()))
            }
            Step::SetUp(name) => link::change(&mut self.route().socket, link::named(name).up()),
            Step::HardenBridge(name) => bridge::harden(&mut self.route().socket, name),
            Step::ArpOff(name) => link::change(&mut self.route().socket, link::named(name).arp(false)),
            Step::EnableIpv6(name) => self.sysctls.enable_ipv6(name),
            Step::AddAddress(name, address) => {
                let mut route = self.route();
                let found = link::find(&mut route.socket, name.as_str())?;
                let index = found.ok_or_else(|| Failure::refused(libc::ENODEV, ""))?.index;
                addr::add(&mut route.socket, index, *address)
            }
            Step::RemoveAddress(name, address) => {
                let mut route = self.route();
                let found = link::find(&mut route.socket, name.as_str())?;
                found.map_or(Ok(()), |link| addr::remove(&mut route.socket, link.index, *address))
            }
            Step::CreateVeth(name, veth) => self.create_veth(name, veth),
            Step::CreateVxlan(name, vxlan) => self.create_vxlan(name, vxlan),
            Step::RetireVxlan(name) => {
                self.reaper.retire(name);
                Ok(())
            }
            Step::Flood { link, add, remove } => {
                let socket = &mut self.route().socket;
                let found = link::find(socket, link.as_str())?;
                let index = found.ok_or_else(|| Failure::refused(libc::ENODEV, ""))?.index;
                neighbour::flood(socket, index, add.iter().copied())?;
                remove.iter().try_for_each(|peer| neighbour::stop_flood(socket, index, *peer))
            }
            Step::Rename { from, to } => self.rename(from, to),
            Step::SetMaster(name, bridge) => {
                let mut route = self.route();
                let bridge = Some(bridge);
                with_master(&mut route, bridge, |route, index| {
                    link::change(&mut route.socket, link::named(name).controller(index.unwrap_or(0)))
                })
            }
            Step::Isolate(name, on) => link::set_port(&mut self.route().socket, name, &[PortFlag::Isolated(*on)]),
            Step::Hairpin(name) => link::set_port(&mut self.route().socket, name, &[PortFlag::Hairpin(true)]),
            Step::RouteLocalnet(name) => {
                let found = link::find(&mut self.route().socket, name.as_str())?;
                found.ok_or_else(|| Failure::refused(libc::ENODEV, ""))?;
                self.sysctls.route_localnet(name)
            }
            Step::ForgetFlows(addresses) => {
                self.sweeper.forget(addresses);
                Ok(())
            }
            Step::ForgetMisled(ports) => {
                self.sweeper.forget_misled(ports);
                Ok(())
            }
            Step::RetireVeth(name) => {
                self.reaper.retire(name);
                Ok(())
            }
            Step::RetireBridge(name) => self.retire_bridge(name),
        }
    }

    /// What must stay apart is closed before it opens.
    fn turn_on_forwarding(&self, v6: bool) -> Result<(), Failure> {
        if self.sysctls.forwarding(v6) {
            return Ok(());
        }
        let links = link::list(&mut self.route().socket)?;
        let routers: Vec<_> = observe::routers(&links, v6).collect();
        let mut closed = BTreeSet::from([Element::Closed(v6)]);
        closed.extend(routers.iter().map(|link| Element::Router(link.clone(), v6)));
        table::change(&mut self.nft(), &closed, &BTreeSet::new())?;
        self.sysctls.forward(v6)?;
        for link in routers.iter().filter(|_| !v6) {
            // The link may be gone; and the element says the same.
            if let Err(failure) = self.sysctls.forward_from(link) {
                tracing::warn!(%link, ?failure, "its own setting for forwarding is lost, its packets are forwarded all the same");
            }
        }
        tracing::info!(family = family(v6), "forwarding is turned on, for Pontoon's networks alone");
        Ok(())
    }

    /// Tells watchers that a change of this link is ours.
    fn announce(&self, step: &Step) {
        match step {
            // A new pair is nothing that a watcher reports, nor is what a tunnel floods to; giving a
            // pair up is announced when it happens.
            Step::CreateVeth(..) | Step::RetireVeth(_) | Step::Flood { .. } => {}
            _ => step.link().into_iter().for_each(|link| self.touches.mark(link)),
        }
    }

    fn create_bridge(&self, name: &IfName, bridge: &Bridge) -> Result<(), Failure> {
        for _ in 0..TRIES {
            self.await_gone(name)?;
            let mut route = self.route();
            route.bridges.remove(name);
            match bridge::create(&mut route.socket, &self.sysctls, name, bridge) {
                Ok(index) => {
                    route.bridges.insert(name.clone(), Master { index, ours: true });
                    return Ok(());
                }
                Err(failure) if failure.errno() == Some(libc::EEXIST) => {}
                Err(failure) => return Err(failure),
            }
            match link::find(&mut route.socket, name.as_str())? {
                // Gone between the two requests.
                None => {}
                Some(found) if found.kind == "bridge" && found.dead() => self.reaper.retire(name),
                Some(found) if found.kind == "bridge" && found.live() => {
                    return bridge::complete(&mut route.socket, &self.sysctls, &found, name, bridge);
                }
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name come and go"))
    }

    fn create_veth(&self, name: &IfName, veth: &Veth) -> Result<(), Failure> {
        for _ in 0..TRIES {
            self.await_gone(name)?;
            let mut route = self.route();
            let bridge = veth.bridge.as_ref();
            let made =
                with_master(&mut route, bridge, |route, master| veth::create(&mut route.socket, name, veth, master));
            let failure = match made {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.errno() != Some(libc::EEXIST) {
                return Err(failure);
            }
            match link::find(&mut route.socket, name.as_str())? {
                None => self.free_peer(&mut route, veth)?,
                Some(found) if found.kind == "veth" && found.dead() => self.reaper.retire(name),
                Some(found) if found.kind == "veth" && found.live() => {
                    self.touches.mark(name);
                    return with_master(&mut route, bridge, |route, master| {
                        veth::complete(&mut route.socket, &found, name, veth, master)
                    });
                }
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name come and go"))
    }

    /// The name of the host end was free, so the other one's is taken: by a pair that is about to
    /// be deleted, which is waited for, or by somebody else.
    fn free_peer(&self, route: &mut Route, veth: &Veth) -> Result<(), Failure> {
        let Some(peer) = link::find(&mut route.socket, veth.peer.as_str())? else { return Ok(()) };
        let host = match peer.peer {
            Some(index) => link::find_index(&mut route.socket, index)?,
            None => None,
        };
        match host.filter(link::LinkRecord::dead).and_then(|host| host.ifname()) {
            Some(host) => {
                self.reaper.retire(&host);
                self.await_gone(&host)
            }
            None => Err(foreign(&veth.peer, &peer.kind)),
        }
    }

    fn rename(&self, from: &IfName, to: &IfName) -> Result<(), Failure> {
        let socket = &mut self.route().socket;
        match link::find(socket, from.as_str())? {
            Some(found) if found.live() => link::rename(socket, found.index, to),
            Some(found) => Err(foreign(from, &found.kind)),
            None => match link::find(socket, to.as_str())? {
                Some(found) if found.live() => Ok(()),
                _ => Err(Failure::refused(libc::ENODEV, "")),
            },
        }
    }

    fn retire_bridge(&self, name: &IfName) -> Result<(), Failure> {
        let mut route = self.route();
        route.bridges.remove(name);
        let Some(found) = link::find(&mut route.socket, name.as_str())? else { return Ok(()) };
        if found.kind != "bridge" || !(found.live() || found.dead()) {
            tracing::warn!(link = %name, kind = %found.kind, "not Pontoon's any more, it is left alone");
            return Ok(());
        }
        let change = LinkUnspec::new_with_index(found.index).down().link_group(GROUP_DEAD);
        let changed = match link::change(&mut route.socket, change) {
            Err(failure) if failure.errno() == Some(libc::ENODEV) => return Ok(()),
            result => result,
        };
        // In any case: the kernel may have carried out part of it and refused the rest
        // (`do_setlink`, net/core/rtnetlink.c). The reaper does what is left, again and again.
        self.reaper.retire(name);
        changed
    }

    pub(super) fn await_gone(&self, name: &IfName) -> Result<(), Failure> {
        let gone = self.reaper.await_gone(name, PATIENCE);
        let words = "a link of this name is still being deleted";
        if gone { Ok(()) } else { Err(Failure::refused(libc::EBUSY, words)) }
    }
}

/// Does something with the index of a bridge. The index comes from memory; if the kernel does not
/// like it, the bridge may have been made anew: it is looked up and used once more.
pub(super) fn with_master(
    route: &mut Route,
    bridge: Option<&IfName>,
    mut act: impl FnMut(&mut Route, Option<u32>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(bridge) = bridge else { return act(route, None) };
    let master = route.bridge(bridge)?;
    let failure = match keeping(route, master, &mut act) {
        // EINVAL: no such link; EOPNOTSUPP: not one that has ports.
        Err(f) if matches!(f.errno(), Some(libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP)) => f,
        result => return result,
    };
    route.bridges.remove(bridge);
    let fresh = route.bridge(bridge)?;
    if fresh == master { Err(failure) } else { keeping(route, fresh, &mut act) }
}

/// A bridge whose owner set neither takes the hardware address of the lowest of its ports and the
/// smallest of their MTUs (`br_stp_recalculate_bridge_id`, `br_mtu_auto_adjust`). A port of ours must not
/// change what others use a foreign bridge for: what the kernel changed is put back, and stays.
fn keeping(
    route: &mut Route,
    master: Master,
    act: &mut impl FnMut(&mut Route, Option<u32>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let before = if master.ours { None } else { link::find_index(&mut route.socket, master.index)? };
    let result = act(route, Some(master.index));
    let Some(before) = before else { return result };
    let Some(after) = link::find_index(&mut route.socket, master.index)? else { return result };
    let mut change = LinkUnspec::new_with_index(master.index);
    let mut changed = false;
    if let Some(mac) = before.mac.filter(|mac| before.mac != after.mac && mac.bytes() != [0; 6]) {
        (change, changed) = (change.address(mac.bytes().to_vec()), true);
    }
    if after.mtu != before.mtu {
        (change, changed) = (change.mtu(before.mtu), true);
    }
    if changed {
        link::change(&mut route.socket, change)?;
    }
    result
}

pub(super) fn foreign(name: &IfName, kind: &str) -> Failure {
    let kind = if kind.is_empty() { "link" } else { kind };
    Failure::refused(libc::EEXIST, &format!("{name} is a {kind} that is not Pontoon's"))
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// What a step is called in an error, and its object.
fn describe(step: &Step) -> (&'static str, String) {
    let tables = "inet pontoon and bridge pontoon".to_owned();
    match step {
        Step::Forward { v6 } => ("turn on forwarding of", family(*v6).to_owned()),
        Step::CreateTable(_) => ("create tables", tables),
        Step::Elements { .. } => ("change elements of tables", tables),
        Step::ForwardRules { v6, .. } => ("write accepting rules to FORWARD of", family(*v6).to_owned()),
        Step::Shortcuts { .. } => ("change shortcuts in table", "netdev pontoon".to_owned()),
        Step::CreateBridge(name, _) => ("create bridge", name.to_string()),
        Step::SetMtu(name, mtu) => ("set MTU of", format!("{name} to {mtu}")),
        Step::SetMac(name, mac) => ("set hardware address of", format!("{name} to {mac}")),
        Step::SetUp(name) => ("bring up", name.to_string()),
        Step::HardenBridge(name) => ("harden bridge", name.to_string()),
        Step::ArpOff(name) => ("turn off ARP of", name.to_string()),
        Step::EnableIpv6(name) => ("turn on IPv6 of", name.to_string()),
        Step::AddAddress(name, address) => ("add address", format!("{address} to {name}")),
        Step::RemoveAddress(name, address) => ("remove address", format!("{address} from {name}")),
        Step::CreateVeth(name, _) => ("create veth pair", name.to_string()),
        Step::CreateVxlan(name, vxlan) => ("create vxlan link", format!("{name} with VNI {}", vxlan.vni)),
        Step::RetireVxlan(name) => ("retire vxlan link", name.to_string()),
        Step::Flood { link, .. } => ("change floods of", link.to_string()),
        Step::Rename { from, to } => ("give its name back to", format!("{to}, now {from}")),
        Step::SetMaster(name, bridge) => ("make a port", format!("{name} of {bridge}")),
        Step::Isolate(name, _) => ("set isolation of", name.to_string()),
        Step::Hairpin(name) => ("turn on hairpin of", name.to_string()),
        Step::RouteLocalnet(name) => ("route loopback addresses on", name.to_string()),
        Step::ForgetFlows(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            ("remove tracked connections of", addresses.join(", "))
        }
        Step::ForgetMisled(ports) => {
            let ports: Vec<_> = ports.iter().map(|port| port.host.to_string()).collect();
            ("remove misled connections to", ports.join(", "))
        }
        Step::RetireVeth(name) => ("retire veth pair", name.to_string()),
        Step::RetireBridge(name) => ("retire bridge", name.to_string()),
    }
}
