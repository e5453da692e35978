//! What happened lately, for operators: a ring of the last events, each with a number.
//!
//! Recording never waits for a reader: readers ask for what follows a number, and those who are late lose events, which
//! are counted. A record of a verb that succeeds allocates nothing, and is written after the verb's locks are released.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::model::Mac;

/// Events that are kept.
pub const CAPACITY: usize = 4096;

/// Events in one answer.
pub const AT_ONCE: usize = 1000;

/// Readers that may wait for an event at the same time; further ones get their answer at once.
const MAX_WAITING: usize = 16;

/// Longest text of an error that is kept, in bytes.
const LONGEST: usize = 300;

/// The beginning of an id, as the engine's commands show it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ShortId([u8; 12]);

impl ShortId {
    /// That of a complete id.
    pub fn of(id: &str) -> Self {
        let mut short = Self::default();
        let ascii = id.bytes().take_while(u8::is_ascii_graphic);
        short.0.iter_mut().zip(ascii).for_each(|(to, from)| *to = from);
        short
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(self.0.get(..length).unwrap_or_default()).unwrap_or_default()
    }
}

impl std::fmt::Debug for ShortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The daemon began to serve.
    Started,
    /// A request of the engine ended.
    Verb {
        /// The method, as the protocol names it.
        method: &'static str,
        /// Its network, or empty.
        network: ShortId,
        /// Its endpoint, or empty.
        endpoint: ShortId,
        /// The address that it asked for or released.
        address: Option<IpAddr>,
        /// How long the driver needed.
        took: Duration,
        /// Why it failed.
        error: Option<Box<str>>,
    },
    /// The kernel differed from the desired state.
    Repair {
        /// `everything` or `firewall`.
        scope: &'static str,
        /// The number of steps that were carried out.
        steps: usize,
        /// How long that took.
        took: Duration,
        /// The first step that failed.
        error: Option<Box<str>>,
    },
    /// An endpoint was removed without a request.
    Reaped {
        /// Its network.
        network: ShortId,
        /// The endpoint.
        endpoint: ShortId,
    },
    /// The state of another host of overlay networks changed.
    Peer {
        /// Its address.
        address: IpAddr,
        /// `present`, `doubted`, `former` or `gone`.
        state: &'static str,
    },
    /// Another host has the address of an endpoint.
    Conflict {
        /// The endpoint's network.
        network: ShortId,
        /// The endpoint.
        endpoint: ShortId,
        /// The address.
        address: IpAddr,
        /// The other host.
        other: Mac,
    },
    /// The address of a running endpoint is no longer confirmed by where it comes from.
    Lease {
        /// The endpoint's network.
        network: ShortId,
        /// The endpoint.
        endpoint: ShortId,
        /// The address.
        address: Option<IpAddr>,
        /// `lost`, `refused` or `expired`.
        state: &'static str,
    },
    /// The daemon's condition changed.
    Health {
        /// `well`, `degraded` or `failing`.
        state: &'static str,
    },
}

/// An event of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number: 1 for the first one of this process.
    pub number: u64,
    /// When it was recorded, by the wall clock.
    pub time: SystemTime,
    /// What happened.
    pub what: Happening,
}

/// Events after a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Excerpt {
    /// The number to ask with the next time.
    pub next: u64,
    /// Events that followed and are no longer kept.
    pub lost: u64,
    /// The events, at most [`AT_ONCE`].
    pub events: Vec<Recorded>,
}

/// The ring.
#[derive(Debug, Default)]
pub struct History {
    ring: Mutex<Ring>,
    more: Condvar,
    lost: AtomicU64,
    began: Began,
}

/// When this process began, by the wall clock: distinguishes its numbers from those of another one.
#[derive(Debug)]
struct Began(SystemTime);

impl Default for Began {
    fn default() -> Self {
        Self(wall_clock())
    }
}

#[allow(clippy::disallowed_methods, reason = "shown to people; nothing is decided by it")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the newest event; 0 without one.
    newest: u64,
    events: VecDeque<Recorded>,
    waiting: usize,
    health: Option<&'static str>,
    closed: bool,
}

impl History {
    /// Records an event.
    pub fn record(&self, what: Happening) {
        self.ring().record(what, &self.more);
    }

    /// Records the daemon's condition if it changed; it is expected to be `well` at first.
    pub fn note_health(&self, state: &'static str) {
        let mut ring = self.ring();
        let before = ring.health.replace(state).unwrap_or("well");
        if before != state {
            ring.record(Happening::Health { state }, &self.more);
        }
    }

    /// The events after number `since`. If there are none, waits for one for at most `wait`.
    pub fn after(&self, since: u64, wait: Duration) -> Excerpt {
        let due = Instant::now() + wait;
        let mut ring = self.ring();
        // A number that was not given out yet is of an earlier process.
        let since = if since > ring.newest { 0 } else { since };
        while ring.newest == since && !ring.closed && (ring.waiting < MAX_WAITING) {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            ring.waiting += 1;
            ring = self.more.wait_timeout(ring, left).unwrap_or_else(PoisonError::into_inner).0;
            ring.waiting -= 1;
        }
        let excerpt = ring.after(since);
        self.lost.fetch_add(excerpt.lost, Ordering::Relaxed);
        excerpt
    }

    /// When this process began, by the wall clock.
    pub fn began(&self) -> SystemTime {
        self.began.0
    }

    /// Ends all waits, at the end of the daemon.
    pub fn close(&self) {
        self.ring().closed = true;
        self.more.notify_all();
    }

    /// The number of events so far, and of those that readers asked for too late.
    pub fn counts(&self) -> (u64, u64) {
        (self.ring().newest, self.lost.load(Ordering::Relaxed))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn record(&mut self, what: Happening, more: &Condvar) {
        self.newest += 1;
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(Recorded { number: self.newest, time: wall_clock(), what });
        if self.waiting > 0 {
            more.notify_all();
        }
    }

    fn after(&self, since: u64) -> Excerpt {
        let oldest = self.events.front().map_or(self.newest + 1, |event| event.number);
        let lost = oldest.saturating_sub(since + 1);
        let skip = usize::try_from(since.saturating_sub(oldest.saturating_sub(1))).unwrap_or(usize::MAX);
        let events: Vec<Recorded> = self.events.iter().skip(skip).take(AT_ONCE).cloned().collect();
        Excerpt { next: events.last().map_or(since.max(oldest - 1), |event| event.number), lost, events }
    }
}

/// An error as it is kept.
pub fn words(error: &impl std::fmt::Display) -> Box<str> {
    let mut text = error.to_string();
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn numbers(excerpt: &Excerpt) -> (Option<u64>, Option<u64>, u64, u64) {
        let number = |event: Option<&Recorded>| event.map(|event| event.number);
        (number(excerpt.events.first()), number(excerpt.events.last()), excerpt.lost, excerpt.next)
    }

    #[test]
    fn a_reader_gets_each_event_once_and_knows_what_it_lost() {
        let history = History::default();
        let after = |since| numbers(&history.after(since, Duration::ZERO));
        assert_eq!(after(0), (None, None, 0, 0));
        for _ in 0..3 {
            history.record(Happening::Started);
        }
        assert_eq!(
            (after(0), after(2), after(3)),
            ((Some(1), Some(3), 0, 3), (Some(3), Some(3), 0, 3), (None, None, 0, 3))
        );
        assert_eq!(after(99), (Some(1), Some(3), 0, 3), "a number of an earlier process");
        for _ in 0..CAPACITY {
            history.record(Happening::Started);
        }
        // Three of them are gone; the reader that has two lost one.
        let first = (AT_ONCE + 3) as u64;
        assert_eq!(after(2), (Some(4), Some(first), 1, first));
        assert_eq!(history.counts(), (CAPACITY as u64 + 3, 1));
        let mut since = 3;
        while after(since).0.is_some() {
            let (first, last, lost, next) = after(since);
            assert_eq!((first, lost, last), (Some(since + 1), 0, Some(next)));
            since = next;
        }
        assert_eq!(since, CAPACITY as u64 + 3);
    }

    #[test]
    fn waiting_readers_are_bounded_and_woken() {
        let history = Arc::new(History::default());
        let wait = |seconds| {
            let history = Arc::clone(&history);
            std::thread::spawn(move || history.after(0, Duration::from_secs(seconds)).events.len())
        };
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| wait(600)).collect();
        while history.ring().waiting < MAX_WAITING {
            std::thread::yield_now();
        }
        // One more does not wait.
        assert_eq!(wait(600).join().unwrap(), 0);
        history.record(Happening::Started);
        waiting.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 1));
        let last = {
            let history = Arc::clone(&history);
            std::thread::spawn(move || history.after(1, Duration::from_secs(600)))
        };
        history.close();
        assert_eq!(last.join().unwrap().events, []);
    }

    #[test]
    fn ids_and_errors_are_bounded() {
        assert_eq!(ShortId::of("0123456789abcdef").as_str(), "0123456789ab");
        assert_eq!((ShortId::of("e1").as_str(), ShortId::of("").as_str(), ShortId::of("é").as_str()), ("e1", "", ""));
        assert_eq!(words(&"x".repeat(1000)).len(), LONGEST);
        assert_eq!(words(&"é".repeat(1000)).len(), LONGEST);
        assert_eq!(&*words(&"short"), "short");
    }
}
