//! Three engines, a Swarm, and Pontoon between them: runs the commands of docs/swarm.md unmodified, and after each part
//! every task contacts every other.

mod cluster;
mod compose;
mod consistency;
mod doctor;
mod faults;
mod ingress;
mod install;
mod lan;
mod multicast;
mod place;
mod probe;
mod ranges;
mod redeploy;
mod settings;
mod shuffle;
mod socket;
mod stale;
mod vip;

use std::time::Duration;

use cluster::Cluster;
use testkit::{Options, Signal};

/// The life cycle of a service, from three machines to its removal.
#[test]
fn a_service_across_nodes() {
    let cluster = Cluster::up();
    cluster.carry_out("Make a network on a manager");
    cluster.all_reach_all("web", "fleet", 6);
    cluster.carry_out("Scale it");
    cluster.all_reach_all("web", "fleet", 9);

    beside_the_built_in_overlay(&cluster);
    multicast::in_a_swarm(&cluster);
    doctor::in_a_swarm(&cluster);

    // A worker's engine crashes with all its tasks, which are started again on the same network.
    let three = cluster.node("three");
    assert_eq!(cluster.tunnels("three").len(), usize::from(cluster.tasks_on("three", "web") > 0));
    three.kill_dockerd();
    cluster.restart_engine("three", 3);
    cluster.all_reach_all("web", "fleet", 9);

    // Replaces all tasks; they reuse the addresses.
    cluster.manager(&["service", "update", "--detach", "--force", "--update-parallelism", "0", "web"]);
    cluster.wait_for_update("web", Duration::from_secs(60));
    cluster.all_reach_all("web", "fleet", 9);

    with_pontoons_ipam(&cluster);
    lan::one_pool_for_all_machines(&cluster);
    cluster.carry_out("Take it down");
    cluster.nothing_left();
}

/// The commands of docs/quick-start.md.
#[test]
fn a_swarm_in_ten_lines() {
    let mut cluster = Cluster::machines(3, &Options::new());
    cluster.open_page("quick-start");
    cluster.carry_out("## Swarm in ten lines");
    cluster.ready(3);
    cluster.all_reach_all("web", "fleet", 6);
    cluster.manager(&["service", "rm", "web"]);
    cluster.manager(&["rm", "-f", "probe"]);
    cluster.gone("web");
    cluster.manager(&["network", "rm", "fleet"]);
    cluster.nothing_left();
}

/// The engine's own overlay uses the same port, and is not disturbed.
fn beside_the_built_in_overlay(cluster: &Cluster) {
    cluster.manager(&["network", "create", "-d", "overlay", "--attachable", "builtin"]);
    cluster.node("one").run_container("here", &["--network", "builtin"]);
    cluster.node("two").run_container("there", &["--network", "builtin"]);
    let there = cluster.node("two").container_addr("there", "builtin").v4.expect("an address").to_string();
    cluster.node("one").ping_soon("here", &there);
    cluster.node("one").docker(&["rm", "-f", "here"]).ok();
    cluster.node("two").docker(&["rm", "-f", "there"]).ok();
    cluster.manager(&["network", "rm", "builtin"]);
}

/// With Pontoon's IPAM as well: the manager assigns addresses, and each node uses them.
fn with_pontoons_ipam(cluster: &Cluster) {
    let (driver, own) = ("pontoon:latest", ["service", "create", "--detach", "--name", "own", "--network", "own"]);
    cluster.manager(&["network", "create", "-d", driver, "--ipam-driver", driver, "own"]);
    let more = [
        "--replicas",
        "4",
        "--endpoint-mode",
        "dnsrr",
        "--stop-grace-period",
        "1s",
        "busybox",
        "httpd",
        "-f",
        "-h",
        "/etc",
    ];
    cluster.manager(&[&own[..], &more].concat());
    cluster.all_reach_all("own", "own", 4);
    cluster.manager(&["service", "rm", "own"]);
    cluster.gone("own");
    cluster.manager(&["network", "rm", "own"]);
}

/// The same without a Swarm: VNIs and peers are configured by hand.
#[test]
fn containers_of_two_plain_engines() {
    let cluster = Cluster::plain(2);
    cluster.carry_out("The same overlay on plain engines");
    // Pontoon and the kernel keep the configuration.
    for name in ["one", "two"] {
        cluster.node(name).kill_pontoon(Signal::Kill);
        cluster.node(name).exec(&["ip", "link", "del", &cluster.tunnels(name)[0]]).ok();
        cluster.node(name).start_pontoon(&cluster::built("pontoon"), &[]);
        assert_eq!(cluster.tunnels(name).len(), 1);
    }
    cluster.node("one").ping_soon("probe", "10.9.0.80");
    multicast::between_plain_engines(&cluster);
    for name in ["one", "two"] {
        cluster.node(name).docker(&["rm", "-f", "probe", "web"]);
        cluster.node(name).docker(&["network", "rm", "fleet"]).ok();
    }
    cluster.nothing_left();
}
