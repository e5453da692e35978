//! A network with other hosts, as far as conflicts are concerned.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use crate::datapath::kind;
use crate::model::conflict::ConflictAction;
use crate::model::{IfName, Network};

/// Addresses of each pool that are asked for in advance, while there are few requests.
const AHEAD: usize = 8;

/// The most of them: in a burst of requests twice as many as there were.
const MOST_AHEAD: usize = 64;

/// Requests within this time count as a burst.
const BURST: Duration = Duration::from_secs(5);

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Lan {
    /// The link through which its hosts are reached.
    pub link: IfName,
    /// What happens when one of them has an endpoint's address.
    pub action: ConflictAction,
    /// How long one of them may take to answer.
    pub wait: Duration,
    /// The network's subnets.
    pub subnets: Vec<IpNetwork>,
    /// When addresses were requested.
    requests: VecDeque<Instant>,
}

impl Lan {
    /// `None` for a network without other hosts, and one on which nothing is to be done.
    pub fn of(network: &Network) -> Option<Self> {
        let conflict = &network.spec.options.conflict;
        let lan = Self {
            link: Self::link(network)?,
            action: conflict.action(),
            wait: conflict.wait(),
            subnets: network.spec.subnets().map(|subnet| subnet.pool).collect(),
            requests: VecDeque::new(),
        };
        (lan.action != ConflictAction::Off).then_some(lan)
    }

    /// The link through which the other hosts of a network are reached; in a VLAN, the service port.
    pub fn link(network: &Network) -> Option<IfName> {
        let options = &network.spec.options;
        let vid = options.vlan.filter(|_| options.dhcp.is_on());
        let service = || Some(kind::service::link(network.kind.bridge()?, vid?));
        kind::lan(network).cloned().or_else(service)
    }

    /// These addresses on its network.
    pub fn places(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<(IfName, IpAddr)> {
        addresses.into_iter().map(|address| (self.link.clone(), address)).collect()
    }

    /// Counts a request for an address.
    pub fn count_request(&mut self, now: Instant) {
        self.requests.push_back(now);
        if self.requests.len() > MOST_AHEAD {
            self.requests.pop_front();
        }
    }

    /// How many addresses to ask for in advance.
    pub fn ahead(&self, now: Instant) -> usize {
        let burst = self.requests.iter().filter(|at| now.duration_since(**at) < BURST).count();
        (2 * burst).clamp(AHEAD, MOST_AHEAD)
    }
}
