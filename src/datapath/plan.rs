//! Owns the difference between two datapaths and the order in which it is closed.
//!
//! Pure. Order: protect, then call back what has another name, then build, then take apart in reverse. Only what Pontoon sets is
//! compared.

use std::collections::BTreeSet;

use super::{Bridge, Datapath, Element, Protected, Step, Veth, Vxlan, shortcut, stray};
use crate::model::{IfName, Protocol};

/// The steps from one datapath to another, and what no step can mend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Host ends of endpoints whose sandbox is gone: the pair vanished with it.
    pub dead: Vec<IfName>,
    /// Bridges of the user's that networks use and that do not exist.
    pub missing: Vec<IfName>,
    /// Bridges that are not made, or not given their address, because a link that the state does not
    /// know has their subnet.
    pub withheld: Vec<IfName>,
    /// Links of Pontoon's that the state does not know. They stay.
    pub unknown: Vec<IfName>,
}

/// The plan that turns `have` into `want`, keeping `protected` alone.
///
/// `None` in `have.forward4`/`forward6` means there is no such chain and nothing to do; `None` in
/// `have.elements` means that the whole table has to be made.
pub fn diff(have: &Datapath, want: &Datapath, protected: &Protected) -> Plan {
    let mut plan = Plan::default();
    let removed_elements = protect(&mut plan, have, want, protected);
    if want.forwarding.v4 && !have.forwarding.v4 {
        plan.steps.push(Step::Forward { v6: false });
    }
    if want.forwarding.v6 && !have.forwarding.v6 {
        plan.steps.push(Step::Forward { v6: true });
    }
    let (renames, have) = stray::called_back(have, want);
    let have = have.as_ref();
    plan.steps.extend(renames);
    bridges(&mut plan, have, want);
    vxlans(&mut plan, have, want);
    veths(&mut plan, have, want);
    shortcuts(&mut plan, have, want, protected);
    // One that has no name of ours at either end may be anybody's.
    let ours = |host: &IfName, veth: &Veth| host.has_prefix() || veth.peer.has_prefix();
    let kept = |link: &IfName| protected.links.contains(link);
    for (host, veth) in have.veths.iter().filter(|(host, _)| !want.veths.contains_key(*host) && !kept(host)) {
        if ours(host, veth) {
            plan.steps.push(Step::RetireVeth(host.clone()));
        }
    }
    for link in have.vxlans.keys().filter(|link| !want.vxlans.contains_key(*link) && !kept(link)) {
        if link.has_prefix() {
            plan.steps.push(Step::RetireVxlan(link.clone()));
        }
    }
    for (name, bridge) in &have.bridges {
        let kept = want.bridges.contains_key(name) || protected.links.contains(name);
        if bridge.owned && !kept {
            plan.steps.push(Step::RetireBridge(name.clone()));
        }
    }
    if !removed_elements.is_empty() {
        plan.steps.push(Step::Elements { add: Vec::new(), remove: removed_elements });
    }
    protected.withhold(&mut plan, have, want);
    plan
}

/// The firewall's additions; returns the elements to remove at the very end.
fn protect(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) -> Vec<Element> {
    let mut removed = Vec::new();
    if let Some(wanted) = &want.elements {
        match &have.elements {
            None => {
                let all: Vec<_> = wanted.union(&protected.elements).cloned().collect();
                let misled = misled(&all);
                plan.steps.push(Step::CreateTable(all));
                plan.steps.extend(misled);
            }
            Some(held) => {
                let add: Vec<_> = wanted.difference(held).cloned().collect();
                removed = held.difference(wanted).filter(|e| !protected.elements.contains(e)).cloned().collect();
                if !add.is_empty() {
                    // A key that changes its value is removed and added in one transaction: at no
                    // time is a port published twice, or not at all.
                    let has_value =
                        |e: &Element| matches!(e, Element::Port(_) | Element::SourceNat(..) | Element::Broadcast(..));
                    let (now, later) = removed.into_iter().partition(has_value);
                    removed = later;
                    let misled = misled(&add);
                    plan.steps.push(Step::Elements { add, remove: now });
                    plan.steps.extend(misled);
                }
            }
        }
    }
    for (v6, have, want) in [(false, &have.forward4, &want.forward4), (true, &have.forward6, &want.forward6)] {
        if let (Some(held), Some(wanted)) = (have, want) {
            let all: BTreeSet<_> = wanted.union(&protected.rules).cloned().collect();
            if *held != all {
                plan.steps.push(Step::ForwardRules { v6, rules: all.into_iter().collect() });
            }
        }
    }
    removed
}

/// What must follow the publishing of ports: clients that asked too early are let through to the
/// host, or still go to the container that was there before. Not those of TCP: each of its
/// connections is a new flow.
fn misled(added: &[Element]) -> Option<Step> {
    let stays = |element: &Element| match element {
        Element::Port(port) if port.host.protocol != Protocol::Tcp => Some(*port),
        _ => None,
    };
    let ports: Vec<_> = added.iter().filter_map(stays).collect();
    (!ports.is_empty()).then_some(Step::ForgetMisled(ports))
}

fn bridges(plan: &mut Plan, have: &Datapath, want: &Datapath) {
    for (name, wanted) in &want.bridges {
        match have.bridges.get(name) {
            Some(held) if wanted.owned && held.owned => bridge(plan, name, held, wanted),
            Some(held) => {
                if !held.up {
                    plan.steps.push(Step::SetUp(name.clone()));
                }
            }
            None if wanted.owned => plan.steps.push(Step::CreateBridge(name.clone(), wanted.clone())),
            None => plan.missing.push(name.clone()),
        }
    }
}

fn bridge(plan: &mut Plan, name: &IfName, have: &Bridge, want: &Bridge) {
    if have.alias != want.alias {
        // The alias comes after the settings that are made once: without it the bridge was left
        // half made, and the step that makes it makes it whole.
        plan.steps.push(Step::CreateBridge(name.clone(), want.clone()));
        return;
    }
    if let Some(mac) = want.mac.filter(|_| have.mac != want.mac) {
        plan.steps.push(Step::SetMac(name.clone(), mac));
    }
    if have.mtu != want.mtu {
        plan.steps.push(Step::SetMtu(name.clone(), want.mtu));
    }
    if want.hardened && !have.hardened {
        plan.steps.push(Step::HardenBridge(name.clone()));
    }
    if want.ipv6 && !have.ipv6 {
        plan.steps.push(Step::EnableIpv6(name.clone()));
    }
    if !have.up {
        plan.steps.push(Step::SetUp(name.clone()));
    }
    // Its route wants a link that is up.
    if want.localnet && !have.localnet {
        plan.steps.push(Step::RouteLocalnet(name.clone()));
    }
    for address in want.addresses.difference(&have.addresses) {
        plan.steps.push(Step::AddAddress(name.clone(), *address));
    }
    for address in have.addresses.difference(&want.addresses) {
        // The kernel makes link-local addresses itself; they are not ours to take.
        let link_local = matches!(address, ipnetwork::IpNetwork::V6(net) if net.ip().is_unicast_link_local());
        if !link_local {
            plan.steps.push(Step::RemoveAddress(name.clone(), *address));
        }
    }
}

fn vxlans(plan: &mut Plan, have: &Datapath, want: &Datapath) {
    for (link, wanted) in &want.vxlans {
        let Some(held) = have.vxlans.get(link) else {
            plan.steps.push(Step::CreateVxlan(link.clone(), wanted.clone()));
            continue;
        };
        let fixed = |vxlan: &Vxlan| (vxlan.vni, vxlan.port, vxlan.local, vxlan.mac, vxlan.low_ports);
        if fixed(held) == fixed(wanted) {
            vxlan(plan, link, held, wanted);
        } else {
            plan.steps.extend([Step::RetireVxlan(link.clone()), Step::CreateVxlan(link.clone(), wanted.clone())]);
        }
    }
}

fn vxlan(plan: &mut Plan, link: &IfName, have: &Vxlan, want: &Vxlan) {
    if have.mtu != want.mtu {
        plan.steps.push(Step::SetMtu(link.clone(), want.mtu));
    }
    let (add, remove): (Vec<_>, Vec<_>) =
        (want.peers.difference(&have.peers).copied().collect(), have.peers.difference(&want.peers).copied().collect());
    if !add.is_empty() || !remove.is_empty() {
        plan.steps.push(Step::Flood { link: link.clone(), add, remove });
    }
    let moved = want.bridge.as_ref().filter(|bridge| have.bridge.as_ref() != Some(*bridge));
    if let Some(bridge) = moved {
        plan.steps.push(Step::SetMaster(link.clone(), bridge.clone()));
    }
    // A port that changes bridges starts with default flags.
    if (moved.is_none() && have.isolated) != want.isolated {
        plan.steps.push(Step::Isolate(link.clone(), want.isolated));
    }
    if want.up && !have.up {
        plan.steps.push(Step::SetUp(link.clone()));
    }
}

fn veths(plan: &mut Plan, have: &Datapath, want: &Datapath) {
    for (host, wanted) in &want.veths {
        match have.veths.get(host) {
            Some(held) => veth(plan, host, held, wanted),
            None if want.sandboxed.contains(host) => plan.dead.push(host.clone()),
            None => plan.steps.push(Step::CreateVeth(host.clone(), wanted.clone())),
        }
    }
}

fn shortcuts(plan: &mut Plan, have: &Datapath, want: &Datapath, protected: &Protected) {
    let (Some(held), Some(wanted)) = (&have.shortcuts, &want.shortcuts) else { return };
    let made = plan.steps.iter().filter_map(|step| match step {
        Step::CreateVxlan(link, _) | Step::CreateVeth(link, _) => Some(link),
        _ => None,
    });
    let (add, remove) = shortcut::difference(held, wanted, &made.collect(), protected);
    if !add.is_empty() || !remove.is_empty() {
        plan.steps.push(Step::Shortcuts { add, remove });
    }
}

fn veth(plan: &mut Plan, host: &IfName, have: &Veth, want: &Veth) {
    if have.host_mac != want.host_mac {
        plan.steps.push(Step::SetMac(host.clone(), want.host_mac));
    }
    if have.arp && !want.arp {
        plan.steps.push(Step::ArpOff(host.clone()));
    }
    if have.mtu != want.mtu {
        plan.steps.push(Step::SetMtu(host.clone(), want.mtu));
    }
    let moved = want.bridge.as_ref().filter(|bridge| have.bridge.as_ref() != Some(*bridge));
    if let Some(bridge) = moved {
        plan.steps.push(Step::SetMaster(host.clone(), bridge.clone()));
    }
    // A port that changes bridges starts with default flags.
    let (isolated, hairpin) = if moved.is_some() { (false, false) } else { (have.isolated, have.hairpin) };
    if isolated != want.isolated {
        plan.steps.push(Step::Isolate(host.clone(), want.isolated));
    }
    if want.hairpin && !hairpin {
        plan.steps.push(Step::Hairpin(host.clone()));
    }
    if want.up && !have.up {
        plan.steps.push(Step::SetUp(host.clone()));
    }
}
