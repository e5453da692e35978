//! Limits of containers: from options of networks and endpoints to links, and where they are refused.

use pontoon::datapath::fake::Fault;
use pontoon::datapath::object::Ifb;
use pontoon::datapath::policy::Limit;
use pontoon::datapath::{FastPath, Object, ObjectKind, Policy, Shape, Step, Underlay};
use pontoon::driver::OverlaySettings;
use serde_json::{Value, json};

use crate::macvlan::{host, name, on_parent};
use testkit::harness::{Harness, endpoint, join, network, of};

fn shape(rate: &str, burst: Option<&str>) -> Shape {
    Shape::new(rate.parse().unwrap(), burst.map(|burst| burst.parse().unwrap()), 1500)
}

fn with_options(id: &str, n: u8, options: Value) -> Value {
    let mut body = network(id, n, false);
    body["Options"]["com.docker.network.generic"] = options;
    body
}

/// Endpoint `e{n}` of network `aa` with these options.
fn limited(n: u8, options: Value) -> Value {
    let mut body = endpoint("aa", &format!("e{n}"), &format!("10.1.0.{n}/24"));
    for (key, value) in options.as_object().unwrap() {
        body["Options"][key] = value.clone();
    }
    body
}

/// What endpoint `e{n}` may receive and send.
fn limits(harness: &Harness, n: u8) -> (Option<Shape>, Option<Shape>) {
    let datapath = harness.kernel.datapath();
    let (host, veth) = datapath.veths().into_iter().find(|(name, _)| name.as_str() == format!("pnthe{n}")).unwrap();
    let ifb = datapath.objects.iter().find(|(name, _)| name.as_str() == format!("pntqe{n}"));
    let rules = datapath.fastpath.unwrap_or_default();
    let is_shaped = rules.iter().any(|rule| matches!(rule, FastPath::Shaped { port, .. } if *port == host));
    assert_eq!(ifb.is_some(), is_shaped, "the link and the rule that leads there");
    let out = ifb.and_then(|(_, object)| if let Object::Ifb(Ifb { shape, .. }) = object { *shape } else { None });
    (veth.shape, out)
}

#[test]
fn limits_of_the_network_are_defaults_for_its_containers() {
    let mut harness = Harness::new();
    let options = json!({"pontoon.rate.in": "100mbit", "pontoon.rate.out": "20mbit"});
    harness.ok("NetworkDriver.CreateNetwork", with_options("aa", 1, options));
    let cases = [
        (json!({}), (Some(shape("100mbit", None)), Some(shape("20mbit", None)))),
        (json!({"pontoon.rate.out": "1.5mbit"}), (Some(shape("100mbit", None)), Some(shape("1500kbit", None)))),
        (
            json!({"pontoon.rate.in": "5mbit", "pontoon.rate.burst": "64kb"}),
            (Some(shape("5mbit", Some("64kb"))), Some(shape("20mbit", Some("64kb")))),
        ),
    ];
    for (n, (options, expected)) in (2..).zip(&cases) {
        // A repeated request is the same.
        harness.ok("NetworkDriver.CreateEndpoint", limited(n, options.clone()));
        harness.ok("NetworkDriver.CreateEndpoint", limited(n, options.clone()));
        assert_eq!(limits(&harness, n), *expected, "{options}");
        harness.ok("NetworkDriver.Join", join("aa", &format!("e{n}")));
    }
    // In a sandbox and after a restart nothing changes; what was lost comes back, the limit of a pair in a sandbox, too.
    harness.kernel.take_steps();
    harness.restart();
    harness.life().driver.tick();
    assert_eq!(harness.kernel.take_steps(), []);
    harness.kernel.meddle(|datapath| {
        datapath.objects.retain(|_, object| object.kind() != ObjectKind::Ifb);
        datapath.fastpath.as_mut().unwrap().clear();
        datapath.veths_mut().for_each(|(_, veth)| veth.shape = None);
    });
    harness.life().driver.tick();
    for (n, (options, expected)) in (2..).zip(&cases) {
        assert_eq!(limits(&harness, n), *expected, "{options}");
    }
    for n in 2..5 {
        harness.ok("NetworkDriver.Leave", of("aa", &format!("e{n}")));
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", &format!("e{n}")));
    }
    let left = harness.kernel.datapath();
    assert!(left.objects.values().all(|object| object.kind() == ObjectKind::Bridge), "{:?}", left.objects);
    assert_eq!(left.fastpath, Some(Default::default()));
}

#[test]
fn a_container_without_limits_needs_what_it_needed_before() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", with_options("aa", 1, json!({})));
    harness.kernel.take_steps();
    harness.ok("NetworkDriver.CreateEndpoint", limited(2, json!({})));
    let steps = harness.kernel.take_steps();
    assert!(matches!(&steps[..], [Step::ChangeFirewall { .. }, Step::Create(..)]), "{steps:?}");
    harness.ok("NetworkDriver.CreateEndpoint", limited(3, json!({"pontoon.rate.in": "5mbit"})));
    assert_eq!(harness.kernel.take_steps().len(), 2, "the limit of a pair is part of its creation");
    harness.ok("NetworkDriver.CreateEndpoint", limited(4, json!({"pontoon.rate.out": "5mbit"})));
    assert_eq!(harness.kernel.take_steps().len(), 4, "an ifb link and a rule");
}

#[test]
fn limits_of_connections_are_statements_about_both_addresses() {
    let harness = Harness::new();
    let mut body = network("aa", 1, true);
    body["Options"]["com.docker.network.generic"] = json!({"pontoon.conn.max": "500", "pontoon.packet.rate": "9000/s"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    let mut body = limited(2, json!({"pontoon.conn.rate": "50/s", "pontoon.conn.max": "7"}));
    body["Interface"]["AddressIPv6"] = json!("fd01::2/64");
    harness.ok("NetworkDriver.CreateEndpoint", body);
    let limits = || {
        let policy = harness.kernel.datapath().policy.unwrap();
        policy.into_iter().filter(|policy| matches!(policy, Policy::Limited(..))).collect::<Vec<_>>()
    };
    let all = ["10.1.0.2", "fd01::2"].map(|address| {
        let address = address.parse().unwrap();
        let rate = Limit::ConnectionRate { rate: 50, burst: 5 };
        [Policy::Limited(address, Limit::Connections(7)), Policy::Limited(address, rate)]
    });
    assert_eq!(limits(), all.concat());
    let packets = FastPath::PacketLimit { port: name("pnthe2"), rate: 9000, burst: 900 };
    assert_eq!(harness.kernel.datapath().fastpath.unwrap(), [packets].into());
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e2"));
    assert_eq!(limits(), []);
}

/// A frame on the fast path would bypass the ifb link. The limit of the pair holds for such frames, too.
#[test]
fn what_a_limited_container_sends_takes_no_fast_path() {
    let harness = Harness::with(OverlaySettings::default(), |kernel| {
        let address = "192.0.2.1".parse().unwrap();
        kernel.set_underlay(None, Some(Underlay { address, mtu: 1500 }));
    });
    harness.ok("NetworkDriver.CreateNetwork", with_options("aa", 1, json!({"pontoon.vni": "70000"})));
    let has_fast_path = |n: u8| {
        let rules = harness.kernel.datapath().fastpath.unwrap();
        rules.iter().any(|rule| matches!(rule, FastPath::Port { port, .. } if port.as_str() == format!("pnthe{n}")))
    };
    for (n, options, expected) in [
        (2, json!({}), true),
        (3, json!({"pontoon.rate.in": "5mbit"}), true),
        (4, json!({"pontoon.rate.out": "5mbit"}), false),
    ] {
        harness.ok("NetworkDriver.CreateEndpoint", limited(n, options.clone()));
        assert_eq!(has_fast_path(n), expected, "{options}");
    }
}

#[test]
fn a_limit_that_the_kernel_refuses_refuses_the_container() {
    for refused in [
        (|step: &Step| step.creates(ObjectKind::Ifb)) as fn(&Step) -> bool,
        |step| matches!(step, Step::FastPath { add, .. } if !add.is_empty()),
    ] {
        let harness = Harness::new();
        harness.ok("NetworkDriver.CreateNetwork", with_options("aa", 1, json!({})));
        let before = harness.kernel.datapath();
        for _ in 0..10 {
            harness.kernel.inject(refused, Fault::Refuse(libc::EOPNOTSUPP));
        }
        let text = harness.err("NetworkDriver.CreateEndpoint", limited(2, json!({"pontoon.rate.out": "5mbit"})));
        assert!(text.contains("endpoint e2"), "{text}");
        harness.life().driver.tick();
        let after = harness.kernel.datapath();
        assert_eq!((after.objects, after.policy), (before.objects.clone(), before.policy.clone()));
        assert!(after.fastpath.unwrap_or_default().is_empty());
    }
}

#[test]
fn limits_without_effect_are_refused_by_name() {
    let harness = host();
    let on = |options: Value| on_parent("bb", 2, options);
    for (kind, options) in [
        ("macvlan", json!({"parent": "eth7", "pontoon.rate.out": "5mbit"})),
        ("ipvlan", json!({"parent": "eth7", "ipvlan_mode": "l2", "pontoon.rate.in": "5mbit"})),
    ] {
        let text = harness.err("NetworkDriver.CreateNetwork", on(options));
        assert!(text.contains(kind) && text.contains("pontoon.rate."), "{text}");
    }
    harness.ok("NetworkDriver.CreateNetwork", on(json!({"parent": "eth7"})));
    harness.kernel.add_link(&name("lan0"), "bridge");
    let bridge = json!({"com.docker.network.bridge.name": "lan0", "pontoon.rate.in": "5mbit"});
    harness.ok("NetworkDriver.CreateNetwork", with_options("cc", 3, bridge));
    let mut body = endpoint("cc", "e8", "10.3.0.8/24");
    body["Options"]["pontoon.conn.rate"] = json!("5/s");
    let text = harness.err("NetworkDriver.CreateEndpoint", body);
    assert!(text.contains("pontoon.conn.rate has no effect on lan0"), "{text}");
    let mut body = endpoint("bb", "e9", "10.2.0.9/24");
    body["Options"]["pontoon.rate.in"] = json!("5mbit");
    let text = harness.err("NetworkDriver.CreateEndpoint", body);
    assert!(text.contains("pontoon.rate.in has no effect"), "{text}");

    harness.ok("NetworkDriver.CreateNetwork", with_options("aa", 1, json!({"com.docker.network.driver.mtu": "9000"})));
    for (options, says) in [
        (json!({"pontoon.conn.max": "0"}), "expected a number from 1"),
        (json!({"pontoon.conn.rate": "50/m"}), "such as 50/s"),
        (json!({"pontoon.conn.max": "5", "pontoon.spoofcheck": "false"}), "needs source address validation"),
        (
            json!({"pontoon.rate.in": "5mbit", "pontoon.rate.burst": "8kb"}),
            "less than a frame of the network, 9022 bytes",
        ),
        (json!({"pontoon.rate.burst": "16kb"}), "without a rate has no effect"),
        (json!({"pontoon.rate.in": "50mbps"}), "expected bits per second"),
        (json!({"pontoon.rate.inn": "50mbit"}), "pontoon.rate.in"),
    ] {
        let text = harness.err("NetworkDriver.CreateEndpoint", limited(2, options));
        assert!(text.contains(says) && !text.contains('\n'), "{text}");
    }
}
