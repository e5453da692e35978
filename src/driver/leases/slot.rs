//! One identity with the client of one of its leases.

use std::net::IpAddr;

use dhcp::client::Time;

use super::lessee::Lessee;
use crate::model::LeaseRecord;
use crate::state::record::Record;

/// An identity and its lease.
#[derive(Debug, Clone)]
pub struct Slot {
    /// What the ledger knows of it.
    pub record: LeaseRecord,
    /// Its client.
    pub client: Lessee,
    /// How many requests wait for it.
    pub waiting: u32,
    /// When the search ends unless an endpoint has it by then.
    pub(super) give_up: Time,
    /// Why the last message could not be sent.
    pub failure: Option<String>,
    /// The other address that was reported last, while an endpoint uses one that is lost.
    pub(super) told: Option<IpAddr>,
}

/// The state of a lease, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Asked for.
    Pending,
    /// An endpoint has it.
    Bound,
    /// An endpoint has an address that its server or router gave to it no longer, or replaced by another.
    Lost,
    /// An endpoint has an address of which the time is over: no server or router answers.
    Expired,
    /// Kept for the next endpoint.
    Parked,
    /// There is none, but the address is remembered.
    Remembered,
}

impl Slot {
    /// The identity of a record, as it was when the record was written.
    pub(super) fn of(record: LeaseRecord, seed: u64) -> Self {
        let client = Lessee::of(&record, seed);
        Self { record, client, waiting: 0, give_up: Time::MAX, failure: None, told: None }
    }

    /// The state of its lease.
    pub fn state(&self, now: Time) -> LeaseState {
        let valid = self.client.valid(now);
        match (&self.record.endpoint, self.record.used) {
            (None, _) if valid.is_some() => LeaseState::Parked,
            (None, _) => LeaseState::Remembered,
            (Some(_), None) => LeaseState::Pending,
            (Some(_), used) if valid == used => LeaseState::Bound,
            (Some(_), used) if self.client.address() == used => LeaseState::Expired,
            (Some(_), _) => LeaseState::Lost,
        }
    }

    /// When a parked lease is given back, or a search for which no request waits ends.
    pub(super) fn end(&self) -> Time {
        match self.client.address() {
            Some(_) => self.record.since + Time::from(self.record.park) * 1000,
            None if self.client.is_idle() => Time::MAX,
            None => self.give_up,
        }
    }

    /// Copies what the client has into the record.
    pub(super) fn take(&mut self) -> Record {
        self.record.held = self.client.held();
        let address = self.client.address();
        self.record.probed = self.record.probed.filter(|probed| address == Some(*probed));
        self.record.address = address.or(self.record.address);
        Record::Lease(Box::new(self.record.clone()))
    }
}
