//! Events as operators read them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::driver::history::{Excerpt, Happening, Recorded, ShortId};

/// Events after a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventList {
    /// When the daemon's process began, in seconds since 1970: another process numbers its events from 1.
    pub began: f64,
    /// The number to ask with the next time.
    pub next: u64,
    /// Events that followed and are no longer kept.
    pub lost: u64,
    /// The events.
    pub events: Vec<EventLine>,
}

/// An event. Fields that do not apply are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventLine {
    /// Its number in the daemon's process.
    pub number: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// `started`, `verb`, `repair`, `reaped`, `peer`, `conflict`, `lease` or `health`.
    pub kind: String,
    /// The method of a verb, as the protocol names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The beginning of the network's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The beginning of the endpoint's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// An address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The hardware address of the other host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// What was compared, or the new state of a peer, of a lease or of the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Steps of a repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Duration in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl EventList {
    /// What is answered to a reader.
    pub fn of(excerpt: Excerpt, began: SystemTime) -> Self {
        let Excerpt { next, lost, events } = excerpt;
        Self { began: seconds(began), next, lost, events: events.into_iter().map(EventLine::from).collect() }
    }
}

/// Seconds since 1970, to the millisecond.
fn seconds(time: SystemTime) -> f64 {
    (time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0).round() / 1000.0
}

impl From<Recorded> for EventLine {
    fn from(recorded: Recorded) -> Self {
        let Recorded { number, time, what } = recorded;
        let line = |kind: &str| Self { number, time: seconds(time), kind: kind.to_owned(), ..Self::default() };
        let id = |id: &ShortId| Some(id.as_str().to_owned()).filter(|id| !id.is_empty());
        let text = |error: Option<Box<str>>| error.map(String::from);
        match what {
            Happening::Started => line("started"),
            Happening::Verb { method, network, endpoint, address, took, error } => Self {
                method: Some(method.to_owned()),
                network: id(&network),
                endpoint: id(&endpoint),
                address: address.map(|address| address.to_string()),
                seconds: Some(took.as_secs_f64()),
                error: text(error),
                ..line("verb")
            },
            Happening::Repair { scope, steps, took, error } => Self {
                state: Some(scope.to_owned()),
                steps: Some(steps),
                seconds: Some(took.as_secs_f64()),
                error: text(error),
                ..line("repair")
            },
            Happening::Reaped { network, endpoint } => {
                Self { network: id(&network), endpoint: id(&endpoint), ..line("reaped") }
            }
            Happening::Peer { address, state } => {
                Self { address: Some(address.to_string()), state: Some(state.to_owned()), ..line("peer") }
            }
            Happening::Conflict { network, endpoint, address, other } => Self {
                network: id(&network),
                endpoint: id(&endpoint),
                address: Some(address.to_string()),
                other: Some(other.to_string()),
                ..line("conflict")
            },
            Happening::Lease { network, endpoint, address, state } => Self {
                network: id(&network),
                endpoint: id(&endpoint),
                address: address.map(|address| address.to_string()),
                state: Some(state.to_owned()),
                ..line("lease")
            },
            Happening::Health { state } => Self { state: Some(state.to_owned()), ..line("health") },
        }
    }
}
