//! Metrics for the operator: `GET /metrics` on the plugin socket, in Prometheus' text format.
//!
//! Each row of the table carries the function that reads its value: a metric without a value does not compile.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::api::Method;
use crate::driver::{Driver, LeaseState};

/// Upper bounds of the buckets of request durations, in seconds; a last bucket holds everything. Requests take
/// milliseconds, and the server answers the slowest at its deadline.
const BUCKETS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// A metric: how docs/metrics.md describes it, and how it is read.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type in Prometheus' terms.
    pub kind: &'static str,
    /// Its help text.
    pub help: &'static str,
    value: Value,
}

/// How a metric is read.
enum Value {
    /// One value.
    Of(fn(&Driver) -> u64),
    /// One value for each method.
    OfMethod(fn(&Requests) -> u64),
    /// A histogram for each method.
    Durations,
}

const fn metric(name: &'static str, kind: &'static str, value: Value, help: &'static str) -> Metric {
    Metric { name, kind, help, value }
}

/// All metrics: a test compares docs/metrics.md with them.
pub const METRICS: &[Metric] = &[
    metric(
        "pontoon_requests_total",
        "counter",
        Value::OfMethod(|requests| requests.durations.count()),
        "Requests answered, by method. Rises with every container.",
    ),
    metric(
        "pontoon_request_errors_total",
        "counter",
        Value::OfMethod(|requests| read(&requests.errors)),
        "Requests answered with an error, by method. Rising: users see errors.",
    ),
    metric(
        "pontoon_request_duration_seconds",
        "histogram",
        Value::Durations,
        "Duration of requests, by method. Above 1 s: the kernel or the disk is slow.",
    ),
    metric(
        "pontoon_reconciles_total",
        "counter",
        Value::Of(|driver| read(&driver.reconciler().counts.reconciles)),
        "Comparisons with the kernel. Rises slowly.",
    ),
    metric(
        "pontoon_repairs_total",
        "counter",
        Value::Of(|driver| read(&driver.reconciler().counts.repairs)),
        "Steps that those comparisons needed. Rising: another program changes Pontoon's links or rules.",
    ),
    metric(
        "pontoon_reconcile_failures_total",
        "counter",
        Value::Of(|driver| read(&driver.reconciler().counts.failures)),
        "Comparisons that failed. Rising: read the log.",
    ),
    metric(
        "pontoon_repairs_failing",
        "gauge",
        Value::Of(|driver| driver.reconciler().failing() as u64),
        "Repairs that keep failing. Not 0: read the log.",
    ),
    metric(
        "pontoon_addresses_reclaimed_total",
        "counter",
        Value::Of(|driver| read(&driver.counts.addresses_reclaimed)),
        "Addresses freed after a lost reply. Rising: the engine or Pontoon is killed often.",
    ),
    metric(
        "pontoon_endpoints_reaped_total",
        "counter",
        Value::Of(|driver| read(&driver.counts.endpoints_reaped)),
        "Endpoints reaped because their sandbox was gone. Rising: the engine is killed often.",
    ),
    metric(
        "pontoon_watch_overruns_total",
        "counter",
        Value::Of(|driver| read(&driver.counts.overruns)),
        "Times that kernel notifications were lost, after which everything is compared. Rising: the host is very busy.",
    ),
    metric(
        "pontoon_address_conflicts_total",
        "counter",
        Value::Of(Driver::conflict_count),
        "Addresses of containers that another host on a local network has as well. Rising: `pontoon doctor` names both.",
    ),
    metric(
        "pontoon_leases",
        "gauge",
        Value::Of(|driver| leases(driver, &[LeaseState::Bound, LeaseState::Parked])),
        "Valid leases from DHCP servers and routers, of containers and parked.",
    ),
    metric(
        "pontoon_leases_unconfirmed",
        "gauge",
        Value::Of(|driver| leases(driver, &[LeaseState::Lost, LeaseState::Expired])),
        "Running containers whose address no DHCP server or router grants any more. Not 0: `pontoon leases` names them.",
    ),
    metric(
        "pontoon_leases_lost_total",
        "counter",
        Value::Of(|driver| read(&driver.lease_counts().lost)),
        "Addresses that a DHCP server or router took away from a running container. Rising: its range, reservations or prefix changed.",
    ),
    metric(
        "pontoon_leases_declined_total",
        "counter",
        Value::Of(|driver| read(&driver.lease_counts().declined)),
        "Addresses of a DHCP server or router that another host had. Rising: a host has a fixed address that is given to containers.",
    ),
    metric(
        "pontoon_leases_failed_total",
        "counter",
        Value::Of(|driver| read(&driver.lease_counts().failed)),
        "Starts of containers that got no lease in time. Rising: the error of the start says what was seen.",
    ),
    metric(
        "pontoon_names_answered_total",
        "counter",
        Value::Of(|driver| read(&driver.name_counts().answered)),
        "DNS queries answered for containers whose egress list has names.",
    ),
    metric(
        "pontoon_names_refused_total",
        "counter",
        Value::Of(|driver| read(&driver.name_counts().refused)),
        "Queries for names that the list does not have. Rising: the log names the container and the name.",
    ),
    metric(
        "pontoon_names_failed_total",
        "counter",
        Value::Of(|driver| read(&driver.name_counts().failed)),
        "Queries that no name server answered, or whose addresses the kernel did not take. Rising: ask the name server.",
    ),
    metric(
        "pontoon_names_limited_total",
        "counter",
        Value::Of(|driver| read(&driver.name_counts().limited)),
        "Queries beyond those that are answered at the same time. Rising: a container sends too many.",
    ),
    metric(
        "pontoon_names_malformed_total",
        "counter",
        Value::Of(|driver| read(&driver.name_counts().malformed)),
        "Messages to port 53 that are no DNS queries.",
    ),
    metric(
        "pontoon_events_total",
        "counter",
        Value::Of(|driver| driver.history().counts().0),
        "Events recorded for `pontoon events`.",
    ),
    metric(
        "pontoon_events_lost_total",
        "counter",
        Value::Of(|driver| driver.history().counts().1),
        "Events that a reader asked for too late. Rising: a reader is slower than the events.",
    ),
    metric("pontoon_networks", "gauge", Value::Of(|driver| driver.sizes().0 as u64), "Networks."),
    metric("pontoon_endpoints", "gauge", Value::Of(|driver| driver.sizes().1 as u64), "Endpoints."),
    metric(
        "pontoon_degraded",
        "gauge",
        Value::Of(|driver| u64::from(driver.is_degraded())),
        "1 when facts are missing from the ledger: docs/state.md.",
    ),
];

fn leases(driver: &Driver, states: &[LeaseState]) -> u64 {
    driver.read_leases(|slot, now| u64::from(states.contains(&slot.state(now)))).into_iter().sum()
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A histogram of durations.
#[derive(Default)]
struct Durations {
    /// Observations in each bucket alone, the unbounded one last.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(read).sum()
    }

    /// Writes the series of one method. Prometheus' buckets are cumulative.
    fn render(&self, text: &mut String, name: &str, method: &str) {
        let mut total = 0;
        let bounds = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            total += read(bucket);
            let _ = writeln!(text, "{name}_bucket{{method=\"{method}\",le=\"{bound}\"}} {total}");
        }
        let sum = Duration::from_nanos(read(&self.nanoseconds)).as_secs_f64();
        let _ = writeln!(text, "{name}_sum{{method=\"{method}\"}} {sum:.6}");
        let _ = writeln!(text, "{name}_count{{method=\"{method}\"}} {total}");
    }
}

#[derive(Default)]
struct Requests {
    durations: Durations,
    errors: AtomicU64,
}

/// Counters of requests, by method.
#[derive(Default)]
pub struct Metrics {
    requests: [Requests; Method::ALL.len()],
}

impl Metrics {
    /// Counts one request.
    pub fn request(&self, method: Method, failed: bool, duration: Duration) {
        let at = Method::ALL.iter().position(|(m, _, _)| *m == method);
        let Some(requests) = at.and_then(|at| self.requests.get(at)) else { return };
        requests.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        requests.durations.observe(duration);
    }

    /// All metrics as text.
    pub fn render(&self, driver: &Driver) -> String {
        let mut text = String::new();
        let methods = || Method::ALL.iter().map(|(_, _, method)| method).zip(&self.requests);
        for Metric { name, kind, help, value } in METRICS {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            match value {
                Value::Of(value) => drop(writeln!(text, "{name} {}", value(driver))),
                Value::OfMethod(value) => methods().for_each(|(method, requests)| {
                    let _ = writeln!(text, "{name}{{method=\"{method}\"}} {}", value(requests));
                }),
                Value::Durations => {
                    methods().for_each(|(method, requests)| requests.durations.render(&mut text, name, method));
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let durations = Durations::default();
        for millis in [0, 1, 2, 300, 60_000] {
            durations.observe(Duration::from_millis(millis));
        }
        let mut text = String::new();
        durations.render(&mut text, "d", "M");
        assert_eq!(durations.count(), 5);
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        has("d_bucket{method=\"M\",le=\"0.001\"} 2");
        has("d_bucket{method=\"M\",le=\"0.003\"} 3");
        has("d_bucket{method=\"M\",le=\"0.3\"} 4");
        has("d_bucket{method=\"M\",le=\"10\"} 4");
        has("d_bucket{method=\"M\",le=\"+Inf\"} 5");
        has("d_sum{method=\"M\"} 60.303000");
        has("d_count{method=\"M\"} 5");
    }
}
