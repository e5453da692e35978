//! Removes elements of sets whose elements expire: reconciliation does not know them, so what they are about takes them
//! with it.
//!
//! Called by `names` and by the conntrack worker.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nft::batch::commit;
use nft::element::{Entry, Reader};
use nft::{Set as Spec, message, table};

use super::ruleset::TABLE;
use super::sets::Set;
use crate::linux::netlink::{Failure, Socket};
use crate::model::Family;

/// The sets of flows and their ends: each key begins with two addresses.
const FLOWS: [Set; 8] =
    [Set::Flows4, Set::Flows6, Set::Partners4, Set::Partners6, Set::Cut4, Set::Cut6, Set::BridgeCut4, Set::BridgeCut6];

/// How often a removal is tried while elements expire at the same time.
const ATTEMPTS: u32 = 3;

/// Removes the elements that are concerned. A missing table is success.
pub fn remove(socket: &mut Socket, set: &Spec<'_>, concerned: impl Fn(&Entry) -> bool) -> Result<(), Failure> {
    let is_gone = |failure: &Failure| failure.errno() == Some(libc::ENOENT);
    let held = |socket: &mut Socket| -> Result<Vec<Entry>, Failure> {
        let held = table::entries(socket, set.family, TABLE, set.name)?;
        Ok(held.into_iter().filter(&concerned).collect())
    };
    for _ in 0..ATTEMPTS {
        let held = held(socket)?;
        match commit(socket, &message::elements(TABLE, set, &held, false)) {
            // One expired in between, and none was removed.
            Err(failure) if is_gone(&failure) => {}
            result => return result,
        }
    }
    for entry in held(socket)? {
        match commit(socket, &message::elements(TABLE, set, &[entry], false)) {
            Err(failure) if is_gone(&failure) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Forgets the flows within bridges from and to these addresses, who may send them errors, and what was cut: the next container with
/// such an address has a list of its own.
pub fn forget_flows(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    for set in FLOWS {
        let family = set.family();
        if addresses.iter().any(|address| Family::of(address) == family) {
            let size = family.choose(4, 16);
            remove(socket, &set.spec(), |entry| {
                let ends = entry
                    .key
                    .get(..2 * size)
                    .and_then(|ends| Reader::all(ends, |key| Some([key.address(family)?, key.address(family)?])));
                ends.is_some_and(|ends| ends.iter().any(|end| addresses.contains(end)))
            })?;
        }
    }
    Ok(())
}
