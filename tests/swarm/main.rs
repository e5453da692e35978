//! Three engines, a Swarm, and Pontoon between them: the commands of docs/swarm.md as they stand
//! there, and after each part every task asked by every other.

#[path = "../support/mod.rs"]
mod support;

mod fleet;

use std::time::Duration;

use fleet::Fleet;
use support::Signal;

/// From three machines to a service, through everything that may happen to it, to nothing.
#[test]
fn a_service_across_nodes() {
    let mut fleet = Fleet::up();
    fleet.carry_out("Make a network on a manager");
    fleet.all_reach_all("web", 6);
    fleet.carry_out("Scale it");
    fleet.all_reach_all("web", 9);

    // A worker's engine dies with all its tasks, which come back, on the same network.
    let three = fleet.node("three");
    let [links] = [fleet.tunnels("three")];
    assert_eq!(links.len(), usize::from(fleet.tasks_on("three", "web") > 0), "{links:?}");
    three.stop_dockerd(Signal::Kill);
    three.start_dockerd();
    fleet.ready(3);
    fleet.all_reach_all("web", 9);

    // Every task anew, on the addresses of those before.
    fleet.manager(&["service", "update", "--detach", "--force", "--update-parallelism", "0", "web"]);
    fleet.settled("web", Duration::from_secs(60));
    fleet.all_reach_all("web", 9);

    fleet.carry_out("And take it down");
    fleet.nothing_left();
}
