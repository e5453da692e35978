//! From options to the firewall: how each option changes the policy, and the resulting elements of nftables sets. The
//! expected text is tests/golden/policy.txt; UPDATE_EXPECT=1 writes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pontoon::datapath::access::Access;
use pontoon::datapath::{FastPath, Policy, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::linux::firewall::elements::element;
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, join, network};

const PREFIX: &str = "com.docker.network";

/// A line for one policy: its name, the set, and the element.
fn line(sign: &str, policy: &Policy) -> String {
    let text = format!("{policy:?}");
    let name = text
        .trim_start_matches("Access(")
        .trim_start_matches("Link(")
        .split(['(', ' ', ','])
        .next()
        .unwrap_or_default()
        .to_owned();
    let (set, element) = element(policy);
    format!("{sign} {name:<20} {} {{ {element} }}\n", set.spec().name)
}

/// The policy of one network with these options and one container that publishes TCP port 8080 as 80.
fn policy(options: &Value, internal: bool) -> BTreeSet<Policy> {
    let harness = Harness::with(OverlaySettings::default(), |kernel| {
        let address = "192.0.2.1".parse().unwrap();
        kernel.set_underlay(None, Some(Underlay { address, mtu: 1500 }));
        for (name, kind) in [("lan0", "bridge"), ("docker0", "bridge")] {
            kernel.add_link(&pontoon::model::IfName::parse(name).unwrap(), kind);
        }
    });
    let mut body = network("aa", 1, true);
    body["Options"][format!("{PREFIX}.generic")] = options.clone();
    body["Options"][format!("{PREFIX}.internal")] = json!(internal);
    harness.ok("NetworkDriver.CreateNetwork", body);
    let mut body = endpoint("aa", "e1", "10.1.0.2/24");
    body["Interface"]["AddressIPv6"] = json!("fd01::2/64");
    harness.ok("NetworkDriver.CreateEndpoint", body);
    harness.ok("NetworkDriver.Join", join("aa", "e1"));
    if !internal {
        let port = json!({"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080});
        let body = json!({"NetworkID": "aa", "EndpointID": "e1", "Options": {format!("{PREFIX}.portmap"): [port]}});
        harness.ok("NetworkDriver.ProgramExternalConnectivity", body);
    }
    harness.kernel.datapath().policy.expect("the firewall exists")
}

fn cases() -> Vec<(&'static str, Value, bool)> {
    let bridge = |option: &str| format!("{PREFIX}.bridge.{option}");
    let (mode4, mode6) = (bridge("gateway_mode_ipv4"), bridge("gateway_mode_ipv6"));
    vec![
        ("--internal", json!({}), true),
        ("enable_icc=false", json!({bridge("enable_icc"): "false"}), false),
        ("enable_ip_masquerade=false", json!({bridge("enable_ip_masquerade"): "false"}), false),
        (
            "host_ipv4, host_ipv6",
            json!({format!("{PREFIX}.host_ipv4"): "192.0.2.77", format!("{PREFIX}.host_ipv6"): "2001:db8::77"}),
            false,
        ),
        ("mode routed", json!({&mode4: "routed", &mode6: "routed"}), false),
        ("mode nat-unprotected", json!({&mode4: "nat-unprotected", &mode6: "nat-unprotected"}), false),
        ("trusted_host_interfaces=eth1", json!({bridge("trusted_host_interfaces"): "eth1"}), false),
        ("host_binding_ipv4=192.0.2.1", json!({bridge("host_binding_ipv4"): "192.0.2.1"}), false),
        ("pontoon.publish.allow", json!({"pontoon.publish.allow": "192.0.2.0/24,2001:db8::/32"}), false),
        ("pontoon.policy=deny-egress", json!({"pontoon.policy": "deny-egress"}), false),
        (
            "pontoon.egress.allow, pontoon.ingress.allow",
            json!({"pontoon.egress.allow": "tcp:443@192.0.2.0/24!192.0.2.8/29", "pontoon.ingress.allow": "tcp:80@2001:db8::/32+host"}),
            false,
        ),
        (
            "pontoon.policy.audit, pontoon.egress.allow",
            json!({"pontoon.policy.audit": "true", "pontoon.egress.allow": "tcp:443@192.0.2.0/24"}),
            false,
        ),
        ("pontoon.conn.max, pontoon.conn.rate", json!({"pontoon.conn.max": "500", "pontoon.conn.rate": "50/s"}), false),
        ("pontoon.spoofcheck=false", json!({"pontoon.spoofcheck": "false"}), false),
        ("pontoon.ra=refuse", json!({"pontoon.ra": "refuse"}), false),
        ("a bridge of the user", json!({bridge("name"): "lan0"}), false),
        (
            "a bridge of the user, enable_icc=false",
            json!({bridge("name"): "lan0", bridge("enable_icc"): "false"}),
            false,
        ),
        ("pontoon.vni", json!({"pontoon.vni": "70000", "pontoon.peers": "192.0.2.7"}), false),
        ("pontoon.vni, pontoon.multicast=false", json!({"pontoon.vni": "70000", "pontoon.multicast": "false"}), false),
    ]
}

#[test]
fn each_option_changes_the_policy_as_recorded() {
    let default = policy(&json!({}), false);
    let mut text = String::from("# defaults, with port 8080 published as 80\n");
    default.iter().for_each(|policy| text += &line(" ", policy));
    for (title, options, internal) in cases() {
        let changed = policy(&options, internal);
        assert_ne!(changed, default, "{title} changes nothing");
        let _ = writeln!(text, "\n# {title}");
        default.difference(&changed).for_each(|policy| text += &line("-", policy));
        changed.difference(&default).for_each(|policy| text += &line("+", policy));
    }
    testkit::golden::file("tests/golden/policy.txt", &text);
}

/// What a network's list allows is stated once, however many containers the network has.
#[test]
fn containers_share_the_list_of_their_network() {
    let harness = Harness::new();
    let mut body = network("aa", 1, true);
    body["Options"][format!("{PREFIX}.generic")] = json!({"pontoon.egress.allow": "tcp:443@192.0.2.0/24+dns"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    let counts = |harness: &Harness| {
        let access = harness.kernel.datapath().policy.unwrap().into_iter().filter_map(|policy| match policy {
            Policy::Access(access) => Some(access),
            _ => None,
        });
        let (shared, own): (Vec<_>, Vec<_>) =
            access.partition(|access| matches!(access, Access::Allowed(..) | Access::AllowedHost(..)));
        (shared.len(), own.len())
    };
    let (shared, none) = counts(&harness);
    assert!(shared > 0 && none == 0);
    for n in 2..12 {
        let mut body = endpoint("aa", &format!("e{n}"), &format!("10.1.0.{n}/24"));
        body["Interface"]["AddressIPv6"] = json!(format!("fd01::{n}/64"));
        harness.ok("NetworkDriver.CreateEndpoint", body);
        // Its two addresses, its port as restricted and as tracked.
        assert_eq!(counts(&harness), (shared, (n - 1) * 4));
    }
    // One with a list of its own adds only what the network's does not allow.
    let mut body = endpoint("aa", "e12", "10.1.0.12/24");
    body["Options"]["pontoon.egress.allow"] = json!("tcp:443@192.0.2.7+udp:53@any+tcp:22@192.0.2.7");
    harness.ok("NetworkDriver.CreateEndpoint", body);
    assert_eq!(counts(&harness), (shared + 2, 43), "routed and bridged");
    for n in 2..=12 {
        harness.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": "aa", "EndpointID": format!("e{n}")}));
    }
    assert_eq!(counts(&harness), (shared, 0));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert_eq!(counts(&harness), (0, 0));
}

/// Frames on the fast path bypass the rules of the bridge.
#[test]
fn a_container_with_a_list_takes_no_fast_path() {
    let harness = Harness::with(OverlaySettings::default(), |kernel| {
        let address = "192.0.2.1".parse().unwrap();
        kernel.set_underlay(None, Some(Underlay { address, mtu: 1500 }));
    });
    let mut body = network("aa", 1, false);
    body["Options"][format!("{PREFIX}.generic")] = json!({"pontoon.vni": "70000"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    let ports = || {
        let fastpath = harness.kernel.datapath().fastpath.unwrap();
        fastpath.iter().filter(|entry| matches!(entry, FastPath::Port { .. })).count()
    };
    for (n, list, expected) in
        [(2, None, 1), (3, Some("pontoon.ingress.allow"), 1), (4, Some("pontoon.egress.allow"), 1)]
    {
        let mut body = endpoint("aa", &format!("e{n}"), &format!("10.1.0.{n}/24"));
        if let Some(key) = list {
            body["Options"][key] = json!("any");
        }
        harness.ok("NetworkDriver.CreateEndpoint", body);
        assert_eq!(ports(), expected, "{list:?}");
    }
}
