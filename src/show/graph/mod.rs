//! `pontoon graph`: networks, their containers, published ports and peers as text, as a picture, or as input of programs
//! that draw.
//!
//! Names and addresses of others become text of these formats only in the functions that escape them.

mod language;
mod picture;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{Facts, Shown, mode};
use crate::admin::status::{EndpointStatus, NetworkStatus};
use crate::output::visible;
use crate::state::peers::Standing;

pub use language::{dot, mermaid};
pub use picture::svg;

/// What is drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// Networks in the order of their names.
    pub networks: Vec<NetworkNode>,
    /// Containers, those of a network together.
    pub containers: Vec<ContainerNode>,
    /// Other hosts, to which all overlay networks lead.
    pub peers: Vec<PeerNode>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkNode {
    /// Its name, else the beginning of its id.
    pub name: String,
    /// Kind and mode, subnets, and the VNI of an overlay: a line each.
    pub lines: Vec<String>,
    /// Whether it spans hosts.
    pub is_overlay: bool,
}

/// A container, or an endpoint whose container is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerNode {
    /// Its name, else the beginning of the endpoint's id.
    pub name: String,
    /// The networks that it is attached to, by their numbers, with its addresses.
    pub attached: Vec<(usize, Vec<String>)>,
    /// Its published ports.
    pub ports: Vec<String>,
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNode {
    /// Its address.
    pub address: String,
    /// Set unless it is a member: what is known of it.
    pub doubt: Option<String>,
}

impl Graph {
    /// The graph of the facts.
    pub fn of(facts: &Facts<'_>) -> Self {
        let mut networks: Vec<_> =
            facts.status.networks.iter().map(|network| (facts.names.network(network.id.as_str()), network)).collect();
        networks.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.id.cmp(&other.id)));
        let mut containers: Vec<ContainerNode> = Vec::new();
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, (_, network)) in networks.iter().enumerate() {
            let mut endpoints: Vec<_> = network.endpoints.iter().collect();
            endpoints.sort_by_cached_key(|endpoint| (facts.names.endpoint(endpoint.id.as_str()), endpoint.id.clone()));
            for endpoint in endpoints {
                let id = facts.names.container_of(endpoint.id.as_str()).map_or(endpoint.id.as_str(), |one| &one.id);
                let at = *known.entry(id).or_insert(containers.len());
                if at == containers.len() {
                    let name = facts.names.endpoint(endpoint.id.as_str());
                    containers.push(ContainerNode { name, attached: Vec::new(), ports: Vec::new() });
                }
                if let Some(container) = containers.get_mut(at) {
                    let addresses = endpoint.addresses.iter().map(|net| net.ip().to_string()).collect();
                    container.attached.push((number, addresses));
                    container.ports.extend(ports(endpoint));
                }
            }
        }
        let networks: Vec<_> = networks.into_iter().map(|(name, network)| node(name, network)).collect();
        let has_overlay = networks.iter().any(|network| network.is_overlay);
        let reach = facts.status.reach.as_ref().filter(|_| has_overlay);
        let peers = reach.into_iter().flat_map(|reach| &reach.peers).map(|peer| PeerNode {
            address: peer.address.to_string(),
            doubt: match peer.standing {
                Standing::Present => None,
                Standing::Doubted { .. } => Some("doubted".to_owned()),
                Standing::Former { .. } => Some("former".to_owned()),
            },
        });
        Self { networks, containers, peers: peers.collect() }
    }

    /// As text, with the object for programs.
    pub fn shown(&self) -> Shown {
        Shown::new(self.text(), self.json())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (number, network) in self.networks.iter().enumerate() {
            let _ = writeln!(text, "{}  {}", network.name, network.lines.join("  "));
            let mut items = Vec::new();
            for container in &self.containers {
                let Some((_, addresses)) = container.attached.iter().find(|(at, _)| *at == number) else { continue };
                let first = container.attached.first().is_some_and(|(at, _)| *at == number);
                let ports = if first { container.ports.join(", ") } else { String::new() };
                items.push([container.name.clone(), addresses.join(" "), ports]);
            }
            if network.is_overlay {
                items.extend(self.peers.iter().map(|peer| {
                    let doubt = peer.doubt.as_ref().map(|doubt| format!(" ({doubt})"));
                    ["peer".to_owned(), format!("{}{}", peer.address, doubt.unwrap_or_default()), String::new()]
                }));
            }
            let table = crate::output::table(&items);
            let last = items.len().saturating_sub(1);
            for (at, line) in table.lines().enumerate() {
                let _ = writeln!(text, "{} {line}", if at == last { "└─" } else { "├─" });
            }
        }
        if text.is_empty() { "no networks of Pontoon on this host\n".to_owned() } else { text }
    }

    fn json(&self) -> Value {
        let networks = self.networks.iter().map(|network| json!({ "name": network.name, "detail": network.lines }));
        let containers = self.containers.iter().map(|container| {
            let attached = container
                .attached
                .iter()
                .map(|(number, addresses)| json!({ "network": number, "addresses": addresses }));
            json!({ "name": container.name, "attached": attached.collect::<Vec<_>>(), "published": container.ports })
        });
        let peers = self.peers.iter().map(|peer| json!({ "address": peer.address, "doubt": peer.doubt }));
        json!({
            "networks": networks.collect::<Vec<_>>(), "containers": containers.collect::<Vec<_>>(),
            "peers": peers.collect::<Vec<_>>(),
        })
    }
}

fn node(name: String, network: &NetworkStatus) -> NetworkNode {
    let vni = network.overlay.iter().map(|overlay| format!("VNI {}", overlay.vni));
    let subnets = network.subnets.iter().map(IpNetwork::to_string);
    let lines = std::iter::once(mode(network)).chain(subnets).chain(vni).map(|line| visible(&line).into_owned());
    NetworkNode { name, lines: lines.collect(), is_overlay: network.overlay.is_some() }
}

fn ports(endpoint: &EndpointStatus) -> impl Iterator<Item = String> {
    endpoint.detail.forwards.iter().map(|forward| format!("{} -> {}", forward.host, forward.container_port))
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod graph_tests;
