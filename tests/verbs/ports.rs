//! program_external_connectivity and revoke_external_connectivity: the published ports, conflicts, and cleanup.

use pontoon::datapath::fake::Fault;
use pontoon::datapath::{Kernel, LinkProperty, Policy, Step};
use pontoon::model::{HostPort, Protocol};
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, join, network, of};

fn port(proto: u8, host_ip: &str, host: u16, last: u16, container: u16) -> Value {
    json!({"Proto": proto, "IP": "", "Port": container, "HostIP": host_ip, "HostPort": host, "HostPortEnd": last})
}

fn program(net: &str, id: &str, ports: Value) -> Value {
    json!({"NetworkID": net, "EndpointID": id, "Options": {"com.docker.network.portmap": ports}})
}

/// A dual-stack network with one joined endpoint, 10.N.0.2 and fdNN::2.
fn harness_with(options: Value) -> Harness {
    let harness = Harness::new();
    let mut body = network("aa", 1, true);
    body["Options"]["com.docker.network.generic"] = options;
    harness.ok("NetworkDriver.CreateNetwork", body);
    attach(&harness, "e1", 2, "box1");
    harness
}

fn attach(harness: &Harness, id: &str, n: u8, sandbox: &str) {
    let mut body = endpoint("aa", id, &format!("10.1.0.{n}/24"));
    body["Interface"]["AddressIPv6"] = json!(format!("fd01::{n}/64"));
    harness.ok("NetworkDriver.CreateEndpoint", body);
    let mut body = join("aa", id);
    body["SandboxKey"] = json!(format!("/var/run/docker/netns/{sandbox}"));
    harness.ok("NetworkDriver.Join", body);
}

/// The published ports, as text.
fn published(harness: &Harness) -> Vec<String> {
    let elements = harness.kernel.datapath().policy.unwrap();
    let show = |e: &Policy| match e {
        Policy::Published(p) => Some(format!("{} -> {} {}", p.host, p.container, p.container_port)),
        _ => None,
    };
    elements.iter().filter_map(show).collect()
}

fn reserved(harness: &Harness) -> Vec<String> {
    harness.kernel.reserved().iter().map(ToString::to_string).collect()
}

#[test]
fn a_port_without_an_address_is_published_in_both_families() {
    let harness = harness_with(json!({}));
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 8080, 8080, 80)])));
    assert_eq!(published(&harness), ["0.0.0.0:8080/tcp -> 10.1.0.2 80", "[::]:8080/tcp -> fd01::2 80"]);
    assert_eq!(reserved(&harness), ["0.0.0.0:8080/tcp", "[::]:8080/tcp"]);
    assert!(harness.kernel.datapath().veths().values().all(|v| v.hairpin));
    for _ in 0..2 {
        harness.ok("NetworkDriver.RevokeExternalConnectivity", of("aa", "e1"));
        assert_eq!((published(&harness).len(), reserved(&harness).len()), (0, 0));
    }
}

#[test]
fn addresses_protocols_ranges_and_ephemeral_ports() {
    let harness = harness_with(json!({}));
    let ports = json!([
        port(6, "127.0.0.1", 9000, 9000, 90),
        port(17, "192.0.2.1", 53, 53, 53),
        port(132, "::1", 5000, 5000, 50),
        port(6, "", 8000, 8010, 80),
        port(6, "", 0, 0, 70),
    ]);
    harness.kernel.take_port(HostPort { protocol: Protocol::Tcp, address: "0.0.0.0".parse().unwrap(), port: 8000 });
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", ports.clone()));
    let first = published(&harness);
    for expected in [
        "127.0.0.1:9000/tcp -> 10.1.0.2 90",
        "192.0.2.1:53/udp -> 10.1.0.2 53",
        "[::1]:5000/sctp -> fd01::2 50",
        "0.0.0.0:8001/tcp -> 10.1.0.2 80",
        "[::]:8001/tcp -> fd01::2 80",
        "0.0.0.0:32768/tcp -> 10.1.0.2 70",
        "[::]:32768/tcp -> fd01::2 70",
    ] {
        assert!(first.iter().any(|line| line == expected), "{expected} in {first:#?}");
    }
    assert_eq!(first.len(), 7);
    // The order of the ports does not matter.
    let mut turned = ports.as_array().unwrap().clone();
    turned.reverse();
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!(turned)));
    assert_eq!(published(&harness), first);
    // One port less: the others are kept.
    turned.pop();
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!(turned)));
    assert_eq!(published(&harness).len(), 6);
    assert!(published(&harness).iter().all(|line| first.contains(line)));
    assert_eq!(reserved(&harness).len(), 6);
}

#[test]
fn two_addresses_of_one_ephemeral_port_share_it() {
    let harness = harness_with(json!({}));
    let ports = json!([port(6, "127.0.0.1", 0, 0, 80), port(6, "192.0.2.1", 0, 0, 80)]);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", ports));
    assert_eq!(published(&harness), ["127.0.0.1:32768/tcp -> 10.1.0.2 80", "192.0.2.1:32768/tcp -> 10.1.0.2 80"]);
}

#[test]
fn a_requested_port_is_never_chosen_for_another() {
    let harness = harness_with(json!({}));
    let publish = |ports: Value| {
        harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", ports));
        let four = published(&harness).into_iter().filter(|line| line.starts_with("0.0.0.0"));
        four.map(|line| line.split(['/', ':']).nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let named = || port(6, "", 8080, 8080, 80);
    assert_eq!(publish(json!([named()])), ["8080"]);
    assert_eq!(publish(json!([named(), port(6, "", 0, 0, 80)])), ["8080", "32768"]);
    // A range around both requires a third port, and one of the chosen ports is now requested.
    let all = [named(), port(6, "", 0, 0, 80), port(6, "", 8080, 8090, 80), port(6, "", 32768, 32768, 80)];
    assert_eq!(publish(json!(all)), ["8080", "8081", "32768", "32769"]);
    assert_eq!(publish(json!(all)), ["8080", "8081", "32768", "32769"], "again");
    // A requested port within the ephemeral range is not chosen for another one of the same request.
    assert_eq!(publish(json!([port(6, "", 32770, 32770, 80), port(6, "", 0, 0, 90)])), ["32770", "32771"]);
    assert_eq!(reserved(&harness).len(), 4);
}

#[test]
fn one_port_cannot_have_two_targets() {
    let harness = harness_with(json!({}));
    for second in [port(6, "", 8080, 8080, 81), port(6, "192.0.2.1", 8080, 8080, 81)] {
        let ports = json!([port(6, "", 8080, 8080, 80), second]);
        let text = harness.err("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", ports));
        assert!(text.contains("8080/tcp is already published by endpoint e1"), "{text}");
        assert_eq!((published(&harness).len(), reserved(&harness).len()), (0, 0));
    }
    let apart = json!([port(6, "192.0.2.1", 8080, 8080, 80), port(6, "192.0.2.2", 8080, 8080, 81)]);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", apart));
    assert_eq!(published(&harness).len(), 2);
}

#[test]
fn conflicts_are_named_and_change_nothing() {
    let harness = harness_with(json!({}));
    attach(&harness, "e2", 3, "box2");
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 8080, 8080, 80)])));
    let before = (published(&harness), reserved(&harness));
    harness.kernel.take_port(HostPort { protocol: Protocol::Tcp, address: "::".parse().unwrap(), port: 8081 });
    for (ports, says) in [
        (json!([port(6, "", 7000, 7000, 70), port(6, "", 8080, 8080, 80)]), "endpoint e1"),
        (json!([port(6, "", 7000, 7000, 70), port(6, "192.0.2.1", 8080, 8080, 80)]), "endpoint e1"),
        (json!([port(6, "", 7000, 7000, 70), port(6, "", 8081, 8081, 80)]), "[::]:8081/tcp"),
        (json!([port(6, "", 8080, 8081, 80)]), "from 8080 to 8081"),
        (json!([port(1, "", 8, 8, 8)]), "protocol 1"),
        (json!([port(6, "nowhere", 8, 8, 8)]), "nowhere"),
        (json!([port(6, "", 8, 8, 0)]), "container port 0"),
        (json!("all of them"), "published ports"),
    ] {
        let text = harness.err("NetworkDriver.ProgramExternalConnectivity", program("aa", "e2", ports));
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
        assert_eq!((published(&harness), reserved(&harness)), before, "{text}");
    }
    // A failed change keeps the previous ports.
    let text = harness
        .err("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 8081, 8081, 80)])));
    assert!(text.contains("8081"), "{text}");
    assert_eq!((published(&harness), reserved(&harness)), before);
}

#[test]
fn a_refusal_by_the_kernel_changes_nothing() {
    let harness = harness_with(json!({}));
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 8080, 8080, 80)])));
    let before = (published(&harness), reserved(&harness));
    for _ in 0..6 {
        let is_ports = |s: &Step| matches!(s, Step::ChangeFirewall { add, .. } if add.iter().any(|e| matches!(e, Policy::Published(p) if p.host.port == 9090)));
        harness.kernel.inject(is_ports, Fault::Refuse(libc::ENOMEM));
    }
    let text = harness.err(
        "NetworkDriver.ProgramExternalConnectivity",
        program("aa", "e1", json!([port(6, "", 8080, 8080, 80), port(6, "", 9090, 9090, 90)])),
    );
    assert!(text.contains("published ports of endpoint e1"), "{text}");
    assert_eq!((published(&harness), reserved(&harness)), before);
}

#[test]
fn leave_and_delete_clean_up_without_a_revoke() {
    for method in ["Leave", "DeleteEndpoint"] {
        let harness = harness_with(json!({}));
        harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(17, "", 53, 53, 53)])));
        harness.kernel.take_flushed();
        harness.ok(&format!("NetworkDriver.{method}"), of("aa", "e1"));
        assert_eq!((published(&harness).len(), reserved(&harness).len()), (0, 0), "{method}");
        assert!(!harness.kernel.take_flushed().is_empty(), "flows to the container are removed");
    }
}

/// The ports whose stale connections were flushed since the last call, as text.
fn flushed(harness: &Harness) -> Vec<String> {
    let steps = harness.kernel.take_steps();
    // Only after the rules are in place: until then new stale connections can appear.
    let rules = steps.iter().position(|s| matches!(s, Step::ChangeFirewall { .. } | Step::CreateFirewall(_)));
    let stale = steps.iter().position(|s| matches!(s, Step::FlushStaleConntrack(_)));
    assert!(stale.is_none() || rules < stale, "{steps:?}");
    let ports = steps.iter().filter_map(|s| if let Step::FlushStaleConntrack(ports) = s { Some(ports) } else { None });
    ports.flatten().map(|port| port.host.to_string()).collect()
}

#[test]
fn stale_connections_are_flushed_when_a_port_is_published() {
    let harness = harness_with(json!({}));
    harness.kernel.take_steps();
    let ports = json!([port(6, "", 80, 80, 80), port(17, "", 53, 53, 53), port(132, "192.0.2.1", 7000, 7000, 70)]);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", ports.clone()));
    let all = ["192.0.2.1:7000/sctp", "0.0.0.0:53/udp", "[::]:53/udp"];
    let sorted = |mut ports: Vec<String>| {
        ports.sort();
        ports
    };
    let all = sorted(all.map(str::to_owned).to_vec());
    assert_eq!(sorted(flushed(&harness)), all);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", ports));
    assert_eq!(flushed(&harness), [""; 0], "nothing changed");
    let leads_elsewhere = json!([port(17, "", 53, 53, 54)]);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", leads_elsewhere));
    assert_eq!(sorted(flushed(&harness)), ["0.0.0.0:53/udp", "[::]:53/udp"]);
    harness.kernel.meddle(|d| d.policy = None);
    harness.life().driver.repair_firewall().whole().unwrap();
    assert_eq!(sorted(flushed(&harness)), ["0.0.0.0:53/udp", "[::]:53/udp"], "after a restore of a flushed table");
    harness.ok("NetworkDriver.RevokeExternalConnectivity", of("aa", "e1"));
    assert_eq!(flushed(&harness), [""; 0]);
}

#[test]
fn published_ports_survive_a_restart_and_not_a_reboot() {
    let mut harness = harness_with(json!({}));
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 0, 0, 80)])));
    let before = (published(&harness), reserved(&harness));
    harness.kernel.release(&harness.kernel.reserved().into_iter().collect::<Vec<_>>());
    harness.restart();
    assert_eq!((published(&harness), reserved(&harness)), before);
    let text = {
        attach(&harness, "e2", 3, "box2");
        harness.err(
            "NetworkDriver.ProgramExternalConnectivity",
            program("aa", "e2", json!([port(6, "", 32768, 32768, 80)])),
        )
    };
    assert!(text.contains("endpoint e1"), "{text}");
    harness.reboot();
    assert_eq!(published(&harness).len(), 0);
}

#[test]
fn two_default_routes_of_one_container_do_not_conflict() {
    let harness = harness_with(json!({}));
    attach(&harness, "e2", 3, "box1");
    let ports = json!([port(6, "", 8080, 8080, 80)]);
    let mut four = program("aa", "e1", ports.clone());
    four["Options"]["com.docker.network.driver.private.no_proxy_6to4"] = json!(true);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", four);
    assert_eq!(published(&harness), ["0.0.0.0:8080/tcp -> 10.1.0.2 80"]);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e2", ports));
    assert_eq!(published(&harness), ["0.0.0.0:8080/tcp -> 10.1.0.2 80", "[::]:8080/tcp -> fd01::3 80"]);
}

#[test]
fn a_family_can_be_released_and_regained_with_the_same_port() {
    let harness = harness_with(json!({}));
    let body = |v4_only: bool| {
        let mut body = program("aa", "e1", json!([port(6, "", 0, 0, 80), port(6, "", 8080, 8080, 81)]));
        body["Options"]["com.docker.network.driver.private.no_proxy_6to4"] = json!(v4_only);
        body
    };
    harness.ok("NetworkDriver.ProgramExternalConnectivity", body(false));
    let both = published(&harness);
    assert_eq!(both.len(), 4);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", body(true));
    let four: Vec<_> = both.iter().filter(|line| line.starts_with("0.0.0.0")).cloned().collect();
    assert_eq!((published(&harness), reserved(&harness).len()), (four, 2));
    harness.ok("NetworkDriver.ProgramExternalConnectivity", body(false));
    assert_eq!((published(&harness), reserved(&harness).len()), (both, 4));
}

#[test]
fn gateway_modes_decide_about_translation_and_open_ports() {
    let elements = |options: Value| {
        let harness = harness_with(options);
        harness
            .ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 8080, 8080, 80)])));
        let all = harness.kernel.datapath().policy.unwrap();
        let count = |test: fn(&Policy) -> bool| all.iter().filter(|e| test(e)).count();
        (
            count(|e| matches!(e, Policy::Published(_))),
            count(|e| matches!(e, Policy::OpenPort(..))),
            count(|e| matches!(e, Policy::Masquerade(_))),
            count(|e| matches!(e, Policy::Routed(..))),
            count(|e| matches!(e, Policy::Unprotected(..))),
        )
    };
    let (mode4, mode6) = ("com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6");
    assert_eq!(elements(json!({})), (2, 0, 2, 0, 0));
    assert_eq!(elements(json!({mode4: "routed"})), (1, 1, 1, 1, 0));
    assert_eq!(elements(json!({mode4: "routed", mode6: "routed"})), (0, 2, 0, 2, 0));
    assert_eq!(elements(json!({mode4: "nat-unprotected"})), (2, 0, 2, 0, 1));
    assert_eq!(elements(json!({"com.docker.network.bridge.trusted_host_interfaces": "eth1"})), (2, 2, 2, 0, 0));
    assert_eq!(elements(json!({"com.docker.network.host_ipv4": "192.0.2.9"})), (2, 0, 1, 0, 0));
    let harness = Harness::new();
    let mut isolated = network("bb", 2, false);
    isolated["Options"]["com.docker.network.generic"] = json!({mode4: "isolated"});
    assert!(harness.err("NetworkDriver.CreateNetwork", isolated.clone()).contains("--internal"));
    isolated["Options"]["com.docker.network.internal"] = json!(true);
    harness.ok("NetworkDriver.CreateNetwork", isolated);
    assert!(harness.kernel.datapath().bridges().values().all(|b| b.addresses.is_empty()));
}

#[test]
fn sources_are_allowed_for_a_network_or_for_one_endpoint() {
    let harness = harness_with(json!({"pontoon.publish.allow": "192.0.2.0/24,2001:db8::/32"}));
    let allowed = |harness: &Harness| {
        let elements = harness.kernel.datapath().policy.unwrap();
        elements
            .iter()
            .filter_map(|e| match e {
                Policy::AllowedSource(address, source) => Some(format!("{address} {source}")),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(allowed(&harness).len(), 0, "without published ports there are no rules");
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!([port(6, "", 8080, 8080, 80)])));
    assert_eq!(allowed(&harness), ["10.1.0.2 192.0.2.0/24", "fd01::2 2001:db8::/32"]);
    let mut own = endpoint("aa", "e2", "10.1.0.3/24");
    own["Options"]["pontoon.publish.allow"] = json!("198.51.100.1");
    harness.ok("NetworkDriver.CreateEndpoint", own);
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e2", json!([port(6, "", 8081, 8081, 80)])));
    assert!(allowed(&harness).contains(&"10.1.0.3 198.51.100.1/32".to_owned()));
    assert_eq!(allowed(&harness).len(), 3);
}

#[test]
fn sources_are_validated_unless_the_user_disables_it() {
    let checked = |harness: &Harness| {
        let elements = harness.kernel.datapath().policy.unwrap();
        elements
            .iter()
            .filter(|e| {
                matches!(
                    e,
                    Policy::Link(LinkProperty::SpoofChecked, _)
                        | Policy::SourceMac(..)
                        | Policy::SourceAddress(..)
                        | Policy::Source(..)
                )
            })
            .count()
    };
    assert_eq!(checked(&harness_with(json!({}))), 7);
    let off = harness_with(json!({"pontoon.spoofcheck": "false"}));
    assert_eq!(checked(&off), 0);
    let mut own = endpoint("aa", "e2", "10.1.0.3/24");
    own["Options"]["pontoon.spoofcheck"] = json!("true");
    off.ok("NetworkDriver.CreateEndpoint", own);
    assert_eq!(checked(&off), 5);
    off.ok("NetworkDriver.DeleteEndpoint", of("aa", "e2"));
    assert_eq!(checked(&off), 0);
}

#[test]
fn two_hundred_ports_are_one_transaction() {
    let harness = harness_with(json!({}));
    harness.kernel.take_steps();
    let ports: Vec<Value> = (0..200).map(|n| port(6, "", 10000 + n, 10000 + n, 80)).collect();
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program("aa", "e1", json!(ports)));
    let steps = harness.kernel.take_steps();
    assert_eq!(steps.iter().filter(|s| matches!(s, Step::ChangeFirewall { .. })).count(), 1, "{steps:?}");
    assert_eq!(published(&harness).len(), 400);
}
