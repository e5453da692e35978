//! Descriptions of sets and maps.

use netlink::Family;

use crate::message::INET;
use crate::stateful::Stateful;

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP` and `NFT_SET_CONCAT`.
const FLAG_INTERVAL: u32 = 0x4;
const FLAG_MAP: u32 = 0x8;
const FLAG_CONCAT: u32 = 0x80;
/// `NFT_SET_TIMEOUT`: elements expire. `NFT_SET_EVAL`: packets add them, which sets of ranges do not support.
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_EVAL: u32 = 0x20;

/// nft's numbers for byte orders.
pub(crate) const ORDER_HOST: u32 = 1;
pub(crate) const ORDER_NETWORK: u32 = 2;

/// The type of one field of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// A link's name, padded with zeroes (`IFNAMSIZ`).
    Link,
    /// A link's index.
    Index,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// A MAC address.
    Mac,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
    /// Four bytes: a mark is the only type of this size that nft prints unchanged, in hexadecimal.
    Mark,
    /// A family of packets.
    Family,
    /// A VLAN id, 12 bits: nft prints sets with one only by [`Set::printed_as`].
    Vlan,
}

impl DataType {
    /// Its bytes.
    pub fn size(self) -> usize {
        match self {
            DataType::Link | DataType::V6 => 16,
            DataType::V4 | DataType::Mark | DataType::Index => 4,
            DataType::Mac => 6,
            DataType::Protocol | DataType::Family => 1,
            DataType::Port | DataType::Vlan => 2,
        }
    }

    /// nft's number of the type, which determines how nft prints it (nft's `datatype.h`).
    fn number(self) -> u32 {
        match self {
            DataType::Family => 2,
            DataType::Vlan => 4,
            DataType::V4 => 7,
            DataType::V6 => 8,
            DataType::Mac => 9,
            DataType::Protocol => 12,
            DataType::Port => 13,
            DataType::Mark => 19,
            DataType::Index => 20,
            DataType::Link => 41,
        }
    }
}

/// Size in bytes of several concatenated fields: each is padded to a register of four bytes.
fn size(types: &[DataType]) -> usize {
    match types {
        [only] => only.size(),
        _ => types.iter().map(|data| data.size().next_multiple_of(4)).sum(),
    }
}

/// Type of several concatenated fields in nft's numbers, six bits each.
fn number(types: &[DataType]) -> u32 {
    types.iter().fold(0, |number, data| (number << 6) | data.number())
}

/// A set, or with values a map.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Family of its table.
    pub family: u8,
    /// Its name.
    pub name: &'a str,
    /// Its purpose.
    pub comment: &'a str,
    /// Types of the fields of a key.
    pub key: &'a [DataType],
    /// Types of the fields of a value; none in a set.
    pub value: &'a [DataType],
    /// Whether the last field of the key is a range of addresses.
    pub interval: bool,
    /// For a set whose elements expire: its maximum size, and the timeout of an element in milliseconds.
    pub dynamic: Option<(u32, u64)>,
    /// What nft prints instead of the type, as it stores that itself (`typeof`); empty for most sets.
    pub typeof_key: &'a [u8],
    /// The kind of limit that its elements have, each with numbers of its own; those given here are for elements without
    /// any.
    pub stateful: Option<Stateful>,
}

impl<'a> Set<'a> {
    /// A set of family `inet`.
    pub const fn new(name: &'a str, key: &'a [DataType], comment: &'a str) -> Self {
        Self {
            family: INET,
            name,
            comment,
            key,
            value: &[],
            interval: false,
            dynamic: None,
            typeof_key: &[],
            stateful: None,
        }
    }

    /// The same as a map with values of these types.
    pub const fn to(self, value: &'a [DataType]) -> Self {
        Self { value, ..self }
    }

    /// The same with ranges as last field.
    pub const fn ranges(self) -> Self {
        Self { interval: true, ..self }
    }

    /// The same with elements that expire. Rules add them, unless they are ranges.
    pub const fn dynamic(self, size: u32, milliseconds: u64) -> Self {
        Self { dynamic: Some((size, milliseconds)), ..self }
    }

    /// The same with a key whose types nft prints as these expressions, in nft's own encoding.
    pub const fn printed_as(self, typeof_key: &'a [u8]) -> Self {
        Self { typeof_key, ..self }
    }

    /// The same with a limit in each element.
    pub const fn limited(self, default: Stateful) -> Self {
        Self { stateful: Some(default), ..self }
    }

    /// The same in another family.
    pub const fn of_family(self, family: u8) -> Self {
        Self { family, ..self }
    }

    /// The kernel's flags.
    pub fn flags(&self) -> u32 {
        let flag = |on: bool, flag| if on { flag } else { 0 };
        flag(self.interval, FLAG_INTERVAL)
            | flag(self.is_map(), FLAG_MAP)
            | flag(self.dynamic.is_some(), FLAG_TIMEOUT)
            | flag(self.dynamic.is_some() && !self.interval, FLAG_EVAL)
            | flag(self.is_concatenated(), FLAG_CONCAT)
    }

    /// Whether its keys have values.
    pub fn is_map(&self) -> bool {
        !self.value.is_empty()
    }

    /// Whether its keys have values or limits: two elements with one key cannot coexist.
    pub fn has_values(&self) -> bool {
        self.is_map() || self.stateful.is_some()
    }

    /// Whether its keys have several fields.
    pub fn is_concatenated(&self) -> bool {
        self.key.len() > 1
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        size(self.key)
    }

    /// Bytes of a value.
    pub fn value_size(&self) -> usize {
        size(self.value)
    }

    /// Number of the key's type, as a listing shows it.
    pub fn key_number(&self) -> u32 {
        number(self.key)
    }

    /// Number of the value's type, as a listing shows it; 0 in a set.
    pub fn value_number(&self) -> u32 {
        number(self.value)
    }

    /// The family of the addresses that its values are, or begin with.
    pub fn value_family(&self) -> Family {
        if self.value.first() == Some(&DataType::V6) { Family::V6 } else { Family::V4 }
    }

    /// Byte order of keys, in nft's numbers; for printing only.
    pub(crate) fn key_order(&self) -> u32 {
        order(self.key)
    }

    /// Byte order of values, in nft's numbers; for printing only.
    pub(crate) fn value_order(&self) -> u32 {
        order(self.value)
    }
}

fn order(types: &[DataType]) -> u32 {
    match types {
        [DataType::Link | DataType::Family | DataType::Index, ..] => ORDER_HOST,
        _ => ORDER_NETWORK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_types_and_flags_are_those_of_nft() {
        let port = Set::new("p", &[DataType::Protocol, DataType::Port], "").to(&[DataType::V6, DataType::Port]);
        assert_eq!((size(port.key), size(port.value), size(&[DataType::Mac])), (8, 20, 6));
        assert_eq!((port.key_number(), number(&[])), ((12 << 6) | 13, 0));
        assert_eq!(port.flags(), FLAG_CONCAT | FLAG_MAP);
        assert_eq!(Set::new("a", &[DataType::V4, DataType::V4], "").ranges().flags(), FLAG_CONCAT | FLAG_INTERVAL);
        assert_eq!(port.value_family(), Family::V6);
    }
}
