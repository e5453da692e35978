//! A network: the parsed request of the engine, and what Pontoon created for it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::access::StoredLists;
use super::{NetworkId, NetworkKind, NetworkOptions};

/// The addresses of one family of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The pool, with host bits zero.
    pub pool: IpNetwork,
    /// The address that the IPAM driver reserved for the bridge, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// `DefaultGatewayIPv4` / `DefaultGatewayIPv6`: containers use this as gateway instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_gateway: Option<IpAddr>,
    /// Other addresses reserved with `--aux-address`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aux: Vec<IpAddr>,
}

impl Subnet {
    /// The bridge's address with the pool's prefix length.
    pub fn gateway_net(&self) -> Option<IpNetwork> {
        IpNetwork::new(self.gateway?, self.pool.prefix()).ok()
    }
}

/// What CreateNetwork asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The engine's id.
    pub id: NetworkId,
    /// IPv4, absent for an IPv6-only network or with the `null` IPAM driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Subnet>,
    /// IPv6, absent unless enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Subnet>,
    /// `--internal`: no traffic into or out of the network, except with the host itself.
    #[serde(default)]
    pub internal: bool,
    /// The `-o` options.
    pub options: NetworkOptions,
}

impl NetworkSpec {
    /// The subnets that are present, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.v4.iter().chain(self.v6.iter())
    }
}

/// A network in Pontoon's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What was asked for.
    pub spec: NetworkSpec,
    /// What carries it.
    pub kind: NetworkKind,
    /// MTU of its links, in bytes.
    pub mtu: u32,
    /// Lists that an operator set.
    #[serde(default, skip_serializing_if = "StoredLists::is_empty")]
    pub stored: StoredLists,
}
