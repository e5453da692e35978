//! Restarts of Pontoon, of the engine and of the host.

use std::time::{Duration, Instant};

use crate::stream::Stream;
use testkit::{
    Options, Signal,
    testbed::{SOON, Testbed, binary, on_both_with, on_pontoon, traces},
    wait_until,
};

#[test]
fn a_crash_of_pontoon_loses_no_packets() {
    on_pontoon(crash);
}

fn crash(testbed: &Testbed) {
    testbed
        .network("net", &["--subnet", "10.111.0.0/24", "--ipv6", "--subnet", "fdb1::/64", "--ipam-driver", "pontoon"]);
    for name in ["one", "two", "three"] {
        testbed.run_container(name, &["--network", "net"]);
    }
    let address = testbed.container_addr("two", "net");
    let four = Stream::start(testbed, "one", &address.v4.expect("an address").to_string());
    let six = Stream::start(testbed, "three", &address.v6.expect("an address").to_string());
    let running = traces(testbed);
    for signal in [Signal::Kill, Signal::Term, Signal::Kill] {
        let began = Instant::now();
        testbed.kill_pontoon(signal);
        // The engine keeps its connections open. The server waits for requests under way, for 10 s at most, not for them.
        assert!(began.elapsed() < Duration::from_secs(10), "the process ends without waiting for idle clients");
        four.assert_continues(testbed);
        testbed.start_pontoon(&binary(), &[]);
        assert_eq!(traces(testbed), running);
        six.assert_continues(testbed);
    }
    four.lost_nothing(testbed);
    six.lost_nothing(testbed);

    // The next process has adopted everything.
    testbed.network("late", &["--ipam-driver", "pontoon"]);
    testbed.docker(&["network", "connect", "late", "one"]).ok();
    testbed.run_container("four", &["--network", "late"]);
    testbed.names("one", "-4", "four");
    testbed.docker(&["network", "disconnect", "net", "one"]).ok();
    testbed.docker(&["network", "connect", "net", "one"]).ok();
    testbed.docker(&["restart", "-t", "5", "two"]).ok();
    testbed.docker(&["stop", "-t", "5", "three"]).ok();
    testbed.names("one", "-4", "two");
    testbed.names("one", "-6", "two");
    testbed.run_container("five", &["--network", "net"]);
    let addresses: std::collections::BTreeSet<_> =
        ["one", "two", "five"].map(|name| testbed.container_addr(name, "net").v4).into();
    assert_eq!(addresses.len(), 3, "an address was assigned twice");
}

#[test]
fn a_restart_of_the_engine_restarts_its_containers() {
    on_both_with(Options::new(), engine);
}

pub fn engine(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.112.0.0/24"]);
    testbed.network("second", &["--subnet", "10.112.1.0/24"]);
    testbed.run_container("one", &["--network", "net", "--restart", "always", "--ip", "10.112.0.11"]);
    testbed.docker(&["network", "connect", "second", "one"]).ok();
    testbed.run_container("two", &["--network", "net", "--restart", "always"]);
    testbed.run_container("three", &["--network", "second", "--restart", "always"]);
    testbed.run_container("never", &["--network", "net"]);
    let before = traces(testbed).len();
    for signal in [Signal::Term, Signal::Kill, Signal::Term] {
        testbed.restart_dockerd(signal);
        for name in ["one", "two", "three"] {
            wait_until(SOON, name, || testbed.inspect(name)["State"]["Running"] == true);
        }
        testbed.names("one", "-4", "two");
        testbed.names("one", "-4", "three");
        testbed.ping_soon("two", "10.112.0.11");
        wait_until(SOON, "the other container to stay down", || testbed.inspect("never")["State"]["Running"] == false);
        testbed.docker(&["start", "never"]).ok();
        testbed.names("never", "-4", "one");
        wait_until(SOON, "leftovers to be removed", || traces(testbed).len() == before);
    }
    testbed.docker(&["rm", "-f", "two"]).ok();
    testbed.docker(&["network", "disconnect", "net", "one"]).ok();
    testbed.names("one", "-4", "three");
}

#[test]
fn live_restored_containers_lose_no_packets() {
    on_both_with(Options::new().flag("--live-restore"), live_restore);
}

pub fn live_restore(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.113.0.0/24"]);
    testbed.network("second", &[]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    let two = testbed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = Stream::start(testbed, "one", &two);
    let pid = testbed.inspect("one")["State"]["Pid"].clone();
    for signal in [Signal::Term, Signal::Kill] {
        testbed.restart_dockerd(signal);
        assert_eq!(testbed.inspect("one")["State"]["Pid"], pid);
        stream.assert_continues(testbed);
    }
    // Some engines rewrite the built-in driver's rules.
    if testbed.is_pontoon() {
        stream.lost_nothing(testbed);
    }
    // Engine and Pontoon still manage them.
    testbed.run_container("three", &["--network", "net"]);
    testbed.names("one", "-4", "three");
    testbed.docker(&["network", "connect", "second", "one"]).ok();
    testbed.docker(&["network", "disconnect", "net", "one"]).ok();
    assert_eq!(testbed.links_in("one").len(), 1);
    testbed.docker(&["restart", "-t", "5", "two"]).ok();
    testbed.names("three", "-4", "two");
}

#[test]
fn a_reboot_rebuilds_the_networks_first() {
    let node = Options::new().up();
    let testbed = Testbed::new(&node, "bridge");
    before_reboot(&testbed);
    node.reboot();
    after_reboot(&testbed);
    testbed.sweep();
    node.start_pontoon(&binary(), &[]);
    let testbed = Testbed::new(&node, "pontoon");
    before_reboot(&testbed);
    // An orderly reboot, and a power cut.
    for orderly in [true, false] {
        if orderly {
            node.stop_dockerd(Signal::Term);
        }
        node.reboot_bare();
        node.start_pontoon(&binary(), &[]);
        assert!(
            traces(&node).iter().any(|trace| trace.starts_with("pntb")),
            "the bridges do not exist before the engine starts"
        );
        node.start_dockerd();
        after_reboot(&testbed);
    }
    testbed.docker(&["rm", "-f", "one", "two"]).ok();
    testbed.sweep();
}

pub fn before_reboot(testbed: &Testbed) {
    let ipam = if testbed.is_pontoon() { testbed.driver } else { "default" };
    let subnets = ["--subnet", "10.114.0.0/24", "--ipv6", "--subnet", "fdb4::/64"];
    testbed.network("net", &[&["--ipam-driver", ipam][..], &subnets].concat());
    testbed.network("empty", &["--ipam-driver", ipam, "--subnet", "10.115.0.0/24"]);
    testbed.run_container("one", &["--network", "net", "--restart", "always", "--ip", "10.114.0.11"]);
    testbed.run_container("two", &["--network", "net", "--restart", "always"]);
    testbed.names("one", "-4", "two");
}

pub fn after_reboot(testbed: &Testbed) {
    for name in ["one", "two"] {
        wait_until(SOON, name, || testbed.inspect(name)["State"]["Running"] == true);
    }
    testbed.names("one", "-4", "two");
    testbed.names("two", "-6", "one");
    testbed.ping_soon("two", "10.114.0.11");
    testbed.ping_soon("one", "10.114.0.1");
    testbed.run_container("three", &["--network", "empty"]);
    testbed.ping_soon("three", "10.115.0.1");
    testbed.run_container("four", &["--network", "net"]);
    testbed.names("four", "-4", "one");
    let (one, two) = (testbed.container_addr("one", "net").v4, testbed.container_addr("two", "net").v4);
    assert!(one != two && testbed.container_addr("four", "net").v4 != two, "an address was assigned twice");
    testbed.docker(&["rm", "-f", "three", "four"]).ok();
}
