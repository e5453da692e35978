//! Containers on the host's own network, as child links of a parent: like those of the built-in driver, and with
//! Pontoon's refusals.

use testkit::testbed::{SOON, Testbed, binary, try_on};
use testkit::{Options, Output, Segment, Signal, wait_until};

/// A range of the segment's subnet for containers, with the segment's own address as their gateway.
const LAN: [&str; 6] = ["--subnet", "192.168.77.0/24", "--gateway", "192.168.77.254", "--ip-range", "192.168.77.64/26"];

fn create(testbed: &Testbed, driver: &str, name: &str, options: &[&str]) -> Output {
    let options = options.iter().flat_map(|option| ["-o", option]);
    testbed.create_network(driver, name, &LAN.into_iter().chain(options).collect::<Vec<_>>())
}

/// Links are deleted in the background.
#[track_caller]
fn expect_no_child_links(testbed: &Testbed) {
    wait_until(SOON, "all macvlan links to be deleted", || {
        testbed.exec(&["ip", "-oneline", "link", "show", "type", "macvlan"]).ok().is_empty()
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
        let testbed = Testbed::new(&node, driver);
        on_the_lan(&testbed, &segment);
        testbed.sweep();
    }
}

fn on_the_lan(testbed: &Testbed, segment: &Segment) {
    // The address of a new link is tentative for a moment.
    let uplink = || testbed.exec(&["ip", "-oneline", "address", "show", "eth0"]).ok().replace(" tentative", "");
    let before = uplink();
    create(testbed, testbed.driver, "lan", &["parent=eth0"]).ok();
    testbed.run_container("one", &["--network", "lan"]);
    testbed.run_container("two", &["--network", "lan"]);
    let pings = |from: &str, to: &str| testbed.exec_in(from, &["ping", "-c1", "-W1", to]).success();
    let from_lan = |container: &str| {
        let address = testbed.container_addr(container, "lan").v4.expect("an address").to_string();
        // Another container may have had the address a moment ago, and engines before 28 send no announcement.
        segment.exec(&["ip", "neigh", "flush", "all"]);
        let what = format!("{container} with driver {} to be reached from the network", testbed.driver);
        let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(SOON, &what, || segment.exec(&["ping", "-c1", "-W1", &address]).success());
        }));
        if reached.is_err() {
            let inside = testbed
                .exec_in(container, &["sh", "-c", "ip address; ip route; ip neigh; ping -c1 -W1 192.168.77.254"]);
            let outside = segment.exec(&["sh", "-c", "ip neigh; ip address; bridge fdb"]);
            let host = testbed.exec(&["sh", "-c", "ip -d link; ip address"]);
            panic!("{address}\n{inside}\n{outside}\n{host}");
        }
        address
    };
    // In both directions, with their own addresses.
    testbed.ping_soon("one", "192.168.77.254");
    let one = from_lan("one");
    assert!(one.starts_with("192.168.77."), "{one}");
    let neighbour = segment.exec(&["ip", "neigh", "show", &one]).ok();
    let mac = testbed.cat("one", "/sys/class/net/eth0/address");
    assert!(neighbour.contains(mac.trim()), "the container's own hardware address {mac}: {neighbour}");
    testbed.names("one", "-4", "two");
    // Connected and disconnected while it runs, and restarted.
    testbed.run_container("late", &["--network", "none"]);
    testbed.docker(&["network", "disconnect", "none", "late"]).ok();
    testbed.docker(&["network", "connect", "lan", "late"]).ok();
    from_lan("late");
    testbed.docker(&["network", "disconnect", "lan", "late"]).ok();
    assert!(!pings("late", "192.168.77.254"));
    testbed.docker(&["restart", "-t", "1", "one"]).ok();
    from_lan("one");
    assert_eq!(uplink(), before, "the parent changed");
    testbed.sweep_names(&["one", "two", "late"], &["lan"]);
    expect_no_child_links(testbed);
    assert_eq!(uplink(), before);
}

#[test]
fn the_mode_decides_what_a_container_reaches() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    try_on(&node, "macvlan", modes);
    node.start_pontoon(&binary(), &[]);
    try_on(&node, "pontoon", modes);
}

fn modes(testbed: &Testbed) {
    for (mode, siblings) in [("bridge", true), ("private", false), ("vepa", false)] {
        create(testbed, testbed.driver, "lan", &["parent=eth0", &format!("macvlan_mode={mode}")]).ok();
        testbed.run_container("one", &["--network", "lan"]);
        testbed.run_container("two", &["--network", "lan"]);
        let two = testbed.container_addr("two", "lan").v4.expect("an address").to_string();
        testbed.ping_soon("one", "192.168.77.254");
        testbed.ping_soon("two", "192.168.77.254");
        assert_eq!(testbed.ping("one", &two), siblings, "{mode}");
        testbed.sweep_names(&["one", "two"], &["lan"]);
    }
    create(testbed, testbed.driver, "lan", &["parent=eth0", "macvlan_mode=passthru"]).ok();
    testbed.run_container("one", &["--network", "lan"]);
    testbed.ping_soon("one", "192.168.77.254");
    testbed.docker(&["run", "-d", "--name", "two", "--network", "lan", "busybox", "sleep", "1000"]).err();
    testbed.docker(&["rm", "-f", "two"]).ok();
    testbed.sweep_names(&["one"], &["lan"]);
}

#[test]
fn a_container_on_a_parent_survives_the_plugin_and_invalid_options_are_refused() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    node.start_pontoon(&binary(), &[]);
    create(&Testbed::new(&node, "pontoon"), "pontoon", "lan", &["parent=eth0"]).ok();
    let testbed = Testbed::new(&node, "pontoon");
    testbed.run_container("one", &["--network", "lan"]);
    testbed.ping_soon("one", "192.168.77.254");
    node.kill_pontoon(Signal::Kill);
    assert!(testbed.ping("one", "192.168.77.254"), "without the plugin");
    node.start_pontoon(&binary(), &[]);
    assert!(testbed.ping("one", "192.168.77.254"), "with the next one");
    testbed.run_container("two", &["--network", "lan"]);
    testbed.names("two", "-4", "one");
    // A port is not published, which is logged; through a second network it is.
    testbed.run_container("web", &["-p", "8080:80", "--network", "lan"]);
    let log = node.log_tail("pontoon");
    assert!(
        log.contains("cannot publish the ports") && log.contains("connect the container to a bridge network"),
        "{log}"
    );
    testbed.docker(&["rm", "-f", "web"]).ok();
    testbed.network("a-net", &["--subnet", "10.97.0.0/24"]);
    testbed
        .docker(&["create", "--name", "web", "-p", "8080:80", "--network", "a-net", "busybox", "sleep", "1000"])
        .ok();
    testbed.docker(&["network", "connect", "lan", "web"]).ok();
    testbed.docker(&["start", "web"]).ok();
    testbed.serve("web", 80);
    // Through its bridge. A client on the parent's network would get the answer directly, from another address.
    testbed.host_gets("127.0.0.1:8080");
    for (option, says) in [
        ("parent=nosuch0", "this host has no link nosuch0"),
        ("parent=nosuch0.7", "no link nosuch0 to create it on"),
        ("parent=lo", "choose another parent"),
        ("macvlan_mode=bridge", "parent=LINK"),
    ] {
        let message = testbed.create_network("pontoon", "no", &["--subnet", "10.98.0.0/24", "-o", option]).err();
        assert!(message.contains(says), "{option}: {message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    let doctor = testbed.exec(&["/lab/pontoon", "doctor", "--docker=/lab/docker.sock"]);
    assert!(doctor.success(), "{}", doctor.ok());
    testbed.sweep_names(&["one", "two", "web"], &["lan", "a-net"]);
    expect_no_child_links(&testbed);
}
