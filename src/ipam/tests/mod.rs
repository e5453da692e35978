//! The allocator as the driver sees it: every decision is applied before the next.

mod addresses;
mod claims;
mod model;
mod pools;

use std::net::IpAddr;

use super::*;
use crate::model::{Endpoint, Network};
use crate::state::record::PoolRecord;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const HOST: HostView = HostView { routes: &[], yielding: &[], resolvers: &[], ula_seed: [1, 2, 3, 4, 5] };
const ANY: PoolAsk = PoolAsk { space: LOCAL_SPACE, pool: None, prefix_only: None, range: None, vlan: None, v6: false };

fn named(subnet: &str) -> PoolAsk<'static> {
    PoolAsk { pool: Some(net(subnet)), ..ANY }
}

/// Decides and applies, as the driver does.
trait Does {
    fn does(&mut self, records: Vec<Record>) -> usize;
    fn pool(&mut self, ask: &PoolAsk) -> PoolRecord;
    /// A pool that is in use, by its gateway.
    fn busy(&mut self, subnet: &str) -> String;
    fn next(&mut self, id: &str) -> String;
    fn takes(&mut self, id: &str, address: &str) -> String;
    fn try_next(&mut self, id: &str) -> Result<String, String>;
    fn refuses(&self, id: &str, address: &str) -> String;
}

/// The time of every request in these tests.
const NOW: u64 = 1000;

impl Does for Ipam {
    fn does(&mut self, records: Vec<Record>) -> usize {
        records.iter().for_each(|record| self.apply(record));
        records.len()
    }
    fn pool(&mut self, ask: &PoolAsk) -> PoolRecord {
        let (pool, records) = self.request_pool(ask, &HOST).unwrap();
        self.does(records);
        pool
    }
    fn busy(&mut self, subnet: &str) -> String {
        let id = self.pool(&named(subnet)).id;
        let (_, records) = self.request_address(&id, None, true, NOW).unwrap();
        self.does(records);
        id
    }
    fn next(&mut self, id: &str) -> String {
        self.try_next(id).unwrap()
    }
    fn try_next(&mut self, id: &str) -> Result<String, String> {
        let (granted, records) = self.request_address(id, None, false, NOW).map_err(|e| e.to_string())?;
        self.does(records);
        Ok(granted.to_string())
    }
    fn takes(&mut self, id: &str, address: &str) -> String {
        let (granted, records) = self.request_address(id, Some(ip(address)), false, NOW).unwrap();
        self.does(records);
        granted.to_string()
    }
    fn refuses(&self, id: &str, address: &str) -> String {
        self.request_address(id, Some(ip(address)), false, NOW + 5).unwrap_err().to_string()
    }
}

fn network(id: &str, subnets: serde_json::Value) -> Network {
    let mut spec = serde_json::json!({"id": id, "options": crate::model::NetworkOptions::default()});
    spec.as_object_mut().unwrap().extend(subnets.as_object().unwrap().clone());
    serde_json::from_value(serde_json::json!({"spec": spec, "kind": {"bridge": {"bridge": "pntb0"}}, "mtu": 1500}))
        .unwrap()
}

fn endpoint(id: &str, v4: Option<&str>, v6: Option<&str>) -> Endpoint {
    serde_json::from_value(serde_json::json!({
        "spec": {"network": "n1", "id": id, "v4": v4, "v6": v6}, "attachment": {"veth": {"host": "pnth0", "peer": "pntc0"}},
        "mac": "02:00:00:00:00:01", "phase": "ready"
    }))
    .unwrap()
}
