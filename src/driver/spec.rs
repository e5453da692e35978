//! Converts request bodies to typed specs; after this step nothing is raw text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use crate::api::network::{AllocateNetworkRequest, CreateEndpointRequest, CreateNetworkRequest, IpamData, key};
use crate::model::id::IdError;
use crate::model::mac::MacError;
use crate::model::options::OptionError;
use crate::model::{
    Binding, EndpointId, EndpointOptions, EndpointSpec, GatewayMode, Mac, NetworkId, NetworkOptions, NetworkSpec,
    Protocol, Subnet,
};

/// Why a request is invalid. One line each, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
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
    /// Mode `isolated` on a network that is not internal.
    #[error("gateway mode isolated is for internal networks: add --internal, or choose another mode")]
    IsolatedNotInternal,
    /// IPv6 needs 1280 bytes (RFC 8200, 5).
    #[error("an MTU of {mtu} is too small for IPv6: choose at least 1280 or leave IPv6 off")]
    MtuForIpv6 {
        /// The given MTU, in bytes.
        mtu: u32,
    },
}

/// Parses a boolean; `default` when the key is absent or null.
fn flag(options: &Map<String, Value>, key: &str, default: bool) -> Result<bool, SpecError> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(other) => Err(SpecError::Type { key: key.to_owned(), value: brief(other), expected: "true or false" }),
    }
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// The user's `-o` options; the engine sends strings, a spec file may hold other scalars.
fn generic(options: &Map<String, Value>) -> Result<BTreeMap<String, String>, SpecError> {
    let map = match options.get(key::GENERIC) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(SpecError::Type { key: key::GENERIC.to_owned(), value: brief(other), expected: "an object" });
        }
    };
    map.iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            Value::Bool(_) | Value::Number(_) => Ok((key.clone(), value.to_string())),
            Value::Null => Ok((key.clone(), String::new())),
            other => Err(SpecError::Type { key: key.clone(), value: brief(other), expected: "a text" }),
        })
        .collect()
}

/// Parses the options alone: GwAllocCheck has nothing else. The flag is `--internal`.
pub fn network_options(options: &Map<String, Value>) -> Result<(NetworkOptions, bool), SpecError> {
    Ok((NetworkOptions::parse(&generic(options)?)?, flag(options, key::INTERNAL, false)?))
}

/// CreateNetwork.
pub fn network(request: &CreateNetworkRequest) -> Result<NetworkSpec, SpecError> {
    let id = NetworkId::parse(&request.network_id)?;
    let (options, internal) = network_options(&request.options)?;
    // Engines before 28 do not support networks without IPv4 and send no key.
    let v4 = if flag(&request.options, key::ENABLE_IPV4, true)? { subnet(&request.ipv4_data, false)? } else { None };
    let v6 = if flag(&request.options, key::ENABLE_IPV6, false)? { subnet(&request.ipv6_data, true)? } else { None };
    if !internal && [options.mode4, options.mode6].contains(&GatewayMode::Isolated) {
        return Err(SpecError::IsolatedNotInternal);
    }
    if let (Some(_), Some(mtu @ 0..1280)) = (&v6, options.mtu) {
        return Err(SpecError::MtuForIpv6 { mtu });
    }
    Ok(NetworkSpec { id, v4, v6, internal, options })
}

/// AllocateNetwork. The engine sends the pools of both families in one list.
pub fn allocation(request: &AllocateNetworkRequest) -> Result<(NetworkId, NetworkOptions), SpecError> {
    let id = NetworkId::parse(&request.network_id)?;
    let options = NetworkOptions::parse(&request.options)?;
    let pools = request.ipv4_data.iter().chain(&request.ipv6_data).cloned();
    let (sixes, fours): (Vec<_>, Vec<_>) = pools.partition(|data| data.pool.contains(':'));
    subnet(&fours, false)?;
    if subnet(&sixes, true)?.is_some()
        && let Some(mtu @ 0..1280) = options.mtu
    {
        return Err(SpecError::MtuForIpv6 { mtu });
    }
    Ok((id, options))
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn address(what: &'static str, text: &str, v6: bool) -> Result<IpNetwork, SpecError> {
    let wrong = || SpecError::Address { what, family: family(v6), text: text.chars().take(80).collect() };
    let net: IpNetwork = text.parse().map_err(|_| wrong())?;
    if net.is_ipv6() == v6 && text.contains('/') { Ok(net) } else { Err(wrong()) }
}

fn subnet(data: &[IpamData], v6: bool) -> Result<Option<Subnet>, SpecError> {
    let [data] = data else {
        return if data.is_empty() { Ok(None) } else { Err(SpecError::Many { family: family(v6), count: data.len() }) };
    };
    let pool = address("subnet", &data.pool, v6)?;
    // The `null` IPAM driver sends a pool of all addresses: the network has none of its own.
    if pool.prefix() == 0 {
        return Ok(None);
    }
    if pool.ip() != pool.network() {
        return Err(SpecError::HostBits { given: pool, meant: format!("{}/{}", pool.network(), pool.prefix()) });
    }
    let inside = |what: &str, text: &str, label: &'static str| {
        let net = address(label, text, v6)?;
        if pool.contains(net.ip()) {
            Ok(net.ip())
        } else {
            Err(SpecError::Outside { what: what.to_owned(), address: net.ip(), pool })
        }
    };
    let gateway = if data.gateway.is_empty() { None } else { Some(inside("gateway", &data.gateway, "gateway")?) };
    let mut subnet = Subnet { pool, gateway, default_gateway: None, aux: Vec::new() };
    let default_gateway = if v6 { "DefaultGatewayIPv6" } else { "DefaultGatewayIPv4" };
    for (name, text) in &data.aux_addresses {
        let ip = inside(&format!("aux address {name}"), text, "aux address")?;
        if name == default_gateway {
            subnet.default_gateway = Some(ip);
        } else {
            subnet.aux.push(ip);
        }
    }
    Ok(Some(subnet))
}

/// CreateEndpoint. The verb checks the addresses against the network's subnets.
pub fn endpoint(request: &CreateEndpointRequest) -> Result<EndpointSpec, SpecError> {
    let optional = |text: &str, v6| if text.is_empty() { Ok(None) } else { address("address", text, v6).map(Some) };
    let interface = &request.interface;
    let mut options = EndpointOptions::default();
    let engines = [key::PORT_MAP, key::EXPOSED_PORTS, key::MAC_ADDRESS, key::DNS_SERVERS, key::GENERIC];
    for (key, value) in request.options.without(&engines) {
        // A user's value is always a string. Other types come from the engine itself: a future engine may send
        // more of them, and that must not prevent containers from starting.
        if let Value::String(text) = &value {
            options.take(key, text)?;
        }
    }
    Ok(EndpointSpec {
        network: NetworkId::parse(&request.network_id)?,
        id: EndpointId::parse(&request.endpoint_id)?,
        v4: optional(&interface.address, false)?,
        v6: optional(&interface.address_ipv6, true)?,
        mac: if interface.mac_address.is_empty() { None } else { Some(Mac::parse(&interface.mac_address)?) },
        options,
    })
}

/// Parses the port map of a request. An unreadable list is refused: publishing half of it would be worse than
/// publishing none.
pub(super) fn bindings(options: &crate::api::options::Options) -> Result<Vec<Binding>, super::Error> {
    let unreadable = |what: String| super::Error::PortMap { what };
    let list = options.ports(key::PORT_MAP).map_err(unreadable)?;
    let mut bindings = Vec::with_capacity(list.len());
    for given in list {
        let protocol = Protocol::from_number(given.proto)
            .ok_or_else(|| unreadable(format!("protocol {}: only TCP, UDP and SCTP have ports", given.proto)))?;
        let address = match given.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| unreadable(format!("{text:?} is not a host address")))?),
        };
        let last = given.host_port_end.max(given.host_port);
        let host_ports = (given.host_port != 0).then_some((given.host_port, last));
        if given.port == 0 {
            return Err(unreadable("container port 0".to_owned()));
        }
        bindings.push(Binding { protocol, container_port: given.port, address, host_ports });
    }
    // The order is not stable from one request to the next (protocol.md 2.5).
    bindings.sort();
    bindings.dedup();
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(json: &str) -> Result<NetworkSpec, SpecError> {
        network(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn reads_what_engine_28_sends() {
        let spec = create(
            r#"{"NetworkID":"adec5e72","Options":{"com.docker.network.enable_ipv4":true,
            "com.docker.network.enable_ipv6":true,
            "com.docker.network.generic":{"com.docker.network.driver.mtu":"1400"}},
            "IPv4Data":[{"AddressSpace":"LocalDefault","AuxAddresses":{"sw":"172.30.0.5/24","DefaultGatewayIPv4":"172.30.0.9/24"},
            "Gateway":"172.30.0.1/24","Pool":"172.30.0.0/24"}],
            "IPv6Data":[{"AddressSpace":"LocalDefault","Gateway":"fd00:30::1/64","Pool":"fd00:30::/64"}]}"#,
        )
        .unwrap();
        let v4 = spec.v4.unwrap();
        assert_eq!(v4.gateway_net().unwrap().to_string(), "172.30.0.1/24");
        assert_eq!(v4.default_gateway.unwrap().to_string(), "172.30.0.9");
        assert_eq!(v4.aux, ["172.30.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(spec.v6.unwrap().pool.to_string(), "fd00:30::/64");
        assert_eq!(spec.options.mtu, Some(1400));
        assert!(!spec.internal);
    }

    #[test]
    fn null_ipam_ipv6_only_and_old_engines() {
        let null = create(r#"{"NetworkID":"a","IPv4Data":[{"Pool":"0.0.0.0/0"}],"IPv6Data":null}"#).unwrap();
        assert_eq!((null.v4, null.v6), (None, None));
        let six = create(
            r#"{"NetworkID":"a","Options":{"com.docker.network.enable_ipv4":false,"com.docker.network.enable_ipv6":true},
            "IPv4Data":[],"IPv6Data":[{"Pool":"fd00::/64","Gateway":"fd00::1/64"}]}"#,
        )
        .unwrap();
        assert!(six.v4.is_none() && six.v6.is_some());
        let old = create(r#"{"NetworkID":"a","Options":{},"IPv4Data":[{"Pool":"10.0.0.0/24"}]}"#).unwrap();
        assert!(old.v4.is_some());
    }

    #[test]
    fn refusals_name_the_value() {
        for (json, says) in [
            (r#"{"NetworkID":""}"#, "NetworkID"),
            (r#"{"NetworkID":"a","IPv4Data":[{"Pool":"10.0.0.0/24"},{"Pool":"10.0.1.0/24"}]}"#, "2 IPv4 subnets"),
            (r#"{"NetworkID":"a","IPv4Data":[{"Pool":"10.0.0.1/24"}]}"#, "10.0.0.0/24"),
            (r#"{"NetworkID":"a","IPv4Data":[{"Pool":"fd00::/64"}]}"#, "fd00::/64"),
            (r#"{"NetworkID":"a","IPv4Data":[{"Pool":"banana"}]}"#, "banana"),
            (r#"{"NetworkID":"a","IPv4Data":[{"Pool":"10.0.0.0/24","Gateway":"10.0.1.1/24"}]}"#, "10.0.1.1"),
            (r#"{"NetworkID":"a","Options":{"com.docker.network.generic":{"x":["y"]}}}"#, "x"),
            (r#"{"NetworkID":"a","Options":{"com.docker.network.generic":7}}"#, "7"),
            (r#"{"NetworkID":"a","Options":{"com.docker.network.internal":"maybe"}}"#, "maybe"),
            (
                r#"{"NetworkID":"a","Options":{"com.docker.network.enable_ipv6":true,
                "com.docker.network.generic":{"com.docker.network.driver.mtu":"1279"}},"IPv6Data":[{"Pool":"fd00::/64"}]}"#,
                "1280",
            ),
        ] {
            let text = create(json).unwrap_err().to_string();
            assert!(text.contains(says), "{text} should name {says}");
        }
    }

    #[test]
    fn endpoints_take_engine_keys_and_refuse_unknown_texts() {
        let parse = |json: &str| endpoint(&serde_json::from_str(json).unwrap());
        let spec = parse(
            r#"{"NetworkID":"a","EndpointID":"b","Interface":{"Address":"10.0.0.2/24","AddressIPv6":"","MacAddress":"02:42:ac:1e:00:99"},
            "Options":{"com.docker.network.portmap":[{"Proto":6}],"com.docker.network.endpoint.macaddress":"AkKsHgCZ","com.docker.network.some.future.key":{"a":1}}}"#,
        )
        .unwrap();
        assert_eq!(spec.v4.unwrap().to_string(), "10.0.0.2/24");
        assert!(spec.v6.is_none() && spec.mac.is_some());
        for (json, says) in [
            (r#"{"NetworkID":"a","EndpointID":"b","Options":{"x.y":"z"}}"#, "x.y"),
            (r#"{"NetworkID":"a","EndpointID":"b","Interface":{"Address":"10.0.0.2"}}"#, "10.0.0.2"),
            (r#"{"NetworkID":"a","EndpointID":"b","Interface":{"AddressIPv6":"10.0.0.2/24"}}"#, "IPv6"),
            (r#"{"NetworkID":"a","EndpointID":"b","Interface":{"MacAddress":"ff:ff:ff:ff:ff:ff"}}"#, "multicast"),
        ] {
            let text = parse(json).unwrap_err().to_string();
            assert!(text.contains(says), "{text} should name {says}");
        }
    }
}
