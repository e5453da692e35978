//! The groups of endpoints, for allow lists that name them: which endpoints of a network are members, and whose lists
//! mean them.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Mutex;

use crate::datapath::Datapath;
use crate::datapath::groups::{MOST_STATEMENTS, Parties};
use crate::datapath::kind::Refusal;
use crate::model::access::options::GROUP;
use crate::model::{Endpoint, Network, NetworkId};
use crate::state::table::{Held, lock};

/// See the module documentation. Called with the lock of the network's slot held.
#[derive(Default)]
pub(super) struct Groups {
    networks: Mutex<HashMap<NetworkId, Parties>>,
}

impl Groups {
    /// Adds a new endpoint; returns the statements that it brings.
    ///
    /// # Errors
    /// The network has too many pairs. The endpoint is not added then.
    pub fn admit(&self, network: &Network, endpoint: &Endpoint) -> Result<Datapath, Refusal> {
        let (brought, all) = self.change(network, |parties| (parties.add(network, endpoint), parties.statements()));
        if all <= MOST_STATEMENTS {
            return Ok(brought);
        }
        self.remove(network, endpoint);
        Err(too_many(format_args!("with endpoint {}", endpoint.spec.id), network, all))
    }

    /// Checks that a network with its endpoints does not have too many pairs.
    ///
    /// # Errors
    /// It would have.
    pub fn check(&self, held: &Held) -> Result<(), Refusal> {
        let mut parties = Parties::default();
        held.endpoints.values().for_each(|endpoint| drop(parties.add(&held.network, endpoint)));
        match parties.statements() {
            all if all <= MOST_STATEMENTS => Ok(()),
            all => Err(too_many(format_args!("with these lists"), &held.network, all)),
        }
    }

    /// Adds an endpoint that exists.
    pub fn add(&self, network: &Network, endpoint: &Endpoint) -> Datapath {
        self.change(network, |parties| parties.add(network, endpoint))
    }

    /// Removes an endpoint; returns the statements that end with it. An unknown endpoint is not an error.
    pub fn remove(&self, network: &Network, endpoint: &Endpoint) -> Datapath {
        self.change(network, |parties| parties.remove(network, &endpoint.spec.id))
    }

    fn change<T>(&self, network: &Network, change: impl FnOnce(&mut Parties) -> T) -> T {
        let mut networks = lock(&self.networks);
        let parties = networks.entry(network.spec.id.clone()).or_default();
        let done = change(parties);
        if parties.is_empty() {
            networks.remove(&network.spec.id);
        }
        done
    }
}

fn too_many(with: impl Display, network: &Network, all: usize) -> Refusal {
    Refusal(format!(
        "network {}: {with}, its groups would need {all} ranges in the firewall, more than {MOST_STATEMENTS}: remove {GROUP} \
         or group: from containers that do not need it, use fewer ports, or the peer net or a subnet instead",
        network.spec.id
    ))
}
