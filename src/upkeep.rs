//! The thread that reconciles the kernel between requests: it receives change notifications, waits until a burst
//! is over, and has the driver repair; every half minute it reconciles everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::datapath::ObjectKind;
use crate::driver::Driver;
use crate::model::IfName;

/// Time between full reconciliations without a cause.
const TICK: Duration = Duration::from_secs(30);

/// Least time between a failed repair and the next attempt without a cause.
const AGAIN: Duration = Duration::from_secs(1);

/// Time between checks whether another program has turned forwarding on, while Pontoon has it on: the kernel
/// sends no notification when another program turns on what is already on.
const LOOK: Duration = Duration::from_secs(1);

/// Changes come in bursts (a flush deletes every rule, then the table); the repair waits until none came for
/// this long, and no longer than [`BURST`].
const QUIET: Duration = Duration::from_millis(30);

/// Longest wait for the end of a burst: a repair must happen within a second.
const BURST: Duration = Duration::from_millis(300);

/// Something that may need repair.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A link vanished or changed, or lost an address.
    Link(IfName),
    /// A bridge appeared that may belong to the engine.
    Bridge(IfName),
    /// A link appeared that may be a parent.
    Parent(IfName),
    /// An address of the host was added or removed.
    Address,
    /// Another program turned forwarding on or off for the host.
    Forwarding,
    /// Another program changed the ruleset.
    Firewall,
    /// Another program changed rules of its own.
    Rules,
    /// Notifications were lost: reconcile everything.
    Overrun,
    /// A verb left a difference: reconcile everything.
    Everything,
    /// Records wait to be written, and no verb waits for it.
    Backlog,
}

/// Starts the thread, which receives its causes from `causes`.
pub fn start(driver: Arc<Driver>, causes: Receiver<Cause>) -> std::io::Result<()> {
    std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || run(&driver, &causes)).map(drop)
}

fn run(driver: &Driver, causes: &Receiver<Cause>) {
    let mut next_tick = Instant::now() + TICK;
    loop {
        // A repair that just failed is not retried before some time has passed.
        let again = driver.reconciler().next_try().map(|at| at.max(Instant::now() + AGAIN));
        let mut until = again.map_or(next_tick, |again| again.min(next_tick));
        if driver.reconciler().keeps_apart() || driver.reconciler().is_contestable() {
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
                if driver.reconciler().is_opposition_stale() && driver.reconciler().find_opposition() {
                    drop(driver.follow_rules());
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
    rules: bool,
}

impl Work {
    fn add(&mut self, driver: &Driver, cause: &Cause) {
        match cause {
            Cause::Link(name) => {
                self.links |= driver.reconciler().wants(name);
                self.host |= driver.reconciler().is_engine_bridge(name);
            }
            Cause::Bridge(name) | Cause::Parent(name) => {
                self.host |= matches!(cause, Cause::Bridge(_));
                if driver.reconciler().has_children_on(name) || driver.lacks_parent() {
                    driver.reconciler().hurry();
                    self.links = true;
                }
            }
            Cause::Address => {
                (self.host, self.addresses) = (true, true);
                // Host links have the addresses of their parents.
                self.links |= driver.reconciler().wants_kind(ObjectKind::HostLink) || driver.lacks_parent();
            }
            Cause::Forwarding => self.links = true,
            Cause::Firewall => self.firewall = true,
            Cause::Rules => self.rules |= driver.reconciler().is_contestable(),
            Cause::Overrun => {
                driver.counts.overruns.fetch_add(1, Ordering::Relaxed);
                *self = Work { links: true, firewall: true, host: true, addresses: true, rules: true };
            }
            Cause::Everything => {
                *self = Work { links: true, firewall: true, host: true, addresses: true, rules: true };
            }
            Cause::Backlog => driver.flush_ledger(),
        }
    }

    fn is_none(&self) -> bool {
        !(self.links || self.firewall || self.host || self.rules)
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
    // The engine's bridges and rules determine which bridges the engine leaves to Pontoon, and addresses
    // determine the broadcast domains. A missing table cannot be updated: it is repaired instead, which also
    // updates it.
    let look = work.host || work.firewall;
    let followed = !look || driver.reconciler().follow_host().unwrap_or(false);
    let reopened = work.rules && !look && driver.reconciler().find_opposition();
    // An address that now belongs to this host is no longer a peer; and tunnels may need another underlay
    // address.
    if work.addresses
        && let Err(error) = driver.tick_overlays()
    {
        tracing::warn!(%error, "cannot update the overlay networks after an address changed: the next tick retries");
    }
    // The reconciliation reports failures, and this thread retries.
    if work.links {
        let _ = driver.repair();
    } else if work.firewall || !followed {
        let _ = driver.repair_firewall();
    } else if reopened {
        let _ = driver.follow_rules();
    }
}
