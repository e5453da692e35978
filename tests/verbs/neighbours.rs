//! The fast path between containers of a network of one host: who has one, and when.

use pontoon::datapath::FastPath;
use serde_json::{Value, json};

use crate::overlay::assert_fast_path_survives;

use testkit::harness::{Harness, endpoint, network, of};

fn with(id: &str, n: u8, options: Value) -> Value {
    let mut body = network(id, n, false);
    body["Options"]["com.docker.network.generic"] = options;
    body
}

/// Only between containers about which nothing on the bridge decides.
#[test]
fn fast_paths_follow_the_endpoints_of_networks_of_one_host() {
    let mut harness = Harness::new();
    let entries = |harness: &Harness| {
        let all = harness.kernel.datapath().fastpath.unwrap_or_default();
        let bridges = all.iter().filter(|entry| matches!(entry, FastPath::Bridge { .. })).count();
        let neighbours = all.iter().filter(|entry| matches!(entry, FastPath::Neighbour { .. })).count();
        (bridges, neighbours)
    };
    let on = |more: serde_json::Value| {
        let mut options = json!({"pontoon.shortcut": "true"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    harness.ok("NetworkDriver.CreateNetwork", with("a", 1, on(json!({}))));
    assert_eq!(entries(&harness), (1, 0));
    for (n, options, expected) in [
        (2, json!({}), 1),
        (3, json!({"pontoon.rate.in": "5mbit"}), 2),
        (4, json!({"pontoon.packet.rate": "5000/s"}), 3),
        (5, json!({"pontoon.rate.out": "5mbit"}), 3),
        (6, json!({"pontoon.conn.max": "100"}), 3),
        (7, json!({"pontoon.conn.rate": "100/s"}), 3),
        (8, json!({"pontoon.ingress.allow": "any"}), 3),
        (9, json!({"pontoon.egress.allow": "any"}), 3),
        (10, json!({"pontoon.spoofcheck": "false"}), 3),
    ] {
        let mut body = endpoint("a", &format!("e{n}"), &format!("10.1.0.{n}/24"));
        body["Options"].as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        harness.ok("NetworkDriver.CreateEndpoint", body);
        assert_eq!(entries(&harness), (1, expected), "{options}");
    }
    // Networks without a fast path, for different reasons.
    for (n, options) in [
        (2, json!({})),
        (3, json!({"pontoon.shortcut": "false"})),
        (4, on(json!({"com.docker.network.bridge.enable_icc": "false"}))),
        (5, on(json!({"com.docker.network.bridge.name": "0br"}))),
    ] {
        let id = format!("n{n}");
        harness.ok("NetworkDriver.CreateNetwork", with(&id, n, options.clone()));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(&id, &format!("f{n}"), &format!("10.{n}.0.2/24")));
        assert_eq!(entries(&harness), (1, 3), "{options}");
    }
    assert_fast_path_survives(&mut harness);
    for n in 2..=10 {
        harness.ok("NetworkDriver.DeleteEndpoint", of("a", &format!("e{n}")));
    }
    harness.ok("NetworkDriver.DeleteNetwork", of("a", ""));
    assert_eq!(entries(&harness), (0, 0));
}

/// With `auto` a fast path exists while no rule of another program could decide about its frames.
#[test]
fn rules_of_other_programs_close_and_open_a_fast_path() {
    let mut harness = Harness::new();
    let entries = |harness: &Harness| harness.kernel.datapath().fastpath.unwrap_or_default().len();
    let look = |harness: &Harness| {
        let life = harness.life();
        if life.driver.reconciler().find_opposition() {
            assert!(life.driver.follow_rules().whole().is_ok());
        }
    };
    let auto = json!({"pontoon.shortcut": "auto"});
    harness.ok("NetworkDriver.CreateNetwork", with("a", 1, auto.clone()));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e2", "10.1.0.2/24"));
    assert_eq!(entries(&harness), 0, "the rules were not read yet");
    assert!(harness.life().driver.reconciler().is_opposition_stale());
    look(&harness);
    assert_eq!(entries(&harness), 2);
    assert!(!harness.life().driver.reconciler().is_opposition_stale());
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e3", "10.1.0.3/24"));
    assert_eq!(entries(&harness), 3, "a verb adds it at once");
    // Another network whose fast path the user chose does not depend on rules.
    harness.ok("NetworkDriver.CreateNetwork", with("b", 2, json!({"pontoon.shortcut": "true"})));
    harness.kernel.oppose(Some("rule 1 of chain DOCKER-USER"));
    look(&harness);
    assert_eq!(entries(&harness), 1);
    let opposes = |harness: &Harness, bridge: &str| {
        harness.life().driver.reconciler().opposes(&pontoon::model::IfName::parse(bridge).unwrap())
    };
    assert_eq!(opposes(&harness, "pntba").as_deref(), Some("rule 1 of chain DOCKER-USER"));
    assert_eq!(opposes(&harness, "pntbb"), None);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e4", "10.1.0.4/24"));
    assert_eq!(entries(&harness), 1, "nor does a verb add any");
    harness.restart();
    assert_eq!(entries(&harness), 1);
    harness.kernel.oppose(None);
    look(&harness);
    assert_eq!((entries(&harness), opposes(&harness, "pntba")), (5, None));
    harness.restart();
    assert_eq!(entries(&harness), 5, "read at the start");
    for n in 2..=4 {
        harness.ok("NetworkDriver.DeleteEndpoint", of("a", &format!("e{n}")));
    }
    harness.ok("NetworkDriver.DeleteNetwork", of("a", ""));
    assert_eq!(entries(&harness), 1);
    assert!(!harness.life().driver.reconciler().is_opposition_stale());
}
