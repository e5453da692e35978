//! Rules that follow from several endpoints belonging to one container.
//!
//! In the modes `routed` and `nat-unprotected` a container can be reached at its own address through a
//! network that does not carry its default route. Its replies leave through the network with the default
//! route, with a source address that belongs to another of its networks.
//!
//! Pure. Used by the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Datapath, Policy, kind};
use crate::model::{Endpoint, EndpointId, IfName, Network, Phase};

/// An endpoint as seen by the other endpoints of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Its host end, if source address validation is on.
    checked: Option<IfName>,
    /// Its addresses that are reachable without translation.
    direct: Vec<IpAddr>,
}

/// The endpoints of one container.
pub type Companions = BTreeMap<EndpointId, Companion>;

impl Companion {
    /// The companion view of an endpoint; `None` while it is in no container.
    pub fn of(network: &Network, endpoint: &Endpoint) -> Option<Self> {
        let options = &network.spec.options;
        let modes = [(endpoint.spec.v4, options.mode4), (endpoint.spec.v6, options.mode6)];
        let direct = modes.into_iter().filter(|(_, mode)| mode.is_direct() && !network.spec.internal);
        (endpoint.phase == Phase::Joined && !endpoint.sandbox.is_empty()).then(|| Self {
            checked: endpoint.attachment.host().filter(|_| kind::is_checked(network, endpoint)).cloned(),
            direct: direct.filter_map(|(net, _)| Some(net?.ip())).filter(|ip| !ip.is_unspecified()).collect(),
        })
    }

    /// Source addresses that it may use on `other` in addition to the addresses of `other` itself.
    fn by(&self, other: &Self) -> impl Iterator<Item = Policy> {
        let port = other.checked.clone();
        self.direct.iter().filter_map(move |address| Some(Policy::SourceAddress(port.clone()?, *address)))
    }
}

/// The elements that an endpoint needs because its container has other endpoints.
pub fn between(id: &EndpointId, all: &Companions) -> Datapath {
    let mut elements = BTreeSet::new();
    if let Some(one) = all.get(id) {
        for (_, other) in all.iter().filter(|(other, _)| *other != id) {
            elements.extend(one.by(other).chain(other.by(one)));
        }
    }
    Datapath { policy: Some(elements), ..Datapath::default() }
}
