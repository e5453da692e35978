//! `pontoon ls`, `pontoon pools` and `pontoon peers`.

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{ALMOST_FULL, Facts, Shown, endpoint_json, join, phase};
use crate::admin::status::PoolStatus;
use crate::names::short;
use crate::output;
use crate::state::peers::Standing;

/// All endpoints with their containers.
pub fn endpoints(facts: &Facts<'_>) -> Shown {
    let mut rows = vec![
        ["CONTAINER", "NETWORK", "ADDRESSES", "MAC", "LINK", "STATE", "PUBLISHED", "FOR", "ENDPOINT", "NETWORK ID"]
            .map(str::to_owned),
    ];
    let mut all = Vec::new();
    for network in &facts.status.networks {
        for endpoint in &network.endpoints {
            rows.push([
                facts.names.endpoint(endpoint.id.as_str()),
                facts.names.network(network.id.as_str()),
                join(endpoint.addresses.iter().map(IpNetwork::ip)),
                endpoint.detail.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string()),
                endpoint.link().to_string(),
                phase(endpoint).to_owned(),
                join(&endpoint.published),
                format!("{} s", endpoint.age),
                short(endpoint.id.as_str()),
                short(network.id.as_str()),
            ]);
            all.push(endpoint_json(facts, network, endpoint));
        }
    }
    if let Some(rest) = rows.get_mut(1..) {
        rest.sort();
    }
    Shown::of_table("", &rows, 7, json!({ "endpoints": all }))
}

/// Number of addresses of a subnet that containers can get.
fn size(subnet: &IpNetwork) -> u128 {
    match subnet {
        IpNetwork::V4(net) if net.prefix() < 31 => u128::from(net.size()) - 2,
        IpNetwork::V4(net) => u128::from(net.size()),
        IpNetwork::V6(net) => 1u128.checked_shl(128 - u32::from(net.prefix())).unwrap_or(u128::MAX),
    }
}

/// Percentage of the pool's addresses that are allocated.
pub(super) fn share(pool: &PoolStatus) -> u128 {
    (pool.taken as u128 * 100).checked_div(size(&pool.subnet)).unwrap_or(100)
}

/// The address pools.
pub fn pools(facts: &Facts<'_>) -> Shown {
    let mut rows = vec![["POOL", "SPACE", "SIZE", "TAKEN", "SHARE", "UNCLAIMED", "ADDRESSES", "ID"].map(str::to_owned)];
    let mut all = Vec::new();
    for pool in &facts.status.pools {
        let (size, share) = (size(&pool.subnet), share(pool));
        let shown = match pool.subnet {
            IpNetwork::V6(net) if net.prefix() < 96 => format!("2^{}", 128 - net.prefix()),
            _ => size.to_string(),
        };
        let mark = if share >= ALMOST_FULL { " !" } else { "" };
        let oldest = pool.unclaimed.iter().map(|(_, age)| *age).max();
        rows.push([
            pool.subnet.to_string(),
            pool.space.clone(),
            shown.clone(),
            pool.taken.to_string(),
            format!("{share} %{mark}"),
            oldest.map_or_else(|| "0".to_owned(), |age| format!("{} ({age} s)", pool.unclaimed.len())),
            join(pool.unclaimed.iter().map(|(address, age)| format!("{address} ({age} s)"))),
            pool.id.clone(),
        ]);
        let mut value = json!(pool);
        value["size"] = shown.into();
        value["share_percent"] = (share as u64).into();
        all.push(value);
    }
    Shown::of_table("", &rows, 6, json!({ "pools": all }))
}

/// The other hosts of overlay networks.
pub fn peers(facts: &Facts<'_>) -> Shown {
    let Some(reach) = &facts.status.reach else {
        let text = "no overlay networks on this host\n".to_owned();
        return Shown::new(text, json!({ "reach": Value::Null }));
    };
    let local = reach.local.map_or_else(|| "none at present".to_owned(), |local| local.to_string());
    let mut rows = vec![["PEER", "STATE"].map(str::to_owned)];
    rows.extend(reach.peers.iter().map(|peer| {
        let state = match peer.standing {
            Standing::Present => "present".to_owned(),
            Standing::Doubted { .. } => "doubted: the engine reported that it left".to_owned(),
            Standing::Former { .. } => "former: silent since it left".to_owned(),
        };
        [peer.address.to_string(), state]
    }));
    let text = format!("this host: {local}, UDP port {}\n{}", reach.port, output::table(&rows));
    Shown::new(text, json!({ "reach": reach }))
}
