//! The status socket: what operators read without being able to change anything. `GET` of `/healthz`, `/readyz`,
//! `/status`, `/objects`, `/drops`, `/audit`, `/events` and `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libnetwork_plugin::{RouteAnswer, RouteRequest, Routes};
use serde::Serialize;

use crate::admin::audit;
use crate::admin::events::EventList;
use crate::admin::objects::Objects;
use crate::admin::status::{self, Status, StatusSocket};
use crate::driver::Driver;
use crate::metrics::Metrics;

/// Version of the JSON forms: rises when a field changes its meaning or disappears, not for new fields.
pub const SCHEMA: u32 = 1;

/// Connections that are served at once.
pub const MAX_CONNECTIONS: u32 = 32;

/// How long ago the last comparison with the kernel may be. There is one every half minute.
const RECENT: Duration = Duration::from_secs(90);

/// Longest pause between two answers that read the kernel.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Longest wait of a reader for an event: less than the deadline of a request.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

const PATHS: [&str; 8] = ["/healthz", "/readyz", "/status", "/objects", "/drops", "/audit", "/events", "/metrics"];

/// What is shown.
pub enum Operators {
    /// A daemon that serves.
    Daemon(Box<Shown>),
    /// One that cannot serve yet, and why.
    Unready(String),
}

/// The sources of what is shown.
pub struct Shown {
    /// The driver, which is only read.
    pub driver: Arc<Driver>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The socket itself.
    pub socket: Option<StatusSocket>,
    status: Shared,
    dropped: Shared,
    audited: Shared,
}

impl Operators {
    /// Shows a daemon.
    pub fn new(driver: Arc<Driver>, metrics: Arc<Metrics>, socket: Option<StatusSocket>) -> Self {
        let (status, dropped, audited) = Default::default();
        Self::Daemon(Box::new(Shown { driver, metrics, socket, status, dropped, audited }))
    }
}

impl Routes for Operators {
    fn has(&self, _: &str, path: &str) -> bool {
        PATHS.contains(&path)
    }

    fn respond(&self, request: RouteRequest<'_>) -> RouteAnswer {
        match (self, request.path) {
            (_, "/healthz") => RouteAnswer::text("text/plain", "listening\n"),
            (Operators::Unready(why), _) => RouteAnswer::error(503, why),
            (Operators::Daemon(shown), path) => shown.respond(path, request.query),
        }
    }
}

impl Shown {
    fn respond(&self, path: &str, query: &str) -> RouteAnswer {
        let driver = &*self.driver;
        match path {
            "/readyz" => match unready(driver) {
                None => RouteAnswer::text("text/plain", "ready\n"),
                Some(why) => RouteAnswer::error(503, &why),
            },
            "/status" => self
                .status
                .answer(|| versioned(&Status { status_socket: self.socket.clone(), ..status::of_daemon(driver) })),
            "/drops" => self.dropped.answer(|| match driver.reconciler().kernel().dropped() {
                Ok(drops) => versioned(&Drops { drops }),
                Err(error) => RouteAnswer::error(500, &error.to_string()),
            }),
            "/audit" => self.audited.answer(|| match audit::of_daemon(driver) {
                Ok(list) => versioned(&list),
                Err(error) => RouteAnswer::error(500, &error.to_string()),
            }),
            "/events" => match (parameter(query, "since"), parameter(query, "wait")) {
                (Ok(since), Ok(wait)) => {
                    let wait = Duration::from_secs(wait).min(LONGEST_WAIT);
                    let history = driver.history();
                    versioned(&EventList::of(history.after(since, wait), history.began()))
                }
                (Err(why), _) | (_, Err(why)) => RouteAnswer::error(400, &why),
            },
            "/metrics" => RouteAnswer::text("text/plain; version=0.0.4", self.metrics.render(driver)),
            _ => versioned(&Objects::of_daemon(driver)),
        }
    }
}

/// A number of a query; 0 if it is absent.
fn parameter(query: &str, name: &str) -> Result<u64, String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let number = value.map_or(Ok(0), str::parse);
    number.map_err(|_| format!("/events: {name} is not a number: /events?since=NUMBER&wait=SECONDS"))
}

#[derive(Serialize)]
struct Drops<T> {
    drops: T,
}

/// Why the daemon is not ready: facts are missing from its state, or the kernel was not compared lately.
fn unready(driver: &Driver) -> Option<String> {
    let mut findings = Vec::new();
    if driver.is_degraded() {
        findings.push("the state may be incomplete: pontoon doctor".to_owned());
    }
    let last = *driver.reconciler().counts.in_order.lock().unwrap_or_else(PoisonError::into_inner);
    match last.map(|at| at.elapsed()) {
        Some(ago) if ago <= RECENT => {}
        Some(ago) => findings.push(format!(
            "the kernel was last compared with the state {} s ago, at most {} are usual: read the daemon's log",
            ago.as_secs(),
            RECENT.as_secs()
        )),
        None => findings.push("the kernel was never compared with the state: read the daemon's log".to_owned()),
    }
    (!findings.is_empty()).then(|| findings.join("; "))
}

/// An answer as JSON with its version.
fn versioned(body: &impl Serialize) -> RouteAnswer {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        schema: u32,
        #[serde(flatten)]
        body: &'a T,
    }
    match serde_json::to_string(&Versioned { schema: SCHEMA, body }) {
        Ok(body) => RouteAnswer::text("application/json", body),
        Err(error) => RouteAnswer::error(500, &format!("internal error: the answer cannot be encoded: {error}")),
    }
}

/// An answer that costs kernel requests. Requests that arrive while it is made wait for the next one and share it, and
/// after each one there is a pause of its duration: however many ask, verbs have the kernel for half of the time.
#[derive(Default)]
struct Shared(Mutex<Option<Made>>);

struct Made {
    began: Instant,
    ended: Instant,
    answer: RouteAnswer,
}

impl Shared {
    /// An answer that was begun after this call.
    fn answer(&self, make: impl FnOnce() -> RouteAnswer) -> RouteAnswer {
        let arrived = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*last {
            if made.began >= arrived {
                return made.answer.clone();
            }
            let rest = made.ended.saturating_duration_since(made.began).min(LONGEST_REST);
            std::thread::sleep((made.ended + rest).saturating_duration_since(Instant::now()));
        }
        let began = Instant::now();
        let answer = make();
        *last = Some(Made { began, ended: Instant::now(), answer: answer.clone() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn waiting_requests_share_an_answer_and_none_gets_an_older_one() {
        let (shared, made, all) = (Shared::default(), AtomicU32::new(0), Barrier::new(9));
        let make = || {
            let number = made.fetch_add(1, Ordering::SeqCst) + 1;
            std::thread::sleep(Duration::from_millis(50));
            RouteAnswer::text("text/plain", number.to_string())
        };
        std::thread::scope(|scope| {
            let work = || {
                all.wait();
                shared.answer(make)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            all.wait();
            threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
        });
        let before = made.load(Ordering::SeqCst);
        assert!(before < 8, "they did not share: {before} answers for 8 requests");
        let next = RouteAnswer::text("text/plain", (before + 1).to_string());
        assert_eq!(shared.answer(make), next, "a later request gets a later answer");
    }
}
