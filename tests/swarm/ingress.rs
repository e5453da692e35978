//! Docker's own publishing, mode ingress, for a service on a network of Pontoon: its tasks are on both networks.
//!
//! On a kernel with IPVS, set `net.ipv4.ip_forward` on the machine as well: Docker's sandbox inherits it from there,
//! not from the node.

use crate::cluster::{Cluster, SOON};
use testkit::{Node, wait_until};

/// Tasks reach each other as without ingress; with IPVS in the kernel each node answers for all of them.
#[test]
fn the_routing_mesh_works_beside_pontoon() {
    let cluster = Cluster::up();
    cluster.manager(&["network", "create", "-d", "pontoon:latest", "--attachable", "fleet"]);
    let what = ["service", "create", "--detach", "--name", "mesh", "--stop-grace-period", "1s", "--replicas", "3"];
    let how = ["--network", "fleet", "--publish", "published=8090,target=80", "busybox", "httpd", "-f", "-h", "/etc"];
    cluster.manager(&[&what[..], &how].concat());
    cluster.all_reach_all("mesh", "fleet", 3);
    let balances = cluster.nodes().iter().all(|node| node.exec(&["test", "-e", "/proc/net/ip_vs"]).success());
    for node in cluster.nodes().iter().filter(|_| balances) {
        wait_until(SOON, "the mesh to answer", || answers(node));
    }
    // Names resolve to the tasks' addresses on Pontoon's network only.
    let tasks = cluster.tasks("mesh", "fleet");
    cluster.resolves(&tasks[0], "tasks.mesh", &tasks).expect("all tasks");
    eprintln!("{}", if balances { "answered by the mesh" } else { "no IPVS here: the mesh was not tested" });

    cluster.manager(&["service", "rm", "mesh"]);
    cluster.remove_network("fleet");
    cluster.nothing_left();
}

/// Several requests, so that tasks on other nodes are among the targets.
fn answers(node: &Node) -> bool {
    let ask = "for n in 1 2 3 4 5 6; do curl -sf -m 5 http://127.0.0.1:8090/hostname || exit; done";
    node.exec(&["sh", "-c", ask]).success()
}
