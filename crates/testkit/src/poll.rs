//! Polling: waiting for a condition, with a deadline.

use std::{
    env, thread,
    time::{Duration, Instant},
};

/// A deadline, or the longer one that `PONTOON_LAB_PATIENCE` (seconds) sets for slow machines, such as emulated
/// kernels.
pub fn patient(deadline: Duration) -> Duration {
    let seconds = env::var("PONTOON_LAB_PATIENCE").ok().and_then(|text| text.parse().ok());
    seconds.map_or(deadline, |seconds| deadline.max(Duration::from_secs(seconds)))
}

/// Whether this machine is known to be slow.
pub fn is_patient() -> bool {
    !patient(Duration::ZERO).is_zero()
}

/// Polls until there is a value, and panics at the deadline.
#[track_caller]
pub fn wait_for<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let (began, deadline) = (Instant::now(), patient(deadline));
    let mut pause = Duration::from_millis(5);
    loop {
        // The time is read first, so that there is always an attempt after the last pause.
        let late = began.elapsed() >= deadline;
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(!late, "waited {deadline:?} in vain for {what}");
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// [`wait_for`] for a condition.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(deadline, what, || holds().then_some(()));
}
