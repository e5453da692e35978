//! The only place that parses the engine's requests: bodies of the protocol become the values that the driver
//! works with, and after this step nothing is raw text.
//!
//! Pure. An error names the value and the remedy in one line.

mod endpoint;
mod ipam;
mod network;
mod node;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

pub use self::endpoint::{bindings, endpoint, endpoint_id, fingerprint, join, publication};
pub use self::ipam::{address, address_request, pool};
pub use self::network::{allocation, gateway_check, network, network_id};
pub use self::node::node;
use crate::api::network::key;
use crate::driver::PortMapError;
use crate::model::Family;
use crate::model::id::IdError;
use crate::model::mac::MacError;
use crate::model::options::OptionError;

/// Why a request is invalid. One line each, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An id is malformed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// An option is unknown or does not parse.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A MAC is malformed.
    #[error(transparent)]
    Mac(#[from] MacError),
    /// One of the engine's keys has a value of an unexpected type.
    #[error("{key} has the value {value}, expected {expected}")]
    Type {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The expected type.
        expected: &'static str,
    },
    /// Several subnets of one family.
    #[error("{count} {family} subnets were given, Pontoon takes one of each family: create a network for each")]
    Many {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The number of subnets.
        count: usize,
    },
    /// The text is not an address, or is of the wrong family.
    #[error("{what} {text:?} is not an {family} address with a prefix length")]
    Address {
        /// The field.
        what: &'static str,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The text.
        text: String,
    },
    /// The subnet has host bits.
    #[error("subnet {given} has host bits, did you mean {meant}?")]
    HostBits {
        /// The given subnet.
        given: IpNetwork,
        /// The subnet without host bits.
        meant: String,
    },
    /// The address is outside the network's subnet.
    #[error("{what} {address} is outside the subnet {pool}")]
    Outside {
        /// The role of the address.
        what: String,
        /// The address.
        address: IpAddr,
        /// The subnet.
        pool: IpNetwork,
    },
    /// A value that should be an address does not parse.
    #[error("{what} {text:?} is not an address")]
    NotAnAddress {
        /// The field.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The port map is invalid.
    #[error(transparent)]
    PortMap(#[from] PortMapError),
}

/// Parses a boolean; `default` when the key is absent or null.
fn flag(options: &Map<String, Value>, key: &str, default: bool) -> Result<bool, DecodeError> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(other) => Err(DecodeError::Type { key: key.to_owned(), value: brief(other), expected: "true or false" }),
    }
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// The user's `-o` options; the engine sends strings, a spec file may hold other scalars.
fn generic(options: &Map<String, Value>) -> Result<BTreeMap<String, String>, DecodeError> {
    let map = match options.get(key::GENERIC) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(DecodeError::Type { key: key::GENERIC.to_owned(), value: brief(other), expected: "an object" });
        }
    };
    map.iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            Value::Bool(_) | Value::Number(_) => Ok((key.clone(), value.to_string())),
            Value::Null => Ok((key.clone(), String::new())),
            other => Err(DecodeError::Type { key: key.clone(), value: brief(other), expected: "a text" }),
        })
        .collect()
}

fn cidr(what: &'static str, text: &str, family: Family) -> Result<IpNetwork, DecodeError> {
    let wrong = || DecodeError::Address { what, family: family.name(), text: text.chars().take(80).collect() };
    let net: IpNetwork = text.parse().map_err(|_| wrong())?;
    if Family::of(&net.ip()) == family && text.contains('/') { Ok(net) } else { Err(wrong()) }
}
