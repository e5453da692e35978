//! Values that the protocol encodes as strings, parsed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::refusal::Refusal;

/// A value that the engine would not accept, or that it sent in an invalid format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not {expected}")]
pub struct InvalidValue {
    what: &'static str,
    text: String,
    expected: &'static str,
}

impl InvalidValue {
    pub(crate) fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), expected }
    }
}

impl From<InvalidValue> for Refusal {
    fn from(error: InvalidValue) -> Self {
        Refusal::new(error.to_string())
    }
}

/// An address with the length of its network's prefix, as in `10.0.0.1/24`. The prefix fits the
/// address's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    const EXPECTED: &str = "an address with a prefix length, like 10.0.0.1/24";

    /// An address and its prefix length in bits.
    ///
    /// # Errors
    /// More than 32 bits for IPv4, or more than 128 for IPv6.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Result<Self, InvalidValue> {
        let address = address.into();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(InvalidValue::new("prefix", &format!("{address}/{prefix}"), Self::EXPECTED));
        }
        Ok(Self { address, prefix })
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length, in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("address", text, Self::EXPECTED);
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let prefix = prefix.bytes().all(|c| c.is_ascii_digit()).then(|| prefix.parse().ok()).flatten();
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        Self::new(address, prefix.ok_or_else(invalid)?).map_err(|_| invalid())
    }
}

/// A MAC address of six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Its bytes.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for MacAddress {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("MAC address", text, "six hexadecimal bytes with colons between them");
        let (mut bytes, mut parts) = ([0; 6], text.split(':'));
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(invalid)?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_prefix_of_its_family() {
        for good in ["10.0.0.1/24", "0.0.0.0/0", "fd00::1/64", "::/128"] {
            assert_eq!(good.parse::<Cidr>().unwrap().to_string(), good);
        }
        for bad in ["", "10.0.0.1", "10.0.0.1/33", "fd00::/129", "10.0.0.1/+4", "10.0.0.1/", "/24", "10.0.0/24", "a/8"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!(Cidr::new([10, 0, 0, 1], 33).is_err());
    }

    #[test]
    fn a_mac_address_has_six_bytes() {
        assert_eq!("02:42:AC:1e:00:99".parse::<MacAddress>().unwrap().to_string(), "02:42:ac:1e:00:99");
        for bad in
            ["", "02:42:ac:1e:00", "02:42:ac:1e:00:99:01", "2:42:ac:1e:00:99", "+2:42:ac:1e:00:99", "02-42-ac-1e-00-99"]
        {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
