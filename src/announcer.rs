//! The thread that announces endpoints. It announces a new arrival at once, because other hosts may still look
//! for it elsewhere, even if the endpoint cannot receive yet; then a few times in the following seconds, because
//! a flood may be lost; and all endpoints of overlay networks periodically, so that every loss is corrected. The verb
//! that caused an announcement has returned long before.
//!
//! Each announcement is a packet to every other host. A round of all endpoints is therefore spread evenly over
//! its period: one at a time, without bursts even after a delay.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::driver::{Audience, Driver};
use crate::model::{EndpointId, NetworkId};

/// Delays after the arrival at which an endpoint is announced.
const AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// The same on a network with other hosts, whose switches do not lose floods.
const AFTER_ON_LAN: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// The period in which all endpoints are announced once. The detection of silent peers depends on it
/// (`state::peers`).
pub const ROUND: Duration = Duration::from_secs(30);

/// An endpoint of a network.
pub type Arrival = (NetworkId, EndpointId);

/// Starts the thread, which receives arrivals from `arrivals`.
pub fn start(driver: Arc<Driver>, round: Duration, arrivals: Receiver<Arrival>) -> std::io::Result<()> {
    std::thread::Builder::new().name("announcer".to_owned()).spawn(move || run(&driver, round, &arrivals)).map(drop)
}

fn run(driver: &Driver, round: Duration, arrivals: &Receiver<Arrival>) {
    let mut due: BinaryHeap<Reverse<(Instant, Instant, usize, Arrival)>> = BinaryHeap::new();
    let mut turns = Turns::new(round, Instant::now());
    loop {
        let next = due.peek().map_or(turns.next, |Reverse((at, ..))| turns.next.min(*at));
        match arrivals.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(arrival) => {
                let began = Instant::now();
                due.push(Reverse((began, began, 0, arrival)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(Reverse((at, ..))) = due.peek()
            && *at <= Instant::now()
            && let Some(Reverse((_, began, turn, (network, endpoint)))) = due.pop()
        {
            let after = match driver.announce(&network, &endpoint) {
                Some(Audience::Overlay) => &AFTER[..],
                Some(Audience::Lan) => &AFTER_ON_LAN,
                None => &[],
            };
            if let Some(after) = after.get(turn + 1) {
                due.push(Reverse((began + *after, began, turn + 1, (network, endpoint))));
            }
        }
        if let Some((network, endpoint)) = turns.take(Instant::now(), || driver.announced()) {
            driver.announce(&network, &endpoint);
        }
    }
}

/// The schedule of a round of all endpoints. Pure: the time is passed in.
struct Turns {
    round: Duration,
    waiting: VecDeque<Arrival>,
    /// Time between two announcements of this round.
    gap: Duration,
    /// When the next action is due.
    next: Instant,
    /// When the next round may begin.
    again: Instant,
}

impl Turns {
    fn new(round: Duration, now: Instant) -> Self {
        // The first second after a start is left to other work.
        Self { round, waiting: VecDeque::new(), gap: round, next: now + round / 30, again: now }
    }

    /// The next endpoint to announce, if one is due. A round begins with the endpoints that exist then; a
    /// delayed round takes longer, and does not catch up.
    fn take(&mut self, now: Instant, all: impl FnOnce() -> Vec<Arrival>) -> Option<Arrival> {
        if now < self.next {
            return None;
        }
        if self.waiting.is_empty() && now >= self.again {
            self.waiting = all().into();
            self.gap = self.round / u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).max(1);
            self.again = now + self.round;
        }
        let taken = self.waiting.pop_front();
        self.next = if self.waiting.is_empty() { self.again.max(now + self.gap) } else { now + self.gap };
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn endpoints(count: usize) -> Vec<Arrival> {
        let id = |n: usize| (NetworkId::parse("net").unwrap(), EndpointId::parse(&format!("e{n}")).unwrap());
        (0..count).map(id).collect()
    }

    /// The endpoints that are due up to `until`, with the time of each since `began`.
    fn taken(turns: &mut Turns, began: Instant, until: Duration, count: usize) -> Vec<(Duration, Arrival)> {
        let mut taken = Vec::new();
        while turns.next < began + until {
            let now = turns.next;
            taken.extend(turns.take(now, || endpoints(count)).map(|arrival| (now - began, arrival)));
        }
        taken
    }

    #[test]
    fn a_round_has_everybody_once_and_is_spread_over_its_time() {
        let began = Instant::now();
        for count in [1, 7, 300, 5000] {
            let mut turns = Turns::new(30 * SECOND, began);
            let began = turns.next;
            let first = taken(&mut turns, began, 30 * SECOND - SECOND / 1000, count);
            let named: Vec<_> = first.iter().map(|(_, arrival)| arrival.clone()).collect();
            assert_eq!(named, endpoints(count), "all endpoints, once, in one round");
            let in_second = |n: u32| first.iter().filter(|(at, _)| (SECOND * n..SECOND * (n + 1)).contains(at)).count();
            let most = (0..30).map(in_second).max().unwrap();
            assert!(most <= count.div_ceil(30) + 1, "{most} of {count} in one second");
            assert_eq!(taken(&mut turns, began, 60 * SECOND - SECOND / 1000, count).len(), count, "and again");
        }
    }

    #[test]
    fn a_round_that_fell_behind_does_not_catch_up() {
        let began = Instant::now();
        let mut turns = Turns::new(30 * SECOND, began);
        assert!(turns.take(began, || endpoints(30)).is_none(), "not in the first second");
        assert!(turns.take(began + SECOND, || endpoints(30)).is_some());
        // The machine was suspended for a minute.
        let late = began + 60 * SECOND;
        assert!(turns.take(late, || endpoints(30)).is_some());
        assert!(turns.take(late, || endpoints(30)).is_none(), "two at once");
        assert!(turns.take(late + SECOND, || endpoints(30)).is_some());
    }

    #[test]
    fn nobody_there_is_looked_at_once_a_round() {
        let began = Instant::now();
        let mut turns = Turns::new(30 * SECOND, began);
        let mut asked = 0;
        while turns.next < began + 300 * SECOND {
            let now = turns.next;
            assert!(
                turns
                    .take(now, || {
                        asked += 1;
                        Vec::new()
                    })
                    .is_none()
            );
        }
        assert_eq!(asked, 10);
    }
}
