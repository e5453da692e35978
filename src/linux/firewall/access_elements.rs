//! Translates statements about who may talk to whom into elements of sets, and reads them back.
//!
//! Pure. Used by `elements`.

use std::net::IpAddr;

use nft::element::{Entry, Reader};
use nft::{Element, Value};

use super::sets::Set;
use crate::datapath::access::{Access, NAMES_PORT, Place, Range, Way};
use crate::model::access::Transport;
use crate::model::{Family, IfName};

/// The element of a set that a statement is.
pub fn element(access: &Access) -> (Set, Element<'_>) {
    let either = |address: &IpAddr, [four, six]: [Set; 2]| Family::of(address).choose(four, six);
    match access {
        Access::Restricted(way, address) => {
            let sets = way.choose(
                [Set::EgressRestricted4, Set::EgressRestricted6],
                [Set::IngressRestricted4, Set::IngressRestricted6],
            );
            (either(address, sets), Element::of_set(Value::Address(*address)))
        }
        Access::RestrictedPort(way, port) => {
            (way.choose(Set::EgressPorts, Set::IngressPorts), Element::of_set(Value::Link(port.as_str())))
        }
        Access::Audited(way, address) => {
            let sets =
                way.choose([Set::EgressAudited4, Set::EgressAudited6], [Set::IngressAudited4, Set::IngressAudited6]);
            (either(address, sets), Element::of_set(Value::Address(*address)))
        }
        Access::AuditedPort(way, port) => {
            (way.choose(Set::AuditedEgressPorts, Set::AuditedIngressPorts), Element::of_set(Value::Link(port.as_str())))
        }
        Access::TrackedPort(port) => (Set::TrackedPorts, Element::of_set(Value::Link(port.as_str()))),
        Access::Allowed(place, way, own, transport, peer) => {
            let sets = match (place, way) {
                (Place::Routed, Way::Egress) => [Set::EgressAllowed4, Set::EgressAllowed6],
                (Place::Routed, Way::Ingress) => [Set::IngressAllowed4, Set::IngressAllowed6],
                (Place::Bridged, Way::Egress) => [Set::BridgeEgress4, Set::BridgeEgress6],
                (Place::Bridged, Way::Ingress) => [Set::BridgeIngress4, Set::BridgeIngress6],
            };
            let [protocols, ports] = of_transport(transport);
            (either(&own.0, sets), Element::of_set([of_range(own), protocols, ports, of_range(peer)]))
        }
        Access::AllowedHost(way, own, transport) => {
            let sets = way.choose([Set::EgressHost4, Set::EgressHost6], [Set::IngressHost4, Set::IngressHost6]);
            let [protocols, ports] = of_transport(transport);
            (either(&own.0, sets), Element::of_set([of_range(own), protocols, ports]))
        }
        Access::Redirected(bridge, own, here) => {
            let key = [Value::Link(bridge.as_str()), Value::Address(*own)];
            let value = [Value::Address(*here), Value::Port(NAMES_PORT)];
            (either(own, [Set::Redirected4, Set::Redirected6]), Element::of_map(key, value))
        }
    }
}

fn of_range(range: &Range) -> Value<'static> {
    Value::Addresses(range.0, range.1)
}

fn of_transport(transport: &Transport) -> [Value<'static>; 2] {
    let (protocols, ports) = (transport.protocols, transport.ports);
    [Value::Protocols(protocols.0, protocols.1), Value::Ports(ports.0, ports.1)]
}

/// The statement that an entry represents; `None` for an entry that Pontoon never writes, and for other sets.
pub fn decode(set: Set, entry: &Entry) -> Option<Access> {
    use {Place::*, Way::*};
    let (place, way) = match set {
        Set::EgressAllowed4 | Set::EgressAllowed6 => (Some(Routed), Egress),
        Set::IngressAllowed4 | Set::IngressAllowed6 => (Some(Routed), Ingress),
        Set::BridgeEgress4 | Set::BridgeEgress6 => (Some(Bridged), Egress),
        Set::BridgeIngress4 | Set::BridgeIngress6 => (Some(Bridged), Ingress),
        Set::EgressHost4 | Set::EgressHost6 => (None, Egress),
        Set::IngressHost4 | Set::IngressHost6 => (None, Ingress),
        _ => return single(set, entry),
    };
    let family = set.family();
    let parts = |key: &mut Reader<'_>| {
        let (own, protocol, port) = (key.address(family)?, key.protocol()?, key.port()?);
        let peer = match place {
            Some(_) => Some(key.address(family)?),
            None => None,
        };
        Some((own, protocol, port, peer))
    };
    let (own, protocol, port, peer) = Reader::all(&entry.key, parts)?;
    let (last_own, last_protocol, last_port, last_peer) = Reader::all(entry.last.as_deref()?, parts)?;
    if own > last_own || protocol > last_protocol || port > last_port || peer > last_peer {
        return None;
    }
    let transport = Transport { protocols: (protocol, last_protocol), ports: (port, last_port) };
    Some(match place {
        Some(place) => Access::Allowed(place, way, (own, last_own), transport, (peer?, last_peer?)),
        None => Access::AllowedHost(way, (own, last_own), transport),
    })
}

fn single(set: Set, entry: &Entry) -> Option<Access> {
    let family = set.family();
    Reader::all(&entry.key, |key| {
        Some(match set {
            Set::EgressRestricted4 | Set::EgressRestricted6 => Access::Restricted(Way::Egress, key.address(family)?),
            Set::IngressRestricted4 | Set::IngressRestricted6 => Access::Restricted(Way::Ingress, key.address(family)?),
            Set::EgressPorts => Access::RestrictedPort(Way::Egress, link(key)?),
            Set::IngressPorts => Access::RestrictedPort(Way::Ingress, link(key)?),
            Set::EgressAudited4 | Set::EgressAudited6 => Access::Audited(Way::Egress, key.address(family)?),
            Set::IngressAudited4 | Set::IngressAudited6 => Access::Audited(Way::Ingress, key.address(family)?),
            Set::AuditedEgressPorts => Access::AuditedPort(Way::Egress, link(key)?),
            Set::AuditedIngressPorts => Access::AuditedPort(Way::Ingress, link(key)?),
            Set::TrackedPorts => Access::TrackedPort(link(key)?),
            Set::Redirected4 | Set::Redirected6 => {
                let here = Reader::all(&entry.value, |value| {
                    let address = value.address(family)?;
                    value.port().filter(|port| *port == NAMES_PORT).map(|_| address)
                })?;
                Access::Redirected(link(key)?, key.address(family)?, here)
            }
            _ => return None,
        })
    })
}

fn link(key: &mut Reader<'_>) -> Option<IfName> {
    IfName::parse(key.link()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Policy;
    use crate::linux::firewall::elements::{decode as decode_all, entries};

    #[test]
    fn an_entry_that_pontoon_never_writes_is_no_statement() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let range = |first: &str, last: &str| (ip(first), ip(last));
        let transport = Transport { protocols: (6, 6), ports: (80, 90) };
        let (own, peer) = (range("10.0.0.1", "10.0.0.9"), range("192.0.2.0", "192.0.2.7"));
        let access = Access::Allowed(Place::Routed, Way::Egress, own, transport, peer);
        let set = element(&access).0;
        let good = entries(&Policy::Access(access.clone()));
        assert_eq!(decode_all(set, &good), Some(vec![Policy::Access(access)]));
        let strange = |change: fn(&mut Entry)| {
            let mut bad = good.clone();
            change(&mut bad[0]);
            assert_eq!(decode_all(set, &bad), None, "{bad:?}");
        };
        strange(|entry| entry.last = None);
        strange(|entry| entry.key.truncate(12));
        strange(|entry| entry.key.push(0));
        strange(|entry| entry.last.as_mut().unwrap().push(0));
        let redirected = Access::Redirected(IfName::parse("pntb1").unwrap(), ip("10.0.0.2"), ip("10.0.0.1"));
        let mut elsewhere = entries(&Policy::Access(redirected));
        elsewhere[0].value[5] ^= 1;
        assert_eq!(decode_all(Set::Redirected4, &elsewhere), None, "another port");
        // An end before the start, in each field.
        strange(|entry| entry.key[3] = 10);
        strange(|entry| entry.key[4] = 7);
        strange(|entry| entry.key[8] = 1);
        strange(|entry| entry.key[15] = 8);
    }
}
