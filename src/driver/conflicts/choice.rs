//! Chooses addresses that no other host has, and asks for the next ones in advance.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::register::Known;
use super::{ConflictError, Lan};
use crate::driver::{Driver, Error, Event, now};
use crate::ipam::LOCAL_SPACE;
use crate::model::IfName;
use crate::model::conflict::ConflictAction;

/// How often another group of addresses is tried when other hosts had all of one.
const GROUPS: usize = 8;

/// How often the addresses that were asked for in advance are looked at.
const ROUND: Duration = Duration::from_secs(5);

impl Driver {
    /// The network with other hosts to which a pool of Pontoon's IPAM belongs.
    fn lan_of_pool(&self, pool: &str) -> Option<Lan> {
        let at = Instant::now();
        let subnet = self.addresses.lock().subnet(pool, LOCAL_SPACE)?;
        let mut lans = self.conflicts.lans();
        let of_pool = |lan: &&mut Lan| lan.action == ConflictAction::Refuse && lan.subnets.contains(&subnet);
        let lan = lans.values_mut().find(of_pool)?;
        lan.count_request(at);
        Some(lan.clone())
    }

    /// RequestAddress for an address of Pontoon's choice: one that no other host has. `None` where Pontoon cannot know.
    pub(in crate::driver) fn request_silent_address(&self, pool: &str) -> Result<Option<IpNetwork>, Error> {
        if !self.conflicts.kernel.probes() {
            return Ok(None);
        }
        let Some(lan) = self.lan_of_pool(pool) else { return Ok(None) };
        let (mut tried, count) = (0, lan.ahead(Instant::now()));
        for _ in 0..GROUPS {
            let places = {
                let mut index = self.addresses.lock();
                let places = lan.places(index.upcoming(pool, count, |address| self.avoids(&lan, address)));
                let known = |place: &&(IfName, IpAddr)| self.conflicts.shared.register().known(place, Instant::now());
                if let Some((_, address)) = places.iter().find(|place| known(place) == Known::Silent) {
                    let (granted, records) = index.request_address(pool, Some(*address), false, now())?;
                    index.commit(&records)?;
                    index.resume_after(pool, *address);
                    self.events.send(Event::ProbesDue);
                    return Ok(Some(granted));
                }
                places
            };
            if places.is_empty() {
                break;
            }
            tried += places.len();
            self.conflicts.ask(&lan, &places);
            self.conflicts.await_known(&places, |known| known.contains(&Known::Silent));
        }
        // A pool that is full has an error of its own.
        let (_, _) = self.addresses.lock().request_address(pool, None, false, now())?;
        Err(ConflictError::AllTaken { pool: pool.to_owned(), link: lan.link, tried }.into())
    }

    fn avoids(&self, lan: &Lan, address: IpAddr) -> bool {
        self.conflicts.shared.register().avoids(&(lan.link.clone(), address), Instant::now())
    }

    /// Listens on the networks with other hosts, and asks for the addresses that will be requested next, so that no
    /// request waits. Returns when it is to be called again, unless [`Event::ProbesDue`] comes before.
    pub fn probe_ahead(&self) -> Option<Instant> {
        let lans: Vec<Lan> = self.conflicts.lans().values().cloned().collect();
        let links: BTreeSet<_> = lans.iter().map(|lan| lan.link.clone()).collect();
        match self.conflicts.kernel.listen(&links) {
            Ok(()) => self.conflicts.failure_logged.store(false, Ordering::Relaxed),
            Err(error) if self.conflicts.failure_logged.swap(true, Ordering::Relaxed) => {
                tracing::debug!(%error, "cannot listen for address conflicts");
            }
            Err(error) => tracing::warn!(%error, "cannot listen for address conflicts; logged once"),
        }
        if lans.is_empty() || !self.conflicts.kernel.probes() {
            return None;
        }
        self.conflicts.update_own();
        for lan in lans.iter().filter(|lan| lan.action == ConflictAction::Refuse) {
            let at = Instant::now();
            let index = self.addresses.lock();
            let upcoming = lan.subnets.iter().flat_map(|subnet| {
                index.upcoming_of_subnet(subnet, lan.ahead(at), |address| self.avoids(lan, address))
            });
            let places = lan.places(upcoming);
            drop(index);
            self.conflicts.renew(lan, &places);
        }
        self.conflicts.repeat();
        let next = Instant::now() + ROUND;
        Some(self.conflicts.shared.register().next_repeat().map_or(next, |repeat| repeat.min(next)))
    }
}
