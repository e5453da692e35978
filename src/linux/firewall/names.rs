//! The addresses of DNS names in the kernel: elements that expire. Reconciliation does not know them, so they survive a
//! restart of Pontoon; what a container's policy adds or removes takes its elements with it ([`forget`]).
//!
//! Called by `LinuxKernel` and `tables`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nft::batch::commit;
use nft::element::{Entry, Reader, expiration};
use nft::message::{self, GET_ELEMENTS, expiring_element, listed, wire};
use nft::{Element, Value, table};

use super::expiring;
use super::ruleset::TABLE;
use super::sets::Set;
use crate::datapath::access::Admission;
use crate::linux::netlink::{Failure, Socket};
use crate::model::Family;
use crate::model::access::Transport;

fn set(address: &IpAddr) -> Set {
    Family::of(address).choose(Set::EgressName4, Set::EgressName6)
}

fn entry(own: IpAddr, transport: &Transport, peer: IpAddr) -> Option<Entry> {
    let (protocols, ports) = (transport.protocols, transport.ports);
    let key = [
        Value::Addresses(own, own),
        Value::Protocols(protocols.0, protocols.1),
        Value::Ports(ports.0, ports.1),
        Value::Addresses(peer, peer),
    ];
    let mut entries = Vec::with_capacity(1);
    Element::of_set(key).write(&mut entries);
    entries.pop()
}

/// Makes addresses reachable for the endpoint with address `own`, of the same family. What is reachable for long enough
/// is left alone: changes cost more than questions.
///
/// # Errors
/// `ENOENT` when the table is missing, `ENFILE` when the set is full. Some of the addresses may be reachable then.
pub fn admit(
    socket: &mut Socket,
    own: IpAddr,
    admissions: &[Admission],
    transports: &[Transport],
) -> Result<(), Failure> {
    let spec = set(&own).spec();
    for admission in admissions.iter().filter(|admission| admission.peer.is_ipv4() == own.is_ipv4()) {
        let entries = transports.iter().filter_map(|transport| entry(own, transport, admission.peer));
        for entry in entries {
            let question = listed(TABLE, &spec, std::slice::from_ref(&entry), false).finish();
            let left = match socket.get(wire(GET_ELEMENTS), &question) {
                Ok(answer) => expiration(&answer).map(Duration::from_millis),
                Err(failure) if failure.errno() == Some(libc::ENOENT) => None,
                Err(failure) => return Err(failure),
            };
            if left.is_some_and(|left| left >= admission.needed) {
                continue;
            }
            let lifetime = u64::try_from(admission.lifetime.as_millis()).unwrap_or(u64::MAX);
            let add = expiring_element(TABLE, &spec, &entry, lifetime);
            let remove = message::elements(TABLE, &spec, std::slice::from_ref(&entry), false);
            let renewed = match left {
                Some(_) => commit(socket, &[remove, vec![add.clone()]].concat()),
                None => commit(socket, std::slice::from_ref(&add)),
            };
            match renewed {
                // It expired in between.
                Err(failure) if left.is_some() && failure.errno() == Some(libc::ENOENT) => commit(socket, &[add])?,
                renewed => renewed?,
            }
        }
    }
    Ok(())
}

/// Removes what names allowed the endpoints with these addresses.
pub fn forget(socket: &mut Socket, owners: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    let sets: BTreeSet<Set> = owners.iter().map(set).collect();
    for set in sets {
        let family = set.family();
        let owner = |entry: &Entry| Reader::all(entry.key.get(..family.choose(4, 16))?, |key| key.address(family));
        expiring::remove(socket, &set.spec(), |entry| owner(entry).is_some_and(|owner| owners.contains(&owner)))?;
    }
    Ok(())
}

/// What names allow the endpoints with these addresses at present: own address, traffic, peer. A missing table has nothing.
pub fn admitted(socket: &mut Socket, owners: &BTreeSet<IpAddr>) -> Result<Vec<(IpAddr, Transport, IpAddr)>, Failure> {
    let mut all = Vec::new();
    for set in owners.iter().map(set).collect::<BTreeSet<Set>>() {
        let family = set.family();
        let parts =
            |key: &mut Reader<'_>| Some((key.address(family)?, key.protocol()?, key.port()?, key.address(family)?));
        let entries = match table::entries(socket, set.spec().family, TABLE, set.spec().name) {
            Err(failure) if failure.errno() == Some(libc::ENOENT) => continue,
            entries => entries?,
        };
        for entry in entries {
            let first = Reader::all(&entry.key, parts);
            let last = entry.last.as_deref().and_then(|last| Reader::all(last, parts));
            let (Some((own, protocol, port, peer)), Some((_, last_protocol, last_port, _))) = (first, last) else {
                continue;
            };
            let transport = Transport { protocols: (protocol, last_protocol), ports: (port, last_port) };
            all.extend(owners.contains(&own).then_some((own, transport, peer)));
        }
    }
    Ok(all)
}
