//! Groups in allow lists: the statements about pairs of containers, whichever of the two came first.

use std::collections::BTreeSet;

use pontoon::datapath::access::{Access, Place};
use pontoon::datapath::fake::Fault;
use pontoon::datapath::{ObjectKind, Policy};
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, network, of};

/// Endpoint `e{n}` of network `aa` with these options.
fn party(n: usize, options: Value) -> Value {
    let mut body = endpoint("aa", &format!("e{n}"), &format!("10.1.{}.{}/16", n / 250, n % 250 + 2));
    body["Interface"]["AddressIPv6"] = json!(format!("fd01::1:{n:x}/64"));
    for (key, value) in options.as_object().unwrap() {
        body["Options"][key] = value.clone();
    }
    body
}

fn harness(options: Value) -> Harness {
    let harness = Harness::new();
    let mut body = network("aa", 1, true);
    body["IPv4Data"][0]["Pool"] = json!("10.1.0.0/16");
    body["Options"]["com.docker.network.generic"] = options;
    harness.ok("NetworkDriver.CreateNetwork", body);
    harness
}

/// What is stated about pairs of addresses, for routed packets: the statements for those within the bridge are alike.
fn pairs(harness: &Harness) -> BTreeSet<String> {
    let of_pair = |place: Place| {
        let policy = harness.kernel.datapath().policy.unwrap();
        let pair = policy.into_iter().filter_map(|policy| match policy {
            Policy::Access(Access::Allowed(at, way, own, transport, peer)) => {
                let single = own.0 == own.1 && peer.0 == peer.1 && at == place;
                let (protocols, ports) = (transport.protocols, transport.ports);
                single.then(|| format!("{way:?} {} {}:{}-{} {}", own.0, protocols.0, ports.0, ports.1, peer.0))
            }
            _ => None,
        });
        pair.collect::<BTreeSet<_>>()
    };
    let routed = of_pair(Place::Routed);
    assert_eq!(of_pair(Place::Bridged), routed);
    routed
}

fn four(harness: &Harness) -> Vec<String> {
    pairs(harness).into_iter().filter(|pair| pair.contains("10.1.")).collect()
}

#[test]
fn whichever_of_a_pair_comes_second_brings_its_statements() {
    let db = || party(0, json!({"pontoon.group": "db", "pontoon.ingress.allow": "tcp:5432@group:app"}));
    let app = || party(1, json!({"pontoon.group": "App;Web", "pontoon.egress.allow": "tcp:5000-6000@group:db"}));
    let expected = ["Egress 10.1.0.3 6:5000-6000 10.1.0.2", "Ingress 10.1.0.2 6:5432-5432 10.1.0.3"];
    for bodies in [[db(), app()], [app(), db()]] {
        let mut harness = harness(json!({}));
        for body in bodies {
            assert!(pairs(&harness).is_empty());
            harness.ok("NetworkDriver.CreateEndpoint", body.clone());
            harness.ok("NetworkDriver.CreateEndpoint", body);
        }
        assert_eq!((four(&harness), pairs(&harness).len()), (expected.map(str::to_owned).to_vec(), 4));
        // One without groups is not concerned.
        harness.ok("NetworkDriver.CreateEndpoint", party(2, json!({"pontoon.ingress.allow": "udp@any"})));
        assert_eq!(pairs(&harness).len(), 4);
        harness.restart();
        assert_eq!(four(&harness), expected);
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
        assert!(pairs(&harness).is_empty());
        // The address without the group, and the group with another address.
        let mut next = party(1, json!({}));
        next["EndpointID"] = json!("next");
        harness.ok("NetworkDriver.CreateEndpoint", next);
        assert!(pairs(&harness).is_empty());
        harness.ok("NetworkDriver.CreateEndpoint", party(3, json!({"pontoon.group": "app"})));
        assert_eq!(four(&harness), ["Ingress 10.1.0.2 6:5432-5432 10.1.0.5"]);
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e0"));
        assert!(pairs(&harness).is_empty());
    }
}

#[test]
fn what_a_list_allows_anyway_is_not_stated_again() {
    // The list of the network names the group, too: then every container means its members, and a member itself.
    let harness = harness(json!({"pontoon.ingress.allow": "tcp:80-90@group:app+tcp:85@net+udp:53@10.1.0.2"}));
    harness.ok("NetworkDriver.CreateEndpoint", party(0, json!({"pontoon.group": "app"})));
    let of_itself = ["Ingress 10.1.0.2 6:80-84 10.1.0.2", "Ingress 10.1.0.2 6:86-90 10.1.0.2"];
    assert_eq!(four(&harness), of_itself);
    let own = json!({"pontoon.ingress.allow": "udp@group:app+tcp:88@10.1.0.0/30+tcp:80@group:other"});
    harness.ok("NetworkDriver.CreateEndpoint", party(1, own));
    let mut expected: Vec<_> = of_itself.map(str::to_owned).to_vec();
    let more = ["6:80-84", "6:86-87", "6:89-90", "17:0-52", "17:54-65535"];
    expected.extend(more.map(|ports| format!("Ingress 10.1.0.3 {ports} 10.1.0.2")));
    expected.sort();
    assert_eq!(four(&harness), expected);
    for id in ["e0", "e1"] {
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", id));
    }
    assert!(pairs(&harness).is_empty());
}

/// After any order of beginnings and ends, the statements are those of the containers that exist.
#[test]
fn the_statements_are_those_of_the_containers_that_exist() {
    let options = [
        json!({"pontoon.group": "a"}),
        json!({"pontoon.group": "a+b", "pontoon.egress.allow": "group:b"}),
        json!({"pontoon.ingress.allow": "tcp:1@group:a+udp:2@group:b+group:c"}),
        json!({"pontoon.group": "c", "pontoon.ingress.allow": "tcp:9@group:c+group:a"}),
        json!({}),
    ];
    let create =
        |harness: &Harness, n: usize| harness.ok("NetworkDriver.CreateEndpoint", party(n, options[n % 5].clone()));
    let harness = harness(json!({"pontoon.egress.allow": "tcp:7@group:c+tcp:443@world"}));
    let mut alive = BTreeSet::new();
    let mut seed = 7_usize;
    for _ in 0..60 {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        let n = seed / 65_536 % 10;
        if alive.remove(&n) {
            harness.ok("NetworkDriver.DeleteEndpoint", of("aa", &format!("e{n}")));
        } else {
            alive.insert(n);
            create(&harness, n);
        }
    }
    assert!(alive.len() > 2 && !pairs(&harness).is_empty());
    let fresh = self::harness(json!({"pontoon.egress.allow": "tcp:7@group:c+tcp:443@world"}));
    alive.iter().rev().for_each(|n| drop(create(&fresh, *n)));
    assert_eq!(pairs(&harness), pairs(&fresh));
}

#[test]
fn a_member_that_the_kernel_refuses_leaves_nothing() {
    let harness = harness(json!({}));
    harness.ok("NetworkDriver.CreateEndpoint", party(0, json!({"pontoon.ingress.allow": "group:app"})));
    let member = party(1, json!({"pontoon.group": "app"}));
    // The change, the comparison, its steps one by one, and the change again.
    for _ in 0..4 {
        harness.kernel.inject(|step| step.creates(ObjectKind::Veth), Fault::Refuse(libc::ENOMEM));
    }
    harness.err("NetworkDriver.CreateEndpoint", member.clone());
    assert!(pairs(&harness).is_empty());
    harness.ok("NetworkDriver.CreateEndpoint", member);
    assert_eq!(pairs(&harness).len(), 2);
}

#[test]
fn the_pairs_of_a_network_are_bounded() {
    let ports = (0..32).map(|n| (1000 + 2 * n).to_string()).collect::<Vec<_>>().join("/");
    let list = (0..4).map(|_| format!("tcp:{ports}@group:app")).collect::<Vec<_>>().join("+");
    let harness = harness(json!({"pontoon.ingress.allow": list}));
    let mut accepted = 0;
    let refused = (0..100).find_map(|n| {
        let body = party(n, json!({"pontoon.group": "app"}));
        let reply = harness.life().call("NetworkDriver.CreateEndpoint", body).json();
        let error = reply["Err"].as_str().map(str::to_owned);
        accepted += usize::from(error.is_none());
        error
    });
    let refused = refused.expect("100 x 100 pairs of 32 ranges in 2 families are too many");
    assert!(refused.contains("more than 65536") && refused.contains("the peer net"), "{refused}");
    assert_eq!((accepted, pairs(&harness).len()), (22, 22 * 22 * 32 * 2));
    // What was refused left nothing, and others begin as before.
    harness.ok("NetworkDriver.CreateEndpoint", party(200, json!({"pontoon.ingress.allow": "tcp:1@any"})));
}
