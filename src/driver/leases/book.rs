//! The identities of endpoints on networks with DHCP, each with its client: which endpoint has which, which are parked,
//! and what is due.
//!
//! Pure: the time is passed in, and what is to be sent and recorded is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use dhcp::client::{Held, Notice, Output, Time};
use dhcp::frame::Destination;
use dhcp::{Client, Message, pace};

use super::error::{LeaseError, Outcome};
use super::slot::{Slot, identity};
use crate::datapath::kind;
use crate::model::lease::{self, Lease};
use crate::model::{
    DhcpEndpointOptions, DhcpOptions, EndpointId, IfName, LeaseKey, LeaseOwner, LeaseRecord, Mac, NetworkId, Vid,
};
use crate::state::record::Record;

/// How long a search goes on that no request waits for any more, in milliseconds.
const PERSISTENCE: Time = 30_000;

/// Most identities; those that were not used for the longest time are forgotten first.
const MOST: usize = 1024;

/// What a new endpoint says about itself.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Its network.
    pub network: &'a NetworkId,
    /// The endpoint.
    pub endpoint: &'a EndpointId,
    /// The link of the network.
    pub link: &'a IfName,
    /// Its VLAN.
    pub vlan: Option<Vid>,
    /// The hardware address that the user chose.
    pub mac: Option<Mac>,
    /// The hardware address of the link, if all endpoints share it.
    pub shared: Option<Mac>,
    /// The options of the network.
    pub network_options: &'a DhcpOptions,
    /// The options of the endpoint.
    pub options: &'a DhcpEndpointOptions,
    /// See [`lease::fingerprint`].
    pub fingerprint: String,
}

impl Asked<'_> {
    fn key(&self, owner: LeaseOwner) -> LeaseKey {
        LeaseKey { link: self.link.clone(), vlan: self.vlan, owner }
    }

    fn is_here(&self, key: &LeaseKey) -> bool {
        key.link == *self.link && key.vlan == self.vlan
    }
}

/// The link by which the servers of an identity are reached.
pub fn spoken(key: &LeaseKey) -> IfName {
    key.vlan.map_or_else(|| key.link.clone(), |vid| kind::service::link(&key.link, vid))
}

/// What is to be done after a change, in this order: records are written before messages are sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// To write.
    pub records: Vec<Record>,
    /// To send, each on its link and for an identity.
    pub sends: Vec<(LeaseKey, Box<Message>, Destination)>,
    /// To report.
    pub notices: Vec<(LeaseKey, Notice)>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Book {
    slots: BTreeMap<LeaseKey, Slot>,
    turn: u64,
}

impl Book {
    /// All identities.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// One of them.
    pub fn slot(&mut self, key: &LeaseKey) -> Option<&mut Slot> {
        self.slots.get_mut(key)
    }

    /// Adds an identity of the ledger.
    pub fn restore(&mut self, record: LeaseRecord, seed: u64) {
        self.turn = self.turn.max(record.turn);
        let client = match record.held.clone() {
            Some(held) => Client::resume(identity(&record), held, seed),
            None => Client::new(identity(&record), record.address, seed),
        };
        let key = record.key.clone();
        self.slots.insert(key, Slot { record, client, waiting: 0, give_up: Time::MAX, failure: None });
    }

    /// After all are restored: parks those whose endpoint is gone, and lets the others look for what they lost.
    /// `used` finds the address of an endpoint.
    pub fn settle(&mut self, used: impl Fn(&NetworkId, &EndpointId) -> Option<Ipv4Addr>, now: Time) -> Vec<Record> {
        let mut records = Vec::new();
        for slot in self.slots.values_mut() {
            let Some(endpoint) = &slot.record.endpoint else { continue };
            slot.record.used = used(&slot.record.network, endpoint);
            if slot.record.used.is_some() {
                slot.client.start(now);
            } else {
                (slot.record.endpoint, slot.record.since) = (None, now);
                records.push(slot.take());
            }
        }
        records
    }

    /// Gives a new endpoint its identity, and starts its client unless that has a lease.
    ///
    /// # Errors
    /// Another endpoint has the identity.
    pub fn assign(&mut self, asked: &Asked<'_>, seed: u64, now: Time) -> Result<(LeaseKey, Due), LeaseError> {
        let owner = self.owner(asked);
        let key = asked.key(owner);
        let holder = self.slots.get(&key).and_then(|slot| slot.record.endpoint.clone());
        if let Some(other) = holder.filter(|other| other != asked.endpoint) {
            let (network, place) = (asked.network.clone(), key.place());
            return Err(LeaseError::InUse { network, place, owner: key.owner, other });
        }
        let mut due = Due::default();
        if !self.slots.contains_key(&key) {
            due.records.extend(self.make_room());
            let label = lease::label(&key.owner, asked.network);
            let mac = match &key.owner {
                LeaseOwner::Mac(mac) => *mac,
                LeaseOwner::Id(_) | LeaseOwner::Alike { .. } => Mac::derive("dhcp", &label),
            };
            let record = LeaseRecord {
                key: key.clone(),
                label,
                mac: asked.shared.unwrap_or(mac),
                network: asked.network.clone(),
                endpoint: None,
                used: None,
                address: None,
                held: None,
                since: now,
                park: 0,
                hostname: None,
                servers: Vec::new(),
                turn: 0,
            };
            self.restore(record, seed);
        }
        self.turn += 1;
        let turn = self.turn;
        let Some(slot) = self.slots.get_mut(&key) else { return Ok((key, due)) };
        let record = &mut slot.record;
        record.network = asked.network.clone();
        record.endpoint = Some(asked.endpoint.clone());
        record.hostname = asked.options.hostname.clone();
        record.servers = asked.network_options.servers.clone();
        (record.park, record.turn) = (asked.network_options.park(), turn);
        // A parent may have another hardware address now.
        record.mac = asked.shared.unwrap_or(record.mac);
        let identity = slot.identity();
        slot.client.identify(identity);
        (slot.give_up, slot.failure) = (Time::MAX, None);
        let valid = slot.client.valid(now).map(|held| held.lease.address);
        if let Some(address) = asked.options.request {
            if valid.is_some_and(|valid| valid != address) {
                collect(&mut due, &key, slot.client.release(now));
            }
            slot.client.prefer(address);
        }
        match slot.client.valid(now) {
            Some(_) => slot.client.confirm(now),
            None => slot.client.start(now),
        }
        due.records.push(slot.take());
        Ok((key, due))
    }

    fn owner(&self, asked: &Asked<'_>) -> LeaseOwner {
        if let Some(id) = &asked.options.id {
            return LeaseOwner::Id(id.clone());
        }
        let free_or_mine = |slot: &&Slot| slot.record.endpoint.as_ref().is_none_or(|other| other == asked.endpoint);
        if let Some(mac) = asked.mac {
            // Some engines repeat the address that was answered at the first start, as if the user had chosen it.
            let here = self.slots.values().filter(|slot| asked.is_here(&slot.record.key) && slot.record.mac == mac);
            let same = here.filter(free_or_mine).max_by_key(|slot| slot.record.turn);
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
        let parked = self.slots.values().filter(alike).filter(|slot| slot.record.endpoint.is_none());
        let parked = parked.min_by_key(|slot| (slot.record.since, slot.record.turn));
        if let Some(slot) = parked {
            return slot.record.key.owner.clone();
        }
        let of = |number| LeaseOwner::Alike { fingerprint: asked.fingerprint.clone(), number };
        let free = |owner: &LeaseOwner| !self.slots.contains_key(&asked.key(owner.clone()));
        (1..=u32::MAX).map(of).find(free).unwrap_or_else(|| of(0))
    }

    fn make_room(&mut self) -> Option<Record> {
        if self.slots.len() < MOST {
            return None;
        }
        let unused = self.slots.values().filter(|slot| slot.record.endpoint.is_none() && slot.client.held().is_none());
        let key = unused.min_by_key(|slot| slot.record.turn)?.record.key.clone();
        self.slots.remove(&key);
        Some(Record::NoLease { key })
    }

    /// The lease of an identity, if it is valid.
    pub fn lease(&self, key: &LeaseKey, now: Time) -> Option<&Held> {
        self.slots.get(key)?.client.valid(now)
    }

    /// Records the address that an endpoint uses from now on.
    pub fn use_address(&mut self, key: &LeaseKey, address: Ipv4Addr) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.record.used = Some(address);
        }
    }

    /// What a search without success has seen.
    pub fn outcome(&self, key: &LeaseKey) -> Outcome {
        let slot = self.slots.get(key);
        let seen = slot.map(|slot| slot.client.seen.clone()).unwrap_or_default();
        Outcome {
            place: key.place(),
            link: key.link.clone(),
            seen,
            failure: slot.and_then(|slot| slot.failure.clone()),
        }
    }

    /// Another host has the address.
    pub fn decline(&mut self, key: &LeaseKey, now: Time) -> Due {
        let mut due = Due::default();
        if let Some(slot) = self.slots.get_mut(key) {
            collect(&mut due, key, slot.client.decline(now));
            slot.record.address = None;
            due.records.push(slot.take());
        }
        due
    }

    /// Parks the identity of an endpoint that is gone.
    pub fn park(&mut self, endpoint: &EndpointId, now: Time) -> Option<Record> {
        let slot = self.slots.values_mut().find(|slot| slot.record.endpoint.as_ref() == Some(endpoint))?;
        (slot.record.endpoint, slot.record.used, slot.record.since) = (None, None, now);
        slot.give_up = now + PERSISTENCE;
        Some(slot.take())
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
                collect(&mut due, key, slot.client.release(now));
                due.records.push(slot.take());
            }
        }
        due
    }

    /// Receives a message that arrived on a link.
    pub fn receive(&mut self, link: &IfName, from: [u8; 6], message: &Message, now: Time) -> Due {
        let mut due = Due::default();
        let on_link = self
            .slots
            .iter_mut()
            .filter(|(key, slot)| slot.record.mac.bytes() == message.chaddr && spoken(key) == *link);
        for (key, slot) in on_link {
            let outputs = slot.client.receive(message, from, now);
            if outputs.is_empty() {
                continue;
            }
            let granted = outputs.contains(&Output::Notice(Notice::Granted));
            collect(&mut due, key, outputs);
            if granted || slot.client.held().is_none() && slot.record.held.is_some() {
                due.records.push(slot.take());
            }
        }
        due
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time) -> Due {
        let mut due = Due::default();
        for (key, slot) in &mut self.slots {
            if slot.record.endpoint.is_none() {
                let over = slot.record.since + Time::from(slot.record.park) * 1000;
                let held = slot.client.held().is_some();
                if held && now >= over {
                    collect(&mut due, key, slot.client.release(now));
                    due.records.push(slot.take());
                } else if !held && now >= slot.give_up {
                    slot.client.stop();
                }
            }
            collect(&mut due, key, slot.client.poll(now));
        }
        let places: BTreeSet<_> = self.slots.keys().map(|key| (key.link.clone(), key.vlan)).collect();
        for (link, vlan) in &places {
            let clients = self.slots.iter().filter(|(key, _)| key.link == *link && key.vlan == *vlan);
            let clients = clients.map(|(key, slot)| (key, &slot.client, slot.waiting > 0));
            let turns: Vec<LeaseKey> = pace::turns(clients, now).into_iter().cloned().collect();
            for key in turns {
                if let Some(slot) = self.slots.get_mut(&key) {
                    collect(&mut due, &key, slot.client.take_turn(now));
                }
            }
        }
        due
    }

    /// When [`Book::poll`] is to be called next.
    pub fn next(&self, now: Time) -> Time {
        let of = |slot: &Slot| {
            let parked = slot.record.endpoint.is_none();
            let end = match slot.client.held() {
                Some(_) => slot.record.since + Time::from(slot.record.park) * 1000,
                None if slot.client.is_idle() => Time::MAX,
                None => slot.give_up,
            };
            // Whose turn it is changes only with what others do.
            let due = slot.client.waits(now).map_or_else(|| slot.client.deadline(), |_| Time::MAX);
            if parked { due.min(end) } else { due }
        };
        self.slots.values().map(of).min().unwrap_or(Time::MAX)
    }

    /// The links on which servers may answer.
    pub fn links(&self) -> BTreeSet<IfName> {
        let active = self.slots.values().filter(|slot| !slot.client.is_idle());
        active.map(|slot| spoken(&slot.record.key)).collect()
    }
}

fn collect(due: &mut Due, key: &LeaseKey, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::Send(message, to) => due.sends.push((key.clone(), message, to)),
            Output::Notice(notice) => due.notices.push((key.clone(), notice)),
        }
    }
}

/// An identity with its hardware address and its lease.
pub type Leased = (LeaseKey, Mac, Lease);

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
