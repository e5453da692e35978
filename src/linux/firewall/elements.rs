//! Translates the policy into elements of sets, and reads it back.
//!
//! Pure. Used by `tables`, and by `shell`, which prints elements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nft::element::{Entry, Reader};
use nft::{Element, Stateful, Value};

use super::access_elements;
pub use super::sets::Set;
use crate::datapath::Policy;
use crate::datapath::policy::Limit;
use crate::model::prefix::{self, of_span, span};
use crate::model::{Family, HostPort, IfName, Mac, Protocol, Published, Vid, Vni};

/// The element of a set that a statement of the policy is.
pub fn element(policy: &Policy) -> (Set, Element<'_>) {
    let either = |address: &IpAddr, four: Set, six: Set| Family::of(address).choose(four, six);
    match policy {
        Policy::Link(property, link) => (Set::of_property(*property), Element::of_set(name(link))),
        Policy::IntraNetwork(bridge) => (Set::IntraNetwork, Element::of_set([name(bridge), name(bridge)])),
        Policy::Isolated(bridge) => (Set::Isolated, Element::of_set([name(bridge), name(bridge)])),
        Policy::BridgeAddress(address) => {
            (either(address, Set::BridgeAddress4, Set::BridgeAddress6), Element::of_set(Value::Address(*address)))
        }
        Policy::Masquerade(subnet) => {
            (Family::of(&subnet.ip()).choose(Set::Masq4, Set::Masq6), Element::of_set(network(subnet)))
        }
        Policy::Published(port) => {
            let HostPort { protocol, address, port: number } = port.host;
            let (protocol, number) = (Value::Protocol(protocol.number()), Value::Port(number));
            let value = [Value::Address(port.container), Value::Port(port.container_port)];
            // The wildcard address has a map of its own instead of being an element among others.
            match address.is_unspecified() {
                true => {
                    (either(&address, Set::Published4, Set::Published6), Element::of_map([protocol, number], value))
                }
                false => (
                    either(&address, Set::PublishedAt4, Set::PublishedAt6),
                    Element::of_map([Value::Address(address), protocol, number], value),
                ),
            }
        }
        Policy::OpenPort(protocol, address, port) => (
            either(address, Set::OpenPort4, Set::OpenPort6),
            Element::of_set([Value::Address(*address), Value::Protocol(protocol.number()), Value::Port(*port)]),
        ),
        Policy::Unprotected(bridge, family) => {
            (family.choose(Set::Unprotected4, Set::Unprotected6), Element::of_set(name(bridge)))
        }
        Policy::Routed(bridge, family) => (family.choose(Set::Routed4, Set::Routed6), Element::of_set(name(bridge))),
        Policy::TrustedLink(from, to) => (Set::Trusted, Element::of_set([name(from), name(to)])),
        Policy::SourceNat(subnet, address) => (
            Family::of(&subnet.ip()).choose(Set::Snat4, Set::Snat6),
            Element::of_map(network(subnet), Value::Address(*address)),
        ),
        Policy::SourceFiltered(address) => {
            (either(address, Set::SourceFiltered4, Set::SourceFiltered6), Element::of_set(Value::Address(*address)))
        }
        Policy::AllowedSource(address, source) => (
            either(address, Set::AllowedSource4, Set::AllowedSource6),
            Element::of_set([Value::Address(*address), network(source)]),
        ),
        Policy::SourceMac(port, mac) => (Set::Macs, Element::of_set([name(port), Value::Mac(mac.bytes())])),
        Policy::SourceAddress(port, address) if address.is_unspecified() => {
            (either(address, Set::AnyAddr4, Set::AnyAddr6), Element::of_set(name(port)))
        }
        Policy::SourceAddress(port, address) => {
            (either(address, Set::Addr4, Set::Addr6), Element::of_set([name(port), Value::Address(*address)]))
        }
        Policy::Source(port, mac, address) => (
            either(address, Set::Source4, Set::Source6),
            Element::of_set([name(port), Value::Mac(mac.bytes()), Value::Address(*address)]),
        ),
        Policy::TrunkVlan(port, vid) => (Set::TrunkVlans, Element::of_set([Value::Port(vid.get()), name(port)])),
        Policy::TunnelPort(port) => (Set::TunnelPorts, Element::of_set(Value::Port(*port))),
        Policy::Tunnel(vni) => (Set::Tunnels, Element::of_set(Value::Mark(vni.get() << 8))),
        Policy::Peer(address) => (either(address, Set::Peers4, Set::Peers6), Element::of_set(Value::Address(*address))),
        Policy::TunnelAddress(address) => {
            (either(address, Set::TunnelAddress4, Set::TunnelAddress6), Element::of_set(Value::Address(*address)))
        }
        Policy::Gateway(tunnel, mac) => (Set::Gateways, Element::of_set([name(tunnel), Value::Mac(mac.bytes())])),
        Policy::GatewayAddress(tunnel, address) => {
            (either(address, Set::Gateway4, Set::Gateway6), Element::of_set([name(tunnel), Value::Address(*address)]))
        }
        Policy::BroadcastPort(port) => {
            let udp = Value::Protocol(Protocol::Udp.number());
            (Set::BroadcastPorts, Element::of_set([udp, Value::Port(*port)]))
        }
        Policy::Broadcast(link, at, own) => (
            Set::Broadcasts,
            Element::of_map([name(link), Value::Address((*at).into())], Value::Address((*own).into())),
        ),
        Policy::LimitedForwarding(family) => (Set::LimitedForwarding, Element::of_set(Value::Family(*family))),
        Policy::ForwardingLink(link, family) => {
            (family.choose(Set::ForwardingLink4, Set::ForwardingLink6), Element::of_set(name(link)))
        }
        Policy::Station(address) => {
            (either(address, Set::Station4, Set::Station6), Element::of_set(Value::Address(*address)))
        }
        Policy::Access(access) => access_elements::element(access),
        Policy::Limited(address, limit) => {
            let (four, six, limit) = match *limit {
                Limit::Connections(count) => (Set::ConnMax4, Set::ConnMax6, Stateful::Connections(count)),
                Limit::ConnectionRate { rate, burst } => {
                    (Set::ConnRate4, Set::ConnRate6, Stateful::Packets { rate, burst })
                }
            };
            (either(address, four, six), Element::limited(Value::Address(*address), limit))
        }
        Policy::UserBridgeContainer(address) => (
            either(address, Set::UserBridgeContainer4, Set::UserBridgeContainer6),
            Element::of_set(Value::Address(*address)),
        ),
    }
}

fn name(link: &IfName) -> Value<'_> {
    Value::Link(link.as_str())
}

fn network(subnet: &IpNetwork) -> Value<'static> {
    Value::Subnet(subnet.network(), subnet.prefix())
}

/// The set that holds this statement.
pub fn set_of(policy: &Policy) -> Set {
    element(policy).0
}

/// The entries that represent a statement.
pub fn entries(policy: &Policy) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(1);
    element(policy).1.write(&mut entries);
    entries
}

/// The policy that the entries of a set represent; `None` when one of them is an entry that Pontoon never writes.
pub fn decode(set: Set, entries: &[Entry]) -> Option<Vec<Policy>> {
    let spec = set.spec();
    let starts = entries.iter().filter(|entry| !entry.end);
    if !spec.interval || spec.is_concatenated() {
        return starts.map(|entry| decode_one(set, entry)).collect();
    }
    let bits = set.family().choose(32, 128);
    let number = |key: &[u8]| Reader::all(key, |key| key.address(set.family())).map(prefix::number);
    let ends: BTreeSet<u128> =
        entries.iter().filter(|entry| entry.end).map(|entry| number(&entry.key)).collect::<Option<_>>()?;
    let policy = |entry: &Entry| {
        let first = number(&entry.key)?;
        let behind = ends.range(first.checked_add(1)?..).next();
        let subnet = of_span(first, behind.map_or(u128::MAX >> (128 - bits), |end| end - 1), bits)?;
        match spec.is_map() {
            true => Some(Policy::SourceNat(subnet, Reader::all(&entry.value, |value| value.address(set.family()))?)),
            false => Some(Policy::Masquerade(subnet)),
        }
    };
    starts.map(policy).collect()
}

/// The statement that one entry represents, in a set whose ranges are single entries.
fn decode_one(set: Set, entry: &Entry) -> Option<Policy> {
    if let Some(access) = access_elements::decode(set, entry) {
        return Some(Policy::Access(access));
    }
    if let Some(property) = set.property() {
        return Reader::all(&entry.key, link).map(|link| Policy::Link(property, link));
    }
    let family = set.family();
    let policy = Reader::all(&entry.key, |key| {
        Some(match set {
            Set::IntraNetwork => Policy::IntraNetwork(twice(key)?),
            Set::Isolated => Policy::Isolated(twice(key)?),
            Set::BridgeAddress4 | Set::BridgeAddress6 => Policy::BridgeAddress(key.address(family)?),
            Set::Trusted => Policy::TrustedLink(link(key)?, link(key)?),
            Set::Published4 | Set::Published6 => published(key, unspecified(family), &entry.value)?,
            Set::PublishedAt4 | Set::PublishedAt6 => {
                let address = key.address(family)?;
                published(key, address, &entry.value)?
            }
            Set::OpenPort4 | Set::OpenPort6 => {
                let address = key.address(family)?;
                Policy::OpenPort(protocol(key)?, address, key.port()?)
            }
            Set::Unprotected4 | Set::Unprotected6 => Policy::Unprotected(link(key)?, set.family()),
            Set::Routed4 | Set::Routed6 => Policy::Routed(link(key)?, set.family()),
            Set::SourceFiltered4 | Set::SourceFiltered6 => Policy::SourceFiltered(key.address(family)?),
            Set::AllowedSource4 | Set::AllowedSource6 => {
                let (container, first) = (key.address(family)?, key.address(family)?);
                let (of, last) =
                    Reader::all(entry.last.as_deref()?, |last| Some((last.address(family)?, last.address(family)?)))?;
                (of == container).then_some(Policy::AllowedSource(container, between(first, last)?))?
            }
            Set::Macs => Policy::SourceMac(link(key)?, Mac::from_bytes(key.mac()?)),
            Set::Addr4 | Set::Addr6 => Policy::SourceAddress(link(key)?, key.address(family)?),
            Set::Source4 | Set::Source6 => {
                let (port, mac) = (link(key)?, Mac::from_bytes(key.mac()?));
                Policy::Source(port, mac, key.address(family)?)
            }
            Set::TrunkVlans => {
                let vid = Vid::new(key.port()?).ok()?;
                Policy::TrunkVlan(link(key)?, vid)
            }
            Set::TunnelPorts => Policy::TunnelPort(key.port()?),
            Set::Tunnels => {
                let mark = key.mark()?;
                Policy::Tunnel(Vni::new(mark >> 8).ok().filter(|_| mark & 0xff == 0)?)
            }
            Set::Peers4 | Set::Peers6 => Policy::Peer(key.address(family)?),
            Set::TunnelAddress4 | Set::TunnelAddress6 => Policy::TunnelAddress(key.address(family)?),
            Set::Gateways => Policy::Gateway(link(key)?, Mac::from_bytes(key.mac()?)),
            Set::Gateway4 | Set::Gateway6 => Policy::GatewayAddress(link(key)?, key.address(family)?),
            Set::BroadcastPorts => {
                protocol(key)?;
                Policy::BroadcastPort(key.port()?)
            }
            Set::Broadcasts => {
                let own = Reader::all(&entry.value, |value| value.v4())?;
                Policy::Broadcast(link(key)?, key.v4()?, own)
            }
            Set::LimitedForwarding => Policy::LimitedForwarding(key.family()?),
            Set::ForwardingLink4 | Set::ForwardingLink6 => Policy::ForwardingLink(link(key)?, set.family()),
            Set::UserBridgeContainer4 | Set::UserBridgeContainer6 => Policy::UserBridgeContainer(key.address(family)?),
            Set::Station4 | Set::Station6 => Policy::Station(key.address(family)?),
            Set::AnyAddr4 | Set::AnyAddr6 => Policy::SourceAddress(link(key)?, unspecified(family)),
            Set::ConnMax4 | Set::ConnMax6 | Set::ConnRate4 | Set::ConnRate6 => {
                let limit = match entry.limit? {
                    Stateful::Connections(count) => Limit::Connections(count),
                    Stateful::Packets { rate, burst } => Limit::ConnectionRate { rate, burst },
                    Stateful::Counted(_) => return None,
                };
                Policy::Limited(key.address(family)?, limit)
            }
            // Sets of ranges, sets that rules fill, and those that were decoded above.
            _ => return None,
        })
    })?;
    (set_of(&policy) == set).then_some(policy)
}

fn published(key: &mut Reader<'_>, address: IpAddr, value: &[u8]) -> Option<Policy> {
    let host = HostPort { protocol: protocol(key)?, address, port: key.port()? };
    let (container, container_port) =
        Reader::all(value, |value| Some((value.address(Family::of(&address))?, value.port()?)))?;
    Some(Policy::Published(Published { host, container, container_port }))
}

fn link(key: &mut Reader<'_>) -> Option<IfName> {
    IfName::parse(key.link()?).ok()
}

/// Reads the same link's name twice.
fn twice(key: &mut Reader<'_>) -> Option<IfName> {
    let first = link(key)?;
    (link(key)? == first).then_some(first)
}

fn protocol(key: &mut Reader<'_>) -> Option<Protocol> {
    key.protocol().and_then(Protocol::from_number)
}

fn between(first: IpAddr, last: IpAddr) -> Option<IpNetwork> {
    of_span(prefix::number(first), prefix::number(last), if first.is_ipv4() { 32 } else { 128 })
}

fn unspecified(family: Family) -> IpAddr {
    family.choose(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into())
}

/// Leaves out the ranges that another range of the same set (and container) contains: they change nothing, and the
/// kernel rejects overlapping ranges.
pub fn outermost(policy: &BTreeSet<Policy>) -> BTreeSet<Policy> {
    let mut kept = BTreeSet::new();
    // Ordered by first address, and the widest first among those with the same start, a subnet lies within
    // another one exactly when it ends no later than an earlier one.
    type Range<'a> = (u128, u128, &'a Policy);
    let mut ranges: BTreeMap<(Set, Option<IpAddr>), Vec<Range<'_>>> = BTreeMap::new();
    for statement in policy {
        let (of, subnet) = match statement {
            Policy::Masquerade(subnet) | Policy::SourceNat(subnet, _) => (None, subnet),
            Policy::AllowedSource(container, subnet) => (Some(*container), subnet),
            _ => {
                kept.insert(statement.clone());
                continue;
            }
        };
        let (first, last) = span(subnet);
        ranges.entry((set_of(statement), of)).or_default().push((first, u128::MAX - last, statement));
    }
    for mut group in ranges.into_values() {
        group.sort_unstable();
        let mut furthest = None;
        for (_, inverted, statement) in group {
            let last = u128::MAX - inverted;
            if furthest.is_none_or(|end| last > end) {
                furthest = Some(last);
                kept.insert(statement.clone());
            }
        }
    }
    kept
}

#[cfg(test)]
#[path = "elements_tests.rs"]
mod tests;
