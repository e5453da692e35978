//! CreateNetwork for an id that is known, with other settings: what an engine sends whose memory is not ours. Whatever
//! came before, the host ends as one that never heard of anything but the last request; and requests for networks that
//! nobody knows leave no trace.

use std::net::IpAddr;

use pontoon::datapath::fake::Fault;
use pontoon::datapath::{Change, ObjectKind, Step, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::model::Scope;
use serde_json::{Value, json};

use super::rig::{Rig, endpoint, join, network, of};

const NET: &str = "0123456789abcdef";

fn swarm() -> Rig {
    let overlay = OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() };
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    Rig::with(overlay, |kernel| kernel.set_underlay(None, Some(Underlay { address, mtu: 1500 })))
}

/// A request with these options of the user's.
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

/// A host that has heard of nothing but these requests.
fn straight(make: fn() -> Rig, requests: &[(&str, Value)]) -> String {
    let rig = make();
    requests.iter().for_each(|(method, body)| drop(rig.ok(method, body.clone())));
    rendered(&rig)
}

/// Without what stays on once it was turned on: IPv6 of a bridge.
fn rendered(rig: &Rig) -> String {
    rig.kernel.render().replace("ipv6: true", "ipv6: false").replace("localnet: true", "localnet: false")
}

const CREATE: &str = "NetworkDriver.CreateNetwork";

#[test]
fn the_last_request_holds_while_nothing_is_attached() {
    for make in [Rig::new as fn() -> Rig, swarm] {
        for other in others() {
            let mut rig = make();
            let first = network(NET, 1, false);
            for (turn, body) in [&first, &other, &other, &first, &other].into_iter().enumerate() {
                rig.ok(CREATE, body.clone());
                assert_eq!(rendered(&rig), straight(make, &[(CREATE, body.clone())]), "turn {turn}: {body}");
            }
            rig.restart();
            assert_eq!(rendered(&rig), straight(make, &[(CREATE, other.clone())]), "after a restart: {other}");
            rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": NET}));
            rig.ok(CREATE, network("another", 1, false));
        }
    }
}

#[test]
fn in_a_swarm_the_last_request_holds_under_a_container_that_lives() {
    for other in others() {
        let mut rig = swarm();
        let attach = [
            ("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24")),
            ("NetworkDriver.Join", join(NET, "e1")),
        ];
        rig.ok(CREATE, network(NET, 1, false));
        attach.iter().for_each(|(method, body)| drop(rig.ok(method, body.clone())));
        // The engine takes the other end into the sandbox: the container lives.
        for body in [&other, &network(NET, 1, false), &other, &other] {
            rig.ok(CREATE, body.clone());
            let requests = [&[(CREATE, body.clone())][..], &attach].concat();
            assert_eq!(rendered(&rig), straight(swarm, &requests), "{body}");
            assert_eq!(rig.life().driver.sizes(), (1, 1), "{body}");
        }
        rig.restart();
        let requests = [&[(CREATE, other.clone())][..], &attach].concat();
        assert_eq!(rendered(&rig), straight(swarm, &requests), "after a restart: {other}");
        rig.ok("NetworkDriver.Leave", of(NET, "e1"));
        rig.ok("NetworkDriver.DeleteEndpoint", of(NET, "e1"));
        assert_eq!(rendered(&rig), straight(swarm, &[(CREATE, other)]));
    }
}

#[test]
fn elsewhere_it_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    rig.ok(CREATE, network(NET, 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
    let there = || (rig.kernel.render(), std::fs::read(rig.ledger_file()).unwrap());
    let before = there();
    for other in others() {
        let message = rig.err(CREATE, other);
        assert!(message.contains("1 endpoints") && message.contains("remove those first"), "{message}");
        assert_eq!(there(), before);
    }
    rig.ok(CREATE, network(NET, 1, false));
}

#[test]
fn a_change_that_cannot_be_leaves_what_was() {
    let rig = swarm();
    rig.ok(CREATE, network(NET, 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
    rig.ok("NetworkDriver.Join", join(NET, "e1"));
    let mut second = network("second", 2, false);
    second["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "4242"});
    rig.ok(CREATE, second);
    let there = || (rig.kernel.render(), std::fs::read(rig.ledger_file()).unwrap());
    let before = there();
    let mut taken = network(NET, 3, false);
    taken["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "4242"});
    let message = rig.err(CREATE, taken);
    assert!(message.contains("VNI 4242"), "{message}");
    assert_eq!(there(), before);
    // Its subnet and its number are its own still, and those that it asked for are free.
    assert!(rig.err(CREATE, network("third", 1, false)).contains("10.1.0.0/24"));
    rig.ok(CREATE, network("third", 3, false));
    rig.ok(CREATE, network(NET, 1, false));
}

#[test]
fn a_change_that_the_kernel_refused_is_made_by_the_next_request() {
    let kinds: [fn(&Step) -> bool; 4] = [
        |step| step.creates(ObjectKind::Bridge),
        |step| matches!(step, Step::Change(_, Change::Mtu(_))),
        |step| step.creates(ObjectKind::Vxlan),
        |step| matches!(step, Step::ChangeFirewall { .. }),
    ];
    for attached in [false, true] {
        for kind in kinds {
            let rig = swarm();
            let attach = [
                ("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24")),
                ("NetworkDriver.Join", join(NET, "e1")),
            ];
            let attach = if attached { &attach[..] } else { &[] };
            rig.ok(CREATE, network(NET, 1, false));
            attach.iter().for_each(|(method, body)| drop(rig.ok(method, body.clone())));
            let other = with(json!({"com.docker.network.driver.mtu": "1300", "pontoon.vni": "777777"}));
            for _ in 0..12 {
                rig.kernel.inject(kind, Fault::Refuse(libc::ENOMEM));
            }
            // Some of the kinds are no part of the change; then it just succeeds.
            let _ = rig.life().call(CREATE, other.clone());
            for _ in 0..12 {
                let _ = rig.life().call(CREATE, other.clone());
            }
            rig.ok(CREATE, other.clone());
            let requests = [&[(CREATE, other)][..], attach].concat();
            assert!((0..20).any(|_| rig.life().driver.repair_all().is_ok()), "no fault is left");
            assert_eq!(rendered(&rig), straight(swarm, &requests), "attached {attached}");
        }
    }
}

#[test]
fn requests_for_networks_that_nobody_knows_leave_no_trace() {
    for make in [Rig::new as fn() -> Rig, swarm] {
        let rig = make();
        rig.ok(CREATE, network(NET, 1, false));
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
        let there = || (rig.kernel.render(), std::fs::read(rig.ledger_file()).unwrap());
        let before = there();
        let port =
            json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}]});
        let program = |net: &str, id: &str| json!({"NetworkID": net, "EndpointID": id, "Options": port.clone()});
        for (net, id) in [("unknown", "e1"), (NET, "unknown"), ("unknown", "unknown")] {
            for method in ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "EndpointOperInfo"] {
                rig.ok(&format!("NetworkDriver.{method}"), of(net, id));
            }
            for (method, body) in [("Join", join(net, id)), ("ProgramExternalConnectivity", program(net, id))] {
                let message = rig.err(&format!("NetworkDriver.{method}"), body);
                assert!(message.contains("is not known to Pontoon") && message.contains("unknown"), "{message}");
            }
        }
        let message = rig.err("NetworkDriver.CreateEndpoint", endpoint("unknown", "e1", "10.1.0.8/24"));
        assert!(message.contains("network unknown is not known"), "{message}");
        for method in ["DeleteNetwork", "FreeNetwork"] {
            rig.ok(&format!("NetworkDriver.{method}"), json!({"NetworkID": "unknown"}));
        }
        assert_eq!(there(), before);
        assert!(rig.kernel.reserved().is_empty(), "no port of the host is taken");
        rig.ok("NetworkDriver.Join", join(NET, "e1"));
    }
}
