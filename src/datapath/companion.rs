//! Owns what endpoints of one container have to do with each other.
//!
//! In the modes `routed` and `nat-unprotected` a container is reached at its own address, also by a
//! network that is not its way out. Its answers then leave by the way out, with an address of
//! another network of its own.
//!
//! Pure. Used by the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Datapath, Element, kind};
use crate::model::{Endpoint, EndpointId, IfName, Network, Phase};

/// An endpoint, as the others of its container see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Its host end, if what it sends is checked.
    checked: Option<IfName>,
    /// Its addresses that are reached as they are.
    direct: Vec<IpAddr>,
}

/// The endpoints of one container.
pub type Companions = BTreeMap<EndpointId, Companion>;

impl Companion {
    /// What an endpoint is to the others of its container; nothing while it is in none.
    pub fn of(network: &Network, endpoint: &Endpoint) -> Option<Self> {
        let options = &network.spec.options;
        let modes = [(endpoint.spec.v4, options.mode4), (endpoint.spec.v6, options.mode6)];
        let direct = modes.into_iter().filter(|(_, mode)| mode.is_direct() && !network.spec.internal);
        (endpoint.phase == Phase::Joined && !endpoint.sandbox.is_empty()).then(|| Self {
            checked: endpoint.attachment.host().filter(|_| kind::is_checked(network, endpoint)).cloned(),
            direct: direct.filter_map(|(net, _)| Some(net?.ip())).filter(|ip| !ip.is_unspecified()).collect(),
        })
    }

    /// What it may send by `other`, in addition to what is its own there.
    fn by(&self, other: &Self) -> impl Iterator<Item = Element> {
        let port = other.checked.clone();
        self.direct.iter().filter_map(move |address| Some(Element::SourceAddress(port.clone()?, *address)))
    }
}

/// What follows from one endpoint being in a container beside others.
pub fn between(id: &EndpointId, all: &Companions) -> Datapath {
    let mut elements = BTreeSet::new();
    if let Some(one) = all.get(id) {
        for (_, other) in all.iter().filter(|(other, _)| *other != id) {
            elements.extend(one.by(other).chain(other.by(one)));
        }
    }
    Datapath { elements: Some(elements), ..Datapath::default() }
}
