//! Owns the memory of repairs that fail: since when, how often, and when the next try is due.
//!
//! What fails is in the log once when it begins and once when it ends, however often it is tried
//! meanwhile, and it is tried less and less often. Kept by the reconciler; never decides what is
//! to be repaired.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::{Change, KernelError, Step};
use crate::model::IfName;

/// Longest time between two tries.
const LONGEST: Duration = Duration::from_secs(120);

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The look at the kernel.
    Comparison,
    /// A kind of step or of change, on a link if it is about one. The new values may differ each time.
    Step(Discriminant<Step>, Option<Discriminant<Change>>, Option<IfName>),
}

impl Subject {
    /// What a step is about.
    pub fn of(step: &Step) -> Self {
        let change = if let Step::Change(_, change) = step { Some(discriminant(change)) } else { None };
        Subject::Step(discriminant(step), change, step.link().cloned())
    }
}

#[derive(Debug)]
struct Ailment {
    tries: u32,
    next: Instant,
    firewall: bool,
    error: String,
}

/// Everything that fails now.
#[derive(Debug, Default)]
pub struct Ailments(HashMap<Subject, Ailment>);

impl Ailments {
    /// Whether this may be tried now.
    pub fn due(&self, subject: &Subject, now: Instant) -> bool {
        self.0.get(subject).is_none_or(|ailment| ailment.next <= now)
    }

    /// How many things fail.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// When something that fails is to be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|ailment| ailment.next).min()
    }

    /// Makes everything due: somebody says that it is worth a try.
    pub fn hurry(&mut self, now: Instant) {
        self.0.values_mut().for_each(|ailment| ailment.next = now);
    }

    /// It was tried and failed. `firewall` says that a look at the firewall alone tells its end.
    pub fn failed(&mut self, subject: Subject, firewall: bool, error: &KernelError, now: Instant) {
        let ailment = self.0.entry(subject).or_insert_with(|| {
            tracing::warn!(%error, "a repair fails, it is tried again less and less often; its end will be told");
            Ailment { tries: 0, next: now, firewall, error: error.to_string() }
        });
        ailment.tries = ailment.tries.saturating_add(1);
        ailment.next = now + pause(ailment.tries);
    }

    /// Whatever else failed fails no more, as far as the look went: at everything, or at the
    /// firewall alone.
    pub fn only(&mut self, still: &[Subject], firewall_alone: bool) {
        self.0.retain(|subject, ailment| {
            let goes_on = still.contains(subject) || (firewall_alone && !ailment.firewall);
            if !goes_on {
                let (tries, failed) = (ailment.tries, &ailment.error);
                tracing::info!(tries, failed, "what failed is done, or not needed any more");
            }
            goes_on
        });
    }
}

/// Time to the next try: none after the first failure, which may be over at the next look; then
/// 1 s, and twice as long each time.
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
        let (mut ailments, now) = (Ailments::default(), Instant::now());
        let link = Subject::of(&Step::Change(IfName::parse("pntb1").unwrap(), Change::Up));
        let table = Subject::of(&Step::Elements { add: vec![], remove: vec![] });
        for _ in 0..2 {
            ailments.failed(link.clone(), false, &refused(), now);
            ailments.failed(table.clone(), true, &refused(), now);
        }
        assert_eq!(ailments.count(), 2);
        assert!(!ailments.due(&link, now) && ailments.due(&link, now + Duration::from_secs(1)));
        ailments.only(&[], true);
        assert!(ailments.due(&table, now) && !ailments.due(&link, now), "nobody looked at links");
        ailments.hurry(now);
        assert!(ailments.due(&link, now));
        ailments.only(&[], false);
        assert_eq!((ailments.count(), ailments.next()), (0, None));
    }
}
