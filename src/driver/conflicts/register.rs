//! What is known about addresses on the networks of the host's links: which other hosts have, which were asked for
//! and are silent, and which belong to endpoints here.
//!
//! Pure: the time is passed in. Everything that other hosts can cause is bounded: they add no entry, except one for
//! each conflict with an endpoint, of which there are at most [`CONFLICTS`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::datapath::Sighting;
use crate::model::{EndpointId, IfName, Mac, NetworkId};

/// How long an address counts as free after no host answered.
pub(super) const FRESH: Duration = Duration::from_secs(30);

/// How long an address that another host had is not chosen.
const PARKED: Duration = Duration::from_secs(3600);

/// How long a conflict counts as present after it was last seen.
const PRESENT: Duration = Duration::from_secs(600);

/// How long frames of a deleted endpoint may still arrive.
const LATE: Duration = Duration::from_secs(10);

/// Largest number of addresses that were asked for.
const ASKED: usize = 8192;

/// Largest number of conflicts.
const CONFLICTS: usize = 256;

/// Largest number of log lines about conflicts within [`LOG_PERIOD`].
const LOG_LINES: u32 = 20;
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// An address on the network of a link.
pub(super) type Place = (IfName, IpAddr);

/// What is known about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not asked for, or long ago.
    Nothing,
    /// Others have until then to answer.
    Asked(Instant),
    /// No host answered.
    Silent,
    /// Another host has it.
    Taken(Mac),
}

#[derive(Debug, Default)]
struct Asked {
    /// When it was asked for, and how long an answer may take.
    at: Option<(Instant, Duration)>,
    /// When the question is to be repeated: a frame may be lost.
    repeat: Option<Instant>,
    /// Until when an earlier question shows that it is free.
    silent_until: Option<Instant>,
    /// Who answered, and when.
    taken: Option<(Mac, Instant)>,
}

/// An endpoint with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defended {
    /// Its network.
    pub network: NetworkId,
    /// Its id.
    pub endpoint: EndpointId,
    /// Its hardware address; `None` if it has that of the link.
    pub mac: Option<Mac>,
}

/// An address that an endpoint and another host have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The endpoint.
    pub of: Defended,
    /// The link on whose network both are.
    pub link: IfName,
    /// The address.
    pub address: IpAddr,
    /// The hardware address of the other host.
    pub other: Mac,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Register {
    asked: HashMap<Place, Asked>,
    defended: BTreeMap<Place, Defended>,
    /// Hardware addresses of endpoints that were deleted, and when.
    late: Vec<(IfName, Mac, Instant)>,
    /// With the time at which each was last seen.
    conflicts: BTreeMap<(Place, Mac), (Conflict, Instant)>,
    /// Addresses of this host.
    pub own: BTreeSet<IpAddr>,
    logged: (Option<Instant>, u32),
}

impl Register {
    /// What is known about an address.
    pub fn known(&self, place: &Place, now: Instant) -> Known {
        let Some(asked) = self.asked.get(place) else { return Known::Nothing };
        let since = asked.at.map(|(at, _)| at);
        if let Some((mac, at)) = asked.taken
            && since.is_none_or(|since| at >= since)
        {
            // An old answer: only the choice of addresses avoids it still.
            return if now.duration_since(at) < Duration::from_secs(1) { Known::Taken(mac) } else { Known::Nothing };
        }
        match asked.at {
            _ if asked.silent_until.is_some_and(|until| now < until) => Known::Silent,
            Some((at, wait)) if now < at + wait => Known::Asked(at + wait),
            Some((at, wait)) if now < at + wait + FRESH => Known::Silent,
            _ => Known::Nothing,
        }
    }

    /// Whether an address should not be chosen: another host had it recently, or this host has it.
    pub fn avoids(&self, place: &Place, now: Instant) -> bool {
        let taken = || {
            let asked = self.asked.get(place)?;
            let (_, at) = asked.taken.filter(|(_, at)| now.duration_since(*at) < PARKED)?;
            // No host answered a later question.
            let left = asked.at.is_some_and(|(since, wait)| at < since && now >= since + wait);
            (!left).then_some(())
        };
        self.own.contains(&place.1) || taken().is_some()
    }

    /// Whether an address must be asked for to be known for a while.
    pub fn expires(&self, place: &Place, now: Instant) -> bool {
        let fresh = |(at, wait): (Instant, Duration)| now < at + wait + FRESH / 2;
        !self.asked.get(place).is_some_and(|asked| asked.at.is_some_and(fresh))
    }

    /// Records that an address is asked for now.
    pub fn ask(&mut self, place: &Place, wait: Duration, now: Instant) {
        if self.asked.len() >= ASKED && !self.asked.contains_key(place) {
            let known = |place: &Place| self.known(place, now) != Known::Nothing || self.avoids(place, now);
            let keep: BTreeSet<Place> = self.asked.keys().filter(|place| known(place)).cloned().collect();
            self.asked.retain(|place, _| keep.contains(place));
            if self.asked.len() >= ASKED {
                return;
            }
        }
        let silent = self.known(place, now) == Known::Silent;
        let asked = self.asked.entry(place.clone()).or_default();
        asked.silent_until = asked.at.filter(|_| silent).map(|(at, wait)| at + wait + FRESH);
        asked.at = Some((now, wait));
        asked.repeat = (!wait.is_zero()).then(|| now + wait / 2);
    }

    /// The addresses to ask for once more, by link.
    pub fn repeat(&mut self, now: Instant) -> BTreeMap<IfName, Vec<IpAddr>> {
        let mut due: BTreeMap<IfName, Vec<IpAddr>> = BTreeMap::new();
        for ((link, address), asked) in &mut self.asked {
            if asked.repeat.is_some_and(|at| at <= now) {
                asked.repeat = None;
                if asked.taken.is_none_or(|(_, at)| asked.at.is_some_and(|(since, _)| at < since)) {
                    due.entry(link.clone()).or_default().push(*address);
                }
            }
        }
        due
    }

    /// When the next repetition is due.
    pub fn next_repeat(&self) -> Option<Instant> {
        self.asked.values().filter_map(|asked| asked.repeat).min()
    }

    /// Records that an endpoint has an address.
    pub fn defend(&mut self, place: Place, endpoint: Defended) {
        // Other hosts are not asked again, because the endpoint would answer.
        self.asked.remove(&place);
        self.defended.insert(place, endpoint);
    }

    /// Forgets the addresses of an endpoint.
    pub fn forget(&mut self, endpoint: &EndpointId, now: Instant) {
        self.late.retain(|(.., at)| now.duration_since(*at) < LATE);
        let late = &mut self.late;
        self.defended.retain(|(link, _), of| {
            let ends = of.endpoint == *endpoint;
            late.extend(of.mac.filter(|_| ends).map(|mac| (link.clone(), mac, now)));
            !ends
        });
        self.conflicts.retain(|_, (conflict, _)| conflict.of.endpoint != *endpoint);
    }

    /// Whether a hardware address is one of Pontoon's endpoints on this link.
    fn is_own(&self, link: &IfName, mac: Mac, now: Instant) -> bool {
        let here = |place: &Place| place.0 == *link;
        self.defended.iter().any(|(place, of)| here(place) && of.mac == Some(mac))
            || self.late.iter().any(|(of, late, at)| of == link && *late == mac && now.duration_since(*at) < LATE)
    }

    /// Records a frame of another host. Returns a new conflict with an endpoint; and whether what is known about an
    /// address changed.
    pub fn sight(&mut self, sighting: &Sighting, now: Instant) -> (Option<Conflict>, bool) {
        let place = (sighting.link.clone(), sighting.address);
        if !self.asked.contains_key(&place) && !self.defended.contains_key(&place) {
            return (None, false);
        }
        if self.is_own(&sighting.link, sighting.mac, now) {
            return (None, false);
        }
        let asked = self.asked.get_mut(&place);
        let changed = asked.is_some();
        if let Some(asked) = asked {
            (asked.taken, asked.silent_until) = (Some((sighting.mac, now)), None);
        }
        let Some(of) = self.defended.get(&place) else { return (None, changed) };
        let conflict = Conflict { of: of.clone(), link: place.0.clone(), address: place.1, other: sighting.mac };
        (self.note(conflict, now), changed)
    }

    /// Records a conflict; `None` if it is known.
    pub fn note(&mut self, conflict: Conflict, now: Instant) -> Option<Conflict> {
        self.conflicts.retain(|_, (_, seen)| now.duration_since(*seen) < PRESENT);
        let key = ((conflict.link.clone(), conflict.address), conflict.other);
        if let Some((_, seen)) = self.conflicts.get_mut(&key) {
            *seen = now;
            return None;
        }
        if self.conflicts.len() >= CONFLICTS {
            return None;
        }
        self.conflicts.insert(key, (conflict.clone(), now));
        Some(conflict)
    }

    /// Whether a log line about a conflict may be written now.
    pub fn may_log(&mut self, now: Instant) -> bool {
        let (began, lines) = &mut self.logged;
        if began.is_none_or(|began| now.duration_since(began) >= LOG_PERIOD) {
            (*began, *lines) = (Some(now), 0);
        }
        *lines += 1;
        *lines <= LOG_LINES
    }

    /// The conflicts of the last minutes.
    pub fn conflicts(&self, now: Instant) -> Vec<Conflict> {
        let present = self.conflicts.values().filter(|(_, seen)| now.duration_since(*seen) < PRESENT);
        present.map(|(conflict, _)| conflict.clone()).collect()
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
