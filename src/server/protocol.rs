//! The driver's methods, as `libnetwork-plugin` calls them.

use libnetwork_plugin::{
    AddressAnswer, InterfaceAnswer, InvalidValue, IpamDriver, JoinAnswer, NetworkDriver, PoolAnswer, Refusal,
};

use crate::api::ipam::{
    self, AddressSpacesResponse, ReleaseAddressRequest, ReleasePoolRequest, RequestAddressRequest, RequestPoolRequest,
};
use crate::api::network::{
    AllocateNetworkRequest, AllocateNetworkResponse, CapabilitiesResponse, CreateEndpointRequest, CreateNetworkRequest,
    DiscoverRequest, EndpointRequest, GwAllocCheckRequest, GwAllocCheckResponse, JoinRequest, NetworkRequest,
    ProgramRequest,
};
use crate::api::{Empty, Method};
use crate::driver::{Driver, Error};

impl Driver {
    fn refusal(&self, error: Error) -> Refusal {
        Refusal::new(self.explain(error).to_string())
    }

    fn done(&self, result: Result<Empty, Error>) -> Result<(), Refusal> {
        result.map(|Empty {}| ()).map_err(|error| self.refusal(error))
    }

    fn answer<R, A: TryFrom<R, Error = InvalidValue>>(&self, result: Result<R, Error>) -> Result<A, Refusal> {
        Ok(A::try_from(result.map_err(|error| self.refusal(error))?)?)
    }
}

// Methods of the type itself take precedence over those of a trait: `Driver::join` is the driver's.
impl NetworkDriver for Driver {
    fn capabilities(&self) -> CapabilitiesResponse {
        self.get_capabilities()
    }

    fn gw_alloc_check(&self, request: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Refusal> {
        Driver::gw_alloc_check(self, request).map_err(|error| self.refusal(error))
    }

    fn create_network(&self, request: CreateNetworkRequest) -> Result<(), Refusal> {
        self.done(Driver::create_network(self, request))
    }

    fn delete_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        self.done(Driver::delete_network(self, request))
    }

    fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
        self.answer(Driver::create_endpoint(self, request))
    }

    fn delete_endpoint(&self, request: EndpointRequest) -> Result<(), Refusal> {
        self.done(Driver::delete_endpoint(self, request))
    }

    fn join(&self, request: JoinRequest) -> Result<JoinAnswer, Refusal> {
        self.answer(Driver::join(self, request))
    }

    fn leave(&self, request: EndpointRequest) -> Result<(), Refusal> {
        self.done(Driver::leave(self, request))
    }

    fn program_external_connectivity(&self, request: ProgramRequest) -> Result<(), Refusal> {
        self.done(Driver::program_external_connectivity(self, request))
    }

    fn revoke_external_connectivity(&self, request: EndpointRequest) -> Result<(), Refusal> {
        self.done(Driver::revoke_external_connectivity(self, request))
    }

    fn discover_new(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        self.done(Driver::discover_new(self, request))
    }

    fn discover_delete(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        self.done(Driver::discover_delete(self, request))
    }

    fn allocate_network(&self, request: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Refusal> {
        Driver::allocate_network(self, request).map_err(|error| self.refusal(error))
    }

    fn free_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        self.done(Driver::free_network(self, request))
    }
}

impl IpamDriver for Driver {
    fn capabilities(&self) -> ipam::CapabilitiesResponse {
        self.ipam_get_capabilities()
    }

    fn default_address_spaces(&self) -> AddressSpacesResponse {
        self.get_default_address_spaces()
    }

    fn request_pool(&self, request: RequestPoolRequest) -> Result<PoolAnswer, Refusal> {
        self.answer(Driver::request_pool(self, request))
    }

    fn release_pool(&self, request: ReleasePoolRequest) -> Result<(), Refusal> {
        self.done(Driver::release_pool(self, request))
    }

    fn request_address(&self, request: RequestAddressRequest) -> Result<AddressAnswer, Refusal> {
        self.answer(Driver::request_address(self, request))
    }

    fn release_address(&self, request: ReleaseAddressRequest) -> Result<(), Refusal> {
        self.done(Driver::release_address(self, request))
    }
}

/// Decodes and runs one request without a connection, for fuzzing. Returns whether it succeeded.
pub fn call_directly(driver: &Driver, method: Method, body: &[u8]) -> bool {
    libnetwork_plugin::call(Some(driver), Some(driver), method, body).is_ok()
}
