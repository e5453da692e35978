//! The driver's methods, as `libnetwork-plugin` calls them.

use std::net::IpAddr;
use std::time::Instant;

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
use crate::driver::history::{self, Happening, ShortId};
use crate::driver::{Driver, Error, without_gateway};
use crate::model::{EndpointId, NetworkId};

impl Driver {
    fn refusal(&self, error: Error) -> Refusal {
        Refusal::new(self.explain(error).to_string())
    }

    /// Runs a verb and records it.
    fn recorded<T>(&self, method: Method, on: On, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Refusal> {
        let began = Instant::now();
        let result = self.done(work());
        self.history().record(Happening::Verb {
            method: method.path().rsplit('.').next().unwrap_or_default(),
            network: on.network,
            endpoint: on.endpoint,
            address: on.address,
            took: began.elapsed(),
            error: result.as_ref().err().map(history::words),
        });
        result
    }

    fn done<T>(&self, result: Result<T, Error>) -> Result<T, Refusal> {
        result.map_err(|error| self.refusal(error))
    }
}

/// What a verb is about.
#[derive(Clone, Copy, Default)]
struct On {
    network: ShortId,
    endpoint: ShortId,
    address: Option<IpAddr>,
}

impl On {
    fn network(id: &NetworkId) -> Self {
        Self { network: ShortId::of(id.as_str()), ..Self::default() }
    }

    fn endpoint(network: &NetworkId, id: &EndpointId) -> Self {
        Self { endpoint: ShortId::of(id.as_str()), ..Self::network(network) }
    }

    fn address(address: Option<IpAddr>) -> Self {
        Self { address, ..Self::default() }
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
        let on = On::network(&spec.id);
        self.recorded(Method::CreateNetwork, on, || Driver::create_network(self, spec))
    }

    fn delete_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        let id = decode::network_id(&request.network_id)?;
        self.recorded(Method::DeleteNetwork, On::network(&id), || Driver::delete_network(self, &id))
    }

    fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
        let spec = decode::endpoint(&request)?;
        let on = On::endpoint(&spec.network, &spec.id);
        let create = || Driver::create_endpoint(self, spec, &|| decode::fingerprint(&request.options));
        checked(encode::interface(self.recorded(Method::CreateEndpoint, on, create)?))
    }

    fn delete_endpoint(&self, request: EndpointRequest) -> Result<(), Refusal> {
        let (network, id) = decode::endpoint_id(&request)?;
        self.recorded(Method::DeleteEndpoint, On::endpoint(&network, &id), || {
            Driver::delete_endpoint(self, &network, &id)
        })
    }

    fn join(&self, request: JoinRequest) -> Result<JoinAnswer, Refusal> {
        let spec = decode::join(&request)?;
        let on = On::endpoint(&spec.network, &spec.endpoint);
        let join = || Driver::join(self, spec, &|| decode::bindings(&request.options));
        checked(encode::joined(self.recorded(Method::Join, on, join)?))
    }

    fn leave(&self, request: EndpointRequest) -> Result<(), Refusal> {
        let (network, id) = decode::endpoint_id(&request)?;
        self.recorded(Method::Leave, On::endpoint(&network, &id), || Driver::leave(self, &network, &id))
    }

    fn program_external_connectivity(&self, request: ProgramRequest) -> Result<(), Refusal> {
        let publication = decode::publication(&request)?;
        let on = On::endpoint(&publication.network, &publication.endpoint);
        self.recorded(Method::ProgramExternalConnectivity, on, || {
            Driver::program_external_connectivity(self, publication)
        })
    }

    fn revoke_external_connectivity(&self, request: EndpointRequest) -> Result<(), Refusal> {
        let (network, id) = decode::endpoint_id(&request)?;
        self.recorded(Method::RevokeExternalConnectivity, On::endpoint(&network, &id), || {
            Driver::revoke_external_connectivity(self, &network, &id)
        })
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
            let allocate = || Driver::allocate_network(self, &id, &options, has_v6);
            self.recorded(Method::AllocateNetwork, On::network(&id), allocate)?
        } else {
            decode::network_id(&request.network_id)?;
            None
        };
        Ok(AllocateNetworkResponse { options: encode::allocated(request.options, allocation) })
    }

    fn free_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        let id = decode::network_id(&request.network_id)?;
        self.recorded(Method::FreeNetwork, On::network(&id), || Driver::free_network(self, &id))
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
        checked(encode::pool(self.recorded(Method::RequestPool, On::default(), || Driver::request_pool(self, &ask))?))
    }

    fn release_pool(&self, request: ReleasePoolRequest) -> Result<(), Refusal> {
        self.recorded(Method::ReleasePool, On::default(), || Driver::release_pool(self, &request.pool_id))
    }

    fn request_address(&self, request: RequestAddressRequest) -> Result<AddressAnswer, Refusal> {
        let (asked, is_gateway) = decode::address_request(&request)?;
        let ask = || Driver::request_address(self, &request.pool_id, asked, is_gateway);
        checked(encode::address(self.recorded(Method::RequestAddress, On::address(asked), ask)?))
    }

    fn release_address(&self, request: ReleaseAddressRequest) -> Result<(), Refusal> {
        let address = decode::address(&request.address)?;
        let release = || Driver::release_address(self, &request.pool_id, address);
        self.recorded(Method::ReleaseAddress, On::address(Some(address)), release)
    }
}

/// Decodes and runs one request without a connection, for fuzzing. Returns whether it succeeded.
pub fn call_directly(driver: &Driver, method: Method, body: &[u8]) -> bool {
    libnetwork_plugin::call(Some(driver), Some(driver), method, body).is_ok()
}
