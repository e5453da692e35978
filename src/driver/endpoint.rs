//! Owns the verbs of endpoints outside of a sandbox: create_endpoint, delete_endpoint,
//! endpoint_oper_info.

use super::{Driver, Error, now, sanity, spec, subnets_of};
use crate::api::Empty;
use crate::api::network::{
    CreateEndpointRequest, CreateEndpointResponse, EndpointRequest, Interface, OperInfoResponse,
};
use crate::datapath::{Datapath, kind};
use crate::model::{Endpoint, EndpointId, EndpointSpec, Mac, Network, NetworkId, Phase};
use crate::state::record::{Holder, Record};
use crate::state::table::{LinkOwner, lock};

impl Driver {
    /// CreateEndpoint: the pair exists and its host end is a port of the bridge when this
    /// answers. A known endpoint with the same addresses gets the recorded answer.
    pub fn create_endpoint(&self, request: CreateEndpointRequest) -> Result<CreateEndpointResponse, Error> {
        let spec = spec::endpoint(&request)?;
        let slot = self.known(&spec.network)?;
        let mut place = lock(&slot);
        let held = place.as_mut().ok_or_else(|| Error::UnknownNetwork { network: spec.network.clone() })?;
        if let Some(endpoint) = held.endpoints.get(&spec.id) {
            return if endpoint.spec == spec {
                Ok(answer(endpoint))
            } else {
                Err(Error::EndpointDiffers { network: spec.network, endpoint: spec.id })
            };
        }
        let kind = kind::of(&held.network.kind);
        let capacity = kind.capacity(&held.network);
        if held.endpoints.len() >= capacity {
            return Err(Error::Full { network: spec.network, capacity });
        }
        check_addresses(&held.network, &spec)?;
        kind.check_endpoint(&held.network, &spec)?;
        let endpoint = self.name_endpoint(&held.network, spec);
        self.make_endpoint(&held.network, &endpoint).inspect_err(|_| self.release_names(&endpoint))?;
        let answer = answer(&endpoint);
        held.endpoints.insert(endpoint.spec.id.clone(), endpoint);
        Ok(answer)
    }

    /// DeleteEndpoint. Unknown is success: it may come twice, or for an endpoint of an earlier
    /// life. The links are deleted in the background, because the kernel takes one RCU grace
    /// period for that however many they are.
    pub fn delete_endpoint(&self, request: EndpointRequest) -> Result<Empty, Error> {
        let (network, id) = ids(&request)?;
        let slot = self.table.find(&network);
        let mut place = slot.as_ref().map(|slot| lock(slot));
        let held = place.as_mut().and_then(|place| place.as_mut());
        if let Some((held, endpoint)) =
            held.and_then(|held| held.endpoints.remove(&id).map(|endpoint| (held, endpoint)))
        {
            self.remove_endpoint(&held.network, &endpoint, &Holder::Unclaimed { since: now() })?;
        } else {
            // As this release derives it, and as earlier ones did.
            self.unknown_ended([Mac::derive_port(id.as_str()), Mac::derive("host", id.as_str())]);
        }
        Ok(Empty {})
    }

    /// EndpointOperInfo: always the empty answer, also for endpoints that are not known. Engines
    /// up to 26 refuse to start a container on an error, and no engine can use a value.
    pub fn endpoint_oper_info(&self, _: EndpointRequest) -> OperInfoResponse {
        OperInfoResponse::default()
    }

    fn name_endpoint(&self, network: &Network, spec: EndpointSpec) -> Endpoint {
        let owner = || LinkOwner::Endpoint(spec.network.clone(), spec.id.clone());
        let attachment =
            kind::of(&network.kind).attach(&mut |role| self.table.claim_link(role, spec.id.as_str(), owner()));
        let mac = spec.mac.unwrap_or_else(|| hardware_address(network, &spec));
        Endpoint {
            spec,
            attachment,
            mac,
            phase: Phase::Ready,
            since: now(),
            sandbox: String::new(),
            bindings: Vec::new(),
            v4_only: false,
            published: Vec::new(),
        }
    }

    fn release_names(&self, endpoint: &Endpoint) {
        endpoint.attachment.links().for_each(|link| self.table.release_link(link));
    }

    /// Ledger first, then the kernel; a kernel that refuses takes the record back.
    fn make_endpoint(&self, network: &Network, endpoint: &Endpoint) -> Result<(), Error> {
        {
            let mut ipam = lock(&self.ipam);
            let mut records = ipam.claim_endpoint(endpoint)?;
            records.push(Record::Endpoint(Box::new(endpoint.clone())));
            self.commit(&mut ipam, &records)?;
        }
        let made = self.realise(&Datapath::empty(), &kind::endpoint(network, endpoint));
        let Err(source) = made else { return Ok(()) };
        let _ = self.remove_endpoint(network, endpoint, &Holder::Unclaimed { since: now() });
        if source.errno() == Some(libc::EXFULL) {
            let capacity = kind::of(&network.kind).capacity(network);
            return Err(Error::Full { network: network.spec.id.clone(), capacity });
        }
        Err(Error::Kernel { object: format!("endpoint {} of network {}", endpoint.spec.id, network.spec.id), source })
    }

    /// Takes an endpoint out of the kernel, the ledger and the register, in that order: as long as
    /// anything is left of it a next life finds its record, and of its tracked connections, which
    /// are removed in the background, the record of its end. Its addresses pass to `next`. After
    /// an error it is gone all the same.
    pub(super) fn remove_endpoint(&self, network: &Network, endpoint: &Endpoint, next: &Holder) -> Result<(), Error> {
        self.part(endpoint);
        if let Err(error) = self.reconciler.replace(&kind::endpoint(network, endpoint), &Datapath::empty()) {
            tracing::warn!(%error, endpoint = %endpoint.spec.id, "the links of a deleted endpoint are left to the next comparison");
            self.call_attention();
        }
        self.forget_flows(&endpoint.spec.addresses().collect::<Vec<_>>());
        let written = {
            let mut ipam = lock(&self.ipam);
            let mut records = ipam.unclaim_endpoint(endpoint, next);
            let (network, id) = (network.spec.id.clone(), endpoint.spec.id.clone());
            records.push(Record::NoEndpoint { network, id });
            self.commit_end(&mut ipam, records)
        };
        self.give_ports_back(&endpoint.published);
        self.release_names(endpoint);
        written
    }
}

/// The MAC of an endpoint that was not given one: that of its IP address on this network, so that
/// a restarted container is found at once by neighbours who remember it. Engines before 28 do not
/// announce a new one, and a stale neighbour entry stands for up to a minute.
///
/// On an overlay the next holder of an address may be on another host, and a hardware address in
/// two places within a moment leaves switches with the wrong one: there it is the endpoint's own,
/// for ever, and Pontoon announces it.
fn hardware_address(network: &Network, spec: &EndpointSpec) -> Mac {
    match spec.v4.or(spec.v6).filter(|_| network.kind.overlay().is_none()) {
        Some(address) => Mac::derive("peer", &format!("{}/{}", spec.network, address.ip())),
        None => Mac::derive("peer", spec.id.as_str()),
    }
}

pub(super) fn ids(request: &EndpointRequest) -> Result<(NetworkId, EndpointId), Error> {
    Ok((NetworkId::parse(&request.network_id)?, EndpointId::parse(&request.endpoint_id)?))
}

/// Only what the request left blank: the engine takes anything else for tampering.
fn answer(endpoint: &Endpoint) -> CreateEndpointResponse {
    let mac = || Interface { mac_address: endpoint.mac.to_string(), ..Interface::default() };
    CreateEndpointResponse { interface: endpoint.spec.mac.is_none().then(mac) }
}

fn check_addresses(network: &Network, spec: &EndpointSpec) -> Result<(), Error> {
    for (asked, subnet) in [(&spec.v4, &network.spec.v4), (&spec.v6, &network.spec.v6)] {
        let (Some(asked), Some(subnet)) = (asked, subnet) else { continue };
        if !subnet.pool.contains(asked.ip()) {
            let subnets = subnets_of(network);
            return Err(Error::AddressOutside { address: asked.ip(), network: spec.network.clone(), subnets });
        }
        sanity::endpoint(network, asked.ip(), subnet)?;
    }
    Ok(())
}
