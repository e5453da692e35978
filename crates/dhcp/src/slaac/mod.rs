//! Addresses that are formed with the prefixes of routers (RFC 4862), on behalf of others.
//!
//! ```text
//!   Idle --start--> Asking --a router offers a prefix--> Bound
//!                     ^                                   |
//!                     +--- no router has confirmed it ----+
//! ```
//! A client forms the address that the kernel of its container forms: of the prefix and the hardware address (EUI-64, RFC
//! 4291, appendix A). So the container has one address of a prefix, not two. Where hardware addresses are shared, or
//! another host has that address, it is formed of the prefix and the client's identity, and is as stable (after RFC 7217).
//!
//! An address stays as long as its prefix is preferred. Then one of another prefix is formed, if a router offers any.
//!
//! Pure: the time is passed in, and what is to be sent is returned.

mod routers;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::client::{Notice, Time, below};
use routers::after;
pub use routers::{Offer, Routers};

/// The first repetition of a solicitation (RFC 4861, 10), and the longest time between two.
const FIRST: Time = 4_000;
const LONGEST: Time = 60_000;
/// The largest deviation of a repetition.
const JITTER: Time = 1_000;
/// The shortest time between two exchanges of a client's address: one that forges advertisements must not make it write without end.
const STEADY: Time = 60_000;
/// A shorter time than this to the end of an address is not accepted from an advertisement, which anybody can forge; the
/// end comes then at the latest (RFC 4862, 5.5.3).
const TWO_HOURS: Time = 7_200_000;
/// Most routers that are remembered for a message to the user.
const SEEN: usize = 8;

/// What an address is formed of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Its hardware address, if no other client on the network has the same.
    pub hardware: Option<[u8; 6]>,
    /// A number that no other client has.
    pub stable: u64,
}

/// An address with its terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The address; its prefix has 64 bits.
    pub address: Ipv6Addr,
    /// The router that announced the prefix last.
    pub router: Ipv6Addr,
    /// When it did.
    pub granted: Time,
    /// When the address ends; `MAX` if never.
    pub expires: Time,
    /// When new connections should not use it any more; not later than it ends.
    pub deprecates: Time,
    /// The MTU of the network, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
}

impl Held {
    /// When a router is asked whether it is still so: before the end, and rarely, because routers say so by themselves.
    fn renews(&self) -> Time {
        match self.deprecates.min(self.expires) {
            Time::MAX => Time::MAX,
            end => self.granted + end.saturating_sub(self.granted) / 4 * 3,
        }
    }

    /// What does not differ between two equal advertisements.
    fn terms(&self) -> impl PartialEq {
        let lasts = |end: Time| if end == Time::MAX { end } else { end.saturating_sub(self.granted) };
        (lasts(self.expires), lasts(self.deprecates), self.router, self.mtu, self.dns.clone())
    }
}

/// What was seen on the network since the client last had an address, for a message to the user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Solicitations sent.
    pub sent: u32,
    /// Routers that offered no prefix.
    pub routers: BTreeSet<Ipv6Addr>,
    /// Whether one of them told to use DHCPv6.
    pub managed: bool,
    /// The address that another host had.
    pub declined: Option<Ipv6Addr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asking { next: Time, tries: u32 },
    Bound,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Client {
    identity: Identity,
    state: State,
    held: Option<Held>,
    /// The terms that were recorded last.
    recorded: Option<Held>,
    /// The address that it had before.
    wanted: Option<Ipv6Addr>,
    /// How many addresses other hosts had.
    declined: u32,
    /// Before this time the address is not exchanged for one of another prefix.
    steady: Time,
    expired: bool,
    random: u64,
    /// See [`Seen`].
    pub seen: Seen,
}

impl Client {
    /// A client without an address, which had `wanted` before. It does nothing before [`Client::start`].
    pub fn new(identity: Identity, wanted: Option<Ipv6Addr>, seed: u64) -> Self {
        Self {
            identity,
            state: State::Idle,
            held: None,
            recorded: None,
            wanted,
            declined: 0,
            steady: 0,
            expired: false,
            random: seed | 1,
            seen: Seen::default(),
        }
    }

    /// A client that has an address.
    pub fn resume(identity: Identity, held: Held, seed: u64) -> Self {
        let state = State::Bound;
        Self {
            state,
            recorded: Some(held.clone()),
            held: Some(held.clone()),
            ..Self::new(identity, Some(held.address), seed)
        }
    }

    /// Changes what the next address is formed of.
    pub fn identify(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Its address, which may have ended.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Its address if it is valid.
    pub fn valid(&self, now: Time) -> Option<&Held> {
        self.held.as_ref().filter(|held| now < held.expires)
    }

    /// Whether it neither has an address nor tries to get one.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Begins to obtain an address, unless it has one or is about to.
    pub fn start(&mut self, now: Time) {
        if self.state == State::Idle {
            self.seen = Seen::default();
            self.ask(now);
        }
    }

    /// Has a valid address confirmed now, before its time.
    pub fn confirm(&mut self, now: Time) {
        if self.state == State::Bound {
            self.ask(now);
        }
    }

    /// Ends a search for which no request waits any more. An address stays.
    pub fn stop(&mut self) {
        if self.held.is_none() {
            self.state = State::Idle;
        }
    }

    /// Gives the address up and stops. The address is remembered.
    pub fn release(&mut self) {
        (self.state, self.held, self.recorded) = (State::Idle, None, None);
    }

    /// Another host has the address: the next one is another.
    pub fn decline(&mut self, now: Time) {
        let Some(held) = self.held.take() else { return };
        (self.wanted, self.recorded, self.seen.declined) = (None, None, Some(held.address));
        self.declined += 1;
        self.ask(now);
    }

    fn ask(&mut self, now: Time) {
        self.state = State::Asking { next: now, tries: 0 };
    }

    /// When [`Client::poll`] is to be called next.
    pub fn deadline(&self) -> Time {
        let expires = self.held.as_ref().filter(|_| !self.expired).map_or(Time::MAX, |held| held.expires);
        match self.state {
            State::Idle => Time::MAX,
            State::Asking { next, .. } => next.min(expires),
            State::Bound => self.held.as_ref().map_or(Time::MAX, Held::renews).min(expires),
        }
    }

    /// Does what is due. Returns whether routers are to be asked, and what is to be reported.
    pub fn poll(&mut self, now: Time) -> (bool, Option<Notice>) {
        if now < self.deadline() {
            return (false, None);
        }
        let mut notice = None;
        if !self.expired && self.held.as_ref().is_some_and(|held| now >= held.expires) {
            (self.expired, notice) = (true, Some(Notice::Expired));
        }
        if self.state == State::Bound {
            self.ask(now);
        }
        let State::Asking { next, tries } = self.state else { return (false, notice) };
        if now < next {
            return (false, notice);
        }
        let pause = FIRST.saturating_mul(1 << tries.min(10)).min(LONGEST);
        let next = now + pause - JITTER + below(&mut self.random, 2 * JITTER + 1);
        self.state = State::Asking { next, tries: tries + 1 };
        self.seen.sent = self.seen.sent.saturating_add(1);
        (true, notice)
    }

    /// Considers what routers have said: after each advertisement, and once after the start. Returns what is to be
    /// recorded and reported.
    pub fn consider(&mut self, routers: &Routers, now: Time) -> Option<Notice> {
        if self.state == State::Idle {
            return None;
        }
        let offers = routers.offers(now);
        let of_held =
            self.held.as_ref().and_then(|held| offers.iter().find(|offer| offer.prefix == prefix(held.address)));
        if let Some(offer) = of_held {
            self.renew(offer);
        }
        let is_good = |held: &Held| now < held.deprecates.min(held.expires);
        if !self.held.as_ref().is_some_and(is_good) && (now >= self.steady || self.held.is_none()) {
            self.choose(&offers, now);
        }
        if self.held.is_none() {
            for said in routers.said(now).into_iter().take(SEEN) {
                self.seen.managed |= said.managed;
                self.seen.routers.insert(said.router);
            }
        }
        self.changed(now)
    }

    /// Takes over the terms of an advertisement that is later than the known ones.
    fn renew(&mut self, offer: &Offer) {
        let Some(held) = self.held.as_mut().filter(|held| held.granted < offer.at) else { return };
        let said = after(offer.at, offer.valid);
        let expires = if said > held.expires || said > offer.at.saturating_add(TWO_HOURS) {
            said
        } else {
            // Shorter than it was.
            held.expires.min(offer.at.saturating_add(TWO_HOURS))
        };
        let deprecates = after(offer.at, offer.preferred).min(expires);
        let Offer { router, at: granted, mtu, dns, .. } = offer.clone();
        *held = Held { address: held.address, router, granted, expires, deprecates, mtu, dns };
        (self.expired, self.state) = (false, State::Bound);
    }

    /// Forms the address of a preferred prefix: of that of the remembered address, else a global one, else that which is
    /// preferred for the longest time.
    fn choose(&mut self, offers: &[Offer], now: Time) {
        let wanted = self.wanted.map(prefix);
        let is_global = |offer: &Offer| offer.prefix.octets()[0] >> 5 == 1;
        let rank = |offer: &&Offer| (wanted == Some(offer.prefix), is_global(offer), after(offer.at, offer.preferred));
        let Some(offer) = offers.iter().filter(|offer| offer.is_preferred(now)).max_by_key(rank) else { return };
        let Offer { prefix: of, router, at: granted, valid, preferred, mtu, dns } = offer.clone();
        let (expires, deprecates) = (after(granted, valid), after(granted, preferred));
        let address = self.wanted.filter(|_| wanted == Some(of)).unwrap_or_else(|| self.form(of));
        if self.held.is_some() {
            self.steady = now + STEADY;
        }
        (self.wanted, self.expired, self.state) = (Some(address), false, State::Bound);
        self.held = Some(Held { address, router, granted, expires, deprecates, mtu, dns });
        self.seen = Seen::default();
    }

    /// The address of a prefix.
    fn form(&self, prefix: Ipv6Addr) -> Ipv6Addr {
        let id = match self.identity.hardware.filter(|_| self.declined == 0) {
            Some([a, b, c, d, e, f]) => u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]),
            None => self.stable(prefix),
        };
        Ipv6Addr::from(u128::from(prefix) | u128::from(id))
    }

    /// An identifier of the identity on the network of the prefix; each declined address changes it.
    fn stable(&self, prefix: Ipv6Addr) -> u64 {
        let network = (u128::from(prefix) >> 64) as u64;
        let mut id = mix(self.identity.stable ^ mix(network).wrapping_add(self.declined.into()));
        // Not the router's own (RFC 4291, 2.6.1) and no other reserved one (RFC 5453).
        while id == 0 || id >> 24 == 0x0002_005e_fffe || id >> 7 == 0xfdff_ffff_ffff_ff80 >> 7 {
            id = mix(id.wrapping_add(1));
        }
        id
    }

    /// Whether there is something to record: another address, or terms that differ from the recorded ones, which is at
    /// most once in a minute.
    fn changed(&mut self, now: Time) -> Option<Notice> {
        let held = self.held.as_ref()?;
        let same = self.recorded.as_ref().is_some_and(|recorded| {
            let fresh = now < recorded.granted.saturating_add(STEADY);
            let quarter = recorded.expires.saturating_sub(recorded.granted) / 4;
            let long = now < recorded.granted.saturating_add(quarter);
            recorded.address == held.address && (fresh || long && recorded.terms() == held.terms())
        });
        if same {
            return None;
        }
        self.recorded.clone_from(&self.held);
        Some(Notice::Granted)
    }
}

fn prefix(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(address) >> 64 << 64)
}

fn mix(seed: u64) -> u64 {
    let mut state = seed;
    crate::client::draw(&mut state)
}

#[cfg(test)]
mod tests;
