//! The identities of endpoints on networks with DHCP, each with its clients: which endpoint has which, which are parked,
//! and what is due. An identity has one lease of each source of its network.
//!
//! Pure: the time is passed in, and what is to be sent and recorded is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dhcp::client::{Notice, Time};
use dhcp::pace;
use dhcp::slaac::Routers;
use dhcp::wire::Incoming;

use super::asked::{Asked, Due};
use super::error::{LeaseError, Outcome};
use super::lessee::{Lessee, Output, outputs};
use super::slot::Slot;
use crate::datapath::kind;
use crate::model::{EndpointId, Held, IfName, LeaseKey, LeaseOwner, LeaseRecord, LeaseSource, Mac, NetworkId, lease};
use crate::state::record::Record;

/// How long a search goes on that no request waits for any more, in milliseconds.
const PERSISTENCE: Time = 30_000;

/// Most leases; those that were not used for the longest time are forgotten first.
const MOST: usize = 1024;

/// The link by which the servers and routers of an identity are reached.
pub fn spoken(key: &LeaseKey) -> IfName {
    key.vlan.map_or_else(|| key.link.clone(), |vid| kind::service::link(&key.link, vid))
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Book {
    slots: BTreeMap<LeaseKey, Slot>,
    /// What routers have said on each link on which a client listens.
    routers: BTreeMap<IfName, Routers>,
    turn: u64,
}

impl Book {
    /// All leases.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// One of them.
    pub fn slot(&mut self, key: &LeaseKey) -> Option<&mut Slot> {
        self.slots.get_mut(key)
    }

    /// Adds a lease of the ledger.
    pub fn restore(&mut self, record: LeaseRecord, seed: u64) {
        self.turn = self.turn.max(record.turn);
        self.slots.insert(record.key.clone(), Slot::of(record, seed));
    }

    /// After all are restored: parks those whose endpoint is gone, and lets the others look for what they lost.
    /// `used` finds the address of an endpoint.
    pub fn settle(
        &mut self,
        used: impl Fn(&NetworkId, &EndpointId, LeaseSource) -> Option<IpAddr>,
        now: Time,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        for slot in self.slots.values_mut() {
            let Some(endpoint) = &slot.record.endpoint else { continue };
            slot.record.used = used(&slot.record.network, endpoint, slot.record.key.source);
            slot.record.probed = slot.record.used.or(slot.record.probed);
            if slot.record.used.is_some() {
                slot.client.start(now);
            } else {
                (slot.record.endpoint, slot.record.since) = (None, now);
                records.push(slot.take());
            }
        }
        records
    }

    /// Gives a new endpoint its identity, and starts the clients that have no lease. Returns the keys of its leases.
    ///
    /// # Errors
    /// Another endpoint has the identity.
    pub fn assign(&mut self, asked: &Asked<'_>, seed: u64, now: Time) -> Result<(Vec<LeaseKey>, Due), LeaseError> {
        let owner = self.owner(asked);
        if let Some(other) = self.holder(asked, &owner).filter(|other| *other != asked.endpoint) {
            let (network, other) = (asked.network.clone(), other.clone());
            let place = asked.key(owner.clone(), LeaseSource::default()).place();
            return Err(LeaseError::InUse { network, place, owner, other });
        }
        let mut due = Due::default();
        self.forget_routers();
        self.turn += 1;
        let keys: Vec<_> = asked.network_options.sources().map(|source| asked.key(owner.clone(), source)).collect();
        for key in &keys {
            self.assign_one(asked, key, seed, now, &mut due);
        }
        Ok((keys, due))
    }

    fn assign_one(&mut self, asked: &Asked<'_>, key: &LeaseKey, seed: u64, now: Time, due: &mut Due) {
        if !self.slots.contains_key(key) {
            due.records.extend(self.make_room());
            let record = self.new_record(asked, key, now);
            self.restore(record, seed);
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        let record = &mut slot.record;
        record.network = asked.network.clone();
        record.endpoint = Some(asked.endpoint.clone());
        record.hostname = asked.options.hostname.clone();
        record.servers = asked.network_options.servers.clone();
        (record.park, record.turn) = (asked.network_options.park(), self.turn);
        // A parent may have another hardware address now.
        (record.mac, record.shared) = (asked.shared.unwrap_or(record.mac), asked.shared.is_some());
        slot.client.identify(&slot.record);
        (slot.give_up, slot.failure) = (Time::MAX, None);
        let routers = self.routers.entry(spoken(key)).or_default();
        let valid = slot.client.valid(now);
        let wish = asked.options.request.filter(|_| key.source == LeaseSource::Dhcp4);
        if let (Some(address), Lessee::Dhcp4(_)) = (wish, &slot.client) {
            if valid.is_some_and(|valid| valid != IpAddr::V4(address)) {
                due.collect(key, slot.client.release(now), routers, now);
            }
            if let Lessee::Dhcp4(client) = &mut slot.client {
                client.prefer(address);
            }
        }
        match slot.client.valid(now) {
            Some(_) => slot.client.confirm(now),
            None => slot.client.start(now),
        }
        // What routers said to others is known.
        due.collect(key, slot.client.consider(routers, now), routers, now);
        due.records.push(slot.take());
    }

    fn new_record(&self, asked: &Asked<'_>, key: &LeaseKey, now: Time) -> LeaseRecord {
        // The leases of an identity have one hardware address.
        let sibling =
            LeaseSource::ALL.into_iter().find_map(|source| self.slots.get(&asked.key(key.owner.clone(), source)));
        let (label, mac) = match (sibling, &key.owner) {
            (Some(sibling), _) => (sibling.record.label.clone(), sibling.record.mac),
            (None, LeaseOwner::Mac(mac)) => (lease::label(&key.owner, asked.network), *mac),
            (None, LeaseOwner::Id(_) | LeaseOwner::Alike { .. }) => {
                let label = lease::label(&key.owner, asked.network);
                let mac = Mac::derive("dhcp", &label);
                (label, mac)
            }
        };
        LeaseRecord {
            key: key.clone(),
            label,
            mac: asked.shared.unwrap_or(mac),
            network: asked.network.clone(),
            endpoint: None,
            used: None,
            address: None,
            shared: asked.shared.is_some(),
            probed: None,
            held: None,
            since: now,
            park: 0,
            hostname: None,
            servers: Vec::new(),
            turn: 0,
        }
    }

    /// The endpoint that has a lease of an identity.
    fn holder(&self, asked: &Asked<'_>, owner: &LeaseOwner) -> Option<&EndpointId> {
        let of = |source| self.slots.get(&asked.key(owner.clone(), source))?.record.endpoint.as_ref();
        LeaseSource::ALL.into_iter().find_map(of)
    }

    fn owner(&self, asked: &Asked<'_>) -> LeaseOwner {
        if let Some(id) = &asked.options.id {
            return LeaseOwner::Id(id.clone());
        }
        let holder = |slot: &Slot| self.holder(asked, &slot.record.key.owner);
        if let Some(mac) = asked.mac {
            // Some engines repeat the address that was answered at the first start, as if the user had chosen it.
            let here = self.slots.values().filter(|slot| asked.is_here(&slot.record.key) && slot.record.mac == mac);
            let free_or_mine = here.filter(|slot| holder(slot).is_none_or(|other| other == asked.endpoint));
            let same = free_or_mine.max_by_key(|slot| slot.record.turn);
            return same.map_or(LeaseOwner::Mac(mac), |slot| slot.record.key.owner.clone());
        }
        let alike = |slot: &&Slot| {
            let LeaseKey { owner, .. } = &slot.record.key;
            let same = matches!(owner, LeaseOwner::Alike { fingerprint, .. } if *fingerprint == asked.fingerprint);
            same && asked.is_here(&slot.record.key)
        };
        let mine = |slot: &&Slot| slot.record.endpoint.as_ref() == Some(asked.endpoint);
        if let Some(slot) = self.slots.values().filter(alike).find(mine) {
            return slot.record.key.owner.clone();
        }
        // The one that was given up first, as containers are started again in the order in which they stopped.
        let parked = self.slots.values().filter(alike).filter(|slot| holder(slot).is_none());
        let parked = parked.min_by_key(|slot| (slot.record.since, slot.record.turn));
        if let Some(slot) = parked {
            return slot.record.key.owner.clone();
        }
        let of = |number| LeaseOwner::Alike { fingerprint: asked.fingerprint.clone(), number };
        let knows = |owner: &LeaseOwner, source| self.slots.contains_key(&asked.key(owner.clone(), source));
        let free = |owner: &LeaseOwner| !LeaseSource::ALL.into_iter().any(|source| knows(owner, source));
        (1..=u32::MAX).map(of).find(free).unwrap_or_else(|| of(0))
    }

    fn make_room(&mut self) -> Option<Record> {
        if self.slots.len() < MOST {
            return None;
        }
        let unused =
            self.slots.values().filter(|slot| slot.record.endpoint.is_none() && slot.client.address().is_none());
        let key = unused.min_by_key(|slot| slot.record.turn)?.record.key.clone();
        self.slots.remove(&key);
        Some(Record::NoLease { key })
    }

    /// A lease that is valid, with its hardware address.
    pub fn lease(&self, key: &LeaseKey, now: Time) -> Option<(Mac, Held)> {
        let slot = self.slots.get(key)?;
        slot.client.valid(now)?;
        Some((slot.record.mac, slot.client.held()?))
    }

    /// Whether no other host had the address of a lease, since it is held.
    pub fn is_probed(&self, key: &LeaseKey) -> bool {
        let probed = |slot: &&Slot| slot.record.probed.is_some() && slot.record.probed == slot.client.address();
        self.slots.get(key).filter(probed).is_some()
    }

    /// Records the address that an endpoint uses from now on.
    pub fn use_address(&mut self, key: &LeaseKey, address: IpAddr) {
        if let Some(slot) = self.slots.get_mut(key) {
            (slot.record.used, slot.record.probed) = (Some(address), Some(address));
        }
    }

    /// What a search without success has seen.
    pub fn outcome(&self, key: &LeaseKey) -> Option<Outcome> {
        let slot = self.slots.get(key)?;
        let (place, link) = (key.place(), key.link.clone());
        Some(Outcome { place, link, seen: slot.client.seen(), failure: slot.failure.clone() })
    }

    /// Another host has the address.
    pub fn decline(&mut self, key: &LeaseKey, now: Time) -> Due {
        let mut due = Due::default();
        let Some(slot) = self.slots.get_mut(key) else { return due };
        let routers = self.routers.entry(spoken(key)).or_default();
        due.collect(key, slot.client.decline(now), routers, now);
        slot.record.address = None;
        due.collect(key, slot.client.consider(routers, now), routers, now);
        due.records.push(slot.take());
        due
    }

    /// Parks the leases of an endpoint that is gone.
    pub fn park(&mut self, endpoint: &EndpointId, now: Time) -> Vec<Record> {
        let mut records = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| slot.record.endpoint.as_ref() == Some(endpoint)) {
            (slot.record.endpoint, slot.record.used, slot.record.since, slot.told) = (None, None, now, None);
            slot.give_up = now + PERSISTENCE;
            records.push(slot.take());
        }
        records
    }

    /// Has all leases confirmed before their time.
    pub fn confirm_all(&mut self, now: Time) {
        self.slots.values_mut().for_each(|slot| slot.client.confirm(now));
    }

    /// Gives back all parked leases of a network.
    pub fn end_network(&mut self, network: &NetworkId, now: Time) -> Due {
        let mut due = Due::default();
        for (key, slot) in &mut self.slots {
            if slot.record.network == *network && slot.record.endpoint.is_none() && !slot.client.is_idle() {
                let routers = self.routers.entry(spoken(key)).or_default();
                due.collect(key, slot.client.release(now), routers, now);
                due.records.push(slot.take());
            }
        }
        due
    }

    /// Receives what arrived on a link.
    pub fn receive(&mut self, link: &IfName, incoming: &Incoming, now: Time) -> Due {
        let mut due = Due::default();
        let routers = self.routers.entry(link.clone()).or_default();
        if let Incoming::Router(said) = incoming {
            routers.hear((**said).clone(), now);
        }
        for (key, slot) in self.slots.iter_mut().filter(|(key, _)| spoken(key) == *link) {
            let yields = match (incoming, &mut slot.client) {
                (Incoming::Dhcp4(message, from), Lessee::Dhcp4(client))
                    if slot.record.mac.bytes() == message.chaddr =>
                {
                    outputs(client.receive(message, *from, now))
                }
                (Incoming::Router(_), client) => client.consider(routers, now),
                _ => continue,
            };
            if yields.is_empty() {
                continue;
            }
            let granted = yields.contains(&Output::Notice(Notice::Granted));
            due.collect(key, yields, routers, now);
            if granted || slot.client.address().is_none() && slot.record.held.is_some() {
                due.records.push(slot.take());
            }
        }
        due
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time) -> Due {
        let mut due = Due::default();
        self.forget_routers();
        for (key, slot) in &mut self.slots {
            let routers = self.routers.entry(spoken(key)).or_default();
            if slot.record.endpoint.is_none() && now >= slot.end() {
                if slot.client.address().is_some() {
                    due.collect(key, slot.client.release(now), routers, now);
                    due.records.push(slot.take());
                } else {
                    slot.client.stop();
                }
            }
            due.collect(key, slot.client.poll(now), routers, now);
        }
        let places: BTreeSet<_> = self.slots.keys().map(|key| (key.link.clone(), key.vlan)).collect();
        for (link, vlan) in &places {
            let clients = self.slots.iter().filter(|(key, _)| key.link == *link && key.vlan == *vlan);
            let clients = clients.filter_map(|(key, slot)| match &slot.client {
                Lessee::Dhcp4(client) => Some((key, client, slot.waiting > 0)),
                Lessee::Slaac(_) => None,
            });
            let turns: Vec<LeaseKey> = pace::turns(clients, now).into_iter().cloned().collect();
            for key in turns {
                let routers = self.routers.entry(spoken(&key)).or_default();
                if let Some(Slot { client: Lessee::Dhcp4(client), .. }) = self.slots.get_mut(&key) {
                    due.collect(&key, outputs(client.take_turn(now)), routers, now);
                }
            }
        }
        due
    }

    /// Forgets what routers said where no client listens any more: it may have changed since.
    fn forget_routers(&mut self) {
        let listens = self.links();
        self.routers.retain(|link, _| listens.contains(link));
    }

    /// When [`Book::poll`] is to be called next.
    pub fn next(&self, now: Time) -> Time {
        let of = |slot: &Slot| {
            // Whose turn it is changes only with what others do.
            let due = slot.client.deadline(now);
            if slot.record.endpoint.is_none() { due.min(slot.end()) } else { due }
        };
        self.slots.values().map(of).min().unwrap_or(Time::MAX)
    }

    /// The links on which servers and routers may answer.
    pub fn links(&self) -> BTreeSet<IfName> {
        let active = self.slots.values().filter(|slot| !slot.client.is_idle());
        active.map(|slot| spoken(&slot.record.key)).collect()
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
