//! Owns reading the kernel as a [`Datapath`]: which links, addresses, settings and rules are
//! Pontoon's, in the words of the datapath.
//!
//! Changes nothing. Called by `LinuxKernel`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::addr::{self, AddressRecord};
use super::forward;
use super::link::{self, LinkRecord};
use super::neighbour;
use super::netlink::{Explain as _, Failure, Socket};
use super::nft::{shortcut, table};
use super::sysctl::{FORWARDED_BY_PONTOON, Sysctls};
use crate::datapath::{Bridge, Datapath, Element, EngineBridges, Forwarding, KernelError, Veth, Vxlan};
use crate::model::ifname::{PREFIX, is_engine_bridge};
use crate::model::{IfName, Mac};

/// Reads links, addresses and settings.
///
/// A bridge is reported when it is in our live group or named in `foreign`; a veth or a VXLAN
/// link when it is in our live group, whatever its name. What waits for its deletion is not there any more.
pub fn links(socket: &mut Socket, sysctls: &Sysctls, foreign: &BTreeSet<IfName>) -> Result<Datapath, Failure> {
    let all = link::list(socket)?;
    let addresses = addr::list(socket)?;
    let names: BTreeMap<u32, &LinkRecord> = all.iter().map(|link| (link.index, link)).collect();
    let mut datapath = Datapath::default();
    for link in all.iter().filter(|link| !link.dead()) {
        let Some(name) = link.ifname() else { continue };
        match link.kind.as_str() {
            "bridge" if link.live() || foreign.contains(&name) => {
                datapath.bridges.insert(name.clone(), bridge(link, &name, &addresses, sysctls));
            }
            "veth" if link.live() => {
                datapath.away.extend(link.away.then(|| name.clone()));
                datapath.veths.insert(name.clone(), veth(link, &name, &names));
            }
            "vxlan" if link.live() => {
                if let Some(vxlan) = vxlan(socket, link, &names)? {
                    datapath.vxlans.insert(name, vxlan);
                }
            }
            _ => {}
        }
    }
    Ok(datapath)
}

/// Which families are forwarded, and which of them by Pontoon's decision alone.
pub fn forwarding(sysctls: &Sysctls) -> (Forwarding, Forwarding) {
    (
        Forwarding { v4: sysctls.forwarding(false), v6: sysctls.forwarding(true) },
        Forwarding { v4: sysctls.forwarded_by_pontoon(false), v6: sysctls.forwarded_by_pontoon(true) },
    )
}

/// Links whose packets of the family are forwarded by a setting of their own.
pub fn routers(links: &[LinkRecord], v6: bool) -> impl Iterator<Item = IfName> {
    let own = move |link: &&LinkRecord| match v6 {
        true => link.forwards6 != 0,
        false => link.forwards4 != 0 && link.forwards4 != FORWARDED_BY_PONTOON,
    };
    let others = links.iter().filter(own).filter_map(LinkRecord::ifname);
    others.filter(|name| !name.has_prefix())
}

/// The same while Pontoon alone has forwarding on, with those that lost their setting when Pontoon
/// turned it on and died before it gave the setting back.
fn still_routers(links: &[LinkRecord], datapath: &Datapath) -> BTreeSet<(IfName, bool)> {
    let families = [(false, datapath.turned_on.v4), (true, datapath.turned_on.v6)];
    let families = families.into_iter().filter(|(_, closed)| *closed);
    let mut found: BTreeSet<_> = families.flat_map(|(v6, _)| routers(links, v6).map(move |link| (link, v6))).collect();
    for element in datapath.elements.iter().flatten() {
        if let Element::Router(link, false) = element
            && links.iter().any(|l| l.name == link.as_str() && l.forwards4 == FORWARDED_BY_PONTOON)
        {
            found.insert((link.clone(), false));
        }
    }
    found
}

/// How long ago an entry that was learned from another host was in use, over all tunnels of ours.
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
/// `links` is asked at most a few times, and only on a host with shortcuts, or where Pontoon turned
/// forwarding on.
pub fn firewall(
    socket: &mut Socket,
    sysctls: &Sysctls,
    mut links: impl FnMut() -> Result<Vec<LinkRecord>, Failure>,
    datapath: &mut Datapath,
) -> Result<(), Failure> {
    let rules = |placed: Vec<forward::Placed>| placed.into_iter().filter(|p| p.last).map(|p| p.rule).collect();
    datapath.elements = table::read(socket)?;
    if datapath.elements.is_none() {
        datapath.former = table::read_former(socket)?;
    }
    datapath.forward4 = forward::read(socket, false)?.map(rules);
    datapath.forward6 = forward::read(socket, true)?.map(rules);
    let ours = || {
        Ok(links()?.iter().filter(|link| link.live()).filter_map(|link| Some((link.ifname()?, link.index))).collect())
    };
    datapath.shortcuts = Some(shortcut::read(socket, ours)?);
    (datapath.forwarding, datapath.turned_on) = forwarding(sysctls);
    if datapath.turned_on != Forwarding::default() {
        datapath.routers = still_routers(&links()?, datapath);
    }
    Ok(())
}

/// Bridges that the engine's built-in driver made, and whether it protects them by itself.
pub fn engine_bridges(nft: &mut Socket, route: &mut Socket) -> Result<EngineBridges, KernelError> {
    let guarded = forward::engine_guards(nft).map_err(|f| f.of("look up", "the engine's rules"))?;
    let links = link::list(route).map_err(|f| f.of("list", "links"))?;
    let named = links.iter().filter(|link| link.kind == "bridge" && is_engine_bridge(&link.name));
    Ok(EngineBridges { links: named.filter_map(LinkRecord::ifname).collect(), guarded })
}

/// Where the host takes IPv4 broadcasts, and what its own address is there: that of the subnet, and
/// for the broadcast of all the first one of the link.
///
/// Not on Pontoon's bridges, where a broadcast is for the network alone; and not on a bridge that
/// calls iptables, where the frame would no longer reach the other ports.
pub fn broadcasts(socket: &mut Socket, sysctls: &Sysctls) -> Result<BTreeSet<Element>, KernelError> {
    let links = link::list(socket).map_err(|f| f.of("list", "links"))?;
    let addresses = addr::list(socket).map_err(|f| f.of("list", "addresses"))?;
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
    Ok(found.into_iter().map(|((link, at), own)| Element::Broadcast(link, at, own)).collect())
}

fn bridge(link: &LinkRecord, name: &IfName, addresses: &[AddressRecord], sysctls: &Sysctls) -> Bridge {
    let owned = link.live();
    let ours = addresses.iter().filter(|a| a.index == link.index && !a.automatic_for(link.mac));
    Bridge {
        owned,
        mac: link.mac.filter(|_| owned),
        mtu: link.mtu,
        alias: link.alias.clone(),
        addresses: ours.map(|a| a.address).collect(),
        ipv6: sysctls.ipv6(name),
        localnet: sysctls.localnet(name),
        hardened: link.hardened,
        up: link.up,
    }
}

/// A VXLAN link, if it is of a form that we make.
fn vxlan(socket: &mut Socket, link: &LinkRecord, names: &BTreeMap<u32, &LinkRecord>) -> Result<Option<Vxlan>, Failure> {
    let (Some(identity), Some(mac)) = (link.vxlan, link.mac) else { return Ok(None) };
    let floods = neighbour::entries(socket, link.index)?.into_iter().filter(neighbour::Entry::is_flood);
    Ok(Some(Vxlan {
        vni: identity.vni,
        port: identity.port,
        local: identity.local,
        mac,
        mtu: link.mtu,
        bridge: link.master.and_then(|index| names.get(&index)).and_then(|link| link.ifname()),
        isolated: link.isolated,
        up: link.up,
        low_ports: identity.low_ports,
        peers: floods.map(|entry| entry.peer).collect(),
    }))
}

fn veth(link: &LinkRecord, name: &IfName, names: &BTreeMap<u32, &LinkRecord>) -> Veth {
    let named = |index: Option<u32>| index.and_then(|index| names.get(&index)).and_then(|link| link.ifname());
    Veth {
        peer: named(link.peer).unwrap_or_else(|| peer_name(name)),
        // Every veth has one; the kernel makes one up if it was given none.
        host_mac: link.mac.unwrap_or_else(|| Mac::from_bytes([0; 6])),
        peer_mac: None,
        mtu: link.mtu,
        bridge: named(link.master),
        isolated: link.isolated,
        hairpin: link.hairpin,
        arp: link.arp,
        up: link.up,
    }
}

/// The name that the end for the sandbox was given, while it is out of sight: that of the host
/// end with the letter of the other role (`pnth...`, `pntc...`), as [`IfName::derive`] makes
/// both of the same id. A name of another form stands for itself.
fn peer_name(host: &IfName) -> IfName {
    let tail = host.as_str().strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('h'));
    tail.and_then(|tail| IfName::parse(&format!("{PREFIX}c{tail}")).ok()).unwrap_or_else(|| host.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LinkRole;

    #[test]
    fn a_peer_out_of_sight_has_the_name_it_was_given() {
        for attempt in 0..2 {
            let host = IfName::derive(LinkRole::Host, "adec5e726bb8", attempt);
            if attempt == 0 {
                assert_eq!(peer_name(&host), IfName::derive(LinkRole::Peer, "adec5e726bb8", attempt));
            }
        }
        let odd = IfName::parse("eth0").unwrap();
        assert_eq!(peer_name(&odd), odd);
    }

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
