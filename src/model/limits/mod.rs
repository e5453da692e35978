//! How much an endpoint may send and receive: rates in the units of `tc`, and the options of networks and endpoints.

mod count;
mod quantity;

use serde::{Deserialize, Serialize};

use super::options::table::{CONN_MAX, CONN_RATE, PACKET_RATE, RATE_BURST, RATE_IN, RATE_OUT};
use super::options::{OptionError, OptionRow, refused};
pub use count::{Count, PerSecond};
pub use quantity::{Bytes, Rate};

/// Limits of an endpoint; on a network, the defaults for its endpoints. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitOptions {
    /// What it may receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_in: Option<Rate>,
    /// What it may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_out: Option<Rate>,
    /// How much may exceed the rate at once, in either direction; `None` follows from the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Bytes>,
    /// How many connections it may have at a time, of each address family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Count>,
    /// How many connections may be opened in a second, of each address family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<PerSecond>,
    /// How many packets it may send in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_rate: Option<PerSecond>,
}

impl LimitOptions {
    /// Takes one of these options of the table; false if `row` is another.
    ///
    /// # Errors
    /// The value does not have the form that the row requires.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<bool, OptionError> {
        match row.key {
            RATE_IN => self.rate_in = Some(parsed(row, given)?),
            RATE_OUT => self.rate_out = Some(parsed(row, given)?),
            RATE_BURST => self.burst = Some(parsed(row, given)?),
            CONN_MAX => self.connections = Some(parsed(row, given)?),
            CONN_RATE => self.connection_rate = Some(parsed(row, given)?),
            PACKET_RATE => self.packet_rate = Some(parsed(row, given)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.rate_in.is_some(), RATE_IN),
            (self.rate_out.is_some(), RATE_OUT),
            (self.burst.is_some(), RATE_BURST),
            (self.packet_rate.is_some(), PACKET_RATE),
        ];
        given.into_iter().find_map(|(given, key)| given.then_some(key)).or(self.of_connections())
    }

    /// The first option about connections that was given.
    pub fn of_connections(&self) -> Option<&'static str> {
        let given = [(self.connections.is_some(), CONN_MAX), (self.connection_rate.is_some(), CONN_RATE)];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// The limits of an endpoint with these options on a network with others.
    pub fn or(self, network: Self) -> Self {
        Self {
            rate_in: self.rate_in.or(network.rate_in),
            rate_out: self.rate_out.or(network.rate_out),
            burst: self.burst.or(network.burst),
            connections: self.connections.or(network.connections),
            connection_rate: self.connection_rate.or(network.connection_rate),
            packet_rate: self.packet_rate.or(network.packet_rate),
        }
    }
}

fn parsed<T: std::str::FromStr<Err = &'static str>>(row: &OptionRow, given: &str) -> Result<T, OptionError> {
    given.trim().parse().map_err(|expected| refused(row, given, expected))
}
