//! What the commands `status`, `ls`, `inspect`, `pools`, `peers`, `leases`, `top`, `graph` and `drops` print: tables for people, objects with
//! `"schema"` for programs.
//!
//! Pure. Called by the app, which reads the facts.

mod audit;
mod drops;
mod events;
mod graph;
mod inspect;
mod leases;
mod list;
mod policy;
mod status;
mod top;
mod traffic;

use serde_json::{Value, json};

use crate::admin::events::EventLine;
use crate::admin::status::{EndpointStatus, NetworkStatus, Status};
use crate::model::Phase;
use crate::names::Names;
use crate::output;

pub use audit::audit;
pub use drops::{DropLine, drops};
pub use events::event;
pub use graph::{Graph, dot, mermaid, svg};
pub use inspect::{InspectError, Listening, inspect};
pub use leases::leases;
pub use list::{endpoints, peers, pools};
pub use policy::{policy, policy_targets};
pub use status::{health, problems, status};
pub use top::top;
pub use traffic::{Count, Counters, Traffic, traffic};

/// Version of the JSON forms.
const SCHEMA: u32 = 1;

/// Percentage of a pool's addresses from which on it is marked.
const ALMOST_FULL: u128 = 90;

/// The facts.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Pontoon's objects.
    pub status: &'a Status,
    /// The engine's names.
    pub names: &'a Names,
    /// Traffic of the host's links.
    pub traffic: &'a Traffic,
    /// What happened lately, for what shows it.
    pub events: &'a [EventLine],
    /// Why the daemon did not answer, if the ledger was read instead.
    pub down: Option<&'a str>,
}

/// The text and the JSON of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// For people.
    pub text: String,
    /// With more columns, if there are more.
    pub wide: Option<String>,
    /// For programs.
    pub json: Value,
}

impl Shown {
    /// Adds the version to the object.
    pub fn new(text: String, mut json: Value) -> Self {
        json["schema"] = SCHEMA.into();
        Self { text, wide: None, json }
    }

    /// With the first `narrow` columns of a table below a text, and all of them where they are asked for.
    fn of_table<const N: usize>(head: &str, rows: &[[String; N]], narrow: usize, json: Value) -> Self {
        let wide = Some(format!("{head}{}", output::table(rows)));
        Self { wide, ..Self::new(format!("{head}{}", output::columns(rows, narrow)), json) }
    }
}

/// A number of bytes with a unit.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// Kind and mode of a network in a word.
fn mode(network: &NetworkStatus) -> String {
    let detail = &network.detail;
    let word = |mode| json!(mode).as_str().unwrap_or_default().to_owned();
    match network.kind.as_str() {
        "bridge" if network.internal => "internal".to_owned(),
        "bridge" if detail.mode4 == detail.mode6 => word(detail.mode4),
        "bridge" => format!("{}/{}", word(detail.mode4), word(detail.mode6)),
        kind => kind.to_owned(),
    }
}

fn phase(endpoint: &EndpointStatus) -> &'static str {
    match endpoint.phase {
        Phase::Ready => "created",
        Phase::Joined => "running",
        Phase::Left => "left",
    }
}

fn endpoint_json(facts: &Facts<'_>, network: &NetworkStatus, endpoint: &EndpointStatus) -> Value {
    let mut value = json!(endpoint);
    if let Some(container) = facts.names.container_of(endpoint.id.as_str()) {
        value["container"] = json!({ "id": container.id, "name": container.name });
    }
    value["network"] = json!({ "id": network.id, "name": facts.names.networks.get(network.id.as_str()) });
    value
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
