//! create_network, delete_network, gw_alloc_check.

use pontoon::datapath::{Change, Object, ObjectKind, Policy, Step};
use pontoon::model::{Family, IfName};
use serde_json::{Value, json};

use super::rig::{Rig, endpoint, network, of};

fn with(mut body: Value, options: Value) -> Value {
    body["Options"]["com.docker.network.generic"] = options;
    body
}

#[test]
fn a_dual_stack_network_is_a_bridge_with_both_gateways() {
    let rig = Rig::new();
    rig.kernel.set_uplink_mtu(Some(1450));
    rig.ok("NetworkDriver.CreateNetwork", network("0123456789abcdef", 7, true));
    let datapath = rig.kernel.datapath();
    let (name, bridge) = datapath.bridges().pop_first().unwrap();
    assert_eq!(name.as_str(), "pntb0123456789a");
    assert_eq!(bridge.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.7.0.1/24", "fd07::1/64"]);
    assert!(bridge.ipv6 && bridge.up && bridge.owned);
    assert_eq!(bridge.mtu, 1450);
    assert!(datapath.forwarding.v4 && datapath.forwarding.v6);
    let elements = datapath.policy.unwrap();
    assert!(
        elements.contains(&Policy::IntraNetwork(name.clone()))
            && elements.contains(&Policy::ProtectedBridge(name.clone()))
    );
    assert!(elements.contains(&Policy::Masquerade("10.7.0.0/24".parse().unwrap())));
    assert!(elements.contains(&Policy::Masquerade("fd07::/64".parse().unwrap())));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "0123456789abcdef"}));
    let after = rig.kernel.datapath();
    assert!(
        after.bridges().is_empty()
            && after.policy.unwrap()
                == [Policy::LimitedForwarding(Family::V4), Policy::LimitedForwarding(Family::V6)].into()
    );
}

#[test]
fn every_verb_of_a_network_may_be_repeated() {
    let rig = Rig::new();
    let body = network("aa", 1, false);
    rig.ok("NetworkDriver.CreateNetwork", body.clone());
    let before = rig.kernel.datapath();
    rig.ok("NetworkDriver.CreateNetwork", body);
    assert_eq!(rig.kernel.datapath(), before);
    for _ in 0..2 {
        rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    }
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "never-seen"}));
    assert!(rig.kernel.datapath().bridges().is_empty());
}

#[test]
fn a_known_id_with_other_settings_is_replaced_only_while_nothing_uses_it() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 2, false));
    let bridge = rig.kernel.datapath().bridges().into_values().next().unwrap();
    assert_eq!(bridge.addresses.first().unwrap().to_string(), "10.2.0.1/24");
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.2.0.2/24"));
    let text = rig.err("NetworkDriver.CreateNetwork", network("aa", 3, false));
    assert!(text.contains("aa") && text.contains("1 endpoints"), "{text}");
}

#[test]
fn internal_networks_neither_forward_nor_masquerade() {
    let rig = Rig::new();
    let mut body = network("aa", 1, true);
    body["Options"]["com.docker.network.internal"] = json!(true);
    rig.ok("NetworkDriver.CreateNetwork", body);
    let datapath = rig.kernel.datapath();
    assert!(!datapath.forwarding.v4 && !datapath.forwarding.v6);
    let elements = datapath.policy.unwrap();
    assert!(elements.iter().any(|e| matches!(e, Policy::Internal(_))));
    assert!(!elements.iter().any(|e| matches!(e, Policy::Masquerade(_))));
}

#[test]
fn options_change_what_they_say() {
    let rig = Rig::new();
    let options = json!({
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.bridge.inhibit_ipv4": "true",
        "com.docker.network.bridge.name": "custom0",
        "com.docker.network.container_iface_prefix": "net",
    });
    rig.ok("NetworkDriver.CreateNetwork", with(network("aa", 1, true), options));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let answer = rig.ok("NetworkDriver.Join", super::rig::join("aa", "e1"));
    assert_eq!(answer["InterfaceName"]["DstPrefix"], "net");
    let datapath = rig.kernel.datapath();
    let bridge = &datapath.bridges()[&IfName::parse("custom0").unwrap()];
    assert_eq!(bridge.mtu, 1400);
    assert_eq!(bridge.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fd01::1/64"]);
    assert!(datapath.veths().values().all(|v| v.isolated && v.mtu == 1400));
    assert!(!datapath.policy.unwrap().iter().any(|e| matches!(e, Policy::Masquerade(_))));
}

#[test]
fn an_existing_bridge_is_used_and_survives_its_network() {
    let rig = Rig::new();
    let lan = IfName::parse("lan0").unwrap();
    rig.kernel.add_link(&lan, "bridge");
    let body = with(network("aa", 1, false), json!({"com.docker.network.bridge.name": "lan0"}));
    rig.ok("NetworkDriver.CreateNetwork", body);
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let steps = rig.kernel.take_steps();
    assert!(
        !steps.iter().any(|s| matches!(
            s,
            Step::Create(_, Object::Bridge(_))
                | Step::Change(_, Change::AddAddress(_))
                | Step::Change(_, Change::Mtu(_))
        )),
        "{steps:?}"
    );
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert!(!rig.kernel.take_steps().iter().any(|s| s.deletes(ObjectKind::Bridge)));
}

/// A network on the user's bridge `lan0`.
fn on_lan(id: &str, n: u8, options: serde_json::Value) -> serde_json::Value {
    let mut all = json!({"com.docker.network.bridge.name": "lan0"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    with(network(id, n, false), all)
}

#[test]
fn networks_share_a_bridge_of_the_user_and_the_last_one_takes_its_rules_along() {
    let mut rig = Rig::new();
    let lan = IfName::parse("lan0").unwrap();
    rig.kernel.add_link(&lan, "bridge");
    let before = rig.kernel.datapath();
    rig.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, json!({})));
    let alone = rig.kernel.datapath();
    rig.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, json!({})));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("bb", "e1", "10.2.0.2/24"));
    rig.restart();
    rig.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, json!({})));
    let both = rig.kernel.datapath();
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    let one = rig.kernel.datapath();
    assert_eq!((&one.objects, &one.forward4), (&both.objects, &both.forward4), "bb needs what aa needed");
    rig.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, json!({})));
    rig.ok("NetworkDriver.DeleteEndpoint", of("bb", "e1"));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    let left = rig.kernel.datapath();
    assert_eq!((&left.policy, &left.forward4, &left.forward6), (&alone.policy, &alone.forward4, &alone.forward6));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    rig.life().driver.tick();
    let mut after = rig.kernel.datapath();
    // Forwarding stays on, and closed for the links of others.
    after.policy.as_mut().unwrap().remove(&Policy::LimitedForwarding(Family::V4));
    assert_eq!((after.objects, after.policy, after.forward4), (before.objects, before.policy, before.forward4));
}

#[test]
fn networks_on_one_bridge_agree_about_what_applies_to_all_of_it() {
    let rig = Rig::new();
    rig.kernel.add_link(&IfName::parse("lan0").unwrap(), "bridge");
    rig.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, json!({})));
    let icc = json!({"com.docker.network.bridge.enable_icc": "false"});
    let text = rig.err("NetworkDriver.CreateNetwork", on_lan("bb", 2, icc.clone()));
    assert!(text.contains("lan0") && text.contains("network aa") && text.contains("enable_icc"), "{text}");
    let text = rig.err("NetworkDriver.CreateNetwork", on_lan("bb", 1, json!({})));
    assert!(text.contains("overlaps"), "{text}");
    // A refused network leaves no claim behind.
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    rig.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, icc));
}

#[test]
fn a_small_mtu_is_the_containers_alone_and_a_large_one_is_refused() {
    let rig = Rig::new();
    rig.kernel.add_link(&IfName::parse("lan0").unwrap(), "bridge");
    let mtu = |mtu: &str| json!({"com.docker.network.driver.mtu": mtu});
    let text = rig.err("NetworkDriver.CreateNetwork", on_lan("aa", 1, mtu("1501")));
    assert!(text.contains("lan0") && text.contains("1501") && text.contains("1500"), "{text}");
    rig.ok("NetworkDriver.CreateNetwork", on_lan("aa", 1, mtu("1400")));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let pair = rig.kernel.datapath().veths().into_values().next().unwrap();
    // A port with a smaller MTU would lower that of the bridge.
    assert_eq!((pair.mtu, pair.peer_mtu), (1500, 1400));
}

#[test]
fn options_that_need_rules_are_refused_on_a_bridge_that_gets_none() {
    let rig = Rig::new();
    rig.kernel.add_link(&IfName::parse("lan0").unwrap(), "bridge");
    for (option, value) in [
        ("com.docker.network.bridge.gateway_mode_ipv4", "routed"),
        ("com.docker.network.bridge.gateway_mode_ipv6", "nat-unprotected"),
        ("com.docker.network.bridge.trusted_host_interfaces", "eth1"),
        ("pontoon.publish.allow", "10.0.0.0/8"),
    ] {
        let options = json!({"com.docker.network.bridge.name": "lan0", option: value});
        let text = rig.err("NetworkDriver.CreateNetwork", with(network("aa", 1, false), options));
        assert!(text.contains(option) && text.contains("lan0"), "{text}");
    }
    let options = json!({"com.docker.network.bridge.name": "lan0"});
    rig.ok("NetworkDriver.CreateNetwork", with(network("aa", 1, false), options));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let rig = Rig::new();
    rig.kernel.add_link(&IfName::parse("wlan0").unwrap(), "");
    rig.ok("NetworkDriver.CreateNetwork", network("first", 1, false));
    let before = (rig.kernel.datapath(), std::fs::read(rig.ledger_file()).unwrap());
    let named = |name: &str| json!({"com.docker.network.bridge.name": name});
    let taken = rig.kernel.datapath().bridges().into_keys().next().unwrap();
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
        let text = rig.err("NetworkDriver.CreateNetwork", body);
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
        assert_eq!((rig.kernel.datapath(), std::fs::read(rig.ledger_file()).unwrap()), before, "{text}");
    }
    // Nothing of the refused ones is taken: all of it may be used now.
    rig.ok("NetworkDriver.CreateNetwork", with(network("aa", 2, false), named("fresh0")));
}

#[test]
fn ids_that_are_equal_at_the_start_get_different_bridges() {
    let rig = Rig::new();
    let (a, b) = ("0123456789abcdef-one", "0123456789abcdef-two");
    rig.ok("NetworkDriver.CreateNetwork", network(a, 1, false));
    rig.ok("NetworkDriver.CreateNetwork", network(b, 2, false));
    assert_eq!(rig.kernel.datapath().bridges().len(), 2);
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": a}));
    let left = rig.kernel.datapath().bridges().into_values().next().unwrap();
    assert_eq!(left.addresses.first().unwrap().to_string(), "10.2.0.1/24");
}

#[test]
fn a_gateway_is_needed_unless_nothing_would_carry_it() {
    let rig = Rig::new();
    let ask = |internal: bool, inhibit: &str| {
        rig.ok(
            "NetworkDriver.GwAllocCheck",
            json!({"Options": {"com.docker.network.internal": internal,
            "com.docker.network.generic": {"com.docker.network.bridge.inhibit_ipv4": inhibit}}}),
        )
    };
    assert_eq!(ask(true, "true"), json!({"SkipIPv4": true, "SkipIPv6": false}));
    assert_eq!(ask(false, "true"), json!({"SkipIPv4": false, "SkipIPv6": false}));
    assert_eq!(ask(true, "false"), json!({"SkipIPv4": false, "SkipIPv6": false}));
    let text = rig.err("NetworkDriver.GwAllocCheck", json!({"Options": {"com.docker.network.generic": {"mtu": "1"}}}));
    assert!(text.contains("com.docker.network.driver.mtu"), "{text}");
}
