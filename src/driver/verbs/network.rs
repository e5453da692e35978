//! The network verbs: create_network and delete_network.

use crate::datapath::{Datapath, KernelError, fastpath, kind};
use crate::driver::{Driver, Error, sanity};
use crate::model::access::StoredLists;
use crate::model::{Endpoint, Mac, Network, NetworkId, NetworkSpec};
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, lock};

impl Driver {
    /// CreateNetwork. A known id with the same settings is success; with other settings the network is replaced
    /// as long as nothing is attached. In a Swarm a known id means that the engine crashed, and always succeeds
    /// (protocol.md 5.5): see `forget_dead` and `change_network`.
    pub fn create_network(&self, spec: NetworkSpec) -> Result<(), Error> {
        let slot = self.networks.table.slot(&spec.id);
        let mut place = lock(&slot);
        // What an operator set stays while the engine changes the network.
        let mut stored = StoredLists::default();
        if let Some(held) = place.as_mut() {
            let of_swarm = self.overlays.is_of_swarm(&spec.id);
            if of_swarm {
                self.forget_dead(held);
            }
            self.networks.remember_requested(&spec.id);
            if held.network.spec == spec {
                let desired = kind::network(&held.network);
                return self.apply_network(&held.network, &desired, &desired);
            }
            if !held.endpoints.is_empty() && of_swarm {
                return self.change_network(held, spec);
            }
            if !held.endpoints.is_empty() {
                return Err(Error::NetworkDiffers { network: spec.id, endpoints: held.endpoints.len() });
            }
            let old = held.network.clone();
            *place = None;
            self.destroy(&old)?;
            stored = old.stored;
        }
        let created = sanity::network(&spec).map_err(Error::from).and_then(|()| self.claim_from_stale(&spec)).and_then(
            |network| {
                let network = Network { stored, ..network };
                let possible = self.conflicts.check_network(&network).map_err(Error::from);
                let possible = possible.and_then(|()| Ok(self.leases.check_network(&network)?));
                possible.and_then(|()| self.create(&network)).inspect_err(|_| self.release(&network))?;
                self.conflicts.add_network(&network);
                Ok(network)
            },
        );
        match created {
            Ok(network) => {
                for idle in sanity::without_effect(&spec) {
                    tracing::warn!(network = %spec.id, "an option has no effect: {idle}");
                }
                tracing::info!(network = %spec.id, link = %network.kind.link(), mtu = network.mtu, "network created");
                self.networks.remember_requested(&spec.id);
                if !fastpath::contestable(&network).is_empty() {
                    // Which rules of other programs there are is looked up after the answer.
                    self.applier.schedule_maintenance();
                }
                *place = Some(Held { network, endpoints: Default::default() });
                Ok(())
            }
            Err(error) => {
                drop(place);
                drop(slot);
                self.networks.table.forget_if_empty(&spec.id);
                Err(error)
            }
        }
    }

    /// DeleteNetwork. An unknown network is success; endpoints that the engine forgot are removed with it.
    pub fn delete_network(&self, id: &NetworkId) -> Result<(), Error> {
        let Some(slot) = self.networks.table.find(id) else {
            self.unknown_ended(["bridge", "vxlan"].map(|link| Mac::derive(link, id.as_str())));
            return Ok(());
        };
        let mut place = lock(&slot);
        let done = place.take().map_or(Ok(()), |held| self.remove_network(&held));
        drop(place);
        self.networks.table.forget_if_empty(id);
        done
    }

    /// Removes a network that was taken out of its slot, with all its endpoints.
    pub(in crate::driver) fn remove_network(&self, held: &Held) -> Result<(), Error> {
        let id = &held.network.spec.id;
        let mut done = Ok(());
        for endpoint in held.endpoints.values() {
            tracing::warn!(network = %id, endpoint = %endpoint.spec.id, "removing an endpoint with its network: the engine deleted the network first");
            done = done.and(self.remove_endpoint(&held.network, endpoint, &Holder::Stale));
        }
        done = done.and(self.destroy(&held.network));
        tracing::info!(network = %id, link = %held.network.kind.link(), "network deleted");
        done
    }

    /// Writes the ledger first, then changes the kernel; if the kernel refuses, the record is removed again.
    fn create(&self, network: &Network) -> Result<(), Error> {
        {
            let mut index = self.addresses.lock();
            index.check_vlan(&network.spec)?;
            let mut records = vec![Record::Network(Box::new(network.clone()))];
            records.extend(index.claim(network));
            index.commit(&records)?;
        }
        let after = kind::network(network);
        let failed = |source| Error::of_network(&network.spec.id, source);
        let created = self
            .apply_network(network, &Datapath::empty(), &after)
            .and_then(|()| self.overlays.create_tunnel(network).map_err(failed));
        if created.is_err() {
            self.roll_back_creation(network, &after);
        }
        created
    }

    fn apply_network(&self, network: &Network, before: &Datapath, after: &Datapath) -> Result<(), Error> {
        let failed = |source| Error::of_network(&network.spec.id, source);
        if before == after {
            // A repeated request: reconciliation finds whatever is missing.
            return self.applier.reconciler.reconcile().whole().map(|_| ()).map_err(failed);
        }
        self.applier.apply_desired(before, after).map_err(failed)?;
        if network.kind.bridge().is_some_and(|bridge| !bridge.has_prefix()) {
            // Rules in a foreign chain are replaced as a whole, so they are compared as a whole.
            self.applier.reconciler.reconcile_firewall().whole().map_err(failed)?;
        }
        Ok(())
    }

    /// Changes the kernel from a network with its endpoints to another state of them; what the firewall has of them changes
    /// in one transaction. Returns what is desired now. After an error the same call the other way round undoes it.
    pub(in crate::driver) fn change_all(&self, from: &Held, to: &Held) -> Result<Datapath, KernelError> {
        let before = whole(from, |endpoint| self.groups.remove(&from.network, endpoint));
        let after = whole(to, |endpoint| self.groups.add(&to.network, endpoint));
        let mut applied = self.applier.apply_desired(&before, &after);
        // Only parts of networks count as shared, and of endpoints that share something, which are changed by themselves.
        self.applier.reconciler.desire(&kind::network(&from.network), &kind::network(&to.network));
        for (old, new) in from.endpoints.values().zip(to.endpoints.values()) {
            let (old, new) = (kind::endpoint(&from.network, old), kind::endpoint(&to.network, new));
            if old.sharer.is_some() {
                applied = applied.and(self.applier.apply_desired(&old, &new));
            }
        }
        applied.map(|()| after)
    }

    fn roll_back_creation(&self, network: &Network, after: &Datapath) {
        let id = &network.spec.id;
        let _ = self.addresses.lock().commit_or_defer(vec![Record::NoNetwork { id: id.clone() }]);
        self.overlays.delete_tunnel(network);
        self.applier.apply_or_defer(after, &Datapath::empty(), "roll back", format_args!("network {id}"));
    }

    /// Removes a network without endpoints from the ledger and the kernel. Kernel errors are logged and left to
    /// the next reconciliation: for the engine the network is gone either way. Even after an error it is gone.
    ///
    /// The order differs from that of an endpoint: the next process finds all remains of a network by
    /// reconciliation, and the engine never repeats the request if this process ends here.
    fn destroy(&self, network: &Network) -> Result<(), Error> {
        let id = &network.spec.id;
        let written = self.addresses.lock().commit_or_defer(vec![Record::NoNetwork { id: id.clone() }]);
        self.leases.end_network(id);
        self.overlays.delete_tunnel(network);
        let object = format_args!("network {id}");
        self.applier.apply_or_defer(&kind::network(network), &Datapath::empty(), "delete links and rules", object);
        if network.kind.bridge().is_some_and(|bridge| !bridge.has_prefix())
            && let Err(error) = self.applier.reconciler.reconcile_firewall().whole()
        {
            self.applier.defer(&error, "delete rules", object);
        }
        self.conflicts.remove_network(id);
        self.release(network);
        Ok(written?)
    }
}

/// Everything that a network and its endpoints need, without those that share something with other networks; `of_groups`
/// says what an endpoint needs because of its groups.
fn whole(held: &Held, of_groups: impl Fn(&Endpoint) -> Datapath) -> Datapath {
    let mut all = kind::network(&held.network);
    for endpoint in held.endpoints.values() {
        let own = kind::endpoint(&held.network, endpoint);
        if own.sharer.is_none() {
            kind::add(&mut all, own);
        }
        kind::add(&mut all, of_groups(endpoint));
    }
    all
}
