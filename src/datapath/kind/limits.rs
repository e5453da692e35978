//! How much the endpoints of a network with a bridge may send and receive: the limits of their links.

use std::collections::BTreeSet;

use super::{Refusal, bridge};
use crate::datapath::object::Ifb;
use crate::datapath::policy::Limit;
use crate::datapath::{FRAME, FastPath, Policy, Shape};
use crate::model::options::{self, RATE_BURST, RATE_IN, RATE_OUT};
use crate::model::{EndpointSpec, IfName, LimitOptions, LinkRole, Mac, Network};

/// The limits of an endpoint: its own, and the network's where it has none.
pub fn of(network: &Network, endpoint: &EndpointSpec) -> LimitOptions {
    endpoint.options.limits.or(network.spec.options.limits)
}

/// What the host end of an endpoint's pair may send.
pub(super) fn inward(network: &Network, endpoint: &EndpointSpec, mtu: u32) -> Option<Shape> {
    let limits = of(network, endpoint);
    limits.rate_in.map(|rate| Shape::new(rate, limits.burst, mtu))
}

/// The ifb link that limits what an endpoint with this host end sends, and the rule that leads there.
pub(super) fn outward(
    network: &Network,
    endpoint: &EndpointSpec,
    port: &IfName,
    mtu: u32,
) -> Option<(IfName, Ifb, FastPath)> {
    let limits = of(network, endpoint);
    let shape = Shape::new(limits.rate_out?, limits.burst, mtu);
    let name = port.beside_host_end(LinkRole::Ifb);
    let ifb = Ifb { mac: Mac::derive("ifb", endpoint.id.as_str()), shape: Some(shape), up: true };
    let rule = FastPath::Shaped { port: port.clone(), ifb: name.clone() };
    Some((name, ifb, rule))
}

/// The statements that limit an endpoint's connections.
pub(super) fn statements(network: &Network, endpoint: &EndpointSpec) -> BTreeSet<Policy> {
    let limits = of(network, endpoint);
    let connections = limits.connections.map(|count| Limit::Connections(count.get()));
    let rate = limits.connection_rate.map(|rate| Limit::ConnectionRate { rate: rate.get(), burst: rate.burst() });
    let all = connections.into_iter().chain(rate);
    all.flat_map(|limit| endpoint.addresses().map(move |address| Policy::Limited(address, limit))).collect()
}

/// The rule that limits how many packets an endpoint with this host end sends.
pub(super) fn packets(network: &Network, endpoint: &EndpointSpec, port: &IfName) -> Option<FastPath> {
    let limit = of(network, endpoint).packet_rate?;
    Some(FastPath::PacketLimit { port: port.clone(), rate: limit.get(), burst: limit.burst() })
}

/// Refuses limits of connections where they could not be enforced, because they are tied to the container's address.
fn check_connections(network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
    let Some(given) = of(network, endpoint).of_connections() else { return Ok(()) };
    let refuse = |text: String| Err(Refusal(format!("endpoint {}: {given} {text}", endpoint.id)));
    if !network.kind.owns_bridge() {
        let bridge = network.kind.link();
        return refuse(format!(
            "has no effect on {bridge}, a bridge that Pontoon did not make, because its frames do not pass the host's \
             connection tracking: remove it, or let Pontoon make the bridge"
        ));
    }
    if !bridge::wants_check(network, endpoint) {
        return refuse(format!(
            "needs source address validation, without which the container could use another's address: remove \
             {}=false, and use an IPAM driver that assigns addresses",
            options::SPOOFCHECK
        ));
    }
    Ok(())
}

/// Refuses limits that no frame could pass or that could not be enforced.
///
/// # Errors
/// The endpoint, the option and the remedy.
pub(super) fn check(network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
    check_connections(network, endpoint)?;
    let limits = of(network, endpoint);
    let least = network.mtu + FRAME;
    match limits.burst {
        Some(burst) if burst.get() < least => Err(Refusal(format!(
            "endpoint {}: {RATE_BURST}={burst} is less than a frame of the network, {least} bytes: use at least that, or \
             remove it",
            endpoint.id
        ))),
        Some(_) if limits.rate_in.or(limits.rate_out).is_none() => Err(Refusal(format!(
            "endpoint {}: {RATE_BURST} without a rate has no effect: add {} or {}, or remove it",
            endpoint.id, RATE_IN, RATE_OUT
        ))),
        _ => Ok(()),
    }
}
