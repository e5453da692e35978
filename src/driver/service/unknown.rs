//! Links that the ledger does not know: which ones it proves to have ended, how the others are reported, and how
//! an operator removes them. `datapath::unknown` makes the decision.

use std::collections::{BTreeMap, BTreeSet};

use crate::datapath::groups::Parties;
use crate::datapath::{Ended, Object, kind, unknown};
use crate::driver::{Driver, Error};
use crate::model::{IfName, Mac, Network, NetworkId, NetworkSpec, overlap};
use crate::state::Outcome;
use crate::state::record::Record;

/// What the records of a ledger prove to have ended. `former` are networks and endpoints that were replaced or
/// deleted.
pub fn ended(records: &[Record], former: &[Record]) -> Ended {
    let mut ended = Ended::default();
    let mut networks: BTreeMap<&NetworkId, &Network> = BTreeMap::new();
    for record in former.iter().chain(records) {
        if let Record::Network(network) = record {
            networks.insert(&network.spec.id, network);
            // A tunnel is created and removed with the addresses of the host.
            ended.links.extend(network.kind.overlay().into_iter().map(|overlay| overlay.link.clone()));
        }
    }
    let mut parties: BTreeMap<&NetworkId, Parties> = BTreeMap::new();
    for record in records {
        if let Record::Endpoint(endpoint) = record
            && let Some(network) = networks.get(&endpoint.spec.network)
        {
            parties.entry(&network.spec.id).or_default().add(network, endpoint);
        }
    }
    for record in former {
        match record {
            Record::Network(network) => ended.add(&kind::network(network)),
            Record::Endpoint(endpoint) => {
                if let Some(network) = networks.get(&endpoint.spec.network) {
                    ended.add(&kind::endpoint(network, endpoint));
                    let parties = parties.entry(&network.spec.id).or_default();
                    ended.add(&parties.add(network, endpoint));
                    parties.remove(network, &endpoint.spec.id);
                }
            }
            _ => {}
        }
    }
    ended
}

impl Driver {
    /// At start, logs the links that the ledger does not know, and keeps the addresses behind them from being
    /// allocated.
    pub(super) fn protect_unknown(&self, links: &[IfName]) {
        let kept = self.applier.reconciler.kept();
        if kept.is_empty() {
            return;
        }
        tracing::error!(
            links = links.len(),
            "keeping links of Pontoon that the ledger does not know: it is missing, or older than they are. Stop Pontoon, restore \
             the right ledger and start it, or remove the containers that use them (pontoon doctor)"
        );
        self.addresses.lock().withhold(kept.addresses());
        self.ports.reserve_unknown(&kept);
    }

    /// Refuses a network whose subnet is on the bridge of a network that the ledger does not know: its
    /// containers may be running, and objects made for the new network would be removed with it.
    pub(in crate::driver) fn check_unknown(&self, spec: &NetworkSpec) -> Result<(), Error> {
        if self.applier.reconciler.kept().links.is_empty() {
            return Ok(());
        }
        let kernel = |source| Error::Kernel { object: format!("network {}", spec.id), source };
        let (have, links) = self.applier.reconciler.look_for_unknown().map_err(kernel)?;
        // The engine of a Swarm creates a network again whose bridge still exists.
        let own = Mac::of_bridge(spec.id.as_str());
        let others =
            have.objects.iter().filter(|(link, object)| links.contains(*link) && object.identity() != Some(own));
        let bridges = others.filter_map(|(link, object)| match object {
            Object::Bridge(bridge) => Some((link, bridge)),
            _ => None,
        });
        let held = bridges.flat_map(|(link, bridge)| bridge.addresses.iter().map(move |held| (link, held)));
        let mut both = held.flat_map(|held| spec.subnets().map(move |subnet| (held, subnet.pool)));
        match both.find(|((_, held), subnet)| overlap(held, subnet)) {
            Some(((link, held), subnet)) => Err(Error::SubnetOfUnknown { subnet, held: *held, link: link.clone() }),
            None => Ok(()),
        }
    }

    /// Releases ports that were reserved for unknown containers, once those are gone.
    pub(super) fn release_unknown_ports(&self) {
        if self.ports.has_unknown() {
            self.ports.release_unknown(&self.applier.reconciler.kept());
        }
    }

    /// Removes the kernel objects of an object that the ledger does not know, because the engine reports it as
    /// gone. They are identified by the MAC derived from its id.
    pub(in crate::driver) fn unknown_ended(&self, macs: impl IntoIterator<Item = Mac>) {
        if !matches!(self.health.outcome, Outcome::TooNew { .. }) && !self.applier.reconciler.kept().is_empty() {
            self.applier.reconciler.give_up([], macs);
            self.applier.schedule_maintenance();
        }
    }

    /// Removes links that the state does not know, at the request of an operator.
    ///
    /// # Errors
    /// A name is not that of such a link, or a bridge has ports that are not named.
    pub fn remove_unknown(&self, names: &[String]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let refused = |link: &str, why: String| Error::Unknown { link: link.to_owned(), why };
        let parse = |name: &String| IfName::parse(name).map_err(|error| refused(name, error.to_string()));
        let names = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let kernel = |source| Error::Kernel { object: "the whole datapath".to_owned(), source };
        let plan = self.applier.reconciler.plan().map_err(kernel)?;
        let named: BTreeSet<&IfName> = names.iter().collect();
        if let Some(name) = names.iter().find(|name| !plan.unknown.contains(name)) {
            return Err(refused(name.as_str(), "it is not one of the links that the ledger does not know".to_owned()));
        }
        let (have, links) = self.applier.reconciler.look_for_unknown().map_err(kernel)?;
        let ports = unknown::ports(&have, &links);
        if let Some((port, bridge)) =
            ports.iter().find(|(port, bridge)| named.contains(bridge) && !named.contains(port))
        {
            return Err(refused(bridge.as_str(), format!("its port {port} is not named, too")));
        }
        self.applier.reconciler.give_up(names.iter().cloned(), []);
        Ok(())
    }
}
