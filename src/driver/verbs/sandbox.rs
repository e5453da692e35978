//! The verbs that attach an endpoint to a sandbox: join and leave. The engine moves the link in and out; the
//! answer only names the link, its name inside and the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::datapath::kind;
use crate::driver::{Driver, Error, PortMapError, leases, now};
use crate::model::{Binding, Endpoint, EndpointId, IfName, Network, NetworkId, Phase, Subnet};
use crate::state::record::Record;
use crate::state::table::{Held, lock};

/// What Join asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinSpec {
    /// The network.
    pub network: NetworkId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The sandbox, as the engine names it; endpoints of one container have the same.
    pub sandbox: String,
}

/// The link to move into the sandbox, and its gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The link, in the host's namespace.
    pub link: IfName,
    /// The beginning of its name in the sandbox.
    pub prefix: String,
    /// The gateway for IPv4.
    pub gateway: Option<IpAddr>,
    /// The gateway for IPv6.
    pub gateway_v6: Option<IpAddr>,
    /// Destinations that the sandbox reaches on the link itself, without a gateway.
    pub on_link: Vec<IpNetwork>,
    /// Destinations that the sandbox reaches by a router on the link.
    pub routes: Vec<(IpNetwork, IpAddr)>,
}

impl Driver {
    /// Join. May be repeated. `bindings` reads the ports of the container, if the network needs them. Internal
    /// networks answer without a gateway: the engine would install the default route nevertheless (protocol.md 3.4).
    pub fn join(
        &self,
        spec: JoinSpec,
        bindings: &dyn Fn() -> Result<Vec<Binding>, PortMapError>,
    ) -> Result<Joined, Error> {
        let JoinSpec { network, endpoint: id, sandbox } = spec;
        let slot = self.networks.existing(&network)?;
        let mut place = lock(&slot);
        let unknown = || Error::UnknownEndpoint { network: network.clone(), endpoint: id.clone() };
        let held = place.as_mut().ok_or_else(unknown)?;
        if let Some(before) = held.endpoints.get(&id).filter(|endpoint| endpoint.sandbox != sandbox) {
            self.containers.left(before);
        }
        self.change_phase(held, &id, Phase::Joined, Some(sandbox))?.ok_or_else(unknown)?;
        self.publish_untranslated(held, &id, bindings)?;
        let endpoint = held.endpoints.get(&id).ok_or_else(unknown)?;
        self.containers.joined(&held.network, endpoint);
        let unpublished =
            held.network.spec.internal || kind::of(&held.network.kind).check_published(&held.network).is_err();
        if unpublished && bindings().is_ok_and(|bindings| !bindings.is_empty()) {
            // Not an error: the container may publish its ports on another network, now or later.
            tracing::warn!(%network, endpoint = %id, "this network cannot publish the ports of its container: connect the container to a bridge network that is not internal");
        }
        self.request_announcement(&held.network, &id);
        Ok(answer(&held.network, endpoint))
    }

    /// Leave. May be repeated, come without a Join, or name an unknown endpoint. The link is still inside the
    /// sandbox at this point, so it is left alone.
    pub fn leave(&self, network: &NetworkId, id: &EndpointId) -> Result<(), Error> {
        let Some(slot) = self.networks.table.find(network) else { return Ok(()) };
        let mut place = lock(&slot);
        if let Some(held) = place.as_mut() {
            // Revoke may have been lost, or never sent (protocol.md 3.5).
            self.publish(held, id, Vec::new(), None)?;
            if let Some(endpoint) = held.endpoints.get(id) {
                self.containers.left(endpoint);
            }
            self.change_phase(held, id, Phase::Left, None)?;
        }
        Ok(())
    }

    /// Records the phase, and the sandbox if given; `None` when the endpoint is not known.
    fn change_phase(
        &self,
        held: &mut Held,
        id: &EndpointId,
        phase: Phase,
        sandbox: Option<String>,
    ) -> Result<Option<()>, Error> {
        let Some(endpoint) = held.endpoints.get_mut(id) else { return Ok(None) };
        let sandbox = sandbox.unwrap_or_else(|| endpoint.sandbox.clone());
        if endpoint.phase == phase && endpoint.sandbox == sandbox {
            return Ok(Some(()));
        }
        let changed = Endpoint { phase, sandbox, since: now(), ..endpoint.clone() };
        self.journal.write(&[Record::Endpoint(Box::new(changed.clone()))])?;
        let datapath = kind::endpoint(&held.network, &changed);
        if changed.attachment.host().is_some() {
            self.applier.reconciler.desire(&datapath, &datapath);
        } else {
            // A comparison that is under way must not miss the link and create it again: without a host end
            // nothing shows that it is in its sandbox. So this waits for it, as every change of the kernel does.
            let kernel = |source| Error::Kernel { object: format!("endpoint {id}"), source };
            self.applier.reconciler.replace(&datapath, &datapath).map_err(kernel)?;
        }
        *endpoint = changed;
        Ok(Some(()))
    }
}

fn answer(network: &Network, endpoint: &Endpoint) -> Joined {
    let (internal, spec) = (network.spec.internal, &network.spec);
    let routes_on_link = kind::of(&network.kind).routes_on_link(network);
    let (mut gateways, mut on_link, mut routes) = ([None; 2], Vec::new(), Vec::new());
    let families: [(_, &Option<Subnet>, IpAddr); 2] = [
        (endpoint.spec.v4.is_some(), &spec.v4, Ipv4Addr::UNSPECIFIED.into()),
        (endpoint.spec.v6.is_some(), &spec.v6, Ipv6Addr::UNSPECIFIED.into()),
    ];
    for (gateway, (has_address, subnet, any)) in gateways.iter_mut().zip(families) {
        if !has_address || internal {
            continue;
        }
        // The link routes to any gateway. With an address of the host as gateway, engines let the endpoint publish
        // ports: earlier than 28 they do so only for endpoints with a gateway.
        let own = network.kind.host_addresses().find(|own| routes_on_link && own.is_ipv6() == any.is_ipv6());
        match own {
            None if routes_on_link => on_link.extend(IpNetwork::new(any, 0)),
            None => *gateway = subnet.as_ref().and_then(|subnet| subnet.default_gateway.or(subnet.gateway)),
            own => *gateway = own,
        }
    }
    if let Some(lease) = &endpoint.lease {
        let (gateway, more_on_link, more) = leases::routes(lease);
        gateways[0] = gateways[0].or(gateway.filter(|_| !internal));
        on_link.extend(more_on_link);
        routes.extend(more);
    }
    Joined {
        link: endpoint.attachment.sandbox_link().clone(),
        prefix: spec.options.iface_prefix.clone(),
        gateway: gateways[0],
        gateway_v6: gateways[1],
        on_link,
        routes,
    }
}
