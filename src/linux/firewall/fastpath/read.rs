//! Reads fast path entries from the kernel: complete ones, and the remains of incomplete ones.
//!
//! Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nft::message::{
    self, CHAIN_NAME, GET_CHAIN, GET_SET, GET_TABLE, NETDEV, SET_NAME, TABLE_USERDATA, attributes, wire,
};
use nft::table::{consistent, entries};

use super::rules::{self, parse_label};
use super::{Failure, FastPath, Indexes, Leftover, SCHEMA, Socket, TABLE, on};
use crate::linux::firewall::schema::{ours, query, rules_of};
use crate::linux::tlv::{native32, text};
use crate::model::{Family, IfName, Mac};

/// Everything in the table, complete or not; empty when the table does not exist. `links` returns the indexes of
/// Pontoon's links. It is called only if the table has contents, first with `false`, when a listing from before
/// will do, and with `true` if that does not explain the contents.
pub fn read(
    socket: &mut Socket,
    mut links: impl FnMut(bool) -> Result<Indexes, Failure>,
) -> Result<BTreeSet<FastPath>, Failure> {
    consistent(socket, |socket| read_once(socket, &mut links))
}

fn read_once(
    socket: &mut Socket,
    links: &mut impl FnMut(bool) -> Result<Indexes, Failure>,
) -> Result<BTreeSet<FastPath>, Failure> {
    let query = query(NETDEV);
    let table = match socket.get(wire(GET_TABLE), &query) {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(BTreeSet::new()),
        result => result?,
    };
    if attributes(&table).find(TABLE_USERDATA).and_then(message::comment) != Some(SCHEMA) {
        return Ok([FastPath::Leftover(Leftover::Table)].into());
    }
    let mut found = Found::default();
    for name in socket.list(wire(GET_CHAIN), &query, |_, payload| named(payload, CHAIN_NAME))? {
        found.chains.entry(name).or_default();
    }
    for (chain, label) in rules_of(socket, NETDEV)? {
        found.chains.entry(chain).or_default().push(label);
    }
    for set in socket.list(wire(GET_SET), &query, |_, payload| named(payload, SET_NAME))? {
        if let Some((bridge, family)) = near_of(&set) {
            let places = neighbours(socket, &set, family)?.into_iter();
            found.neighbours.extend(places.map(|(mac, ip, index)| ((bridge.to_owned(), mac, ip), index)));
            *found.bridges.entry(bridge.to_owned()).or_default() += 1;
            continue;
        }
        let tunnel = match (set.strip_suffix("_here"), set.strip_suffix("_there")) {
            (Some(tunnel), _) => {
                let places = places(socket, &set)?.into_iter();
                found.places.extend(places.map(|(mac, index)| ((tunnel.to_owned(), mac), index)));
                tunnel
            }
            (None, Some(tunnel)) => tunnel,
            // Another schema: as with the other tables, everything is created again.
            (None, None) => return Ok([FastPath::Leftover(Leftover::Table)].into()),
        };
        found.networks.insert(tunnel.to_owned());
    }
    if !found.chains.is_empty() {
        found.links = links(false)?;
        // The links may have been listed before a verb created one together with its fast path entry.
        if !found.links_are_known() {
            found.links = links(true)?;
        }
    }
    Ok(found.judged())
}

fn places(socket: &mut Socket, map: &str) -> Result<Vec<(Mac, u32)>, Failure> {
    let place = |key: &[u8], value: &[u8]| Some((Mac::from_bytes(*key.first_chunk()?), native32(value)?));
    let found = entries(socket, NETDEV, TABLE, map)?.into_iter();
    Ok(found.filter_map(|entry| place(&entry.key, &entry.value)).collect())
}

/// The bridge of a map of neighbours, and whether it is the one of IPv6.
fn near_of(set: &str) -> Option<(&str, Family)> {
    let v4 = set.strip_suffix("_near4").map(|bridge| (bridge, Family::V4));
    v4.or_else(|| set.strip_suffix("_near6").map(|bridge| (bridge, Family::V6)))
}

fn neighbours(socket: &mut Socket, map: &str, family: Family) -> Result<Vec<(Mac, IpAddr, u32)>, Failure> {
    let place = |key: &[u8], value: &[u8]| {
        let (mac, address) = (Mac::from_bytes(*key.first_chunk()?), key.get(8..)?);
        let address = match family {
            Family::V4 => IpAddr::from(*address.first_chunk::<4>()?),
            Family::V6 => IpAddr::from(*address.first_chunk::<16>()?),
        };
        Some((mac, address, native32(value)?))
    };
    let found = entries(socket, NETDEV, TABLE, map)?.into_iter();
    Ok(found.filter_map(|entry| place(&entry.key, &entry.value)).collect())
}

/// Contents of a kernel dump.
#[derive(Default)]
struct Found {
    /// The labels of each chain's rules.
    chains: BTreeMap<String, Vec<String>>,
    /// The index of a link, by the tunnel's name and the hardware address.
    places: BTreeMap<(String, Mac), u32>,
    links: Indexes,
    /// Names of tunnels for which sets exist.
    networks: BTreeSet<String>,
    /// The index of a link, by the bridge's name, the hardware address and the address.
    neighbours: BTreeMap<(String, Mac, IpAddr), u32>,
    /// Names of bridges, and how many of their two maps exist.
    bridges: BTreeMap<String, usize>,
}

impl Found {
    /// Whether all links that the chains name are known, by the indexes that the chains were made for.
    fn links_are_known(&self) -> bool {
        let described = self.chains.iter().filter_map(|(name, labels)| parse_label(name, labels.first()?));
        described.into_iter().all(|(entry, index)| self.is_at(&entry, index))
    }

    fn is_at(&self, entry: &FastPath, index: u32) -> bool {
        entry.link().and_then(|link| self.links.get(link)) == Some(&index)
    }

    fn judged(mut self) -> BTreeSet<FastPath> {
        let mut judged = BTreeSet::new();
        for (name, labels) in &self.chains {
            if let Some(tunnel) = name.strip_suffix("_on") {
                self.networks.insert(tunnel.to_owned());
                continue;
            }
            match self.whole(name, labels) {
                Some(entry) => drop(judged.insert(entry)),
                None => drop(judged.insert(FastPath::Leftover(Leftover::Chain(name.clone())))),
            }
        }
        for entry in &judged {
            match entry {
                FastPath::Network { tunnel, .. } => drop(self.networks.remove(tunnel.as_str())),
                FastPath::Port { tunnel, mac, addresses, .. } if !addresses.is_empty() => {
                    self.places.remove(&(tunnel.as_str().to_owned(), *mac));
                }
                FastPath::Neighbour { bridge, mac, addresses, .. } => addresses.iter().for_each(|address| {
                    self.neighbours.remove(&(bridge.as_str().to_owned(), *mac, *address));
                }),
                _ => {}
            }
        }
        judged.extend(self.networks.into_iter().map(|tunnel| FastPath::Leftover(Leftover::Network(tunnel))));
        judged.extend(self.bridges.into_iter().map(|(name, maps)| match IfName::parse(&name) {
            Ok(bridge) if maps == 2 => FastPath::Bridge { bridge },
            _ => FastPath::Leftover(Leftover::Bridge(name)),
        }));
        let left = self.neighbours.into_keys();
        judged.extend(left.map(|(name, mac, ip)| FastPath::Leftover(Leftover::Neighbour(name, mac, ip))));
        judged.extend(self.places.into_keys().map(|(tunnel, mac)| FastPath::Leftover(Leftover::Place(tunnel, mac))));
        judged
    }

    /// The fast path entry that the rules of a link's chain describe, if they and all other parts are present.
    fn whole(&self, name: &str, labels: &[String]) -> Option<FastPath> {
        let label = labels.first()?;
        let (entry, index) = parse_label(name, label)?;
        let all = |labels: &[String], count: usize| labels.len() == count && labels.iter().all(|other| other == label);
        let whole = match &entry {
            FastPath::Network { tunnel, .. } => {
                all(labels, rules::TUNNEL) && all(self.chains.get(&on(tunnel.as_str()))?, rules::ON)
            }
            FastPath::Port { tunnel, mac, addresses, .. } => {
                let place = self.places.get(&(tunnel.as_str().to_owned(), *mac));
                let placed = addresses.is_empty() || place == Some(&index);
                placed && all(labels, rules::of_port(addresses))
            }
            FastPath::Neighbour { bridge, mac, addresses, .. } => {
                let at = |ip: &IpAddr| self.neighbours.get(&(bridge.as_str().to_owned(), *mac, *ip)) == Some(&index);
                addresses.iter().all(at) && all(labels, rules::of_port(addresses))
            }
            FastPath::Guard { .. } | FastPath::Shaped { .. } | FastPath::PacketLimit { .. } => all(labels, 1),
            FastPath::Bridge { .. } | FastPath::Leftover(_) => false,
        };
        (whole && self.is_at(&entry, index)).then_some(entry)
    }
}

fn named(payload: &[u8], kind: u16) -> Option<String> {
    ours(payload, NETDEV)?.find(kind).and_then(text).map(str::to_owned)
}
