//! Options of networks and endpoints whose addresses come from DHCP servers and routers of the local network.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease::LeaseSource;
use super::options::table::{DHCP, DHCP_HOSTNAME, DHCP_ID, DHCP_PARK, DHCP_REQUEST, DHCP_SERVER, DHCP_TIMEOUT};
use super::options::{OptionError, OptionRow, refused};

/// How long CreateEndpoint waits for a lease, unless the user says otherwise: less than the engine's patience, and
/// longer than common servers test an address.
const TIMEOUT: u16 = 8;

/// How long the lease of a stopped container is kept, unless the user says otherwise, in seconds.
const PARK: u32 = 600;

/// Longest name that a user may give, in bytes: a label of DNS.
const NAME: usize = 63;

/// The options of a network; `None` means the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DhcpOptions {
    /// Whether endpoints get IPv4 addresses by DHCP.
    #[serde(default)]
    pub v4: bool,
    /// Whether endpoints get IPv6 addresses with the prefix of a router.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub slaac: bool,
    /// How long CreateEndpoint waits for a lease, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u16>,
    /// How long the lease of a deleted endpoint is kept, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park: Option<u32>,
    /// The only servers that are listened to; empty is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Ipv4Addr>,
}

impl DhcpOptions {
    /// Takes one of these options of the table; false if `row` is another.
    ///
    /// # Errors
    /// The value does not have the form that the row requires.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<bool, OptionError> {
        let text = given.trim();
        let wrong = || refused(row, given, row.value);
        match row.key {
            DHCP => {
                for word in text.split(',').map(str::trim) {
                    match word {
                        "4" => self.v4 = true,
                        "slaac" => self.slaac = true,
                        "6" | "auto" => {
                            let why = format!("{}: {word} is not supported by this release", row.value);
                            return Err(refused(row, given, &why));
                        }
                        _ => return Err(wrong()),
                    }
                }
            }
            DHCP_TIMEOUT => {
                self.timeout = Some(text.parse().ok().filter(|time| (1..=9).contains(time)).ok_or_else(wrong)?);
            }
            DHCP_PARK => {
                self.park = Some(text.parse().ok().filter(|time| *time <= 86_400).ok_or_else(wrong)?);
            }
            DHCP_SERVER => {
                let servers: Result<_, _> = text.split(',').map(|server| server.trim().parse()).collect();
                self.servers = servers.map_err(|_| wrong())?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Where addresses come from; empty without this kind of options.
    pub fn sources(&self) -> impl Iterator<Item = LeaseSource> {
        LeaseSource::ALL.into_iter().filter(|source| match source {
            LeaseSource::Dhcp4 => self.v4,
            LeaseSource::Slaac => self.slaac,
        })
    }

    /// Whether addresses come from the local network.
    pub fn is_on(&self) -> bool {
        self.sources().next().is_some()
    }

    /// The value of the option `pontoon.dhcp`.
    pub fn words(&self) -> String {
        self.sources().map(LeaseSource::word).collect::<Vec<_>>().join(",")
    }

    /// The first option besides that of the sources that was given.
    pub fn detail(&self) -> Option<&'static str> {
        let given = [
            (self.timeout.is_some(), DHCP_TIMEOUT),
            (self.park.is_some(), DHCP_PARK),
            (!self.servers.is_empty(), DHCP_SERVER),
        ];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long CreateEndpoint waits for a lease.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(TIMEOUT).into())
    }

    /// How long the lease of a deleted endpoint is kept, in seconds.
    pub fn park(&self) -> u32 {
        self.park.unwrap_or(PARK)
    }
}

/// The options of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DhcpEndpointOptions {
    /// The name by which its lease is found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The host name that the server is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The address to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Ipv4Addr>,
}

impl DhcpEndpointOptions {
    /// Takes one of these options of the table; false if `row` is another.
    ///
    /// # Errors
    /// The value does not have the form that the row requires.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<bool, OptionError> {
        let text = given.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name =
            || Some(text.to_owned()).filter(|text| (1..=NAME).contains(&text.len()) && text.chars().all(is_name));
        let wrong = || refused(row, given, row.value);
        match row.key {
            DHCP_ID => self.id = Some(name().ok_or_else(wrong)?),
            DHCP_HOSTNAME => self.hostname = Some(name().ok_or_else(wrong)?),
            DHCP_REQUEST => self.request = Some(text.parse().map_err(|_| wrong())?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The first option that was given and is for DHCP servers alone.
    pub fn of_dhcp4(&self) -> Option<&'static str> {
        let given = [(self.hostname.is_some(), DHCP_HOSTNAME), (self.request.is_some(), DHCP_REQUEST)];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.id.is_some(), DHCP_ID),
            (self.hostname.is_some(), DHCP_HOSTNAME),
            (self.request.is_some(), DHCP_REQUEST),
        ];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        self.given().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{EndpointOptions, NetworkOptions};

    fn parse(key: &str, value: &str) -> Result<DhcpOptions, OptionError> {
        NetworkOptions::parse(&BTreeMap::from([(key.to_owned(), value.to_owned())])).map(|options| options.dhcp)
    }

    #[test]
    fn values_are_parsed_and_bounded() {
        for (value, sources) in [(" 4 ", "4"), ("slaac", "slaac"), ("slaac, 4", "4,slaac"), ("4,4", "4")] {
            let options = parse(DHCP, value).unwrap();
            assert!(options.words() == sources && options.is_on(), "{value}");
        }
        assert_eq!(parse(DHCP_TIMEOUT, "3").unwrap().timeout(), Duration::from_secs(3));
        assert_eq!(parse(DHCP_PARK, "0").unwrap().park(), 0);
        assert_eq!(parse(DHCP_SERVER, "192.0.2.1, 192.0.2.2").unwrap().servers.len(), 2);
        for (key, value) in [
            (DHCP, ""),
            (DHCP, "yes"),
            (DHCP, "4,"),
            (DHCP, "4+slaac"),
            (DHCP_TIMEOUT, "0"),
            (DHCP_TIMEOUT, "10"),
            (DHCP_PARK, "86401"),
            (DHCP_SERVER, ""),
            (DHCP_SERVER, "fd00::1"),
        ] {
            assert!(matches!(parse(key, value), Err(OptionError::Value { .. })), "{key}={value}");
        }
        let default = DhcpOptions::default();
        assert_eq!((default.is_on(), default.timeout(), default.park()), (false, Duration::from_secs(8), 600));
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        for value in ["6", "auto", "4,6", "slaac, auto"] {
            let text = parse(DHCP, value).unwrap_err().to_string();
            assert!(text.contains("is not supported by this release") && text.contains(DHCP), "{text}");
        }
    }

    #[test]
    fn options_of_endpoints() {
        let parse = |key, value| {
            let mut options = EndpointOptions::default();
            options.take(key, value).map(|()| options.dhcp)
        };
        assert_eq!(parse(DHCP_ID, "printer-1").unwrap().id.unwrap(), "printer-1");
        assert_eq!(parse(DHCP_REQUEST, "192.0.2.9").unwrap().given(), Some(DHCP_REQUEST));
        for (key, value) in
            [(DHCP_ID, ""), (DHCP_ID, "a b"), (DHCP_HOSTNAME, "ä"), (DHCP_REQUEST, "::1"), (DHCP_ID, &"x".repeat(64))]
        {
            assert!(parse(key, value).unwrap_err().to_string().contains(key), "{key}={value}");
        }
    }
}
