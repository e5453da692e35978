//! Whether lists that changed still allow the flows that exist, as far as addresses, protocols and ports decide.
//!
//! Pure. The driver collects what is allowed, the kernel's implementation asks about each flow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Policy;
use super::access::{Access, NAMES_PORT, Place, Range, Way};
use crate::model::access::Transport;

/// The lower end of the ports that clients use: those below belong to servers (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: u16 = 32_768;

/// What may be exchanged with whom; without a range of peers, with the host.
type Rule = (Transport, Option<Range>);

/// What the endpoints whose lists changed may exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// All addresses of these endpoints.
    concerned: BTreeSet<IpAddr>,
    restricted: BTreeSet<(Way, IpAddr)>,
    /// What is allowed to one address.
    own: BTreeMap<(Way, IpAddr), Vec<Rule>>,
    /// What is allowed to several.
    shared: Vec<(Way, Range, Rule)>,
}

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its address, behind any translation.
    pub address: IpAddr,
    /// Its port; 0 for protocols without ports.
    pub port: u16,
    /// Whether it is an address of this host.
    pub is_host: bool,
}

impl Verdicts {
    /// The verdicts about endpoints with these addresses, of the statements that are in force.
    pub fn new<'a>(concerned: BTreeSet<IpAddr>, statements: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut verdicts = Self { concerned, ..Self::default() };
        for statement in statements {
            match statement {
                Policy::Access(Access::Restricted(way, address)) => {
                    verdicts.restricted.insert((*way, *address));
                }
                Policy::Access(Access::Allowed(Place::Routed, way, own, transport, peer)) => {
                    verdicts.add(*way, *own, (*transport, Some(*peer)));
                }
                Policy::Access(Access::AllowedHost(way, own, transport)) => {
                    verdicts.add(*way, *own, (*transport, None))
                }
                _ => {}
            }
        }
        verdicts
    }

    fn add(&mut self, way: Way, own: Range, rule: Rule) {
        match own.0 == own.1 {
            true if self.concerned.contains(&own.0) => self.own.entry((way, own.0)).or_default().push(rule),
            true => {}
            false => self.shared.push((way, own, rule)),
        }
    }

    /// Also allows an endpoint to send this to a peer, as the names in its list do.
    pub fn admit(&mut self, own: IpAddr, peer: IpAddr, transport: Transport) {
        self.add(Way::Egress, (own, own), (transport, Some((peer, peer))));
    }

    /// The addresses of the endpoints.
    pub fn concerned(&self) -> &BTreeSet<IpAddr> {
        &self.concerned
    }

    /// Whether the client may still send this to the server. Of protocols without ports, the server's port is 0.
    pub fn allows(&self, protocol: u8, client: End, server: End) -> bool {
        let may = |way: Way, own: End, peer: End| {
            if !self.concerned.contains(&own.address) || !self.restricted.contains(&(way, own.address)) {
                return true;
            }
            let own_rules = self.own.get(&(way, own.address)).into_iter().flatten();
            let within = |range: &Range| {
                range.0.is_ipv4() == own.address.is_ipv4() && range.0 <= own.address && own.address <= range.1
            };
            let shared = self.shared.iter().filter(|(of, range, _)| *of == way && within(range)).map(|(.., rule)| rule);
            own_rules.chain(shared).any(|rule| covers(rule, protocol, server.port, peer))
        };
        let queries = server.is_host && server.port == NAMES_PORT;
        queries || (may(Way::Egress, client, server) && may(Way::Ingress, server, client))
    }

    /// The same for a flow of which it is not known who opened it: a client has a high port, and a flow of which that
    /// does not tell must be allowed either way.
    pub fn allows_either(&self, protocol: u8, one: End, other: End) -> bool {
        let (there, back) = (self.allows(protocol, one, other), self.allows(protocol, other, one));
        match (one.port >= EPHEMERAL, other.port >= EPHEMERAL) {
            (true, false) => there,
            (false, true) => back,
            _ => there && back,
        }
    }
}

fn covers((transport, range): &Rule, protocol: u8, port: u16, peer: End) -> bool {
    let (protocols, ports) = (transport.protocols, transport.ports);
    let peers = match range {
        Some((first, last)) => {
            !peer.is_host
                && first.is_ipv4() == peer.address.is_ipv4()
                && *first <= peer.address
                && peer.address <= *last
        }
        None => peer.is_host,
    };
    peers && protocols.0 <= protocol && protocol <= protocols.1 && ports.0 <= port && port <= ports.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(address: &str, port: u16) -> End {
        End { address: address.parse().unwrap(), port, is_host: address == "10.1.0.1" }
    }

    fn verdicts() -> Verdicts {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let tcp = |first, last| Transport { protocols: (6, 6), ports: (first, last) };
        let (own, pool) = ((ip("10.1.0.2"), ip("10.1.0.2")), (ip("10.1.0.0"), ip("10.1.0.255")));
        let net = (ip("192.0.2.0"), ip("192.0.2.255"));
        let statements = [
            Access::Restricted(Way::Egress, own.0),
            Access::Allowed(Place::Routed, Way::Egress, own, tcp(443, 443), net),
            Access::Allowed(Place::Routed, Way::Egress, pool, tcp(80, 80), pool),
            Access::AllowedHost(Way::Egress, own, tcp(22, 22)),
        ];
        let mut verdicts = Verdicts::new([own.0].into(), &statements.map(Policy::Access));
        verdicts.admit(own.0, ip("198.51.100.1"), tcp(443, 443));
        verdicts
    }

    #[test]
    fn a_flow_is_allowed_if_its_client_may_open_it_now() {
        let verdicts = verdicts();
        let client = end("10.1.0.2", 40_000);
        for (server, port, expected) in [
            ("192.0.2.7", 443, true),
            ("192.0.2.7", 80, false),
            ("198.51.100.1", 443, true),
            ("198.51.100.2", 443, false),
            ("10.1.0.9", 80, true),
            ("10.1.0.9", 81, false),
            ("10.1.0.1", 22, true),
            ("10.1.0.1", 80, false),
            ("10.1.0.1", NAMES_PORT, true),
            ("10.1.0.9", NAMES_PORT, false),
        ] {
            assert_eq!(verdicts.allows(6, client, end(server, port)), expected, "{server}:{port}");
        }
        assert!(!verdicts.allows(17, client, end("192.0.2.7", 443)));
        // What others send to it is open, and others are not concerned.
        assert!(verdicts.allows(6, end("10.1.0.9", 40_000), end("10.1.0.2", 5)));
        assert!(verdicts.allows(6, end("10.1.0.9", 40_000), end("192.0.2.7", 5)));
    }

    #[test]
    fn who_opened_a_flow_is_told_by_the_ports_or_else_both_must_be_allowed() {
        let verdicts = verdicts();
        let one = |port| end("10.1.0.2", port);
        let other = |port| end("10.1.0.9", port);
        for (own, peer, expected) in
            [(40_000, 81, false), (40_000, 80, true), (81, 40_000, true), (81, 82, false), (40_000, 40_001, false)]
        {
            assert_eq!(verdicts.allows_either(6, one(own), other(peer)), expected, "{own} {peer}");
            assert_eq!(verdicts.allows_either(6, other(peer), one(own)), expected, "{own} {peer}, the other way");
        }
    }
}
