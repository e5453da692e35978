//! create_network, delete_network, gw_alloc_check.

use pontoon::datapath::{Change, LinkProperty, Object, ObjectKind, Policy, Step};
use pontoon::model::{Family, IfName};
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, network, of};

fn with(mut body: Value, options: Value) -> Value {
    body["Options"]["com.docker.network.generic"] = options;
    body
}

#[test]
fn a_dual_stack_network_is_a_bridge_with_both_gateways() {
    let harness = Harness::new();
    harness.kernel.set_uplink_mtu(Some(1450));
    harness.ok("NetworkDriver.CreateNetwork", network("0123456789abcdef", 7, true));
    let datapath = harness.kernel.datapath();
    let (name, bridge) = datapath.bridges().pop_first().unwrap();
    assert_eq!(name.as_str(), "pntb0123456789a");
    assert_eq!(bridge.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.7.0.1/24", "fd07::1/64"]);
    assert!(bridge.ipv6 && bridge.up && bridge.owned);
    assert_eq!(bridge.mtu, 1450);
    assert!(datapath.forwarding.v4 && datapath.forwarding.v6);
    let elements = datapath.policy.unwrap();
    assert!(
        elements.contains(&Policy::IntraNetwork(name.clone()))
            && elements.contains(&Policy::Link(LinkProperty::ProtectedBridge, name.clone()))
    );
    assert!(elements.contains(&Policy::Masquerade("10.7.0.0/24".parse().unwrap())));
    assert!(elements.contains(&Policy::Masquerade("fd07::/64".parse().unwrap())));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "0123456789abcdef"}));
    let after = harness.kernel.datapath();
    assert!(
        after.bridges().is_empty()
            && after.policy.unwrap()
                == [Policy::LimitedForwarding(Family::V4), Policy::LimitedForwarding(Family::V6)].into()
    );
}

#[test]
fn every_network_request_can_be_repeated() {
    let harness = Harness::new();
    let body = network("aa", 1, false);
    harness.ok("NetworkDriver.CreateNetwork", body.clone());
    let before = harness.kernel.datapath();
    harness.ok("NetworkDriver.CreateNetwork", body);
    assert_eq!(harness.kernel.datapath(), before);
    for _ in 0..2 {
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    }
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "never-seen"}));
    assert!(harness.kernel.datapath().bridges().is_empty());
}

#[test]
fn a_known_id_with_other_settings_is_replaced_only_while_nothing_uses_it() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 2, false));
    let bridge = harness.kernel.datapath().bridges().into_values().next().unwrap();
    assert_eq!(bridge.addresses.first().unwrap().to_string(), "10.2.0.1/24");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.2.0.2/24"));
    let text = harness.err("NetworkDriver.CreateNetwork", network("aa", 3, false));
    assert!(text.contains("aa") && text.contains("1 endpoints"), "{text}");
}

#[test]
fn internal_networks_neither_forward_nor_masquerade() {
    let harness = Harness::new();
    let mut body = network("aa", 1, true);
    body["Options"]["com.docker.network.internal"] = json!(true);
    harness.ok("NetworkDriver.CreateNetwork", body);
    let datapath = harness.kernel.datapath();
    assert!(!datapath.forwarding.v4 && !datapath.forwarding.v6);
    let elements = datapath.policy.unwrap();
    assert!(elements.iter().any(|e| matches!(e, Policy::Link(LinkProperty::Internal, _))));
    assert!(!elements.iter().any(|e| matches!(e, Policy::Masquerade(_))));
}

#[test]
fn options_have_their_effect() {
    let harness = Harness::new();
    let options = json!({
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.bridge.inhibit_ipv4": "true",
        "com.docker.network.bridge.name": "custom0",
        "com.docker.network.container_iface_prefix": "net",
    });
    harness.ok("NetworkDriver.CreateNetwork", with(network("aa", 1, true), options));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let answer = harness.ok("NetworkDriver.Join", testkit::harness::join("aa", "e1"));
    assert_eq!(answer["InterfaceName"]["DstPrefix"], "net");
    let datapath = harness.kernel.datapath();
    let bridge = &datapath.bridges()[&IfName::parse("custom0").unwrap()];
    assert_eq!(bridge.mtu, 1400);
    assert_eq!(bridge.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fd01::1/64"]);
    assert!(datapath.veths().values().all(|v| v.isolated && v.mtu == 1400));
    assert!(!datapath.policy.unwrap().iter().any(|e| matches!(e, Policy::Masquerade(_))));
}

#[test]
fn an_existing_bridge_is_used_and_survives_its_network() {
    let harness = Harness::new();
    let lan = IfName::parse("lan0").unwrap();
    harness.kernel.add_link(&lan, "bridge");
    let body = with(network("aa", 1, false), json!({"com.docker.network.bridge.name": "lan0"}));
    harness.ok("NetworkDriver.CreateNetwork", body);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let steps = harness.kernel.take_steps();
    assert!(
        !steps.iter().any(|s| matches!(
            s,
            Step::Create(_, Object::Bridge(_))
                | Step::Change(_, Change::AddAddress(_))
                | Step::Change(_, Change::Mtu(_))
        )),
        "{steps:?}"
    );
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert!(!harness.kernel.take_steps().iter().any(|s| s.deletes(ObjectKind::Bridge)));
}

/// A network on the user's bridge `lan0`.
fn on_lan(id: &str, n: u8, options: serde_json::Value) -> serde_json::Value {
    let mut all = json!({"com.docker.network.bridge.name": "lan0"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    with(network(id, n, false), all)
}

#[test]
fn networks_share_a_user_bridge_and_the_last_one_removes_its_rules() {
    let mut harness = Harness::new();
    let lan = IfName::parse("lan0").unwrap();
    harness.kernel.add_link(&lan, "bridge");
    let before = harness.kernel.datapath();
    harness.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, json!({})));
    let alone = harness.kernel.datapath();
    harness.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, json!({})));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("bb", "e1", "10.2.0.2/24"));
    harness.restart();
    harness.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, json!({})));
    let both = harness.kernel.datapath();
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    let one = harness.kernel.datapath();
    assert_eq!((&one.objects, &one.forward4), (&both.objects, &both.forward4), "bb needs the elements that aa needed");
    harness.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, json!({})));
    harness.ok("NetworkDriver.DeleteEndpoint", of("bb", "e1"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    let left = harness.kernel.datapath();
    assert_eq!((&left.policy, &left.forward4, &left.forward6), (&alone.policy, &alone.forward4, &alone.forward6));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.life().driver.tick();
    let mut after = harness.kernel.datapath();
    // Forwarding stays enabled, and limited for foreign links.
    after.policy.as_mut().unwrap().remove(&Policy::LimitedForwarding(Family::V4));
    assert_eq!((after.objects, after.policy, after.forward4), (before.objects, before.policy, before.forward4));
}

#[test]
fn networks_on_one_bridge_need_equal_bridge_settings() {
    let harness = Harness::new();
    harness.kernel.add_link(&IfName::parse("lan0").unwrap(), "bridge");
    harness.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, json!({})));
    let icc = json!({"com.docker.network.bridge.enable_icc": "false"});
    let text = harness.err("NetworkDriver.CreateNetwork", on_lan("bb", 2, icc.clone()));
    assert!(text.contains("lan0") && text.contains("network aa") && text.contains("enable_icc"), "{text}");
    let text = harness.err("NetworkDriver.CreateNetwork", on_lan("bb", 1, json!({})));
    assert!(text.contains("overlaps"), "{text}");
    // A refused network reserves nothing.
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, icc));
}

#[test]
fn a_small_mtu_applies_to_containers_only_and_a_large_one_is_refused() {
    let harness = Harness::new();
    harness.kernel.add_link(&IfName::parse("lan0").unwrap(), "bridge");
    let mtu = |mtu: &str| json!({"com.docker.network.driver.mtu": mtu});
    let text = harness.err("NetworkDriver.CreateNetwork", on_lan("aa", 1, mtu("1501")));
    assert!(text.contains("lan0") && text.contains("1501") && text.contains("1500"), "{text}");
    harness.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, mtu("1400")));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let pair = harness.kernel.datapath().veths().into_values().next().unwrap();
    // A port with a smaller MTU would lower that of the bridge.
    assert_eq!((pair.mtu, pair.peer_mtu), (1500, 1400));
}

#[test]
fn options_that_need_rules_are_refused_on_a_user_bridge() {
    let harness = Harness::new();
    harness.kernel.add_link(&IfName::parse("lan0").unwrap(), "bridge");
    for (option, value) in [
        ("com.docker.network.bridge.gateway_mode_ipv4", "routed"),
        ("com.docker.network.bridge.gateway_mode_ipv6", "nat-unprotected"),
        ("com.docker.network.bridge.trusted_host_interfaces", "eth1"),
        ("pontoon.publish.allow", "10.0.0.0/8"),
    ] {
        let options = json!({"com.docker.network.bridge.name": "lan0", option: value});
        let text = harness.err("NetworkDriver.CreateNetwork", with(network("aa", 1, false), options));
        assert!(text.contains(option) && text.contains("lan0"), "{text}");
    }
    let options = json!({"com.docker.network.bridge.name": "lan0"});
    harness.ok("NetworkDriver.CreateNetwork", with(network("aa", 1, false), options));
}

#[test]
fn impossible_networks_are_refused_without_side_effects() {
    let harness = Harness::new();
    harness.kernel.add_link(&IfName::parse("wlan0").unwrap(), "");
    harness.ok("NetworkDriver.CreateNetwork", network("first", 1, false));
    let before = (harness.kernel.datapath(), std::fs::read(harness.ledger_file()).unwrap());
    let named = |name: &str| json!({"com.docker.network.bridge.name": name});
    let taken = harness.kernel.datapath().bridges().into_keys().next().unwrap();
    let mut two = network("aa", 2, false);
    two["IPv4Data"] = json!([{"Pool": "10.2.0.0/24"}, {"Pool": "10.3.0.0/24"}]);
    for (body, says) in [
        (network("aa", 1, false), "10.1.0.0/24"),
        (with(network("aa", 2, false), named("wlan0")), "wlan0"),
        (with(network("aa", 2, false), named(taken.as_str())), "already carries network first"),
        (with(network("aa", 2, false), named("far too long a name")), "bridge.name"),
        (with(network("aa", 2, false), json!({"com.docker.network.bridge.enable_ic": "1"})), "enable_icc"),
        (with(network("aa", 2, true), json!({"com.docker.network.driver.mtu": "1000"})), "1280"),
        (two, "2 IPv4 subnets"),
        (network("", 2, false), "NetworkID"),
        (network("a/b", 2, false), "'/'"),
    ] {
        let text = harness.err("NetworkDriver.CreateNetwork", body);
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
        assert_eq!((harness.kernel.datapath(), std::fs::read(harness.ledger_file()).unwrap()), before, "{text}");
    }
    // The refused networks reserved nothing: all of it can be used now.
    harness.ok("NetworkDriver.CreateNetwork", with(network("aa", 2, false), named("fresh0")));
}

#[test]
fn ids_that_are_equal_at_the_start_get_different_bridges() {
    let harness = Harness::new();
    let (a, b) = ("0123456789abcdef-one", "0123456789abcdef-two");
    harness.ok("NetworkDriver.CreateNetwork", network(a, 1, false));
    harness.ok("NetworkDriver.CreateNetwork", network(b, 2, false));
    assert_eq!(harness.kernel.datapath().bridges().len(), 2);
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": a}));
    let left = harness.kernel.datapath().bridges().into_values().next().unwrap();
    assert_eq!(left.addresses.first().unwrap().to_string(), "10.2.0.1/24");
}

#[test]
fn a_gateway_is_required_unless_internal_and_inhibited() {
    let harness = Harness::new();
    let ask = |internal: bool, inhibit: &str| {
        harness.ok(
            "NetworkDriver.GwAllocCheck",
            json!({"Options": {"com.docker.network.internal": internal,
            "com.docker.network.generic": {"com.docker.network.bridge.inhibit_ipv4": inhibit}}}),
        )
    };
    assert_eq!(ask(true, "true"), json!({"SkipIPv4": true, "SkipIPv6": false}));
    assert_eq!(ask(false, "true"), json!({"SkipIPv4": false, "SkipIPv6": false}));
    assert_eq!(ask(true, "false"), json!({"SkipIPv4": false, "SkipIPv6": false}));
    let text =
        harness.err("NetworkDriver.GwAllocCheck", json!({"Options": {"com.docker.network.generic": {"mtu": "1"}}}));
    assert!(text.contains("com.docker.network.driver.mtu"), "{text}");
}
