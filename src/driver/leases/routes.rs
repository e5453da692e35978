//! What the routes of a lease mean for the engine.

use std::net::IpAddr;

use dhcp::Lease;
use ipnetwork::IpNetwork;

/// The gateway of a lease, the destinations that are reached on the link itself, and those with a router. A router must
/// be on the link: the engine refuses the container otherwise.
pub(in crate::driver) fn routes(lease: &Lease) -> (Option<IpAddr>, Vec<IpNetwork>, Vec<(IpNetwork, IpAddr)>) {
    let (mut on_link, mut routes) = (Vec::new(), Vec::new());
    let gateway = lease.gateway.filter(|gateway| *gateway != lease.address);
    if let Some(gateway) = gateway.filter(|gateway| !lease.contains(*gateway)) {
        // Some hosters give one address alone, and a router beside it.
        on_link.extend(IpNetwork::new(gateway.into(), 32));
    }
    for route in &lease.routes {
        let Ok(to) = IpNetwork::new(route.destination.into(), route.prefix) else { continue };
        if route.router.is_unspecified() {
            on_link.push(to);
        } else if lease.contains(route.router) || gateway == Some(route.router) {
            routes.push((to, route.router.into()));
        } else {
            tracing::debug!(destination = %to, router = %route.router, "a route of the DHCP server is left out: its router is not on the link");
        }
    }
    (gateway.map(IpAddr::V4), on_link, routes)
}
