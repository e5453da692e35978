//! Ends flows within bridges that lists do not allow any more, and keeps TCP connections from being taken up again by
//! segments of the other end: sets of such connections whose elements expire.
//!
//! Called by the conntrack worker.

use nft::batch::commit;
use nft::element::{Entry, Reader};
use nft::message::expiring_element;
use nft::{Element, Value, table};

use super::expiring;
use super::ruleset::TABLE;
use super::sets::{FLOW_TIMEOUT, Set};
use crate::datapath::Verdicts;
use crate::datapath::verdicts::End;
use crate::linux::netlink::{Failure, Socket};
use crate::model::Family;

const TCP: u8 = libc::IPPROTO_TCP as u8;

/// A flow of the sets of flows within bridges: its protocol and its ends.
fn flow(entry: &Entry, family: Family) -> Option<(u8, [End; 2])> {
    Reader::all(&entry.key, |key| {
        let (one, other, protocol) = (key.address(family)?, key.address(family)?, key.protocol()?);
        let end = |address, port| End { address, port, is_host: false };
        Some((protocol, [end(one, key.port()?), end(other, key.port()?)]))
    })
}

/// Forgets the flows within bridges that are not allowed any more. A missing table has none.
pub fn within_bridges(socket: &mut Socket, verdicts: &Verdicts) -> Result<(), Failure> {
    let concerned = |one: &End, other: &End| [one, other].iter().any(|end| verdicts.concerned().contains(&end.address));
    let refused = |entry: &Entry, family: Family| {
        let (protocol, [one, other]) = flow(entry, family)?;
        let is_refused = concerned(&one, &other) && !verdicts.allows_either(protocol, one, other);
        is_refused.then_some((protocol, [one, other]))
    };
    for set in [Set::Flows4, Set::Flows6] {
        let family = set.family();
        if !verdicts.concerned().iter().any(|address| Family::of(address) == family) {
            continue;
        }
        let entries = match table::entries(socket, set.spec().family, TABLE, set.spec().name) {
            Err(failure) if failure.errno() == Some(libc::ENOENT) => continue,
            entries => entries?,
        };
        let tcp = entries.iter().filter_map(|entry| refused(entry, family)).filter(|(protocol, _)| *protocol == TCP);
        block(socket, &tcp.map(|(_, ends)| ends).collect::<Vec<_>>(), true)?;
        expiring::remove(socket, &set.spec(), |entry| refused(entry, family).is_some())?;
    }
    Ok(())
}

/// Keeps TCP connections with these ends from being taken up, within bridges or by routed packets.
pub fn block(socket: &mut Socket, connections: &[[End; 2]], bridged: bool) -> Result<(), Failure> {
    for [one, other] in connections.iter().flat_map(|[one, other]| [[one, other], [other, one]]) {
        let set = match (bridged, one.address.is_ipv6()) {
            (false, false) => Set::Cut4,
            (false, true) => Set::Cut6,
            (true, false) => Set::BridgeCut4,
            (true, true) => Set::BridgeCut6,
        };
        let key = [
            Value::Address(one.address),
            Value::Address(other.address),
            Value::Protocol(TCP),
            Value::Port(one.port),
            Value::Port(other.port),
        ];
        let mut entries = Vec::with_capacity(1);
        Element::of_set(key).write(&mut entries);
        let Some(entry) = entries.pop() else { continue };
        match commit(socket, &[expiring_element(TABLE, &set.spec(), &entry, FLOW_TIMEOUT)]) {
            // It was cut before.
            Err(failure) if failure.errno() == Some(libc::EEXIST) => {}
            result => result?,
        }
    }
    Ok(())
}
