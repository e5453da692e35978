//! The IPAM verbs: convert wire values to decisions of the allocator and to ledger records.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::api::Empty;
use crate::api::ipam::{
    ADDRESS_TYPE, AddressSpacesResponse, CapabilitiesResponse, GATEWAY, ReleaseAddressRequest, ReleasePoolRequest,
    RequestAddressRequest, RequestAddressResponse, RequestPoolRequest, RequestPoolResponse,
};
use crate::driver::settings::Affected;
use crate::driver::{Driver, Error, now, sanity};
use crate::ipam::{GLOBAL_SPACE, HostView, IpamError, LOCAL_SPACE, PoolAsk};

impl Driver {
    /// IpamDriver.GetCapabilities: the ledger is replayed, so the engine need not repeat its requests.
    pub fn ipam_get_capabilities(&self) -> CapabilitiesResponse {
        CapabilitiesResponse::default()
    }

    /// GetDefaultAddressSpaces. The two names differ, because the engine checks overlaps only outside the global
    /// space.
    pub fn get_default_address_spaces(&self) -> AddressSpacesResponse {
        address_spaces()
    }

    /// RequestPool. Host routes and resolvers are checked only when Pontoon chooses the subnet: a subnet that
    /// the user names is the user's decision, as with the built-in IPAM.
    pub fn request_pool(&self, request: RequestPoolRequest) -> Result<RequestPoolResponse, Error> {
        let mut ask =
            PoolAsk { space: &request.address_space, pool: None, prefix_only: None, range: None, v6: request.v6 };
        if !request.pool.is_empty() {
            let pool = cidr("subnet", &request.pool)?;
            // "Any subnet of this size". The family of the pool counts, not the flag: Swarm managers never set
            // it (protocol.md 4.9).
            if pool.ip().is_unspecified() {
                ask.prefix_only = (pool.prefix() > 0).then_some(pool.prefix());
            } else {
                ask.pool = Some(pool);
            }
            ask.v6 = pool.is_ipv6();
        }
        if !request.sub_pool.is_empty() {
            ask.range = Some(cidr("ip-range", &request.sub_pool)?);
        }
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
        let mut granted = index.request_pool(&ask, &host);
        while let (Err(IpamError::Overlap { other, .. }), LOCAL_SPACE) = (&granted, ask.space) {
            let other = *other;
            drop(index);
            let forgotten = ask.pool.is_some() && self.forget_network_of(&other)?;
            index = self.addresses.lock();
            if !forgotten {
                break;
            }
            granted = index.request_pool(&ask, &host);
        }
        let (pool, records) = granted?;
        index.commit(&records)?;
        tracing::info!(pool = %pool.id, "allocated a pool");
        Ok(RequestPoolResponse { pool_id: pool.id, pool: pool.subnet.to_string(), data: Default::default() })
    }

    /// ReleasePool. An unknown pool is success.
    pub fn release_pool(&self, request: ReleasePoolRequest) -> Result<Empty, Error> {
        let mut index = self.addresses.lock();
        let records = index.release_pool(&request.pool_id);
        index.commit(&records)?;
        Ok(Empty {})
    }

    /// RequestAddress. The answer carries the pool's prefix length.
    pub fn request_address(&self, request: RequestAddressRequest) -> Result<RequestAddressResponse, Error> {
        let asked = if request.address.is_empty() { None } else { Some(plain("address", &request.address)?) };
        let gateway = request.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY);
        let mut index = self.addresses.lock();
        let (address, records) = index.request_address(&request.pool_id, asked, gateway, now())?;
        index.commit(&records)?;
        Ok(RequestAddressResponse { address: address.to_string(), data: Default::default() })
    }

    /// ReleaseAddress. An unknown address is success.
    pub fn release_address(&self, request: ReleaseAddressRequest) -> Result<Empty, Error> {
        let address = plain("address", &request.address)?;
        let mut index = self.addresses.lock();
        let records = index.release_address(&request.pool_id, address);
        index.commit(&records)?;
        Ok(Empty {})
    }
}

/// The answer to GetDefaultAddressSpaces.
pub fn address_spaces() -> AddressSpacesResponse {
    AddressSpacesResponse {
        local_default_address_space: LOCAL_SPACE.to_owned(),
        global_default_address_space: GLOBAL_SPACE.to_owned(),
    }
}

fn not_an_address(what: &'static str, text: &str) -> Error {
    Error::NotAnAddress { what, text: text.chars().take(80).collect() }
}

fn cidr(what: &'static str, text: &str) -> Result<IpNetwork, Error> {
    let net = text.parse::<IpNetwork>().ok().filter(|_| text.contains('/'));
    net.ok_or_else(|| not_an_address(what, text))
}

fn plain(what: &'static str, text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| not_an_address(what, text))
}
