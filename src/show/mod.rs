//! What the commands `status`, `ls`, `inspect`, `pools`, `peers` and `drops` print: tables for people, objects with
//! `"schema"` for programs.
//!
//! Pure. Called by the app, which reads the facts.

mod audit;
mod drops;
mod events;
mod inspect;
mod list;
mod policy;
mod status;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::admin::events::EventLine;
use crate::admin::status::{EndpointStatus, NetworkStatus, Status};
use crate::model::Phase;
use crate::names::Names;

pub use audit::audit;
pub use drops::{DropLine, drops};
pub use events::event;
pub use inspect::{InspectError, Listening, inspect};
pub use list::{endpoints, peers, pools};
pub use policy::{policy, policy_targets};
pub use status::{health, problems, status};

/// Version of the JSON forms.
const SCHEMA: u32 = 1;

/// Percentage of a pool's addresses from which on it is marked.
const ALMOST_FULL: u128 = 90;

/// Bytes that a link of the host has received and sent.
pub type Traffic = BTreeMap<String, [u64; 2]>;

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
    /// For programs.
    pub json: Value,
}

impl Shown {
    fn new(text: String, mut json: Value) -> Self {
        json["schema"] = SCHEMA.into();
        Self { text, json }
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
