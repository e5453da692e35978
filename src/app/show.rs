//! `pontoon status`, `ls`, `inspect`, `pools`, `peers`, `leases` and `drops`: read the facts of the daemon, else of its ledger, with
//! names of the engine and counters of the kernel.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::inspect::known_names;
use super::look::{self, Need};
use super::refresh::{Look, refresh};
use crate::admin::events::EventLine;
use crate::cli::{Drops, Format, Graph, GraphFormat, Inspect, Listing, View};
use crate::doctor::drops;
use crate::linux::host_view;
use crate::output::Style;
use crate::show::{self, Facts, Shown, Traffic};
use crate::terminal;

/// Which of the commands that list.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    /// The overview.
    Status,
    /// Endpoints.
    List,
    /// Pools.
    Pools,
    /// Peers.
    Peers,
    /// Leases.
    Leases,
}

/// Lists, once or again and again; returns the exit code.
pub fn list(listing: &Listing, command: Command) -> u8 {
    let view = &listing.view;
    refresh(view.format(), pause(listing), || {
        let need = if matches!(command, Command::Status) { Need::Comparison } else { Need::Objects };
        look(view, need, &[], |facts| {
            Ok(match command {
                Command::Status => {
                    let dropped = look::dropped(view).ok().map(|all| all.iter().map(|one| one.packets).sum());
                    (show::status(facts, dropped, Style::of_stdout()), show::health(facts).1)
                }
                Command::List => (show::endpoints(facts), 0),
                Command::Pools => (show::pools(facts), 0),
                Command::Peers => (show::peers(facts), 0),
                Command::Leases => (show::leases(&facts.status.leases), 0),
            })
        })
    })
}

/// `pontoon inspect`; returns the exit code.
pub fn inspect(options: &Inspect) -> u8 {
    let view = &options.view;
    refresh(view.format(), None, || {
        look(view, Need::Objects, &look::events(view), |facts| {
            let shown = show::inspect(facts, &options.name, &listening).map_err(|error| error.to_string())?;
            Ok((shown, 0))
        })
    })
}

/// `pontoon graph`; returns the exit code.
pub fn graph(options: &Graph) -> u8 {
    let format = if options.asked.json { GraphFormat::Json } else { options.output };
    let written = |text: String| Shown::new(text, Value::Null);
    let (form, draw): (Format, fn(&show::Graph) -> String) = match format {
        GraphFormat::Text => (Format::Table, |_| String::new()),
        GraphFormat::Json => (Format::Json, |_| String::new()),
        GraphFormat::Yaml => (Format::Yaml, |_| String::new()),
        GraphFormat::Dot => (Format::Table, show::dot),
        GraphFormat::Mermaid => (Format::Table, show::mermaid),
        GraphFormat::Svg => (Format::Table, show::svg),
    };
    refresh(form, None, || {
        look(&options.view(), Need::Objects, &[], |facts| {
            let graph = show::Graph::of(facts);
            let drawn = draw(&graph);
            Ok((if drawn.is_empty() { graph.shown() } else { written(drawn) }, 0))
        })
    })
}

fn pause(listing: &Listing) -> Option<Duration> {
    listing.watch.map(Duration::from_secs)
}

/// Reads the facts, and shows them with `show`.
fn look(view: &View, need: Need, events: &[EventLine], show: impl FnOnce(&Facts<'_>) -> Look) -> Look {
    let (status, down) = look::status(view, need)?;
    let (names, traffic) = (known_names(&view.docker), traffic());
    show(&Facts { status: &status, names: &names, traffic: &traffic, events, down: down.as_deref() })
}

/// Whether a socket in a sandbox takes packets to this address and port.
fn listening(sandbox: &str, protocol: u8, address: IpAddr, port: u16) -> Option<bool> {
    let sockets = host_view::sockets(Some(sandbox), protocol).ok()?;
    Some(sockets.iter().any(|socket| socket.port == port && socket.takes(address)))
}

/// Counters of the links of this network namespace.
pub(super) fn traffic() -> Traffic {
    show::traffic(&std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default())
}

/// `pontoon drops`; returns the exit code.
pub fn run_drops(options: &Drops) -> u8 {
    let view = &options.listing.view;
    let read = || look::dropped(view);
    refresh(view.format(), pause(&options.listing), || {
        let before = match options.seconds {
            None => Vec::new(),
            Some(seconds) => {
                let before = read()?;
                terminal::wait(Duration::from_secs(seconds));
                before
            }
        };
        Ok((show::drops(&before, &read()?, drops::meaning), 0))
    })
}
