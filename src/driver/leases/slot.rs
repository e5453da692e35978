//! One identity with its client.

use dhcp::Client;
use dhcp::client::{Identity, Time};

use crate::model::{LeaseOwner, LeaseRecord};
use crate::state::record::Record;

/// The vendor class that servers are told.
const VENDOR: &str = "pontoon";

/// An identity.
#[derive(Debug, Clone)]
pub struct Slot {
    /// What the ledger knows of it.
    pub record: LeaseRecord,
    /// Its client.
    pub client: Client,
    /// How many requests wait for it.
    pub waiting: u32,
    /// When the search ends unless an endpoint has it by then.
    pub(super) give_up: Time,
    /// Why the last message could not be sent.
    pub failure: Option<String>,
}

/// The state of a lease, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Asked for.
    Pending,
    /// An endpoint has it.
    Bound,
    /// An endpoint has an address that its server gave to it no longer, or replaced by another.
    Lost,
    /// An endpoint has an address of which the time is over: no server answers.
    Expired,
    /// Kept for the next endpoint.
    Parked,
    /// There is none, but the address is remembered.
    Remembered,
}

impl Slot {
    /// The state of its lease.
    pub fn state(&self, now: Time) -> LeaseState {
        let valid = self.client.valid(now).map(|held| held.lease.address);
        match (&self.record.endpoint, self.record.used) {
            (None, _) if valid.is_some() => LeaseState::Parked,
            (None, _) => LeaseState::Remembered,
            (Some(_), None) => LeaseState::Pending,
            (Some(_), used) if valid == used => LeaseState::Bound,
            (Some(_), used) if self.client.held().map(|held| held.lease.address) == used => LeaseState::Expired,
            (Some(_), _) => LeaseState::Lost,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        identity(&self.record)
    }

    /// Copies what the client has into the record.
    pub(super) fn take(&mut self) -> Record {
        self.record.held = self.client.held().cloned();
        if let Some(held) = &self.record.held {
            self.record.address = Some(held.lease.address);
        }
        Record::Lease(Box::new(self.record.clone()))
    }
}

pub(super) fn identity(record: &LeaseRecord) -> Identity {
    let named = match &record.key.owner {
        LeaseOwner::Id(id) => Some(id.clone()),
        _ => None,
    };
    Identity {
        hardware: record.mac.bytes(),
        client_id: record.client_id(),
        hostname: record.hostname.clone().or(named),
        vendor: VENDOR.to_owned(),
        servers: record.servers.clone(),
    }
}
