//! A network and two containers on it.

use serde_json::Value;

use testkit::{
    Options, Segment,
    testbed::{Testbed, on_both, on_both_with, on_pontoon_with, text},
    wait_until,
};

#[test]
fn containers_of_a_dual_stack_network_reach_each_other() {
    on_both(dual_stack);
}

pub fn dual_stack(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.81.0.0/24", "--ipv6", "--subnet", "fd81::/64"]);
    testbed.run_container("one", &["--network", "net"]);
    let fixed = ["--ip", "10.81.0.22", "--ip6", "fd81::22", "--mac-address", "02:00:5e:00:53:22"];
    testbed.run_container("two", &[&["--network", "net"][..], &fixed].concat());
    for (from, to) in [("one", "two"), ("two", "one")] {
        testbed.names(from, "-4", to);
        testbed.names(from, "-6", to);
    }
    testbed.ping_soon("one", "10.81.0.22");
    testbed.ping_soon("one", "fd81::22");
    assert!(!testbed.ping("one", "10.81.0.99"));

    let one = testbed.container_addr("one", "net");
    let two = testbed.container_addr("two", "net");
    assert_eq!(two.v4, "10.81.0.22".parse().ok());
    assert_eq!(two.v6, "fd81::22".parse().ok());
    assert_eq!(two.mac, "02:00:5e:00:53:22");
    for (name, address) in [("one", &one), ("two", &two)] {
        assert_eq!(address.mac, testbed.cat(name, "/sys/class/net/eth0/address"), "inspect shows the real MAC");
        let (v4, v6) = (address.v4.expect("an address"), address.v6.expect("an address"));
        let links = testbed.exec_in(name, &["ip", "address", "show", "dev", "eth0"]).ok();
        assert!(links.contains(&format!("{v4}/24")) && links.contains(&format!("{v6}/64")), "{links}");
        assert!(testbed.host_pings(&v4.to_string()) && testbed.host_pings(&v6.to_string()), "the host reaches {name}");
        for gateway in ["10.81.0.1", "fd81::1"] {
            testbed.ping_soon(name, gateway);
        }
        assert_eq!(testbed.way_out(name, "-4").as_deref(), Some("10.81.0.1"));
        assert_eq!(testbed.way_out(name, "-6").as_deref(), Some("fd81::1"));
    }
    shows(testbed, &one.mac);
    removed_by_hand(testbed);
}

/// The output of `docker inspect` and `docker network inspect`.
fn shows(testbed: &Testbed, mac: &str) {
    let container = testbed.inspect("one");
    let endpoint = &container["NetworkSettings"]["Networks"]["net"];
    assert_eq!(endpoint["Gateway"], "10.81.0.1");
    assert_eq!(endpoint["IPv6Gateway"], "fd81::1");
    assert_eq!(endpoint["IPPrefixLen"], 24);
    assert_eq!(endpoint["GlobalIPv6PrefixLen"], 64);
    let network = testbed.inspect("net");
    assert_eq!(network["Driver"], testbed.driver);
    let members = network["Containers"].as_object().cloned().unwrap_or_default();
    assert_eq!(members.len(), 2);
    let one: Vec<&Value> = members.values().filter(|member| member["Name"] == "one").collect();
    assert_eq!(one[0]["MacAddress"], mac);
    assert_eq!(text(&one[0]["IPv4Address"]), format!("{}/24", text(&endpoint["IPAddress"])));
    assert_eq!(text(&one[0]["IPv6Address"]), format!("{}/64", text(&endpoint["GlobalIPv6Address"])));
}

/// An endpoint's links are removed with it; the network's bridge is removed with the network.
fn removed_by_hand(testbed: &Testbed) {
    let links = || testbed.exec(&["ls", "/sys/class/net"]).ok().lines().count();
    let full = links();
    testbed.docker(&["rm", "-f", "two"]).ok();
    wait_until(testkit::testbed::SOON, "the links of an endpoint to be removed", || links() == full - 1);
    testbed.docker(&["network", "rm", "net"]).err();
    testbed.docker(&["rm", "-f", "one"]).ok();
    testbed.docker(&["network", "rm", "net"]).ok();
    testbed.docker(&["network", "inspect", "net"]).err();
}

#[test]
fn addresses_are_assigned_automatically() {
    on_both(automatic);
}

fn automatic(testbed: &Testbed) {
    testbed.network("net", &[]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.names("one", "-4", "two");
    // Only these engines choose an IPv6 subnet.
    if testbed.engine >= 27 {
        testbed.network("six", &["--ipv6"]);
        testbed.run_container("three", &["--network", "six"]);
        testbed.run_container("four", &["--network", "six"]);
        testbed.names("three", "-6", "four");
        testbed.names("three", "-4", "four");
    }
}

#[test]
fn an_ipv6_only_network_works() {
    on_both(ipv6_only);
}

fn ipv6_only(testbed: &Testbed) {
    let args = ["--ipv4=false", "--ipv6", "--subnet", "fd82::/64"];
    if testbed.engine < 28 {
        // These engines do not support such a network with any driver.
        testbed.try_network("net", &args).err();
        return;
    }
    testbed.network("net", &args);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.names("one", "-6", "two");
    testbed.ping_soon("one", "fd82::1");
    let two = testbed.container_addr("two", "net");
    assert_eq!(two.v4, None);
    assert!(testbed.host_pings(&two.v6.expect("an address").to_string()));
    assert_eq!(testbed.way_out("one", "-4"), None);
    assert_eq!(testbed.way_out("one", "-6").as_deref(), Some("fd82::1"));
    assert!(!testbed.exec_in("one", &["ip", "-4", "address"]).ok().contains("eth0"));
}

#[test]
fn an_internal_network_has_no_default_route() {
    let segment = Segment::up();
    on_both_with(Options::new().uplink(&segment, 1), internal);
}

fn internal(testbed: &Testbed) {
    testbed.network("net", &["--internal", "--subnet", "10.83.0.0/24", "--ipv6", "--subnet", "fd83::/64"]);
    testbed.network("open", &["--subnet", "10.84.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.run_container("three", &["--network", "open"]);
    testbed.names("one", "-4", "two");
    testbed.names("one", "-6", "two");
    assert_eq!(testbed.links_in("one"), ["eth0"]);
    // The oldest engines give the built-in driver's containers an unusable route.
    if testbed.is_pontoon() || testbed.engine >= 26 {
        assert_eq!(testbed.way_out("one", "-4"), None);
        assert_eq!(testbed.way_out("one", "-6"), None);
    }
    testbed.ping_soon("three", "192.168.77.254");
    // A route added by the container does not work either.
    testbed.run_container("root", &["--network", "net", "--cap-add", "NET_ADMIN"]);
    testbed.exec_in("root", &["ip", "route", "replace", "default", "via", "10.83.0.1"]).ok();
    testbed.exec_in("root", &["ip", "-6", "route", "replace", "default", "via", "fd83::1"]).ok();
    let three = testbed.container_addr("three", "open").v4.expect("an address").to_string();
    testbed.shut_out("root", &["192.168.77.254", "fd77::ffff", &three].map(str::to_owned));
    let root = testbed.container_addr("root", "net").v4.expect("an address").to_string();
    assert!(!testbed.ping("three", &root));
    testbed.names("root", "-4", "one");
}

#[test]
fn containers_have_the_mtu_of_their_network() {
    on_both(mtu);
}

fn mtu(testbed: &Testbed) {
    testbed.network("net", &["-o", "com.docker.network.driver.mtu=1342"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    assert_eq!(testbed.cat("one", "/sys/class/net/eth0/mtu"), "1342");
    // Packets of that size pass, larger ones do not.
    let two = testbed.container_addr("two", "net").v4.expect("an address").to_string();
    testbed.ping_soon("one", &two);
    let ping = |size| testbed.exec_in("one", &["ping", "-c1", "-W1", "-s", size, &two]).success();
    assert!(ping("1314") && ping("4000"));
}

#[test]
fn the_default_mtu_is_that_of_the_uplink() {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), mtu_of_the_uplink);
}

fn mtu_of_the_uplink(testbed: &Testbed) {
    testbed.network("before", &[]);
    testbed.exec(&["ip", "link", "set", "eth0", "mtu", "1404"]).ok();
    testbed.network("after", &[]);
    testbed.network("large", &["-o", "com.docker.network.driver.mtu=9000"]);
    for (network, mtu) in [("before", "1500"), ("after", "1404"), ("large", "9000")] {
        testbed.run_container(network, &["--network", network]);
        assert_eq!(testbed.cat(network, "/sys/class/net/eth0/mtu"), mtu);
    }
    testbed.ping_soon("after", "192.168.77.254");
}

#[test]
fn a_network_names_its_links_and_its_containers() {
    on_both(names);
}

fn names(testbed: &Testbed) {
    testbed.network("net", &["-o", "com.docker.network.container_iface_prefix=wan"]);
    testbed.network("other", &[]);
    testbed.run_container("one", &["--network", "net", "--network-alias", "uno"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.run_container("apart", &["--network", "other"]);
    assert_eq!(testbed.links_in("one"), ["wan0"]);
    testbed.names("two", "-4", "uno");
    testbed.names("two", "-4", "one");
    for name in ["one", "uno", "net"] {
        testbed.nameless("apart", name);
    }
    testbed.docker(&["network", "connect", "--alias", "here", "other", "one"]).ok();
    assert_eq!(testbed.links_in("one"), ["eth0", "wan0"]);
    testbed.names("apart", "-4", "here");
    testbed.docker(&["rename", "one", "first"]).ok();
    testbed.names("two", "-4", "first");
}
