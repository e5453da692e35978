//! The default route of a container with several networks.

use testkit::{
    Options, Segment,
    testbed::{Testbed, on_both_with, text},
};

#[test]
fn the_default_route_follows_the_networks() {
    let segment = Segment::up();
    on_both_with(Options::new().uplink(&segment, 1), choice);
}

fn choice(testbed: &Testbed) {
    // Created and connected in different orders: the names decide.
    testbed.network("mid", &["--subnet", "10.89.2.0/24"]);
    testbed.network("zed", &["--subnet", "10.89.3.0/24"]);
    testbed.network("abe", &["--subnet", "10.89.1.0/24"]);
    testbed.network("inner", &["--subnet", "10.89.4.0/24", "--internal"]);
    testbed.run_container("one", &["--network", "mid"]);
    let out = |via: &str| {
        assert_eq!(testbed.way_out("one", "-4").as_deref(), Some(via));
        testbed.ping_soon("one", "192.168.77.254");
    };
    out("10.89.2.1");
    for network in ["inner", "zed"] {
        testbed.docker(&["network", "connect", network, "one"]).ok();
        out("10.89.2.1");
    }
    testbed.docker(&["network", "connect", "abe", "one"]).ok();
    out("10.89.1.1");
    testbed.docker(&["network", "disconnect", "abe", "one"]).ok();
    out("10.89.2.1");
    testbed.docker(&["restart", "-t", "5", "one"]).ok();
    out("10.89.2.1");
    testbed.docker(&["network", "disconnect", "mid", "one"]).ok();
    out("10.89.3.1");
    if testbed.engine >= 28 {
        testbed.docker(&["network", "connect", "abe", "one"]).ok();
        out("10.89.1.1");
        testbed.docker(&["network", "connect", "--gw-priority", "7", "mid", "one"]).ok();
        out("10.89.2.1");
        testbed.docker(&["network", "disconnect", "mid", "one"]).ok();
        out("10.89.1.1");
    }
    for network in ["abe", "zed"] {
        testbed.docker(&["network", "disconnect", network, "one"]);
    }
    if testbed.is_pontoon() || testbed.engine >= 26 {
        assert_eq!(testbed.way_out("one", "-4"), None, "an internal network has a default route");
    }
}

#[test]
fn each_family_has_its_own_default_route() {
    on_both_with(Options::new(), families);
}

/// One network has IPv4, another has both: the families may use different default routes.
fn families(testbed: &Testbed) {
    testbed.network("four", &["--subnet", "10.90.1.0/24"]);
    testbed.network("both", &["--subnet", "10.90.2.0/24", "--ipv6", "--subnet", "fd90:2::/64"]);
    testbed.run_container("one", &["--network", "four"]);
    testbed.docker(&["network", "connect", "both", "one"]).ok();
    assert_eq!(testbed.way_out("one", "-4").as_deref(), Some("10.90.2.1"));
    assert_eq!(testbed.way_out("one", "-6").as_deref(), Some("fd90:2::1"));
    testbed.docker(&["network", "disconnect", "both", "one"]).ok();
    assert_eq!(testbed.way_out("one", "-4").as_deref(), Some("10.90.1.1"));
    assert_eq!(testbed.way_out("one", "-6"), None);
}

#[test]
fn another_router_may_be_the_gateway() {
    on_both_with(Options::new(), router);
}

fn router(testbed: &Testbed) {
    let aux = ["--aux-address", "DefaultGatewayIPv4=10.91.0.7", "--aux-address", "DefaultGatewayIPv6=fd91::7"];
    let subnets = ["--subnet", "10.91.0.0/24", "--ipv6", "--subnet", "fd91::/64"];
    testbed.network("net", &[&subnets[..], &aux].concat());
    testbed.run_container("one", &["--network", "net"]);
    assert_eq!(testbed.way_out("one", "-4").as_deref(), Some("10.91.0.7"));
    assert_eq!(testbed.way_out("one", "-6").as_deref(), Some("fd91::7"));
    // The bridge nevertheless has its address.
    testbed.ping_soon("one", "10.91.0.1");
    testbed.ping_soon("one", "fd91::1");
    let one = &testbed.inspect("one")["NetworkSettings"]["Networks"]["net"];
    assert_eq!(text(&one["Gateway"]), "10.91.0.7");
}
