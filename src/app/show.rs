//! `pontoon status`, `ls`, `inspect`, `pools`, `peers` and `drops`: read the facts of the daemon, else of its ledger, with
//! names of the engine and counters of the kernel.

use std::net::IpAddr;
use std::time::Duration;

use super::inspect::{blind, known_names};
use super::look::{self, Need};
use crate::cli::{Drops, Format, Inspect, View};
use crate::datapath::host::Dropped;
use crate::doctor::drops;
use crate::linux::host_view;
use crate::output::{self, Style};
use crate::show::{self, Facts, Shown, Traffic};

/// Which of the commands.
#[derive(Debug, Clone, Copy)]
pub enum Command<'a> {
    /// The overview.
    Status,
    /// Endpoints.
    List,
    /// One object.
    Inspect(&'a Inspect),
    /// Pools.
    Pools,
    /// Peers.
    Peers,
}

/// Runs the command; returns the exit code.
pub fn run(view: &View, command: Command<'_>) -> u8 {
    match shown(view, command) {
        Ok((shown, code)) => {
            print(&shown, view.format());
            code
        }
        Err(why) => blind(&why),
    }
}

pub(super) fn print(shown: &Shown, format: Format) {
    match format {
        Format::Json => output::line(&serde_json::to_string_pretty(&shown.json).unwrap_or_default()),
        Format::Table => output::print(&shown.text),
    }
}

fn shown(view: &View, command: Command<'_>) -> Result<(Shown, u8), String> {
    let need = if matches!(command, Command::Status) { Need::Comparison } else { Need::Objects };
    let (status, down) = look::status(view, need)?;
    let names = known_names(&view.docker);
    let traffic = traffic();
    let events = if matches!(command, Command::Inspect(_)) { look::events(view) } else { Vec::new() };
    let facts = Facts { status: &status, names: &names, traffic: &traffic, events: &events, down: down.as_deref() };
    Ok(match command {
        Command::Status => {
            let dropped = look::dropped(view).ok().map(|all| all.iter().map(|one| one.packets).sum());
            (show::status(&facts, dropped, Style::of_stdout()), show::health(&facts).1)
        }
        Command::List => (show::endpoints(&facts), 0),
        Command::Pools => (show::pools(&facts), 0),
        Command::Peers => (show::peers(&facts), 0),
        Command::Inspect(inspect) => {
            (show::inspect(&facts, &inspect.name, &listening).map_err(|error| error.to_string())?, 0)
        }
    })
}

/// Whether a socket in a sandbox takes packets to this address and port.
fn listening(sandbox: &str, protocol: u8, address: IpAddr, port: u16) -> Option<bool> {
    let sockets = host_view::sockets(Some(sandbox), protocol).ok()?;
    Some(sockets.iter().any(|socket| socket.port == port && socket.takes(address)))
}

/// Bytes of the links of this network namespace.
fn traffic() -> Traffic {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
        Some((name.trim().to_owned(), [*numbers.first()?, *numbers.get(8)?]))
    };
    text.lines().filter_map(line).collect()
}

/// `pontoon drops`.
pub fn run_drops(options: &Drops) -> u8 {
    let read = || look::dropped(&options.view);
    let both = || {
        let Some(seconds) = options.seconds else { return Ok((Vec::new(), read()?)) };
        let before = read()?;
        std::thread::sleep(Duration::from_secs(seconds));
        Ok::<(Vec<Dropped>, Vec<Dropped>), String>((before, read()?))
    };
    match both() {
        Ok((before, now)) => {
            print(&show::drops(&before, &now, drops::meaning), options.view.format());
            0
        }
        Err(why) => blind(&why),
    }
}
