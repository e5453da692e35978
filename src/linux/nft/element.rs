//! Encodes an [`Element`] in a set or map (the bytes of its key and value, the two ends of a range) and
//! decodes it.
//!
//! Pure. Used by `message` and `table`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::message::{
    DATA_VALUE, ELEMENT_DATA, ELEMENT_FLAGS, ELEMENT_KEY, ELEMENT_KEY_END, ELEMENTS_LIST, INTERVAL_END, LIST_ITEM,
    attributes,
};
use super::range::{bytes, number, range, subnet};
pub use super::set::Set;
use super::set::{Field, len};
use crate::datapath::Element;
use crate::linux::tlv::{Attributes, big32, text};
use crate::model::{HostPort, IfName, Mac, Protocol, Published, Vni};

/// One entry of a set on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The key, or the first key of a range.
    pub key: Vec<u8>,
    /// The last key of a range, when the key has several fields.
    pub last: Option<Vec<u8>>,
    /// The value, in a map.
    pub value: Vec<u8>,
    /// Whether it is not an element but the first key after a range.
    pub end: bool,
}

/// The set that holds this element.
pub fn set_of(element: &Element) -> Set {
    let either = |v6: bool, four: Set, six: Set| Set::either(v6, four, six);
    match element {
        Element::Bridge(_) => Set::Bridges,
        Element::Internal(_) => Set::Internal,
        Element::Engine(_) => Set::Engine,
        Element::Neighbour(_) => Set::Neighbours,
        Element::Intra(_) => Set::Intra,
        Element::Apart(_) => Set::Apart,
        Element::OwnAddress(address) => either(address.is_ipv6(), Set::Own4, Set::Own6),
        Element::Masquerade(subnet) => either(subnet.is_ipv6(), Set::Masq4, Set::Masq6),
        Element::Port(port) => match port.host.address {
            address if address.is_unspecified() => either(address.is_ipv6(), Set::Port4, Set::Port6),
            address => either(address.is_ipv6(), Set::At4, Set::At6),
        },
        Element::Open(_, address, _) => either(address.is_ipv6(), Set::Open4, Set::Open6),
        Element::Direct(_, v6) => either(*v6, Set::Direct4, Set::Direct6),
        Element::Routed(_, v6) => either(*v6, Set::Routed4, Set::Routed6),
        Element::Trusted(..) => Set::Trusted,
        Element::SourceNat(subnet, _) => either(subnet.is_ipv6(), Set::Snat4, Set::Snat6),
        Element::Guarded(address) => either(address.is_ipv6(), Set::Guarded4, Set::Guarded6),
        Element::Allow(address, _) => either(address.is_ipv6(), Set::Allow4, Set::Allow6),
        Element::Checked(_) => Set::Checked,
        Element::SourceMac(..) => Set::Macs,
        // The wildcard address has a set of its own instead of being an element among others.
        Element::SourceAddress(_, address) => match address.is_unspecified() {
            true => either(address.is_ipv6(), Set::Any4, Set::Any6),
            false => either(address.is_ipv6(), Set::Addr4, Set::Addr6),
        },
        Element::TunnelPort(_) => Set::TunnelPorts,
        Element::Tunnel(_) => Set::Tunnels,
        Element::Peer(address) => either(address.is_ipv6(), Set::Peers4, Set::Peers6),
        Element::Here(address) => either(address.is_ipv6(), Set::Here4, Set::Here6),
        Element::Gateway(..) => Set::Gateways,
        Element::GatewayAddress(_, address) => either(address.is_ipv6(), Set::Gateway4, Set::Gateway6),
        Element::Quiet(_) => Set::Quiet,
        Element::BroadcastPort(_) => Set::BroadcastPorts,
        Element::Broadcast(..) => Set::Broadcasts,
        Element::Closed(_) => Set::Closed,
        Element::Router(_, v6) => either(*v6, Set::Routers4, Set::Routers6),
        Element::Guest(address) => either(address.is_ipv6(), Set::Guests4, Set::Guests6),
    }
}

/// The entries that represent an element.
pub fn entries(element: &Element) -> Vec<Entry> {
    let key = |parts: &[&[u8]]| vec![Entry { key: packed(parts), ..Entry::default() }];
    match element {
        Element::Bridge(link)
        | Element::Internal(link)
        | Element::Engine(link)
        | Element::Neighbour(link)
        | Element::Direct(link, _)
        | Element::Routed(link, _)
        | Element::Checked(link)
        | Element::Router(link, _)
        | Element::Quiet(link) => key(&[&padded(link)]),
        Element::Intra(link) | Element::Apart(link) => key(&[&padded(link), &padded(link)]),
        Element::Trusted(from, to) => key(&[&padded(from), &padded(to)]),
        Element::Masquerade(subnet) => range_entries(subnet, Vec::new()),
        Element::SourceNat(subnet, address) => range_entries(subnet, octets(*address)),
        Element::Port(port) => {
            let HostPort { protocol, address, port: number } = port.host;
            let (protocol, number) = ([protocol.number()], number.to_be_bytes());
            let key = match address.is_unspecified() {
                true => packed(&[&protocol, &number]),
                false => packed(&[&octets(address), &protocol, &number]),
            };
            let value = packed(&[&octets(port.container), &port.container_port.to_be_bytes()]);
            vec![Entry { key, value, ..Entry::default() }]
        }
        Element::Open(protocol, address, port) => key(&[&octets(*address), &[protocol.number()], &port.to_be_bytes()]),
        Element::Guarded(address)
        | Element::Peer(address)
        | Element::Here(address)
        | Element::OwnAddress(address)
        | Element::Guest(address) => key(&[&octets(*address)]),
        Element::TunnelPort(port) => key(&[&port.to_be_bytes()]),
        Element::BroadcastPort(port) => key(&[&[Protocol::Udp.number()], &port.to_be_bytes()]),
        Element::Broadcast(link, at, own) => {
            let key = packed(&[&padded(link), &at.octets()]);
            vec![Entry { key, value: own.octets().to_vec(), ..Entry::default() }]
        }
        Element::Closed(v6) => key(&[&[family(*v6)]]),
        Element::Tunnel(vni) => key(&[&(vni.get() << 8).to_be_bytes()]),
        Element::Gateway(link, mac) => key(&[&padded(link), &mac.bytes()]),
        Element::GatewayAddress(link, address) => key(&[&padded(link), &octets(*address)]),
        Element::Allow(address, subnet) => {
            let (first, last, bits) = range(subnet);
            let pair = |source| packed(&[&octets(*address), &bytes(source, bits)]);
            vec![Entry { key: pair(first), last: Some(pair(last)), ..Entry::default() }]
        }
        Element::SourceMac(link, mac) => key(&[&padded(link), &mac.bytes()]),
        Element::SourceAddress(link, address) => match address.is_unspecified() {
            true => key(&[&padded(link)]),
            false => key(&[&padded(link), &octets(*address)]),
        },
    }
}

/// Parses the entries of one message of a dump.
pub fn parse_elements(payload: &[u8]) -> Vec<Entry> {
    let list = Attributes::new(attributes(payload).find(ELEMENTS_LIST).unwrap_or_default());
    let entry = |item: &[u8]| {
        let element = Attributes::new(item);
        let part = |kind| Attributes::new(element.find(kind)?).find(DATA_VALUE).map(<[u8]>::to_vec);
        Some(Entry {
            key: part(ELEMENT_KEY)?,
            last: part(ELEMENT_KEY_END),
            value: part(ELEMENT_DATA).unwrap_or_default(),
            end: element.find(ELEMENT_FLAGS).and_then(big32).unwrap_or(0) & INTERVAL_END != 0,
        })
    };
    list.filter(|(kind, _)| *kind == LIST_ITEM).filter_map(|(_, item)| entry(item)).collect()
}

/// The elements that the entries of a set represent; `None` when one of them is an entry that Pontoon never
/// writes.
pub fn decode(set: Set, entries: &[Entry]) -> Option<Vec<Element>> {
    let spec = set.spec();
    let starts = entries.iter().filter(|entry| !entry.end);
    if !spec.interval || spec.is_concatenated() {
        return starts.map(|entry| decode_one(set, entry)).collect();
    }
    let bits = len(spec.key) as u32 * 8;
    let ends: BTreeSet<u128> =
        entries.iter().filter(|entry| entry.end).map(|entry| number(&entry.key, bits)).collect::<Option<_>>()?;
    let element = |entry: &Entry| {
        let first = number(&entry.key, bits)?;
        let behind = ends.range(first.checked_add(1)?..).next();
        let subnet = subnet(first, behind.map_or(u128::MAX >> (128 - bits), |end| end - 1), bits)?;
        match spec.is_map() {
            true => Some(Element::SourceNat(subnet, Reader(&entry.value).all(|value| value.address(set.v6()))?)),
            false => Some(Element::Masquerade(subnet)),
        }
    };
    starts.map(element).collect()
}

/// The element that one entry represents, in a set whose ranges are single entries.
fn decode_one(set: Set, entry: &Entry) -> Option<Element> {
    let v6 = set.v6();
    let element = Reader(&entry.key).all(|key| {
        Some(match set {
            Set::Bridges => Element::Bridge(key.link()?),
            Set::Internal => Element::Internal(key.link()?),
            Set::Engine => Element::Engine(key.link()?),
            Set::Neighbours => Element::Neighbour(key.link()?),
            Set::Intra => Element::Intra(key.twice()?),
            Set::Apart => Element::Apart(key.twice()?),
            Set::Own4 | Set::Own6 => Element::OwnAddress(key.address(v6)?),
            Set::Trusted => Element::Trusted(key.link()?, key.link()?),
            Set::Port4 | Set::Port6 => published(key, unspecified(v6), &entry.value)?,
            Set::At4 | Set::At6 => {
                let address = key.address(v6)?;
                published(key, address, &entry.value)?
            }
            Set::Open4 | Set::Open6 => {
                let address = key.address(v6)?;
                Element::Open(key.protocol()?, address, key.port()?)
            }
            Set::Direct4 | Set::Direct6 => Element::Direct(key.link()?, v6),
            Set::Routed4 | Set::Routed6 => Element::Routed(key.link()?, v6),
            Set::Guarded4 | Set::Guarded6 => Element::Guarded(key.address(v6)?),
            Set::Allow4 | Set::Allow6 => {
                let (container, first) = (key.address(v6)?, key.address(v6)?);
                let (of, last) =
                    Reader(entry.last.as_deref()?).all(|last| Some((last.address(v6)?, last.address(v6)?)))?;
                let bits = if v6 { 128 } else { 32 };
                let subnet = subnet(number(&octets(first), bits)?, number(&octets(last), bits)?, bits)?;
                (of == container).then_some(Element::Allow(container, subnet))?
            }
            Set::Checked => Element::Checked(key.link()?),
            Set::Macs => Element::SourceMac(key.link()?, key.mac()?),
            Set::Addr4 | Set::Addr6 => Element::SourceAddress(key.link()?, key.address(v6)?),
            Set::TunnelPorts => Element::TunnelPort(key.port()?),
            Set::Tunnels => Element::Tunnel(key.vni()?),
            Set::Peers4 | Set::Peers6 => Element::Peer(key.address(v6)?),
            Set::Here4 | Set::Here6 => Element::Here(key.address(v6)?),
            Set::Gateways => Element::Gateway(key.link()?, key.mac()?),
            Set::Gateway4 | Set::Gateway6 => Element::GatewayAddress(key.link()?, key.address(v6)?),
            Set::Quiet => Element::Quiet(key.link()?),
            Set::BroadcastPorts => {
                key.protocol()?;
                Element::BroadcastPort(key.port()?)
            }
            Set::Broadcasts => {
                let own = Reader(&entry.value).all(|value| value.v4())?;
                Element::Broadcast(key.link()?, key.v4()?, own)
            }
            Set::Closed => Element::Closed(key.v6()?),
            Set::Routers4 | Set::Routers6 => Element::Router(key.link()?, v6),
            Set::Guests4 | Set::Guests6 => Element::Guest(key.address(v6)?),
            Set::Any4 | Set::Any6 => Element::SourceAddress(key.link()?, unspecified(v6)),
            Set::Masq4 | Set::Masq6 | Set::Snat4 | Set::Snat6 => return None,
            Set::Low4 | Set::Low6 | Set::Strangers4 | Set::Strangers6 | Set::Heard4 | Set::Heard6 | Set::Bridged => {
                return None;
            }
        })
    })?;
    (set_of(&element) == set).then_some(element)
}

fn published(key: &mut Reader<'_>, address: IpAddr, value: &[u8]) -> Option<Element> {
    let host = HostPort { protocol: key.protocol()?, address, port: key.port()? };
    let (container, container_port) =
        Reader(value).all(|value| Some((value.address(address.is_ipv6())?, value.port()?)))?;
    Some(Element::Port(Published { host, container, container_port }))
}

/// Leaves out the ranges that another range of the same set (and container) contains: they change nothing,
/// and the kernel rejects overlapping ranges.
pub fn outermost(elements: &BTreeSet<Element>) -> BTreeSet<Element> {
    let mut kept = BTreeSet::new();
    // Ordered by first address, and the widest first among those with the same start, a subnet lies within
    // another one exactly when it ends no later than an earlier one.
    type Range<'a> = (u128, u128, &'a Element);
    let mut ranges: BTreeMap<(Set, Option<IpAddr>), Vec<Range<'_>>> = BTreeMap::new();
    for element in elements {
        let (of, subnet) = match element {
            Element::Masquerade(subnet) | Element::SourceNat(subnet, _) => (None, subnet),
            Element::Allow(container, subnet) => (Some(*container), subnet),
            _ => {
                kept.insert(element.clone());
                continue;
            }
        };
        let (first, last, _) = range(subnet);
        ranges.entry((set_of(element), of)).or_default().push((first, u128::MAX - last, element));
    }
    for mut group in ranges.into_values() {
        group.sort_unstable();
        let mut furthest = None;
        for (_, inverted, element) in group {
            let last = u128::MAX - inverted;
            if furthest.is_none_or(|end| last > end) {
                furthest = Some(last);
                kept.insert(element.clone());
            }
        }
    }
    kept
}

/// Reads the fields of a key or value.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// The result of `read` if it consumes all bytes; otherwise `None`.
    fn all<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let value = read(&mut self)?;
        self.0.is_empty().then_some(value)
    }

    fn take(&mut self, field: Field) -> Option<&[u8]> {
        let part = self.0.get(..field.size())?;
        self.0 = self.0.get(field.size().next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    }

    fn link(&mut self) -> Option<IfName> {
        IfName::parse(text(self.take(Field::Link)?)?).ok()
    }

    /// Reads the same link's name twice.
    fn twice(&mut self) -> Option<IfName> {
        let link = self.link()?;
        (self.link()? == link).then_some(link)
    }

    fn address(&mut self, v6: bool) -> Option<IpAddr> {
        if v6 {
            self.take(Field::V6)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into())
        } else {
            self.v4().map(IpAddr::V4)
        }
    }

    fn v4(&mut self) -> Option<Ipv4Addr> {
        self.take(Field::V4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
    }

    fn mac(&mut self) -> Option<Mac> {
        self.take(Field::Mac)?.first_chunk::<6>().map(|bytes| Mac::from_bytes(*bytes))
    }

    fn protocol(&mut self) -> Option<Protocol> {
        self.take(Field::Protocol)?.first().and_then(|number| Protocol::from_number(*number))
    }

    fn v6(&mut self) -> Option<bool> {
        let number = *self.take(Field::Family)?.first()?;
        [false, true].into_iter().find(|v6| family(*v6) == number)
    }

    fn vni(&mut self) -> Option<Vni> {
        let bytes = self.take(Field::Vni)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        Vni::new(bytes >> 8).ok().filter(|_| bytes & 0xff == 0)
    }

    fn port(&mut self) -> Option<u16> {
        self.take(Field::Port)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }
}

/// Concatenates fields; if there are several, each is padded to a register of four bytes.
fn packed(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    for part in parts {
        bytes.extend_from_slice(part);
        if parts.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

fn padded(link: &IfName) -> Vec<u8> {
    let mut bytes = link.as_str().as_bytes().to_vec();
    bytes.resize(Field::Link.size(), 0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn family(v6: bool) -> u8 {
    (if v6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 }) as u8
}

fn unspecified(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn range_entries(subnet: &IpNetwork, value: Vec<u8>) -> Vec<Entry> {
    let (first, last, bits) = range(subnet);
    let mut entries = vec![Entry { key: bytes(first, bits), value, ..Entry::default() }];
    // A range that ends with the last possible address has no key after it.
    if last != u128::MAX >> (128 - bits) {
        entries.push(Entry { key: bytes(last + 1, bits), end: true, ..Entry::default() });
    }
    entries
}

#[cfg(test)]
mod tests;
