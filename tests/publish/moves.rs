//! Published ports move with the container's way out; and what `pontoon ports` shows.

use crate::{
    probe::{
        Expect::{By, Closed},
        From::Outside,
    },
    stage::{NODE4, Scene, on_both, on_pontoon},
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

/// The gateway is on the network whose name comes first.
fn networks(scene: &Scene) {
    scene.network("b-net", &["--subnet", "10.134.2.0/24", "--ipv6", "--subnet", "fd34:2::/64"]);
    scene.network("a-net", &["--subnet", "10.134.1.0/24", "--ipv6", "--subnet", "fd34:1::/64"]);
    scene.network("c-net", &["--internal", "--subnet", "10.134.3.0/24"]);
    scene.serve("web", &["tcp:80", "udp:53"], &["--network", "b-net", "-p", "8240:80", "-p", "8241:53/udp"]);
    moving(scene, "a-net", "b-net", ["10.134.1.", "10.134.2."]);
    // a network without a way out changes nothing
    scene.docker(&["network", "connect", "c-net", "web"]).ok();
    scene.expect(&OPEN);
    scene.docker(&["network", "disconnect", "b-net", "web"]).ok();
    // the oldest engine's proxy leads into an internal network too
    if scene.is_pontoon() || scene.engine >= 26 {
        scene.expect(&[(Outside, "tcp,192.168.77.1,8240", Closed)]);
        assert!(scene.free("tcp", "0.0.0.0", "8240"));
    }
    scene.docker(&["network", "connect", "b-net", "web"]).ok();
    scene.expect(&OPEN);
}

#[test]
fn ports_follow_the_gateway_between_drivers() {
    on_pontoon(drivers);
}

fn drivers(scene: &Scene) {
    for (first, second) in [("bridge", "pontoon"), ("pontoon", "bridge")] {
        scene.create_network(first, "a-net", &["--subnet", "10.135.1.0/24"]).ok();
        scene.create_network(second, "b-net", &["--subnet", "10.135.2.0/24"]).ok();
        scene.serve("web", &["tcp:80", "udp:53"], &["--network", "b-net", "-p", "8240:80", "-p", "8241:53/udp"]);
        moving(scene, "a-net", "b-net", ["10.135.1.", "10.135.2."]);
        scene.docker(&["network", "connect", "a-net", "web"]).ok();
        scene.not_ready("web");
        scene.docker(&["restart", "-t", "5", "web"]).ok();
        scene.listens("web");
        scene.expect(&OPEN);
        scene.sweep_names(&["web"], &["a-net", "b-net"]);
        for (protocol, port) in [("tcp", "8240"), ("udp", "8241")] {
            assert!(scene.free(protocol, "0.0.0.0", port) && scene.free(protocol, "::", port));
        }
    }
}

/// The container is on `second`; `first` takes over and gives back, several times.
fn moving(scene: &Scene, first: &str, second: &str, subnets: [&str; 2]) {
    scene.expect(&OPEN);
    for _ in 0..2 {
        scene.docker(&["network", "connect", first, "web"]).ok();
        scene.expect(&OPEN);
        at(scene, subnets[0]);
        scene.docker(&["network", "disconnect", first, "web"]).ok();
        scene.expect(&OPEN);
        at(scene, subnets[1]);
    }
    scene.docker(&["network", "connect", first, "web"]).ok();
    scene.docker(&["network", "disconnect", second, "web"]).ok();
    scene.expect(&OPEN);
    at(scene, subnets[0]);
    scene.docker(&["network", "connect", second, "web"]).ok();
    scene.expect(&OPEN);
    scene.docker(&["network", "disconnect", first, "web"]).ok();
    scene.expect(&OPEN);
}

/// Where Pontoon says that the port leads, if it is Pontoon's.
fn at(scene: &Scene, subnet: &str) {
    if !scene.is_pontoon() {
        return;
    }
    for line in scene.ports() {
        let container = line["container"].as_str().unwrap_or_default();
        assert!(container.contains(':') || container.starts_with(subnet), "{line} is not at {subnet}");
    }
}

#[test]
fn pontoon_shows_all_ports() {
    on_pontoon(shows);
}

fn shows(scene: &Scene) {
    scene.network("net", &["--subnet", "10.136.1.0/24", "--ipv6", "--subnet", "fd36:1::/64"]);
    scene.network("other", &["--subnet", "10.136.2.0/24"]);
    assert_eq!(scene.ports(), Vec::<serde_json::Value>::new());
    scene.serve("web", &["tcp:80", "udp:53"], &["--network", "net", "-p", "8250:80", "-p", "53/udp"]);
    scene.serve("local", &["tcp:80"], &["--network", "other", "-p", "127.0.0.1:8251:80"]);
    let lines = scene.ports();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let of = |name: &str| lines.iter().filter(|line| line["container_name"] == name).count();
    assert_eq!((of("web"), of("local")), (4, 1));
    assert!(lines.iter().all(|line| line["network_name"] == "net" || line["network_name"] == "other"));
    for line in &lines {
        assert_eq!(line["ephemeral"], line["container_port"] == 53, "{line}");
    }
    let chosen = scene.published("web", "53/udp");
    scene.expect(&[(Outside, &format!("udp,{NODE4},{}", chosen[0].1), By("web:53"))]);
    let socket = "/run/docker/plugins/pontoon.sock";
    let table = scene.exec(&["/lab/pontoon", "ports", "--socket", socket, "--docker", "/run/docker.sock"]).ok();
    println!("{table}");
    for part in ["web", "local", "0.0.0.0:8250/tcp", "[::]:8250/tcp", "127.0.0.1:8251/tcp", &chosen[0].1.to_string()] {
        assert!(table.contains(part), "{part}: {table}");
    }
    // without the engine's socket there are no names
    let bare = scene.exec(&["/lab/pontoon", "ports", "--socket", socket]).ok();
    assert!(bare.contains("0.0.0.0:8250/tcp") && !bare.contains("web"), "{bare}");
    let network = scene.network_info("other")["Id"].as_str().unwrap_or_default().to_owned();
    let one = scene.exec(&["/lab/pontoon", "ports", "--json", "--network", &network]).json();
    assert_eq!(one.as_array().map(Vec::len), Some(1), "{one}");
    scene.docker(&["rm", "-f", "web", "local"]).ok();
    assert_eq!(scene.ports(), Vec::<serde_json::Value>::new());
    scene.exec(&["/lab/pontoon", "ports", "--socket", "/run/nobody.sock"]).err();
}
