//! The driver's methods, as `libnetwork-plugin` calls them.

use libnetwork_plugin::{
    AddressAnswer, InterfaceAnswer, InvalidValue, IpamDriver, JoinAnswer, NetworkDriver, PoolAnswer, Refusal,
};

use super::decode::{self, DecodeError};
use super::encode;
use crate::api::Method;
use crate::api::ipam::{
    self, AddressSpacesResponse, ReleaseAddressRequest, ReleasePoolRequest, RequestAddressRequest, RequestPoolRequest,
};
use crate::api::network::{
    AllocateNetworkRequest, AllocateNetworkResponse, CapabilitiesResponse, CreateEndpointRequest, CreateNetworkRequest,
    DiscoverRequest, EndpointRequest, GwAllocCheckRequest, GwAllocCheckResponse, JoinRequest, NetworkRequest,
    ProgramRequest,
};
use crate::driver::{Driver, Error, without_gateway};

impl Driver {
    fn refusal(&self, error: Error) -> Refusal {
        Refusal::new(self.explain(error).to_string())
    }

    fn done<T>(&self, result: Result<T, Error>) -> Result<T, Refusal> {
        result.map_err(|error| self.refusal(error))
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Refusal::new(error.to_string())
    }
}

/// Checks an answer before the engine sees it.
fn checked<R, A: TryFrom<R, Error = InvalidValue>>(response: R) -> Result<A, Refusal> {
    Ok(A::try_from(response)?)
}

// Methods of the type itself take precedence over those of a trait: `Driver::join` is the driver's.
impl NetworkDriver for Driver {
    /// Pure, and must never fail: after one failure an engine does not register the driver until the engine is
    /// restarted (protocol.md 1.3).
    fn capabilities(&self) -> CapabilitiesResponse {
        encode::capabilities(self.overlay_settings())
    }

    fn gw_alloc_check(&self, request: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Refusal> {
        let (options, internal) = decode::gateway_check(&request)?;
        let (skip_ipv4, skip_ipv6) = without_gateway(&options, internal);
        Ok(GwAllocCheckResponse { skip_ipv4, skip_ipv6 })
    }

    fn create_network(&self, request: CreateNetworkRequest) -> Result<(), Refusal> {
        let spec = decode::network(&request)?;
        self.done(Driver::create_network(self, spec))
    }

    fn delete_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        let id = decode::network_id(&request.network_id)?;
        self.done(Driver::delete_network(self, &id))
    }

    fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
        let spec = decode::endpoint(&request)?;
        let created = Driver::create_endpoint(self, spec, &|| decode::fingerprint(&request.options));
        checked(encode::interface(self.done(created)?))
    }

    fn delete_endpoint(&self, request: EndpointRequest) -> Result<(), Refusal> {
        let (network, id) = decode::endpoint_id(&request)?;
        self.done(Driver::delete_endpoint(self, &network, &id))
    }

    fn join(&self, request: JoinRequest) -> Result<JoinAnswer, Refusal> {
        let spec = decode::join(&request)?;
        let joined = Driver::join(self, spec, &|| decode::bindings(&request.options));
        checked(encode::joined(self.done(joined)?))
    }

    fn leave(&self, request: EndpointRequest) -> Result<(), Refusal> {
        let (network, id) = decode::endpoint_id(&request)?;
        self.done(Driver::leave(self, &network, &id))
    }

    fn program_external_connectivity(&self, request: ProgramRequest) -> Result<(), Refusal> {
        let publication = decode::publication(&request)?;
        self.done(Driver::program_external_connectivity(self, publication))
    }

    fn revoke_external_connectivity(&self, request: EndpointRequest) -> Result<(), Refusal> {
        let (network, id) = decode::endpoint_id(&request)?;
        self.done(Driver::revoke_external_connectivity(self, &network, &id))
    }

    fn discover_new(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        let node = self.has_connectivity().then(|| decode::node(&request)).flatten();
        self.done(node.map_or(Ok(()), |node| Driver::discover_new(self, node)))
    }

    fn discover_delete(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        let node = self.has_connectivity().then(|| decode::node(&request)).flatten();
        self.done(node.map_or(Ok(()), |node| Driver::discover_delete(self, node)))
    }

    fn allocate_network(&self, request: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Refusal> {
        let allocation = if self.allocates() {
            let (id, options, has_v6) = decode::allocation(&request)?;
            self.done(Driver::allocate_network(self, &id, &options, has_v6))?
        } else {
            decode::network_id(&request.network_id)?;
            None
        };
        Ok(AllocateNetworkResponse { options: encode::allocated(request.options, allocation) })
    }

    fn free_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        let id = decode::network_id(&request.network_id)?;
        self.done(Driver::free_network(self, &id))
    }
}

impl IpamDriver for Driver {
    /// The ledger is replayed, so the engine need not repeat its requests.
    fn capabilities(&self) -> ipam::CapabilitiesResponse {
        ipam::CapabilitiesResponse::default()
    }

    fn default_address_spaces(&self) -> AddressSpacesResponse {
        encode::address_spaces()
    }

    fn request_pool(&self, request: RequestPoolRequest) -> Result<PoolAnswer, Refusal> {
        let ask = decode::pool(&request)?;
        checked(encode::pool(self.done(Driver::request_pool(self, &ask))?))
    }

    fn release_pool(&self, request: ReleasePoolRequest) -> Result<(), Refusal> {
        self.done(Driver::release_pool(self, &request.pool_id))
    }

    fn request_address(&self, request: RequestAddressRequest) -> Result<AddressAnswer, Refusal> {
        let (asked, is_gateway) = decode::address_request(&request)?;
        checked(encode::address(self.done(Driver::request_address(self, &request.pool_id, asked, is_gateway))?))
    }

    fn release_address(&self, request: ReleaseAddressRequest) -> Result<(), Refusal> {
        let address = decode::address(&request.address)?;
        self.done(Driver::release_address(self, &request.pool_id, address))
    }
}

/// Decodes and runs one request without a connection, for fuzzing. Returns whether it succeeded.
pub fn call_directly(driver: &Driver, method: Method, body: &[u8]) -> bool {
    libnetwork_plugin::call(Some(driver), Some(driver), method, body).is_ok()
}
