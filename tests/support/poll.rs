//! Polling: waiting for a level, with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks until there is an answer, and panics at the deadline.
#[track_caller]
pub fn wait_for<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        // The time is read first: there is always a try after the last pause.
        let late = began.elapsed() >= deadline;
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(!late, "waited {deadline:?} in vain for {what}");
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// [`wait_for`] where yes is all the answer there is.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(deadline, what, || holds().then_some(()));
}
