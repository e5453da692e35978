//! A plugin that cannot serve yet.

use crate::answer::{AddressAnswer, InterfaceAnswer, JoinAnswer, PoolAnswer};
use crate::driver::{IpamDriver, NetworkDriver};
use crate::refusal::Refusal;
use crate::routes::{RouteAnswer, RouteRequest, Routes};
use crate::wire::ipam::{
    self, AddressSpacesResponse, ReleaseAddressRequest, ReleasePoolRequest, RequestAddressRequest, RequestPoolRequest,
};
use crate::wire::network::{
    AllocateNetworkRequest, AllocateNetworkResponse, CapabilitiesResponse, CreateEndpointRequest, CreateNetworkRequest,
    DiscoverRequest, EndpointRequest, GwAllocCheckRequest, GwAllocCheckResponse, JoinRequest, NetworkRequest,
    ProgramRequest,
};

/// A driver that refuses every request with a reason, except those that the engine needs to register it.
///
/// For a plugin whose state cannot be read, or whose kernel is not ready: the engine shows the reason to its
/// user. Without a listener the engine reports "not found" after 15 seconds, and if GetCapabilities fails it
/// does not register the driver until the engine is restarted.
///
/// As [`Routes`] it answers every path with the reason and status 503.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// One line, which names the remedy.
    pub reason: String,
    /// The capabilities of the network driver once it serves.
    pub network: CapabilitiesResponse,
    /// The requirements of the IPAM driver once it serves.
    pub ipam: ipam::CapabilitiesResponse,
    /// The IPAM driver's address spaces.
    pub address_spaces: AddressSpacesResponse,
}

impl Unavailable {
    fn refuse<A>(&self) -> Result<A, Refusal> {
        Err(Refusal::new(self.reason.clone()))
    }
}

impl NetworkDriver for Unavailable {
    fn capabilities(&self) -> CapabilitiesResponse {
        self.network
    }

    fn gw_alloc_check(&self, _: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Refusal> {
        self.refuse()
    }

    fn create_network(&self, _: CreateNetworkRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn delete_network(&self, _: NetworkRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn create_endpoint(&self, _: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
        self.refuse()
    }

    fn delete_endpoint(&self, _: EndpointRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn join(&self, _: JoinRequest) -> Result<JoinAnswer, Refusal> {
        self.refuse()
    }

    fn leave(&self, _: EndpointRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn program_external_connectivity(&self, _: ProgramRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn revoke_external_connectivity(&self, _: EndpointRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn discover_new(&self, _: DiscoverRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn discover_delete(&self, _: DiscoverRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn allocate_network(&self, _: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Refusal> {
        self.refuse()
    }

    fn free_network(&self, _: NetworkRequest) -> Result<(), Refusal> {
        self.refuse()
    }
}

impl IpamDriver for Unavailable {
    fn capabilities(&self) -> ipam::CapabilitiesResponse {
        self.ipam
    }

    fn default_address_spaces(&self) -> AddressSpacesResponse {
        self.address_spaces.clone()
    }

    fn request_pool(&self, _: RequestPoolRequest) -> Result<PoolAnswer, Refusal> {
        self.refuse()
    }

    fn release_pool(&self, _: ReleasePoolRequest) -> Result<(), Refusal> {
        self.refuse()
    }

    fn request_address(&self, _: RequestAddressRequest) -> Result<AddressAnswer, Refusal> {
        self.refuse()
    }

    fn release_address(&self, _: ReleaseAddressRequest) -> Result<(), Refusal> {
        self.refuse()
    }
}

impl Routes for Unavailable {
    fn has(&self, _: &str, _: &str) -> bool {
        true
    }

    fn respond(&self, _: RouteRequest<'_>) -> RouteAnswer {
        RouteAnswer::error(503, &self.reason)
    }
}
