//! `pontoon events`: prints the daemon's ring of events, and follows it.

use std::path::Path;
use std::time::Duration;

use super::inspect::{blind, known_names};
use super::look::{self, Refused};
use super::refresh::object;
use crate::admin::events::{EventLine, EventList};
use crate::cli::{Events, Format};
use crate::datapath::host::Dropped;
use crate::doctor::drops;
use crate::names::Names;
use crate::{output, show};

/// Longest wait for an event in one request, in seconds; with drops, which are asked for in between, one.
const WAIT: u64 = 8;

/// Pause before a daemon that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs the command; returns the exit code.
pub fn run(options: &Events) -> u8 {
    match follow(options) {
        Ok(()) => 0,
        Err(why) => blind(&why),
    }
}

fn follow(options: &Events) -> Result<(), String> {
    let socket = look::needed_status_socket(&options.view)?;
    let names = match options.view.format() {
        Format::Json | Format::Yaml => Names::default(),
        Format::Table | Format::Wide => known_names(&options.view.docker),
    };
    let mut reader = Reader { options, names, began: 0.0, since: 0, dropped: Vec::new() };
    reader.dropped = if options.drops { look::dropped(&options.view)? } else { Vec::new() };
    let mut silent = false;
    loop {
        match reader.read(&socket) {
            Ok(more) => {
                silent = false;
                if !more && !options.follow || output::is_closed() {
                    return Ok(());
                }
            }
            Err(error) if !options.follow || !error.may_pass() => return Err(error.to_string()),
            Err(error) => {
                if !silent {
                    output::note(&format!("pontoon: {error}; waiting"));
                }
                silent = true;
                std::thread::sleep(AGAIN);
            }
        }
    }
}

struct Reader<'a> {
    options: &'a Events,
    names: Names,
    /// Which process of the daemon the numbers are of.
    began: f64,
    since: u64,
    dropped: Vec<Dropped>,
}

impl Reader<'_> {
    /// Prints what followed. Whether there may be more at once.
    fn read(&mut self, socket: &Path) -> Result<bool, Refused> {
        let wait = match (self.options.follow && self.began != 0.0, self.options.drops) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => WAIT,
        };
        let mut list: EventList = look::get(socket, &format!("/events?since={}&wait={wait}", self.since))?;
        if self.began != 0.0 && list.began != self.began {
            // Another process, which counts from 1.
            list = look::get(socket, "/events?since=0&wait=0")?;
        }
        self.began = list.began;
        if list.lost > 0 && self.since > 0 {
            output::note(&format!("pontoon: {} events were lost: they came faster than they were read", list.lost));
        }
        self.since = list.next;
        list.events.iter().for_each(|event| self.print(event));
        self.print_drops();
        Ok(!list.events.is_empty())
    }

    fn print(&mut self, event: &EventLine) {
        match object(event, self.options.view.format()) {
            Some(text) => output::print(&text),
            None => {
                let unknown = event.endpoint.as_ref().is_some_and(|id| !self.names.knows(id));
                if self.options.follow && unknown && self.names.missing.is_none() {
                    self.names = Names::ask(&self.options.view.docker);
                }
                output::line(&show::event(event, &self.names));
            }
        }
    }

    /// What was dropped since the last call.
    fn print_drops(&mut self) {
        if !self.options.drops {
            return;
        }
        let Ok(now) = look::dropped(&self.options.view) else { return };
        let shown = show::drops(&self.dropped, &now, drops::meaning);
        for line in shown.json["drops"].as_array().into_iter().flatten() {
            let mut line = line.clone();
            line["kind"] = "drop".into();
            match object(&line, self.options.view.format()) {
                Some(text) => output::print(&text),
                None => output::line(&format!(
                    "{:<24}  drop     {} packets  {}  {}",
                    "",
                    line["packets"],
                    line["chain"].as_str().unwrap_or_default(),
                    line["meaning"].as_str().unwrap_or_default()
                )),
            }
        }
        self.dropped = now;
    }
}
