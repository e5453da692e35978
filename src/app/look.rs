//! Finds the daemon for commands that only show: its status socket first, so that they need no root, then the plugin
//! socket of a daemon without one, then the ledger.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::inspect::{filled_in, found_status, ledger_status};
use crate::admin::audit::AuditList;
use crate::admin::events::{EventLine, EventList};
use crate::admin::objects::Objects;
use crate::admin::status::Status;
use crate::cli::View;
use crate::client::{self, Client, ClientError};
use crate::datapath::host::Dropped;
use crate::installation::Roots;
use crate::linux::host_view;
use crate::server::SCHEMA;

/// What a command needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The objects and their comparison with the kernel.
    Comparison,
    /// The objects alone.
    Objects,
}

/// A status, and why it is not the daemon's.
pub(super) type Seen = (Status, Option<String>);

/// Reads what a command needs.
///
/// # Errors
/// Neither a daemon nor a ledger can be read.
pub(super) fn status(view: &View, need: Need) -> Result<Seen, String> {
    let Some(socket) = status_socket(view) else { return found_status(&view.asked) };
    let answer = match need {
        Need::Comparison => get::<Status>(&socket, "/status"),
        Need::Objects => get::<Objects>(&socket, "/objects").map(Status::from),
    };
    match answer {
        Ok(status) => Ok((status, None)),
        Err(Refused::Schema(why)) => Err(why),
        // A daemon of an earlier release, or none.
        Err(Refused::Client(error)) if error.is_absent() && !is_named(view) => {
            found_status(&view.asked).map_err(|why| needs_a_right(&socket, why))
        }
        Err(Refused::Client(error)) if error.is_denied() => Err(error.to_string()),
        Err(Refused::Client(error)) => match filled_in(&view.asked) {
            Ok(asked) => ledger_status(&asked, error),
            Err(_) => Err(error.to_string()),
        },
    }
}

/// What Pontoon's rules dropped.
///
/// # Errors
/// Neither the daemon nor the kernel tells.
pub(super) fn dropped(view: &View) -> Result<Vec<Dropped>, String> {
    #[derive(serde::Deserialize)]
    struct Drops {
        drops: Vec<Dropped>,
    }
    let socket = status_socket(view);
    let asked = socket.as_ref().map(|socket| get::<Drops>(socket, "/drops"));
    match asked {
        Some(Ok(answer)) => Ok(answer.drops),
        Some(Err(refused)) if is_named(view) => Err(refused.to_string()),
        Some(Err(refused)) if !geteuid().is_root() => Err(refused.to_string()),
        _ => host_view::dropped().map_err(|error| format!("{error}; run this as root")),
    }
}

/// What audited containers did.
///
/// # Errors
/// The daemon does not tell.
pub(super) fn audits(view: &View) -> Result<AuditList, String> {
    get(&needed_status_socket(view)?, "/audit").map_err(|refused| refused.to_string())
}

/// The status socket of the daemon, for commands that need it.
///
/// # Errors
/// It is not known.
pub(super) fn needed_status_socket(view: &View) -> Result<PathBuf, String> {
    match status_socket(view) {
        Some(socket) => Ok(socket),
        None => {
            Roots::of_host().status_socket(&view.asked).map_err(|error| error.to_string())?;
            Err("the status socket of this daemon is not known: add --status-socket".to_owned())
        }
    }
}

/// Events of the daemon's ring, if it has one.
pub(super) fn events(view: &View) -> Vec<EventLine> {
    let (mut all, mut since) = (Vec::new(), 0);
    let Some(socket) = status_socket(view) else { return all };
    while let Ok(list) = get::<EventList>(&socket, &format!("/events?since={since}")) {
        if list.events.is_empty() {
            break;
        }
        since = list.next;
        all.extend(list.events);
    }
    all
}

fn is_named(view: &View) -> bool {
    !view.status_socket.as_os_str().is_empty()
}

/// The status socket of the daemon that is meant, if it is known.
fn status_socket(view: &View) -> Option<PathBuf> {
    if is_named(view) {
        return Some(view.status_socket.clone());
    }
    let asked = &view.asked;
    let unset = |path: &Path| path.as_os_str().is_empty();
    // Docker's files, which tell of managed plugins, are root's.
    let usual = Path::new(client::STATUS_SOCKET);
    if asked.plugin.is_none() && unset(&asked.socket) && unset(&asked.state_dir) && usual.exists() {
        return Some(usual.to_owned());
    }
    Roots::of_host().status_socket(asked).ok().flatten()
}

/// Adds what another user than root can do.
fn needs_a_right(socket: &Path, why: String) -> String {
    if geteuid().is_root() { why } else { format!("no daemon answers on {}, and {why}", socket.display()) }
}

/// Why the status socket did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// No answer, or an error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer is of a later release.
    #[error("{0}")]
    Schema(String),
}

impl Refused {
    /// Whether it may help to ask again.
    pub fn may_pass(&self) -> bool {
        matches!(self, Refused::Client(error) if !error.is_denied())
    }
}

/// `GET path`; checks the version of the answer.
pub(super) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Refused> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        schema: Value,
    }
    // As text at first: a tree of a thousand endpoints would cost more than all else that a command does.
    let answer: Box<RawValue> = Client::new(socket, client::STATUS_FLAG)?.get(path)?;
    let unexpected = |error| Refused::Schema(format!("{}: {path}: unexpected answer ({error})", socket.display()));
    let Versioned { schema } = serde_json::from_str(answer.get()).map_err(unexpected)?;
    if schema.as_u64().is_none_or(|schema| schema > u64::from(SCHEMA)) {
        return Err(Refused::Schema(format!(
            "{}: {path}: the answer has schema {schema}, this command ({}) knows {SCHEMA}: use the pontoon of the daemon's release",
            socket.display(),
            env!("CARGO_PKG_VERSION")
        )));
    }
    serde_json::from_str(answer.get()).map_err(unexpected)
}
