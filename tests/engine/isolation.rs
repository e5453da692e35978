//! Who must not reach whom.

use crate::{
    bed::{Bed, on_both},
    support::{Address, Options, Segment},
};

#[test]
fn two_networks_are_two_segments() {
    on_both(apart);
}

fn apart(bed: &Bed) {
    bed.network("net-a", &["--subnet", "10.96.1.0/24", "--ipv6", "--subnet", "fd96:1::/64"]);
    bed.network("net-b", &["--subnet", "10.96.2.0/24", "--ipv6", "--subnet", "fd96:2::/64"]);
    bed.run_container("at-a", &["--network", "net-a"]);
    bed.run_container("at-b", &["--network", "net-b"]);
    bed.run_container("both", &["--network", "net-a"]);
    bed.docker(&["network", "connect", "net-b", "both"]).ok();
    for one in ["at-a", "at-b"] {
        bed.names("both", "-4", one);
        bed.names("both", "-6", one);
    }
    closed(bed, "at-a", "at-b", &bed.container_addr("at-b", "net-b"));
    closed(bed, "at-b", "at-a", &bed.container_addr("at-a", "net-a"));
    closed(bed, "at-a", "both", &bed.container_addr("both", "net-b"));
    closed(bed, "at-b", "both", &bed.container_addr("both", "net-a"));
}

/// Neither a ping nor a connection comes through, though the server is there.
#[track_caller]
fn closed(bed: &Bed, from: &str, server: &str, at: &Address) {
    bed.exec_in(server, &["sh", "-c", "pidof httpd >/dev/null || httpd -p 8080 -h /etc"]).ok();
    let mut addresses = vec![at.v4.expect("an address").to_string()];
    bed.host_gets(&format!("{}:8080", addresses[0]));
    // before 27 the built-in driver leaves IPv6 alone
    if bed.is_pontoon() || bed.engine >= 27 {
        addresses.extend(at.v6.map(|v6| v6.to_string()));
    }
    bed.shut_out(from, &addresses);
}

#[test]
fn this_driver_and_the_built_in_one_keep_apart() {
    on_both(neighbours);
}

fn neighbours(bed: &Bed) {
    bed.network("ours", &["--subnet", "10.97.1.0/24", "--ipv6", "--subnet", "fd97:1::/64"]);
    let theirs = ["--subnet", "10.97.2.0/24", "--ipv6", "--subnet", "fd97:2::/64"];
    bed.create_network("bridge", "theirs", &theirs).ok();
    bed.run_container("at-ours", &["--network", "ours"]);
    bed.run_container("at-theirs", &["--network", "theirs"]);
    bed.run_container("at-default", &[]);
    let (ours, theirs) = (bed.container_addr("at-ours", "ours"), bed.container_addr("at-theirs", "theirs"));
    let default = bed.container_addr("at-default", "bridge");
    closed(bed, "at-ours", "at-theirs", &theirs);
    closed(bed, "at-ours", "at-default", &default);
    closed(bed, "at-theirs", "at-ours", &ours);
    closed(bed, "at-default", "at-ours", &ours);
    // a container on both reaches either
    bed.docker(&["network", "connect", "theirs", "at-ours"]).ok();
    bed.names("at-ours", "-4", "at-theirs");
    bed.docker(&["network", "connect", "ours", "at-default"]).ok();
    bed.names("at-ours", "-4", "at-default");
}

#[test]
fn a_published_port_of_the_built_in_driver_stays_reachable() {
    let segment = Segment::up();
    crate::bed::on_both_with(Options::new().uplink(&segment, 1), published);
}

/// By the host's address, as for everybody.
fn published(bed: &Bed) {
    bed.network("ours", &[]);
    bed.create_network("bridge", "theirs", &[]).ok();
    bed.run_container("at-ours", &["--network", "ours"]);
    bed.run_container("web", &["--network", "theirs", "-p", "8088:8080"]);
    bed.serve("web", 8080);
    bed.ping_soon("at-ours", "192.168.77.1");
    bed.host_gets("192.168.77.1:8088");
    bed.gets("at-ours", "192.168.77.1:8088");
}

#[test]
fn without_icc_containers_reach_the_host_and_not_each_other() {
    on_both(icc);
}

fn icc(bed: &Bed) {
    let icc = ["-o", "com.docker.network.bridge.enable_icc=false"];
    bed.network("net", &[&["--subnet", "10.98.0.0/24", "--ipv6", "--subnet", "fd98::/64"][..], &icc].concat());
    bed.network("open", &[]);
    bed.run_container("one", &["--network", "net"]);
    bed.run_container("two", &["--network", "net"]);
    bed.run_container("three", &["--network", "open"]);
    bed.docker(&["network", "connect", "net", "three"]).ok();
    let two = bed.container_addr("two", "net");
    let (v4, v6) = (two.v4.expect("an address").to_string(), two.v6.expect("an address").to_string());
    bed.serve("two", 8080);
    for gateway in ["10.98.0.1", "fd98::1"] {
        bed.ping_soon("one", gateway);
    }
    bed.host_gets(&format!("{v4}:8080"));
    let mut addresses = vec![v4.clone()];
    if bed.is_pontoon() || bed.engine >= 27 {
        addresses.push(v6);
    }
    for from in ["one", "three"] {
        bed.shut_out(from, &addresses);
    }
    // names are the engine's, inside the container
    assert!(bed.exec_in("one", &["nslookup", "two", "127.0.0.11"]).ok().contains(&v4));
}
