//! Three engines, a Swarm, and Pontoon between them: the commands of docs/swarm.md as they stand
//! there, and after each part every task asked by every other.

#[path = "../support/mod.rs"]
mod support;

mod compose;
mod doctor;
mod faults;
mod fleet;
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

use fleet::Fleet;
use support::{Options, Signal};

/// From three machines to a service, through everything that may happen to it, to nothing.
#[test]
fn a_service_across_nodes() {
    let fleet = Fleet::up();
    fleet.carry_out("Make a network on a manager");
    fleet.all_reach_all("web", "fleet", 6);
    fleet.carry_out("Scale it");
    fleet.all_reach_all("web", "fleet", 9);

    beside_the_engines_own(&fleet);
    multicast::in_a_swarm(&fleet);
    doctor::in_a_swarm(&fleet);

    // A worker's engine dies with all its tasks, which come back, on the same network.
    let three = fleet.node("three");
    assert_eq!(fleet.tunnels("three").len(), usize::from(fleet.tasks_on("three", "web") > 0));
    three.kill_dockerd();
    fleet.revive("three", 3);
    fleet.all_reach_all("web", "fleet", 9);

    // Every task anew, on the addresses of those before.
    fleet.manager(&["service", "update", "--detach", "--force", "--update-parallelism", "0", "web"]);
    fleet.settled("web", Duration::from_secs(60));
    fleet.all_reach_all("web", "fleet", 9);

    both_of_pontoons(&fleet);
    fleet.carry_out("Take it down");
    fleet.nothing_left();
}

/// What docs/quick-start.md promises.
#[test]
fn a_swarm_in_ten_lines() {
    let mut fleet = Fleet::machines(3, &Options::new());
    fleet.turn_to("quick-start");
    fleet.carry_out("## Swarm in ten lines");
    fleet.ready(3);
    fleet.all_reach_all("web", "fleet", 6);
    fleet.manager(&["service", "rm", "web"]);
    fleet.manager(&["rm", "-f", "probe"]);
    fleet.gone("web");
    fleet.manager(&["network", "rm", "fleet"]);
    fleet.nothing_left();
}

/// The engine's own overlay uses the same port, and is left in peace.
fn beside_the_engines_own(fleet: &Fleet) {
    fleet.manager(&["network", "create", "-d", "overlay", "--attachable", "builtin"]);
    fleet.node("one").run_container("here", &["--network", "builtin"]);
    fleet.node("two").run_container("there", &["--network", "builtin"]);
    let there = fleet.node("two").container_addr("there", "builtin").v4.expect("an address").to_string();
    fleet.node("one").ping_soon("here", &there);
    fleet.node("one").docker(&["rm", "-f", "here"]).ok();
    fleet.node("two").docker(&["rm", "-f", "there"]).ok();
    fleet.manager(&["network", "rm", "builtin"]);
}

/// Pontoon's IPAM as well: the manager's side gives out addresses, and each node's takes them.
fn both_of_pontoons(fleet: &Fleet) {
    let (driver, own) = ("pontoon:latest", ["service", "create", "--detach", "--name", "own", "--network", "own"]);
    fleet.manager(&["network", "create", "-d", driver, "--ipam-driver", driver, "own"]);
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
    fleet.manager(&[&own[..], &more].concat());
    fleet.all_reach_all("own", "own", 4);
    fleet.manager(&["service", "rm", "own"]);
    fleet.gone("own");
    fleet.manager(&["network", "rm", "own"]);
}

/// The same without a Swarm: numbers and peers by hand.
#[test]
fn containers_of_two_plain_engines() {
    let fleet = Fleet::plain(2);
    fleet.carry_out("The same overlay on plain engines");
    // Pontoon remembers, and so does the kernel.
    for name in ["one", "two"] {
        fleet.node(name).kill_pontoon(Signal::Kill);
        fleet.node(name).exec(&["ip", "link", "del", &fleet.tunnels(name)[0]]).ok();
        fleet.node(name).start_pontoon(&fleet::built("pontoon"), &[]);
        assert_eq!(fleet.tunnels(name).len(), 1);
    }
    fleet.node("one").ping_soon("probe", "10.9.0.80");
    multicast::between_plain_engines(&fleet);
    for name in ["one", "two"] {
        fleet.node(name).docker(&["rm", "-f", "probe", "web"]);
        fleet.node(name).docker(&["network", "rm", "fleet"]).ok();
    }
    fleet.nothing_left();
}
