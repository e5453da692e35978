//! The client of one lease, whatever its source is.

use std::net::IpAddr;

use dhcp::client::{self, Notice, Time};
use dhcp::slaac::{self, Routers};
use dhcp::wire::Outgoing;

use crate::model::{Held, LeaseOwner, LeaseRecord, LeaseSource};

/// The vendor class that servers are told.
const VENDOR: &str = "pontoon";

/// A client of one of the sources.
#[derive(Debug, Clone)]
pub enum Lessee {
    /// Asks DHCP servers.
    Dhcp4(dhcp::Client),
    /// Forms addresses with the prefixes of routers.
    Slaac(slaac::Client),
}

/// What a step yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To send.
    Send(Outgoing),
    /// To report.
    Notice(Notice),
}

/// What was seen on the network by a client that got no lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Of DHCP servers.
    Dhcp4(client::Seen),
    /// Of routers.
    Slaac(slaac::Seen),
}

/// Calls the method of the client.
macro_rules! each {
    ($lessee:expr, $client:ident => $call:expr) => {
        match $lessee {
            Lessee::Dhcp4($client) => $call,
            Lessee::Slaac($client) => $call,
        }
    };
}

impl Lessee {
    /// That of a record, as it was when the record was written.
    pub fn of(record: &LeaseRecord, seed: u64) -> Self {
        match (record.key.source, record.held.clone(), record.address) {
            (LeaseSource::Dhcp4, Some(Held::Dhcp4(held)), _) => {
                Self::Dhcp4(dhcp::Client::resume(identity(record), held, seed))
            }
            (LeaseSource::Dhcp4, _, address) => {
                let wanted = address.and_then(|address| match address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                });
                Self::Dhcp4(dhcp::Client::new(identity(record), wanted, seed))
            }
            (LeaseSource::Slaac, Some(Held::Slaac(held)), _) => {
                Self::Slaac(slaac::Client::resume(of_slaac(record), held, seed))
            }
            (LeaseSource::Slaac, _, address) => {
                let wanted = address.and_then(|address| match address {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                });
                Self::Slaac(slaac::Client::new(of_slaac(record), wanted, seed))
            }
        }
    }

    /// Takes over what a record says about its identity.
    pub fn identify(&mut self, record: &LeaseRecord) {
        match self {
            Self::Dhcp4(client) => client.identify(identity(record)),
            Self::Slaac(client) => client.identify(of_slaac(record)),
        }
    }

    /// Its lease, which may have ended.
    pub fn held(&self) -> Option<Held> {
        match self {
            Self::Dhcp4(client) => client.held().cloned().map(Held::Dhcp4),
            Self::Slaac(client) => client.held().cloned().map(Held::Slaac),
        }
    }

    /// The address of its lease, which may have ended.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Dhcp4(client) => client.held().map(|held| held.lease.address.into()),
            Self::Slaac(client) => client.held().map(|held| held.address.into()),
        }
    }

    /// The address of its lease if that is valid.
    pub fn valid(&self, now: Time) -> Option<IpAddr> {
        let is_valid = each!(self, client => client.valid(now).is_some());
        self.address().filter(|_| is_valid)
    }

    /// Whether it neither has a lease nor tries to get one.
    pub fn is_idle(&self) -> bool {
        each!(self, client => client.is_idle())
    }

    /// Begins to obtain a lease, unless it has one or is about to.
    pub fn start(&mut self, now: Time) {
        each!(self, client => client.start(now));
    }

    /// Has a valid lease confirmed now, before its time.
    pub fn confirm(&mut self, now: Time) {
        each!(self, client => client.confirm(now));
    }

    /// Ends a search for which no request waits any more. A lease stays.
    pub fn stop(&mut self) {
        each!(self, client => client.stop());
    }

    /// Gives the lease back and stops. The address is remembered.
    pub fn release(&mut self, now: Time) -> Vec<Output> {
        match self {
            Self::Dhcp4(client) => outputs(client.release(now)),
            Self::Slaac(client) => {
                client.release();
                Vec::new()
            }
        }
    }

    /// Another host has the address: asks for another one.
    pub fn decline(&mut self, now: Time) -> Vec<Output> {
        match self {
            Self::Dhcp4(client) => outputs(client.decline(now)),
            Self::Slaac(client) => {
                client.decline(now);
                Vec::new()
            }
        }
    }

    /// When [`Lessee::poll`] is to be called next; `MAX` while only others decide whose turn it is.
    pub fn deadline(&self, now: Time) -> Time {
        match self {
            Self::Dhcp4(client) => client.waits(now).map_or_else(|| client.deadline(), |_| Time::MAX),
            Self::Slaac(client) => client.deadline(),
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time) -> Vec<Output> {
        match self {
            Self::Dhcp4(client) => outputs(client.poll(now)),
            Self::Slaac(client) => {
                let (asks, notice) = client.poll(now);
                let ask = asks.then_some(Output::Send(Outgoing::Solicitation));
                ask.into_iter().chain(notice.map(Output::Notice)).collect()
            }
        }
    }

    /// Considers what the routers of its network have said.
    pub fn consider(&mut self, routers: &Routers, now: Time) -> Vec<Output> {
        match self {
            Self::Dhcp4(_) => Vec::new(),
            Self::Slaac(client) => client.consider(routers, now).map(Output::Notice).into_iter().collect(),
        }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        match self {
            Self::Dhcp4(client) => Seen::Dhcp4(client.seen.clone()),
            Self::Slaac(client) => Seen::Slaac(client.seen.clone()),
        }
    }
}

/// What a client of DHCP yields.
pub(super) fn outputs(of_client: Vec<client::Output>) -> Vec<Output> {
    let convert = |output| match output {
        client::Output::Send(message, to) => Output::Send(Outgoing::Dhcp4(message, to)),
        client::Output::Notice(notice) => Output::Notice(notice),
    };
    of_client.into_iter().map(convert).collect()
}

fn identity(record: &LeaseRecord) -> client::Identity {
    let named = match &record.key.owner {
        LeaseOwner::Id(id) => Some(id.clone()),
        _ => None,
    };
    client::Identity {
        hardware: record.mac.bytes(),
        client_id: record.client_id(),
        hostname: record.hostname.clone().or(named),
        vendor: VENDOR.to_owned(),
        servers: record.servers.clone(),
    }
}

fn of_slaac(record: &LeaseRecord) -> slaac::Identity {
    slaac::Identity { hardware: (!record.shared).then(|| record.mac.bytes()), stable: record.stable() }
}
