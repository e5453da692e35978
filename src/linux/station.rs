//! Stations in the kernel: the route and the neighbour entry of each container on a host link (`struct rtmsg`,
//! include/uapi/linux/rtnetlink.h). Adds, removes and reads them, and prints the same as shell commands.
//!
//! Never changes a route that is not on a host link. Called by `LinuxKernel` and by `observe`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::LinuxKernel;
use super::link;
use super::netlink::{CREATE, Failure, REPLACE, Request, Socket};
use super::shell::word;
use super::{neighbour, route};
use crate::datapath::Station;
use crate::model::{Family, IfName, Mac};

impl LinuxKernel {
    /// Removals first; see [`crate::datapath::Step::Stations`].
    pub(super) fn change_stations(&self, add: &[Station], remove: &[Station]) -> Result<(), Failure> {
        let socket = &mut self.route().socket;
        let mut indexes = BTreeMap::new();
        let mut index = |socket: &mut Socket, link: &IfName| -> Result<Option<u32>, Failure> {
            if !indexes.contains_key(link) {
                indexes.insert(link.clone(), link::find(socket, link.as_str())?.map(|found| found.index));
            }
            Ok(indexes.get(link).copied().flatten())
        };
        for station in remove {
            let Some(index) = index(socket, &station.link)? else { continue };
            let route = route::to_station(station.address, index);
            absent(socket.execute(libc::RTM_DELROUTE, 0, &route))?;
            absent(neighbour::unpin(socket, index, station.address))?;
        }
        let mut requests = Vec::with_capacity(add.len() * 2);
        for station in add {
            let gone = || Failure::refused(libc::ENODEV, &format!("there is no link {}", station.link));
            let index = index(socket, &station.link)?.ok_or_else(gone)?;
            // The neighbour first: with a route alone the host would ask for the address.
            requests.extend(station.mac.map(|mac| neighbour::pin(index, station.address, mac)));
            let body = route::to_station(station.address, index);
            requests.push(Request { kind: libc::RTM_NEWROUTE, flags: CREATE | REPLACE, body });
        }
        requests.chunks(256).try_for_each(|chunk| socket.execute_all(chunk).map_err(|(_, failure)| failure))
    }
}

fn absent(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if matches!(failure.errno(), Some(libc::ESRCH | libc::ENOENT | libc::ENODEV)) => Ok(()),
        result => result,
    }
}

/// The stations of one host link. A route without a permanent neighbour entry is reported without a hardware address.
pub fn observe(socket: &mut Socket, link: &IfName, index: u32) -> Result<BTreeSet<Station>, Failure> {
    let neighbours: BTreeMap<IpAddr, Mac> = neighbour::pinned(socket, index)?.into_iter().collect();
    let found = route::stations(socket, index)?.into_iter();
    Ok(found.map(|address| Station { link: link.clone(), address, mac: neighbours.get(&address).copied() }).collect())
}

/// The commands that do the same.
pub fn commands(add: &[Station], remove: &[Station]) -> Vec<String> {
    let family = |address: &IpAddr| if Family::of(address).is_v6() { " -6" } else { "" };
    let gone = remove.iter().flat_map(|Station { link, address, .. }| {
        let (ip, link) = (format!("ip{}", family(address)), word(link));
        [format!("{ip} route flush {address} dev {link}"), format!("{ip} neigh flush {address} dev {link}")]
    });
    let new = add.iter().flat_map(|Station { link, address, mac }| {
        let (ip, link) = (format!("ip{}", family(address)), word(link));
        let pin = mac.map(|mac| format!("{ip} neigh replace {address} lladdr {mac} dev {link} nud permanent"));
        pin.into_iter().chain([format!("{ip} route replace {address} dev {link} proto {}", route::STATION_PROTOCOL)])
    });
    gone.chain(new).collect()
}
