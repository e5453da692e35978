//! What the routers of a network have said, for all clients on it: a router answers to one solicitation in three seconds
//! (RFC 4861, 6.2.6), and many containers start at once.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use crate::advertisement::{Advertisement, FOR_EVER};
use crate::client::Time;

/// Most routers; the one that was silent for the longest time is forgotten first.
const MOST: usize = 8;

/// The longest time between two advertisements of a router, in milliseconds (RFC 4861, 6.2.1): what was said earlier is
/// no longer given to new clients.
const SILENT: Time = 1_800_000;

/// The time within which a second solicitation is not sent: an advertisement answers all of them.
const ASKED: Time = 1_000;

/// The routers of the network of a link.
#[derive(Debug, Clone, Default)]
pub struct Routers {
    heard: BTreeMap<Ipv6Addr, (Time, Advertisement)>,
    asked: Option<Time>,
}

/// A prefix with which addresses are formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The first 64 bits.
    pub prefix: Ipv6Addr,
    /// Its router.
    pub router: Ipv6Addr,
    /// When the router said so.
    pub at: Time,
    /// How long addresses are valid from then on, in seconds, or [`FOR_EVER`].
    pub valid: u32,
    /// How long they are preferred, likewise.
    pub preferred: u32,
    /// The MTU of the network.
    pub mtu: Option<u16>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
}

impl Offer {
    /// Whether new connections may use its addresses.
    pub fn is_preferred(&self, now: Time) -> bool {
        now < after(self.at, self.preferred)
    }
}

/// The time that is so many seconds later.
pub(super) fn after(at: Time, seconds: u32) -> Time {
    if seconds == FOR_EVER { Time::MAX } else { at.saturating_add(Time::from(seconds) * 1000) }
}

impl Routers {
    /// Receives an advertisement.
    pub fn hear(&mut self, advertisement: Advertisement, now: Time) {
        let router = advertisement.router;
        if self.heard.len() >= MOST && !self.heard.contains_key(&router) {
            let oldest = self.heard.iter().min_by_key(|(_, (at, _))| *at).map(|(router, _)| *router);
            oldest.and_then(|oldest| self.heard.remove(&oldest));
        }
        self.heard.insert(router, (now, advertisement));
    }

    /// Whether a solicitation is to be sent now; it counts as sent.
    pub fn ask(&mut self, now: Time) -> bool {
        let due = self.asked.is_none_or(|asked| now >= asked.saturating_add(ASKED));
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// What was said lately, last of all first.
    pub fn said(&self, now: Time) -> Vec<&Advertisement> {
        let mut said: Vec<_> = self.heard.values().filter(|(at, _)| now < at.saturating_add(SILENT)).collect();
        said.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        said.into_iter().map(|(_, advertisement)| advertisement).collect()
    }

    /// The prefixes of 64 bits with which hosts form addresses. Of several routers that announce one, the last one
    /// counts, as for a kernel.
    pub fn offers(&self, now: Time) -> Vec<Offer> {
        let mut offers: BTreeMap<Ipv6Addr, Offer> = BTreeMap::new();
        for (at, said) in self.heard.values().filter(|(at, _)| now < at.saturating_add(SILENT)) {
            for prefix in said.prefixes.iter().filter(|prefix| prefix.autonomous && prefix.length == 64) {
                let offer = Offer {
                    prefix: prefix.prefix,
                    router: said.router,
                    at: *at,
                    valid: prefix.valid,
                    preferred: prefix.preferred,
                    mtu: said.mtu,
                    dns: said.dns.clone(),
                };
                let later = offers.get(&prefix.prefix).is_some_and(|other| other.at > offer.at);
                if !later {
                    offers.insert(prefix.prefix, offer);
                }
            }
        }
        offers.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advertisement::tests::of;

    #[test]
    fn the_last_router_counts_and_a_flood_of_routers_is_bounded() {
        let mut routers = Routers::default();
        let mut second = of("2001:db8:1::", 100, 50);
        second.router = "fe80::2".parse().unwrap();
        routers.hear(second.clone(), 2_000);
        routers.hear(of("2001:db8:1::", 7200, 3600), 1_000);
        let [offer] = &routers.offers(2_000)[..] else { panic!("one prefix") };
        assert_eq!((offer.router, offer.valid, offer.at), (second.router, 100, 2_000));
        assert!(offer.is_preferred(51_999) && !offer.is_preferred(52_000));
        for n in 0..100u16 {
            let mut rogue = second.clone();
            rogue.router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n);
            routers.hear(rogue, 3_000);
        }
        assert_eq!(routers.said(3_000).len(), MOST);
        assert!(routers.offers(3_000 + SILENT).is_empty(), "too long ago");
    }

    #[test]
    fn prefixes_of_another_length_or_without_the_flag_are_not_offered() {
        let mut said = of("2001:db8:1::", 7200, 3600);
        said.prefixes.push(crate::advertisement::Prefix { length: 56, ..said.prefixes[0] });
        said.prefixes[0].autonomous = false;
        let mut routers = Routers::default();
        routers.hear(said, 0);
        assert_eq!(routers.offers(0), []);
    }

    #[test]
    fn one_solicitation_is_for_all() {
        let mut routers = Routers::default();
        assert_eq!([0, 1, 999, 1_000, 1_001].map(|now| routers.ask(now)), [true, false, false, true, false]);
    }
}
