//! The lease of an endpoint from a DHCP server or a router, and the identity by which a later endpoint finds it again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use dhcp::{client, slaac};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::digest::digest;
use super::{EndpointId, IfName, Mac, NetworkId, Vid};

pub use dhcp::{Lease, Route};

/// Where the addresses of endpoints come from. An endpoint has a lease of each source of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseSource {
    /// IPv4 addresses from a DHCP server.
    #[default]
    Dhcp4,
    /// IPv6 addresses with the prefix of a router.
    Slaac,
}

impl LeaseSource {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dhcp4, Self::Slaac];

    /// Its name as a value of the option `pontoon.dhcp`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dhcp4 => "4",
            Self::Slaac => "slaac",
        }
    }

    /// Who gives the addresses, for messages.
    pub fn giver(self) -> &'static str {
        match self {
            Self::Dhcp4 => "DHCP server",
            Self::Slaac => "router",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A lease of either source, with the time when it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Held {
    /// Of a DHCP server.
    Dhcp4(client::Held),
    /// With the prefix of a router.
    Slaac(slaac::Held),
}

impl Held {
    /// The address.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Dhcp4(held) => held.lease.address.into(),
            Self::Slaac(held) => held.address.into(),
        }
    }

    /// The address with the length of its prefix.
    pub fn network(&self) -> Option<IpNetwork> {
        let length = match self {
            Self::Dhcp4(held) => held.lease.prefix,
            Self::Slaac(_) => 64,
        };
        IpNetwork::new(self.address(), length).ok()
    }
}

/// Which container a lease belongs to, as far as the engine tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseOwner {
    /// The name that the user gave.
    Id(String),
    /// The hardware address that the user gave.
    Mac(Mac),
    /// What the engine says about the container, and its number among those of which it says the same.
    Alike {
        /// A digest of what the engine says.
        fingerprint: String,
        /// The number.
        number: u32,
    },
}

impl fmt::Display for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id {id}"),
            Self::Mac(mac) => write!(f, "mac {mac}"),
            Self::Alike { fingerprint, number } => {
                write!(f, "container {}#{number}", fingerprint.chars().take(8).collect::<String>())
            }
        }
    }
}

/// An identity on the network of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseKey {
    /// The link: the bridge, or the parent of the endpoints' links.
    pub link: IfName,
    /// The VLAN of the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// The container.
    pub owner: LeaseOwner,
    /// Where the address comes from. The last field: leases of one container follow each other.
    #[serde(default, skip_serializing_if = "LeaseSource::is_default")]
    pub source: LeaseSource,
}

impl LeaseKey {
    /// The network on which it is, for messages.
    pub fn place(&self) -> String {
        self.vlan.map_or_else(|| self.link.to_string(), |vid| format!("{} in VLAN {vid}", self.link))
    }
}

/// An identity and its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The identity.
    pub key: LeaseKey,
    /// What the server knows the client by, after the type.
    pub label: String,
    /// The hardware address that the server knows.
    pub mac: Mac,
    /// The network of the endpoint that has or had it.
    pub network: NetworkId,
    /// The endpoint that has it; `None` while it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointId>,
    /// The address that the endpoint uses; the server may grant another one meanwhile. Its own record has it.
    #[serde(skip)]
    pub used: Option<IpAddr>,
    /// The address that the server granted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Whether other containers on the link have the same hardware address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Its address that no other host had, since it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed: Option<IpAddr>,
    /// The lease, unless it was given back or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Since when it is parked, in milliseconds of the clock of the boot.
    #[serde(default)]
    pub since: u64,
    /// How long it stays parked, in seconds.
    #[serde(default)]
    pub park: u32,
    /// The host name that the server is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The only servers that are listened to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Ipv4Addr>,
    /// Rises with each use: the identities that were not used for the longest time are forgotten first.
    #[serde(default)]
    pub turn: u64,
}

impl LeaseRecord {
    /// The client identifier (option 61): its type, and what follows.
    pub fn client_id(&self) -> Vec<u8> {
        match &self.key.owner {
            LeaseOwner::Mac(mac) => [&[1][..], &mac.bytes()].concat(),
            _ => [&[0][..], self.label.as_bytes()].concat(),
        }
    }

    /// A number by which its addresses differ from those of others that share its hardware address.
    pub fn stable(&self) -> u64 {
        digest(["slaac", self.label.as_str(), &self.mac.to_string()])
    }

    /// Ends what a reboot of the host ends: the endpoint is gone, and no time of the lease means anything.
    pub fn reboot(&mut self) {
        (self.endpoint, self.used, self.held, self.probed, self.since) = (None, None, None, None, 0);
    }
}

/// A digest of what the engine says about a container, for [`LeaseOwner::Alike`].
pub fn fingerprint(parts: &[String]) -> String {
    format!("{:016x}", digest(parts))
}

/// What the server knows a new identity by. Hosts with the same containers differ by the id of the network.
pub fn label(owner: &LeaseOwner, network: &NetworkId) -> String {
    match owner {
        LeaseOwner::Id(id) => id.clone(),
        LeaseOwner::Mac(_) => String::new(),
        LeaseOwner::Alike { fingerprint, number } => {
            format!("pontoon-{:016x}", digest([network.as_str(), fingerprint, &number.to_string()]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_releases_and_of_both_sources_are_read() {
        let earlier = serde_json::json!({
            "key": {"link": "br-lan", "owner": {"id": "printer"}}, "label": "printer", "mac": "02:00:00:00:00:07",
            "network": "n1", "endpoint": "e1", "address": "192.0.2.7",
            "held": {"address": "192.0.2.7", "prefix": 24, "server": "192.0.2.1", "duration": 60, "renewal": 30,
                     "rebinding": 50, "granted": 9, "hardware": [6, 0, 0, 0, 0, 1]}
        });
        let mut record: LeaseRecord = serde_json::from_value(earlier).unwrap();
        assert_eq!((record.key.source, record.shared, record.probed), (LeaseSource::Dhcp4, false, None));
        assert!(
            matches!(&record.held, Some(held @ Held::Dhcp4(_)) if held.network().unwrap().to_string() == "192.0.2.7/24")
        );
        assert!(!serde_json::to_string(&record).unwrap().contains("source"), "as earlier releases wrote it");
        record.key.source = LeaseSource::Slaac;
        record.held = Some(Held::Slaac(slaac::Held {
            address: "2001:db8::7".parse().unwrap(),
            router: "fe80::1".parse().unwrap(),
            granted: 9,
            expires: 60,
            deprecates: 30,
            mtu: None,
            dns: Vec::new(),
        }));
        let again: LeaseRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, record);
    }
}
