//! Lists that an operator sets for a network or an endpoint that exists: stored, in force at once, and flows that they do
//! not allow any more are ended.
//!
//! Setting the same lists again changes nothing, and ends such flows again: it finishes what an error or the end of the
//! process interrupted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Driver, Error};
use crate::datapath::{Verdicts, kind};
use crate::model::access::StoredLists;
use crate::model::{Endpoint, EndpointId, NetworkId};
use crate::state::record::Record;
use crate::state::table::{Held, lock};

/// What an operator wants for a network or an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// The network.
    pub network: NetworkId,
    /// The endpoint; without it the lists are the network's.
    pub endpoint: Option<EndpointId>,
    /// The lists that replace the stored ones of their direction; `None` removes all.
    pub lists: Option<StoredLists>,
    /// Whether flows go on that are not allowed any more.
    pub keep_flows: bool,
}

impl Driver {
    /// See the module documentation. After an error everything is as before.
    ///
    /// # Errors
    /// The object is unknown, the lists cannot be enforced on its network, or the ledger or the kernel refuse.
    pub fn set_policy(&self, change: &PolicyChange) -> Result<(), Error> {
        let slot = self.networks.existing(&change.network)?;
        let mut place = lock(&slot);
        let unknown = || Error::UnknownNetwork { network: change.network.clone() };
        let held = place.as_mut().ok_or_else(unknown)?;
        let after = changed(held, change)?;
        let concerned = |held: &Held| -> Vec<Endpoint> {
            let is_meant = |one: &&Endpoint| change.endpoint.as_ref().is_none_or(|id| *id == one.spec.id);
            held.endpoints.values().filter(is_meant).cloned().collect()
        };
        let endpoints = concerned(&after);
        if change.lists.is_some() {
            kind::access::check_stored(&after.network, endpoints.iter())?;
            self.groups.check(&after)?;
        }
        self.journal.write(&[record(&after, change.endpoint.as_ref())])?;
        let before = concerned(held);
        let suspended: Vec<_> = before.iter().map(|endpoint| self.names.suspend(endpoint)).collect();
        let resume = |held: &Held, endpoints: &[Endpoint]| {
            for (endpoint, admitted) in endpoints.iter().zip(suspended) {
                self.names.resume(&held.network, endpoint, admitted);
            }
        };
        let in_force = match self.change_all(held, &after) {
            Ok(in_force) => in_force,
            Err(source) => {
                let _ = self.journal.write_or_defer(vec![record(held, change.endpoint.as_ref())]);
                if let Err(error) = self.change_all(&after, held) {
                    self.applier.defer(&error, "roll back a policy", object(change));
                }
                resume(held, &before);
                return Err(Error::Kernel { object: object(change), source });
            }
        };
        resume(&after, &endpoints);
        // Damage to the last line must not bring back what was before it.
        self.flows.finish(self.flows.begin(self.journal.compact_now()));
        let addresses: BTreeSet<IpAddr> = endpoints.iter().flat_map(|endpoint| endpoint.spec.addresses()).collect();
        if !change.keep_flows && !addresses.is_empty() {
            self.kernel().cut(Verdicts::new(addresses, in_force.policy.iter().flatten()));
        }
        tracing::info!(object = %object(change), removed = change.lists.is_none(), "policy changed");
        *held = after;
        Ok(())
    }
}

/// The network with its endpoints after the change.
fn changed(held: &Held, change: &PolicyChange) -> Result<Held, Error> {
    let mut after = held.clone();
    let stored = match &change.endpoint {
        None => &mut after.network.stored,
        Some(id) => {
            let unknown = || Error::UnknownEndpoint { network: change.network.clone(), endpoint: id.clone() };
            &mut after.endpoints.get_mut(id).ok_or_else(unknown)?.stored
        }
    };
    *stored = change.lists.as_ref().map(|lists| stored.changed(lists)).unwrap_or_default();
    Ok(after)
}

/// The record of the object whose lists change.
fn record(held: &Held, endpoint: Option<&EndpointId>) -> Record {
    match endpoint.and_then(|id| held.endpoints.get(id)) {
        Some(endpoint) => Record::Endpoint(Box::new(endpoint.clone())),
        None => Record::Network(Box::new(held.network.clone())),
    }
}

fn object(change: &PolicyChange) -> String {
    match &change.endpoint {
        Some(endpoint) => format!("endpoint {endpoint} of network {}", change.network),
        None => format!("network {}", change.network),
    }
}
