//! Compares learned state with the actual locations of containers: neighbour tables in the containers, forwarding
//! tables and links on the nodes.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, links};
use crate::place::Place;
use crate::socket::inside;

/// All wrong state about these containers, which have to be all containers of the network.
pub fn errors(cluster: &Cluster, places: &[Place]) -> Vec<String> {
    let mut errors = wrong_neighbours(places);
    for (at, node) in cluster.nodes().iter().enumerate() {
        let here: Vec<_> = places.iter().filter(|place| place.node == at).collect();
        let links = links(node);
        let (tunnels, ends) = (with(&links, "pntx"), with(&links, "pnth"));
        if ends.len() != here.len() || tunnels.len() != usize::from(!here.is_empty()) {
            errors.push(format!("node {at} has {} containers and {links:?}", here.len()));
        }
        let table = node.exec(&["bridge", "fdb", "show"]).ok();
        errors.extend(table.lines().filter_map(|line| wrong_entry(cluster, at, line, places)));
        for tunnel in tunnels {
            errors.extend(floods(cluster, at, tunnel, &table));
        }
        // Pontoon has no other endpoints, either.
        let listed = cluster.metric(at, "pontoon_endpoints");
        if listed != Some(here.len()) {
            errors.push(format!("node {at} has {} containers, Pontoon says {listed:?}", here.len()));
        }
    }
    errors
}

/// Wrong neighbour entries in the containers.
pub fn wrong_neighbours(places: &[Place]) -> Vec<String> {
    let actual: BTreeMap<String, &Place> = places.iter().map(|place| (place.address.to_string(), place)).collect();
    let mut errors = Vec::new();
    for place in places {
        let table = inside(&place.netns, || std::fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default());
        for line in table.unwrap_or_default().lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let &[address, _, flags, mac, ..] = &fields[..] else { continue };
            // Without flags the entry is unresolved or failed.
            if let Some(other) = actual.get(address).filter(|other| flags != "0x0" && other.mac != mac) {
                errors.push(format!(
                    "{} on node {} takes {mac} for {address}, which is {} on node {}",
                    place.address, place.node, other.mac, other.node
                ));
            }
        }
    }
    errors
}

/// A forwarding entry of a node that does not lead to the container.
fn wrong_entry(cluster: &Cluster, at: usize, line: &str, places: &[Place]) -> Option<String> {
    let mut fields = line.split_whitespace();
    let place = fields.next().and_then(|mac| places.iter().find(|place| place.mac == mac))?;
    let dev = line.split("dev ").nth(1)?.split_whitespace().next()?;
    let right = match line.split("dst ").nth(1).and_then(|rest| rest.split_whitespace().next()) {
        Some(host) => place.node != at && cluster.address(place.node) == host,
        None if dev.starts_with("pnt") => (place.node != at) == dev.starts_with("pntx"),
        None => true,
    };
    (!right).then(|| format!("node {at}: {line}, but that container is on node {}", place.node))
}

/// The flooding targets of a tunnel, unless they are all other nodes.
fn floods(cluster: &Cluster, at: usize, tunnel: &str, table: &str) -> Option<String> {
    let of_tunnel =
        table.lines().filter(|line| line.starts_with("00:00:00:00:00:00 ") && line.contains(&format!("dev {tunnel} ")));
    let mut to: Vec<_> = of_tunnel.filter_map(|line| line.split("dst ").nth(1)?.split(' ').next()).collect();
    let mut others: Vec<_> =
        (0..cluster.nodes().len()).filter(|node| *node != at).map(|node| cluster.address(node)).collect();
    to.sort_unstable();
    others.sort_unstable();
    (to != others).then(|| format!("node {at} floods to {to:?}, not to {others:?}"))
}

fn with<'a>(links: &'a [String], prefix: &str) -> Vec<&'a str> {
    links.iter().map(String::as_str).filter(|link| link.starts_with(prefix)).collect()
}
