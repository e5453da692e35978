//! Containers that come, go and change their networks.

use crate::{
    bed::{Bed, SOON, on_both},
    support::wait_until,
};

#[test]
fn networks_are_plugged_into_a_running_container() {
    on_both(hot_plug);
}

pub fn hot_plug(bed: &Bed) {
    bed.network("net-a", &["--subnet", "10.85.1.0/24"]);
    bed.network("net-b", &["--subnet", "10.85.2.0/24", "--ipv6", "--subnet", "fd85:2::/64"]);
    bed.run_container("one", &["--network", "net-a"]);
    bed.run_container("at-a", &["--network", "net-a"]);
    bed.run_container("at-b", &["--network", "net-b"]);
    bed.docker(&["network", "connect", "--ip", "10.85.2.99", "--ip6", "fd85:2::99", "net-b", "one"]).ok();
    assert_eq!(bed.links_in("one"), ["eth0", "eth1"]);
    assert_eq!(bed.members("net-b"), ["at-b", "one"].map(str::to_owned).into());
    for peer in ["at-a", "at-b"] {
        bed.names("one", "-4", peer);
    }
    bed.names("one", "-6", "at-b");
    bed.ping_soon("at-b", "fd85:2::99");
    assert!(bed.host_pings("10.85.2.99"));

    bed.docker(&["network", "disconnect", "net-a", "one"]).ok();
    assert_eq!(bed.links_in("one"), ["eth1"]);
    assert_eq!(bed.members("net-a"), ["at-a".to_owned()].into());
    bed.names("one", "-4", "at-b");
    bed.nameless("one", "at-a");

    // and back, several times
    for _ in 0..3 {
        bed.docker(&["network", "connect", "net-a", "one"]).ok();
        bed.names("one", "-4", "at-a");
        bed.docker(&["network", "disconnect", "net-b", "one"]).ok();
        bed.docker(&["network", "connect", "net-b", "one"]).ok();
        bed.names("one", "-4", "at-b");
        bed.docker(&["network", "disconnect", "net-a", "one"]).ok();
    }
    bed.docker(&["network", "disconnect", "net-b", "one"]).ok();
    assert_eq!(bed.links_in("one"), Vec::<String>::new());
    bed.docker(&["network", "connect", "net-b", "one"]).ok();
    bed.names("one", "-6", "at-b");
}

#[test]
fn networks_are_plugged_into_a_stopped_container() {
    on_both(cold_plug);
}

fn cold_plug(bed: &Bed) {
    bed.network("net-a", &[]);
    bed.network("net-b", &["--subnet", "10.86.2.0/24"]);
    bed.run_container("at-a", &["--network", "net-a"]);
    bed.run_container("at-b", &["--network", "net-b"]);
    bed.docker(&["create", "--name", "one", "--network", "net-a", "busybox"]).ok();
    bed.docker(&["network", "connect", "--ip", "10.86.2.77", "net-b", "one"]).ok();
    assert!(!bed.host_pings("10.86.2.77"));
    bed.docker(&["start", "one"]).ok();
    assert_eq!(bed.links_in("one").len(), 2);
    for peer in ["at-a", "at-b"] {
        bed.names("one", "-4", peer);
    }
    bed.ping_soon("at-b", "10.86.2.77");
    bed.docker(&["stop", "-t", "5", "one"]).ok();
    bed.docker(&["network", "disconnect", "net-a", "one"]).ok();
    bed.docker(&["start", "one"]).ok();
    assert_eq!(bed.links_in("one").len(), 1);
    bed.names("one", "-4", "at-b");
    // its network goes while it is stopped
    bed.docker(&["stop", "-t", "5", "one", "at-b"]).ok();
    bed.docker(&["network", "rm", "net-b"]).ok();
    bed.docker(&["start", "one"]).err();
}

#[test]
fn a_container_starts_and_stops_in_every_way() {
    on_both(lives);
}

fn lives(bed: &Bed) {
    bed.network("net", &["--subnet", "10.87.0.0/24"]);
    bed.run_container("peer", &["--network", "net"]);
    bed.run_container("one", &["--network", "net", "--ip", "10.87.0.50"]);
    let reachable = || bed.ping_soon("peer", "10.87.0.50");
    reachable();
    bed.docker(&["stop", "-t", "5", "one"]).ok();
    assert!(!bed.ping("peer", "10.87.0.50"));
    bed.docker(&["start", "one"]).ok();
    reachable();
    bed.docker(&["restart", "-t", "5", "one"]).ok();
    reachable();
    bed.docker(&["kill", "one"]).ok();
    wait_until(SOON, "its end", || bed.inspect("one")["State"]["Running"] == false);
    bed.docker(&["start", "one"]).ok();
    reachable();
    bed.docker(&["pause", "one"]).ok();
    bed.docker(&["unpause", "one"]).ok();
    reachable();
    bed.docker(&["rm", "-f", "one"]).ok();
    assert!(!bed.ping("peer", "10.87.0.50"));
    bed.run_container("one", &["--network", "net", "--ip", "10.87.0.50"]);
    reachable();
    // a program that is not there
    bed.docker(&["run", "--name", "none", "--network", "net", "--ip", "10.87.0.51", "busybox", "/none"]).err();
    bed.run_container("some", &["--network", "net", "--ip", "10.87.0.51"]);
    bed.names("peer", "-4", "some");
    // and one that ends at once
    assert_eq!(bed.docker(&["run", "--rm", "--network", "net", "busybox", "echo", "hello"]).ok(), "hello");
}

#[test]
fn a_killed_container_restarts_by_itself() {
    on_both(restart_policy);
}

fn restart_policy(bed: &Bed) {
    bed.network("net", &[]);
    bed.run_container("peer", &["--network", "net"]);
    bed.run_container("one", &["--network", "net", "--restart", "always"]);
    for _ in 0..2 {
        let old = bed.inspect("one")["State"]["Pid"].clone();
        bed.exec(&["kill", "-KILL", &old.to_string()]).ok();
        wait_until(SOON, "another life", || {
            let state = &bed.inspect("one")["State"];
            state["Running"] == true && state["Pid"] != old
        });
        bed.names("peer", "-4", "one");
        bed.names("one", "-4", "peer");
    }
}

#[test]
fn shared_and_foreign_namespaces_are_left_alone() {
    on_both(namespaces);
}

fn namespaces(bed: &Bed) {
    bed.network("net", &["--subnet", "10.88.0.0/24"]);
    bed.run_container("one", &["--network", "net", "--ip", "10.88.0.11"]);
    bed.run_container("peer", &["--network", "net"]);
    bed.run_container("sharer", &["--network", "container:one"]);
    assert!(bed.exec_in("sharer", &["ip", "address"]).ok().contains("10.88.0.11/24"));
    bed.names("sharer", "-4", "peer");
    bed.serve("sharer", 8080);
    bed.gets("peer", "10.88.0.11:8080");
    bed.docker(&["rm", "-f", "sharer"]).ok();
    bed.ping_soon("peer", "10.88.0.11");

    bed.run_container("hosts", &["--network", "host"]);
    bed.run_container("alone", &["--network", "none"]);
    assert!(bed.ping("hosts", "10.88.0.11"), "as the host itself");
    assert_eq!(bed.links_in("alone"), Vec::<String>::new());
    assert!(!bed.ping("alone", "10.88.0.11"));
}
