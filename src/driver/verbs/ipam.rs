//! The IPAM verbs: request_pool, release_pool, request_address, release_address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::driver::settings::Affected;
use crate::driver::{Driver, Error, now, sanity};
use crate::ipam::{HostView, IpamError, LOCAL_SPACE, PoolAsk};

/// The pool that RequestPool allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The id under which the engine refers to it.
    pub id: String,
    /// Its subnet.
    pub subnet: IpNetwork,
}

impl Driver {
    /// RequestPool. Host routes and resolvers are checked only when Pontoon chooses the subnet: a subnet that
    /// the user names is the user's decision, as with the built-in IPAM.
    pub fn request_pool(&self, ask: &PoolAsk<'_>) -> Result<Pool, Error> {
        if ask.pool.is_none() {
            self.unusable.check(&[Affected::Subnets], || "choice of a subnet".to_owned())?;
        }
        let (routes, yielding, resolvers) = if ask.pool.is_some() {
            (Vec::new(), Vec::new(), Vec::new())
        } else {
            let kernel = |source| Error::Kernel { object: "choice of a subnet".to_owned(), source };
            let around = self.kernel().surroundings().map_err(kernel)?;
            let mut routes = around.firm();
            // Includes networks made with another IPAM driver, whose bridge may be missing at the moment.
            routes.extend(self.networks.table.subnets());
            (routes, around.yielding(), (self.resolvers)())
        };
        let host = HostView { routes: &routes, yielding: &yielding, resolvers: &resolvers, ula_seed: self.ula_seed };
        let mut index = self.addresses.lock();
        // Each new leader of a Swarm requests a pool again that is already in use.
        if let Some(pool) = ask.pool.filter(|pool| !index.has(ask.space, pool)) {
            sanity::subnet(&pool)?;
        }
        let mut granted = index.request_pool(ask, &host);
        while let (Err(IpamError::Overlap { other, .. }), LOCAL_SPACE) = (&granted, ask.space) {
            let other = *other;
            drop(index);
            let forgotten = ask.pool.is_some() && self.forget_network_of(&other)?;
            index = self.addresses.lock();
            if !forgotten {
                break;
            }
            granted = index.request_pool(ask, &host);
        }
        let (pool, records) = granted?;
        index.commit(&records)?;
        tracing::info!(pool = %pool.id, "allocated a pool");
        Ok(Pool { id: pool.id, subnet: pool.subnet })
    }

    /// ReleasePool. An unknown pool is success.
    pub fn release_pool(&self, pool: &str) -> Result<(), Error> {
        let mut index = self.addresses.lock();
        let records = index.release_pool(pool);
        Ok(index.commit(&records)?)
    }

    /// RequestAddress: an address of the pool, `asked` if given. Returns it with the pool's prefix length. Waits for
    /// answers of other hosts if the pool is that of a network with such hosts and they were not asked in advance.
    pub fn request_address(&self, pool: &str, asked: Option<IpAddr>, is_gateway: bool) -> Result<IpNetwork, Error> {
        if asked.is_none()
            && !is_gateway
            && let Some(address) = self.request_silent_address(pool)?
        {
            return Ok(address);
        }
        let mut index = self.addresses.lock();
        let (address, records) = index.request_address(pool, asked, is_gateway, now())?;
        index.commit(&records)?;
        Ok(address)
    }

    /// ReleaseAddress. An unknown address is success.
    pub fn release_address(&self, pool: &str, address: IpAddr) -> Result<(), Error> {
        let mut index = self.addresses.lock();
        let records = index.release_address(pool, address);
        Ok(index.commit(&records)?)
    }
}
