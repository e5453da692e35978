//! Table `netdev pontoon` in the kernel: fast path entries of frames past the bridges.
//!
//! Each overlay network has a map `..._here` (locations of its containers on this host), a set `..._there` (hardware
//! addresses learned from the tunnel, which the kernel fills itself), a chain `..._on` that looks into both,
//! and an ingress chain on the tunnel; each container has an ingress chain on its port. Chains of links have
//! the names of their links. When a link is deleted, the kernel deletes its chain too, or keeps it for the
//! next link of that name (since 6.16; `nf_tables_netdev_event`, net/netfilter/nft_chain_filter.c). `fwd`
//! takes an index, and the next link has another one: therefore rules record the index that they were written
//! for.
//!
//! A network of one host has two maps, `..._near4` and `..._near6`, from hardware address and address to the port; each
//! container has an ingress chain on its port that looks into them.
//!
//! Every write is one transaction. `rules` defines the contents of the chains, `read` parses them, `words`
//! prints them as commands for people. Called by `LinuxKernel`, `observe` and `words`.

mod read;
mod rules;
pub mod shell;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nft::batch::commit;
use nft::element::parse_entries;
use nft::message::{
    self, CHAIN_NAME, DATA_VALUE, DEL_CHAIN, DEL_ELEMENTS, DEL_SET, ELEMENT_DATA, ELEMENT_KEY, ELEMENTS_LIST,
    ELEMENTS_SET, GET_CHAIN, GET_ELEMENTS, GET_SET, GET_TABLE, LIST_ITEM, NETDEV, SET_NAME, TABLE_NAME, body, request,
    wire,
};

use super::ruleset::TABLE;
use crate::datapath::FastPath;
use crate::datapath::fastpath::Leftover;
use crate::linux::netlink::{CREATE, Failure, Request, Socket};
use crate::linux::tlv::Writer;
use crate::model::{Family, IfName, Mac};
pub use read::read;

/// Comment of the table, incremented with every change of the schema.
const SCHEMA: &str = "pontoon fast path 3";

/// Indexes of links by name; missing links are left out.
pub type Indexes = BTreeMap<IfName, u32>;

/// Removes some fast path entries and adds some. Existing ones are written again, and missing ones need no removal;
/// fast path entries without a link are skipped, and so is a port whose network has nothing here.
///
/// The usual case is one transaction without a query. Only when the kernel rejects it are the existing
/// objects listed.
///
/// # Errors
/// The kernel's error; [`offered`] tells whether the kernel lacks support for the fast path.
pub fn change(socket: &mut Socket, at: &Indexes, add: &[FastPath], remove: &[FastPath]) -> Result<(), Failure> {
    let pieces = pieces(remove);
    let mut messages: Vec<_> = pieces.iter().map(Piece::deletion).collect();
    messages.extend(add.iter().flat_map(|entry| rules::of(entry, at)));
    match commit(socket, &messages) {
        Err(failure) if matches!(failure.errno(), Some(libc::ENOENT | libc::EEXIST | libc::EBUSY)) => {}
        result => return result,
    }
    let mut messages = Vec::new();
    for piece in &pieces {
        messages.extend(piece.is_there(socket)?.then(|| piece.deletion()));
    }
    for entry in add {
        if let FastPath::Neighbour { bridge, mac, addresses, .. } = entry {
            let coming = add.iter().any(|other| matches!(other, FastPath::Bridge { bridge: of } if of == bridge));
            if !coming && !Piece::Set(near(bridge.as_str(), Family::V4)).is_there(socket)? {
                continue;
            }
            for address in addresses {
                let place = Piece::Near(near(bridge.as_str(), Family::of(address)), *mac, *address);
                if !pieces.contains(&place) && place.is_there(socket)? {
                    messages.push(place.deletion());
                }
            }
        }
        if let FastPath::Port { tunnel, mac, .. } = entry {
            let coming = add.iter().any(|other| matches!(other, FastPath::Network { tunnel: of, .. } if of == tunnel));
            if !coming && !Piece::Chain(on(tunnel.as_str())).is_there(socket)? {
                continue;
            }
            // The entry of a link that is gone, and with it its index.
            let place = Piece::Place(here(tunnel.as_str()), *mac);
            if !pieces.contains(&place) && place.is_there(socket)? {
                messages.push(place.deletion());
            }
        }
        messages.extend(rules::of(entry, at));
    }
    commit(socket, &messages)
}

/// Probes the features that the fast path needs, in a table that is deleted with the probe.
///
/// # Errors
/// The kernel's error when it lacks one: no family `netdev`, no `fwd`, no sets that learn.
pub fn offered(socket: &mut Socket) -> Result<(), Failure> {
    let mut messages = vec![message::new_table(NETDEV, TRIED, SCHEMA)];
    messages.extend(rules::sample(TRIED));
    messages.push(message::delete_table(NETDEV, TRIED));
    commit(socket, &messages)
}

/// Name of the table of [`offered`].
const TRIED: &str = "pontoon_try";

fn here(tunnel: &str) -> String {
    format!("{tunnel}_here")
}

fn there(tunnel: &str) -> String {
    format!("{tunnel}_there")
}

fn on(tunnel: &str) -> String {
    format!("{tunnel}_on")
}

fn near(bridge: &str, family: Family) -> String {
    format!("{bridge}_near{}", family.choose(4, 6))
}

/// One object of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Table,
    Chain(String),
    Set(String),
    /// An element of a map, given by the map's name and the key.
    Place(String, Mac),
    /// The same of a map of neighbours.
    Near(String, Mac, IpAddr),
}

/// The objects of these fast path entries, ordered so that nothing is deleted while another object depends on it.
fn pieces(remove: &[FastPath]) -> Vec<Piece> {
    let (networks, ports): (Vec<_>, Vec<_>) = remove.iter().partition(|entry| {
        let of_network = matches!(entry, FastPath::Network { .. } | FastPath::Bridge { .. });
        let left = matches!(entry, FastPath::Leftover(Leftover::Network(_) | Leftover::Bridge(_) | Leftover::Table));
        of_network || left
    });
    let neighbours = |bridge: &str| Family::ALL.map(|family| Piece::Set(near(bridge, family))).to_vec();
    let shared = |tunnel: &str| vec![Piece::Chain(on(tunnel)), Piece::Set(here(tunnel)), Piece::Set(there(tunnel))];
    let of = |entry: &FastPath| match entry {
        FastPath::Network { tunnel, .. } => {
            [vec![Piece::Chain(tunnel.as_str().to_owned())], shared(tunnel.as_str())].concat()
        }
        FastPath::Port { tunnel, port, mac, addresses } => {
            let place = (!addresses.is_empty()).then(|| Piece::Place(here(tunnel.as_str()), *mac));
            std::iter::once(Piece::Chain(port.as_str().to_owned())).chain(place).collect()
        }
        FastPath::Bridge { bridge } => neighbours(bridge.as_str()),
        FastPath::Neighbour { bridge, port, mac, addresses } => {
            let at = |ip: &IpAddr| Piece::Near(near(bridge.as_str(), Family::of(ip)), *mac, *ip);
            std::iter::once(Piece::Chain(port.as_str().to_owned())).chain(addresses.iter().map(at)).collect()
        }
        FastPath::Guard { .. } | FastPath::Shaped { .. } | FastPath::PacketLimit { .. } => {
            entry.chain().map(Piece::Chain).into_iter().collect()
        }
        FastPath::Leftover(Leftover::Table) => vec![Piece::Table],
        FastPath::Leftover(Leftover::Chain(name)) => vec![Piece::Chain(name.clone())],
        FastPath::Leftover(Leftover::Place(tunnel, mac)) => vec![Piece::Place(here(tunnel), *mac)],
        FastPath::Leftover(Leftover::Network(tunnel)) => shared(tunnel),
        FastPath::Leftover(Leftover::Neighbour(bridge, mac, ip)) => {
            vec![Piece::Near(near(bridge, Family::of(ip)), *mac, *ip)]
        }
        FastPath::Leftover(Leftover::Bridge(bridge)) => neighbours(bridge),
    };
    ports.into_iter().chain(networks).flat_map(of).collect()
}

impl Piece {
    fn deletion(&self) -> Request {
        let message = self.named();
        match self {
            Piece::Table => message::delete_table(NETDEV, TABLE),
            Piece::Chain(_) => request(DEL_CHAIN, 0, message),
            Piece::Set(_) => request(DEL_SET, 0, message),
            Piece::Place(..) | Piece::Near(..) => request(DEL_ELEMENTS, 0, message),
        }
    }

    fn is_there(&self, socket: &mut Socket) -> Result<bool, Failure> {
        let kind = match self {
            Piece::Table => GET_TABLE,
            Piece::Chain(_) => GET_CHAIN,
            Piece::Set(_) => GET_SET,
            Piece::Place(..) | Piece::Near(..) => GET_ELEMENTS,
        };
        match socket.get(wire(kind), &self.named().finish()) {
            Ok(payload) => {
                Ok(!matches!(self, Piece::Place(..) | Piece::Near(..)) || !parse_entries(&payload).is_empty())
            }
            Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn named(&self) -> Writer {
        let mut message = body(NETDEV);
        message.text(TABLE_NAME, TABLE);
        match self {
            Piece::Table => {}
            Piece::Chain(name) => drop(message.text(CHAIN_NAME, name)),
            Piece::Set(name) => drop(message.text(SET_NAME, name)),
            Piece::Place(map, mac) => place(&mut message, map, *mac, None),
            Piece::Near(map, mac, ip) => located(&mut message, map, *mac, *ip, None),
        }
        message
    }
}

/// Encodes an element of a map of locations.
fn place(message: &mut Writer, map: &str, mac: Mac, index: Option<u32>) {
    element(message, map, &mac.bytes(), index);
}

/// The same of a map of neighbours: the fields of a key begin at multiples of four bytes.
fn located(message: &mut Writer, map: &str, mac: Mac, address: IpAddr, index: Option<u32>) {
    let mut key = [&mac.bytes()[..], &[0; 2]].concat();
    match address {
        IpAddr::V4(ip) => key.extend(ip.octets()),
        IpAddr::V6(ip) => key.extend(ip.octets()),
    }
    element(message, map, &key, index);
}

fn element(message: &mut Writer, map: &str, key: &[u8], index: Option<u32>) {
    message.text(ELEMENTS_SET, map).nest(ELEMENTS_LIST, |list| {
        list.nest(LIST_ITEM, |element| {
            element.nest(ELEMENT_KEY, |data| {
                data.bytes(DATA_VALUE, key);
            });
            if let Some(index) = index {
                element.nest(ELEMENT_DATA, |data| {
                    data.native(DATA_VALUE, index);
                });
            }
        });
    });
}
