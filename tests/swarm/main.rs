//! Three engines, a Swarm, and Pontoon between them: the commands of docs/swarm.md as they stand
//! there, and after each part every task asked by every other.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod compose;
mod doctor;
mod faults;
mod ingress;
mod install;
mod multicast;
mod place;
mod probe;
#[path = "../crash/random.rs"]
mod random;
mod ranges;
mod redeploy;
mod settings;
mod shuffle;
mod socket;
mod stale;
mod truth;
mod vip;

use std::time::Duration;

use cluster::Cluster;
use support::{Options, Signal};

/// From three machines to a service, through everything that may happen to it, to nothing.
#[test]
fn a_service_across_nodes() {
    let cluster = Cluster::up();
    cluster.carry_out("Make a network on a manager");
    cluster.all_reach_all("web", "fleet", 6);
    cluster.carry_out("Scale it");
    cluster.all_reach_all("web", "fleet", 9);

    beside_the_engines_own(&cluster);
    multicast::in_a_swarm(&cluster);
    doctor::in_a_swarm(&cluster);

    // A worker's engine dies with all its tasks, which come back, on the same network.
    let three = cluster.node("three");
    assert_eq!(cluster.tunnels("three").len(), usize::from(cluster.tasks_on("three", "web") > 0));
    three.kill_dockerd();
    cluster.revive("three", 3);
    cluster.all_reach_all("web", "fleet", 9);

    // Every task anew, on the addresses of those before.
    cluster.manager(&["service", "update", "--detach", "--force", "--update-parallelism", "0", "web"]);
    cluster.settled("web", Duration::from_secs(60));
    cluster.all_reach_all("web", "fleet", 9);

    both_of_pontoons(&cluster);
    cluster.carry_out("Take it down");
    cluster.nothing_left();
}

/// What docs/quick-start.md promises.
#[test]
fn a_swarm_in_ten_lines() {
    let mut cluster = Cluster::machines(3, &Options::new());
    cluster.turn_to("quick-start");
    cluster.carry_out("## Swarm in ten lines");
    cluster.ready(3);
    cluster.all_reach_all("web", "fleet", 6);
    cluster.manager(&["service", "rm", "web"]);
    cluster.manager(&["rm", "-f", "probe"]);
    cluster.gone("web");
    cluster.manager(&["network", "rm", "fleet"]);
    cluster.nothing_left();
}

/// The engine's own overlay uses the same port, and is left in peace.
fn beside_the_engines_own(cluster: &Cluster) {
    cluster.manager(&["network", "create", "-d", "overlay", "--attachable", "builtin"]);
    cluster.node("one").run_container("here", &["--network", "builtin"]);
    cluster.node("two").run_container("there", &["--network", "builtin"]);
    let there = cluster.node("two").container_addr("there", "builtin").v4.expect("an address").to_string();
    cluster.node("one").ping_soon("here", &there);
    cluster.node("one").docker(&["rm", "-f", "here"]).ok();
    cluster.node("two").docker(&["rm", "-f", "there"]).ok();
    cluster.manager(&["network", "rm", "builtin"]);
}

/// Pontoon's IPAM as well: the manager's side gives out addresses, and each node's takes them.
fn both_of_pontoons(cluster: &Cluster) {
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

/// The same without a Swarm: numbers and peers by hand.
#[test]
fn containers_of_two_plain_engines() {
    let cluster = Cluster::plain(2);
    cluster.carry_out("The same overlay on plain engines");
    // Pontoon remembers, and so does the kernel.
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
