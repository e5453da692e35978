//! CreateNetwork for a known id with other settings, as sent by an engine whose state differs from Pontoon's. Whatever
//! was requested before, the host ends in the state of the last request; and requests for unknown networks leave no
//! trace.

use std::net::IpAddr;

use pontoon::datapath::fake::Fault;
use pontoon::datapath::{Change, ObjectKind, Step, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::model::Scope;
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, join, network, of};

const NET: &str = "0123456789abcdef";

fn swarm() -> Harness {
    let overlay = OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() };
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    Harness::with(overlay, |kernel| kernel.set_underlay(None, Some(Underlay { address, mtu: 1500 })))
}

/// A request with these options.
fn with(options: Value) -> Value {
    let mut body = network(NET, 1, false);
    body["Options"]["com.docker.network.generic"] = options;
    body
}

/// Requests that differ from `network(NET, 1, false)`, each in another way; the endpoint 10.1.0.7 fits all of them.
fn others() -> Vec<Value> {
    let mut internal = network(NET, 1, false);
    internal["Options"]["com.docker.network.internal"] = json!(true);
    let mut gateway = network(NET, 1, false);
    gateway["IPv4Data"][0]["Gateway"] = json!("10.1.0.254/24");
    let mut wider = network(NET, 1, false);
    wider["IPv4Data"][0]["Pool"] = json!("10.1.0.0/16");
    wider["IPv4Data"][0]["Gateway"] = json!("10.1.0.1/16");
    vec![
        with(json!({"com.docker.network.driver.mtu": "1300"})),
        with(json!({"com.docker.network.bridge.enable_icc": "false"})),
        with(json!({"com.docker.network.bridge.enable_ip_masquerade": "false"})),
        with(json!({"com.docker.network.bridge.gateway_mode_ipv4": "routed"})),
        with(json!({"com.docker.network.host_ipv4": "192.0.2.1"})),
        network(NET, 1, true),
        internal,
        gateway,
        wider,
    ]
}

/// The state of a host that got only these requests.
fn fresh(make: fn() -> Harness, requests: &[(&str, Value)]) -> String {
    let harness = make();
    requests.iter().for_each(|(method, body)| drop(harness.ok(method, body.clone())));
    rendered(&harness)
}

/// The kernel state without settings that stay on once enabled: IPv6 of a bridge.
fn rendered(harness: &Harness) -> String {
    harness.kernel.render().replace("ipv6: true", "ipv6: false").replace("localnet: true", "localnet: false")
}

const CREATE: &str = "NetworkDriver.CreateNetwork";

#[test]
fn the_last_request_applies_while_nothing_is_attached() {
    for make in [Harness::new as fn() -> Harness, swarm] {
        for other in others() {
            let mut harness = make();
            let first = network(NET, 1, false);
            for (turn, body) in [&first, &other, &other, &first, &other].into_iter().enumerate() {
                harness.ok(CREATE, body.clone());
                assert_eq!(rendered(&harness), fresh(make, &[(CREATE, body.clone())]), "turn {turn}: {body}");
            }
            harness.restart();
            assert_eq!(rendered(&harness), fresh(make, &[(CREATE, other.clone())]), "after a restart: {other}");
            harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": NET}));
            harness.ok(CREATE, network("another", 1, false));
        }
    }
}

#[test]
fn in_a_swarm_the_last_request_applies_under_a_running_container() {
    for other in others() {
        let mut harness = swarm();
        let attach = [
            ("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24")),
            ("NetworkDriver.Join", join(NET, "e1")),
        ];
        harness.ok(CREATE, network(NET, 1, false));
        attach.iter().for_each(|(method, body)| drop(harness.ok(method, body.clone())));
        // The engine moves the other end into the sandbox: the container runs.
        for body in [&other, &network(NET, 1, false), &other, &other] {
            harness.ok(CREATE, body.clone());
            let requests = [&[(CREATE, body.clone())][..], &attach].concat();
            assert_eq!(rendered(&harness), fresh(swarm, &requests), "{body}");
            assert_eq!(harness.life().driver.sizes(), (1, 1), "{body}");
        }
        harness.restart();
        let requests = [&[(CREATE, other.clone())][..], &attach].concat();
        assert_eq!(rendered(&harness), fresh(swarm, &requests), "after a restart: {other}");
        harness.ok("NetworkDriver.Leave", of(NET, "e1"));
        harness.ok("NetworkDriver.DeleteEndpoint", of(NET, "e1"));
        assert_eq!(rendered(&harness), fresh(swarm, &[(CREATE, other)]));
    }
}

#[test]
fn outside_a_swarm_a_change_under_an_endpoint_is_refused() {
    let harness = Harness::new();
    harness.ok(CREATE, network(NET, 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
    let state = || (harness.kernel.render(), std::fs::read(harness.ledger_file()).unwrap());
    let before = state();
    for other in others() {
        let message = harness.err(CREATE, other);
        assert!(message.contains("1 endpoints") && message.contains("remove those first"), "{message}");
        assert_eq!(state(), before);
    }
    harness.ok(CREATE, network(NET, 1, false));
}

#[test]
fn an_impossible_change_keeps_the_old_state() {
    let harness = swarm();
    harness.ok(CREATE, network(NET, 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
    harness.ok("NetworkDriver.Join", join(NET, "e1"));
    let mut second = network("second", 2, false);
    second["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "4242"});
    harness.ok(CREATE, second);
    let state = || (harness.kernel.render(), std::fs::read(harness.ledger_file()).unwrap());
    let before = state();
    let mut taken = network(NET, 3, false);
    taken["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "4242"});
    let message = harness.err(CREATE, taken);
    assert!(message.contains("VNI 4242"), "{message}");
    assert_eq!(state(), before);
    // The network still has its old subnet and VNI, and the requested ones are free.
    assert!(harness.err(CREATE, network("third", 1, false)).contains("10.1.0.0/24"));
    harness.ok(CREATE, network("third", 3, false));
    harness.ok(CREATE, network(NET, 1, false));
}

#[test]
fn a_change_refused_by_the_kernel_is_applied_by_the_next_request() {
    let kinds: [fn(&Step) -> bool; 4] = [
        |step| step.creates(ObjectKind::Bridge),
        |step| matches!(step, Step::Change(_, Change::Mtu(_))),
        |step| step.creates(ObjectKind::Vxlan),
        |step| matches!(step, Step::ChangeFirewall { .. }),
    ];
    for attached in [false, true] {
        for kind in kinds {
            let harness = swarm();
            let attach = [
                ("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24")),
                ("NetworkDriver.Join", join(NET, "e1")),
            ];
            let attach = if attached { &attach[..] } else { &[] };
            harness.ok(CREATE, network(NET, 1, false));
            attach.iter().for_each(|(method, body)| drop(harness.ok(method, body.clone())));
            let other = with(json!({"com.docker.network.driver.mtu": "1300", "pontoon.vni": "777777"}));
            for _ in 0..12 {
                harness.kernel.inject(kind, Fault::Refuse(libc::ENOMEM));
            }
            // Some of these steps are not part of the change; then it succeeds.
            let _ = harness.life().call(CREATE, other.clone());
            for _ in 0..12 {
                let _ = harness.life().call(CREATE, other.clone());
            }
            harness.ok(CREATE, other.clone());
            let requests = [&[(CREATE, other)][..], attach].concat();
            assert!((0..20).any(|_| harness.life().driver.repair_all().is_ok()), "the repair never succeeds");
            assert_eq!(rendered(&harness), fresh(swarm, &requests), "attached {attached}");
        }
    }
}

#[test]
fn requests_for_unknown_networks_leave_no_trace() {
    for make in [Harness::new as fn() -> Harness, swarm] {
        let harness = make();
        harness.ok(CREATE, network(NET, 1, false));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
        let state = || (harness.kernel.render(), std::fs::read(harness.ledger_file()).unwrap());
        let before = state();
        let port =
            json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}]});
        let program = |net: &str, id: &str| json!({"NetworkID": net, "EndpointID": id, "Options": port.clone()});
        for (net, id) in [("unknown", "e1"), (NET, "unknown"), ("unknown", "unknown")] {
            for method in ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "EndpointOperInfo"] {
                harness.ok(&format!("NetworkDriver.{method}"), of(net, id));
            }
            for (method, body) in [("Join", join(net, id)), ("ProgramExternalConnectivity", program(net, id))] {
                let message = harness.err(&format!("NetworkDriver.{method}"), body);
                assert!(message.contains("is not known to Pontoon") && message.contains("unknown"), "{message}");
            }
        }
        let message = harness.err("NetworkDriver.CreateEndpoint", endpoint("unknown", "e1", "10.1.0.8/24"));
        assert!(message.contains("network unknown is not known"), "{message}");
        for method in ["DeleteNetwork", "FreeNetwork"] {
            harness.ok(&format!("NetworkDriver.{method}"), json!({"NetworkID": "unknown"}));
        }
        assert_eq!(state(), before);
        assert!(harness.kernel.reserved().is_empty(), "no port of the host is reserved");
        harness.ok("NetworkDriver.Join", join(NET, "e1"));
    }
}
