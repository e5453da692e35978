//! Compares Pontoon's objects with those of the engine: which ones the engine no longer knows, and which of
//! these are kept because of doubt.
//!
//! Pure. An object is a leak only if the engine does not know it in two comparisons some seconds apart, and no
//! sandbox uses it. That holds for networks of a Swarm, too: an engine that needs one creates it again. Called
//! by the app for `pontoon gc`, and by the doctor.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::admin::status::{EndpointStatus, NetworkStatus, Status};
use crate::engine::Engine;
use crate::ipam::LOCAL_SPACE;
use crate::model::Phase;

/// Endpoints younger than this may still be in creation or removal, in seconds.
const YOUNG: u64 = 120;

/// Number of digits in an id that the engine itself generates; those of a Swarm are shorter and use other
/// letters.
const OWN_ID: usize = 64;

/// An object that the engine does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Leak {
    /// An endpoint.
    Endpoint {
        /// Its network.
        network: String,
        /// Its id.
        id: String,
    },
    /// A network, with the endpoints in it.
    Network {
        /// Its id.
        id: String,
        /// Its bridge, or the link that it is attached to.
        link: String,
        /// The number of endpoints that are removed with it.
        endpoints: usize,
    },
    /// An address pool.
    Pool {
        /// The engine's id for it.
        id: String,
        /// Its subnet.
        subnet: String,
    },
}

impl std::fmt::Display for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Leak::Endpoint { network, id } => write!(f, "endpoint {id} of network {network}"),
            Leak::Network { id, link, endpoints: 0 } => write!(f, "network {id} ({link})"),
            Leak::Network { id, link, endpoints } => {
                write!(f, "network {id} ({link}) with {endpoints} endpoints")
            }
            Leak::Pool { id, subnet } => write!(f, "pool {subnet} ({id})"),
        }
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Objects that the engine does not know: endpoints first, then networks, then pools.
    pub leaks: BTreeSet<Leak>,
    /// Objects that the engine does not know either but that are kept, and why.
    pub kept: Vec<String>,
    /// Whether the engine knows none of the networks, and so may be the wrong one.
    pub stranger: bool,
}

/// Compares. `on_host` contains the names of the links in the host's namespace.
pub fn compare(status: &Status, engine: &Engine, on_host: &BTreeSet<String>) -> GcReport {
    let mut report = GcReport {
        stranger: status.networks.iter().any(is_engines)
            && !status.networks.iter().any(|network| engine.networks.contains_key(network.id.as_str())),
        ..GcReport::default()
    };
    for network in &status.networks {
        if engine.networks.contains_key(network.id.as_str()) {
            for endpoint in network.endpoints.iter().filter(|e| !engine.endpoints.contains(e.id.as_str())) {
                match doubt(endpoint, on_host) {
                    Some(why) => report.kept.push(format!("endpoint {}: {why}", endpoint.id)),
                    None => drop(report.leaks.insert(Leak::Endpoint {
                        network: network.id.as_str().to_owned(),
                        id: endpoint.id.as_str().to_owned(),
                    })),
                }
            }
        } else if let Some(why) = network_doubt(network, on_host) {
            report.kept.push(format!("network {}: {why}", network.id));
        } else {
            report.leaks.insert(Leak::Network {
                id: network.id.as_str().to_owned(),
                link: network.link.to_string(),
                endpoints: network.endpoints.len(),
            });
        }
    }
    pools(status, engine, &mut report);
    report
}

/// Pools that neither a network of the engine nor a network that is kept uses.
fn pools(status: &Status, engine: &Engine, report: &mut GcReport) {
    for pool in &status.pools {
        let known = engine.networks.values().any(|network| network.subnets.contains(&pool.subnet));
        let goes = |network: &NetworkStatus| {
            report.leaks.iter().any(|leak| matches!(leak, Leak::Network { id, .. } if id == network.id.as_str()))
        };
        let held = status.networks.iter().any(|network| network.subnets.contains(&pool.subnet) && !goes(network));
        if known || held {
            continue;
        }
        if pool.space != LOCAL_SPACE {
            report.kept.push(format!("pool {}: it belongs to a Swarm's address space", pool.subnet));
        } else {
            report.leaks.insert(Leak::Pool { id: pool.id.clone(), subnet: pool.subnet.to_string() });
        }
    }
}

/// Whether the engine itself generated the id, and keeps the network across its restarts.
fn is_engines(network: &NetworkStatus) -> bool {
    let id = network.id.as_str();
    id.len() == OWN_ID && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn network_doubt(network: &NetworkStatus, on_host: &BTreeSet<String>) -> Option<String> {
    let used = network.endpoints.iter().find_map(|endpoint| Some((endpoint, doubt(endpoint, on_host)?)));
    used.map(|(endpoint, why)| format!("its endpoint {}: {why}", endpoint.id))
}

/// Why an endpoint is kept although the engine does not know it.
fn doubt(endpoint: &EndpointStatus, on_host: &BTreeSet<String>) -> Option<String> {
    let there = |name: &str| on_host.contains(name);
    let in_sandbox = !there(endpoint.attachment.sandbox_link().as_str());
    if let Some(host) = endpoint.attachment.host()
        && endpoint.phase == Phase::Joined
        && in_sandbox
        && there(host.as_str())
    {
        return Some(format!("the other end of {host} is in a sandbox"));
    }
    (endpoint.age < YOUNG).then(|| format!("it changed {} s ago", endpoint.age))
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod gc_tests;
