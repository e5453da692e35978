//! Owns the sets of table `inet pontoon` and how an [`Element`] is written in one: as a name of
//! sixteen bytes, a pair of them, or the two ends of an interval.
//!
//! Pure. Used by `message`, `ruleset` and `table`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::message::{DATA_VALUE, ELEMENT_FLAGS, ELEMENT_KEY, ELEMENTS_LIST, INTERVAL_END, LIST_ITEM, attributes};
use crate::datapath::Element;
use crate::linux::tlv::{Attributes, big32, text};
use crate::model::IfName;

/// Bytes of a link's name in a set (`IFNAMSIZ`).
const NAME: usize = 16;

/// nft's numbers for the types of keys, by which it prints them (nft's `datatype.h`); a pair is
/// two of them, six bits each.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_IFNAME: u32 = 41;

/// `NFT_SET_INTERVAL` and `NFT_SET_CONCAT`.
const FLAG_INTERVAL: u32 = 0x4;
const FLAG_CONCAT: u32 = 0x80;

/// nft's numbers for byte orders.
const ORDER_HOST: u32 = 1;
const ORDER_NETWORK: u32 = 2;

/// A set of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Bridges of Pontoon's networks.
    Bridges,
    /// Bridges of internal networks.
    Internal,
    /// Bridges of the engine's built-in driver.
    Engine,
    /// Pairs of equal bridges.
    Intra,
    /// IPv4 subnets with masquerading.
    Masq4,
    /// IPv6 subnets with masquerading.
    Masq6,
}

impl Set {
    /// All of them, in the order in which they are made.
    pub const ALL: [Set; 6] = [Set::Bridges, Set::Internal, Set::Engine, Set::Intra, Set::Masq4, Set::Masq6];

    /// The set that holds this element.
    pub fn of(element: &Element) -> Self {
        match element {
            Element::Bridge(_) => Set::Bridges,
            Element::Internal(_) => Set::Internal,
            Element::Engine(_) => Set::Engine,
            Element::Intra(_) => Set::Intra,
            Element::Masquerade(IpNetwork::V4(_)) => Set::Masq4,
            Element::Masquerade(IpNetwork::V6(_)) => Set::Masq6,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Set::Bridges => "bridges",
            Set::Internal => "internal",
            Set::Engine => "engine",
            Set::Intra => "intra",
            Set::Masq4 => "masq4",
            Set::Masq6 => "masq6",
        }
    }

    /// What it is for.
    pub fn comment(self) -> &'static str {
        match self {
            Set::Bridges => "bridges of networks, not to be entered from elsewhere",
            Set::Internal => "bridges of internal networks",
            Set::Engine => "bridges of the engine's built-in driver",
            Set::Intra => "traffic within one network",
            Set::Masq4 | Set::Masq6 => "subnets hidden behind the host's address",
        }
    }

    /// Bytes of a key.
    pub fn key_len(self) -> usize {
        match self {
            Set::Bridges | Set::Internal | Set::Engine => NAME,
            Set::Intra => 2 * NAME,
            Set::Masq4 => 4,
            Set::Masq6 => 16,
        }
    }

    /// Type of a key, in nft's numbers.
    pub fn key_type(self) -> u32 {
        match self {
            Set::Bridges | Set::Internal | Set::Engine => TYPE_IFNAME,
            Set::Intra => (TYPE_IFNAME << 6) | TYPE_IFNAME,
            Set::Masq4 => TYPE_IPV4,
            Set::Masq6 => TYPE_IPV6,
        }
    }

    /// The kernel's flags.
    pub fn flags(self) -> u32 {
        match self {
            Set::Bridges | Set::Internal | Set::Engine => 0,
            Set::Intra => FLAG_CONCAT,
            Set::Masq4 | Set::Masq6 => FLAG_INTERVAL,
        }
    }

    /// Lengths of the fields of a concatenated key, in bytes.
    pub fn fields(self) -> Option<&'static [u32]> {
        (self == Set::Intra).then_some(&[NAME as u32, NAME as u32])
    }

    /// Byte order of keys, in nft's numbers; for printing only.
    pub fn byte_order(self) -> u32 {
        if self.flags() & FLAG_INTERVAL != 0 { ORDER_NETWORK } else { ORDER_HOST }
    }
}

/// One key of a set on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// It is not an element but the first key behind an interval.
    pub end: bool,
}

/// The keys that stand for an element.
pub fn keys(element: &Element) -> Vec<Key> {
    let start = |bytes: Vec<u8>| Key { bytes, end: false };
    match element {
        Element::Bridge(name) | Element::Internal(name) | Element::Engine(name) => vec![start(padded(name))],
        Element::Intra(name) => vec![start([padded(name), padded(name)].concat())],
        Element::Masquerade(network) => {
            let (first, last, bits) = range(network);
            let mut keys = vec![start(bytes(first, bits))];
            // The interval that ends with the last address of all has no key behind it.
            if last != u128::MAX >> (128 - bits) {
                keys.push(Key { bytes: bytes(last + 1, bits), end: true });
            }
            keys
        }
    }
}

/// Reads the keys in one answer to a listing of elements.
pub fn parse_elements(payload: &[u8]) -> Vec<Key> {
    let list = Attributes::new(attributes(payload).find(ELEMENTS_LIST).unwrap_or_default());
    let key = |item: &[u8]| {
        let element = Attributes::new(item);
        let value = Attributes::new(element.find(ELEMENT_KEY)?).find(DATA_VALUE)?;
        let end = element.find(ELEMENT_FLAGS).and_then(big32).unwrap_or(0) & INTERVAL_END != 0;
        Some(Key { bytes: value.to_vec(), end })
    };
    list.filter(|(kind, _)| *kind == LIST_ITEM).filter_map(|(_, item)| key(item)).collect()
}

/// The elements that all keys of a set stand for; `None` when there is one that Pontoon would
/// never write.
pub fn decode(set: Set, keys: &[Key]) -> Option<Vec<Element>> {
    let starts = keys.iter().filter(|key| !key.end);
    match set {
        Set::Bridges => starts.map(|key| Some(Element::Bridge(link_name(&key.bytes)?))).collect(),
        Set::Internal => starts.map(|key| Some(Element::Internal(link_name(&key.bytes)?))).collect(),
        Set::Engine => starts.map(|key| Some(Element::Engine(link_name(&key.bytes)?))).collect(),
        Set::Intra => starts
            .map(|key| {
                let (first, second) = key.bytes.split_at_checked(NAME)?;
                (first == second).then_some(())?;
                Some(Element::Intra(link_name(first)?))
            })
            .collect(),
        Set::Masq4 | Set::Masq6 => {
            let bits = set.key_len() as u32 * 8;
            let ends: BTreeSet<u128> =
                keys.iter().filter(|key| key.end).map(|key| number(&key.bytes, bits)).collect::<Option<_>>()?;
            starts
                .map(|key| {
                    let first = number(&key.bytes, bits)?;
                    let behind = ends.range(first.checked_add(1)?..).next();
                    let last = behind.map_or(u128::MAX >> (128 - bits), |end| end - 1);
                    Some(Element::Masquerade(subnet(first, last, bits)?))
                })
                .collect()
        }
    }
}

/// Leaves out the subnets that lie within another one: they change nothing, and the kernel
/// refuses intervals that overlap.
pub fn outermost(elements: &BTreeSet<Element>) -> BTreeSet<Element> {
    let mut kept = BTreeSet::new();
    let mut widest: Option<(u32, u128)> = None;
    // Ordered by first address, and the widest first among those that start together, a subnet
    // lies within another one exactly when it ends no later than one that came before.
    let mut subnets: Vec<(u32, u128, u128, &Element)> = Vec::new();
    for element in elements {
        if let Element::Masquerade(network) = element {
            let (first, last, bits) = range(network);
            subnets.push((bits, first, u128::MAX - last, element));
        } else {
            kept.insert(element.clone());
        }
    }
    subnets.sort_unstable();
    for (bits, _, inverted, element) in subnets {
        let last = u128::MAX - inverted;
        if widest.is_none_or(|(of, end)| of != bits || last > end) {
            widest = Some((bits, last));
            kept.insert(element.clone());
        }
    }
    kept
}

fn padded(name: &IfName) -> Vec<u8> {
    let mut bytes = name.as_str().as_bytes().to_vec();
    bytes.resize(NAME, 0);
    bytes
}

fn link_name(bytes: &[u8]) -> Option<IfName> {
    IfName::parse(text(bytes)?).ok()
}

/// First and last address as numbers, and the number of their bits.
fn range(network: &IpNetwork) -> (u128, u128, u32) {
    let (first, bits) = match network.network() {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let hosts = bits - u32::from(network.prefix()).min(bits);
    let mask = u128::MAX.checked_shr(128 - hosts).unwrap_or(0);
    (first, first | mask, bits)
}

fn subnet(first: u128, last: u128, bits: u32) -> Option<IpNetwork> {
    let mask = first ^ last;
    let whole = mask & mask.wrapping_add(1) == 0 && first & mask == 0;
    let prefix = u8::try_from(bits - mask.count_ones()).ok().filter(|_| whole)?;
    let ip = match bits {
        32 => IpAddr::V4(Ipv4Addr::from(u32::try_from(first).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(first)),
    };
    IpNetwork::new(ip, prefix).ok()
}

fn bytes(value: u128, bits: u32) -> Vec<u8> {
    value.to_be_bytes().get(16 - bits as usize / 8..).unwrap_or_default().to_vec()
}

fn number(bytes: &[u8], bits: u32) -> Option<u128> {
    let fits = bytes.len() == bits as usize / 8;
    fits.then(|| bytes.iter().fold(0u128, |value, byte| (value << 8) | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masquerade(text: &str) -> Element {
        Element::Masquerade(text.parse().unwrap())
    }

    #[test]
    fn elements_read_back_whatever_their_neighbours() {
        let subnets = ["0.0.0.0/1", "128.0.0.0/9", "255.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "192.0.2.7/32"];
        for text in subnets.into_iter().chain(["0.0.0.0/0", "::/0", "fd00::/64", "ffff::/16", "::1/128"]) {
            let element = masquerade(text);
            assert_eq!(decode(Set::of(&element), &keys(&element)), Some(vec![element.clone()]), "{text}");
        }
        let mut all: Vec<Key> = subnets.iter().skip(1).flat_map(|s| keys(&masquerade(s))).collect();
        all.reverse();
        let read: BTreeSet<_> = decode(Set::Masq4, &all).unwrap().into_iter().collect();
        assert_eq!(read, subnets.iter().skip(1).map(|s| masquerade(s)).collect());
        let name = IfName::parse("pntbadec5e726bb").unwrap();
        for element in [Element::Bridge(name.clone()), Element::Intra(name.clone()), Element::Engine(name)] {
            assert_eq!(decode(Set::of(&element), &keys(&element)), Some(vec![element]));
        }
    }

    #[test]
    fn what_pontoon_would_never_write_is_not_an_element() {
        let key = |bytes: &[u8], end| Key { bytes: bytes.to_vec(), end };
        assert_eq!(decode(Set::Masq4, &[key(&[10, 0, 0, 1], false), key(&[10, 0, 0, 9], true)]), None);
        assert_eq!(decode(Set::Masq4, &[key(&[10, 0], false)]), None);
        assert_eq!(decode(Set::Intra, &[key(b"a", false)]), None);
        assert_eq!(decode(Set::Bridges, &[key(b"", false)]), None);
        assert!(parse_elements(&[1, 2, 3]).is_empty());
    }

    #[test]
    fn only_the_widest_subnets_are_written() {
        let all = ["10.0.0.0/16", "10.0.0.0/24", "10.0.3.0/24", "10.1.0.0/24", "::/0", "fd00::/64"];
        let kept: BTreeSet<_> = ["10.0.0.0/16", "10.1.0.0/24", "::/0"].into_iter().map(masquerade).collect();
        assert_eq!(outermost(&all.into_iter().map(masquerade).collect()), kept);
    }
}
