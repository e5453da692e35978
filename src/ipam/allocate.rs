//! Answers the engine's four requests: allocate a pool or an address, and release either.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::pool::{Pool, describe};
use super::subnet_search::{self, DefaultPool, Obstacles};
use super::{GLOBAL_SPACE, Ipam, IpamError, LOCAL_SPACE};
use crate::model::prefix::{number, span, trimmed, with_prefix};
use crate::model::{Family, Vid, overlap};
use crate::state::record::{AddressRecord, Holder, PoolRecord, Record};

/// The parameters of RequestPool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolAsk<'a> {
    /// The address space.
    pub space: &'a str,
    /// `--subnet`; `None` lets Pontoon choose.
    pub pool: Option<IpNetwork>,
    /// Prefix length of the pool to choose, from `--subnet 0.0.0.0/N`; `None` for the default.
    pub prefix_only: Option<u8>,
    /// `--ip-range`.
    pub range: Option<IpNetwork>,
    /// The VLAN in `--ipam-opt pontoon.vlan`: the pool may overlap those of other VLANs.
    pub vlan: Option<Vid>,
    /// Whether the pool to choose is IPv6; a named pool determines its own family.
    pub v6: bool,
}

/// What a choice of subnet must avoid on this host.
#[derive(Debug, Clone, Copy)]
pub struct HostView<'a> {
    /// Destinations of the host's routes; default routes are ignored.
    pub routes: &'a [IpNetwork],
    /// Destinations of routes that yield to a narrower subnet when nothing else is left.
    pub yielding: &'a [IpNetwork],
    /// The host's name servers.
    pub resolvers: &'a [IpAddr],
    /// Random bytes for the ULA prefix, if there is none yet.
    pub ula_seed: [u8; 5],
}

impl Ipam {
    /// Allocates a pool: the named one, or the lowest default pool without a conflict. The records contain it
    /// and the release of never-used pools that yielded.
    ///
    /// Errors are final for the request; nothing has changed then.
    pub fn request_pool(&self, ask: &PoolAsk, host: &HostView) -> Result<(PoolRecord, Vec<Record>), IpamError> {
        if ![LOCAL_SPACE, GLOBAL_SPACE].contains(&ask.space) {
            return Err(IpamError::Space { space: ask.space.to_owned() });
        }
        match (ask.pool, ask.range) {
            (Some(pool), range) => self.grant(ask, pool, checked(pool, range)?, Vec::new()),
            (None, Some(range)) => Err(IpamError::RangeAlone { range }),
            (None, None) => self.choose_pool(ask, host),
        }
    }

    fn choose_pool(&self, ask: &PoolAsk, host: &HostView) -> Result<(PoolRecord, Vec<Record>), IpamError> {
        let (mut blocks, mut records) = (self.defaults.of(ask.v6), Vec::new());
        if ask.v6 && blocks.is_empty() {
            let prefix = self.ula.unwrap_or_else(|| subnet_search::ula_prefix(host.ula_seed));
            if self.ula.is_none() {
                records.push(Record::Ula { prefix });
            }
            blocks.push(subnet_search::ula_block(prefix));
        }
        let (family, count) =
            (if ask.v6 { Family::V6 } else { Family::V4 }.name(), subnet_search::count(&blocks, ask.prefix_only));
        let first = blocks.first().ok_or(IpamError::NoDefaults { family })?;
        let size = ask.prefix_only.unwrap_or(first.size);
        if count == 0 {
            return Err(IpamError::NoneSoLarge { family, size });
        }
        // A pool that was granted and never used may belong to a concurrent request, or be one that the engine
        // is about to refuse: such a pool is the last resort. A route that yields is avoided while there is
        // another choice.
        let lowest_of = |block: &DefaultPool, last_resort: bool, give_way: bool| {
            let pools = self.in_space(ask.space).filter(|pool| pool.record.used || !last_resort);
            let pools = pools.map(|pool| pool.record.subnet);
            let routes = host.routes.iter().copied().filter(|route| route.prefix() > 0);
            let resolvers = host.resolvers.iter().filter(|address| address.is_ipv6() == ask.v6);
            let size = ask.prefix_only.unwrap_or(block.size);
            let yielding = host.yielding.iter().copied().filter(|net| net.prefix() > 0);
            let routes = routes.chain(yielding.filter(|net| !give_way || net.prefix() >= size));
            let nets = pools.chain(routes).filter(|net| net.is_ipv6() == ask.v6).map(|net| span(&net));
            let obstacles = nets.chain(resolvers.map(|address| (number(*address), number(*address)))).collect();
            subnet_search::choose(&[*block], ask.prefix_only, &Obstacles::new(obstacles))
        };
        let lowest = |last_resort, give_way| blocks.iter().find_map(|block| lowest_of(block, last_resort, give_way));
        let found = lowest(false, false).or_else(|| lowest(false, true));
        match found.or_else(|| lowest(true, false)).or_else(|| lowest(true, true)) {
            Some(subnet) => self.grant(ask, subnet, None, records),
            None => Err(IpamError::Exhausted { family, count, size }),
        }
    }

    /// Allocates `subnet` unless it conflicts with a used pool.
    fn grant(
        &self,
        ask: &PoolAsk,
        subnet: IpNetwork,
        range: Option<IpNetwork>,
        mut records: Vec<Record>,
    ) -> Result<(PoolRecord, Vec<Record>), IpamError> {
        let (space, vlan) = (ask.space, ask.vlan);
        let apart = |other: Option<Vid>| other.is_some() && vlan.is_some() && other != vlan;
        let meets = |pool: &&Pool| overlap(&pool.record.subnet, &subnet) && !apart(pool.record.vlan);
        for pool in self.in_space(space).filter(meets) {
            let record = &pool.record;
            // The managers of a Swarm agree on the allocations and repeat existing ones to a new leader.
            let again = !record.used || space == GLOBAL_SPACE;
            if again && (record.subnet, record.range, record.vlan) == (subnet, range, vlan) {
                return Ok((record.clone(), records));
            }
            if record.used {
                return Err(IpamError::Overlap { pool: subnet, other: record.subnet, by: self.usage(pool) });
            }
            records.push(Record::NoPool { id: record.id.clone() });
        }
        let mut id = match range {
            Some(range) => format!("{space}/{subnet}/{range}"),
            None => format!("{space}/{subnet}"),
        };
        if let Some(vlan) = vlan {
            id.push_str(&format!("/vlan{vlan}"));
        }
        let granted = PoolRecord { id, space: space.to_owned(), subnet, range, vlan, used: false };
        records.push(Record::Pool(granted.clone()));
        Ok((granted, records))
    }

    /// Releases a pool and all its addresses; an unknown pool is not an error.
    pub fn release_pool(&self, id: &str) -> Vec<Record> {
        self.pools.get(id).map(|_| Record::NoPool { id: id.to_owned() }).into_iter().collect()
    }

    /// Releases the pool of the local space with exactly this subnet, for a network in this VLAN.
    pub fn release_subnet(&self, subnet: &IpNetwork, vlan: Option<Vid>) -> Vec<Record> {
        self.local(subnet, vlan).map(|pool| Record::NoPool { id: pool.record.id.clone() }).into_iter().collect()
    }

    /// Allocates an address, with the prefix length of its pool: `ask`, or the next free one. `now` is in
    /// seconds of the host's monotonic clock.
    ///
    /// A named address may lie outside the pool's range. A gateway may be requested again.
    pub fn request_address(
        &self,
        id: &str,
        ask: Option<IpAddr>,
        gateway: bool,
        now: u64,
    ) -> Result<(IpNetwork, Vec<Record>), IpamError> {
        let pool = self.pools.get(id).ok_or_else(|| IpamError::UnknownPool { id: id.to_owned() })?;
        let address = match ask {
            Some(address) => pool.check(address).map(|()| address)?,
            None => pool.choose().ok_or_else(|| pool.full())?,
        };
        let granted = with_prefix(address, &pool.record.subnet);
        match pool.holder(address) {
            None | Some(Holder::Stale) => {}
            Some(Holder::Gateway) if gateway => return Ok((granted, Vec::new())),
            Some(_) if pool.record.space == GLOBAL_SPACE => return Ok((granted, Vec::new())),
            Some(holder) => {
                let by = describe(holder, now);
                return Err(IpamError::Taken { address, pool: pool.record.subnet, by });
            }
        }
        let holder = if gateway { Holder::Gateway } else { Holder::Unclaimed { since: now } };
        let mut records = used(pool);
        records.push(Record::Address(AddressRecord { pool: id.to_owned(), address, holder }));
        Ok((granted, records))
    }

    /// Releases an address. Does nothing for an address that is free or in an unknown pool, nor for one that an
    /// endpoint has: the engine deletes the endpoint first, so this is a late release by an earlier holder, and
    /// must not give the address of a running container to another.
    pub fn release_address(&self, id: &str, address: IpAddr) -> Vec<Record> {
        let holder = self.pools.get(id).and_then(|pool| pool.holder(address));
        holder
            .filter(|holder| !matches!(holder, Holder::Endpoint { .. }))
            .map(|_| Record::NoAddress { pool: id.to_owned(), address })
            .into_iter()
            .collect()
    }
}

/// The record that marks a pool as used; empty if it is.
pub(super) fn used(pool: &Pool) -> Vec<Record> {
    let record = || Record::Pool(PoolRecord { used: true, ..pool.record.clone() });
    (!pool.record.used).then(record).into_iter().collect()
}

/// The range without host bits, if it and the pool are well formed.
fn checked(pool: IpNetwork, range: Option<IpNetwork>) -> Result<Option<IpNetwork>, IpamError> {
    if trimmed(&pool) != pool {
        return Err(IpamError::HostBits { pool, network: trimmed(&pool) });
    }
    match range.map(|range| trimmed(&range)) {
        Some(range) if range.prefix() < pool.prefix() || !pool.contains(range.ip()) => {
            Err(IpamError::Range { pool, range })
        }
        range => Ok(range),
    }
}
