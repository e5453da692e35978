//! A network of the Swarm on the LAN that connects the machines: one pool, and on each machine the link that it has.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, SOON};
use testkit::wait_until;

pub fn one_pool_for_all_machines(cluster: &Cluster) {
    // A machine whose link has another name.
    let rename = |from: &str, to: &str| {
        cluster.node("two").exec(&["ip", "link", "set", "dev", from, "name", to]).ok();
    };
    rename("eth0", "eno1");
    cluster.carry_out("## On a LAN with one pool");
    cluster.all_reach_all("site", "lan", 3);
    let tasks = cluster.tasks("site", "lan");
    let addresses: BTreeSet<_> = tasks.iter().map(|task| task.address.as_str()).collect();
    assert_eq!(addresses.len(), 3, "each has an address of its own: {tasks:?}");
    assert!(addresses.iter().all(|address| address.starts_with("192.168.77.1") && address.len() == 14), "{tasks:?}");
    let macs = |task: &crate::cluster::Task| {
        let (_, node) = cluster.named().nth(task.node).expect("a machine");
        // Directly on the LAN: its router and other machines reach it, by its own hardware address.
        wait_until(SOON, "the router", || node.ping(&task.container, "192.168.77.254"));
        let other = if task.node == 0 { "two" } else { "one" };
        wait_until(SOON, "another machine", || {
            cluster.node(other).exec(&["ping", "-c1", "-W1", &task.address]).success()
        });
        node.exec_in(&task.container, &["cat", "/sys/class/net/eth0/address"]).ok()
    };
    assert_eq!(tasks.iter().map(macs).collect::<BTreeSet<_>>().len(), 3, "each has a hardware address of its own");
    cluster.manager(&["service", "rm", "site"]);
    cluster.gone("site");
    cluster.manager(&["rm", "-f", "guest"]);
    cluster.manager(&["network", "rm", "lan"]);
    rename("eno1", "eth0");
}
