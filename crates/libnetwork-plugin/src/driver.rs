//! What a plugin implements.

use crate::answer::{AddressAnswer, InterfaceAnswer, JoinAnswer, PoolAnswer};
use crate::refusal::Refusal;
use crate::wire::ipam::{
    self, AddressSpacesResponse, ReleaseAddressRequest, ReleasePoolRequest, RequestAddressRequest, RequestPoolRequest,
};
use crate::wire::network::{
    AllocateNetworkRequest, AllocateNetworkResponse, CapabilitiesResponse, CreateEndpointRequest, CreateNetworkRequest,
    DiscoverRequest, EndpointRequest, GwAllocCheckRequest, GwAllocCheckResponse, JoinRequest, NetworkRequest,
    ProgramRequest,
};

/// A network driver.
///
/// Methods block, and run on the thread of their connection; those of different containers and
/// networks run in parallel. One that takes longer than the server's deadline is answered with an
/// error and still runs to its end, so that nothing is left half done.
///
/// **Every method must be idempotent.** After a lost connection the engine repeats a request, and
/// after a crash it may repeat a whole sequence, or skip its end. The same request again is the
/// same answer; what is not known is already deleted.
///
/// An error of CreateNetwork, CreateEndpoint, Join and ProgramExternalConnectivity fails the
/// user's command, and the engine calls no deletion for it: leave nothing behind. Errors of
/// deletions are logged by the engine and ignored: what could not be deleted must be retried by
/// the driver.
pub trait NetworkDriver: Send + Sync + 'static {
    /// What the driver can do. Called before anything else, and again whenever the engine
    /// registers the driver: cheap, without side effects, always the same.
    ///
    /// The default is a driver for networks of one host.
    fn capabilities(&self) -> CapabilitiesResponse {
        CapabilitiesResponse::default()
    }

    /// Which families of a network about to be created need no gateway address. Only engines from
    /// 28 on ask. An error fails the creation. By default every family gets a gateway.
    #[expect(unused_variables)]
    fn gw_alloc_check(&self, request: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Refusal> {
        Ok(GwAllocCheckResponse::default())
    }

    /// Creates a network. In a Swarm a known id means that the engine crashed: endpoints of before
    /// are dead then.
    fn create_network(&self, request: CreateNetworkRequest) -> Result<(), Refusal>;

    /// Deletes a network and whatever endpoints are left in it. Unknown is success.
    fn delete_network(&self, request: NetworkRequest) -> Result<(), Refusal>;

    /// Creates an endpoint: what will be moved into a container. The answer has what the request
    /// left blank.
    fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal>;

    /// Deletes an endpoint. Unknown is success; it may come without a Leave, twice, or never.
    fn delete_endpoint(&self, request: EndpointRequest) -> Result<(), Refusal>;

    /// Names the link that the engine moves into the container, and the routes there. The link's
    /// MTU is the driver's business; names, addresses and routes inside are the engine's.
    ///
    /// Before engine 28 the container's namespace does not exist yet when a container starts.
    fn join(&self, request: JoinRequest) -> Result<JoinAnswer, Refusal>;

    /// The container leaves the network. The link is still inside the container: delete it in
    /// [`NetworkDriver::delete_endpoint`]. May come twice, or without a Join. Published ports must
    /// be gone afterwards, for a Revoke may have been lost.
    #[expect(unused_variables)]
    fn leave(&self, request: EndpointRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// The endpoint is its container's gateway now: publish its ports. The request has the whole
    /// list, and replaces an earlier one. By default ports are not published.
    #[expect(unused_variables)]
    fn program_external_connectivity(&self, request: ProgramRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// The endpoint is no longer its container's gateway: its ports are not published any more.
    /// Not guaranteed to come.
    #[expect(unused_variables)]
    fn revoke_external_connectivity(&self, request: EndpointRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// A node joined the Swarm, or this is the address of this node. With global connectivity.
    #[expect(unused_variables)]
    fn discover_new(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// A node left the Swarm, or cannot be reached for a moment: a hint, not a fact.
    #[expect(unused_variables)]
    fn discover_delete(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// Chooses what every node of a Swarm must know of a network. On managers, for global scope.
    /// By default the nodes get the options of the request.
    fn allocate_network(&self, request: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Refusal> {
        Ok(AllocateNetworkResponse { options: request.options })
    }

    /// Frees what [`NetworkDriver::allocate_network`] chose. Unknown is success.
    #[expect(unused_variables)]
    fn free_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        Ok(())
    }
}

/// An address management driver. What [`NetworkDriver`] says of blocking, of concurrency and of
/// idempotence holds here too.
pub trait IpamDriver: Send + Sync + 'static {
    /// What the driver needs. Cheap, without side effects, always the same.
    ///
    /// By default nothing: allocations are remembered by the driver, not replayed by the engine.
    fn capabilities(&self) -> ipam::CapabilitiesResponse {
        ipam::CapabilitiesResponse::default()
    }

    /// Names of the spaces of addresses: pools of one space do not overlap. The two must differ,
    /// or the engine does not check networks of this host for overlaps.
    ///
    /// The default is `local` and `global`.
    fn default_address_spaces(&self) -> AddressSpacesResponse {
        AddressSpacesResponse::default()
    }

    /// Reserves a pool. The engine stores the id of the answer and uses it ever after: it must
    /// not change. An engine that gets a pool which overlaps one of its networks asks again for
    /// another, and releases the first afterwards.
    fn request_pool(&self, request: RequestPoolRequest) -> Result<PoolAnswer, Refusal>;

    /// Releases a pool. Unknown is success.
    fn release_pool(&self, request: ReleasePoolRequest) -> Result<(), Refusal>;

    /// Reserves an address: the one asked for, or any. The answer has the prefix length of the
    /// pool.
    fn request_address(&self, request: RequestAddressRequest) -> Result<AddressAnswer, Refusal>;

    /// Releases an address. Unknown is success.
    fn release_address(&self, request: ReleaseAddressRequest) -> Result<(), Refusal>;
}
