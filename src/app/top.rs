//! `pontoon top`: reads the counters of the host's links again and again, with the objects of the daemon and the names of
//! the engine.

use std::time::{Duration, Instant};

use super::inspect::{blind, known_names};
use super::look::{self, Need};
use super::refresh::{Look, refresh};
use super::show::traffic;
use crate::cli::Top;
use crate::names::Names;
use crate::show::{self, Facts, Traffic};
use crate::terminal;

/// What the previous look has seen.
struct Looker<'a> {
    options: &'a Top,
    names: Names,
    before: Traffic,
    at: Instant,
}

/// Runs the command; returns the exit code.
pub fn run(options: &Top) -> u8 {
    // Before anything is measured, so that an error comes at once.
    if let Err(why) = look::status(&options.view, Need::Objects) {
        return blind(&why);
    }
    let pause = Duration::from_secs(options.seconds);
    let names = known_names(&options.view.docker);
    let mut looker = Looker { options, names, before: traffic(), at: Instant::now() };
    if !terminal::wait(pause) {
        return 0;
    }
    refresh(options.view.format(), (!options.once).then_some(pause), || looker.look())
}

impl Looker<'_> {
    /// The rates since the last call.
    fn look(&mut self) -> Look {
        let view = &self.options.view;
        let (status, down) = look::status(view, Need::Objects)?;
        let mut endpoints = status.networks.iter().flat_map(|network| &network.endpoints);
        // The engine is asked again only when it may know more.
        if self.names.missing.is_none() && endpoints.any(|endpoint| !self.names.knows(endpoint.id.as_str())) {
            self.names = known_names(&view.docker);
        }
        let (now, at) = (traffic(), Instant::now());
        let facts = Facts { status: &status, names: &self.names, traffic: &now, events: &[], down: down.as_deref() };
        let shown = show::top(&facts, &self.before, at.duration_since(self.at), self.options.lines);
        (self.before, self.at) = (now, at);
        Ok((shown, 0))
    }
}
