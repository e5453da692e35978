//! Ties addresses to networks and endpoints: networks claim their gateways, endpoints their addresses, and an
//! address that stays unclaimed is a leak.
//!
//! Applies only to pools of the local space: the global space belongs to a Swarm manager, whose endpoints are on
//! other hosts.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::allocate::used;
use super::pool::{Pool, describe};
use super::{Ipam, IpamError, LOCAL_SPACE};
use crate::model::prefix::trimmed;
use crate::model::{Endpoint, Network, NetworkSpec};
use crate::state::record::{AddressRecord, Holder, Record};

impl Ipam {
    /// At CreateNetwork: claims the addresses that `network` reserves in Pontoon's pools, and marks the pools as
    /// used. May be repeated.
    pub fn claim(&self, network: &Network) -> Vec<Record> {
        let mut records = Vec::new();
        for subnet in network.spec.subnets() {
            let Some(pool) = self.local(&subnet.pool, network.spec.options.vlan) else { continue };
            records.extend(used(pool));
            let gateway = subnet.gateway.into_iter().map(|address| (address, Holder::Gateway));
            let others = subnet.default_gateway.iter().chain(&subnet.aux).copied();
            let others =
                others.filter(|address| Some(*address) != subnet.gateway).map(|address| (address, Holder::Aux));
            for (address, holder) in gateway.chain(others) {
                // An endpoint that has the address keeps it: a running container must keep working.
                let keeps = matches!(pool.holder(address), Some(Holder::Endpoint { .. }));
                if subnet.pool.contains(address) && !keeps && pool.holder(address) != Some(&holder) {
                    records.push(put(pool, address, holder));
                }
            }
        }
        records
    }

    /// At CreateNetwork: refuses a network whose pool was requested for another VLAN. Its addresses would be in no pool
    /// of the network.
    pub fn check_vlan(&self, spec: &NetworkSpec) -> Result<(), IpamError> {
        for subnet in spec.subnets().map(|subnet| subnet.pool) {
            if self.local(&subnet, spec.options.vlan).is_some() {
                continue;
            }
            let others = self.in_space(LOCAL_SPACE).filter(|pool| pool.record.subnet == subnet);
            let mut others = others.filter_map(|pool| pool.record.vlan);
            if let Some(of) = others.find(|vlan| !self.is_carried(&subnet, *vlan)) {
                return Err(IpamError::OtherVlan { pool: subnet, of, network: spec.id.clone() });
            }
        }
        Ok(())
    }

    /// At CreateEndpoint: claims its addresses in Pontoon's pools, even those whose request is unknown (or no
    /// longer known). Returns no records if the network's addresses come from another IPAM driver. May be
    /// repeated. The error names the holder of the address.
    pub fn claim_endpoint(&self, endpoint: &Endpoint) -> Result<Vec<Record>, IpamError> {
        let mut records = Vec::new();
        let own = own(endpoint);
        for (pool, address) in self.addresses(endpoint) {
            match pool.holder(address) {
                Some(holder) if *holder == own => continue,
                None | Some(Holder::Unclaimed { .. } | Holder::Stale) => {}
                Some(holder) => {
                    let by = describe(holder, 0);
                    return Err(IpamError::Claimed { endpoint: endpoint.spec.id.clone(), address, by });
                }
            }
            records.extend(used(pool));
            records.push(put(pool, address, own.clone()));
        }
        Ok(records)
    }

    /// When an endpoint ends: passes its addresses to `next`. At DeleteEndpoint that is [`Holder::Unclaimed`],
    /// until the engine releases them or, if that call is lost, until [`Ipam::reclaim`] does. When the engine
    /// abandoned the endpoint it is [`Holder::Stale`]: the addresses are not chosen for another endpoint while
    /// others are free, and are granted to a request that names them.
    pub fn unclaim_endpoint(&self, endpoint: &Endpoint, next: &Holder) -> Vec<Record> {
        let own = own(endpoint);
        let held = self.addresses(endpoint).filter(|(pool, address)| pool.holder(*address) == Some(&own));
        held.map(|(pool, address)| put(pool, address, next.clone())).collect()
    }

    /// On the tick: frees addresses that were allocated at least `grace` seconds before `now` and never claimed,
    /// in pools whose subnet belongs to a network of Pontoon (`carried`). Elsewhere the address is simply in
    /// use. Each record is one leak.
    pub fn reclaim(&self, carried: &dyn Fn(&IpNetwork) -> bool, now: u64, grace: u64) -> Vec<Record> {
        let mut records = Vec::new();
        let is_carried = |pool: &&Pool| match pool.record.vlan {
            Some(vlan) => self.is_carried(&pool.record.subnet, vlan),
            None => carried(&pool.record.subnet),
        };
        for pool in self.in_space(LOCAL_SPACE).filter(is_carried) {
            for (address, holder) in pool.holders() {
                if let Holder::Unclaimed { since } = holder
                    && now.saturating_sub(*since) >= grace
                {
                    records.push(Record::NoAddress { pool: pool.record.id.clone(), address });
                }
            }
        }
        records
    }

    /// The endpoint's addresses that are in Pontoon's pools.
    fn addresses(&self, endpoint: &Endpoint) -> impl Iterator<Item = (&Pool, IpAddr)> {
        let asked = endpoint.spec.v4.into_iter().chain(endpoint.spec.v6);
        let vlan = self.carried.get(&endpoint.spec.network).and_then(|(_, vlan)| *vlan);
        asked.filter_map(move |net| self.local(&trimmed(&net), vlan).map(|pool| (pool, net.ip())))
    }
}

fn own(endpoint: &Endpoint) -> Holder {
    Holder::Endpoint { network: endpoint.spec.network.clone(), endpoint: endpoint.spec.id.clone() }
}

fn put(pool: &Pool, address: IpAddr, holder: Holder) -> Record {
    Record::Address(AddressRecord { pool: pool.record.id.clone(), address, holder })
}
