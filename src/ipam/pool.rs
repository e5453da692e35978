//! One pool: the holder of each of its addresses, and the next one to allocate.
//!
//! Pure. The index above decides nothing about single addresses; this decides nothing about other pools.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::IpamError;
use super::free_ranges::FreeRuns;
use crate::model::prefix::{address, bits, number, span};
use crate::state::record::{AddressRecord, Holder, PoolRecord, Record};

/// A pool and its addresses.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub record: PoolRecord,
    /// Every allocated address, also outside the range.
    holders: BTreeMap<IpAddr, Holder>,
    /// The free addresses within the range.
    free: FreeRuns,
    /// The stale ones of `holders` that may be chosen when no address is free.
    stale: BTreeSet<u128>,
    /// Where the next search starts: after the last address that was chosen.
    cursor: u128,
}

impl Pool {
    pub fn new(record: PoolRecord) -> Self {
        let (first, last) = usable(&record.subnet);
        let range = span(record.range.as_ref().unwrap_or(&record.subnet));
        let (first, last) = (first.max(range.0), last.min(range.1));
        let (holders, stale) = (BTreeMap::new(), BTreeSet::new());
        Self { record, holders, free: FreeRuns::new(first, last), stale, cursor: first }
    }

    /// The holder of `address`.
    pub fn holder(&self, address: IpAddr) -> Option<&Holder> {
        self.holders.get(&address)
    }

    /// Every allocated address and its holder.
    pub fn holders(&self) -> impl Iterator<Item = (IpAddr, &Holder)> {
        self.holders.iter().map(|(address, holder)| (*address, holder))
    }

    /// The address to allocate when the request names none: the next free one, else a stale one.
    pub fn choose(&self) -> Option<IpAddr> {
        self.upcoming().next()
    }

    /// The addresses in the order in which they would be allocated: the free ones, then the stale ones.
    pub fn upcoming(&self) -> impl Iterator<Item = IpAddr> {
        let stale = self.stale.range(self.cursor..).chain(self.stale.range(..self.cursor)).copied();
        self.free.all_from(self.cursor).chain(stale).map(|number| address(&self.record.subnet, number))
    }

    /// The error when no address can be chosen.
    pub fn full(&self) -> IpamError {
        let subnet = &self.record.subnet;
        let (place, part) = match &self.record.range {
            Some(range) => (format!("range {range} of {subnet}"), *range),
            None => (subnet.to_string(), *subnet),
        };
        let within = self.holders().filter(|(address, _)| part.contains(*address)).map(|(_, holder)| holder);
        IpamError::Full { count: self.free.size(), place, by: tally(within) }
    }

    /// Checks that a request may name `address`, regardless of its holder.
    pub fn check(&self, address: IpAddr) -> Result<(), IpamError> {
        let pool = self.record.subnet;
        if !pool.contains(address) {
            return Err(IpamError::Outside { address, pool });
        }
        let (first, last) = usable(&pool);
        let what = match number(address) {
            low if low < first && pool.is_ipv6() => "subnet-router anycast",
            low if low < first => "network",
            high if high > last => "broadcast",
            _ => return Ok(()),
        };
        Err(IpamError::Reserved { address, pool, what })
    }

    /// Assigns `address` to `holder`. The cursor moves after an address that would have been chosen, and stays
    /// for another address that a request named.
    pub fn put(&mut self, address: IpAddr, holder: Holder) {
        if self.covers(address) {
            let number = number(address);
            let chosen = self.free.next_from(self.cursor) == Some(number);
            self.free.take(number);
            if chosen {
                self.cursor = number.saturating_add(1);
            }
            if holder == Holder::Stale {
                self.stale.insert(number);
            } else {
                self.stale.remove(&number);
            }
        }
        self.holders.insert(address, holder);
    }

    /// Frees `address`.
    pub fn give_back(&mut self, address: IpAddr) {
        if self.holders.remove(&address).is_some() && self.covers(address) {
            self.stale.remove(&number(address));
            self.free.give_back(number(address));
        }
    }

    /// Resumes the allocation after `address`, as before a restart.
    pub fn resume(&mut self, address: IpAddr) {
        if self.covers(address) {
            self.cursor = number(address).saturating_add(1);
        }
    }

    /// The addresses as records, ordered so that the one before the cursor comes last.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let (before, from): (Vec<_>, Vec<_>) = self.holders().partition(|(address, _)| number(*address) < self.cursor);
        from.into_iter().chain(before).map(|(address, holder)| {
            Record::Address(AddressRecord { pool: self.record.id.clone(), address, holder: holder.clone() })
        })
    }

    /// The number of runs of free addresses, which determines memory use.
    #[cfg(test)]
    pub fn fragments(&self) -> usize {
        self.free.fragments()
    }

    /// Describes the contents of the pool.
    pub fn usage(&self) -> String {
        tally(self.holders.values())
    }

    /// Whether `address` may be chosen: exactly the bounds of `free`.
    fn covers(&self, address: IpAddr) -> bool {
        self.record.range.as_ref().unwrap_or(&self.record.subnet).contains(address) && self.check(address).is_ok()
    }
}

/// First and last address of a subnet that an interface can have.
fn usable(subnet: &IpNetwork) -> (u128, u128) {
    let (first, last) = span(subnet);
    match bits(subnet) - subnet.prefix() {
        // RFC 3021 and RFC 6164: in a pair both can be used.
        0 | 1 => (first, last),
        _ if subnet.is_ipv4() => (first + 1, last - 1),
        _ => (first + 1, last),
    }
}

/// Describes one holder.
pub(super) fn describe(holder: &Holder, now: u64) -> String {
    match holder {
        Holder::Gateway => "the gateway".to_owned(),
        Holder::Aux => "an --aux-address".to_owned(),
        Holder::Endpoint { network, endpoint } => format!("endpoint {endpoint} of network {network}"),
        Holder::Unclaimed { since } => {
            format!("requested {} s ago and not yet attached", now.saturating_sub(*since))
        }
        Holder::Stale => "something from before the last boot".to_owned(),
    }
}

/// Describes many holders: `1 gateway, 12 endpoints, 1 not yet attached`.
fn tally<'a>(holders: impl Iterator<Item = &'a Holder>) -> String {
    let mut counts = [0usize; 5];
    for holder in holders {
        counts[match holder {
            Holder::Gateway => 0,
            Holder::Endpoint { .. } => 1,
            Holder::Aux => 2,
            Holder::Unclaimed { .. } => 3,
            Holder::Stale => 4,
        }] += 1;
    }
    let words = [
        ("gateway", "gateways"),
        ("endpoint", "endpoints"),
        ("--aux-address", "--aux-addresses"),
        ("not yet attached", "not yet attached"),
        ("from before the last boot", "from before the last boot"),
    ];
    let parts = counts.iter().zip(words).filter(|(count, _)| **count > 0);
    let parts = parts.map(|(count, (one, many))| format!("{count} {}", if *count == 1 { one } else { many }));
    let text = parts.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "no address taken".to_owned() } else { text }
}
