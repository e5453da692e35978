//! Backoff state of failing repairs: when each failure began, how many tries failed, and when the next one is
//! due.
//!
//! A failure is logged once when it begins and once when it ends, however many tries fail in between; retries
//! use exponential backoff. The reconciler keeps this state; it never decides what to repair.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::{Change, KernelError, Step};
use crate::model::IfName;

/// Longest delay between two tries.
const LONGEST: Duration = Duration::from_secs(120);

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Observing the kernel and comparing it with the desired state.
    Comparison,
    /// A kind of step or change, with its link if it concerns one. The new values may differ from try to try.
    Step(Discriminant<Step>, Option<Discriminant<Change>>, Option<IfName>),
}

impl Subject {
    /// The subject of a step.
    pub fn of(step: &Step) -> Self {
        let change = if let Step::Change(_, change) = step { Some(discriminant(change)) } else { None };
        Subject::Step(discriminant(step), change, step.link().cloned())
    }
}

#[derive(Debug)]
struct Failing {
    tries: u32,
    next: Instant,
    firewall: bool,
    error: String,
}

/// All current failures.
#[derive(Debug, Default)]
pub struct Backoff(HashMap<Subject, Failing>);

impl Backoff {
    /// Whether this may be tried now.
    pub fn due(&self, subject: &Subject, now: Instant) -> bool {
        self.0.get(subject).is_none_or(|failing| failing.next <= now)
    }

    /// Number of current failures.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// When the earliest failed repair is to be retried.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|failing| failing.next).min()
    }

    /// Makes every retry due now, because the caller expects that it may succeed.
    pub fn hurry(&mut self, now: Instant) {
        self.0.values_mut().for_each(|failing| failing.next = now);
    }

    /// Records a failed try. `firewall` means that observing the firewall alone shows whether the failure has
    /// ended.
    pub fn failed(&mut self, subject: Subject, firewall: bool, error: &KernelError, now: Instant) {
        let failing = self.0.entry(subject).or_insert_with(|| {
            tracing::warn!(%error, "repair failed; retrying with backoff");
            Failing { tries: 0, next: now, firewall, error: error.to_string() }
        });
        failing.tries = failing.tries.saturating_add(1);
        failing.next = now + pause(failing.tries);
    }

    /// Clears every failure that is not in `still` and that the comparison covered: all subjects, or the
    /// firewall's only.
    pub fn only(&mut self, still: &[Subject], firewall_alone: bool) {
        self.0.retain(|subject, failing| {
            let goes_on = still.contains(subject) || (firewall_alone && !failing.firewall);
            if !goes_on {
                let (tries, failed) = (failing.tries, &failing.error);
                tracing::info!(tries, failed, "repair succeeded or is no longer needed");
            }
            goes_on
        });
    }
}

/// Delay before the next try: zero after the first failure, because the next comparison may already succeed;
/// then 1 s, doubling each time.
fn pause(tries: u32) -> Duration {
    match tries {
        0 | 1 => Duration::ZERO,
        more => Duration::from_secs(1 << (more - 2).min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> KernelError {
        KernelError::Refused { operation: "bring up", object: "pntb1".into(), errno: 17, message: String::new() }
    }

    #[test]
    fn tries_come_less_and_less_often() {
        let pauses: Vec<u64> = (1..12).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
        assert_eq!(pause(u32::MAX), LONGEST);
    }

    #[test]
    fn an_ailment_lasts_until_a_look_that_could_see_it_does_not_find_it() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let link = Subject::of(&Step::Change(IfName::parse("pntb1").unwrap(), Change::Up));
        let table = Subject::of(&Step::ChangeFirewall { add: vec![], remove: vec![] });
        for _ in 0..2 {
            backoff.failed(link.clone(), false, &refused(), now);
            backoff.failed(table.clone(), true, &refused(), now);
        }
        assert_eq!(backoff.count(), 2);
        assert!(!backoff.due(&link, now) && backoff.due(&link, now + Duration::from_secs(1)));
        backoff.only(&[], true);
        assert!(backoff.due(&table, now) && !backoff.due(&link, now), "links were not observed");
        backoff.hurry(now);
        assert!(backoff.due(&link, now));
        backoff.only(&[], false);
        assert_eq!((backoff.count(), backoff.next()), (0, None));
    }
}
