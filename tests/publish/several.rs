//! A container on several networks: its published ports are reached from all of them, and its port on a routed network
//! also if that is not its default route. And an administrator's NAT rules have precedence over the driver's.

use crate::{
    probe::{
        Expect::{By, Closed, Is},
        From::{Host, In, Outside},
    },
    topology::{Scenario, on_both},
};

#[test]
fn a_server_on_two_networks_is_reached_from_both() {
    on_both(two_networks);
}

/// The default gateway is on the network whose name comes first.
fn two_networks(scenario: &Scenario) {
    scenario.network("a-net", &["--subnet", "10.171.1.0/24", "--ipv6", "--subnet", "fd71:1::/64"]);
    scenario.network("b-net", &["--subnet", "10.171.2.0/24", "--ipv6", "--subnet", "fd71:2::/64"]);
    scenario.serve("web", &["tcp:80", "udp:53"], &["--network", "a-net", "-p", "8410:80", "-p", "8411:53/udp"]);
    scenario.docker(&["network", "connect", "b-net", "web"]).ok();
    scenario.serve("near", &["tcp:80"], &["--network", "b-net"]);
    scenario.serve("same", &["tcp:80"], &["--network", "a-net"]);
    let mut rows = vec![
        (In("near"), "tcp,192.168.77.1,8410", By("web:80")),
        (In("near"), "tcp,10.171.2.1,8410", By("web:80")),
        (In("near"), "udp,10.171.2.1,8411", By("web:53")),
        (In("same"), "tcp,192.168.77.1,8410", By("web:80")),
        (In("web"), "tcp,192.168.77.1,8410", By("web:80")),
        (Host, "tcp,192.168.77.1,8410", By("web:80")),
        (Host, "tcp,127.0.0.1,8410", By("web:80")),
        (Host, "tcp,10.171.2.1,8410", By("web:80")),
        (Outside, "tcp,192.168.77.1,8410", By("web:80")),
        (Outside, "udp,192.168.77.1,8411", By("web:53")),
    ];
    if scenario.has_six() {
        rows.extend([
            (In("near"), "tcp,fd77::1,8410", By("web:80")),
            (In("near"), "tcp,fd71:2::1,8410", By("web:80")),
            (Host, "tcp,fd71:2::1,8410", By("web:80")),
            (Outside, "tcp,fd77::1,8410", By("web:80")),
        ]);
    }
    if scenario.is_pontoon() {
        // A proxy answers from an address other than the requested one, if it is UDP.
        rows.push((In("near"), "udp,192.168.77.1,8411", By("web:53")));
        rows.push((In("near"), "udp,fd77::1,8411", By("web:53")));
        rows.push((In("near"), "tcp,192.168.77.1,8410", Is("web:80 10.171.1.1")));
    }
    scenario.expect(&rows);
    scenario.expect(&[(In("near"), "tcp,10.171.1.2,80", Closed)]);
}

#[test]
fn a_server_and_its_client_on_the_engines_own_network_too() {
    crate::topology::on_pontoon(beside_the_engines);
}

fn beside_the_engines(scenario: &Scenario) {
    scenario.network("a-net", &["--subnet", "10.172.1.0/24"]);
    scenario.create_network("bridge", "b-net", &["--subnet", "10.172.2.0/24"]).ok();
    scenario.serve("web", &["tcp:80", "udp:53"], &["--network", "a-net", "-p", "8412:80", "-p", "8413:53/udp"]);
    scenario.docker(&["network", "connect", "b-net", "web"]).ok();
    scenario.serve("near", &["tcp:80"], &["--network", "b-net"]);
    scenario.expect(&[
        (In("near"), "tcp,192.168.77.1,8412", By("web:80")),
        (In("near"), "udp,192.168.77.1,8413", By("web:53")),
        (In("near"), "tcp,10.172.2.1,8412", By("web:80")),
        (Outside, "tcp,192.168.77.1,8412", By("web:80")),
    ]);
    // The other way round: the engine's network provides the default route.
    scenario.create_network("bridge", "0-net", &["--subnet", "10.172.3.0/24"]).ok();
    scenario.serve("site", &["tcp:80"], &["--network", "0-net", "-p", "8414:80"]);
    scenario.docker(&["network", "connect", "a-net", "site"]).ok();
    scenario.serve("client", &["tcp:80"], &["--network", "a-net"]);
    scenario.expect(&[
        (In("client"), "tcp,192.168.77.1,8414", By("site:80")),
        (In("client"), "tcp,10.172.1.1,8414", By("site:80")),
    ]);
}

#[test]
fn a_routed_network_without_the_default_route_has_its_port_open() {
    on_both(routed);
}

fn routed(scenario: &Scenario) {
    // The built-in driver supports this since the gateway can be chosen.
    if !scenario.is_pontoon() && scenario.engine < 28 {
        return;
    }
    let mode = |family: u8| format!("com.docker.network.bridge.gateway_mode_ipv{family}=routed");
    let (four, six) = (mode(4), mode(6));
    scenario.network("a-net", &["--subnet", "10.173.1.0/24", "--ipv6", "--subnet", "fd73:1::/64"]);
    scenario
        .network("b-net", &["--subnet", "10.173.2.0/24", "--ipv6", "--subnet", "fd73:2::/64", "-o", &four, "-o", &six]);
    scenario.route_from_outside(&["10.173.1.0/24", "10.173.2.0/24", "fd73:1::/64", "fd73:2::/64"]);
    scenario.serve("web", &["tcp:80-81"], &["--network", "a-net", "-p", "8415:80"]);
    scenario.docker(&["network", "connect", "b-net", "web"]).ok();
    let open = [
        (Outside, "tcp,192.168.77.1,8415", By("web:80")),
        (Outside, "tcp,fd77::1,8415", By("web:80")),
        (Outside, "tcp,10.173.1.2,80", Closed),
        (Outside, "tcp,fd73:1::2,80", Closed),
        (Outside, "tcp,10.173.2.2,80", Is("web:80 192.168.77.2")),
        (Outside, "tcp,fd73:2::2,80", Is("web:80 fd77::2")),
        (Outside, "tcp,10.173.2.2,81", Closed),
    ];
    scenario.expect(&open);
    // The default route moves there and back: the port stays open.
    scenario.docker(&["network", "disconnect", "a-net", "web"]).ok();
    scenario.expect(&[(Outside, "tcp,10.173.2.2,80", By("web:80")), (Outside, "tcp,192.168.77.1,8415", Closed)]);
    scenario.docker(&["network", "connect", "a-net", "web"]).ok();
    scenario.expect(&open[4..]);
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8415", By("web:80"))]);
    scenario.docker(&["network", "disconnect", "b-net", "web"]).ok();
    scenario.expect(&[(Outside, "tcp,10.173.2.2,80", Closed), (Outside, "tcp,192.168.77.1,8415", By("web:80"))]);
}

#[test]
fn an_administrators_nat_rules_have_precedence() {
    on_both(translations);
}

fn translations(scenario: &Scenario) {
    scenario.exec(&["ip", "addr", "add", "192.168.77.50/32", "dev", "eth0"]);
    scenario.network("net", &["--subnet", "10.174.1.0/24"]);
    scenario.serve("web", &["tcp:80"], &["--network", "net", "-p", "8416:80"]);
    scenario.serve("other", &["tcp:80"], &["--network", "net", "-p", "8417:80"]);
    let _remote = scenario.serve_outside("remote", &["tcp:80"]);
    scenario.route_from_outside(&["10.174.1.0/24"]);
    let nat = |rule: &[&str]| scenario.exec(&[&["iptables", "-t", "nat"][..], rule].concat()).ok();
    let usual = |scenario: &Scenario| {
        scenario.expect(&[
            (In("web"), "tcp,192.168.77.2,80", Is("remote:80 192.168.77.1")),
            (Outside, "tcp,192.168.77.1,8416", By("web:80")),
        ]);
    };
    usual(scenario);
    let post = ["POSTROUTING", "-s", "10.174.1.0/24", "-d", "192.168.77.2", "-j"];
    let pre = ["PREROUTING", "-p", "tcp", "-s", "192.168.77.2", "--dport", "8416", "-j"];
    let address = [&post[..], &["SNAT", "--to-source", "192.168.77.50"]].concat();
    let exempt = [&post[..], &["NETMAP", "--to", "10.174.1.0/24"]].concat();
    let away = [&pre[..], &["DNAT", "--to-destination", "10.174.1.3:80"]].concat();
    let redirect = [&pre[..], &["REDIRECT", "--to-ports", "8417"]].concat();
    for (rule, seen) in [(&address, "remote:80 192.168.77.50"), (&exempt, "remote:80 10.174.1.2")] {
        nat(&[&["-I"][..], rule].concat());
        scenario.expect(&[(In("web"), "tcp,192.168.77.2,80", Is(seen))]);
        nat(&[&["-D"][..], rule].concat());
        usual(scenario);
    }
    nat(&[&["-I"][..], &away].concat());
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8416", By("other:80"))]);
    nat(&[&["-D"][..], &away].concat());
    // To a port without a server on the host: the socket that reserves it rejects the connection, and it is not
    // forwarded.
    nat(&[&["-I"][..], &redirect].concat());
    if scenario.is_pontoon() {
        scenario.expect(&[(Outside, "tcp,192.168.77.1,8416", Closed)]);
    }
    nat(&[&["-D"][..], &redirect].concat());
    usual(scenario);
}
