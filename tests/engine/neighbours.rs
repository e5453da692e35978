//! The fast path between containers of a network of one host beside an engine's own rules: they do not close it, and a
//! rule of a user in `DOCKER-USER` does within a second.

use std::time::Duration;

use testkit::Options;
use testkit::testbed::{SOON, Testbed, on_pontoon_with};
use testkit::wait_until;

/// Deadline for a rule to take effect: a second, and what a loaded machine needs to run a command.
const BRIEF: Duration = Duration::from_secs(2);

fn is_open(testbed: &Testbed) -> bool {
    let table = testbed.exec(&["nft", "list", "table", "netdev", "pontoon"]);
    table.success() && table.ok().contains("from a container to its neighbours")
}

#[test]
fn a_rule_in_docker_user_decides_about_neighbours() {
    on_pontoon_with(Options::new(), |testbed| {
        testbed.network("net", &["--subnet", "10.92.0.0/24", "-o", "pontoon.shortcut=auto"]);
        // Rules of another network of the engine, with a published port and masquerading, are about others.
        testbed.run_container("other", &["--network", "bridge", "-p", "8099:80"]);
        testbed.run_container("one", &["--network", "net", "-p", "8098:80", "--ip", "10.92.0.2"]);
        testbed.run_container("two", &["--network", "net", "--ip", "10.92.0.3"]);
        wait_until(SOON, "the fast path beside the engine's rules", || is_open(testbed));
        let pings = || testbed.exec_in("one", &["ping", "-c", "1", "-W", "1", "10.92.0.3"]).success();
        assert!(pings());
        for rule in ["-s 10.92.0.2 -d 10.92.0.3", "-p icmp"] {
            let change = |how: &str| {
                let words = format!("iptables {how} DOCKER-USER {rule} -j DROP");
                testbed.exec(&["sh", "-c", &words]).ok();
            };
            change("-I");
            wait_until(BRIEF, "the rule to decide", || !is_open(testbed) && !pings());
            change("-D");
            wait_until(SOON, "the fast path to return", || is_open(testbed));
            assert!(pings());
        }
    });
}
