//! Requests about endpoints, and their published ports.

use serde_json::Value;

use super::{DecodeError, cidr};
use crate::api::network::{CreateEndpointRequest, EndpointRequest, JoinRequest, ProgramRequest, key};
use crate::api::options::Options;
use crate::driver::{JoinSpec, PortMapError, Publication};
use crate::model::{Binding, EndpointId, EndpointOptions, EndpointSpec, Family, Mac, NetworkId, Protocol, lease};

/// Longest name of a sandbox that is kept, in characters.
const SANDBOX: usize = 256;

/// Most name servers of an endpoint that are kept.
const NAME_SERVERS: usize = 8;

/// The endpoint of a request that names one.
pub fn endpoint_id(request: &EndpointRequest) -> Result<(NetworkId, EndpointId), DecodeError> {
    Ok((NetworkId::parse(&request.network_id)?, EndpointId::parse(&request.endpoint_id)?))
}

/// Join.
pub fn join(request: &JoinRequest) -> Result<JoinSpec, DecodeError> {
    Ok(JoinSpec {
        network: NetworkId::parse(&request.network_id)?,
        endpoint: EndpointId::parse(&request.endpoint_id)?,
        sandbox: request.sandbox_key.chars().take(SANDBOX).collect(),
    })
}

/// ProgramExternalConnectivity.
pub fn publication(request: &ProgramRequest) -> Result<Publication, DecodeError> {
    // Another endpoint of the container is its gateway for IPv6 (engines from 28 on).
    let v4_only = request.options.get(key::NO_PROXY_6TO4).and_then(|value| value.as_bool()).unwrap_or(false);
    Ok(Publication {
        network: NetworkId::parse(&request.network_id)?,
        endpoint: EndpointId::parse(&request.endpoint_id)?,
        bindings: bindings(&request.options)?,
        v6: !v4_only,
    })
}

/// CreateEndpoint. The verb checks the addresses against the network's subnets.
pub fn endpoint(request: &CreateEndpointRequest) -> Result<EndpointSpec, DecodeError> {
    let optional = |text: &str, v6| if text.is_empty() { Ok(None) } else { cidr("address", text, v6).map(Some) };
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
    if let Some(Value::Array(servers)) = request.options.get(key::DNS_SERVERS) {
        let addresses = servers.iter().filter_map(|server| server.as_str()?.parse().ok());
        options.name_servers = addresses.take(NAME_SERVERS).collect();
    }
    Ok(EndpointSpec {
        network: NetworkId::parse(&request.network_id)?,
        id: EndpointId::parse(&request.endpoint_id)?,
        v4: optional(&interface.address, Family::V4)?,
        v6: optional(&interface.address_ipv6, Family::V6)?,
        mac: if interface.mac_address.is_empty() { None } else { Some(Mac::parse(&interface.mac_address)?) },
        options,
    })
}

/// What the engine says about a container whenever it starts, in one value: its ports, options and name servers.
/// Containers of which it says the same cannot be distinguished.
pub fn fingerprint(options: &Options) -> String {
    let mut parts = Vec::new();
    for (key, value) in options.without(&[key::MAC_ADDRESS, key::GENERIC]) {
        match value {
            // The order of ports is not stable from one request to the next (protocol.md 2.5).
            Value::Array(values) => {
                let mut texts: Vec<String> = values.iter().map(|value| format!("{key} {value}")).collect();
                texts.sort();
                parts.extend(texts);
            }
            value => parts.push(format!("{key} {value}")),
        }
    }
    lease::fingerprint(&parts)
}

/// Parses the port map of a request. An unreadable list is refused: publishing half of it would be worse than
/// publishing none.
pub fn bindings(options: &Options) -> Result<Vec<Binding>, PortMapError> {
    let unreadable = |what: String| PortMapError { what };
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
