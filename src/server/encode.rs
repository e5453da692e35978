//! The driver's answers as bodies of the protocol.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::api::ipam::{AddressSpacesResponse, RequestAddressResponse, RequestPoolResponse};
use crate::api::network::{
    CapabilitiesResponse, CreateEndpointResponse, Interface, InterfaceName, JoinResponse, Scope as WireScope,
    StaticRoute,
};
use crate::driver::{Allocation, Created, Joined, OverlaySettings, Pool};
use crate::ipam::{GLOBAL_SPACE, LOCAL_SPACE};
use crate::model::{Scope, options};

/// NetworkDriver.GetCapabilities.
pub fn capabilities(settings: &OverlaySettings) -> CapabilitiesResponse {
    let wire = |scope| if scope == Scope::Global { WireScope::Global } else { WireScope::Local };
    CapabilitiesResponse {
        scope: wire(settings.scope),
        connectivity_scope: wire(settings.effective_connectivity()),
        gw_alloc_checker: true,
    }
}

/// GetDefaultAddressSpaces. The two names differ, because the engine checks overlaps only outside the global space.
pub fn address_spaces() -> AddressSpacesResponse {
    AddressSpacesResponse {
        local_default_address_space: LOCAL_SPACE.to_owned(),
        global_default_address_space: GLOBAL_SPACE.to_owned(),
    }
}

/// CreateEndpoint, with what the request left to Pontoon.
pub(super) fn interface(created: Created) -> CreateEndpointResponse {
    let text = |value: Option<String>| value.unwrap_or_default();
    let interface = Interface {
        address: text(created.v4.map(|address| address.to_string())),
        address_ipv6: text(created.v6.map(|address| address.to_string())),
        mac_address: text(created.mac.map(|mac| mac.to_string())),
    };
    CreateEndpointResponse { interface: (interface != Interface::default()).then_some(interface) }
}

/// Join.
pub(super) fn joined(joined: Joined) -> JoinResponse {
    let text = |gateway: Option<IpAddr>| gateway.map(|address| address.to_string()).unwrap_or_default();
    JoinResponse {
        interface_name: InterfaceName { src_name: joined.link.to_string(), dst_prefix: joined.prefix },
        // A network that has no gateway by design must not get a second link to docker_gwbridge without the
        // user's knowledge.
        disable_gateway_service: joined.gateway.is_none() && joined.gateway_v6.is_none(),
        gateway: text(joined.gateway),
        gateway_ipv6: text(joined.gateway_v6),
        static_routes: joined.on_link.into_iter().map(on_link).chain(joined.routes.into_iter().map(next_hop)).collect(),
    }
}

fn on_link(destination: IpNetwork) -> StaticRoute {
    let (route_type, next_hop) = (StaticRoute::ON_LINK, String::new());
    StaticRoute { destination: destination.to_string(), route_type, next_hop }
}

fn next_hop((destination, router): (IpNetwork, IpAddr)) -> StaticRoute {
    let (route_type, next_hop) = (StaticRoute::NEXT_HOP, router.to_string());
    StaticRoute { destination: destination.to_string(), route_type, next_hop }
}

/// AllocateNetwork: the options of the request, which the nodes get, with those that were allocated.
pub(super) fn allocated(
    mut options: BTreeMap<String, String>,
    allocation: Option<Allocation>,
) -> BTreeMap<String, String> {
    if let Some(Allocation { network, vni, mtu }) = allocation {
        options.insert(options::VNI.to_owned(), vni.to_string());
        options.extend(mtu.map(|mtu| (options::MTU.to_owned(), mtu.to_string())));
        options.insert(options::ALLOCATED.to_owned(), network.as_str().to_owned());
    }
    options
}

/// RequestPool.
pub(super) fn pool(pool: Pool) -> RequestPoolResponse {
    RequestPoolResponse { pool_id: pool.id, pool: pool.subnet.to_string(), data: Default::default() }
}

/// RequestAddress.
pub(super) fn address(address: ipnetwork::IpNetwork) -> RequestAddressResponse {
    RequestAddressResponse { address: address.to_string(), data: Default::default() }
}
