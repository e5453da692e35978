//! Paths to other hosts: which link has this host's underlay address, its tunnel offloads, and where a packet
//! to each peer would leave.
//!
//! Reads only. Part of `survey`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::netlink::{Failure, Socket};
use super::{addr, link, observe, offload, route};
use crate::datapath::host::{PeerPath, PeerPaths};

/// Reads the paths. Offloads are left out when the kernel does not report them.
pub fn read(socket: &mut Socket, generic: &mut Socket, local: IpAddr, peers: &[IpAddr]) -> Result<PeerPaths, Failure> {
    let links = link::list(socket)?;
    let named: BTreeMap<u32, &link::LinkRecord> = links.iter().map(|link| (link.index, link)).collect();
    let own = addr::list(socket)?.into_iter().find(|record| record.address.ip() == local);
    let own = own.and_then(|record| named.get(&record.index)).map(|link| link.name.clone());
    let heard = observe::heard(socket)?;
    let mut ways = PeerPaths::default();
    for peer in peers {
        let taken = route::way(socket, *peer)?;
        let by = taken.as_ref().and_then(|(route, _)| named.get(&route.link?));
        ways.peers.push(PeerPath {
            peer: *peer,
            link: by.map(|link| link.name.clone()),
            mtu: taken.as_ref().and_then(|(_, mtu)| *mtu).or(by.map(|link| link.mtu)),
            heard: heard.get(peer).map(std::time::Duration::as_secs),
        });
    }
    if let Some(link) = &own {
        ways.offloads = offload::of_tunnels(generic, link).unwrap_or_default();
    }
    ways.link = own;
    Ok(ways)
}
