//! Containers that are started, stopped, and connected to other networks.

use testkit::{
    testbed::{SOON, Testbed, on_both},
    wait_until,
};

#[test]
fn networks_are_plugged_into_a_running_container() {
    on_both(hot_plug);
}

pub fn hot_plug(testbed: &Testbed) {
    testbed.network("net-a", &["--subnet", "10.85.1.0/24"]);
    testbed.network("net-b", &["--subnet", "10.85.2.0/24", "--ipv6", "--subnet", "fd85:2::/64"]);
    testbed.run_container("one", &["--network", "net-a"]);
    testbed.run_container("at-a", &["--network", "net-a"]);
    testbed.run_container("at-b", &["--network", "net-b"]);
    testbed.docker(&["network", "connect", "--ip", "10.85.2.99", "--ip6", "fd85:2::99", "net-b", "one"]).ok();
    assert_eq!(testbed.links_in("one"), ["eth0", "eth1"]);
    assert_eq!(testbed.members("net-b"), ["at-b", "one"].map(str::to_owned).into());
    for peer in ["at-a", "at-b"] {
        testbed.names("one", "-4", peer);
    }
    testbed.names("one", "-6", "at-b");
    testbed.ping_soon("at-b", "fd85:2::99");
    assert!(testbed.host_pings("10.85.2.99"));

    testbed.docker(&["network", "disconnect", "net-a", "one"]).ok();
    assert_eq!(testbed.links_in("one"), ["eth1"]);
    assert_eq!(testbed.members("net-a"), ["at-a".to_owned()].into());
    testbed.names("one", "-4", "at-b");
    testbed.nameless("one", "at-a");

    // And back, several times.
    for _ in 0..3 {
        testbed.docker(&["network", "connect", "net-a", "one"]).ok();
        testbed.names("one", "-4", "at-a");
        testbed.docker(&["network", "disconnect", "net-b", "one"]).ok();
        testbed.docker(&["network", "connect", "net-b", "one"]).ok();
        testbed.names("one", "-4", "at-b");
        testbed.docker(&["network", "disconnect", "net-a", "one"]).ok();
    }
    testbed.docker(&["network", "disconnect", "net-b", "one"]).ok();
    assert_eq!(testbed.links_in("one"), Vec::<String>::new());
    testbed.docker(&["network", "connect", "net-b", "one"]).ok();
    testbed.names("one", "-6", "at-b");
}

#[test]
fn networks_are_plugged_into_a_stopped_container() {
    on_both(cold_plug);
}

fn cold_plug(testbed: &Testbed) {
    testbed.network("net-a", &[]);
    testbed.network("net-b", &["--subnet", "10.86.2.0/24"]);
    testbed.run_container("at-a", &["--network", "net-a"]);
    testbed.run_container("at-b", &["--network", "net-b"]);
    testbed.docker(&["create", "--name", "one", "--network", "net-a", "busybox"]).ok();
    testbed.docker(&["network", "connect", "--ip", "10.86.2.77", "net-b", "one"]).ok();
    assert!(!testbed.host_pings("10.86.2.77"));
    testbed.docker(&["start", "one"]).ok();
    assert_eq!(testbed.links_in("one").len(), 2);
    for peer in ["at-a", "at-b"] {
        testbed.names("one", "-4", peer);
    }
    testbed.ping_soon("at-b", "10.86.2.77");
    testbed.docker(&["stop", "-t", "5", "one"]).ok();
    testbed.docker(&["network", "disconnect", "net-a", "one"]).ok();
    testbed.docker(&["start", "one"]).ok();
    assert_eq!(testbed.links_in("one").len(), 1);
    testbed.names("one", "-4", "at-b");
    // Its network is removed while it is stopped.
    testbed.docker(&["stop", "-t", "5", "one", "at-b"]).ok();
    testbed.docker(&["network", "rm", "net-b"]).ok();
    testbed.docker(&["start", "one"]).err();
}

#[test]
fn every_way_to_start_and_stop_a_container() {
    on_both(starts_and_stops);
}

fn starts_and_stops(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.87.0.0/24"]);
    testbed.run_container("peer", &["--network", "net"]);
    testbed.run_container("one", &["--network", "net", "--ip", "10.87.0.50"]);
    let reachable = || testbed.ping_soon("peer", "10.87.0.50");
    reachable();
    testbed.docker(&["stop", "-t", "5", "one"]).ok();
    assert!(!testbed.ping("peer", "10.87.0.50"));
    testbed.docker(&["start", "one"]).ok();
    reachable();
    testbed.docker(&["restart", "-t", "5", "one"]).ok();
    reachable();
    testbed.docker(&["kill", "one"]).ok();
    wait_until(SOON, "the end of the container", || testbed.inspect("one")["State"]["Running"] == false);
    testbed.docker(&["start", "one"]).ok();
    reachable();
    testbed.docker(&["pause", "one"]).ok();
    testbed.docker(&["unpause", "one"]).ok();
    reachable();
    testbed.docker(&["rm", "-f", "one"]).ok();
    assert!(!testbed.ping("peer", "10.87.0.50"));
    testbed.run_container("one", &["--network", "net", "--ip", "10.87.0.50"]);
    reachable();
    // A missing program.
    testbed.docker(&["run", "--name", "none", "--network", "net", "--ip", "10.87.0.51", "busybox", "/none"]).err();
    testbed.run_container("some", &["--network", "net", "--ip", "10.87.0.51"]);
    testbed.names("peer", "-4", "some");
    // And one that ends at once.
    assert_eq!(testbed.docker(&["run", "--rm", "--network", "net", "busybox", "echo", "hello"]).ok(), "hello");
}

#[test]
fn a_killed_container_is_restarted() {
    on_both(restart_policy);
}

fn restart_policy(testbed: &Testbed) {
    testbed.network("net", &[]);
    testbed.run_container("peer", &["--network", "net"]);
    testbed.run_container("one", &["--network", "net", "--restart", "always"]);
    for _ in 0..2 {
        let old = testbed.inspect("one")["State"]["Pid"].clone();
        testbed.exec(&["kill", "-KILL", &old.to_string()]).ok();
        wait_until(SOON, "a restart", || {
            let state = &testbed.inspect("one")["State"];
            state["Running"] == true && state["Pid"] != old
        });
        testbed.names("peer", "-4", "one");
        testbed.names("one", "-4", "peer");
    }
}

#[test]
fn shared_and_host_namespaces_are_unaffected() {
    on_both(namespaces);
}

fn namespaces(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.88.0.0/24"]);
    testbed.run_container("one", &["--network", "net", "--ip", "10.88.0.11"]);
    testbed.run_container("peer", &["--network", "net"]);
    testbed.run_container("sharer", &["--network", "container:one"]);
    assert!(testbed.exec_in("sharer", &["ip", "address"]).ok().contains("10.88.0.11/24"));
    testbed.names("sharer", "-4", "peer");
    testbed.serve("sharer", 8080);
    testbed.gets("peer", "10.88.0.11:8080");
    testbed.docker(&["rm", "-f", "sharer"]).ok();
    testbed.ping_soon("peer", "10.88.0.11");

    testbed.run_container("hosts", &["--network", "host"]);
    testbed.run_container("alone", &["--network", "none"]);
    assert!(testbed.ping("hosts", "10.88.0.11"), "from the host's namespace");
    assert_eq!(testbed.links_in("alone"), Vec::<String>::new());
    assert!(!testbed.ping("alone", "10.88.0.11"));
}
