//! Swarm networks of scope local: the Swarm has the name, each host the addresses.

use std::time::Duration;

use crate::cluster::{Cluster, SOON};
use testkit::{Node, Options, Signal, wait_until};

/// The subnets from which each machine assigns addresses, on the LAN and on the overlay.
const RANGES: [(&str, u8, u8); 3] = [("one", 32, 1), ("two", 64, 2), ("three", 96, 3)];

#[test]
fn each_host_has_its_own_range() {
    let cluster = Cluster::machines(3, &Options::new());
    cluster.named().for_each(|(_, node)| bridged(node));
    cluster.carry_out("## A range per host");
    cluster.carry_out("Make them a Swarm");
    cluster.ready(3);
    cluster.carry_out("On a LAN");
    cluster.all_reach_all("web", "lan", 6);
    on_the_lan(&cluster);
    cluster.carry_out("As an overlay");
    cluster.all_reach_all("across", "fleet", 6);
    as_an_overlay(&cluster);
    names_reach_everywhere(&cluster);
    an_engine_crashes(&cluster);
    beside_a_local_network(cluster.node("two"));
    cluster.manager(&["service", "rm", "web", "across"]);
    cluster.manager(&["rm", "-f", "probe", "surveyor"]);
    cluster.manager(&["network", "rm", "lan", "fleet"]);
    cluster.nothing_left();
}

/// Moves a machine's address to a bridge, as distributions configure it.
fn bridged(node: &Node) {
    let script = "set -e
        addresses=$(ip -o address show dev eth0 scope global | awk '{print $4}')
        ip link add br-lan address $(cat /sys/class/net/eth0/address) type bridge
        ip address flush dev eth0 scope global
        ip link set eth0 master br-lan
        ip link set br-lan up
        for address in $addresses; do ip address add $address dev br-lan nodad; done
        ip route replace default via 192.168.77.254";
    node.exec(&["bash", "-c", script]).ok();
}

fn on_the_lan(cluster: &Cluster) {
    let tasks = cluster.tasks("web", "lan");
    for task in &tasks {
        let (name, start, _) = RANGES[task.node];
        let last: u8 = task.address.strip_prefix("192.168.77.").expect("of the LAN").parse().expect("a number");
        assert!((start..start + 32).contains(&last), "{name}: {task:?}");
        // The LAN reaches the task, and the task reaches the LAN.
        let (_, node) = cluster.named().nth(task.node).expect("a machine");
        wait_until(SOON, "the router", || node.ping(&task.container, "192.168.77.254"));
    }
    assert!(cluster.tunnels("one").is_empty(), "no overlay");
    for (name, node) in cluster.named() {
        let address = &tasks.iter().find(|task| RANGES[task.node].0 != name).expect("a task elsewhere").address;
        wait_until(SOON, "a container elsewhere", || node.exec(&["ping", "-c1", "-W1", address]).success());
    }
}

fn as_an_overlay(cluster: &Cluster) {
    for task in cluster.tasks("across", "fleet") {
        let (name, _, third) = RANGES[task.node];
        assert!(task.address.starts_with(&format!("10.9.{third}.")), "{name}: {task:?}");
    }
    // The hosts were discovered through the Swarm only.
    for (name, node) in cluster.named() {
        let tunnels = cluster.tunnels(name);
        assert_eq!(tunnels.len(), 1, "{name}");
        let floods = node.exec(&["bridge", "fdb", "show", "dev", &tunnels[0]]).ok();
        assert_eq!(floods.lines().filter(|line| line.starts_with("00:00:00:00:00:00 ")).count(), 2, "{name}: {floods}");
    }
}

/// Tasks, services and containers are resolved from every host.
fn names_reach_everywhere(cluster: &Cluster) {
    for (service, network) in [("web", "lan"), ("across", "fleet")] {
        let tasks = cluster.tasks(service, network);
        for task in &tasks {
            let (_, node) = cluster.named().nth(task.node).expect("a machine");
            for name in [service.to_owned(), format!("tasks.{service}")] {
                wait_until(SOON, &format!("all of {name} on {}", node.name()), || {
                    cluster.resolves(task, &name, &tasks).is_ok()
                });
            }
        }
    }
    for (container, service, network) in [("probe", "web", "lan"), ("surveyor", "across", "fleet")] {
        let tasks = cluster.tasks(service, network);
        for task in tasks.iter().filter(|task| task.node != 0) {
            let (_, node) = cluster.named().nth(task.node).expect("a machine");
            wait_until(SOON, container, || node.ping(&task.container, container));
        }
    }
}

/// After a crash the engine does not know those networks and their endpoints, and requests them again.
fn an_engine_crashes(cluster: &Cluster) {
    let three = cluster.node("three");
    three.stop_dockerd(Signal::Kill);
    cluster.restart_engine("three", 3);
    cluster.all_reach_all("web", "lan", 6);
    cluster.all_reach_all("across", "fleet", 6);
    // Wherever the tasks were placed, the node is part of both networks again.
    for (container, network, other) in [("at-lan", "lan", "probe"), ("at-fleet", "fleet", "surveyor")] {
        three.run_container(container, &["--network", network]);
        wait_until(SOON, other, || three.ping(container, other));
    }
    cluster.manager(&["service", "update", "--detach", "--force", "--update-parallelism", "0", "across"]);
    cluster.wait_for_update("across", Duration::from_secs(120));
    cluster.all_reach_all("across", "fleet", 6);
    names_reach_everywhere(cluster);
    three.docker(&["rm", "-f", "at-lan", "at-fleet"]).ok();
}

/// A network without `--scope swarm` is unchanged.
fn beside_a_local_network(node: &Node) {
    node.docker(&["network", "create", "-d", "pontoon:latest", "alone"]).ok();
    node.run_container("left", &["--network", "alone"]);
    node.run_container("right", &["--network", "alone"]);
    node.ping_soon("left", "right");
    node.docker(&["rm", "-f", "left", "right"]).ok();
    node.docker(&["network", "rm", "alone"]).ok();
}
