//! Which addresses were admitted for an endpoint and why, so that a change of its list takes away no more than it must.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dns::Name;

use super::{LONGEST, Named, Names};
use crate::datapath::Admission;
use crate::model::access::NameRules;
use crate::model::access::expand::Transport;
use crate::model::{Endpoint, Network};
use crate::state::table::lock;

/// Most names that are recorded of one address.
const MOST_NAMES: usize = 8;

/// Of an address that was admitted: until when, and for which names.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    until: Option<Instant>,
    names: BTreeSet<Name>,
}

/// What was admitted for an endpoint.
pub(super) type Admitted = HashMap<IpAddr, Standing>;

/// What an endpoint was answered before its list changed.
#[derive(Debug)]
pub(in crate::driver) struct Suspended {
    rules: Option<NameRules>,
    audited: bool,
    admitted: Admitted,
}

impl Standing {
    /// Also for this name, and until then.
    pub fn prolong(&mut self, until: Instant, name: &Name) {
        self.until = Some(until);
        if self.names.len() < MOST_NAMES {
            self.names.insert(name.clone());
        }
    }

    /// The names.
    pub fn names(&self) -> BTreeSet<Name> {
        self.names.clone()
    }

    /// Whether its time is not over.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

impl Names {
    /// Ends it for a change of the list; queries are not answered until [`Names::resume`].
    pub(in crate::driver) fn suspend(&self, endpoint: &Endpoint) -> Option<Suspended> {
        let address = endpoint.spec.addresses().next()?;
        let named = lock(&self.by_address).get(&address).filter(|named| named.endpoint == endpoint.spec.id).cloned()?;
        let admitted = lock(&named.admitted).take().unwrap_or_default();
        self.remove(endpoint);
        Some(Suspended { rules: named.rules.clone(), audited: named.audited, admitted })
    }

    /// Answers queries of an endpoint again, after its list has changed in the kernel. Addresses of names that the list
    /// still has stay reachable as far as it says; an error leaves them to the next query.
    pub(in crate::driver) fn resume(&self, network: &Network, endpoint: &Endpoint, before: Option<Suspended>) {
        let now = Named::new(network, endpoint);
        if let Some(Suspended { rules, audited, admitted }) = before {
            let own: BTreeSet<IpAddr> = endpoint.spec.addresses().collect();
            let kept = match &now {
                Some(now) if now.rules == rules && now.audited == audited => admitted,
                now => {
                    if let Err(error) = self.kernel.forget_names(&own) {
                        tracing::error!(%error, endpoint = %endpoint.spec.id, "the addresses of names that its list had may stay reachable for some minutes: set the policy again");
                    }
                    // What an audited endpoint learned is remembered for longer than it may stay reachable.
                    let longest = if audited { self.times.least + self.times.grace } else { LONGEST };
                    now.as_ref().map(|now| self.readmit(now, admitted, longest)).unwrap_or_default()
                }
            };
            if let Some(now) = &now {
                *lock(&now.admitted) = Some(kept);
            }
        }
        self.answer(now);
    }

    /// Admits again what the list still allows of these addresses, for as long as before but at most `longest`; returns it.
    fn readmit(&self, named: &Named, admitted: Admitted, longest: Duration) -> Admitted {
        let begun = Instant::now();
        let mut kept = Admitted::new();
        for (peer, mut standing) in admitted {
            standing.until = standing.until.map(|until| until.min(begun + longest));
            standing.names.retain(|name| named.transports(name).is_some());
            let allowed = standing.names.iter().filter_map(|name| named.transports(name)).flatten();
            let transports: BTreeSet<Transport> = allowed.collect();
            let lifetime = standing.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(begun));
            if transports.is_empty() || lifetime.is_zero() {
                continue;
            }
            let admission = [Admission { peer, needed: lifetime, lifetime }];
            let transports: Vec<_> = transports.into_iter().collect();
            let done = named.addresses.iter().try_for_each(|own| self.kernel.admit(*own, &admission, &transports));
            match done {
                Ok(()) => drop(kept.insert(peer, standing)),
                Err(error) => {
                    tracing::warn!(%error, endpoint = %named.endpoint, %peer, "cannot keep the address of a name reachable")
                }
            }
        }
        kept
    }
}
