//! What audited containers did, as rules recorded it in sets whose elements expire. Reconciliation does not know them:
//! what makes a container audited, or ends it, takes its records with it ([`forget`]).
//!
//! Called by `LinuxKernel` and `tables`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nft::element::{Entry, Reader};
use nft::{Stateful, table};

use super::audit_rules::sets;
use super::expiring;
use super::ruleset::TABLE;
use crate::datapath::access::{Record, Recorded, Way};
use crate::linux::netlink::{Failure, Socket};
use crate::model::Family;

/// Both directions, of packets that the host routes and of frames within a bridge.
const PLACES: [(Way, bool); 4] =
    [(Way::Egress, false), (Way::Ingress, false), (Way::Egress, true), (Way::Ingress, true)];

/// Removes the records of the endpoints with these addresses, and what is left of their rate.
pub fn forget(socket: &mut Socket, owners: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    for set in PLACES.into_iter().flat_map(|(way, bridged)| sets(way, bridged)).flatten() {
        if owners.iter().all(|owner| Family::of(owner) != set.family()) {
            continue;
        }
        let owner = |entry: &Entry| match set.spec().is_concatenated() {
            true => decode(&entry.key, set.family()).map(|(own, _)| own),
            false => Reader::all(&entry.key, |key| key.address(set.family())),
        };
        expiring::remove(socket, &set.spec(), |entry| owner(entry).is_some_and(|owner| owners.contains(&owner)))?;
    }
    Ok(())
}

/// All records. With br_netfilter, a frame within a bridge may be recorded in both tables: it counts once. A missing table
/// has none.
pub fn all(socket: &mut Socket) -> Result<Vec<Record>, Failure> {
    let mut found: BTreeMap<(Way, IpAddr, Option<Recorded>), u64> = BTreeMap::new();
    for (way, bridged) in PLACES {
        let [records, _, unrecorded] = sets(way, bridged);
        for set in records.into_iter().chain(unrecorded) {
            let entries = match table::entries(socket, set.spec().family, TABLE, set.spec().name) {
                Err(failure) if failure.errno() == Some(libc::ENOENT) => continue,
                entries => entries?,
            };
            for entry in entries {
                let packets = if let Some(Stateful::Counted(packets)) = entry.limit { packets } else { 0 };
                let key = match set.spec().is_concatenated() {
                    true => decode(&entry.key, set.family()).map(|(own, what)| (way, own, Some(what))),
                    false => Reader::all(&entry.key, |key| key.address(set.family())).map(|own| (way, own, None)),
                };
                if let Some(key) = key {
                    let counted = found.entry(key).or_default();
                    *counted = packets.max(*counted);
                }
            }
        }
    }
    let record = |((way, own, what), packets): (_, u64)| Record { way, own, what, packets: packets.max(1) };
    Ok(found.into_iter().map(record).collect())
}

/// Address and traffic of a key; `None` for one that no rule writes.
fn decode(key: &[u8], family: Family) -> Option<(IpAddr, Recorded)> {
    Reader::all(key, |key| {
        let (link, own, protocol) = (key.mark()?, key.address(family)?, key.protocol()?);
        let (port, peer) = (key.port()?, key.address(family)?);
        let is_icmp = i32::from(protocol) == family.choose(libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6);
        Some((own, Recorded { protocol, port: if is_icmp { 0 } else { port }, peer: (link != 0).then_some(peer) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_others_are_nothing() {
        let key = |link: u8, protocol: u8, port: u8| {
            vec![0, 0, 0, link, 10, 1, 0, 2, protocol, 0, 0, 0, 0, port, 0, 0, 192, 0, 2, 1]
        };
        let own: IpAddr = "10.1.0.2".parse().unwrap();
        let recorded = |protocol, port, peer: &str| Recorded { protocol, port, peer: peer.parse().ok() };
        for (key, expected) in [
            (key(1, 6, 80), recorded(6, 80, "192.0.2.1")),
            (key(0, 17, 53), recorded(17, 53, "")),
            (key(3, 1, 8), recorded(1, 0, "192.0.2.1")),
        ] {
            assert_eq!(decode(&key, Family::V4), Some((own, expected)));
            for end in 0..key.len() {
                assert_eq!(decode(&key[..end], Family::V4), None);
            }
        }
    }
}
