//! The messages of a client, and when they are repeated.

use super::{Client, FIRST, JITTER, Output, Sent, Time};
use crate::frame::Destination;
use crate::lease::Lease;
use crate::message::{Kind, Message, option};
use std::net::Ipv4Addr;

/// Largest message that it accepts, in bytes.
const LONGEST_MESSAGE: u16 = 1_472;
/// What it asks servers for. Routes come before routers (RFC 3442).
const PARAMETERS: [u8; 12] = [
    option::SUBNET_MASK,
    option::ROUTES,
    option::ROUTES_OF_MICROSOFT,
    option::ROUTERS,
    option::DNS_SERVERS,
    option::DOMAIN,
    option::MTU,
    option::NTP_SERVERS,
    option::SEARCH,
    option::LEASE_TIME,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
];

impl Client {
    pub(super) fn sent(&mut self, now: Time, patience: Time) -> Sent {
        let xid = (self.draw() >> 32) as u32;
        let next =
            if patience >= FIRST { now + patience - JITTER + self.below(2 * JITTER + 1) } else { now + patience };
        Sent { xid, began: now, at: now, next, tries: 1 }
    }

    /// The next retransmission: twice as late each time, with jitter.
    pub(super) fn again(&mut self, sent: Sent, now: Time, first: Time, longest: Time) -> Sent {
        let pause = first.saturating_mul(1 << sent.tries.min(10)).min(longest);
        let jitter = JITTER.min(first / 4);
        let next = now + pause - jitter + self.below(2 * jitter + 1);
        Sent { at: now, next, tries: sent.tries + 1, ..sent }
    }

    pub(super) fn discover(&mut self, sent: Sent, now: Time) -> Output {
        let mut message = self.message(Kind::Discover, sent, now);
        if let Some(address) = self.wanted {
            message.set(option::REQUESTED_ADDRESS, address.octets());
        }
        self.send(message)
    }

    pub(super) fn request(&mut self, sent: Sent, now: Time, offer: &Lease) -> Output {
        let mut message = self.message(Kind::Request, sent, now);
        message.set(option::REQUESTED_ADDRESS, offer.address.octets());
        message.set(option::SERVER, offer.server.octets());
        self.send(message)
    }

    pub(super) fn reboot(&mut self, sent: Sent, now: Time, address: Ipv4Addr) -> Output {
        let mut message = self.message(Kind::Request, sent, now);
        message.set(option::REQUESTED_ADDRESS, address.octets());
        self.send(message)
    }

    pub(super) fn send(&mut self, message: Message) -> Output {
        self.seen.sent = self.seen.sent.saturating_add(1);
        Output::Send(Box::new(message), Destination::Broadcast)
    }

    pub(super) fn message(&self, kind: Kind, sent: Sent, now: Time) -> Message {
        let identity = &self.identity;
        let mut message = Message::of_client(kind, sent.xid, identity.hardware);
        message.secs = u16::try_from(now.saturating_sub(sent.began) / 1000).unwrap_or(u16::MAX);
        if !identity.client_id.is_empty() {
            message.set(option::CLIENT_ID, identity.client_id.clone());
        }
        if matches!(kind, Kind::Discover | Kind::Request) {
            message.set(option::PARAMETERS, PARAMETERS);
            message.set(option::LONGEST_MESSAGE, LONGEST_MESSAGE.to_be_bytes());
            if let Some(name) = &identity.hostname {
                message.set(option::HOSTNAME, name.as_bytes());
            }
            if !identity.vendor.is_empty() {
                message.set(option::VENDOR_CLASS, identity.vendor.as_bytes());
            }
        }
        message
    }

    fn draw(&mut self) -> u64 {
        draw(&mut self.random)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        below(&mut self.random, bound)
    }
}

/// The next number of a series: SplitMix64.
pub(crate) fn draw(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The next number of a series, less than `bound`.
pub(crate) fn below(random: &mut u64, bound: u64) -> u64 {
    draw(random) % bound.max(1)
}
