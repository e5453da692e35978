//! What audited containers did, as rules recorded it in sets whose elements expire. Reconciliation does not know them:
//! what makes a container audited, or ends it, takes its records with it ([`forget`]).
//!
//! Called by `LinuxKernel` and `tables`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nft::element::{Entry, Reader};
use nft::{Stateful, table};

use super::audit_rules::number;
use super::expiring;
use super::ruleset::TABLE;
use super::sets::Set;
use crate::datapath::access::{Record, Recorded, Way};
use crate::linux::netlink::{Failure, Socket};

const RECORDS: [Set; 4] = [Set::Record4, Set::Record6, Set::BridgeRecord4, Set::BridgeRecord6];
const RATES: [Set; 4] = [Set::RecordRate4, Set::RecordRate6, Set::BridgeRecordRate4, Set::BridgeRecordRate6];

/// Removes the records of the endpoints with these addresses, and what is left of their rate.
pub fn forget(socket: &mut Socket, owners: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    for set in RECORDS.into_iter().chain(RATES) {
        let v6 = set.v6();
        if owners.iter().all(|owner| owner.is_ipv6() != v6) {
            continue;
        }
        let owner = |entry: &Entry| {
            Reader::all(entry.key.get(..if v6 { 20 } else { 8 })?, |key| key.mark().and(key.address(v6)))
        };
        expiring::remove(socket, &set.spec(), |entry| owner(entry).is_some_and(|owner| owners.contains(&owner)))?;
    }
    Ok(())
}

/// All records. With br_netfilter, a frame within a bridge may be recorded in both tables: it counts once. A missing table
/// has none.
pub fn all(socket: &mut Socket) -> Result<Vec<Record>, Failure> {
    let mut found: BTreeMap<(Way, IpAddr, Option<Recorded>), u64> = BTreeMap::new();
    for set in RECORDS {
        let entries = match table::entries(socket, set.spec().family, TABLE, set.spec().name) {
            Err(failure) if failure.errno() == Some(libc::ENOENT) => continue,
            entries => entries?,
        };
        for entry in entries {
            let packets = if let Some(Stateful::Counted(packets)) = entry.limit { packets } else { 0 };
            if let Some(key) = decode(&entry.key, set.v6()) {
                let counted = found.entry(key).or_default();
                *counted = packets.max(*counted);
            }
        }
    }
    let record = |((way, own, what), packets): (_, u64)| Record { way, own, what, packets: packets.max(1) };
    Ok(found.into_iter().map(record).collect())
}

/// Direction, address and traffic of a key; `None` for one that no rule writes.
fn decode(key: &[u8], v6: bool) -> Option<(Way, IpAddr, Option<Recorded>)> {
    Reader::all(key, |key| {
        let mark = key.mark()?;
        let way = Way::ALL.into_iter().find(|way| u32::from(number(*way)) == mark)?;
        let (own, protocol, port, peer) = (key.address(v6)?, key.protocol()?, key.port()?, key.address(v6)?);
        let peer = (!peer.is_unspecified()).then_some(peer);
        let what = (protocol, port, peer) != (0, 0, None);
        Some((way, own, what.then_some(Recorded { protocol, port, peer })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_others_are_nothing() {
        let key = |way: u8, protocol: u8, port: u8, peer: [u8; 4]| {
            let head = [0, 0, 0, way, 10, 1, 0, 2, protocol, 0, 0, 0, 0, port, 0, 0];
            [&head[..], &peer].concat()
        };
        let own: IpAddr = "10.1.0.2".parse().unwrap();
        let peer = "192.0.2.1".parse().ok();
        let recorded = |protocol, port, peer| Some(Recorded { protocol, port, peer });
        for (key, expected) in [
            (key(1, 6, 80, [192, 0, 2, 1]), Some((Way::Egress, own, recorded(6, 80, peer)))),
            (key(2, 17, 53, [0; 4]), Some((Way::Ingress, own, recorded(17, 53, None)))),
            (key(1, 0, 0, [0; 4]), Some((Way::Egress, own, None))),
            (key(3, 6, 80, [192, 0, 2, 1]), None),
        ] {
            assert_eq!(decode(&key, false), expected);
            for end in 0..key.len() {
                assert_eq!(decode(&key[..end], false), None);
            }
        }
    }
}
