//! Events that no request of the engine is: peers, conflicts, removed endpoints, and the daemon's health.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use pontoon::admin::events::EventList;
use pontoon::datapath::fake::Fault;
use pontoon::datapath::{ObjectKind, Sighting, Step, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::model::{Mac, Scope};
use serde_json::{Value, json};

use crate::macvlan::{name, on_parent};
use testkit::harness::{Harness, endpoint, join, network, of};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The events of some kinds as operators read them, without number, time and duration.
fn events(harness: &Harness, kinds: &[&str]) -> Vec<Value> {
    let history = harness.life().driver.history();
    let list = EventList::of(history.after(0, Duration::ZERO), history.began());
    let numbers: BTreeSet<u64> = list.events.iter().map(|event| event.number).collect();
    assert_eq!((numbers.len(), list.lost), (list.events.len(), 0));
    let lines = list.events.iter().filter(|event| kinds.contains(&event.kind.as_str()));
    let mut lines: Vec<Value> = lines.map(|event| serde_json::to_value(event).unwrap()).collect();
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|field, _| !["number", "time", "seconds"].contains(&field.as_str()));
    }
    lines
}

#[test]
fn a_peer_that_comes_and_leaves_is_an_event_each_time() {
    let settings = OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() };
    let harness = Harness::with(settings, |kernel| {
        kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: 1500 }));
        kernel.set_uplink_mtu(Some(1500));
    });
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 55, false));
    let node = json!({"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.7", "BindAddress": "", "Self": false}});
    let event = |state: &str| json!({"kind": "peer", "address": "192.0.2.7", "state": state});
    // The engine repeats itself; a state is an event once.
    for (method, state) in [("DiscoverNew", "present"), ("DiscoverDelete", "doubted"), ("DiscoverNew", "present")] {
        let before = events(&harness, &["peer"]).len();
        for _ in 0..2 {
            harness.ok(&format!("NetworkDriver.{method}"), node.clone());
        }
        assert_eq!(events(&harness, &["peer"])[before..], [event(state)], "{method}");
    }
}

#[test]
fn a_conflict_is_an_event_that_names_both_sides() {
    let harness = Harness::new();
    harness.kernel.add_link(&name("br-lan"), "bridge");
    harness.kernel.allow_probes();
    let lan = on_parent("aa", 1, json!({"com.docker.network.bridge.name": "br-lan"}));
    harness.ok("NetworkDriver.CreateNetwork", lan);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.8/24"));
    assert_eq!(events(&harness, &["conflict"]), [json!(null); 0]);
    let other = Mac::parse("06:00:00:00:00:77").unwrap();
    for _ in 0..3 {
        harness.kernel.sight(Sighting { link: name("br-lan"), address: ip("10.1.0.8"), mac: other });
    }
    let event = json!({"kind": "conflict", "network": "aa", "endpoint": "e1", "address": "10.1.0.8",
        "other": "06:00:00:00:00:77"});
    assert_eq!(events(&harness, &["conflict"]), [event], "once, however many frames say so");
}

#[test]
fn an_endpoint_that_is_removed_without_a_request_is_an_event() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    for (id, address) in [("e1", "10.1.0.2/24"), ("e2", "10.1.0.3/24"), ("e3", "10.1.0.4/24")] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", id, address));
    }
    harness.ok("NetworkDriver.Join", join("aa", "e1"));
    // The engine asks for it: no event of this kind.
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e3"));
    assert_eq!(events(&harness, &["reaped"]), [json!(null); 0]);
    let event = |endpoint: &str| json!({"kind": "reaped", "network": "aa", "endpoint": endpoint});
    // The engine never joined it.
    harness.life().driver.reap_abandoned(pontoon::driver::now() + 600);
    assert_eq!(events(&harness, &["reaped"]), [event("e2")]);
    // Its sandbox is gone, and the link with it.
    harness.kernel.meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
    harness.life().driver.tick();
    assert_eq!(events(&harness, &["reaped"]), [event("e2"), event("e1")]);
    harness.life().driver.tick();
    assert_eq!(events(&harness, &["reaped"]).len(), 2, "once");
}

#[test]
fn a_change_of_the_daemons_health_is_an_event() {
    let mut harness = Harness::new();
    for n in 1..4 {
        harness.ok("NetworkDriver.CreateNetwork", network(&format!("n{n}"), n, false));
    }
    let state = |state: &str| json!({"kind": "health", "state": state});
    harness.life().driver.tick();
    assert_eq!(events(&harness, &["health"]), [json!(null); 0], "it is well from the beginning");
    // A repair that the kernel refuses: tried with all others, and alone.
    harness.kernel.meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Bridge));
    for _ in 0..6 {
        harness.kernel.inject(|step: &Step| step.creates(ObjectKind::Bridge), Fault::Refuse(libc::EEXIST));
    }
    harness.life().driver.tick();
    harness.life().driver.tick();
    assert_eq!(events(&harness, &["health"]), [state("failing")]);
    let repairs = events(&harness, &["repair"]);
    assert!(
        repairs.iter().any(|repair| repair["error"].as_str().is_some_and(|why| why.contains("pntb"))),
        "{repairs:?}"
    );
    for _ in 0..20 {
        if harness.life().driver.repair_all().is_ok() {
            break;
        }
    }
    harness.life().driver.tick();
    assert_eq!(events(&harness, &["health"]), [state("failing"), state("well")]);
    // Facts are missing after a restart.
    harness.life = None;
    let ledger = harness.ledger_file();
    let mut bytes = std::fs::read(&ledger).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&ledger, bytes).unwrap();
    harness.restart();
    harness.life().driver.tick();
    assert_eq!(events(&harness, &["health"]), [state("degraded")]);
}
