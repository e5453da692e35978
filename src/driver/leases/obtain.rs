//! Obtains the lease of a new endpoint, and the driver's other ways into this part.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{LeaseCounts, LeaseError, Leased, Slot};
use crate::driver::clock::boot_millis;
use crate::driver::conflicts::Lan;
use crate::driver::{ConflictError, Driver, Error, Event};
use crate::model::{EndpointSpec, LeaseKey, Network, lease};

/// How often another address is asked for after another host had the offered one, while a request waits.
const DECLINES: usize = 2;

impl Driver {
    /// Sends what is due to DHCP servers and reads their answers. Returns when it is to be called again, unless
    /// [`Event::LeasesDue`] comes before.
    pub fn serve_leases(&self) -> Instant {
        Instant::now() + self.leases.round()
    }

    /// Obtains the lease of a new endpoint; `None` on a network without DHCP. Waits for servers: call without a lock.
    /// `fingerprint` reads what the engine says about the container.
    pub(in crate::driver) fn lease_endpoint(
        &self,
        network: &Network,
        spec: &EndpointSpec,
        fingerprint: &dyn Fn() -> String,
    ) -> Result<Option<Leased>, Error> {
        let options = &network.spec.options.dhcp;
        if !options.v4 {
            return Ok(None);
        }
        let until = Instant::now() + options.timeout();
        let needs = spec.options.dhcp.id.is_none() && spec.mac.is_none();
        let key = self.leases.assign(network, spec, if needs { fingerprint() } else { String::new() })?;
        let leased = self.obtain(network, spec, &key, until);
        self.leases.done_waiting(&key);
        if leased.is_err() {
            self.leases.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        leased.map(Some)
    }

    fn obtain(&self, network: &Network, spec: &EndpointSpec, key: &LeaseKey, until: Instant) -> Result<Leased, Error> {
        let known = self.leases.await_lease(key, Instant::now()).is_some();
        let mut declined = 0;
        loop {
            let Some(leased) = self.leases.await_lease(key, until) else {
                let (id, place) = (network.spec.id.clone(), key.place());
                let (patience, outcome) =
                    (network.spec.options.dhcp.timeout(), Box::new(self.leases.book().outcome(key)));
                return Err(LeaseError::None { network: id, place, patience, outcome }.into());
            };
            // A lease that was kept has been this host's all the time.
            let Some(lan) = Lan::of(network).filter(|_| !known) else { return Ok(leased) };
            let with = EndpointSpec { v4: lease::network_of(&leased.2), ..spec.clone() };
            match self.conflicts.check_endpoint(&lan, &with) {
                Err(ConflictError::Taken { .. } | ConflictError::OfHost { .. }) if declined < DECLINES => {
                    declined += 1;
                    self.leases.decline(key);
                }
                checked => return checked.map(|()| leased).map_err(Error::from),
            }
        }
    }

    /// Records that an endpoint uses its lease.
    pub(in crate::driver) fn use_lease(&self, (key, _, lease): &Leased) {
        self.leases.book().use_address(key, lease.address);
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
