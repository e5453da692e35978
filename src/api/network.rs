//! Owns the bodies of the NetworkDriver methods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nullable;
use super::options::Options;

/// Keys of the engine's own entries in `Options` (moby daemon/libnetwork/netlabel).
pub mod key {
    /// The user's `-o` options, an object of strings.
    pub const GENERIC: &str = "com.docker.network.generic";
    /// Whether the network has IPv4; absent before engine 28.
    pub const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
    /// Whether the network has IPv6.
    pub const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
    /// `--internal`.
    pub const INTERNAL: &str = "com.docker.network.internal";
    /// Published ports.
    pub const PORT_MAP: &str = "com.docker.network.portmap";
    /// Exposed ports.
    pub const EXPOSED_PORTS: &str = "com.docker.network.endpoint.exposedports";
    /// The user's MAC as base64; the same stands readable in `Interface`.
    pub const MAC_ADDRESS: &str = "com.docker.network.endpoint.macaddress";
    /// True when another endpoint of the container is its way out for IPv6 (engine 28 and later).
    pub const NO_PROXY_6TO4: &str = "com.docker.network.driver.private.no_proxy_6to4";
    /// The container's resolvers.
    pub const DNS_SERVERS: &str = "com.docker.network.endpoint.dnsservers";
}

/// One pool of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamData {
    /// The IPAM driver's address space.
    #[serde(deserialize_with = "nullable")]
    pub address_space: String,
    /// CIDR, `0.0.0.0/0` with the `null` IPAM driver.
    #[serde(deserialize_with = "nullable")]
    pub pool: String,
    /// Address with the pool's prefix length; absent when none was allocated.
    #[serde(deserialize_with = "nullable")]
    pub gateway: String,
    /// `--aux-address`, by name.
    #[serde(deserialize_with = "nullable")]
    pub aux_addresses: BTreeMap<String, String>,
}

/// GwAllocCheck (engine 28 and later).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GwAllocCheckRequest {
    /// The options of the coming CreateNetwork.
    #[serde(deserialize_with = "nullable")]
    pub options: Map<String, Value>,
}

/// Which families need no gateway address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GwAllocCheckResponse {
    /// No IPv4 gateway wanted.
    #[serde(rename = "SkipIPv4")]
    pub skip_ipv4: bool,
    /// No IPv6 gateway wanted.
    #[serde(rename = "SkipIPv6")]
    pub skip_ipv6: bool,
}

/// The answer to NetworkDriver.GetCapabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CapabilitiesResponse {
    /// `local` or `global`.
    pub scope: String,
    /// `local` or `global`.
    pub connectivity_scope: String,
    /// Whether GwAllocCheck may be called.
    pub gw_alloc_checker: bool,
}

/// CreateNetwork, and AllocateNetwork's twin without typed options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateNetworkRequest {
    /// The new network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// Engine options, the user's under [`key::GENERIC`].
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: Map<String, Value>,
    /// IPv4 pools.
    #[serde(rename = "IPv4Data", deserialize_with = "nullable")]
    pub ipv4_data: Vec<IpamData>,
    /// IPv6 pools.
    #[serde(rename = "IPv6Data", deserialize_with = "nullable")]
    pub ipv6_data: Vec<IpamData>,
}

/// DeleteNetwork and FreeNetwork.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRequest {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
}

/// Addresses of an endpoint; empty text where none is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// IPv4 with prefix length.
    #[serde(rename = "Address", deserialize_with = "nullable")]
    pub address: String,
    /// IPv6 with prefix length.
    #[serde(rename = "AddressIPv6", deserialize_with = "nullable")]
    pub address_ipv6: String,
    /// Colon-separated MAC.
    #[serde(rename = "MacAddress", deserialize_with = "nullable")]
    pub mac_address: String,
}

/// CreateEndpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateEndpointRequest {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// The new endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Addresses already chosen.
    #[serde(rename = "Interface", deserialize_with = "nullable")]
    pub interface: Interface,
    /// Engine options and, flat beside them, the user's `--driver-opt`.
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: Options,
}

/// The answer to CreateEndpoint: only fields that the request left blank, anything else is an
/// error to the engine (moby endpoint_info.go, "driver modified interface address").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateEndpointResponse {
    /// Absent when there is nothing to add.
    #[serde(rename = "Interface", default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// DeleteEndpoint, EndpointOperInfo, Leave, RevokeExternalConnectivity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// The endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
}

/// The answer to EndpointOperInfo. The engine cannot use any value of a remote driver
/// (protocol.md 8.1), but engines up to 26 refuse to start a container without an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OperInfoResponse {
    /// Always empty.
    pub value: Map<String, Value>,
}

/// Join.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinRequest {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// The endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Path of the sandbox's network namespace; before engine 28 it does not exist yet.
    #[serde(rename = "SandboxKey", deserialize_with = "nullable")]
    pub sandbox_key: String,
    /// Options of the container.
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: Options,
}

/// Which link goes into the sandbox, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// Name of the link in the host's namespace.
    pub src_name: String,
    /// Its name in the sandbox, to which the engine appends a number.
    pub dst_prefix: String,
}

/// The answer to Join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinResponse {
    /// The link.
    pub interface_name: InterfaceName,
    /// IPv4 default gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// IPv6 default gateway.
    #[serde(rename = "GatewayIPv6", default, skip_serializing_if = "String::is_empty")]
    pub gateway_ipv6: String,
    /// Keeps the engine from attaching docker_gwbridge because of this endpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_gateway_service: bool,
}

/// ProgramExternalConnectivity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramRequest {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// The endpoint that is now the sandbox's gateway.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Options of the container, its published ports among them.
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: Options,
}

/// One published port, as it stands in [`key::PORT_MAP`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// IANA protocol number.
    pub proto: u8,
    /// Port in the container.
    pub port: u16,
    /// Host address, empty for the default.
    #[serde(rename = "HostIP", deserialize_with = "nullable")]
    pub host_ip: String,
    /// First host port, 0 for any.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
}

/// DiscoverNew and DiscoverDelete.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscoverRequest {
    /// 1 is a node; nothing else reaches a remote driver.
    #[serde(deserialize_with = "nullable")]
    pub discovery_type: i64,
    /// The node.
    pub discovery_data: Value,
}

/// AllocateNetwork, sent to Swarm managers when the scope is global.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocateNetworkRequest {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// The user's options.
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    /// Pools, of either family.
    #[serde(rename = "IPv4Data", deserialize_with = "nullable")]
    pub ipv4_data: Vec<IpamData>,
    /// Always null.
    #[serde(rename = "IPv6Data", deserialize_with = "nullable")]
    pub ipv6_data: Vec<IpamData>,
}

/// The answer to AllocateNetwork: what every node gets as options; what is not in it is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AllocateNetworkResponse {
    /// Options for CreateNetwork on the nodes.
    pub options: BTreeMap<String, String>,
}
