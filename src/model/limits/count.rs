//! Numbers of connections and packets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of connections, between 1 and [`MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Count(u32);

/// A number of connections or packets per second, between 1 and [`MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PerSecond(u32);

/// The largest number.
pub const MOST: u32 = 10_000_000;

const COUNT_FORM: &str = "a number from 1 to 10000000";
const RATE_FORM: &str = "a number per second from 1/s to 10000000/s, such as 50/s";

impl Count {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl PerSecond {
    /// The number in a second.
    pub fn get(self) -> u32 {
        self.0
    }

    /// How many may exceed it at once: a tenth, and at least a few.
    pub fn burst(self) -> u32 {
        (self.0 / 10).max(5)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=MOST).contains(number))
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        number(text).map(Self).ok_or(COUNT_FORM)
    }
}

impl FromStr for PerSecond {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        number(text.strip_suffix("/s").unwrap_or(text)).map(Self).ok_or(RATE_FORM)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl TryFrom<u32> for Count {
    type Error = &'static str;
    fn try_from(number: u32) -> Result<Self, Self::Error> {
        number.to_string().parse()
    }
}

impl TryFrom<u32> for PerSecond {
    type Error = &'static str;
    fn try_from(number: u32) -> Result<Self, Self::Error> {
        number.to_string().parse()
    }
}

impl From<Count> for u32 {
    fn from(count: Count) -> u32 {
        count.0
    }
}

impl From<PerSecond> for u32 {
    fn from(rate: PerSecond) -> u32 {
        rate.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_range_and_rates_a_second() {
        for (text, number) in [("1", 1), ("500", 500), ("10000000", MOST)] {
            assert_eq!(text.parse::<Count>().unwrap().get(), number);
            assert_eq!(format!("{text}/s").parse::<PerSecond>().unwrap().get(), number);
            assert_eq!(text.parse::<PerSecond>().unwrap().to_string(), format!("{text}/s"));
        }
        for text in ["", "0", "-1", "+1", "10000001", "5k", "1.5", "99999999999", "5 "] {
            assert!(text.parse::<Count>().is_err() && text.parse::<PerSecond>().is_err(), "{text:?}");
        }
        assert!("50/m".parse::<PerSecond>().is_err() && "50/s".parse::<Count>().is_err());
        assert!(serde_json::from_str::<Count>("0").is_err() && serde_json::from_str::<PerSecond>("10000001").is_err());
        assert_eq!((PerSecond(50).burst(), PerSecond(500).burst()), (5, 50));
    }
}
