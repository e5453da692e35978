//! Allocates pools and addresses: which are free, which is next, and the holder of each of the others.
//!
//! Pure: no I/O, no clock, no randomness. A decision takes `&self` and returns the records that make it
//! effective; the caller writes them to the ledger and then passes each to [`Ipam::apply`]. No other decision
//! may happen in between, so the caller holds one lock around all three steps. Never accesses the kernel; what
//! must be avoided on this host is passed in a [`HostView`].
//!
//! Called by the driver.

mod allocate;
mod error;
pub mod free_ranges;
mod ownership;
mod pool;
mod subnet_search;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::model::{NetworkId, Vid};
use crate::state::record::{AddressRecord, Holder, Record};
pub use allocate::{HostView, PoolAsk};
pub use error::IpamError;
use pool::Pool;
pub use subnet_search::{DefaultPool, DefaultPools};

/// The address space of networks on this host; its pools never overlap.
pub const LOCAL_SPACE: &str = "pontoon-local";

/// The address space of a Swarm manager, which decides for all nodes and repeats existing allocations to every
/// new leader. Must differ from [`LOCAL_SPACE`] (protocol.md 4.2).
pub const GLOBAL_SPACE: &str = "pontoon-global";

/// The index over pools and addresses.
#[derive(Debug, Clone, Default)]
pub struct Ipam {
    defaults: DefaultPools,
    ula: Option<IpNetwork>,
    pools: BTreeMap<String, Pool>,
    /// Ids of the pools in the local space.
    by_subnet: BTreeMap<(IpNetwork, Option<Vid>), String>,
    /// Subnets and VLAN of the networks of Pontoon.
    carried: BTreeMap<NetworkId, (Vec<IpNetwork>, Option<Vid>)>,
}

impl Ipam {
    /// An index without pools; pools that the user does not name will come from `defaults`.
    pub fn new(defaults: DefaultPools) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// The index that `records`, in ledger order, describe. Like [`Ipam::apply`] for each, and the allocation
    /// resumes at its last position.
    pub fn load(defaults: DefaultPools, records: &[Record]) -> Self {
        let mut ipam = Self::new(defaults);
        for record in records {
            ipam.apply(record);
        }
        for record in records {
            if let Record::Address(AddressRecord { pool, address, holder }) = record
                && matches!(holder, Holder::Endpoint { .. } | Holder::Unclaimed { .. })
                && let Some(pool) = ipam.pools.get_mut(pool)
            {
                pool.resume(*address);
            }
        }
        ipam
    }

    /// Applies `record`. Accepts any record; those of endpoints have no effect.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Pool(new) => match self.pools.get_mut(&new.id) {
                Some(pool) => pool.record.used = new.used,
                None => {
                    if new.space == LOCAL_SPACE {
                        self.by_subnet.insert((new.subnet, new.vlan), new.id.clone());
                    }
                    self.pools.insert(new.id.clone(), Pool::new(new.clone()));
                }
            },
            Record::NoPool { id } => {
                self.pools.remove(id);
                self.by_subnet.retain(|_, of| of != id);
            }
            Record::Address(AddressRecord { pool, address, holder }) => {
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.put(*address, holder.clone());
                }
            }
            Record::NoAddress { pool, address } => {
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.give_back(*address);
                }
            }
            Record::Ula { prefix } => self.ula = Some(*prefix),
            Record::Network(network) => {
                let subnets = network.spec.subnets().map(|subnet| subnet.pool).collect();
                self.carried.insert(network.spec.id.clone(), (subnets, network.spec.options.vlan));
            }
            Record::NoNetwork { id } => {
                self.carried.remove(id);
            }
            // Other records concern no pool.
            _ => {}
        }
    }

    /// Excludes addresses of unknown use from being chosen, in existing pools. In memory only: a request that
    /// names one gets it.
    pub fn withhold(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            for pool in self.pools.values_mut() {
                if pool.record.subnet.contains(address) && pool.holder(address).is_none() {
                    pool.put(address, Holder::Stale);
                }
            }
        }
    }

    /// The subnet of a pool, if it is in this address space.
    pub fn subnet(&self, pool: &str, space: &str) -> Option<IpNetwork> {
        self.pools.get(pool).filter(|pool| pool.record.space == space).map(|pool| pool.record.subnet)
    }

    /// The next addresses that a pool allocates when a request names none, without those to avoid.
    pub fn upcoming(&self, pool: &str, count: usize, avoid: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        let pool = self.pools.get(pool).into_iter();
        pool.flat_map(Pool::upcoming).filter(|address| !avoid(*address)).take(count).collect()
    }

    /// The same for the pool of the local space with exactly this subnet and without a VLAN.
    pub fn upcoming_of_subnet(&self, subnet: &IpNetwork, count: usize, avoid: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        self.by_subnet.get(&(*subnet, None)).map(|pool| self.upcoming(pool, count, avoid)).unwrap_or_default()
    }

    /// Continues the allocation of a pool after an address that was chosen although others came before it.
    pub fn resume_after(&mut self, pool: &str, address: IpAddr) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.resume(address);
        }
    }

    /// The complete index as records: the ULA prefix, pools, addresses. [`Ipam::load`] restores the same index
    /// from them.
    pub fn snapshot(&self) -> Vec<Record> {
        let ula = self.ula.map(|prefix| Record::Ula { prefix });
        let pools = self.pools.values().map(|pool| Record::Pool(pool.record.clone()));
        ula.into_iter().chain(pools).chain(self.pools.values().flat_map(Pool::records)).collect()
    }

    fn in_space<'a>(&'a self, space: &'a str) -> impl Iterator<Item = &'a Pool> {
        self.pools.values().filter(move |pool| pool.record.space == space)
    }

    /// Whether this subnet is allocated in the address space.
    pub fn has(&self, space: &str, subnet: &IpNetwork) -> bool {
        self.in_space(space).any(|pool| pool.record.subnet == *subnet)
    }

    /// The pool of the local space with exactly this subnet, for a network in this VLAN.
    fn local(&self, subnet: &IpNetwork, vlan: Option<Vid>) -> Option<&Pool> {
        let id = self.by_subnet.get(&(*subnet, vlan)).or_else(|| self.by_subnet.get(&(*subnet, None)))?;
        self.pools.get(id)
    }

    /// Whether a network of Pontoon uses the pool of a VLAN.
    fn is_carried(&self, subnet: &IpNetwork, vlan: Vid) -> bool {
        self.carried.values().any(|(subnets, of)| *of == Some(vlan) && subnets.contains(subnet))
    }

    /// Describes what uses a pool.
    fn usage(&self, pool: &Pool) -> String {
        let local = pool.record.space == LOCAL_SPACE;
        let is_its = |subnets: &[IpNetwork], vlan: Option<Vid>| {
            subnets.contains(&pool.record.subnet) && pool.record.vlan.is_none_or(|own| vlan == Some(own))
        };
        let mut of = self.carried.iter().filter(|(_, (subnets, vlan))| local && is_its(subnets, *vlan));
        match of.next() {
            Some((network, _)) => format!("of network {network}: {}", pool.usage()),
            None => pool.usage(),
        }
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
