//! Metrics for the operator: `GET /metrics` on the plugin socket, in Prometheus' text format. Verbs are counted
//! in one place that wraps all of them, by their result.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::api::Method;
use crate::driver::Driver;

/// Name, type and help text of every metric: docs/metrics.md is tested against it.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("pontoon_verbs_total", "counter", "Requests answered, by method. Rises with every container."),
    ("pontoon_verb_errors_total", "counter", "Requests answered with an error, by method. Rising: users see errors."),
    ("pontoon_verb_seconds_total", "counter", "Time spent in requests, by method; divide by pontoon_verbs_total."),
    ("pontoon_reconciles_total", "counter", "Comparisons with the kernel. Rises slowly by itself."),
    (
        "pontoon_repairs_total",
        "counter",
        "Steps those comparisons needed. Rising: something else changes our links or rules.",
    ),
    ("pontoon_reconcile_failures_total", "counter", "Comparisons that failed. Rising: read the log."),
    ("pontoon_repairs_failing", "gauge", "Repairs that fail again and again. Not 0: read the log."),
    (
        "pontoon_addresses_reclaimed_total",
        "counter",
        "Addresses freed after a lost reply. Rising: the engine or Pontoon gets killed often.",
    ),
    (
        "pontoon_endpoints_reaped_total",
        "counter",
        "Endpoints reaped because their sandbox was gone. Rising: the engine gets killed often.",
    ),
    (
        "pontoon_watch_overruns_total",
        "counter",
        "Times that notifications of the kernel's were lost; everything is compared then. Rising: very busy.",
    ),
    ("pontoon_networks", "gauge", "Networks."),
    ("pontoon_endpoints", "gauge", "Endpoints."),
    ("pontoon_degraded", "gauge", "1 when facts are missing from the ledger: docs/state.md."),
];

#[derive(Default)]
struct Verb {
    calls: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
}

/// See the module documentation.
#[derive(Default)]
pub struct Metrics {
    verbs: [Verb; Method::ALL.len()],
}

impl Metrics {
    /// Counts one verb.
    pub fn verb(&self, method: Method, failed: bool, took: Duration) {
        let at = Method::ALL.iter().position(|(m, _, _)| *m == method);
        let Some(verb) = at.and_then(|at| self.verbs.get(at)) else { return };
        verb.calls.fetch_add(1, Ordering::Relaxed);
        verb.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        verb.nanoseconds.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// All metrics as text.
    pub fn render(&self, driver: &Driver) -> String {
        let mut text = String::new();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let reconciler = &driver.reconciler().counts;
        let (networks, endpoints) = driver.sizes();
        for (name, kind, help) in METRICS {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            let single = match *name {
                "pontoon_reconciles_total" => read(&reconciler.reconciles),
                "pontoon_repairs_total" => read(&reconciler.repairs),
                "pontoon_reconcile_failures_total" => read(&reconciler.failures),
                "pontoon_repairs_failing" => driver.reconciler().failing() as u64,
                "pontoon_addresses_reclaimed_total" => read(&driver.counts.addresses_reclaimed),
                "pontoon_endpoints_reaped_total" => read(&driver.counts.endpoints_reaped),
                "pontoon_watch_overruns_total" => read(&driver.counts.overruns),
                "pontoon_networks" => networks as u64,
                "pontoon_endpoints" => endpoints as u64,
                "pontoon_degraded" => u64::from(driver.is_degraded()),
                _ => {
                    for ((_, _, method), verb) in Method::ALL.iter().zip(&self.verbs) {
                        let value = match *name {
                            "pontoon_verbs_total" => read(&verb.calls).to_string(),
                            "pontoon_verb_errors_total" => read(&verb.errors).to_string(),
                            _ => format!("{:.6}", Duration::from_nanos(read(&verb.nanoseconds)).as_secs_f64()),
                        };
                        let _ = writeln!(text, "{name}{{method=\"{method}\"}} {value}");
                    }
                    continue;
                }
            };
            let _ = writeln!(text, "{name} {single}");
        }
        text
    }
}
