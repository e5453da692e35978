//! The lease of an endpoint from a DHCP server, and the identity by which a later endpoint finds it again.

use std::fmt;
use std::net::Ipv4Addr;

use dhcp::client::Held;
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

use super::digest::digest;
use super::{EndpointId, IfName, Mac, NetworkId, Vid};

pub use dhcp::{Lease, Route};

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
    pub used: Option<Ipv4Addr>,
    /// The address that the server granted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
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

    /// Ends what a reboot of the host ends: the endpoint is gone, and no time of the lease means anything.
    pub fn reboot(&mut self) {
        (self.endpoint, self.used, self.held, self.since) = (None, None, None, 0);
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

/// The address of a lease with its prefix length.
pub fn network_of(lease: &Lease) -> Option<IpNetwork> {
    Ipv4Network::new(lease.address, lease.prefix).ok().map(IpNetwork::V4)
}
