//! The verbs of published ports: program_external_connectivity and revoke_external_connectivity.

use std::collections::BTreeSet;

use crate::datapath::kind;
use crate::driver::{Driver, Error, PortMapError};
use crate::model::{Binding, Endpoint, EndpointId, Network, NetworkId, Phase, Published};
use crate::state::record::Record;
use crate::state::table::{Held, lock};

/// What ProgramExternalConnectivity asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The network.
    pub network: NetworkId,
    /// The endpoint, which is the gateway of its container.
    pub endpoint: EndpointId,
    /// The complete set of ports.
    pub bindings: Vec<Binding>,
    /// Whether it is the gateway for IPv6, too.
    pub v6: bool,
}

impl Driver {
    /// ProgramExternalConnectivity: makes this endpoint the sandbox's gateway endpoint, and makes the given
    /// ports its complete set. May be repeated and may change the ports; after an error the previous ports
    /// remain.
    pub fn program_external_connectivity(&self, publication: Publication) -> Result<(), Error> {
        let Publication { network, endpoint: id, bindings, v6 } = publication;
        let slot = self.networks.existing(&network)?;
        let mut place = lock(&slot);
        let unknown = || Error::UnknownEndpoint { network: network.clone(), endpoint: id.clone() };
        let held = place.as_mut().ok_or_else(unknown)?;
        if !held.endpoints.contains_key(&id) {
            return Err(unknown());
        }
        if let Err(refusal) = kind::of(&held.network.kind).check_published(&held.network) {
            // Not an error: an engine may send this for each network of a container in turn, before it reaches
            // the network that is to be the gateway.
            if !bindings.is_empty() {
                tracing::warn!(endpoint = %id, "ports are not published: {refusal}");
            }
            return Ok(());
        }
        self.publish(held, &id, bindings, Some(v6))
    }

    /// RevokeExternalConnectivity. An unknown endpoint is success. The request may never come, so Leave and
    /// DeleteEndpoint do the same. Ports that are reached without translation stay open until Leave.
    pub fn revoke_external_connectivity(&self, network: &NetworkId, id: &EndpointId) -> Result<(), Error> {
        let Some(slot) = self.networks.table.find(network) else { return Ok(()) };
        let mut place = lock(&slot);
        if let Some(held) = place.as_mut() {
            let open = held.endpoints.get(id).filter(|e| e.phase == Phase::Joined && is_direct(&held.network));
            let bindings = open.map(|endpoint| endpoint.bindings.clone()).unwrap_or_default();
            self.publish(held, id, bindings, None)?;
        }
        Ok(())
    }

    /// Opens the ports that are reached without translation for an endpoint that joined. This does not depend on
    /// which network is the container's gateway.
    pub(super) fn publish_untranslated(
        &self,
        held: &mut Held,
        id: &EndpointId,
        bindings: &dyn Fn() -> Result<Vec<Binding>, PortMapError>,
    ) -> Result<(), Error> {
        let unpublished = held.endpoints.get(id).is_some_and(|endpoint| endpoint.bindings.is_empty());
        if !unpublished || !is_direct(&held.network) {
            return Ok(());
        }
        self.publish(held, id, bindings()?, None)
    }

    /// Makes `bindings` the published ports of an endpoint. Ports are reserved before the ledger and the kernel
    /// change, and released after. `translated` is `None` while the endpoint is not its container's gateway,
    /// otherwise it says whether it is the gateway for IPv6 as well.
    pub(super) fn publish(
        &self,
        held: &mut Held,
        id: &EndpointId,
        bindings: Vec<Binding>,
        translated: Option<bool>,
    ) -> Result<(), Error> {
        let Some(endpoint) = held.endpoints.get(id) else { return Ok(()) };
        let v4_only = translated == Some(false) && !bindings.is_empty();
        let unchanged =
            (endpoint.bindings == bindings && endpoint.v4_only == v4_only) && !endpoint.published.is_empty();
        if unchanged && translated.is_some() {
            return Ok(());
        }
        let before = endpoint.clone();
        let published = match translated {
            Some(v6) => self.ports.reserve(&held.network, &before, &bindings, v6)?,
            None => Vec::new(),
        };
        let after = Endpoint { v4_only, bindings, published, ..before.clone() };
        if after == before {
            return Ok(());
        }
        let network = &held.network;
        let was = kind::endpoint(network, &before);
        let is = kind::endpoint(network, &after);
        let (withdrawn, new) = (gone(&before, &after), gone(&after, &before));
        let addresses = before.spec.addresses().filter(|_| !withdrawn.is_empty());
        let removal = self.flows.begin(addresses);
        let write = || {
            let changed = Record::Endpoint(Box::new(after.clone()));
            let records: Vec<_> = removal.record().into_iter().chain([changed]).collect();
            self.journal.write(&records).map_err(Error::from)
        };
        let apply = || {
            self.applier.apply_desired(&was, &is).map_err(|source| {
                let object = format!("published ports of endpoint {id} of network {}", network.spec.id);
                Error::Kernel { object, source }
            })
        };
        let done = if new.is_empty() {
            // A port that is only removed stays in the ledger until the kernel has no rules for it: if this
            // process ends in between, the next one still finds the work to do.
            apply().and_then(|()| write())
        } else {
            write().and_then(|()| apply())
        };
        if let Err(error) = done {
            let _ = self.journal.write_or_defer(vec![Record::Endpoint(Box::new(before.clone()))]);
            self.applier.apply_or_defer(&is, &was, "roll back published ports", format_args!("endpoint {id}"));
            self.ports.release(&new);
            // The published ports are as before: their connections stay.
            self.flows.finish(removal);
            return Err(error);
        }
        self.flows.remove(removal);
        self.ports.release(&withdrawn);
        held.endpoints.insert(id.clone(), after);
        Ok(())
    }
}

/// Whether the network has containers whose ports are reached without translation.
fn is_direct(network: &Network) -> bool {
    let options = &network.spec.options;
    !network.spec.internal && (options.mode4.is_direct() || options.mode6.is_direct())
}

/// What `from` publishes and `to` does not.
fn gone(from: &Endpoint, to: &Endpoint) -> Vec<Published> {
    let kept: BTreeSet<&Published> = to.published.iter().collect();
    from.published.iter().filter(|p| !kept.contains(p)).copied().collect()
}
