//! Subnets of a Swarm that conflict with a host: one whose engine was down while a network was replaced, and one whose
//! LAN has the subnet that the Swarm chose.

use std::time::Duration;

use crate::cluster::{Cluster, SOON, links};
use testkit::wait_until;

impl Cluster {
    /// Creates a service with a task on every node.
    fn everywhere(&self, service: &str, network: &str) {
        let what = ["service", "create", "--detach", "--name", service, "--mode", "global", "--network", network];
        let how = ["--endpoint-mode", "dnsrr", "--restart-delay", "1s", "--stop-grace-period", "1s", "busybox"];
        self.manager(&[&what[..], &how].concat());
    }
}

/// The two kinds of networks: one that conflicts only by its subnet, and one that also has a VNI and a bridge name.
const NETWORKS: [(&str, &[&str]); 2] = [
    ("plain", &["--subnet", "10.44.0.0/24"]),
    (
        "numbered",
        &["--subnet", "10.46.0.0/24", "-o", "com.docker.network.bridge.name=swarm0", "-o", "pontoon.vni=4242"],
    ),
];

#[test]
fn a_network_replaced_while_an_engine_was_down() {
    let cluster = Cluster::up();
    cluster.manager(&["swarm", "update", "--dispatcher-heartbeat", "2s"]);
    let create = |life: &str| {
        for (name, options) in NETWORKS {
            let create = [&["network", "create", "-d", "pontoon:latest", "--attachable"][..], options].concat();
            cluster.manager(&[&create[..], &[&format!("{name}_{life}")]].concat());
            cluster.everywhere(&format!("{name}-{life}"), &format!("{name}_{life}"));
        }
        NETWORKS.map(|(name, _)| (format!("{name}-{life}"), format!("{name}_{life}")))
    };
    let before = create("before");
    for (service, network) in &before {
        cluster.wait_until_all_reach_all(service, network, 3, "at first");
    }
    let three = cluster.node("three");
    let stale = links(three);
    let tunnels = cluster.tunnels("three");
    assert_eq!(tunnels.len(), 2, "{stale:?}");

    three.kill_dockerd();
    for (service, network) in &before {
        cluster.manager(&["service", "rm", service]);
        cluster.remove_network(network);
    }
    assert_eq!(cluster.tunnels("three"), tunnels, "the node whose engine is down keeps its tunnels");
    let after = create("after");
    cluster.restart_engine("three", 3);
    for (service, network) in &after {
        cluster.wait_until_all_reach_all(service, network, 3, "with the engine back");
    }
    // Nothing of the old networks is left there: no link, and no network in the engine.
    let left = || links(three).into_iter().filter(|link| stale.contains(link)).collect::<Vec<_>>();
    wait_until(SOON, "the stale links to be removed", || left().is_empty());
    assert_eq!(cluster.tunnels("three").len(), 2, "{:?}", links(three));
    let networks = three.docker(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(!networks.contains("before") && networks.contains("numbered_after"), "{networks}");

    for (service, network) in &after {
        cluster.manager(&["service", "rm", service]);
        cluster.remove_network(network);
    }
    cluster.nothing_left();
}

#[test]
fn a_swarm_subnet_that_conflicts_with_a_lan() {
    let cluster = Cluster::up();
    let two = cluster.node("two");
    // The Swarm's first subnet is for its ingress network, the second one for the first user network.
    let link = two.exec(&["sh", "-c", "ip -o -4 addr show | grep ' 192.168.77.' | awk '{print $2}'"]).ok();
    two.exec(&["ip", "addr", "add", "10.0.1.7/24", "dev", link.trim()]).ok();
    cluster.manager(&["network", "create", "-d", "pontoon:latest", "chosen"]);
    cluster.everywhere("web", "chosen");
    let seen = || cluster.manager(&["service", "ps", "--no-trunc", "--format", "{{.Node}} {{.Error}}", "web"]);
    wait_until(2 * SOON, "the reason to be reported", || seen().contains("10.0.1.7, the address of link"));
    assert!(seen().contains("--default-addr-pool"), "{}", seen());
    let routes = two.exec(&["ip", "route", "show", "10.0.1.0/24"]).ok();
    assert!(routes.contains(link.trim()) && !routes.contains("pnt"), "the host's own route: {routes}");
    cluster.manager(&["service", "rm", "web"]);
    cluster.remove_network("chosen");
    cluster.manager(&["network", "create", "-d", "pontoon:latest", "--subnet", "10.45.0.0/24", "named"]);
    cluster.everywhere("web", "named");
    cluster.wait_until_all_reach_all("web", "named", 3, "with another subnet");
    cluster.manager(&["service", "rm", "web"]);
    std::thread::sleep(Duration::from_secs(1));
    cluster.remove_network("named");
    cluster.nothing_left();
}
