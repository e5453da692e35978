//! Ends and new lives: Pontoon's, the engine's, the host's.

use std::time::{Duration, Instant};

use crate::{
    bed::{Bed, SOON, binary, on_both_with, on_pontoon, traces},
    stream::Stream,
    support::{Options, Signal, wait_until},
};

#[test]
fn a_crash_of_pontoon_is_not_felt() {
    on_pontoon(crash);
}

fn crash(bed: &Bed) {
    bed.network("net", &["--subnet", "10.111.0.0/24", "--ipv6", "--subnet", "fdb1::/64", "--ipam-driver", "pontoon"]);
    for name in ["one", "two", "three"] {
        bed.run_container(name, &["--network", "net"]);
    }
    let address = bed.container_addr("two", "net");
    let four = Stream::start(bed, "one", &address.v4.expect("an address").to_string());
    let six = Stream::start(bed, "three", &address.v6.expect("an address").to_string());
    let running = traces(bed);
    for signal in [Signal::Kill, Signal::Term, Signal::Kill] {
        let began = Instant::now();
        bed.kill_pontoon(signal);
        assert!(began.elapsed() < Duration::from_secs(1), "it ends at once");
        four.goes_on(bed);
        bed.start_pontoon(&binary(), &[]);
        assert_eq!(traces(bed), running);
        six.goes_on(bed);
    }
    four.lost_nothing(bed);
    six.lost_nothing(bed);

    // the next life has taken everything over
    bed.network("late", &["--ipam-driver", "pontoon"]);
    bed.docker(&["network", "connect", "late", "one"]).ok();
    bed.run_container("four", &["--network", "late"]);
    bed.names("one", "-4", "four");
    bed.docker(&["network", "disconnect", "net", "one"]).ok();
    bed.docker(&["network", "connect", "net", "one"]).ok();
    bed.docker(&["restart", "-t", "5", "two"]).ok();
    bed.docker(&["stop", "-t", "5", "three"]).ok();
    bed.names("one", "-4", "two");
    bed.names("one", "-6", "two");
    bed.run_container("five", &["--network", "net"]);
    let addresses: std::collections::BTreeSet<_> =
        ["one", "two", "five"].map(|name| bed.container_addr(name, "net").v4).into();
    assert_eq!(addresses.len(), 3, "no address is given twice");
}

#[test]
fn an_engines_restart_brings_containers_back() {
    on_both_with(Options::new(), engine);
}

pub fn engine(bed: &Bed) {
    bed.network("net", &["--subnet", "10.112.0.0/24"]);
    bed.network("second", &["--subnet", "10.112.1.0/24"]);
    bed.run_container("one", &["--network", "net", "--restart", "always", "--ip", "10.112.0.11"]);
    bed.docker(&["network", "connect", "second", "one"]).ok();
    bed.run_container("two", &["--network", "net", "--restart", "always"]);
    bed.run_container("three", &["--network", "second", "--restart", "always"]);
    bed.run_container("never", &["--network", "net"]);
    let before = traces(bed).len();
    for signal in [Signal::Term, Signal::Kill, Signal::Term] {
        bed.restart_dockerd(signal);
        for name in ["one", "two", "three"] {
            wait_until(SOON, name, || bed.inspect(name)["State"]["Running"] == true);
        }
        bed.names("one", "-4", "two");
        bed.names("one", "-4", "three");
        bed.ping_soon("two", "10.112.0.11");
        wait_until(SOON, "the other to stay down", || bed.inspect("never")["State"]["Running"] == false);
        bed.docker(&["start", "never"]).ok();
        bed.names("never", "-4", "one");
        wait_until(SOON, "nothing to be left of the earlier life", || traces(bed).len() == before);
    }
    bed.docker(&["rm", "-f", "two"]).ok();
    bed.docker(&["network", "disconnect", "net", "one"]).ok();
    bed.names("one", "-4", "three");
}

#[test]
fn live_restored_containers_feel_nothing() {
    on_both_with(Options::new().flag("--live-restore"), live_restore);
}

pub fn live_restore(bed: &Bed) {
    bed.network("net", &["--subnet", "10.113.0.0/24"]);
    bed.network("second", &[]);
    bed.run_container("one", &["--network", "net"]);
    bed.run_container("two", &["--network", "net"]);
    let two = bed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = Stream::start(bed, "one", &two);
    let pid = bed.inspect("one")["State"]["Pid"].clone();
    for signal in [Signal::Term, Signal::Kill] {
        bed.restart_dockerd(signal);
        assert_eq!(bed.inspect("one")["State"]["Pid"], pid);
        stream.goes_on(bed);
    }
    // some engines write the built-in driver's rules anew
    if bed.is_pontoon() {
        stream.lost_nothing(bed);
    }
    // and they are the engine's and ours as before
    bed.run_container("three", &["--network", "net"]);
    bed.names("one", "-4", "three");
    bed.docker(&["network", "connect", "second", "one"]).ok();
    bed.docker(&["network", "disconnect", "net", "one"]).ok();
    assert_eq!(bed.links_in("one").len(), 1);
    bed.docker(&["restart", "-t", "5", "two"]).ok();
    bed.names("three", "-4", "two");
}

#[test]
fn a_reboot_rebuilds_the_networks_first() {
    let node = Options::new().up();
    let bed = Bed::new(&node, "bridge");
    before_reboot(&bed);
    node.reboot();
    after_reboot(&bed);
    bed.sweep();
    node.start_pontoon(&binary(), &[]);
    let bed = Bed::new(&node, "pontoon");
    before_reboot(&bed);
    // orderly, and the plug pulled
    for orderly in [true, false] {
        if orderly {
            node.stop_dockerd(Signal::Term);
        }
        node.reboot_bare();
        node.start_pontoon(&binary(), &[]);
        assert!(traces(&node).iter().any(|trace| trace.starts_with("pntb")), "the bridges are there before the engine");
        node.start_dockerd();
        after_reboot(&bed);
    }
    bed.docker(&["rm", "-f", "one", "two"]).ok();
    bed.sweep();
}

pub fn before_reboot(bed: &Bed) {
    let ipam = if bed.is_pontoon() { bed.driver } else { "default" };
    let subnets = ["--subnet", "10.114.0.0/24", "--ipv6", "--subnet", "fdb4::/64"];
    bed.network("net", &[&["--ipam-driver", ipam][..], &subnets].concat());
    bed.network("empty", &["--ipam-driver", ipam, "--subnet", "10.115.0.0/24"]);
    bed.run_container("one", &["--network", "net", "--restart", "always", "--ip", "10.114.0.11"]);
    bed.run_container("two", &["--network", "net", "--restart", "always"]);
    bed.names("one", "-4", "two");
}

pub fn after_reboot(bed: &Bed) {
    for name in ["one", "two"] {
        wait_until(SOON, name, || bed.inspect(name)["State"]["Running"] == true);
    }
    bed.names("one", "-4", "two");
    bed.names("two", "-6", "one");
    bed.ping_soon("two", "10.114.0.11");
    bed.ping_soon("one", "10.114.0.1");
    bed.run_container("three", &["--network", "empty"]);
    bed.ping_soon("three", "10.115.0.1");
    bed.run_container("four", &["--network", "net"]);
    bed.names("four", "-4", "one");
    let (one, two) = (bed.container_addr("one", "net").v4, bed.container_addr("two", "net").v4);
    assert!(one != two && bed.container_addr("four", "net").v4 != two, "no address is given twice");
    bed.docker(&["rm", "-f", "three", "four"]).ok();
}
