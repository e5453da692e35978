//! Whether the host and the containers on a parent reach each other (`pontoon.host`), and the link by which they do: the
//! kernel keeps children apart from their parent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{IfName, Mac};

/// Whether the host and the containers on a parent reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAccess {
    /// They do not.
    #[default]
    No,
    /// They do; refused where it is not possible.
    Yes,
    /// They do where it is possible.
    Auto,
    /// They do, and the host has these addresses of its own on the network.
    At(HostAddresses),
}

/// Addresses of the host on a network, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAddresses {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
}

impl HostAddresses {
    /// The addresses, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

impl HostAccess {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for HostAccess {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "false" => return Ok(Self::No),
            "true" => return Ok(Self::Yes),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let mut addresses = HostAddresses { v4: None, v6: None };
        for one in text.split(',') {
            let taken = match one.trim().parse().map_err(|_| ())? {
                IpAddr::V4(ip) => addresses.v4.replace(ip).is_some(),
                IpAddr::V6(ip) => addresses.v6.replace(ip).is_some(),
            };
            if taken {
                return Err(());
            }
        }
        Ok(Self::At(addresses))
    }
}

impl fmt::Display for HostAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("false"),
            Self::Yes => f.write_str("true"),
            Self::Auto => f.write_str("auto"),
            Self::At(addresses) => {
                let texts: Vec<_> = addresses.iter().map(|address| address.to_string()).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

/// The link by which the host reaches the macvlan containers on a parent, and they reach the host: a child of the parent
/// that stays on the host. All networks on the parent share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLink {
    /// The link.
    pub link: IfName,
    /// Its hardware address, which containers take for the host's.
    pub mac: Mac,
}

/// The same for ipvlan, with the hardware address of the parent. Each network has its own: it may have addresses of the
/// network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpvlanHostLink {
    /// The link.
    pub link: IfName,
    /// The addresses of the host on the network, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<HostAddresses>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_word_or_an_address_of_each_family() {
        for text in ["false", "true", "auto", "192.0.2.7", "2001:db8::7", "192.0.2.7,2001:db8::7"] {
            assert_eq!(text.parse::<HostAccess>().unwrap().to_string(), text);
        }
        for text in ["", "yes", "TRUE", "192.0.2.7,192.0.2.8", "192.0.2.7/24", "192.0.2.7,", "true,192.0.2.7"] {
            assert_eq!(text.parse::<HostAccess>(), Err(()), "{text}");
        }
    }
}
