//! Bodies of the NetworkDriver methods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nullable;
use super::options::Options;
use crate::values::{Cidr, InvalidValue, MacAddress};

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
    /// The user's MAC as base64; `Interface` has the same in readable form.
    pub const MAC_ADDRESS: &str = "com.docker.network.endpoint.macaddress";
    /// True when another endpoint of the container is its gateway for IPv6 (engine 28 and later).
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

/// The families that need no gateway address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GwAllocCheckResponse {
    /// No IPv4 gateway wanted.
    #[serde(rename = "SkipIPv4")]
    pub skip_ipv4: bool,
    /// No IPv6 gateway wanted.
    #[serde(rename = "SkipIPv6")]
    pub skip_ipv6: bool,
}

/// The scope of networks or connectivity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One host.
    #[default]
    Local,
    /// All nodes of a Swarm.
    Global,
}

/// The answer to NetworkDriver.GetCapabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CapabilitiesResponse {
    /// Where networks are created. Global: by the managers of a Swarm, which call AllocateNetwork;
    /// that needs a managed plugin.
    pub scope: Scope,
    /// How far containers reach each other. Global: the driver is notified of the Swarm's nodes, and names of
    /// containers are resolved on all of them.
    pub connectivity_scope: Scope,
    /// Whether engines from 28 on call GwAllocCheck.
    pub gw_alloc_checker: bool,
}

/// CreateNetwork.
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

impl CreateNetworkRequest {
    /// The user's `-o` options.
    ///
    /// # Errors
    /// They are not an object of strings, which no engine sends.
    pub fn driver_options(&self) -> Result<BTreeMap<String, String>, InvalidValue> {
        let Some(options) = self.options.get(key::GENERIC) else { return Ok(BTreeMap::new()) };
        let invalid = |_| InvalidValue::new(key::GENERIC, &options.to_string(), "an object of strings");
        Ok(Option::deserialize(options).map_err(invalid)?.unwrap_or_default())
    }

    /// Whether the network must have no external connectivity: `--internal`.
    pub fn is_internal(&self) -> bool {
        self.options.get(key::INTERNAL).and_then(Value::as_bool).unwrap_or(false)
    }
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

impl Interface {
    /// The IPv4 address, if one is set.
    ///
    /// # Errors
    /// It is not an IPv4 address with a prefix length.
    pub fn ipv4(&self) -> Result<Option<Cidr>, InvalidValue> {
        address(&self.address, true)
    }

    /// The IPv6 address, if one is set.
    ///
    /// # Errors
    /// It is not an IPv6 address with a prefix length.
    pub fn ipv6(&self) -> Result<Option<Cidr>, InvalidValue> {
        address(&self.address_ipv6, false)
    }

    /// The MAC address, if one is set.
    ///
    /// # Errors
    /// It is not a MAC address of six bytes.
    pub fn mac(&self) -> Result<Option<MacAddress>, InvalidValue> {
        if self.mac_address.is_empty() { Ok(None) } else { self.mac_address.parse().map(Some) }
    }
}

fn address(text: &str, is_ipv4: bool) -> Result<Option<Cidr>, InvalidValue> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<Cidr>()? {
        address if address.address().is_ipv4() == is_ipv4 => Ok(Some(address)),
        _ => Err(InvalidValue::new("address", text, if is_ipv4 { "of IPv4" } else { "of IPv6" })),
    }
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
    /// Addresses that are already chosen.
    #[serde(rename = "Interface", deserialize_with = "nullable")]
    pub interface: Interface,
    /// Engine options and, flat beside them, the user's `--driver-opt`.
    #[serde(rename = "Options", deserialize_with = "nullable")]
    pub options: Options,
}

/// The answer to CreateEndpoint: only fields that the request left blank, anything else is an
/// error to the engine. [`crate::InterfaceAnswer`] takes care of that.
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

/// The answer to EndpointOperInfo. The engine uses no value of a remote driver, but engines up to 26 refuse to
/// start a container without an answer.
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

/// The link that is moved into the sandbox, and its name there. Both are empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// Name of the link in the host's namespace.
    pub src_name: String,
    /// Its name in the sandbox, to which the engine appends a number.
    pub dst_prefix: String,
}

/// A route in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticRoute {
    /// CIDR.
    pub destination: String,
    /// [`StaticRoute::NEXT_HOP`] or [`StaticRoute::ON_LINK`].
    pub route_type: u8,
    /// Address of the router; empty when the destination is on-link.
    pub next_hop: String,
}

impl StaticRoute {
    /// The route uses [`StaticRoute::next_hop`].
    pub const NEXT_HOP: u8 = 0;
    /// The destination is on the link itself.
    pub const ON_LINK: u8 = 1;
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
    /// More routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// Prevents the engine from attaching docker_gwbridge because of this endpoint.
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

/// One published port, as in [`key::PORT_MAP`].
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
    /// 1 is a node; no other type reaches a remote driver.
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

/// The answer to AllocateNetwork: the options that every node gets; anything else is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AllocateNetworkResponse {
    /// Options for CreateNetwork on the nodes.
    pub options: BTreeMap<String, String>,
}
