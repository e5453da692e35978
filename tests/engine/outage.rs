//! While Pontoon was away.

use std::time::Duration;

use crate::{
    bed::{Bed, binary, on_pontoon, traces},
    support::Signal,
};

#[test]
fn what_was_removed_meanwhile_is_cleaned_up() {
    on_pontoon(removed);
}

/// The engine gives up after 45 seconds and forgets the container.
fn removed(bed: &Bed) {
    bed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.116.0.0/24"]);
    bed.run_container("two", &["--network", "net"]);
    let before = traces(bed);
    bed.run_container("one", &["--network", "net", "--ip", "10.116.0.11"]);
    bed.kill_pontoon(Signal::Kill);
    bed.docker_within(Duration::from_secs(100), &["rm", "-f", "one"]).ok();
    bed.docker(&["inspect", "one"]).err();
    bed.start_pontoon(&binary(), &[]);
    bed.expect_traces(&before);
    bed.run_container("one", &["--network", "net"]);
    bed.names("two", "-4", "one");
}

#[test]
fn a_link_that_vanished_meanwhile_harms_nobody_else() {
    on_pontoon(vanished);
}

fn vanished(bed: &Bed) {
    bed.network("net", &["--subnet", "10.117.0.0/24"]);
    bed.run_container("two", &["--network", "net"]);
    bed.run_container("three", &["--network", "net"]);
    let before = traces(bed);
    bed.run_container("one", &["--network", "net"]);
    let host: Vec<_> = traces(bed).difference(&before).filter(|trace| trace.starts_with("pnth")).cloned().collect();
    assert_eq!(host.len(), 1, "{host:?}");
    bed.kill_pontoon(Signal::Kill);
    bed.exec(&["ip", "link", "delete", &host[0]]).ok();
    bed.start_pontoon(&binary(), &[]);
    bed.names("two", "-4", "three");
    bed.docker(&["restart", "-t", "5", "one"]).ok();
    bed.names("two", "-4", "one");
    // and while it runs
    let host: Vec<_> = traces(bed).difference(&before).filter(|trace| trace.starts_with("pnth")).cloned().collect();
    bed.exec(&["ip", "link", "delete", &host[0]]).ok();
    bed.docker(&["rm", "-f", "one"]).ok();
    bed.expect_traces(&before);
}

#[test]
fn a_bridge_that_was_deleted_comes_back_with_its_ports() {
    on_pontoon(bridge);
}

fn bridge(bed: &Bed) {
    bed.network("net", &["--subnet", "10.118.0.0/24"]);
    bed.run_container("one", &["--network", "net"]);
    bed.run_container("two", &["--network", "net"]);
    let name = || traces(bed).into_iter().find(|trace| trace.starts_with("pntb"));
    let bridge = name().expect("a bridge");
    bed.exec(&["ip", "link", "delete", &bridge]).ok();
    bed.names("one", "-4", "two");
    bed.ping_soon("one", "10.118.0.1");
    bed.exec(&["ip", "address", "flush", "dev", &bridge]).ok();
    bed.ping_soon("one", "10.118.0.1");
    bed.exec(&["ip", "link", "set", &bridge, "down"]).ok();
    bed.names("one", "-4", "two");
    // and while nobody looks
    bed.kill_pontoon(Signal::Kill);
    bed.exec(&["ip", "link", "delete", &bridge]).ok();
    bed.start_pontoon(&binary(), &[]);
    bed.names("one", "-4", "two");
    bed.ping_soon("one", "10.118.0.1");
}
