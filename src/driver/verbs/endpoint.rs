//! The endpoint verbs outside a sandbox: create_endpoint and delete_endpoint.

use ipnetwork::IpNetwork;

use crate::datapath::{Datapath, kind};
use crate::driver::conflicts::Lan;
use crate::driver::leases::Leased;
use crate::driver::{Driver, Error, now, sanity, subnets_of};
use crate::model::{Endpoint, EndpointId, EndpointSpec, Held as HeldLease, Mac, Network, NetworkId, Phase};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, LinkOwner, Slot, lock};

/// What CreateEndpoint answers: what the request left to Pontoon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// The MAC.
    pub mac: Option<Mac>,
    /// Its IPv4 address, if Pontoon obtained it, with the prefix length.
    pub v4: Option<IpNetwork>,
    /// Its IPv6 address, likewise.
    pub v6: Option<IpNetwork>,
}

impl Driver {
    /// CreateEndpoint. When this returns, the veth pair exists and its host end is a port of the bridge. A known
    /// endpoint with the same addresses gets the recorded answer.
    ///
    /// On a network with `pontoon.dhcp` it waits for its leases; `fingerprint` reads what the engine says about the container.
    pub fn create_endpoint(&self, spec: EndpointSpec, fingerprint: &dyn Fn() -> String) -> Result<Created, Error> {
        let slot = self.networks.existing(&spec.network)?;
        let unknown = || Error::UnknownNetwork { network: spec.network.clone() };
        let with_dhcp = {
            let place = lock(&slot);
            let held = place.as_ref().ok_or_else(unknown)?;
            if let Some(answered) = repeated(held, &spec) {
                return answered;
            }
            let options = &held.network.spec.options.dhcp;
            let dhcp = options.is_on();
            self.leases.check_endpoint(options, &spec)?;
            if dhcp {
                kind::of(&held.network.kind).check_endpoint(&held.network, &spec)?;
            }
            dhcp.then(|| held.network.clone())
        };
        let Some(network) = with_dhcp else { return self.create_with(&slot, spec, None) };
        let id = spec.id.clone();
        let leased = self.lease_endpoint(&network, &spec, fingerprint);
        let created = leased.and_then(|leased| self.create_with(&slot, spec, leased));
        let exists = || lock(&slot).as_ref().is_some_and(|held| held.endpoints.contains_key(&id));
        if created.is_err() && !exists() {
            self.leases.park(&id);
        }
        created
    }

    fn create_with(&self, slot: &Slot, spec: EndpointSpec, leased: Option<Leased>) -> Result<Created, Error> {
        let unknown = || Error::UnknownNetwork { network: spec.network.clone() };
        let lan = {
            let place = lock(slot);
            let held = place.as_ref().ok_or_else(unknown)?;
            if let Some(answered) = repeated(held, &spec) {
                return answered;
            }
            check_addresses(&held.network, &spec)?;
            Lan::of(&held.network)
        };
        // Other verbs of this network are not held up, and may create the same endpoint.
        if let Some(lan) = &lan {
            self.conflicts.check_endpoint(lan, &spec)?;
        }
        let mut place = lock(slot);
        let held = place.as_mut().ok_or_else(unknown)?;
        if let Some(answered) = repeated(held, &spec) {
            return answered;
        }
        let kind = kind::of(&held.network.kind);
        let capacity = kind.capacity(&held.network);
        if held.endpoints.len() >= capacity {
            return Err(Error::Full { network: spec.network, capacity });
        }
        kind.check_endpoint(&held.network, &spec)?;
        self.check_port_vlans(&held.network, &spec)?;
        let endpoint = self.name_endpoint(&held.network, spec, leased.as_ref());
        let mut desired = kind::endpoint(&held.network, &endpoint);
        let of_groups = self.groups.admit(&held.network, &endpoint);
        kind::add(&mut desired, of_groups.inspect_err(|_| self.release_names(&endpoint))?);
        // Before the first query.
        self.names.add(&held.network, &endpoint);
        self.persist_and_apply(&held.network, &endpoint, &desired).inspect_err(|_| {
            self.names.remove(&endpoint);
            self.groups.remove(&held.network, &endpoint);
            self.release_names(&endpoint);
        })?;
        self.conflicts.add_endpoint(&held.network, &endpoint);
        if let Some(lan) = &lan {
            self.conflicts.ask_late(lan, &endpoint.spec);
        }
        if let Some(leased) = &leased {
            self.use_leases(leased);
        }
        let answer = answer(&endpoint);
        held.endpoints.insert(endpoint.spec.id.clone(), endpoint);
        Ok(answer)
    }

    /// DeleteEndpoint. An unknown endpoint is success: the request may be repeated, or concern an endpoint of an
    /// earlier process. Links are deleted in the background, because the kernel needs one RCU grace period for a
    /// deletion, however many links it covers.
    pub fn delete_endpoint(&self, network: &NetworkId, id: &EndpointId) -> Result<(), Error> {
        let slot = self.networks.table.find(network);
        let mut place = slot.as_ref().map(|slot| lock(slot));
        let held = place.as_mut().and_then(|place| place.as_mut());
        if let Some((held, endpoint)) = held.and_then(|held| held.endpoints.remove(id).map(|endpoint| (held, endpoint)))
        {
            self.remove_endpoint(&held.network, &endpoint, &Holder::Unclaimed { since: now() })?;
        } else {
            // The MAC as this release derives it, and as earlier releases did.
            self.unknown_ended([Mac::derive_port(id.as_str()), Mac::derive("host", id.as_str())]);
        }
        Ok(())
    }

    fn name_endpoint(&self, network: &Network, mut spec: EndpointSpec, leased: Option<&Leased>) -> Endpoint {
        let owner = || LinkOwner::Endpoint(spec.network.clone(), spec.id.clone());
        let attachment =
            kind::of(&network.kind).attach(&mut |role| self.networks.table.claim_link(role, spec.id.as_str(), owner()));
        let of_lease = leased.map(|leased| leased.mac);
        let mac = spec.mac.or(of_lease).unwrap_or_else(|| hardware_address(network, &spec));
        let (mut lease, mut slaac) = (None, None);
        for (_, held) in leased.iter().flat_map(|leased| &leased.held) {
            match held {
                HeldLease::Dhcp4(of) => (spec.v4, lease) = (held.network(), Some(Box::new(of.lease.clone()))),
                HeldLease::Slaac(of) => (spec.v6, slaac) = (held.network(), Some(Box::new(of.clone()))),
            }
        }
        Endpoint {
            spec,
            lease,
            slaac,
            attachment,
            mac,
            phase: Phase::Ready,
            since: now(),
            sandbox: String::new(),
            bindings: Vec::new(),
            v4_only: false,
            stored: Default::default(),
            published: Vec::new(),
        }
    }

    fn release_names(&self, endpoint: &Endpoint) {
        endpoint.attachment.links().for_each(|link| self.networks.table.release_link(link));
    }

    /// Writes the ledger first, then changes the kernel; if the kernel refuses, the record is removed again.
    fn persist_and_apply(&self, network: &Network, endpoint: &Endpoint, desired: &Datapath) -> Result<(), Error> {
        {
            let mut index = self.addresses.lock();
            let mut records = index.claim_endpoint(endpoint)?;
            records.push(Record::Endpoint(Box::new(endpoint.clone())));
            index.commit(&records)?;
        }
        let applied = self.applier.apply_desired(&Datapath::empty(), desired);
        let Err(source) = applied else { return Ok(()) };
        let _ = self.remove_endpoint(network, endpoint, &Holder::Unclaimed { since: now() });
        if source.errno() == Some(libc::EXFULL) {
            let capacity = kind::of(&network.kind).capacity(network);
            return Err(Error::Full { network: network.spec.id.clone(), capacity });
        }
        Err(Error::Kernel { object: format!("endpoint {} of network {}", endpoint.spec.id, network.spec.id), source })
    }

    /// Removes an endpoint from the kernel, the ledger and the register, in that order: as long as anything is
    /// left of it, the next process finds its record. For its tracked connections, which are removed in the
    /// background, it finds the tombstone. The endpoint's addresses pass to `next`. Even after an error the
    /// endpoint is gone.
    pub(in crate::driver) fn remove_endpoint(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        next: &Holder,
    ) -> Result<(), Error> {
        self.containers.left(endpoint);
        self.conflicts.remove_endpoint(&endpoint.spec.id);
        self.names.remove(endpoint);
        if endpoint.leased() != (None, None) {
            self.leases.park(&endpoint.spec.id);
        }
        let object = format_args!("endpoint {}", endpoint.spec.id);
        let mut before = kind::endpoint(network, endpoint);
        kind::add(&mut before, self.groups.remove(network, endpoint));
        self.applier.apply_or_defer(&before, &Datapath::empty(), "delete links", object);
        self.flows.flush(&endpoint.spec.addresses().collect::<Vec<_>>());
        let written = {
            let mut index = self.addresses.lock();
            let mut records = index.unclaim_endpoint(endpoint, next);
            let (network, id) = (network.spec.id.clone(), endpoint.spec.id.clone());
            records.push(Record::NoEndpoint { network, id });
            index.commit_or_defer(records)
        };
        self.ports.release(&endpoint.published);
        self.release_names(endpoint);
        Ok(written?)
    }
}

/// The MAC of an endpoint for which the request gives none: derived from its IP address on this network, so that
/// neighbours with a cached entry reach a restarted container at once. Engines before 28 do not announce a new
/// MAC, and a stale neighbour entry lasts for up to a minute.
///
/// On an overlay the next holder of an address may be on another host. A MAC that appears in two places within a
/// short time leaves switches with the wrong entry. There the MAC is derived from the endpoint, never changes,
/// and Pontoon announces it.
fn hardware_address(network: &Network, spec: &EndpointSpec) -> Mac {
    match spec.v4.or(spec.v6).filter(|_| network.kind.overlay().is_none()) {
        Some(address) => Mac::derive("peer", &format!("{}/{}", spec.network, address.ip())),
        None => Mac::derive("peer", spec.id.as_str()),
    }
}

/// The answer to a request for an endpoint that exists.
fn repeated(held: &Held, spec: &EndpointSpec) -> Option<Result<Created, Error>> {
    let endpoint = held.endpoints.get(&spec.id)?;
    let differs = || Error::EndpointDiffers { network: spec.network.clone(), endpoint: spec.id.clone() };
    Some(if endpoint.answers(spec) { Ok(answer(endpoint)) } else { Err(differs()) })
}

/// What the request left to Pontoon: the engine rejects an answer that overrides its values.
fn answer(endpoint: &Endpoint) -> Created {
    let mac = (endpoint.spec.mac.is_none() && endpoint.attachment.has_mac()).then_some(endpoint.mac);
    let (v4, v6) = endpoint.leased();
    Created { mac, v4, v6 }
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
