//! Hardware addresses.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::digest::digest;

/// Why a text is not a valid hardware address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not six hexadecimal pairs separated by colons.
    #[error("{0:?} is not a MAC address, write it like 02:42:ac:11:00:02")]
    Form(String),
    /// The group bit is set, or all bits are zero.
    #[error("{0:?} is a multicast or zero address, an endpoint needs a unicast MAC")]
    NotUnicast(String),
}

/// A unicast Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// Six hexadecimal pairs with colons or dashes.
    pub fn parse(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(|| MacError::Form(text.to_owned()))?;
        }
        if parts.next().is_some() {
            return Err(MacError::Form(text.to_owned()));
        }
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(MacError::NotUnicast(text.to_owned()));
        }
        Ok(Self(bytes))
    }

    /// The address of `id`'s link in the role `salt`: locally administered, and the same each time it is
    /// derived.
    pub fn derive(salt: &str, id: &str) -> Self {
        let d = digest([salt, id]).to_be_bytes();
        Self([(d[0] & 0xfc) | 0x02, d[1], d[2], d[3], d[4], d[5]])
    }

    /// The address of the host end of an endpoint's pair. The first byte is 0xfe, the highest value for a
    /// locally administered unicast address: a bridge without an address of its own takes the lowest address
    /// of its ports, and this one is never the lowest when there are others.
    pub fn derive_port(id: &str) -> Self {
        let [_, rest @ ..] = Self::derive("host", id).0;
        let [a, b, c, d, e] = rest;
        Self([0xfe, a, b, c, d, e])
    }

    /// The IPv6 link-local address that a link with this hardware address assigns itself (RFC 4291, appendix
    /// A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// The address of a network's bridge, which is its gateway on every host.
    pub fn of_bridge(network: &str) -> Self {
        Self::derive("bridge", network)
    }

    /// The six bytes in network order.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// An address from a frame; `None` if no station can have it: a group address or zero.
    pub fn unicast(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// An address read from the kernel.
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        Self::parse(&text)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4], b[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        assert_eq!(Mac::parse("02:42:AC:1e:00:99").unwrap().to_string(), "02:42:ac:1e:00:99");
        for bad in ["", "02:42", "02:42:ac:1e:00:9", "02:42:ac:1e:00:99:00", "0g:42:ac:1e:00:99", "+2:42:ac:1e:00:99"] {
            assert!(matches!(Mac::parse(bad), Err(MacError::Form(_))), "{bad:?}");
        }
        for bad in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert!(matches!(Mac::parse(bad), Err(MacError::NotUnicast(_))), "{bad}");
        }
    }

    #[test]
    fn derived_addresses_are_local_unicast_and_differ() {
        let (a, b) = (Mac::derive("peer", "one"), Mac::derive("host", "one"));
        assert_ne!(a, b);
        // Records and links of every installation contain them.
        assert_eq!((a.to_string(), b.to_string()), ("96:ad:3e:fd:b9:d5".to_owned(), "0a:b0:82:36:44:80".to_owned()));
        assert_eq!(Mac::derive_port("one").to_string(), "fe:b0:82:36:44:80");
        for mac in [a, b, Mac::derive_port("one")] {
            assert_eq!(mac.bytes()[0] & 3, 2);
        }
        assert!((0..200).all(|n| Mac::derive_port(&n.to_string()).bytes()[0] == 0xfe));
        assert_eq!(Mac::parse("02:42:ac:11:00:02").unwrap().link_local().to_string(), "fe80::42:acff:fe11:2");
    }
}
