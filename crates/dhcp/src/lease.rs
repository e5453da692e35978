//! What a server grants: an address for a time, and how the network is used.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::message::{Message, option};

/// A lease time that never ends.
pub const FOR_EVER: u32 = u32::MAX;

/// Most routes, name servers and time servers that are kept of a message.
const MOST: usize = 64;

/// Longest text that is kept, in characters.
const LONGEST_TEXT: usize = 253;

/// The smallest MTU that is accepted, in bytes: every host accepts packets of this size (RFC 791).
const SMALLEST_MTU: u16 = 576;

/// A route that the server names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The destination, without host bits.
    pub destination: Ipv4Addr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The router; unspecified if the destination is on the link itself (RFC 3442).
    pub router: Ipv4Addr,
}

/// An address with its terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The prefix length of its subnet.
    pub prefix: u8,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// The router of the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Other routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The MTU of the network, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// The domain name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Time servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// How long it is valid, in seconds, or [`FOR_EVER`].
    pub duration: u32,
    /// When to renew it with its server, in seconds after it was granted (T1).
    pub renewal: u32,
    /// When to renew it with any server (T2).
    pub rebinding: u32,
}

impl Lease {
    /// The lease that an OFFER or ACK grants; `None` if no host can have the address, or the server or the time is
    /// missing.
    pub fn of(message: &Message) -> Option<Self> {
        let address = message.yiaddr;
        let server = message.address(option::SERVER).filter(|server| is_host(*server))?;
        let duration = message.number(option::LEASE_TIME).filter(|duration| *duration > 0)?;
        let prefix = match message.address(option::SUBNET_MASK) {
            Some(mask) => prefix_of(mask)?,
            None => class_of(address),
        };
        let mask = mask_of(prefix);
        let host = u32::from(address) & !mask;
        if !is_host(address) || prefix == 0 || prefix < 31 && (host == 0 || host == !mask) {
            return None;
        }
        let sensible = |time: &u32| *time > 0 && *time < duration;
        let scaled = |eighths: u64| (u64::from(duration) * eighths / 8) as u32;
        let mut renewal = message.number(option::RENEWAL_TIME).filter(sensible).unwrap_or(scaled(4));
        let mut rebinding = message.number(option::REBINDING_TIME).filter(sensible).unwrap_or(scaled(7));
        if renewal > rebinding {
            (renewal, rebinding) = (scaled(4), scaled(7));
        }
        let (gateway, routes) = routes_of(message);
        let most = |code| message.addresses(code).into_iter().filter(|ip| is_host(*ip)).take(MOST).collect();
        Some(Self {
            address,
            prefix,
            server,
            gateway,
            routes,
            mtu: mtu_of(message),
            dns: most(option::DNS_SERVERS),
            domain: message.text(option::DOMAIN).map(|text| text.chars().take(LONGEST_TEXT).collect()),
            ntp: most(option::NTP_SERVERS),
            duration,
            renewal,
            rebinding,
        })
    }

    /// Whether an address is in the subnet.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & mask_of(self.prefix) == 0
    }
}

/// The default route's router and the other routes. The list of routes supersedes the list of routers (RFC 3442).
fn routes_of(message: &Message) -> (Option<Ipv4Addr>, Vec<Route>) {
    let listed = [option::ROUTES, option::ROUTES_OF_MICROSOFT];
    let listed = listed.into_iter().find_map(|code| decode_routes(message.options.get(&code)?));
    match listed {
        Some(routes) => {
            let (defaults, mut others): (Vec<_>, Vec<_>) = routes.into_iter().partition(|route| route.prefix == 0);
            others.truncate(MOST);
            (defaults.first().map(|route| route.router).filter(|router| is_host(*router)), others)
        }
        None => (message.addresses(option::ROUTERS).into_iter().find(|router| is_host(*router)), Vec::new()),
    }
}

/// The routes of option 121; `None` if it is malformed.
fn decode_routes(mut bytes: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let [prefix, rest @ ..] = bytes {
        let significant = usize::from(*prefix).div_ceil(8);
        if *prefix > 32 {
            return None;
        }
        let (given, rest) = rest.split_at_checked(significant)?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut destination = [0; 4];
        destination.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        let destination = u32::from(Ipv4Addr::from(destination)) & mask_of(*prefix);
        routes.push(Route { destination: destination.into(), prefix: *prefix, router: (*router).into() });
        bytes = rest;
    }
    Some(routes)
}

fn mtu_of(message: &Message) -> Option<u16> {
    let bytes: [u8; 2] = message.options.get(&option::MTU)?.as_slice().try_into().ok()?;
    Some(u16::from_be_bytes(bytes)).filter(|mtu| *mtu >= SMALLEST_MTU)
}

fn mask_of(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let prefix = u32::from(mask).leading_ones() as u8;
    (mask_of(prefix) == u32::from(mask)).then_some(prefix)
}

/// The prefix length of an address's class, for a server that sends no mask (RFC 2132, 3.5, leaves it open).
fn class_of(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

/// Whether a host of a network can have the address.
fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    (1..224).contains(&first) && !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Kind;

    fn ack() -> Message {
        let mut message = Message::of_client(Kind::Ack, 1, [2; 6]);
        message.is_reply = true;
        message.yiaddr = [192, 0, 2, 17].into();
        message.set(option::SERVER, [192, 0, 2, 1]);
        message.set(option::LEASE_TIME, 800u32.to_be_bytes());
        message.set(option::SUBNET_MASK, [255, 255, 255, 0]);
        message.set(option::ROUTERS, [192, 0, 2, 254, 192, 0, 2, 253]);
        message
    }

    #[test]
    fn a_grant_is_read_with_times_by_default() {
        let lease = Lease::of(&ack()).unwrap();
        assert_eq!((lease.address.to_string(), lease.prefix), ("192.0.2.17".to_owned(), 24));
        assert_eq!((lease.duration, lease.renewal, lease.rebinding), (800, 400, 700));
        assert_eq!((lease.gateway, lease.mtu), (Some([192, 0, 2, 254].into()), None));
        assert!(lease.contains([192, 0, 2, 200].into()) && !lease.contains([192, 0, 3, 1].into()));
        let times = |t1: u32, t2: u32| {
            let mut message = ack();
            message.set(option::RENEWAL_TIME, t1.to_be_bytes());
            message.set(option::REBINDING_TIME, t2.to_be_bytes());
            let lease = Lease::of(&message).unwrap();
            (lease.renewal, lease.rebinding)
        };
        assert_eq!(times(100, 300), (100, 300));
        for (t1, t2) in [(0, 0), (900, 900), (750, 10), (u32::MAX, 800)] {
            assert_eq!(times(t1, t2), (400, 700), "{t1} {t2}");
        }
        let mut ever = ack();
        ever.set(option::LEASE_TIME, FOR_EVER.to_be_bytes());
        assert_eq!(Lease::of(&ever).unwrap().renewal, FOR_EVER / 2);
    }

    #[test]
    fn what_no_host_can_use_is_no_grant() {
        let with = |change: &dyn Fn(&mut Message)| {
            let mut message = ack();
            change(&mut message);
            Lease::of(&message)
        };
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.0", "192.0.2.255", "0.1.2.3"] {
            assert_eq!(with(&|message| message.yiaddr = address.parse().unwrap()), None, "{address}");
        }
        for mask in [[255, 0, 255, 0], [0, 0, 0, 0]] {
            assert_eq!(with(&|message| message.set(option::SUBNET_MASK, mask)), None, "{mask:?}");
        }
        assert_eq!(with(&|message| message.set(option::LEASE_TIME, [0; 4])), None);
        assert_eq!(with(&|message| drop(message.options.remove(&option::SERVER))), None);
        assert_eq!(with(&|message| drop(message.options.remove(&option::LEASE_TIME))), None);
        let classful = with(&|message| drop(message.options.remove(&option::SUBNET_MASK)));
        assert_eq!(classful.unwrap().prefix, 24);
        // The mask of some hosters, with a router outside of it.
        let one = with(&|message| message.set(option::SUBNET_MASK, [255; 4])).unwrap();
        assert_eq!((one.prefix, one.contains([192, 0, 2, 254].into())), (32, false));
    }

    #[test]
    fn listed_routes_supersede_routers() {
        let routes = [0, 192, 0, 2, 99, 25, 10, 1, 2, 128, 192, 0, 2, 7, 8, 172, 0, 0, 0, 0];
        for code in [option::ROUTES, option::ROUTES_OF_MICROSOFT] {
            let mut message = ack();
            message.set(code, routes);
            let lease = Lease::of(&message).unwrap();
            assert_eq!(lease.gateway, Some([192, 0, 2, 99].into()));
            let route = |to: [u8; 4], prefix, by: [u8; 4]| Route { destination: to.into(), prefix, router: by.into() };
            let expected = [route([10, 1, 2, 128], 25, [192, 0, 2, 7]), route([172, 0, 0, 0], 8, [0; 4])];
            assert_eq!(lease.routes, expected);
        }
        let mut without_default = ack();
        without_default.set(option::ROUTES, [8, 10, 192, 0, 2, 7]);
        assert_eq!(Lease::of(&without_default).unwrap().gateway, None);
        for malformed in [&[33, 1, 2, 3, 4, 5, 1, 1, 1, 1][..], &[24, 10, 1], &[8, 10, 192, 0, 2]] {
            let mut message = ack();
            message.set(option::ROUTES, malformed);
            assert_eq!(Lease::of(&message).unwrap().gateway, Some([192, 0, 2, 254].into()), "{malformed:?}");
        }
    }

    #[test]
    fn an_mtu_is_believed_if_a_host_can_use_it() {
        let mtu = |value: &[u8]| {
            let mut message = ack();
            message.set(option::MTU, value);
            Lease::of(&message).unwrap().mtu
        };
        assert_eq!((mtu(&1400u16.to_be_bytes()), mtu(&576u16.to_be_bytes())), (Some(1400), Some(576)));
        assert_eq!((mtu(&575u16.to_be_bytes()), mtu(&[5]), mtu(&[])), (None, None, None));
    }
}
