//! Obtains the lease of a new endpoint, and the driver's other ways into this part.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{LeaseCounts, LeaseError, Slot};
use crate::driver::clock::boot_millis;
use crate::driver::conflicts::Lan;
use crate::driver::{ConflictError, Driver, Error, Event};
use crate::model::{EndpointSpec, Held, LeaseKey, Mac, Network};

/// How often another address is asked for after another host had the offered one, while a request waits.
const DECLINES: usize = 2;

/// What a new endpoint gets.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The hardware address of its identity.
    pub mac: Mac,
    /// Its leases, one of each source of its network.
    pub held: Vec<(LeaseKey, Held)>,
}

impl Driver {
    /// Sends what is due to DHCP servers and routers, and reads their answers. Returns when it is to be called again, unless
    /// [`Event::LeasesDue`] comes before.
    pub fn serve_leases(&self) -> Instant {
        Instant::now() + self.leases.round()
    }

    /// Obtains the leases of a new endpoint; `None` on a network without DHCP. Waits for servers and routers: call without
    /// a lock. `fingerprint` reads what the engine says about the container.
    pub(in crate::driver) fn lease_endpoint(
        &self,
        network: &Network,
        spec: &EndpointSpec,
        fingerprint: &dyn Fn() -> String,
    ) -> Result<Option<Leased>, Error> {
        let options = &network.spec.options.dhcp;
        if !options.is_on() {
            return Ok(None);
        }
        let until = Instant::now() + options.timeout();
        let needs = spec.options.dhcp.id.is_none() && spec.mac.is_none();
        let keys = self.leases.assign(network, spec, if needs { fingerprint() } else { String::new() })?;
        let each = keys.iter().map(|key| self.obtain(network, spec, key, until));
        let obtained: Result<Vec<_>, _> = each.collect();
        self.leases.done_waiting(&keys);
        if obtained.is_err() {
            self.leases.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        let obtained = obtained?;
        let mac = obtained.first().map(|(mac, _)| *mac);
        let held = keys.into_iter().zip(obtained.into_iter().map(|(_, held)| held)).collect();
        Ok(mac.map(|mac| Leased { mac, held }))
    }

    fn obtain(
        &self,
        network: &Network,
        spec: &EndpointSpec,
        key: &LeaseKey,
        until: Instant,
    ) -> Result<(Mac, Held), Error> {
        let mut declined = 0;
        loop {
            let leased = self.leases.await_lease(key, until);
            let Some((mac, held)) = leased else { return Err(self.no_lease(network, key).into()) };
            let Some(lan) = Lan::of(network).filter(|_| !self.leases.book().is_probed(key)) else {
                return Ok((mac, held));
            };
            let (v4, v6) = match &held {
                Held::Dhcp4(_) => (held.network(), None),
                Held::Slaac(_) => (None, held.network()),
            };
            match self.conflicts.check_endpoint(&lan, &EndpointSpec { v4, v6, ..spec.clone() }) {
                Ok(()) => return Ok((mac, held)),
                Err(taken @ (ConflictError::Taken { .. } | ConflictError::OfHost { .. })) => {
                    self.leases.decline(key);
                    declined += 1;
                    if declined > DECLINES {
                        return Err(taken.into());
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    fn no_lease(&self, network: &Network, key: &LeaseKey) -> LeaseError {
        let (id, place, of) = (network.spec.id.clone(), key.place(), key.source);
        let patience = network.spec.options.dhcp.timeout();
        match self.leases.book().outcome(key) {
            Some(outcome) => LeaseError::None { network: id, place, of, patience, outcome: Box::new(outcome) },
            // Only if more leases are in use than are kept.
            None => LeaseError::Full { network: id },
        }
    }

    /// Records that an endpoint uses its leases.
    pub(in crate::driver) fn use_leases(&self, leased: &Leased) {
        let mut book = self.leases.book();
        leased.held.iter().for_each(|(key, held)| book.use_address(key, held.address()));
    }

    /// Reads the leases of all identities: each with the time of the boot's clock, in milliseconds.
    pub fn read_leases<T>(&self, read: impl Fn(&Slot, u64) -> T) -> Vec<T> {
        self.leases.read(read)
    }

    /// Has all leases confirmed now, before their time.
    pub fn renew_leases(&self) {
        self.leases.book().confirm_all(boot_millis());
        self.events.send(Event::LeasesDue);
    }

    /// Counters of leases.
    pub fn lease_counts(&self) -> &LeaseCounts {
        &self.leases.counts
    }
}
