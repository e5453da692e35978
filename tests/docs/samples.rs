//! A small host, as the daemon, the engine and the kernel report it: what the pages show of commands is printed from it.

use std::time::Duration;

use pontoon::admin::objects::Objects;
use pontoon::admin::status::Status;
use pontoon::names::{Container, Names};
use pontoon::show::{self, Count, Counters, Facts, Graph, Shown, Traffic};
use serde_json::{Value, json};

/// The facts.
pub struct Sample {
    status: Status,
    names: Names,
}

const BLUE: &str = "99a168deb3da5f1c";
const FLEET: &str = "cc4e8a8bfa6f0d2e";

fn endpoint(id: &str, address: &str, port: Option<u16>) -> Value {
    let ip = address.split('/').next();
    let host = |port: u16| json!({"protocol": "tcp", "address": "0.0.0.0", "port": port});
    let forward = |port: u16| json!({"host": host(port), "container": ip, "container_port": 80});
    json!({
        "id": id, "attachment": {"veth": {"host": format!("pnth{id}"), "peer": format!("pntc{id}")}},
        "phase": "joined", "age": 7200, "addresses": [address], "published": port.map(host).as_slice(),
        "detail": {"mac": "2a:6e:09:a8:90:18", "sandbox": "/run/docker/netns/1", "forwards": port.map(forward).as_slice()},
    })
}

impl Sample {
    /// Two networks, one of them an overlay with two peers.
    pub fn new() -> Self {
        let network = |id: &str, kind: &str, subnet: &str, overlay: Value, endpoints: &[Value]| {
            json!({
                "id": id, "kind": kind, "link": format!("pntb{}", &id[..11]), "mtu": 1500, "internal": false, "icc": true,
                "subnets": [subnet], "overlay": overlay, "endpoints": endpoints,
            })
        };
        let overlay = json!({"vni": 4242, "link": "pntv1092"});
        let objects = json!({
            "version": "0.2.0", "pid": 812, "state": {"outcome": "loaded", "words": "complete", "degraded": false,
            "quarantined": []}, "pools": [], "conflicts": null, "leases": [],
            "networks": [
                network(BLUE, "bridge", "10.1.0.0/24", Value::Null, &[
                    endpoint("1f3d", "10.1.0.2/24", Some(8080)), endpoint("2b7a", "10.1.0.3/24", None)]),
                network(FLEET, "overlay", "10.44.0.0/24", overlay, &[endpoint("3c91", "10.44.0.9/24", None)]),
            ],
            "reach": {"scope": "global", "port": 4789, "local": "192.168.77.11", "announces": true, "peers": [
                {"address": "192.168.77.12", "standing": {"is": "present"}},
                {"address": "192.168.77.13", "standing": {"is": "doubted", "since": 3600}}]},
        });
        let objects: Objects = serde_json::from_value(objects).expect("objects of a daemon");
        let container = |name: &str, endpoint: &str| Container {
            id: format!("{endpoint}aefcb34e0a7c8"),
            name: name.to_owned(),
            endpoints: [endpoint.to_owned()].into(),
            ..Container::default()
        };
        let names = Names {
            containers: vec![container("web", "1f3d"), container("db", "2b7a"), container("worker", "3c91")],
            networks: [(BLUE, "blue"), (FLEET, "fleet")].map(|(id, name)| (id.to_owned(), name.to_owned())).into(),
            missing: None,
        };
        Self { status: objects.into(), names }
    }

    fn with(&self, traffic: &Traffic, show: impl FnOnce(&Facts<'_>) -> Shown) -> Shown {
        show(&Facts { status: &self.status, names: &self.names, traffic, events: &[], down: None })
    }

    /// `pontoon graph`.
    pub fn graph(&self) -> Graph {
        let traffic = Traffic::new();
        Graph::of(&Facts { status: &self.status, names: &self.names, traffic: &traffic, events: &[], down: None })
    }

    /// `pontoon top --once`.
    pub fn top(&self) -> Shown {
        let count = |bytes, packets, dropped| Count { bytes, packets, dropped };
        // Received by the host's end, which the container has sent; and the reverse.
        let counters = [
            ("pnth1f3d", count(25_384_960, 19_600, 0), count(7_130_316, 10_012, 6)),
            ("pnth2b7a", count(1_638_400, 4_200, 0), count(1_351_680, 3_810, 0)),
            ("pnth3c91", count(0, 0, 0), count(0, 0, 0)),
        ];
        let named = |(link, received, sent): (&str, Count, Count)| (link.to_owned(), Counters { received, sent });
        let now: Traffic = counters.into_iter().map(named).collect();
        let before = now.keys().map(|link| (link.clone(), Counters::default())).collect();
        self.with(&now, |facts| show::top(facts, &before, Duration::from_secs(2), None))
    }
}
