//! Reads the kernel as a [`Datapath`]: finds the links, addresses, settings and rules that are Pontoon's, and
//! expresses them in the types of the datapath.
//!
//! Changes nothing. Called by `LinuxKernel`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::addr;
use super::firewall::{fastpath, tables};
use super::forward;
use super::link::{self, LinkRecord};
use super::neighbour;
use super::netlink::{Explain as _, Failure, Socket};
use super::object;
use super::port_vlans;
use super::shaper;
use super::station;
use super::sysctl::{FORWARDED_BY_PONTOON, Sysctls};
use crate::datapath::{BridgePort, Datapath, EngineBridges, Forwarding, KernelError, ObjectKind, Policy, Shape};
use crate::model::Family;
use crate::model::ifname::is_engine_bridge;
use crate::model::{IfName, PortVlans};

/// Reads links, addresses and settings.
///
/// A bridge is reported when it is in Pontoon's live group or named in `foreign`; a veth or a VXLAN link when
/// it is in the live group, regardless of its name. Links that wait for deletion are not reported. Returns the
/// records of all links as well: [`firewall`] needs them, and a listing of thousands of links is expensive.
pub fn links(
    socket: &mut Socket,
    sysctls: &Sysctls,
    foreign: &BTreeSet<IfName>,
) -> Result<(Datapath, Vec<LinkRecord>), Failure> {
    let all = link::list(socket)?;
    let addresses = addr::list(socket)?;
    let names: BTreeMap<u32, &LinkRecord> = all.iter().map(|link| (link.index, link)).collect();
    let vlans = vlans(socket, &all, foreign)?;
    let shapes = shapes(socket, &all)?;
    let mut around = object::Around { socket, sysctls, names: &names, addresses: &addresses, foreign, vlans, shapes };
    let (mut datapath, mut host_links) = (Datapath::default(), Vec::new());
    for link in all.iter().filter(|link| !link.dead()) {
        let Some(name) = link.ifname() else { continue };
        if let Some(object) = object::observe(&mut around, link, &name)? {
            datapath.away.extend((link.away && object.stays_on_host()).then(|| name.clone()));
            if object.kind() == ObjectKind::HostLink {
                host_links.push((name.clone(), link.index));
            }
            datapath.objects.insert(name, object);
        }
    }
    for (name, index) in host_links {
        datapath.stations.extend(station::observe(socket, &name, index)?);
    }
    Ok((datapath, all))
}

/// The limits of Pontoon's links. The queues of a host without any are not listed.
fn shapes(socket: &mut Socket, all: &[LinkRecord]) -> Result<BTreeMap<u32, Shape>, Failure> {
    match all.iter().any(|link| link.live() && link.shaped) {
        true => shaper::list(socket),
        false => Ok(BTreeMap::new()),
    }
}

/// The VLANs of Pontoon's ports; `None` when no bridge that a network uses filters VLANs, so that the ports of a host
/// without such bridges are not listed again.
fn vlans(
    socket: &mut Socket,
    all: &[LinkRecord],
    foreign: &BTreeSet<IfName>,
) -> Result<Option<BTreeMap<u32, PortVlans>>, Failure> {
    let is_used = |link: &LinkRecord| link.live() || link.ifname().is_some_and(|name| foreign.contains(&name));
    if !all.iter().any(|link| link.filters_vlans && is_used(link)) {
        return Ok(None);
    }
    let ours = all.iter().filter(|link| link.live() && link.kind == "veth").map(|link| link.index).collect();
    port_vlans::list(socket, Some(&ours)).map(Some)
}

/// The ports of a bridge with their VLANs, and the bridge itself.
pub fn bridge_ports(socket: &mut Socket, bridge: &IfName) -> Result<Vec<BridgePort>, Failure> {
    let vlans = port_vlans::list(socket, None)?;
    let links = link::list(socket)?;
    let found = links.iter().find(|link| link.name == bridge.as_str());
    Ok(found.map(|bridge| ports(&links, bridge.index, &vlans)).unwrap_or_default())
}

/// The same from a listing of all links and of all VLANs.
pub fn ports(links: &[LinkRecord], bridge: u32, vlans: &BTreeMap<u32, PortVlans>) -> Vec<BridgePort> {
    let ports = links.iter().filter(|link| link.master == Some(bridge) || link.index == bridge);
    let port = |link: &LinkRecord| {
        let vlans = vlans.get(&link.index)?.clone();
        Some(BridgePort { link: link.ifname()?, ours: link.live() || link.dead(), vlans })
    };
    ports.filter_map(port).collect()
}

/// Which families are forwarded, and which of them because of Pontoon alone.
pub fn forwarding(sysctls: &Sysctls) -> (Forwarding, Forwarding) {
    (
        Forwarding { v4: sysctls.forwarding(Family::V4), v6: sysctls.forwarding(Family::V6) },
        Forwarding { v4: sysctls.forwarded_by_pontoon(Family::V4), v6: sysctls.forwarded_by_pontoon(Family::V6) },
    )
}

/// Links whose own setting enables forwarding of the family.
pub fn forwarding_links(links: &[LinkRecord], family: Family) -> impl Iterator<Item = IfName> {
    let own = move |link: &&LinkRecord| match family.is_v6() {
        true => link.forwards6 != 0,
        false => link.forwards4 != 0 && link.forwards4 != FORWARDED_BY_PONTOON,
    };
    let others = links.iter().filter(own).filter_map(LinkRecord::ifname);
    others.filter(|name| !name.has_prefix())
}

/// The same while forwarding is on because of Pontoon alone, including links that lost their setting when
/// Pontoon turned forwarding on and stopped before it restored the setting.
fn still_forwarding_links(links: &[LinkRecord], datapath: &Datapath) -> BTreeSet<(IfName, Family)> {
    let families = [(Family::V4, datapath.turned_on.v4), (Family::V6, datapath.turned_on.v6)];
    let families = families.into_iter().filter(|(_, closed)| *closed);
    let mut found: BTreeSet<_> =
        families.flat_map(|(family, _)| forwarding_links(links, family).map(move |link| (link, family))).collect();
    for element in datapath.policy.iter().flatten() {
        if let Policy::ForwardingLink(link, Family::V4) = element
            && links.iter().any(|l| l.name == link.as_str() && l.forwards4 == FORWARDED_BY_PONTOON)
        {
            found.insert((link.clone(), Family::V4));
        }
    }
    found
}

/// Time since an entry learned from another host was last used, over all of Pontoon's tunnels.
pub fn heard(socket: &mut Socket) -> Result<BTreeMap<IpAddr, Duration>, Failure> {
    let mut heard: BTreeMap<IpAddr, Duration> = BTreeMap::new();
    for link in link::list(socket)?.iter().filter(|link| link.kind == "vxlan" && link.live()) {
        for entry in neighbour::entries(socket, link.index)?.iter().filter(|entry| entry.learned) {
            let age = heard.entry(entry.peer).or_insert(entry.age);
            *age = entry.age.min(*age);
        }
    }
    Ok(heard)
}

/// Reads the tables, the accepting rules and forwarding into `datapath`.
///
/// `known` are the host's links if the caller has listed them already. `list` lists them again; it is called at
/// most a few times, and only if the known links do not explain the fast path entries found, or if there are none and
/// the host has fast path entries or Pontoon turned forwarding on.
pub fn firewall(
    socket: &mut Socket,
    sysctls: &Sysctls,
    mut known: Option<Vec<LinkRecord>>,
    mut list: impl FnMut() -> Result<Vec<LinkRecord>, Failure>,
    datapath: &mut Datapath,
) -> Result<(), Failure> {
    let rules = |placed: Vec<forward::Placed>| placed.into_iter().filter(|p| p.last).map(|p| p.rule).collect();
    datapath.policy = tables::read(socket)?;
    if datapath.policy.is_none() {
        datapath.former_policy = tables::read_former(socket)?;
    }
    datapath.forward4 = forward::read(socket, Family::V4)?.map(rules);
    datapath.forward6 = forward::read(socket, Family::V6)?.map(rules);
    let ours = |fresh: bool| {
        if fresh {
            known = None;
        }
        let links = listed(&mut known, &mut list)?;
        Ok(links.iter().filter(|link| link.live()).filter_map(|link| Some((link.ifname()?, link.index))).collect())
    };
    datapath.fastpath = Some(fastpath::read(socket, ours)?);
    (datapath.forwarding, datapath.turned_on) = forwarding(sysctls);
    if datapath.turned_on != Forwarding::default() {
        datapath.forwarding_links = still_forwarding_links(listed(&mut known, &mut list)?, datapath);
    }
    Ok(())
}

/// The known links; lists them if they are not known yet.
fn listed<'a>(
    known: &'a mut Option<Vec<LinkRecord>>,
    list: &mut impl FnMut() -> Result<Vec<LinkRecord>, Failure>,
) -> Result<&'a [LinkRecord], Failure> {
    if known.is_none() {
        *known = Some(list()?);
    }
    Ok(known.as_deref().unwrap_or_default())
}

/// Bridges that the engine's built-in driver created, and whether the engine itself protects them.
pub fn engine_bridges(nft: &mut Socket, route: &mut Socket) -> Result<EngineBridges, KernelError> {
    let guarded = forward::engine_guards(nft).map_err(|f| f.of("look up", "the engine's rules"))?;
    let bridges = link::list_kind(route, "bridge").map_err(|f| f.of("list", "bridges"))?;
    let named = bridges.iter().filter(|link| is_engine_bridge(&link.name));
    Ok(EngineBridges { links: named.filter_map(LinkRecord::ifname).collect(), guarded })
}

/// Where the host accepts IPv4 broadcasts, and its own address there: the address in the subnet, and for the
/// limited broadcast the first address of the link.
///
/// Pontoon's bridges are left out, because a broadcast there is for the network alone; so are bridges that
/// call iptables, where the frame would no longer reach the other ports.
pub fn broadcasts(socket: &mut Socket, sysctls: &Sysctls) -> Result<BTreeSet<Policy>, KernelError> {
    let addresses = addr::list_ipv4(socket).map_err(|f| f.of("list", "addresses"))?;
    // Few links have an IPv4 address; the ports of containers have none.
    let mut links = Vec::new();
    for index in addresses.iter().map(|record| record.index).collect::<BTreeSet<_>>() {
        links.extend(link::find_index(socket, index).map_err(|f| f.of("look up", "a link"))?);
    }
    let called = sysctls.bridges_call_iptables();
    let takes = |link: &&LinkRecord| {
        let bridged = link.kind == "bridge" && (called || link.calls_iptables);
        !(link.live() || link.dead() || bridged || link.name == "lo")
    };
    let mut found = BTreeMap::new();
    for link in links.iter().filter(takes) {
        let Some(name) = link.ifname() else { continue };
        for own in addresses.iter().filter(|a| a.index == link.index) {
            let IpNetwork::V4(net) = own.address else { continue };
            if net.prefix() < 31 {
                found.entry((name.clone(), net.broadcast())).or_insert(net.ip());
            }
            found.entry((name.clone(), Ipv4Addr::BROADCAST)).or_insert(net.ip());
        }
    }
    Ok(found.into_iter().map(|((link, at), own)| Policy::Broadcast(link, at, own)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_engines_bridges_by_name() {
        for name in ["docker0", "docker_gwbridge", "br-0123456789ab"] {
            assert!(is_engine_bridge(name), "{name}");
        }
        for name in ["docker1", "br-0123456789AB", "br-0123", "br-lan", "pntb0123456789a"] {
            assert!(!is_engine_bridge(name), "{name}");
        }
    }
}
