//! Who must not reach whom.

use crate::{
    support::{Address, Options, Segment},
    testbed::{Testbed, on_both},
};

#[test]
fn two_networks_are_two_segments() {
    on_both(apart);
}

fn apart(testbed: &Testbed) {
    testbed.network("net-a", &["--subnet", "10.96.1.0/24", "--ipv6", "--subnet", "fd96:1::/64"]);
    testbed.network("net-b", &["--subnet", "10.96.2.0/24", "--ipv6", "--subnet", "fd96:2::/64"]);
    testbed.run_container("at-a", &["--network", "net-a"]);
    testbed.run_container("at-b", &["--network", "net-b"]);
    testbed.run_container("both", &["--network", "net-a"]);
    testbed.docker(&["network", "connect", "net-b", "both"]).ok();
    for one in ["at-a", "at-b"] {
        testbed.names("both", "-4", one);
        testbed.names("both", "-6", one);
    }
    closed(testbed, "at-a", "at-b", &testbed.container_addr("at-b", "net-b"));
    closed(testbed, "at-b", "at-a", &testbed.container_addr("at-a", "net-a"));
    closed(testbed, "at-a", "both", &testbed.container_addr("both", "net-b"));
    closed(testbed, "at-b", "both", &testbed.container_addr("both", "net-a"));
}

/// Neither a ping nor a connection comes through, though the server is there.
#[track_caller]
fn closed(testbed: &Testbed, from: &str, server: &str, at: &Address) {
    testbed.exec_in(server, &["sh", "-c", "pidof httpd >/dev/null || httpd -p 8080 -h /etc"]).ok();
    let mut addresses = vec![at.v4.expect("an address").to_string()];
    testbed.host_gets(&format!("{}:8080", addresses[0]));
    // before 27 the built-in driver leaves IPv6 alone
    if testbed.is_pontoon() || testbed.engine >= 27 {
        addresses.extend(at.v6.map(|v6| v6.to_string()));
    }
    testbed.shut_out(from, &addresses);
}

#[test]
fn this_driver_and_the_built_in_one_keep_apart() {
    on_both(neighbours);
}

fn neighbours(testbed: &Testbed) {
    testbed.network("ours", &["--subnet", "10.97.1.0/24", "--ipv6", "--subnet", "fd97:1::/64"]);
    let theirs = ["--subnet", "10.97.2.0/24", "--ipv6", "--subnet", "fd97:2::/64"];
    testbed.create_network("bridge", "theirs", &theirs).ok();
    testbed.run_container("at-ours", &["--network", "ours"]);
    testbed.run_container("at-theirs", &["--network", "theirs"]);
    testbed.run_container("at-default", &[]);
    let (ours, theirs) = (testbed.container_addr("at-ours", "ours"), testbed.container_addr("at-theirs", "theirs"));
    let default = testbed.container_addr("at-default", "bridge");
    closed(testbed, "at-ours", "at-theirs", &theirs);
    closed(testbed, "at-ours", "at-default", &default);
    closed(testbed, "at-theirs", "at-ours", &ours);
    closed(testbed, "at-default", "at-ours", &ours);
    // a container on both reaches either
    testbed.docker(&["network", "connect", "theirs", "at-ours"]).ok();
    testbed.names("at-ours", "-4", "at-theirs");
    testbed.docker(&["network", "connect", "ours", "at-default"]).ok();
    testbed.names("at-ours", "-4", "at-default");
}

#[test]
fn a_published_port_of_the_built_in_driver_stays_reachable() {
    let segment = Segment::up();
    crate::testbed::on_both_with(Options::new().uplink(&segment, 1), published);
}

/// By the host's address, as for everybody.
fn published(testbed: &Testbed) {
    testbed.network("ours", &[]);
    testbed.create_network("bridge", "theirs", &[]).ok();
    testbed.run_container("at-ours", &["--network", "ours"]);
    testbed.run_container("web", &["--network", "theirs", "-p", "8088:8080"]);
    testbed.serve("web", 8080);
    testbed.ping_soon("at-ours", "192.168.77.1");
    testbed.host_gets("192.168.77.1:8088");
    testbed.gets("at-ours", "192.168.77.1:8088");
}

#[test]
fn without_icc_containers_reach_the_host_and_not_each_other() {
    on_both(icc);
}

fn icc(testbed: &Testbed) {
    let icc = ["-o", "com.docker.network.bridge.enable_icc=false"];
    testbed.network("net", &[&["--subnet", "10.98.0.0/24", "--ipv6", "--subnet", "fd98::/64"][..], &icc].concat());
    testbed.network("open", &[]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.run_container("three", &["--network", "open"]);
    testbed.docker(&["network", "connect", "net", "three"]).ok();
    let two = testbed.container_addr("two", "net");
    let (v4, v6) = (two.v4.expect("an address").to_string(), two.v6.expect("an address").to_string());
    testbed.serve("two", 8080);
    for gateway in ["10.98.0.1", "fd98::1"] {
        testbed.ping_soon("one", gateway);
    }
    testbed.host_gets(&format!("{v4}:8080"));
    let mut addresses = vec![v4.clone()];
    if testbed.is_pontoon() || testbed.engine >= 27 {
        addresses.push(v6);
    }
    for from in ["one", "three"] {
        testbed.shut_out(from, &addresses);
    }
    // names are the engine's, inside the container
    assert!(testbed.exec_in("one", &["nslookup", "two", "127.0.0.11"]).ok().contains(&v4));
}
