//! The traits that a plugin implements.

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
/// Methods block, and run on the thread of their connection; those of different containers and networks run in
/// parallel. If a method exceeds the server's deadline, the engine gets an error, but the method still runs to
/// its end, so that nothing is left half done.
///
/// **Every method must be idempotent.** After a lost connection the engine repeats a request, and after a crash
/// it may repeat a whole sequence, or skip its end. The same request must give the same answer; an unknown
/// object counts as deleted.
///
/// An error of CreateNetwork, CreateEndpoint, Join and ProgramExternalConnectivity fails the user's command, and
/// the engine sends no deletion for it: leave nothing behind. The engine logs errors of deletions and ignores
/// them: the driver must retry a deletion that failed.
pub trait NetworkDriver: Send + Sync + 'static {
    /// The capabilities of the driver. Called before anything else, and again whenever the engine registers the
    /// driver: must be cheap, without side effects, and always the same.
    ///
    /// The default is a driver for networks of one host.
    fn capabilities(&self) -> CapabilitiesResponse {
        CapabilitiesResponse::default()
    }

    /// Which families of a network about to be created need no gateway address. Only engines from 28 on call
    /// this. An error fails the creation. By default every family gets a gateway.
    #[expect(unused_variables)]
    fn gw_alloc_check(&self, request: GwAllocCheckRequest) -> Result<GwAllocCheckResponse, Refusal> {
        Ok(GwAllocCheckResponse::default())
    }

    /// Creates a network. In a Swarm a known id means that the engine crashed: its earlier endpoints are dead
    /// then.
    fn create_network(&self, request: CreateNetworkRequest) -> Result<(), Refusal>;

    /// Deletes a network and all endpoints left in it. An unknown network is success.
    fn delete_network(&self, request: NetworkRequest) -> Result<(), Refusal>;

    /// Creates an endpoint: the link that will be moved into a container. The answer contains what the request
    /// left blank.
    fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal>;

    /// Deletes an endpoint. An unknown endpoint is success; the call may come without a Leave, twice, or never.
    fn delete_endpoint(&self, request: EndpointRequest) -> Result<(), Refusal>;

    /// Names the link that the engine moves into the container, and the routes there. The driver sets the link's
    /// MTU; the engine sets names, addresses and routes inside.
    ///
    /// Before engine 28 the container's namespace does not exist yet when a container starts.
    fn join(&self, request: JoinRequest) -> Result<JoinAnswer, Refusal>;

    /// The container leaves the network. The link is still inside the container: delete it in
    /// [`NetworkDriver::delete_endpoint`]. May come twice, or without a Join. Published ports must be closed
    /// afterwards, because a Revoke may have been lost.
    #[expect(unused_variables)]
    fn leave(&self, request: EndpointRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// The endpoint is now its container's gateway: publish its ports. The request has the complete list, and
    /// replaces an earlier one. By default ports are not published.
    #[expect(unused_variables)]
    fn program_external_connectivity(&self, request: ProgramRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// The endpoint is no longer its container's gateway: stop publishing its ports. Not guaranteed to come.
    #[expect(unused_variables)]
    fn revoke_external_connectivity(&self, request: EndpointRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// A node joined the Swarm, or this is the address of this node. Only with global connectivity.
    #[expect(unused_variables)]
    fn discover_new(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// A node left the Swarm, or is temporarily unreachable: a hint, not a fact.
    #[expect(unused_variables)]
    fn discover_delete(&self, request: DiscoverRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// Chooses options that every node of a Swarm must know about a network. Called on managers, for global
    /// scope. By default the nodes get the options of the request.
    fn allocate_network(&self, request: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Refusal> {
        Ok(AllocateNetworkResponse { options: request.options })
    }

    /// Frees what [`NetworkDriver::allocate_network`] allocated. An unknown network is success.
    #[expect(unused_variables)]
    fn free_network(&self, request: NetworkRequest) -> Result<(), Refusal> {
        Ok(())
    }
}

/// An IPAM (address management) driver. The rules of [`NetworkDriver`] on blocking, concurrency and idempotence
/// apply here too.
pub trait IpamDriver: Send + Sync + 'static {
    /// The requirements of the driver. Must be cheap, without side effects, and always the same.
    ///
    /// By default none: the driver persists allocations, the engine does not replay them.
    fn capabilities(&self) -> ipam::CapabilitiesResponse {
        ipam::CapabilitiesResponse::default()
    }

    /// The names of the address spaces: pools of one space do not overlap. The two must differ, or the engine
    /// does not check networks of this host for overlaps.
    ///
    /// The default is `local` and `global`.
    fn default_address_spaces(&self) -> AddressSpacesResponse {
        AddressSpacesResponse::default()
    }

    /// Allocates a pool. The engine stores the id of the answer and uses it from then on: it must not change. If
    /// the pool overlaps one of the engine's networks, the engine requests another one, and releases the first
    /// afterwards.
    fn request_pool(&self, request: RequestPoolRequest) -> Result<PoolAnswer, Refusal>;

    /// Releases a pool. An unknown pool is success.
    fn release_pool(&self, request: ReleasePoolRequest) -> Result<(), Refusal>;

    /// Allocates an address: the requested one, or any. The answer has the prefix length of the pool.
    fn request_address(&self, request: RequestAddressRequest) -> Result<AddressAnswer, Refusal>;

    /// Releases an address. An unknown address is success.
    fn release_address(&self, request: ReleaseAddressRequest) -> Result<(), Refusal>;
}
