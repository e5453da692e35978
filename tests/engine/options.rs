//! Valid and invalid values of `-o`.

use testkit::testbed::{Testbed, on_both, on_pontoon, traces};

#[test]
fn a_wrong_option_is_refused_by_name() {
    on_pontoon(refusals);
}

fn refusals(testbed: &Testbed) {
    for (option, named) in [
        ("com.docker.network.bridge.enable_ic=false", "com.docker.network.bridge.enable_icc"),
        ("mtu=1400", "com.docker.network.driver.mtu"),
        ("colour=red", "colour"),
        ("com.docker.network.driver.mtu=large", "com.docker.network.driver.mtu=\"large\""),
        ("com.docker.network.driver.mtu=67", "68 to 65535"),
        ("com.docker.network.bridge.enable_icc=perhaps", "true or false"),
        ("com.docker.network.bridge.name=much-too-long-a-name", "much-too-long-a-name"),
        ("com.docker.network.bridge.name=lo", "not a bridge"),
        ("com.docker.network.container_iface_prefix=a/b", "com.docker.network.container_iface_prefix"),
        ("com.docker.network.bridge.host_binding_ipv4=nowhere", "com.docker.network.bridge.host_binding_ipv4"),
    ] {
        let message = testbed.try_network("net", &["--subnet", "10.99.0.0/24", "-o", option]).err();
        assert!(message.contains(named), "{option}: {message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    let args = ["--ipv6", "--subnet", "fd99::/64", "-o", "com.docker.network.driver.mtu=1279"];
    assert!(testbed.try_network("net", &args).err().contains("1280"));
    // The refused networks left nothing.
    testbed.network("net", &["--subnet", "10.99.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.ping_soon("one", "10.99.0.1");
    // Options of an endpoint, likewise.
    testbed.network("second", &[]);
    let message = testbed.docker(&["network", "connect", "--driver-opt", "colour=red", "second", "one"]).err();
    assert!(message.contains("colour"), "{message}");
    assert_eq!(testbed.links_in("one"), ["eth0"]);
    testbed.docker(&["network", "connect", "second", "one"]).ok();
    assert_eq!(testbed.links_in("one").len(), 2);
    crate::limits::hold(testbed);
    allow_lists(testbed);
}

/// As typed in docs/access.md.
fn allow_lists(testbed: &Testbed) {
    let refused = ["-o", "pontoon.ingress.allow=tcp:443@api.example.com"];
    assert!(testbed.try_network("box", &refused).err().contains("api.example.com"));
    testbed.network("box", &["--subnet", "10.98.0.0/24", "-o", "pontoon.policy=deny-egress"]);
    testbed.run_container("closed", &["--network", "box"]);
    testbed.run_container(
        "agent",
        &["--network", "name=box,driver-opt=pontoon.egress.allow=icmp@host+tcp:443@192.0.2.0/24!192.0.2.8/29+dns"],
    );
    testbed.ping_soon("agent", "10.98.0.1");
    for (from, to) in [("closed", "10.98.0.1"), ("agent", "10.99.0.1"), ("agent", "10.98.0.2"), ("closed", "10.98.0.3")]
    {
        let answered = testbed.docker(&["exec", from, "ping", "-c", "1", "-W", "1", to]);
        // Every address of the host is the host.
        assert_eq!(answered.success(), (from, to) == ("agent", "10.99.0.1"), "{from} to {to}");
    }
    testbed.docker(&["network", "disconnect", "box", "closed"]).ok();
    testbed.docker(&["network", "connect", "--driver-opt", "pontoon.egress.allow=net;icmp@host", "box", "closed"]).ok();
    testbed.ping_soon("closed", "10.98.0.1");
    testbed.ping_soon("closed", "10.98.0.3");
}

#[test]
fn a_user_bridge_is_used_and_not_changed() {
    on_both(users_bridge);
}

fn users_bridge(testbed: &Testbed) {
    testbed.exec(&["ip", "link", "add", "br-mine", "type", "bridge"]).ok();
    testbed.exec(&["ip", "address", "add", "10.100.0.1/24", "dev", "br-mine"]).ok();
    testbed.exec(&["ip", "address", "add", "10.100.9.1/24", "dev", "br-mine"]).ok();
    testbed.exec(&["ip", "link", "set", "br-mine", "mtu", "1450", "up"]).ok();
    let addresses = || testbed.exec(&["ip", "-4", "-oneline", "address", "show", "br-mine"]).ok();
    let before = addresses();
    let named = ["-o", "com.docker.network.bridge.name=br-mine"];
    testbed.network("net", &[&["--subnet", "10.100.0.0/24"][..], &named].concat());
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.names("one", "-4", "two");
    for gateway in ["10.100.0.1", "10.100.9.1"] {
        testbed.ping_soon("one", gateway);
    }
    assert_eq!(addresses(), before);
    if testbed.is_pontoon() {
        assert_eq!(testbed.cat("one", "/sys/class/net/eth0/mtu"), "1450");
    }
    let ports = testbed.exec(&["ls", "/sys/class/net/br-mine/brif"]).ok();
    assert_eq!(ports.lines().count(), 2, "{ports}");
    testbed.sweep_names(&["one", "two"], &["net"]);
    assert_eq!(addresses(), before);
    if testbed.is_pontoon() {
        let link = testbed.exec(&["ip", "link", "show", "br-mine"]).ok();
        assert!(link.contains("mtu 1450") && link.contains("group default") && link.contains(",UP"), "{link}");
    }
    testbed.exec(&["ip", "link", "delete", "br-mine"]).ok();
}

#[test]
fn a_named_bridge_is_created_and_removed() {
    on_both(named_bridge);
}

fn named_bridge(testbed: &Testbed) {
    let named = ["-o", "com.docker.network.bridge.name=br-named"];
    testbed.network("net", &[&["--subnet", "10.101.0.0/24"][..], &named].concat());
    assert!(testbed.exec(&["ip", "-brief", "address", "show", "br-named"]).ok().contains("10.101.0.1/24"));
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.names("one", "-4", "two");
    assert_eq!(testbed.exec(&["ls", "/sys/class/net/br-named/brif"]).ok().lines().count(), 2);
    // A bridge created by Pontoon carries only one network.
    let message = testbed.try_network("other", &named).err();
    assert!(message.contains("br-named"), "{message}");
    testbed.network("next", &["--subnet", "10.101.1.0/24"]);
    testbed.run_container("three", &["--network", "next"]);
    let one = testbed.container_addr("one", "net").v4.expect("an address").to_string();
    assert!(!testbed.ping("three", &one), "a user-defined name bypasses the isolation");
    testbed.sweep_names(&["one", "two", "three"], &["net", "next"]);
    testbed.exec(&["ip", "link", "show", "br-named"]).err();
}

#[test]
fn a_bridge_can_have_no_address() {
    on_both(inhibit);
}

fn inhibit(testbed: &Testbed) {
    let inhibit = ["-o", "com.docker.network.bridge.inhibit_ipv4=true", "-o", "com.docker.network.bridge.name=br-none"];
    testbed.network("net", &[&["--subnet", "10.102.0.0/24"][..], &inhibit].concat());
    assert!(!testbed.exec(&["ip", "address", "show", "br-none"]).ok().contains("10.102."));
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.names("one", "-4", "two");
    assert!(!testbed.ping("one", "10.102.0.1"));
}

#[test]
fn a_port_is_published_and_a_conflict_is_refused() {
    on_pontoon(publish);
}

/// Publishing has more tests in tests/publish.
pub fn publish(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.103.0.0/24"]);
    testbed.docker(&["run", "-d", "--name", "one", "--network", "net", "-p", "8085:8080", "busybox"]).ok();
    testbed.serve("one", 8080);
    testbed.host_gets("127.0.0.1:8085");
    let before = traces(testbed);
    let run = ["run", "-d", "--name", "web", "--network", "net", "--ip", "10.103.0.80", "-p", "8085:80", "busybox"];
    let message = testbed.docker(&run).err();
    assert!(message.contains("8085") && message.contains("already published"), "{message}");
    assert_eq!(testbed.inspect("web")["State"]["Running"], false);
    assert_eq!(testbed.members("net"), ["one".to_owned()].into());
    testbed.expect_traces(&before);
    testbed.docker(&["rm", "web"]).ok();
    // Its address is free.
    testbed.run_container("web", &["--network", "net", "--ip", "10.103.0.80"]);
    testbed.names("one", "-4", "web");
}
