//! Changes while Pontoon was down.

use std::time::Duration;

use testkit::{
    Signal,
    testbed::{Testbed, binary, on_pontoon, traces},
    wait_until,
};

#[test]
fn objects_removed_during_an_outage_are_cleaned_up() {
    on_pontoon(removed);
}

/// The engine gives up after 45 seconds and drops the container.
fn removed(testbed: &Testbed) {
    testbed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.116.0.0/24"]);
    testbed.run_container("two", &["--network", "net"]);
    let before = traces(testbed);
    testbed.run_container("one", &["--network", "net", "--ip", "10.116.0.11"]);
    testbed.kill_pontoon(Signal::Kill);
    testbed.docker_within(Duration::from_secs(100), &["rm", "-f", "one"]).ok();
    testbed.docker(&["inspect", "one"]).err();
    testbed.start_pontoon(&binary(), &[]);
    // The endpoint may be one whose container is about to start, for two minutes after it joined.
    wait_until(Duration::from_secs(180), "the endpoint to be removed", || traces(testbed) == before);
    testbed.run_container("one", &["--network", "net", "--ip", "10.116.0.11"]);
    testbed.names("two", "-4", "one");
}

#[test]
fn a_lost_link_affects_only_its_endpoint() {
    on_pontoon(vanished);
}

fn vanished(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.117.0.0/24"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.run_container("three", &["--network", "net"]);
    let before = traces(testbed);
    testbed.run_container("one", &["--network", "net"]);
    let host: Vec<_> = traces(testbed).difference(&before).filter(|trace| trace.starts_with("pnth")).cloned().collect();
    assert_eq!(host.len(), 1, "{host:?}");
    testbed.kill_pontoon(Signal::Kill);
    testbed.exec(&["ip", "link", "delete", &host[0]]).ok();
    testbed.start_pontoon(&binary(), &[]);
    testbed.names("two", "-4", "three");
    testbed.docker(&["restart", "-t", "5", "one"]).ok();
    testbed.names("two", "-4", "one");
    // And while Pontoon runs.
    let host: Vec<_> = traces(testbed).difference(&before).filter(|trace| trace.starts_with("pnth")).cloned().collect();
    testbed.exec(&["ip", "link", "delete", &host[0]]).ok();
    testbed.docker(&["rm", "-f", "one"]).ok();
    testbed.expect_traces(&before);
}

#[test]
fn a_deleted_bridge_is_restored_with_its_ports() {
    on_pontoon(bridge);
}

fn bridge(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.118.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    let name = || traces(testbed).into_iter().find(|trace| trace.starts_with("pntb"));
    let bridge = name().expect("a bridge");
    testbed.exec(&["ip", "link", "delete", &bridge]).ok();
    testbed.names("one", "-4", "two");
    testbed.ping_soon("one", "10.118.0.1");
    testbed.exec(&["ip", "address", "flush", "dev", &bridge]).ok();
    testbed.ping_soon("one", "10.118.0.1");
    testbed.exec(&["ip", "link", "set", &bridge, "down"]).ok();
    testbed.names("one", "-4", "two");
    // And while Pontoon is down.
    testbed.kill_pontoon(Signal::Kill);
    testbed.exec(&["ip", "link", "delete", &bridge]).ok();
    testbed.start_pontoon(&binary(), &[]);
    testbed.names("one", "-4", "two");
    testbed.ping_soon("one", "10.118.0.1");
}
