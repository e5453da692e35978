//! Rates and amounts of data, in the units of `tc`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A rate in bits per second, between [`Rate::LEAST`] and [`Rate::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

/// An amount of data in bytes, between [`Bytes::LEAST`] and [`Bytes::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(u32);

/// The form of a rate, in errors and in the table of options.
pub const RATE_FORM: &str = "bits per second from 8kbit to 32gbit, such as 500kbit, 50mbit or 1.5gbit";

/// The form of an amount of data, in errors and in the table of options.
pub const BYTES_FORM: &str = "bytes from 2kb to 64mb, such as 32kb or 1mb (1024 and 1048576 bytes)";

/// Units of rates, the largest first.
const RATES: [(&str, u64); 4] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

/// Units of amounts, the largest first. Those of one letter are parsed only.
const AMOUNTS: [(&str, u64); 5] = [("mb", 1 << 20), ("kb", 1 << 10), ("m", 1 << 20), ("k", 1 << 10), ("b", 1)];

impl Rate {
    /// The lowest rate. A full frame takes more than a second there.
    pub const LEAST: u64 = 8_000;
    /// The highest rate: the kernel's field has 32 bits, in bytes per second.
    pub const MOST: u64 = 32_000_000_000;

    /// A rate; `None` when it is out of range.
    pub fn new(bits: u64) -> Option<Self> {
        (Self::LEAST..=Self::MOST).contains(&bits).then_some(Self(bits))
    }

    /// Bits per second.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Bytes per second.
    pub fn bytes(self) -> u32 {
        u32::try_from(self.0 / 8).unwrap_or(u32::MAX)
    }
}

impl Bytes {
    /// The smallest amount: a frame of the usual size has to fit.
    pub const LEAST: u32 = 2 << 10;
    /// The largest amount.
    pub const MOST: u32 = 64 << 20;

    /// An amount; `None` when it is out of range.
    pub fn new(bytes: u32) -> Option<Self> {
        (Self::LEAST..=Self::MOST).contains(&bytes).then_some(Self(bytes))
    }

    /// The number of bytes.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A decimal number with a unit, rounded down; `None` if it is not one. Digits after the point count as far as they
/// matter for the unit.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.len() <= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || number.ends_with('.') {
        return None;
    }
    let part = match fraction {
        "" => 0,
        _ => fraction.parse::<u64>().ok()?.checked_mul(*scale)? / 10u64.pow(u32::try_from(fraction.len()).ok()?),
    };
    whole.parse::<u64>().ok()?.checked_mul(*scale)?.checked_add(part)
}

/// Writes a number with the largest unit of which it is a multiple.
fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (unit, scale) = units.iter().find(|(_, scale)| value.is_multiple_of(*scale)).unwrap_or(&("", 1));
    write!(f, "{}{unit}", value / scale)
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        quantity(text, &RATES).and_then(Self::new).ok_or(RATE_FORM)
    }
}

impl FromStr for Bytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}b") } else { text.to_owned() };
        quantity(&bytes, &AMOUNTS).and_then(|bytes| Self::new(bytes.try_into().ok()?)).ok_or(BYTES_FORM)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, &RATES, f)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0.into(), &AMOUNTS, f)
    }
}

impl TryFrom<String> for Rate {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> String {
        rate.to_string()
    }
}

impl TryFrom<String> for Bytes {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        bytes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_have_the_units_of_tc() {
        for (text, bits, printed) in [
            ("8kbit", 8_000, "8kbit"),
            ("50mbit", 50_000_000, "50mbit"),
            ("1.5Gbit", 1_500_000_000, "1500mbit"),
            ("0.25mbit", 250_000, "250kbit"),
            ("9001bit", 9_001, "9001bit"),
            ("32gbit", Rate::MOST, "32gbit"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bits(), rate.to_string().as_str()), (bits, printed), "{text}");
        }
        // `kbps` and the like are bytes in tc and bits elsewhere.
        let refused = "50 50mbps 50kbps 50m mbit .5mbit 5.mbit 1.2.3mbit -1mbit 7kbit 33gbit 1e3kbit 50mbit/s 1mibit";
        for text in refused.split(' ').chain(["", "50 mbit", "99999999999999mbit"]) {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_bytes() {
        for (text, bytes, printed) in
            [("2048", 2048, "2kb"), ("32kb", 32 << 10, "32kb"), ("1m", 1 << 20, "1mb"), ("3000b", 3000, "3000b")]
        {
            let amount: Bytes = text.parse().unwrap();
            assert_eq!((amount.get(), amount.to_string().as_str()), (bytes, printed), "{text}");
        }
        for text in ["", "b", "1kb", "65mb", "32kbit", "4gb", "-5kb"] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?}");
        }
    }

    proptest! {
        /// What parses prints as itself, and the ledger keeps it.
        #[test]
        fn quantities_are_kept(bits in Rate::LEAST..Rate::MOST, bytes in Bytes::LEAST..Bytes::MOST, text in "[0-9.kmgbit]{0,12}") {
            let rate = Rate::new(bits).unwrap();
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            let amount = Bytes::new(bytes).unwrap();
            prop_assert_eq!(amount.to_string().parse::<Bytes>(), Ok(amount));
            if let Ok(rate) = text.parse::<Rate>() {
                let written = serde_json::to_string(&rate).unwrap();
                prop_assert_eq!(serde_json::from_str::<Rate>(&written).unwrap(), rate);
            }
        }
    }
}
