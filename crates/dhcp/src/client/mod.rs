//! The client: obtains, keeps and gives up the lease of one identity.
//!
//! ```text
//!              remembered address                      no address
//!   Idle ----------------------------> Waiting <---------------------- NAK, declined, no answer
//!                                       |     |
//!                         turn to reboot|     |turn to discover
//!                                       v     v
//!                                Rebooting   Selecting --OFFER--> Requesting
//!                                       |                             |
//!                                      ACK                           ACK
//!                                       v                             v
//!                                     Bound <-------------------------+
//!                                      | ^
//!                                   T1 | | ACK
//!                                      v |
//!                                    Renewing --> expired: DISCOVER
//! ```
//!
//! A client does not speak before it is its turn ([`crate::pace`]), except to renew, decline and release. It renews as a
//! rebooting client does (RFC 2131, 3.2): by broadcast, without its address in `ciaddr`. The answer then comes by
//! broadcast as well, to the program that sends on behalf of the client, and never to the client itself, whose kernel would
//! reject it with an ICMP error.
//!
//! Pure: the time is passed in, and what is to be sent is returned.

mod outgoing;
mod value;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(crate) use outgoing::{below, draw};
pub use value::{Held, Identity, Notice, Output, Seen, Turn};

use crate::frame::Destination;
use crate::lease::Lease;
use crate::message::{Kind, Message, option};

/// Milliseconds of a clock that runs evenly, also while the host is suspended.
pub type Time = u64;

/// The first retransmission of a DISCOVER, and the longest time between two (RFC 2131, 4.1).
const FIRST: Time = 4_000;
const LONGEST: Time = 64_000;
/// The largest deviation of a retransmission.
const JITTER: Time = 1_000;
/// How long the confirmation of a remembered address may take before a new one is asked for.
const REBOOT_PATIENCE: Time = 1_500;
/// The first retransmission of a REQUEST, and how often it is sent before everything begins again.
const REQUEST_FIRST: Time = 1_000;
const REQUEST_TRIES: u32 = 4;
/// The wait after a second address in a row was declined (RFC 2131, 3.1).
const DECLINE_PAUSE: Time = 10_000;
/// Bounds of the time between two attempts to renew (RFC 2131, 4.4.5 has the longest; short leases need a shorter one).
const RENEW_SHORTEST: Time = 4_000;
const RENEW_LONGEST: Time = 60_000;
/// Most servers that are remembered for a message to the user.
const SEEN: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Waiting { turn: Turn, since: Time, not_before: Time },
    Rebooting(Sent),
    Selecting(Sent),
    Requesting(Sent, Box<Lease>),
    Bound,
    Renewing(Sent),
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    xid: u32,
    /// When the exchange began.
    began: Time,
    /// When it was last sent.
    at: Time,
    /// When it is to be sent again.
    next: Time,
    tries: u32,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Client {
    identity: Identity,
    state: State,
    held: Option<Held>,
    /// The address to ask for.
    wanted: Option<Ipv4Addr>,
    /// When it is to be renewed, with its jitter.
    renews: Time,
    /// Whether `wanted` is an address that it had, so that a server may confirm it.
    had: bool,
    declined: u32,
    random: u64,
    /// See [`Seen`].
    pub seen: Seen,
}

impl Client {
    /// A client without a lease, which had the address `wanted` before. It does nothing before [`Client::start`]. `seed`
    /// must be unpredictable to other hosts.
    pub fn new(identity: Identity, wanted: Option<Ipv4Addr>, seed: u64) -> Self {
        Self {
            identity,
            state: State::Idle,
            held: None,
            wanted,
            renews: Time::MAX,
            had: wanted.is_some(),
            declined: 0,
            random: seed | 1,
            seen: Seen::default(),
        }
    }

    /// A client that has a lease.
    pub fn resume(identity: Identity, held: Held, seed: u64) -> Self {
        let mut client = Self::new(identity, Some(held.lease.address), seed);
        client.hold(held);
        client
    }

    /// Changes what is sent from now on.
    pub fn identify(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Its lease, which may have expired.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Its lease if it is valid.
    pub fn valid(&self, now: Time) -> Option<&Held> {
        self.held.as_ref().filter(|held| now < held.expires())
    }

    /// Whether it has a lease and nothing to do before that is to be renewed.
    pub fn is_bound(&self) -> bool {
        self.state == State::Bound
    }

    /// Since when it asks any server for an address, if it does: a server may work for seconds on that.
    pub fn discovers(&self) -> Option<Time> {
        match &self.state {
            State::Selecting(sent) | State::Requesting(sent, _) => Some(sent.began),
            _ => None,
        }
    }

    /// Whether it asks for its remembered address.
    pub fn is_rebooting(&self) -> bool {
        matches!(self.state, State::Rebooting(_))
    }

    /// What it waits for, and since when; `None` if it does not wait for its turn now.
    pub fn waits(&self, now: Time) -> Option<(Turn, Time)> {
        match self.state {
            State::Waiting { turn, since, not_before } if now >= not_before => Some((turn, since)),
            _ => None,
        }
    }

    /// Whether it neither has a lease nor tries to get one.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Begins to obtain a lease, unless it has one or is about to.
    pub fn start(&mut self, now: Time) {
        if self.state == State::Idle {
            self.seen = Seen::default();
            let turn = if self.had { Turn::Reboot } else { Turn::Discover };
            self.wait(turn, now, now);
        }
    }

    /// Has a valid lease confirmed now, before its time.
    pub fn confirm(&mut self, now: Time) {
        if self.state == State::Bound {
            self.renews = now;
        }
    }

    /// Prefers this address over the remembered one, for the next lease.
    pub fn prefer(&mut self, address: Ipv4Addr) {
        if self.wanted != Some(address) {
            (self.wanted, self.had) = (Some(address), false);
        }
    }

    /// Ends a search for which no request waits any more. A lease stays.
    pub fn stop(&mut self) {
        if self.held.is_none() {
            self.state = State::Idle;
        }
    }

    /// It is its turn to speak: see [`Client::waits`].
    pub fn take_turn(&mut self, now: Time) -> Vec<Output> {
        match (self.waits(now), self.wanted) {
            (Some((Turn::Reboot, _)), Some(address)) => {
                let sent = self.sent(now, REBOOT_PATIENCE);
                self.state = State::Rebooting(sent);
                vec![self.reboot(sent, now, address)]
            }
            (Some(_), _) => {
                let sent = self.sent(now, FIRST);
                self.state = State::Selecting(sent);
                vec![self.discover(sent, now)]
            }
            (None, _) => Vec::new(),
        }
    }

    /// When [`Client::poll`] is to be called next; a client that waits for its turn is not told here.
    pub fn deadline(&self) -> Time {
        match &self.state {
            State::Idle => Time::MAX,
            State::Waiting { not_before, .. } => *not_before,
            State::Bound => self.renews,
            State::Rebooting(sent) | State::Selecting(sent) | State::Requesting(sent, _) => sent.next,
            State::Renewing(sent) => sent.next.min(self.held.as_ref().map_or(Time::MAX, Held::expires)),
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time) -> Vec<Output> {
        if now < self.deadline() {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        match self.state.clone() {
            State::Idle | State::Waiting { .. } => {}
            State::Rebooting(_) => self.wait(Turn::Discover, now, now),
            State::Selecting(sent) => {
                let sent = self.again(sent, now, FIRST, LONGEST);
                self.state = State::Selecting(sent);
                outputs.push(self.discover(sent, now));
            }
            State::Requesting(sent, _) if sent.tries >= REQUEST_TRIES => self.wait(Turn::Discover, now, now),
            State::Requesting(sent, lease) => {
                let sent = self.again(sent, now, REQUEST_FIRST, LONGEST);
                outputs.push(self.request(sent, now, &lease));
                self.state = State::Requesting(sent, lease);
            }
            State::Bound | State::Renewing(_) if self.valid(now).is_none() => {
                // No server confirms it any more: perhaps another server has it, or another address.
                self.wait(Turn::Discover, now, now);
                outputs.push(Output::Notice(Notice::Expired));
            }
            State::Bound => {
                let sent = self.sent(now, 0);
                outputs.extend(self.renew(sent, now));
            }
            State::Renewing(sent) => outputs.extend(self.renew(Sent { tries: sent.tries + 1, ..sent }, now)),
        }
        outputs
    }

    /// Receives a message that came from the hardware address `from`.
    pub fn receive(&mut self, message: &Message, from: [u8; 6], now: Time) -> Vec<Output> {
        let Some(xid) = self.xid() else { return Vec::new() };
        if !message.is_reply || message.xid != xid || message.chaddr != self.identity.hardware {
            return Vec::new();
        }
        let (Some(kind), Some(server)) = (message.kind(), message.address(option::SERVER)) else { return Vec::new() };
        if !self.identity.servers.is_empty() && !self.identity.servers.contains(&server) {
            note(&mut self.seen.ignored, server);
            return Vec::new();
        }
        // An answer to a repeated DISCOVER may come at any time, so what counts is the type that the state expects.
        match (self.state.clone(), kind) {
            (State::Selecting(sent), Kind::Offer) => {
                let Some(lease) = Lease::of(message) else { return Vec::new() };
                note(&mut self.seen.offers, server);
                let next = now + REQUEST_FIRST;
                let sent = Sent { at: now, next, tries: 1, ..sent };
                let output = self.request(sent, now, &lease);
                self.state = State::Requesting(sent, Box::new(lease));
                vec![output]
            }
            (State::Requesting(sent, offer), Kind::Ack) if offer.server == server => {
                self.grant(message, sent, from, now)
            }
            (State::Requesting(_, offer), Kind::Nak) if offer.server == server => self.refuse(message, server, now),
            (State::Rebooting(sent) | State::Renewing(sent), Kind::Ack) => self.grant(message, sent, from, now),
            (State::Rebooting(_), Kind::Nak) => self.refuse(message, server, now),
            // Another server does not know the lease and may refuse it, until it is time to ask any server.
            (State::Renewing(_), Kind::Nak) if self.accepts_refusal(server, now) => self.refuse(message, server, now),
            _ => Vec::new(),
        }
    }

    /// Another host has the address of the lease: tells the server, and asks for another one.
    pub fn decline(&mut self, now: Time) -> Vec<Output> {
        let Some(held) = self.held.take() else { return Vec::new() };
        let Lease { address, server, .. } = held.lease;
        let sent = self.sent(now, 0);
        let mut message = self.message(Kind::Decline, sent, now);
        message.broadcast = false;
        message.set(option::REQUESTED_ADDRESS, address.octets());
        message.set(option::SERVER, server.octets());
        (self.wanted, self.had, self.seen.declined) = (None, false, Some(address));
        self.declined += 1;
        let pause = if self.declined > 1 { DECLINE_PAUSE } else { 0 };
        self.wait(Turn::Discover, now, now + pause);
        vec![Output::Send(Box::new(message), Destination::Broadcast)]
    }

    /// Gives the lease back and stops. The address is remembered.
    pub fn release(&mut self, now: Time) -> Vec<Output> {
        let valid = self.valid(now).is_some();
        self.state = State::Idle;
        let Some(Held { lease, hardware, .. }) = self.held.take().filter(|_| valid) else { return Vec::new() };
        let sent = self.sent(now, 0);
        let mut message = self.message(Kind::Release, sent, now);
        message.broadcast = false;
        message.ciaddr = lease.address;
        message.set(option::SERVER, lease.server.octets());
        let to = Destination::Server { hardware, server: lease.server, client: lease.address };
        vec![Output::Send(Box::new(message), to)]
    }

    fn accepts_refusal(&self, server: Ipv4Addr, now: Time) -> bool {
        self.held.as_ref().is_some_and(|held| held.lease.server == server || now >= held.rebinds())
    }

    fn grant(&mut self, message: &Message, sent: Sent, hardware: [u8; 6], now: Time) -> Vec<Output> {
        let Some(lease) = Lease::of(message) else { return Vec::new() };
        // The time runs from the request, not from its answer (RFC 2131, 4.4.1).
        let granted = sent.at.min(now);
        (self.wanted, self.had) = (Some(lease.address), true);
        self.hold(Held { lease, granted, hardware });
        vec![Output::Notice(Notice::Granted)]
    }

    fn refuse(&mut self, message: &Message, server: Ipv4Addr, now: Time) -> Vec<Output> {
        let text = message.text(option::TEXT).map(|text| text.chars().take(100).collect());
        self.seen.refusal = Some((server, text.clone()));
        self.held = None;
        self.wait(Turn::Discover, now, now);
        vec![Output::Notice(Notice::Refused { server, text })]
    }

    fn hold(&mut self, held: Held) {
        // Leases that were granted at the same time are renewed at different times.
        let spread = (held.renews().saturating_sub(held.granted) / 20).min(Time::from(u32::MAX));
        let back = self.below(spread + 1);
        self.renews = held.renews().saturating_sub(back);
        self.state = State::Bound;
        self.held = Some(held);
        self.seen = Seen::default();
    }

    fn renew(&mut self, sent: Sent, now: Time) -> Option<Output> {
        let held = self.held.as_ref()?;
        let (address, expires) = (held.lease.address, held.expires());
        let end = if now < held.rebinds() { held.rebinds() } else { expires };
        let half = end.saturating_sub(now) / 2;
        let shortest = (Time::from(held.lease.duration) * 1000 / 16).clamp(RENEW_SHORTEST, RENEW_LONGEST);
        let pause = half.clamp(shortest, RENEW_LONGEST.max(half)) + self.below(JITTER);
        let sent = Sent { at: now, next: now + pause, ..sent };
        self.state = State::Renewing(sent);
        Some(self.reboot(sent, now, address))
    }

    fn wait(&mut self, turn: Turn, since: Time, not_before: Time) {
        self.state = State::Waiting { turn, since, not_before };
    }

    fn xid(&self) -> Option<u32> {
        match &self.state {
            State::Rebooting(sent) | State::Selecting(sent) | State::Requesting(sent, _) | State::Renewing(sent) => {
                Some(sent.xid)
            }
            State::Idle | State::Waiting { .. } | State::Bound => None,
        }
    }
}

fn note(servers: &mut BTreeSet<Ipv4Addr>, server: Ipv4Addr) {
    if servers.len() < SEEN {
        servers.insert(server);
    }
}

#[cfg(test)]
pub(crate) mod tests;
