//! The allow lists of networks and endpoints, as operators see and change them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::datapath::access::Way;
use crate::datapath::kind;
use crate::driver::PolicyChange;
use crate::model::access::{AllowList, GroupName, StoredLists};
use crate::model::{Endpoint, EndpointId, Network, NetworkId};

/// What a network or an endpoint may exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyStatus {
    /// The groups of an endpoint.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<GroupName>,
    /// Everything that it may reach, from options and stored lists; `None` if the direction is not restricted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<AllowList>,
    /// Everything that may reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<AllowList>,
    /// Whether these lists refuse nothing: what they do not allow is recorded, and passes.
    #[serde(skip_serializing_if = "is_false")]
    pub audit: bool,
    /// What an operator stored for the object itself.
    #[serde(skip_serializing_if = "StoredLists::is_empty")]
    pub stored: StoredLists,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl PolicyStatus {
    /// What a network allows all of its endpoints.
    pub fn of_network(network: &Network) -> Self {
        let list = |way| kind::access::list_of_network(network, way);
        let (egress, ingress) = (list(Way::Egress), list(Way::Ingress));
        let audit = kind::access::audits(network);
        Self { groups: BTreeSet::new(), egress, ingress, audit, stored: network.stored.clone() }
    }

    /// What an endpoint may exchange.
    pub fn of_endpoint(network: &Network, endpoint: &Endpoint) -> Self {
        let list = |way| kind::access::list(network, endpoint, way);
        let groups = endpoint.spec.options.access.groups.clone();
        let (egress, ingress) = (list(Way::Egress), list(Way::Ingress));
        let audit = kind::access::is_audited(network, endpoint);
        Self { groups, egress, ingress, audit, stored: endpoint.stored.clone() }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The body of `POST /policy`: a change of what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyOrder {
    /// The network.
    pub network: NetworkId,
    /// The endpoint; without it, the network itself is meant.
    #[serde(default)]
    pub endpoint: Option<EndpointId>,
    /// The lists that replace the stored ones of their direction.
    #[serde(default)]
    pub lists: StoredLists,
    /// Removes what is stored instead.
    #[serde(default)]
    pub remove: bool,
    /// Whether flows go on that are not allowed any more.
    #[serde(default)]
    pub keep_flows: bool,
}

impl PolicyOrder {
    /// The change that is meant.
    ///
    /// # Errors
    /// It is none, or has a DNS name for incoming connections.
    pub fn change(self) -> Result<PolicyChange, String> {
        if self.remove != self.lists.is_empty() {
            return Err("give lists to set, or remove".to_owned());
        }
        if let Some(name) = self.lists.ingress.as_ref().and_then(AllowList::name) {
            return Err(format!(
                "DNS names are possible only in the egress list, not {name} in the ingress list: use addresses or subnets there"
            ));
        }
        let lists = (!self.remove).then_some(self.lists);
        Ok(PolicyChange { network: self.network, endpoint: self.endpoint, lists, keep_flows: self.keep_flows })
    }
}
