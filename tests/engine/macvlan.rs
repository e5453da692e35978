//! Containers on the host's own network, as children of a link: as the built-in driver has them, and what Pontoon
//! refuses.

use crate::bed::{Bed, SOON, binary, try_on};
use crate::support::{Options, Output, Segment, Signal, wait_until};

/// A stretch of the segment's subnet for containers, with the segment's own address as their gateway.
const LAN: [&str; 6] = ["--subnet", "192.168.77.0/24", "--gateway", "192.168.77.254", "--ip-range", "192.168.77.64/26"];

fn create(bed: &Bed, driver: &str, name: &str, options: &[&str]) -> Output {
    let options = options.iter().flat_map(|option| ["-o", option]);
    bed.create_network(driver, name, &LAN.into_iter().chain(options).collect::<Vec<_>>())
}

/// Links are deleted in the background.
#[track_caller]
fn no_child_is_left(bed: &Bed) {
    wait_until(SOON, "all macvlan links to be deleted", || {
        bed.exec(&["ip", "-oneline", "link", "show", "type", "macvlan"]).ok().is_empty()
    });
}

#[test]
fn containers_are_on_the_network_of_their_parent() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    for driver in ["macvlan", "pontoon"] {
        if driver == "pontoon" {
            node.start_pontoon(&binary(), &[]);
        }
        let bed = Bed::new(&node, driver);
        on_the_lan(&bed, &segment);
        bed.sweep();
    }
}

fn on_the_lan(bed: &Bed, segment: &Segment) {
    // A new link's own address is tentative for a moment.
    let uplink = || bed.exec(&["ip", "-oneline", "address", "show", "eth0"]).ok().replace(" tentative", "");
    let before = uplink();
    create(bed, bed.driver, "lan", &["parent=eth0"]).ok();
    bed.run_container("one", &["--network", "lan"]);
    bed.run_container("two", &["--network", "lan"]);
    let pings = |from: &str, to: &str| bed.exec_in(from, &["ping", "-c1", "-W1", to]).success();
    let from_lan = |container: &str| {
        let address = bed.container_addr(container, "lan").v4.expect("an address").to_string();
        // Another container may have had the address a moment ago, and engines before 28 announce nothing.
        segment.exec(&["ip", "neigh", "flush", "all"]);
        let what = format!("{container} with driver {} to be reached from the network", bed.driver);
        let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(SOON, &what, || segment.exec(&["ping", "-c1", "-W1", &address]).success());
        }));
        if reached.is_err() {
            let inside =
                bed.exec_in(container, &["sh", "-c", "ip address; ip route; ip neigh; ping -c1 -W1 192.168.77.254"]);
            let outside = segment.exec(&["sh", "-c", "ip neigh; ip address; bridge fdb"]);
            let host = bed.exec(&["sh", "-c", "ip -d link; ip address"]);
            panic!("{address}\n{inside}\n{outside}\n{host}");
        }
        address
    };
    // There and back, with their own addresses.
    bed.ping_soon("one", "192.168.77.254");
    let one = from_lan("one");
    assert!(one.starts_with("192.168.77."), "{one}");
    let neighbour = segment.exec(&["ip", "neigh", "show", &one]).ok();
    let mac = bed.cat("one", "/sys/class/net/eth0/address");
    assert!(neighbour.contains(mac.trim()), "the container's own hardware address {mac}: {neighbour}");
    bed.names("one", "-4", "two");
    // Connected and disconnected while it runs, and started again.
    bed.run_container("late", &["--network", "none"]);
    bed.docker(&["network", "disconnect", "none", "late"]).ok();
    bed.docker(&["network", "connect", "lan", "late"]).ok();
    from_lan("late");
    bed.docker(&["network", "disconnect", "lan", "late"]).ok();
    assert!(!pings("late", "192.168.77.254"));
    bed.docker(&["restart", "-t", "1", "one"]).ok();
    from_lan("one");
    assert_eq!(uplink(), before, "the parent is left alone");
    bed.sweep_names(&["one", "two", "late"], &["lan"]);
    no_child_is_left(bed);
    assert_eq!(uplink(), before);
}

#[test]
fn the_mode_says_whom_a_container_reaches() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    try_on(&node, "macvlan", modes);
    node.start_pontoon(&binary(), &[]);
    try_on(&node, "pontoon", modes);
}

fn modes(bed: &Bed) {
    for (mode, siblings) in [("bridge", true), ("private", false), ("vepa", false)] {
        create(bed, bed.driver, "lan", &["parent=eth0", &format!("macvlan_mode={mode}")]).ok();
        bed.run_container("one", &["--network", "lan"]);
        bed.run_container("two", &["--network", "lan"]);
        let two = bed.container_addr("two", "lan").v4.expect("an address").to_string();
        bed.ping_soon("one", "192.168.77.254");
        bed.ping_soon("two", "192.168.77.254");
        assert_eq!(bed.ping("one", &two), siblings, "{mode}");
        bed.sweep_names(&["one", "two"], &["lan"]);
    }
    create(bed, bed.driver, "lan", &["parent=eth0", "macvlan_mode=passthru"]).ok();
    bed.run_container("one", &["--network", "lan"]);
    bed.ping_soon("one", "192.168.77.254");
    bed.docker(&["run", "-d", "--name", "two", "--network", "lan", "busybox", "sleep", "1000"]).err();
    bed.docker(&["rm", "-f", "two"]).ok();
    bed.sweep_names(&["one"], &["lan"]);
}

#[test]
fn a_container_on_a_parent_outlives_the_plugin_and_what_cannot_be_is_refused() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    node.start_pontoon(&binary(), &[]);
    create(&Bed::new(&node, "pontoon"), "pontoon", "lan", &["parent=eth0"]).ok();
    let bed = Bed::new(&node, "pontoon");
    bed.run_container("one", &["--network", "lan"]);
    bed.ping_soon("one", "192.168.77.254");
    node.kill_pontoon(Signal::Kill);
    assert!(bed.ping("one", "192.168.77.254"), "without the plugin");
    node.start_pontoon(&binary(), &[]);
    assert!(bed.ping("one", "192.168.77.254"), "with the next one");
    bed.run_container("two", &["--network", "lan"]);
    bed.names("two", "-4", "one");
    // A port is not published, which the log says; by a second network it is.
    bed.run_container("web", &["-p", "8080:80", "--network", "lan"]);
    let log = node.log_tail("pontoon");
    assert!(log.contains("publishes no ports") && log.contains("remove -p"), "{log}");
    bed.docker(&["rm", "-f", "web"]).ok();
    bed.network("a-net", &["--subnet", "10.97.0.0/24"]);
    bed.docker(&["create", "--name", "web", "-p", "8080:80", "--network", "a-net", "busybox", "sleep", "1000"]).ok();
    bed.docker(&["network", "connect", "lan", "web"]).ok();
    bed.docker(&["start", "web"]).ok();
    bed.serve("web", 80);
    // By its bridge. A client on the parent's network would be answered there directly, from another address.
    bed.host_gets("127.0.0.1:8080");
    for (option, says) in [
        ("parent=nosuch0", "this host has no link nosuch0"),
        ("parent=eth0.7", "ip link add link eth0 name eth0.7 type vlan id 7"),
        ("parent=lo", "choose another parent"),
        ("macvlan_mode=bridge", "parent=LINK"),
    ] {
        let message = bed.create_network("pontoon", "no", &["--subnet", "10.98.0.0/24", "-o", option]).err();
        assert!(message.contains(says), "{option}: {message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    let doctor = bed.exec(&["/lab/pontoon", "doctor", "--docker=/lab/docker.sock"]);
    assert!(doctor.success(), "{}", doctor.ok());
    bed.sweep_names(&["one", "two", "web"], &["lan", "a-net"]);
    no_child_is_left(&bed);
}
