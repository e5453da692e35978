//! Published ports follow the container's default route; and the output of `pontoon ports`.

use crate::{
    probe::{
        Expect::{By, Closed},
        From::Outside,
    },
    topology::{NODE4, Scenario, on_both, on_pontoon},
};

const OPEN: [(crate::probe::From<'static>, &str, crate::probe::Expect<'static>); 3] = [
    (Outside, "tcp,192.168.77.1,8240", By("web:80")),
    (Outside, "udp,192.168.77.1,8241", By("web:53")),
    (Outside, "tcp,192.168.77.1,8242", Closed),
];

#[test]
fn ports_follow_the_gateway_between_networks() {
    on_both(networks);
}

/// The default gateway is on the network whose name comes first.
fn networks(scenario: &Scenario) {
    scenario.network("b-net", &["--subnet", "10.134.2.0/24", "--ipv6", "--subnet", "fd34:2::/64"]);
    scenario.network("a-net", &["--subnet", "10.134.1.0/24", "--ipv6", "--subnet", "fd34:1::/64"]);
    scenario.network("c-net", &["--internal", "--subnet", "10.134.3.0/24"]);
    scenario.serve("web", &["tcp:80", "udp:53"], &["--network", "b-net", "-p", "8240:80", "-p", "8241:53/udp"]);
    move_gateway(scenario, "a-net", "b-net", ["10.134.1.", "10.134.2."]);
    // A network without a gateway changes nothing.
    scenario.docker(&["network", "connect", "c-net", "web"]).ok();
    scenario.expect(&OPEN);
    scenario.docker(&["network", "disconnect", "b-net", "web"]).ok();
    // The oldest engine's proxy also reaches into an internal network.
    if scenario.is_pontoon() || scenario.engine >= 26 {
        scenario.expect(&[(Outside, "tcp,192.168.77.1,8240", Closed)]);
        assert!(scenario.free("tcp", "0.0.0.0", "8240"));
    }
    scenario.docker(&["network", "connect", "b-net", "web"]).ok();
    scenario.expect(&OPEN);
}

#[test]
fn ports_follow_the_gateway_between_drivers() {
    on_pontoon(drivers);
}

fn drivers(scenario: &Scenario) {
    for (first, second) in [("bridge", "pontoon"), ("pontoon", "bridge")] {
        scenario.create_network(first, "a-net", &["--subnet", "10.135.1.0/24"]).ok();
        scenario.create_network(second, "b-net", &["--subnet", "10.135.2.0/24"]).ok();
        scenario.serve("web", &["tcp:80", "udp:53"], &["--network", "b-net", "-p", "8240:80", "-p", "8241:53/udp"]);
        move_gateway(scenario, "a-net", "b-net", ["10.135.1.", "10.135.2."]);
        scenario.docker(&["network", "connect", "a-net", "web"]).ok();
        scenario.not_ready("web");
        scenario.docker(&["restart", "-t", "5", "web"]).ok();
        scenario.listens("web");
        scenario.expect(&OPEN);
        scenario.sweep_names(&["web"], &["a-net", "b-net"]);
        for (protocol, port) in [("tcp", "8240"), ("udp", "8241")] {
            assert!(scenario.free(protocol, "0.0.0.0", port) && scenario.free(protocol, "::", port));
        }
    }
}

/// The container is on `second`; the default route moves to `first` and back, several times.
fn move_gateway(scenario: &Scenario, first: &str, second: &str, subnets: [&str; 2]) {
    scenario.expect(&OPEN);
    for _ in 0..2 {
        scenario.docker(&["network", "connect", first, "web"]).ok();
        scenario.expect(&OPEN);
        assert_published_in(scenario, subnets[0]);
        scenario.docker(&["network", "disconnect", first, "web"]).ok();
        scenario.expect(&OPEN);
        assert_published_in(scenario, subnets[1]);
    }
    scenario.docker(&["network", "connect", first, "web"]).ok();
    scenario.docker(&["network", "disconnect", second, "web"]).ok();
    scenario.expect(&OPEN);
    assert_published_in(scenario, subnets[0]);
    scenario.docker(&["network", "connect", second, "web"]).ok();
    scenario.expect(&OPEN);
    scenario.docker(&["network", "disconnect", first, "web"]).ok();
    scenario.expect(&OPEN);
}

/// Asserts that Pontoon, if it publishes the port, publishes it for this subnet.
fn assert_published_in(scenario: &Scenario, subnet: &str) {
    if !scenario.is_pontoon() {
        return;
    }
    for line in scenario.ports() {
        let container = line["container"].as_str().unwrap_or_default();
        assert!(container.contains(':') || container.starts_with(subnet), "{line} is not in {subnet}");
    }
}

#[test]
fn pontoon_shows_all_ports() {
    on_pontoon(shows);
}

fn shows(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.136.1.0/24", "--ipv6", "--subnet", "fd36:1::/64"]);
    scenario.network("other", &["--subnet", "10.136.2.0/24"]);
    assert_eq!(scenario.ports(), Vec::<serde_json::Value>::new());
    scenario.serve("web", &["tcp:80", "udp:53"], &["--network", "net", "-p", "8250:80", "-p", "53/udp"]);
    scenario.serve("local", &["tcp:80"], &["--network", "other", "-p", "127.0.0.1:8251:80"]);
    let lines = scenario.ports();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let of = |name: &str| lines.iter().filter(|line| line["container_name"] == name).count();
    assert_eq!((of("web"), of("local")), (4, 1));
    assert!(lines.iter().all(|line| line["network_name"] == "net" || line["network_name"] == "other"));
    for line in &lines {
        assert_eq!(line["ephemeral"], line["container_port"] == 53, "{line}");
    }
    let chosen = scenario.published("web", "53/udp");
    scenario.expect(&[(Outside, &format!("udp,{NODE4},{}", chosen[0].1), By("web:53"))]);
    let socket = "/run/docker/plugins/pontoon.sock";
    let table = scenario.exec(&["/lab/pontoon", "ports", "--socket", socket, "--docker", "/run/docker.sock"]).ok();
    println!("{table}");
    for part in ["web", "local", "0.0.0.0:8250/tcp", "[::]:8250/tcp", "127.0.0.1:8251/tcp", &chosen[0].1.to_string()] {
        assert!(table.contains(part), "{part}: {table}");
    }
    // Without the engine's socket there are no names.
    let bare = scenario.exec(&["/lab/pontoon", "ports", "--socket", socket]).ok();
    assert!(bare.contains("0.0.0.0:8250/tcp") && !bare.contains("web"), "{bare}");
    let network = scenario.network_info("other")["Id"].as_str().unwrap_or_default().to_owned();
    let one = scenario.exec(&["/lab/pontoon", "ports", "--json", "--network", &network]).json();
    assert_eq!(one.as_array().map(Vec::len), Some(1), "{one}");
    scenario.docker(&["rm", "-f", "web", "local"]).ok();
    assert_eq!(scenario.ports(), Vec::<serde_json::Value>::new());
    scenario.exec(&["/lab/pontoon", "ports", "--socket", "/run/nobody.sock"]).err();
}
