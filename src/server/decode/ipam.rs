//! Requests about pools and addresses.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::DecodeError;
use crate::api::ipam::{ADDRESS_TYPE, GATEWAY, RequestAddressRequest, RequestPoolRequest};
use crate::ipam::PoolAsk;
use crate::model::options;

/// RequestPool.
pub fn pool(request: &RequestPoolRequest) -> Result<PoolAsk<'_>, DecodeError> {
    let vlan = request.options.get(options::VLAN).map(|given| options::pool_vlan(given)).transpose()?;
    let space = &request.address_space;
    let mut ask = PoolAsk { space, pool: None, prefix_only: None, range: None, vlan, v6: request.v6 };
    if !request.pool.is_empty() {
        let pool = subnet("subnet", &request.pool)?;
        // "Any subnet of this size". The family of the pool counts, not the flag: Swarm managers never set it
        // (protocol.md 4.9).
        if pool.ip().is_unspecified() {
            ask.prefix_only = (pool.prefix() > 0).then_some(pool.prefix());
        } else {
            ask.pool = Some(pool);
        }
        ask.v6 = pool.is_ipv6();
    }
    if !request.sub_pool.is_empty() {
        ask.range = Some(subnet("ip-range", &request.sub_pool)?);
    }
    Ok(ask)
}

/// RequestAddress: the address if the request names one, and whether it is for the gateway.
pub fn address_request(request: &RequestAddressRequest) -> Result<(Option<IpAddr>, bool), DecodeError> {
    let asked = if request.address.is_empty() { None } else { Some(address(&request.address)?) };
    Ok((asked, request.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY)))
}

/// An address without prefix length.
pub fn address(text: &str) -> Result<IpAddr, DecodeError> {
    text.parse().map_err(|_| not_an_address("address", text))
}

fn subnet(what: &'static str, text: &str) -> Result<IpNetwork, DecodeError> {
    let net = text.parse::<IpNetwork>().ok().filter(|_| text.contains('/'));
    net.ok_or_else(|| not_an_address(what, text))
}

fn not_an_address(what: &'static str, text: &str) -> DecodeError {
    DecodeError::NotAnAddress { what, text: text.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pool: &str, range: &str, v6: bool) -> RequestPoolRequest {
        let space = "local".to_owned();
        RequestPoolRequest { address_space: space, pool: pool.into(), sub_pool: range.into(), v6, ..Default::default() }
    }

    #[test]
    fn an_unspecified_pool_asks_for_a_size_and_its_family_counts() {
        let given = request("0.0.0.0/28", "", true);
        let ask = pool(&given).unwrap();
        assert_eq!((ask.pool, ask.prefix_only, ask.v6), (None, Some(28), false));
        let given = request("::/0", "", false);
        assert_eq!((pool(&given).unwrap().prefix_only, pool(&given).unwrap().v6), (None, true));
        let given = request("", "", true);
        assert!(pool(&given).unwrap().v6);
    }

    #[test]
    fn errors_name_the_field() {
        for (given, says) in [
            (request("10.0.0.0", "", false), r#"subnet "10.0.0.0" is not an address"#),
            (request("10.0.0.0/24", "x/1", false), r#"ip-range "x/1" is not an address"#),
        ] {
            assert_eq!(pool(&given).unwrap_err().to_string(), says);
        }
        assert_eq!(address("10.0.0.1/24").unwrap_err().to_string(), r#"address "10.0.0.1/24" is not an address"#);
    }
}
