//! Requests about networks.

use serde_json::{Map, Value};

use super::{DecodeError, cidr, flag, generic};
use crate::api::network::{AllocateNetworkRequest, CreateNetworkRequest, GwAllocCheckRequest, IpamData, key};
use crate::model::{Family, NetworkId, NetworkOptions, NetworkSpec, Subnet};

/// The network of a request that names one.
pub fn network_id(text: &str) -> Result<NetworkId, DecodeError> {
    Ok(NetworkId::parse(text)?)
}

/// GwAllocCheck: the options of a network that does not exist yet, and whether it is internal.
pub fn gateway_check(request: &GwAllocCheckRequest) -> Result<(NetworkOptions, bool), DecodeError> {
    network_options(&request.options)
}

/// The options of a network, and `--internal`.
fn network_options(options: &Map<String, Value>) -> Result<(NetworkOptions, bool), DecodeError> {
    Ok((NetworkOptions::parse(&generic(options)?)?, flag(options, key::INTERNAL, false)?))
}

/// CreateNetwork.
pub fn network(request: &CreateNetworkRequest) -> Result<NetworkSpec, DecodeError> {
    let id = NetworkId::parse(&request.network_id)?;
    let (options, internal) = network_options(&request.options)?;
    // Engines before 28 do not support networks without IPv4 and send no key.
    let v4 =
        if flag(&request.options, key::ENABLE_IPV4, true)? { subnet(&request.ipv4_data, Family::V4)? } else { None };
    let v6 =
        if flag(&request.options, key::ENABLE_IPV6, false)? { subnet(&request.ipv6_data, Family::V6)? } else { None };
    Ok(NetworkSpec { id, v4, v6, internal, options })
}

/// AllocateNetwork: the network, its options, and whether it has IPv6. The engine sends the pools of both families in
/// one list.
pub fn allocation(request: &AllocateNetworkRequest) -> Result<(NetworkId, NetworkOptions, bool), DecodeError> {
    let id = NetworkId::parse(&request.network_id)?;
    let options = NetworkOptions::parse(&request.options)?;
    let pools = request.ipv4_data.iter().chain(&request.ipv6_data).cloned();
    let (sixes, fours): (Vec<_>, Vec<_>) = pools.partition(|data| data.pool.contains(':'));
    subnet(&fours, Family::V4)?;
    let has_v6 = subnet(&sixes, Family::V6)?.is_some();
    Ok((id, options, has_v6))
}

fn subnet(data: &[IpamData], family: Family) -> Result<Option<Subnet>, DecodeError> {
    let [data] = data else {
        return if data.is_empty() {
            Ok(None)
        } else {
            Err(DecodeError::Many { family: family.name(), count: data.len() })
        };
    };
    let pool = cidr("subnet", &data.pool, family)?;
    // The `null` IPAM driver sends a pool of all addresses: the network has none of its own.
    if pool.prefix() == 0 {
        return Ok(None);
    }
    if pool.ip() != pool.network() {
        return Err(DecodeError::HostBits { given: pool, meant: format!("{}/{}", pool.network(), pool.prefix()) });
    }
    let inside = |what: &str, text: &str, label: &'static str| {
        let net = cidr(label, text, family)?;
        if pool.contains(net.ip()) {
            Ok(net.ip())
        } else {
            Err(DecodeError::Outside { what: what.to_owned(), address: net.ip(), pool })
        }
    };
    let gateway = if data.gateway.is_empty() { None } else { Some(inside("gateway", &data.gateway, "gateway")?) };
    let mut subnet = Subnet { pool, gateway, default_gateway: None, aux: Vec::new() };
    let default_gateway = family.choose("DefaultGatewayIPv4", "DefaultGatewayIPv6");
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn create(json: &str) -> Result<NetworkSpec, DecodeError> {
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
        ] {
            let text = create(json).unwrap_err().to_string();
            assert!(text.contains(says), "{text} should name {says}");
        }
    }
}
