//! Bodies of the IpamDriver methods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::nullable;

/// Key of RequestAddress options that marks the address of a gateway.
pub const ADDRESS_TYPE: &str = "RequestAddressType";
/// Value of [`ADDRESS_TYPE`] for a gateway.
pub const GATEWAY: &str = "com.docker.network.gateway";

/// The answer to IpamDriver.GetCapabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitiesResponse {
    /// Whether a MAC must be chosen before an address.
    #[serde(rename = "RequiresMACAddress")]
    pub requires_mac_address: bool,
    /// Whether the engine must repeat its requests for pools and addresses when it starts, because the driver keeps
    /// no record of them.
    #[serde(rename = "RequiresRequestReplay")]
    pub requires_request_replay: bool,
}

/// The answer to GetDefaultAddressSpaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressSpacesResponse {
    /// Pools of this node.
    pub local_default_address_space: String,
    /// Pools of a Swarm's managers.
    pub global_default_address_space: String,
}

impl Default for AddressSpacesResponse {
    fn default() -> Self {
        Self { local_default_address_space: "local".to_owned(), global_default_address_space: "global".to_owned() }
    }
}

/// RequestPool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestPoolRequest {
    /// One of [`AddressSpacesResponse`].
    #[serde(deserialize_with = "nullable")]
    pub address_space: String,
    /// The user's `--subnet`; empty to choose any, `0.0.0.0/N` to choose one of that size.
    #[serde(deserialize_with = "nullable")]
    pub pool: String,
    /// `--ip-range`.
    #[serde(deserialize_with = "nullable")]
    pub sub_pool: String,
    /// `--ipam-opt`.
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    /// Whether an IPv6 pool is requested.
    #[serde(deserialize_with = "nullable")]
    pub v6: bool,
}

/// The answer to RequestPool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestPoolResponse {
    /// The engine stores it and uses it from then on.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// CIDR.
    pub pool: String,
    /// Not used.
    pub data: BTreeMap<String, String>,
}

/// ReleasePool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleasePoolRequest {
    /// The pool.
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pub pool_id: String,
}

/// RequestAddress.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestAddressRequest {
    /// The pool.
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pub pool_id: String,
    /// The requested address, or empty.
    #[serde(rename = "Address", deserialize_with = "nullable")]
    pub address: String,
    /// [`ADDRESS_TYPE`], and other keys that depend on the engine's version.
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
}

impl RequestAddressRequest {
    /// Whether the address is to be a network's gateway.
    pub fn is_gateway(&self) -> bool {
        self.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY)
    }
}

/// The answer to RequestAddress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestAddressResponse {
    /// Address with the pool's prefix length.
    pub address: String,
    /// Not used.
    pub data: BTreeMap<String, String>,
}

/// ReleaseAddress.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleaseAddressRequest {
    /// The pool.
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pub pool_id: String,
    /// Plain address.
    #[serde(rename = "Address", deserialize_with = "nullable")]
    pub address: String,
}
