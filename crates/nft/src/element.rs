//! Elements of sets: their fields as values, in nft's syntax, and in the kernel's form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::Family;
use netlink::tlv::{Attributes, big32, text};

use crate::message::{
    DATA_VALUE, ELEMENT_DATA, ELEMENT_EXPIRATION, ELEMENT_EXPRESSION, ELEMENT_FLAGS, ELEMENT_KEY, ELEMENT_KEY_END,
    ELEMENTS_LIST, INTERVAL_END, LIST_ITEM, attributes,
};
use crate::set::DataType;
use crate::stateful::Stateful;

/// One field of a key or value. Its display is nft's syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A link's name.
    Link(&'a str),
    /// An address.
    Address(IpAddr),
    /// A subnet, as address and prefix length: the last field of a key with ranges.
    Subnet(IpAddr, u8),
    /// First and last address of a range, in a key of several fields with ranges.
    Addresses(IpAddr, IpAddr),
    /// First and last number of a range of transport protocols, in a key of several fields with ranges.
    Protocols(u8, u8),
    /// First and last port of a range, in a key of several fields with ranges.
    Ports(u16, u16),
    /// A MAC address.
    Mac([u8; 6]),
    /// A transport protocol's number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// Four bytes.
    Mark(u32),
    /// A family of packets.
    Family(Family),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Link(name) => write!(f, "\"{name}\""),
            Value::Address(address) => write!(f, "{address}"),
            Value::Subnet(address, prefix) => write!(f, "{address}/{prefix}"),
            Value::Addresses(first, last) if first == last => write!(f, "{first}"),
            Value::Addresses(first, last) => write!(f, "{first}-{last}"),
            Value::Protocols(first, last) if first == last => write!(f, "{}", Value::Protocol(first)),
            Value::Protocols(first, last) => write!(f, "{first}-{last}"),
            Value::Ports(first, last) if first == last => write!(f, "{first}"),
            Value::Ports(first, last) => write!(f, "{first}-{last}"),
            Value::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Value::Protocol(6) => f.write_str("tcp"),
            Value::Protocol(17) => f.write_str("udp"),
            Value::Protocol(132) => f.write_str("sctp"),
            Value::Protocol(number) => write!(f, "{number}"),
            Value::Port(port) => write!(f, "{port}"),
            Value::Mark(mark) => write!(f, "0x{mark:08x}"),
            Value::Family(family) => f.write_str(family.choose("ipv4", "ipv6")),
        }
    }
}

impl Value<'_> {
    fn is_range(&self) -> bool {
        matches!(self, Value::Subnet(..) | Value::Addresses(..) | Value::Protocols(..) | Value::Ports(..))
    }

    /// Appends its bytes, of a subnet those of its first address, or of its last.
    fn write(&self, bytes: &mut Vec<u8>, last: bool) {
        match *self {
            Value::Link(name) => {
                let end = bytes.len() + DataType::Link.size();
                bytes.extend_from_slice(name.as_bytes());
                bytes.resize(end, 0);
            }
            Value::Address(IpAddr::V4(ip)) => bytes.extend_from_slice(&ip.octets()),
            Value::Address(IpAddr::V6(ip)) => bytes.extend_from_slice(&ip.octets()),
            Value::Subnet(address, prefix) => Value::Address(end_of(address, prefix, last)).write(bytes, last),
            Value::Addresses(from, to) => Value::Address(if last { to } else { from }).write(bytes, last),
            Value::Protocols(from, to) => bytes.push(if last { to } else { from }),
            Value::Ports(from, to) => Value::Port(if last { to } else { from }).write(bytes, last),
            Value::Mac(mac) => bytes.extend_from_slice(&mac),
            Value::Protocol(number) => bytes.push(number),
            Value::Port(port) => bytes.extend_from_slice(&port.to_be_bytes()),
            Value::Mark(mark) => bytes.extend_from_slice(&mark.to_be_bytes()),
            Value::Family(family) => bytes.push(family.choose(libc::NFPROTO_IPV4, libc::NFPROTO_IPV6) as u8),
        }
    }
}

/// First or last address of a subnet.
fn end_of(address: IpAddr, prefix: u8, last: bool) -> IpAddr {
    let hosts = |bits: u32| u128::MAX.checked_shr(128 - (bits - u32::from(prefix).min(bits))).unwrap_or(0);
    match address {
        IpAddr::V4(ip) => {
            let (ip, mask) = (u32::from(ip), hosts(32) as u32);
            Ipv4Addr::from(if last { ip | mask } else { ip & !mask }).into()
        }
        IpAddr::V6(ip) => {
            let (ip, mask) = (u128::from(ip), hosts(128));
            Ipv6Addr::from(if last { ip | mask } else { ip & !mask }).into()
        }
    }
}

/// The address after this one; `None` after the last one.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).checked_add(1)?).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).checked_add(1)?).into(),
    })
}

/// Up to five concatenated fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values<'a> {
    values: [Option<Value<'a>>; 5],
}

impl<'a> Values<'a> {
    /// No fields: the value of an element of a set.
    pub const NONE: Values<'static> = Values { values: [None; 5] };

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter().flatten()
    }

    fn pack(&self, last: bool) -> Vec<u8> {
        let concatenated = self.values[1].is_some();
        let mut bytes = Vec::with_capacity(if self.values[0].is_some() { 48 } else { 0 });
        for value in self.iter() {
            value.write(&mut bytes, last);
            if concatenated {
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
        }
        bytes
    }
}

impl<'a> From<Value<'a>> for Values<'a> {
    fn from(value: Value<'a>) -> Self {
        Self { values: [Some(value), None, None, None, None] }
    }
}

impl<'a> From<[Value<'a>; 2]> for Values<'a> {
    fn from([one, two]: [Value<'a>; 2]) -> Self {
        Self { values: [Some(one), Some(two), None, None, None] }
    }
}

impl<'a> From<[Value<'a>; 3]> for Values<'a> {
    fn from([one, two, three]: [Value<'a>; 3]) -> Self {
        Self { values: [Some(one), Some(two), Some(three), None, None] }
    }
}

impl<'a> From<[Value<'a>; 4]> for Values<'a> {
    fn from([one, two, three, four]: [Value<'a>; 4]) -> Self {
        Self { values: [Some(one), Some(two), Some(three), Some(four), None] }
    }
}

impl<'a> From<[Value<'a>; 5]> for Values<'a> {
    fn from(values: [Value<'a>; 5]) -> Self {
        Self { values: values.map(Some) }
    }
}

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, value) in self.iter().enumerate() {
            write!(f, "{}{value}", if at > 0 { " . " } else { "" })?;
        }
        Ok(())
    }
}

/// An element: its key, and in a map its value. Its display is nft's syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The key.
    pub key: Values<'a>,
    /// The value.
    pub value: Values<'a>,
    /// Its limit, in a set whose elements have one.
    pub limit: Option<Stateful>,
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.value == Values::NONE { "" } else { " : " };
        write!(f, "{}{separator}{}", self.key, self.value)?;
        self.limit.map_or(Ok(()), |limit| write!(f, " {limit}"))
    }
}

impl<'a> Element<'a> {
    /// An element of a set.
    pub fn of_set(key: impl Into<Values<'a>>) -> Self {
        Self { key: key.into(), value: Values::NONE, limit: None }
    }

    /// An element of a map.
    pub fn of_map(key: impl Into<Values<'a>>, value: impl Into<Values<'a>>) -> Self {
        Self { key: key.into(), value: value.into(), limit: None }
    }

    /// An element of a set whose elements have a limit.
    pub fn limited(key: impl Into<Values<'a>>, limit: Stateful) -> Self {
        Self { limit: Some(limit), ..Self::of_set(key) }
    }

    /// Appends the entries that represent it: two for a range that is the whole key, unless it ends with the last
    /// possible address, and otherwise one.
    pub fn write(&self, entries: &mut Vec<Entry>) {
        let subnet = self.key.iter().find_map(|value| match value {
            Value::Subnet(address, prefix) => Some((*address, *prefix)),
            _ => None,
        });
        let concatenated = self.key.values[1].is_some();
        let ranges = self.key.iter().any(Value::is_range);
        let last = (ranges && concatenated).then(|| self.key.pack(true));
        let (key, value) = (self.key.pack(false), self.value.pack(false));
        entries.push(Entry { key, last, value, limit: self.limit, end: false });
        let behind = subnet.filter(|_| !concatenated).and_then(|(address, prefix)| next(end_of(address, prefix, true)));
        entries.extend(behind.map(|address| Entry {
            key: Values::from(Value::Address(address)).pack(false),
            end: true,
            ..Entry::default()
        }));
    }
}

/// One entry of a set in the kernel's form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The key, or the first key of a range.
    pub key: Vec<u8>,
    /// The last key of a range, when the key has several fields.
    pub last: Option<Vec<u8>>,
    /// The value, in a map.
    pub value: Vec<u8>,
    /// Its limit, in a set whose elements have one.
    pub limit: Option<Stateful>,
    /// Whether it is not an element but the first key after a range.
    pub end: bool,
}

/// Parses the entries of one message of a listing.
pub fn parse_entries(payload: &[u8]) -> Vec<Entry> {
    let list = Attributes::new(attributes(payload).find(ELEMENTS_LIST).unwrap_or_default());
    let entry = |item: &[u8]| {
        let element = Attributes::new(item);
        let part = |kind| Attributes::new(element.find(kind)?).find(DATA_VALUE).map(<[u8]>::to_vec);
        Some(Entry {
            key: part(ELEMENT_KEY)?,
            last: part(ELEMENT_KEY_END),
            value: part(ELEMENT_DATA).unwrap_or_default(),
            limit: element.find(ELEMENT_EXPRESSION).and_then(Stateful::parse),
            end: element.find(ELEMENT_FLAGS).and_then(big32).unwrap_or(0) & INTERVAL_END != 0,
        })
    };
    list.filter(|(kind, _)| *kind == LIST_ITEM).filter_map(|(_, item)| entry(item)).collect()
}

/// The time in milliseconds that is left to the first element of a reply; `None` if it does not expire.
pub fn expiration(payload: &[u8]) -> Option<u64> {
    let item = Attributes::new(attributes(payload).find(ELEMENTS_LIST)?).find(LIST_ITEM)?;
    Attributes::new(item).find(ELEMENT_EXPIRATION)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Reads the fields of a key or value.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The result of `read` if it consumes all bytes; otherwise `None`.
    pub fn all<T>(bytes: &'a [u8], read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut reader = Self(bytes);
        let value = read(&mut reader)?;
        reader.0.is_empty().then_some(value)
    }

    fn take(&mut self, data: DataType) -> Option<&'a [u8]> {
        let part = self.0.get(..data.size())?;
        self.0 = self.0.get(data.size().next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    }

    /// A link's name.
    pub fn link(&mut self) -> Option<&'a str> {
        text(self.take(DataType::Link)?)
    }

    /// An address of this family.
    pub fn address(&mut self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4().map(IpAddr::V4),
            Family::V6 => self.take(DataType::V6)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        }
    }

    /// An IPv4 address.
    pub fn v4(&mut self) -> Option<Ipv4Addr> {
        self.take(DataType::V4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
    }

    /// A MAC address.
    pub fn mac(&mut self) -> Option<[u8; 6]> {
        self.take(DataType::Mac)?.first_chunk().copied()
    }

    /// A transport protocol's number.
    pub fn protocol(&mut self) -> Option<u8> {
        self.take(DataType::Protocol)?.first().copied()
    }

    /// A port.
    pub fn port(&mut self) -> Option<u16> {
        self.take(DataType::Port)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Four bytes.
    pub fn mark(&mut self) -> Option<u32> {
        self.take(DataType::Mark)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A family of packets.
    pub fn family(&mut self) -> Option<Family> {
        let number = i32::from(*self.take(DataType::Family)?.first()?);
        match number {
            libc::NFPROTO_IPV4 => Some(Family::V4),
            libc::NFPROTO_IPV6 => Some(Family::V6),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn elements_are_written_as_the_kernel_and_nft_expect() {
        let port =
            Element::of_map([Value::Protocol(6), Value::Port(8080)], [Value::Address(ip("10.0.0.2")), Value::Port(80)]);
        assert_eq!(port.to_string(), "tcp . 8080 : 10.0.0.2 . 80");
        let mut entries = Vec::new();
        port.write(&mut entries);
        let expected = Entry {
            key: vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0],
            value: vec![10, 0, 0, 2, 0, 80, 0, 0],
            ..Entry::default()
        };
        assert_eq!(entries, [expected]);
        let link = Element::of_set(Value::Link("eth0"));
        assert_eq!(link.to_string(), "\"eth0\"");
    }

    #[test]
    fn ranges_have_an_end_unless_they_end_with_the_last_address() {
        let ends = |address: &str, prefix| {
            let mut entries = Vec::new();
            Element::of_set(Value::Subnet(ip(address), prefix)).write(&mut entries);
            entries.into_iter().map(|entry| (entry.key, entry.end)).collect::<Vec<_>>()
        };
        assert_eq!(ends("10.0.0.0", 24), [(vec![10, 0, 0, 0], false), (vec![10, 0, 1, 0], true)]);
        assert_eq!(ends("0.0.0.0", 0), [(vec![0; 4], false)]);
        assert_eq!(ends("ffff::", 16).len(), 1);
        assert_eq!(ends("192.0.2.7", 32), [(vec![192, 0, 2, 7], false), (vec![192, 0, 2, 8], true)]);
        let mut entries = Vec::new();
        Element::of_set([Value::Address(ip("10.0.0.2")), Value::Subnet(ip("192.0.2.0"), 24)]).write(&mut entries);
        let expected = Entry {
            key: vec![10, 0, 0, 2, 192, 0, 2, 0],
            last: Some(vec![10, 0, 0, 2, 192, 0, 2, 255]),
            ..Entry::default()
        };
        assert_eq!(entries, [expected]);
    }
}
