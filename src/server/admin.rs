//! Paths of the operator's commands on the plugin socket: `GET /metrics`, `/ports` and `/status`,
//! and `POST /repair` and `/policy`.

use std::sync::Arc;

use libnetwork_plugin::{RouteAnswer, Routes};
use serde::{Deserialize, Serialize};

use crate::admin::policy::PolicyOrder;
use crate::admin::status::PlanStatus;
use crate::admin::{ports, status};
use crate::driver::Driver;
use crate::metrics::Metrics;

/// What the paths show.
pub(super) struct Admin {
    pub driver: Arc<Driver>,
    pub metrics: Arc<Metrics>,
}

impl Routes for Admin {
    fn has(&self, method: &str, path: &str) -> bool {
        matches!((method, path), ("GET", "/metrics" | "/ports" | "/status") | ("POST", "/policy" | "/repair"))
    }

    fn respond(&self, _: &str, path: &str, body: &[u8]) -> RouteAnswer {
        match path {
            "/metrics" => RouteAnswer::text("text/plain; version=0.0.4", self.metrics.render(&self.driver)),
            "/ports" => json(&ports::of_daemon(&self.driver)),
            "/status" => json(&status::of_daemon(&self.driver)),
            "/policy" => policy(&self.driver, body),
            _ => repair(&self.driver, body),
        }
    }
}

/// Repairs now, for `pontoon repair`, after removing the links in `remove`.
fn repair(driver: &Driver, body: &[u8]) -> RouteAnswer {
    #[derive(Default, Deserialize)]
    struct Repair {
        #[serde(default)]
        remove: Vec<String>,
    }
    let asked: Repair = match body {
        [] => Repair::default(),
        body => match serde_json::from_slice(body) {
            Ok(asked) => asked,
            Err(error) => return RouteAnswer::error(400, &format!("/repair: {error}")),
        },
    };
    match driver.remove_unknown(&asked.remove).and_then(|()| driver.repair_all()) {
        Ok(plan) => json(&PlanStatus::new(&plan, |step| driver.reconciler().kernel().commands(step))),
        Err(error) => RouteAnswer::error(500, &error.to_string()),
    }
}

/// Changes allow lists, for `pontoon policy`; the answer is what was asked for.
fn policy(driver: &Driver, body: &[u8]) -> RouteAnswer {
    let asked: PolicyOrder = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(error) => return RouteAnswer::error(400, &format!("/policy: {error}")),
    };
    let change = match asked.clone().change() {
        Ok(change) => change,
        Err(what) => return RouteAnswer::error(400, &what),
    };
    match driver.set_policy(&change) {
        Ok(()) => json(&asked),
        Err(error) => RouteAnswer::error(500, &driver.explain(error).to_string()),
    }
}

fn json(answer: &impl Serialize) -> RouteAnswer {
    match serde_json::to_vec(answer) {
        Ok(body) => RouteAnswer::json(body),
        Err(error) => RouteAnswer::error(500, &format!("internal error: the answer cannot be encoded: {error}")),
    }
}
