//! Owns the thread that keeps the kernel in shape between requests: it hears what changes, waits
//! until the change is over, and has the driver repair it; every half minute it compares all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::driver::Driver;
use crate::model::IfName;

/// Time between full comparisons without any cause.
const TICK: Duration = Duration::from_secs(30);

/// Least time between a repair that failed and the next try without any cause.
const AGAIN: Duration = Duration::from_secs(1);

/// Time between looks at who has forwarding on, while that is Pontoon: nobody is told when another
/// one turns on what is on already.
const LOOK: Duration = Duration::from_secs(1);

/// Changes come in bursts (a flush deletes every rule, then the table); the repair waits until
/// none came for this long, and no longer than [`BURST`].
const QUIET: Duration = Duration::from_millis(30);

/// Longest wait for the end of a burst: a repair is due within a second.
const BURST: Duration = Duration::from_millis(300);

/// Something that may need repair.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A link vanished or changed, or lost an address.
    Link(IfName),
    /// A bridge appeared that may be the engine's.
    Bridge(IfName),
    /// An address of the host's own came or went.
    Address,
    /// Somebody turned forwarding on or off for the host.
    Forwarding,
    /// Someone else changed the ruleset.
    Firewall,
    /// Notifications were lost: look at everything.
    Overrun,
    /// A verb left something behind: look at everything.
    Everything,
    /// The ledger has something to take that no verb waits for.
    Backlog,
}

/// Starts the thread; causes go into the returned end.
pub fn start(driver: Arc<Driver>) -> std::io::Result<Sender<Cause>> {
    let (send, receive) = channel();
    std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || run(&driver, &receive))?;
    Ok(send)
}

fn run(driver: &Driver, causes: &Receiver<Cause>) {
    let mut next_tick = Instant::now() + TICK;
    loop {
        // What failed a moment ago is not tried again before another moment has passed.
        let again = driver.reconciler().next_try().map(|at| at.max(Instant::now() + AGAIN));
        let mut until = again.map_or(next_tick, |again| again.min(next_tick));
        if driver.reconciler().keeps_apart() {
            until = until.min(Instant::now() + LOOK);
        }
        match causes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(first) => repair(driver, first, causes),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= next_tick => {
                driver.tick();
                next_tick = Instant::now() + TICK;
            }
            Err(RecvTimeoutError::Timeout) if again.is_some_and(|again| Instant::now() >= again) => {
                drop(driver.repair());
            }
            Err(RecvTimeoutError::Timeout) => {
                if driver.reconciler().is_taken_over() {
                    drop(driver.repair_forwarding());
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[derive(Default)]
struct Work {
    links: bool,
    firewall: bool,
    host: bool,
    addresses: bool,
}

impl Work {
    fn add(&mut self, driver: &Driver, cause: &Cause) {
        match cause {
            Cause::Link(name) => {
                self.links |= driver.reconciler().wants(name);
                self.host |= driver.reconciler().is_engine_bridge(name);
            }
            Cause::Bridge(_) => self.host = true,
            Cause::Address => (self.host, self.addresses) = (true, true),
            Cause::Forwarding => self.links = true,
            Cause::Firewall => self.firewall = true,
            Cause::Overrun => {
                driver.counts.overruns.fetch_add(1, Ordering::Relaxed);
                *self = Work { links: true, firewall: true, host: true, addresses: true };
            }
            Cause::Backlog => driver.settle_ledger(),
            Cause::Everything => *self = Work { links: true, firewall: true, host: true, addresses: true },
        }
    }

    fn is_none(&self) -> bool {
        !(self.links || self.firewall || self.host)
    }
}

fn repair(driver: &Driver, first: Cause, causes: &Receiver<Cause>) {
    let mut work = Work::default();
    work.add(driver, &first);
    if work.is_none() {
        return;
    }
    let began = Instant::now();
    while began.elapsed() < BURST
        && let Ok(next) = causes.recv_timeout(QUIET)
    {
        work.add(driver, &next);
    }
    // Which bridges the engine leaves to us is told by its bridges and by its rules, and where
    // broadcasts are taken by addresses. A table that is not there cannot follow: then it is
    // repaired, and follows by that.
    let look = work.host || work.firewall;
    let followed = !look || driver.reconciler().follow_host().unwrap_or(false);
    // An address that is this host's now is no peer's any more; and tunnels may leave from another.
    if work.addresses
        && let Err(error) = driver.attend_mesh()
    {
        tracing::warn!(%error, "overlay networks do not follow an address yet: it is tried again at the next tick");
    }
    // What fails is told by the comparison, and tried again by us.
    if work.links {
        let _ = driver.repair();
    } else if work.firewall || !followed {
        let _ = driver.repair_firewall();
    }
}
