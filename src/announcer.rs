//! Owns the thread that announces endpoints which have just arrived: at once, when nothing is
//! ready to hear from them yet but others may look for them elsewhere, and a few times in the
//! seconds after, because a flood may be lost. The verb that caused it has long answered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::driver::Driver;
use crate::model::{EndpointId, NetworkId};

/// When an endpoint is announced, after its arrival.
const AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// An endpoint of a network.
pub type Arrival = (NetworkId, EndpointId);

/// Starts the thread; arrivals go into the returned end.
pub fn start(driver: Arc<Driver>) -> std::io::Result<Sender<Arrival>> {
    let (send, receive) = channel();
    std::thread::Builder::new().name("announcer".to_owned()).spawn(move || run(&driver, &receive))?;
    Ok(send)
}

fn run(driver: &Driver, arrivals: &Receiver<Arrival>) {
    let mut due: BinaryHeap<Reverse<(Instant, Instant, usize, Arrival)>> = BinaryHeap::new();
    loop {
        let next = due.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
        match arrivals.recv_timeout(next.unwrap_or(Duration::from_secs(3600))) {
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
            let there = driver.announce(&network, &endpoint);
            if let Some(after) = AFTER.get(turn + 1).filter(|_| there) {
                due.push(Reverse((began + *after, began, turn + 1, (network, endpoint))));
            }
        }
    }
}
