//! The verbs that attach an endpoint to a sandbox: join and leave. The engine moves the link in and out; the
//! answer only names the link, its name inside and the gateway.

use super::endpoint::ids;
use crate::api::Empty;
use crate::api::network::{EndpointRequest, InterfaceName, JoinRequest, JoinResponse};
use crate::datapath::kind;
use crate::driver::{Driver, Error, now, spec};
use crate::model::{Endpoint, EndpointId, Network, NetworkId, Phase, Subnet};
use crate::state::record::Record;
use crate::state::table::{Held, lock};

impl Driver {
    /// Join. May be repeated. Internal networks answer without a gateway: the engine would install the default
    /// route nevertheless (protocol.md 3.4).
    pub fn join(&self, request: JoinRequest) -> Result<JoinResponse, Error> {
        let network = NetworkId::parse(&request.network_id)?;
        let id = EndpointId::parse(&request.endpoint_id)?;
        let slot = self.networks.existing(&network)?;
        let mut place = lock(&slot);
        let unknown = || Error::UnknownEndpoint { network: network.clone(), endpoint: id.clone() };
        let held = place.as_mut().ok_or_else(unknown)?;
        let sandbox: String = request.sandbox_key.chars().take(256).collect();
        if let Some(before) = held.endpoints.get(&id).filter(|endpoint| endpoint.sandbox != sandbox) {
            self.containers.left(before);
        }
        self.change_phase(held, &id, Phase::Joined, Some(sandbox))?.ok_or_else(unknown)?;
        self.publish_untranslated(held, &id, &request.options)?;
        let endpoint = held.endpoints.get(&id).ok_or_else(unknown)?;
        self.containers.joined(&held.network, endpoint);
        let unpublished =
            held.network.spec.internal || kind::of(&held.network.kind).check_published(&held.network).is_err();
        if unpublished && spec::bindings(&request.options).is_ok_and(|bindings| !bindings.is_empty()) {
            // Not an error: the container may publish its ports on another network, now or later.
            tracing::warn!(%network, endpoint = %id, "this network cannot publish the ports of its container: connect the container to a bridge network that is not internal");
        }
        self.request_announcement(&held.network, &id);
        Ok(answer(&held.network, endpoint))
    }

    /// Leave. May be repeated, come without a Join, or name an unknown endpoint. The link is still inside the
    /// sandbox at this point, so it is left alone.
    pub fn leave(&self, request: EndpointRequest) -> Result<Empty, Error> {
        let (network, id) = ids(&request)?;
        let Some(slot) = self.networks.table.find(&network) else { return Ok(Empty {}) };
        let mut place = lock(&slot);
        if let Some(held) = place.as_mut() {
            // Revoke may have been lost, or never sent (protocol.md 3.5).
            self.publish(held, &id, Vec::new(), None)?;
            if let Some(endpoint) = held.endpoints.get(&id) {
                self.containers.left(endpoint);
            }
            self.change_phase(held, &id, Phase::Left, None)?;
        }
        Ok(Empty {})
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

fn answer(network: &Network, endpoint: &Endpoint) -> JoinResponse {
    let way_out = |subnet: &Option<Subnet>, has_address: bool| {
        let gateway = subnet.as_ref().and_then(|s| s.default_gateway.or(s.gateway));
        gateway.filter(|_| has_address && !network.spec.internal).map(|ip| ip.to_string()).unwrap_or_default()
    };
    let gateway = way_out(&network.spec.v4, endpoint.spec.v4.is_some());
    let gateway_ipv6 = way_out(&network.spec.v6, endpoint.spec.v6.is_some());
    JoinResponse {
        interface_name: InterfaceName {
            src_name: endpoint.attachment.sandbox_link().to_string(),
            dst_prefix: network.spec.options.iface_prefix.clone(),
        },
        // A network that has no gateway by design must not get a second link to docker_gwbridge without the
        // user's knowledge.
        disable_gateway_service: gateway.is_empty() && gateway_ipv6.is_empty(),
        gateway,
        gateway_ipv6,
        static_routes: Vec::new(),
    }
}
