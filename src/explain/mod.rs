//! Explains whether one party reaches another, and which rule decides: the way of the first packet of a connection
//! through bridges, routes and the firewall, from the rules in the kernel.
//!
//! Pure: everything about the host is asked of a [`Look`]. `party` finds out who is meant, `walk` follows the packet,
//! `delivery` has its last part, `ways` says why and what helps, `report` prints. Called by the app, for
//! `pontoon explain`.

mod delivery;
pub mod party;
mod question;
pub mod report;
mod walk;
mod ways;

use std::net::IpAddr;

use serde::Serialize;

use crate::admin::status::Status;
use crate::datapath::passage::{Hook, ListenerSeen, Packet, PacketLink, Passage, RouteSeen};
use crate::model::Family;
use crate::names::Names;

pub use walk::explain;

/// Whether the packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// It arrives, and a program listens.
    Accepted,
    /// A rule or the kernel drops or rejects it.
    Dropped,
    /// It arrives at a server that does not listen on this address.
    RefusedByApp,
    /// It arrives, and no program listens.
    NoListener,
    /// No route leads to the destination.
    NoRoute,
    /// Something that cannot be seen or understood from here decides.
    Unknown,
}

impl Verdict {
    /// The words of the last line.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Accepted => "ACCEPTED",
            Verdict::Dropped => "DROPPED",
            Verdict::RefusedByApp => "REFUSED BY APP",
            Verdict::NoListener => "NO LISTENER",
            Verdict::NoRoute => "NO ROUTE",
            Verdict::Unknown => "UNKNOWN",
        }
    }

    /// The program's exit code: 0 reachable, 1 not reachable, 3 not known.
    pub fn code(self) -> u8 {
        match self {
            Verdict::Accepted => 0,
            Verdict::Unknown => 3,
            _ => 1,
        }
    }
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The chain, or what else decides.
    pub place: String,
    /// What it looks at: the rule, or the route.
    pub rule: String,
    /// What it decides.
    pub result: String,
    /// Packets that the rule counted so far, if it counts.
    pub packets: Option<u64>,
    /// Whether this step decides the verdict.
    pub decides: bool,
}

/// Something that helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What it does.
    pub what: String,
    /// The command or the option.
    pub how: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Version of this form.
    pub schema: u32,
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// Whether the packet arrives.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub why: String,
    /// The way of the packet.
    pub steps: Vec<Step>,
    /// What helps, if it does not arrive.
    pub ways: Vec<Remedy>,
}

/// What is asked of the host. Sandboxes are named by the engine's file of their namespace; `None` is the host.
pub trait Look {
    /// The route to an address; `Ok(None)` without one.
    ///
    /// # Errors
    /// Why it cannot be looked up, for example a sandbox that cannot be entered.
    fn route(&self, sandbox: Option<&str>, to: IpAddr) -> Result<Option<RouteSeen>, String>;

    /// The sockets of this protocol.
    ///
    /// # Errors
    /// As [`Look::route`].
    fn listeners(&self, sandbox: Option<&str>, protocol: u8) -> Result<Vec<ListenerSeen>, String>;

    /// The chains of a hook, until one ends the packet.
    fn pass(&self, hook: Hook, packet: &mut Packet) -> Vec<Passage>;

    /// A link of the host.
    fn link(&self, name: &str) -> Option<PacketLink>;

    /// Whether the link is an isolated port of a bridge.
    fn is_isolated(&self, port: &str) -> bool;

    /// Whether packets of a family that come in by this link are forwarded.
    fn forwards(&self, link: &str, family: Family) -> bool;

    /// Whether frames within this bridge also pass the chains of routed packets (br_netfilter).
    fn calls_iptables(&self, bridge: &str, family: Family) -> bool;

    /// The text of a rule of another program, if it can be printed.
    fn rule_text(&self, passage: &Passage) -> Option<String>;
}

/// What is known without the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Pontoon's networks and endpoints.
    pub status: &'a Status,
    /// The engine's names.
    pub names: &'a Names,
}

/// What a rule of Pontoon that drops means, by the beginning of its comment, and the remedy if the packet is wanted.
pub type Meanings = fn(&str) -> Option<(&'static str, &'static str)>;

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
