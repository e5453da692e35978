//! Pools and addresses: Pontoon's IPAM for both drivers, the engine's IPAM for Pontoon's networks.

use std::collections::BTreeSet;

use testkit::{
    Options, Segment,
    testbed::{Testbed, on_both, on_pontoon, on_pontoon_with, text, traces},
};

/// Network and IPAM drivers, in all combinations that include Pontoon.
fn pairs(testbed: &Testbed, each: fn(&Testbed, &str, &str)) {
    let before = traces(testbed);
    for (network, ipam) in
        [("bridge", "default"), ("bridge", "pontoon"), ("pontoon", "default"), ("pontoon", "pontoon")]
    {
        eprintln!("--- network driver {network}, ipam driver {ipam}");
        each(testbed, network, ipam);
        let containers = testbed.docker(&["ps", "-aq"]).ok();
        let containers: Vec<_> = containers.lines().collect();
        testbed.docker(&[&["rm", "-f"][..], &containers].concat()).ok();
        testbed.docker(&["network", "prune", "-f"]).ok();
        testbed.expect_traces(&before);
    }
}

#[test]
fn either_ipam_serves_either_driver() {
    on_pontoon(|testbed| pairs(testbed, served));
}

fn served(testbed: &Testbed, driver: &str, ipam: &str) {
    let plan = ["--subnet", "10.104.0.0/24", "--ip-range", "10.104.0.128/25", "--gateway", "10.104.0.254"];
    let more = ["--aux-address", "printer=10.104.0.129", "--ipv6", "--subnet", "fda4::/64", "--gateway", "fda4::99"];
    testbed.create_network(driver, "net", &[&["--ipam-driver", ipam][..], &plan, &more].concat()).ok();
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net", "--ip", "10.104.0.7", "--ip6", "fda4::7"]);
    testbed.names("one", "-4", "two");
    testbed.names("one", "-6", "two");
    let one = testbed.container_addr("one", "net");
    let last = one.v4.expect("an address").octets()[3];
    assert!((128..254).contains(&last) && last != 129, "within the range, and not the reserved one: {last}");
    assert_eq!(testbed.way_out("one", "-4").as_deref(), Some("10.104.0.254"));
    assert_eq!(testbed.way_out("one", "-6").as_deref(), Some("fda4::99"));
    testbed.ping_soon("one", "10.104.0.254");

    // In use, and outside the subnet.
    for ip in ["10.104.0.7", "10.104.0.254", "10.105.0.1"] {
        testbed.docker(&["run", "--rm", "--name", "three", "--network", "net", "--ip", ip, "busybox", "true"]).err();
    }
    // A requested address is kept across a stop, a chosen one may change.
    testbed.docker(&["restart", "-t", "5", "two"]).ok();
    assert_eq!(testbed.container_addr("two", "net").v4, "10.104.0.7".parse().ok());
    // From 28 on, the built-in driver chooses another MAC, and the engine announces it only with its own IPAM.
    if driver == "pontoon" || ipam == "default" {
        testbed.names("one", "-4", "two");
    }
    // Both refuse overlapping subnets.
    let message = testbed.create_network(driver, "other", &["--ipam-driver", ipam, "--subnet", "10.104.0.0/16"]).err();
    assert!(message.to_lowercase().contains("overlap"), "{message}");
}

#[test]
fn default_pools_do_not_overlap() {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), pools);
}

fn pools(testbed: &Testbed) {
    // Unavailable: a route, a link, the engine's own pools.
    testbed.exec(&["ip", "route", "add", "172.18.0.0/16", "via", "192.168.77.254"]).ok();
    testbed.exec(&["ip", "link", "add", "taken", "type", "bridge"]).ok();
    testbed.exec(&["ip", "address", "add", "172.20.5.1/30", "dev", "taken"]).ok();
    testbed.exec(&["ip", "link", "set", "taken", "up"]).ok();
    let mut subnets = BTreeSet::new();
    for (name, driver, ipam) in [
        ("net-1", "pontoon", "pontoon"),
        ("net-2", "bridge", "default"),
        ("net-3", "pontoon", "default"),
        ("net-4", "bridge", "pontoon"),
        ("net-5", "pontoon", "pontoon"),
    ] {
        testbed.create_network(driver, name, &["--ipam-driver", ipam]).ok();
        let network = testbed.network_info(name);
        let subnet = text(&network["IPAM"]["Config"][0]["Subnet"]).to_owned();
        assert!(subnets.insert(subnet.clone()), "{subnet} twice");
        assert!(!subnet.starts_with("172.20."), "{subnet} belongs to a link of this host");
        // The engine's own IPAM considers only directly connected networks.
        assert!(ipam == "default" || !subnet.starts_with("172.18."), "{subnet} is routed elsewhere");
        testbed.run_container(name, &["--network", name]);
        let gateway = text(&network["IPAM"]["Config"][0]["Gateway"]).split('/').next().unwrap_or_default().to_owned();
        if !gateway.is_empty() && !gateway.starts_with("172.18.") {
            testbed.ping_soon(name, &gateway);
        }
    }
    if testbed.engine >= 27 {
        testbed.network("six", &["--ipam-driver", "pontoon", "--ipv6"]);
        let configs = testbed.network_info("six")["IPAM"]["Config"].clone();
        let six = configs.as_array().into_iter().flatten().find(|config| text(&config["Subnet"]).contains(':'));
        assert!(six.is_some_and(|config| text(&config["Subnet"]).starts_with("fd")), "{configs}");
        testbed.run_container("six", &["--network", "six"]);
        assert!(testbed.container_addr("six", "six").v6.is_some());
    }
    testbed.exec(&["ip", "link", "delete", "taken"]).ok();
}

#[test]
fn a_network_can_have_no_addresses() {
    on_both(null);
}

fn null(testbed: &Testbed) {
    let created = testbed.try_network("net", &["--ipam-driver", "null"]);
    if !testbed.is_pontoon() {
        created.err();
        return;
    }
    created.ok();
    testbed.run_container("one", &["--network", "net", "--cap-add", "NET_ADMIN"]);
    testbed.run_container("two", &["--network", "net", "--cap-add", "NET_ADMIN"]);
    assert_eq!(testbed.links_in("one"), ["eth0"]);
    // A mere segment: self-assigned addresses work.
    for (name, address) in [("one", "192.0.2.1/24"), ("two", "192.0.2.2/24")] {
        assert!(!testbed.exec_in(name, &["ip", "-4", "address", "show", "dev", "eth0"]).ok().contains("inet"));
        testbed.exec_in(name, &["ip", "address", "add", address, "dev", "eth0"]).ok();
    }
    testbed.ping_soon("one", "192.0.2.2");
}

#[test]
fn a_failed_creation_leaves_nothing() {
    on_pontoon(halves);
}

fn halves(testbed: &Testbed) {
    for ipam in ["default", "pontoon"] {
        let several = ["--ipam-driver", ipam, "--subnet", "10.106.1.0/24", "--subnet", "10.106.2.0/24"];
        let message = testbed.try_network("net", &several).err();
        assert!(message.contains('2') && message.contains("subnet"), "{message}");
        let bad = ["--ipam-driver", ipam, "--subnet", "10.106.1.0/24", "--gateway", "10.106.7.1"];
        testbed.try_network("net", &bad).err();
        let bad = ["--ipam-driver", ipam, "--subnet", "10.106.1.0/24", "--ip-range", "10.107.0.0/25"];
        let outcome = testbed.try_network("net", &bad);
        // 20.10 with its own IPAM accepts this.
        assert!(!outcome.success() || (ipam == "default" && testbed.engine < 28), "{outcome}");
        if outcome.success() {
            testbed.docker(&["network", "rm", "net"]).ok();
        }
        // Nothing of it is left.
        for subnet in ["10.106.1.0/24", "10.106.2.0/24"] {
            testbed.network("net", &["--ipam-driver", ipam, "--subnet", subnet]);
            testbed.docker(&["network", "rm", "net"]).ok();
        }
    }
    // Overlaps with any network of Pontoon are found, and named.
    testbed.network("one", &["--ipam-driver", "pontoon", "--subnet", "10.108.0.0/24"]);
    let message = testbed.try_network("two", &["--ipam-driver", "pontoon", "--subnet", "10.108.0.128/25"]).err();
    assert!(message.contains("10.108.0.0/24") && message.contains("10.108.0.128/25"), "{message}");
    let message = testbed.try_network("two", &["--subnet", "10.108.0.0/25"]).err();
    assert!(message.contains("10.108.0.0/24"), "{message}");
}

#[test]
fn a_full_pool_is_reported_and_a_freed_address_is_reused_last() {
    on_pontoon(exhaustion);
}

fn exhaustion(testbed: &Testbed) {
    testbed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.109.0.0/29"]);
    let address = |name: &str| testbed.container_addr(name, "net").v4.expect("an address").octets()[3];
    let names = ["n1", "n2", "n3", "n4", "n5"];
    for name in names {
        testbed.run_container(name, &["--network", "net"]);
    }
    assert_eq!(names.map(address), [2, 3, 4, 5, 6]);
    let message = testbed.docker(&["run", "--rm", "--network", "net", "busybox", "true"]).err();
    assert!(message.contains("10.109.0.0/29") && message.contains('6'), "{message}");
    testbed.docker(&["rm", "-f", "n2", "n4"]).ok();
    testbed.run_container("n6", &["--network", "net"]);
    testbed.run_container("n7", &["--network", "net"]);
    let mut again = [address("n6"), address("n7")];
    again.sort_unstable();
    assert_eq!(again, [3, 5]);
    testbed.docker(&["run", "--rm", "--network", "net", "busybox", "true"]).err();

    testbed.network("wide", &["--ipam-driver", "pontoon", "--subnet", "10.110.0.0/24"]);
    let address = |name: &str| testbed.container_addr(name, "wide").v4.expect("an address").octets()[3];
    testbed.run_container("w1", &["--network", "wide"]);
    testbed.run_container("w2", &["--network", "wide"]);
    testbed.docker(&["rm", "-f", "w1"]).ok();
    testbed.run_container("w3", &["--network", "wide"]);
    assert_eq!([address("w2"), address("w3")], [3, 4], "a released address was reused at once");
    testbed.names("w2", "-4", "w3");
}
