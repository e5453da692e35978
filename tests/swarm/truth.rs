//! What is remembered, held against what is true: neighbour tables in the containers, forwarding
//! tables and links on the nodes, against where the containers are now.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, links};
use crate::place::Place;
use crate::socket::inside;

/// Everything that is remembered wrongly of these containers, which are all there are.
pub fn wrong(cluster: &Cluster, places: &[Place]) -> Vec<String> {
    let mut wrong = remembered(places);
    for (at, node) in cluster.nodes().iter().enumerate() {
        let here: Vec<_> = places.iter().filter(|place| place.node == at).collect();
        let links = links(node);
        let (tunnels, ends) = (with(&links, "pntx"), with(&links, "pnth"));
        if ends.len() != here.len() || tunnels.len() != usize::from(!here.is_empty()) {
            wrong.push(format!("node {at} has {} containers and {links:?}", here.len()));
        }
        let table = node.exec(&["bridge", "fdb", "show"]).ok();
        wrong.extend(table.lines().filter_map(|line| misled(cluster, at, line, places)));
        for tunnel in tunnels {
            wrong.extend(floods(cluster, at, tunnel, &table));
        }
        // What nobody speaks of any more is no endpoint of Pontoon's either.
        let listed = cluster.metric(at, "pontoon_endpoints");
        if listed != Some(here.len()) {
            wrong.push(format!("node {at} has {} containers, Pontoon says {listed:?}", here.len()));
        }
    }
    wrong
}

/// In the containers: who is thought to have which address.
pub fn remembered(places: &[Place]) -> Vec<String> {
    let truth: BTreeMap<String, &Place> = places.iter().map(|place| (place.address.to_string(), place)).collect();
    let mut wrong = Vec::new();
    for place in places {
        let table = inside(&place.netns, || std::fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default());
        for line in table.unwrap_or_default().lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let &[address, _, flags, mac, ..] = &fields[..] else { continue };
            // Without flags nothing is known, or it was given up.
            if let Some(other) = truth.get(address).filter(|other| flags != "0x0" && other.mac != mac) {
                wrong.push(format!(
                    "{} on node {} takes {mac} for {address}, which is {} on node {}",
                    place.address, place.node, other.mac, other.node
                ));
            }
        }
    }
    wrong
}

/// A line of a node's forwarding tables that leads elsewhere than to the container.
fn misled(cluster: &Cluster, at: usize, line: &str, places: &[Place]) -> Option<String> {
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

/// To whom a tunnel floods, if that is not everybody else.
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
