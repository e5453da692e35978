//! A container that is reached at its own address through a network that is not its default route.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::thread;

use serde_json::json;

use crate::host::{Container, Host, Network, Publish};
use testkit::netns::Netns;
use testkit::topology::{TCP, UDP};

const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const WEB: [Publish; 2] = [
    Publish { protocol: 6, host_address: "", host_port: 8080, container_port: 80 },
    Publish { protocol: 17, host_address: "", host_port: 8080, container_port: 80 },
];

/// Whether a client is answered there, over TCP and UDP alike, and with which client address.
#[track_caller]
fn reaches(client: &Netns, server: &str, by: Option<&str>) {
    for protocol in [TCP, UDP] {
        assert_eq!(client.ask(protocol, server).as_deref(), by, "{protocol:?} {server}");
    }
}

/// Serves port 80 at each address of the container: a UDP answer has the requested address as source, as with TCP.
fn serve(on: &Netns, networks: &[u8]) {
    for address in networks.iter().flat_map(|n| [format!("10.{n}.0.3:80"), format!("[fd00:{n}::3]:80")]) {
        let (tcp, udp) = on.enter(|| (TcpListener::bind(&address).unwrap(), UdpSocket::bind(&address).unwrap()));
        thread::spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                let _ = stream.peer_addr().map(|peer| stream.write_all(peer.ip().to_string().as_bytes()));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    }
}

fn in_mode(mode: &'static str) -> Network {
    Network::new("two", 2).option(MODE4, mode).option(MODE6, mode)
}

/// A server whose default route is a network in mode `nat`, and that is on `back` as well.
fn server(host: &Host, back: &Network) -> (Container, crate::host::Attached) {
    let front = Network::new("one", 1);
    host.create(&front);
    host.create(back);
    let server = host.container_with(&front, 3, &WEB);
    let second = host.connect(back, &server, "eth1", 3, &WEB, false);
    serve(&server, &[1, 2]);
    assert!(
        server.pings("10.1.0.1") && server.pings("fd00:1::1") && server.pings("10.2.0.1") && server.pings("fd00:2::1")
    );
    (server, second)
}

#[test]
fn a_port_of_a_routed_network_is_open_from_join_until_leave() {
    let mut host = Host::start(&[]);
    let (server, second) = server(&host, &in_mode("routed"));
    let as_expected = |host: &Host| {
        reaches(&host.outside, "192.0.2.1:8080", Some("192.0.2.2"));
        reaches(&host.outside, "[2001:db8::1]:8080", Some("2001:db8::2"));
        reaches(&host.outside, "10.1.0.3:80", None);
        reaches(&host.outside, "[fd00:1::3]:80", None);
        reaches(&host.outside, "10.2.0.3:80", Some("192.0.2.2"));
        reaches(&host.outside, "[fd00:2::3]:80", Some("2001:db8::2"));
        reaches(&host.outside, "10.2.0.3:81", None);
        assert!(host.outside.pings("10.2.0.3") && host.outside.pings("fd00:2::3"), "ICMP");
    };
    as_expected(&host);
    // After a restart it is restored from the ledger, also if the rules are gone.
    host.end();
    host.run("nft flush ruleset");
    host.begin();
    as_expected(&host);
    // The network is not the default route, so there is nothing to revoke.
    host.ok("NetworkDriver.RevokeExternalConnectivity", &json!({"NetworkID": "two", "EndpointID": second.endpoint}));
    as_expected(&host);
    // From another network, and from a container on its own network.
    let other = host.container(&Network::new("one", 1), 4);
    assert!(other.pings("10.1.0.1") && other.pings("fd00:1::1"));
    reaches(&other, "10.2.0.3:80", Some("10.2.0.1"));
    reaches(&other, "[fd00:2::3]:80", Some("fd00:2::1"));
    let ports = host.run(&format!("curl -s --unix-socket {} http://x/ports || true", host.daemon().socket.display()));
    assert!(ports.is_empty() || ports.contains("10.2.0.3"), "{ports}");
    host.detach(&second);
    reaches(&host.outside, "10.2.0.3:80", None);
    reaches(&host.outside, "192.0.2.1:8080", Some("192.0.2.2"));
    drop(server);
}

#[test]
fn answers_via_the_default_route_pass_and_forgeries_do_not() {
    let mut host = Host::start(&[]);
    let (server, second) = server(&host, &in_mode("routed"));
    reaches(&host.outside, "10.2.0.3:80", Some("192.0.2.2"));
    // Only the server can send from that address, and from no other one.
    let arrives = |host: &Host, from: &Container, source: &str| {
        host.outside.run("nft delete table inet count 2>/dev/null; nft add table inet count; nft 'add chain inet count in { type filter hook prerouting priority -400; }'");
        host.outside.run(&format!("nft add rule inet count in ip saddr {source} counter"));
        from.run(&format!("ip addr add {source}/32 dev lo; ping -n -c 1 -W 1 -I {source} 192.0.2.2 || true; ip addr del {source}/32 dev lo"));
        !host.outside.run("nft list chain inet count in").contains("counter packets 0 ")
    };
    let other = host.container(&Network::new("one", 1), 4);
    assert!(other.pings("10.1.0.1"));
    assert!(!arrives(&host, &other, "10.2.0.3"), "another container");
    assert!(!arrives(&host, &server, "10.2.0.9"), "an address of another container");
    // A network in mode nat gives its containers no address for answers via another network.
    let third = Network::new("three", 3);
    host.create(&third);
    host.connect(&third, &server, "eth2", 3, &[], false);
    assert!(!arrives(&host, &server, "10.3.0.3"), "mode nat");
    // Without the entry its answers are dropped; after the leave they are dropped as well.
    let port = &server.first.port;
    host.end();
    host.run(&format!("nft delete element bridge pontoon source_address4 '{{ \"{port}\" . 10.2.0.3 }}'"));
    reaches(&host.outside, "10.2.0.3:80", None);
    host.begin();
    reaches(&host.outside, "10.2.0.3:80", Some("192.0.2.2"));
    host.detach(&second);
    assert!(!host.run("nft list set bridge pontoon source_address4").contains("10.2.0.3"));
    assert!(!arrives(&host, &server, "10.2.0.3"), "after it left");
}

#[test]
fn each_family_uses_its_own_mode() {
    let host = Host::start(&[]);
    let (_server, second) = server(
        &host,
        &Network::new("two", 2)
            .option(MODE6, "routed")
            .option("com.docker.network.bridge.trusted_host_interfaces", "up0"),
    );
    let id = json!({"NetworkID": "two", "EndpointID": second.endpoint});
    let closed = || {
        reaches(&host.outside, "10.2.0.3:80", None);
        reaches(&host.outside, "[fd00:2::3]:80", Some("2001:db8::2"));
        reaches(&host.outside, "192.0.2.1:8090", None);
    };
    closed();
    // The network becomes the default route, with its own port, and ceases to be it.
    let map = json!([{"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8090, "HostPortEnd": 8090},
        {"Proto": 17, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8090, "HostPortEnd": 8090}]);
    let mut program = id.clone();
    program["Options"] = json!({"com.docker.network.portmap": map});
    for _ in 0..2 {
        host.ok("NetworkDriver.ProgramExternalConnectivity", &program);
        assert!(host.run("nft list map inet pontoon published4").contains("8090"));
        assert!(!host.run("nft list map inet pontoon published6").contains("8090"));
        host.ok("NetworkDriver.RevokeExternalConnectivity", &id);
        closed();
    }
}

#[test]
fn a_network_with_the_default_route_opens_the_same_ports() {
    let host = Host::start(&[]);
    let network = Network::new("one", 1).option(MODE6, "routed");
    host.create(&network);
    // Join and ProgramExternalConnectivity report the same ports.
    let server = host.container_with(&network, 3, &WEB);
    serve(&server, &[1]);
    assert!(server.pings("fd00:1::1"));
    reaches(&host.outside, "192.0.2.1:8080", Some("192.0.2.2"));
    reaches(&host.outside, "[fd00:1::3]:80", Some("2001:db8::2"));
}

#[test]
fn an_unprotected_network_is_reached() {
    let host = Host::start(&[]);
    let (_server, _second) = server(&host, &in_mode("nat-unprotected"));
    for port in [80, 8080] {
        let by = (port == 80).then_some("192.0.2.2");
        reaches(&host.outside, &format!("10.2.0.3:{port}"), by);
    }
    reaches(&host.outside, "[fd00:2::3]:80", Some("2001:db8::2"));
}

#[test]
fn only_allowed_sources_reach_it() {
    for mode in ["routed", "nat-unprotected"] {
        let host = Host::start(&[]);
        let back = in_mode(mode).option("pontoon.publish.allow", "192.0.2.7/32,2001:db8::/64");
        let (_server, _second) = server(&host, &back);
        reaches(&host.outside, "10.2.0.3:80", None);
        reaches(&host.outside, "[fd00:2::3]:80", Some("2001:db8::2"));
    }
}

#[test]
fn a_server_and_a_client_on_two_routed_networks() {
    let host = Host::start(&[]);
    let (front, back) = (Network::new("one", 1).option(MODE4, "routed").option(MODE6, "routed"), in_mode("routed"));
    host.create(&front);
    host.create(&back);
    let server = host.container_with(&front, 3, &WEB);
    host.connect(&back, &server, "eth1", 3, &WEB, false);
    serve(&server, &[1, 2]);
    let client = host.container(&back, 2);
    assert!(client.pings("10.2.0.1") && client.pings("fd00:2::1") && server.pings("fd00:1::1"));
    assert!(server.pings("fd00:2::1") && client.pings("fd00:2::3"));
    reaches(&client, "10.1.0.3:80", Some("10.2.0.2"));
    reaches(&client, "[fd00:1::3]:80", Some("fd00:2::2"));
}
