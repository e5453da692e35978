//! Networks on a parent link of the host.

use pontoon::datapath::object::Macvlan;
use pontoon::datapath::{Object, ObjectKind};
use pontoon::model::IfName;
use pontoon::model::kind::MacvlanMode;
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, join, network, of};

pub fn name(text: &str) -> IfName {
    IfName::parse(text).unwrap()
}

pub fn on_parent(id: &str, n: u8, options: Value) -> Value {
    let mut body = network(id, n, false);
    body["Options"]["com.docker.network.generic"] = options;
    body
}

/// A host with a link `eth7`.
pub fn host() -> Harness {
    let harness = Harness::new();
    harness.kernel.add_link(&name("eth7"), "");
    harness
}

fn children(harness: &Harness) -> Vec<(IfName, Macvlan)> {
    let child = |(name, object)| if let Object::Macvlan(child) = object { Some((name, child)) } else { None };
    harness.kernel.datapath().objects.into_iter().filter_map(child).collect()
}

#[test]
fn an_endpoint_is_a_child_link_of_the_parent() {
    let mut harness = host();
    let before = harness.kernel.datapath();
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7", "macvlan_mode": "private"})));
    let made = harness.kernel.datapath();
    assert_eq!((&made.objects, &made.forwarding), (&before.objects, &before.forwarding));
    let answer = harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let all = children(&harness);
    let [(link, child)] = &all[..] else { panic!("one child: {all:?}") };
    assert_eq!((child.parent.as_str(), child.mode, child.mtu), ("eth7", MacvlanMode::Private, 1500));
    assert_eq!(answer["Interface"]["MacAddress"], child.mac.to_string());
    let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
    assert_eq!(joined["InterfaceName"]["SrcName"], link.as_str());
    assert_eq!(joined["Gateway"], "10.1.0.1");
    // A link in its sandbox is invisible to the host: neither drift nor a dead endpoint.
    harness.kernel.meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Macvlan));
    harness.kernel.take_steps();
    harness.life().driver.tick();
    harness.restart();
    harness.life().driver.tick();
    assert!(harness.kernel.take_steps().iter().all(|step| step.link().is_none()), "no link is touched");
    assert_eq!(harness.life().driver.sizes(), (1, 1));
    for _ in 0..2 {
        harness.ok("NetworkDriver.Leave", of("aa", "e1"));
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    }
    assert_eq!(harness.kernel.datapath().objects, before.objects);
}

#[test]
fn a_child_that_waits_for_its_sandbox_is_repaired() {
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7"})));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let before = children(&harness);
    harness.kernel.meddle(|datapath| datapath.objects.clear());
    harness.life().driver.tick();
    assert_eq!(children(&harness), before);
    harness.kernel.meddle(|datapath| {
        for object in datapath.objects.values_mut() {
            if let Object::Macvlan(child) = object {
                (child.mtu, child.mode) = (1400, MacvlanMode::Vepa);
            }
        }
    });
    harness.life().driver.tick();
    assert_eq!(children(&harness), before);
}

#[test]
fn unusable_parents_and_options_are_refused_with_the_remedy() {
    let harness = host();
    let bridged = |option: &str, value: &str| json!({"parent": "eth7", option: value});
    for (options, says) in [
        (json!({"parent": "eth9"}), "this host has no link eth9"),
        (json!({"parent": "eth9.40"}), "no link eth9 to create it on"),
        (json!({"parent": "lo0000000000000000"}), "parent"),
        (json!({"macvlan_mode": "bridge"}), "-o parent=LINK"),
        (json!({"parent": "eth7", "macvlan_mode": "l2"}), "bridge, private, vepa or passthru"),
        (json!({"parent": "eth7", "com.docker.network.driver.mtu": "9000"}), "MTU of its parent eth7, 1500"),
        (bridged("com.docker.network.bridge.enable_icc", "false"), "enable_icc has no effect"),
        (bridged("com.docker.network.bridge.name", "br0"), "bridge.name has no effect"),
        (bridged("com.docker.network.bridge.gateway_mode_ipv4", "routed"), "gateway_mode_ipv4 has no effect"),
        (bridged("pontoon.vni", "7"), "pontoon.vni has no effect"),
        (bridged("pontoon.multicast", "false"), "pontoon.multicast has no effect"),
    ] {
        let message = harness.err("NetworkDriver.CreateNetwork", on_parent("aa", 1, options.clone()));
        assert!(message.contains(says), "{options}: {message}");
        assert_eq!(message.lines().count(), 1);
    }
    harness
        .ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7", "macvlan_mode": "passthru"})));
    let mut checked = endpoint("aa", "e1", "10.1.0.2/24");
    checked["Options"] = json!({"pontoon.spoofcheck": "true"});
    let message = harness.err("NetworkDriver.CreateEndpoint", checked);
    assert!(message.contains("pontoon.spoofcheck has no effect on aa"), "{message}");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let message = harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.1.0.3/24"));
    assert!(message.contains("network aa has 1 endpoints"), "{message}");
    harness.ok("NetworkDriver.Join", join("aa", "e1"));
    let ports = json!([{"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}]);
    let mut publish = of("aa", "e1");
    publish["Options"] = json!({"com.docker.network.portmap": ports});
    // Not refused, see the driver; and no port is reserved.
    harness.ok("NetworkDriver.ProgramExternalConnectivity", publish);
    assert!(harness.kernel.reserved().is_empty());
    harness.ok("NetworkDriver.RevokeExternalConnectivity", of("aa", "e1"));
}

#[test]
fn a_swarm_network_keeps_its_parent_under_a_container_and_has_no_vni() {
    let id = "u4ylute1if55shzy1kj09qow0";
    let harness = host();
    let on_eth7 = |n: u8| on_parent(id, n, json!({"parent": "eth7"}));
    harness.ok("NetworkDriver.CreateNetwork", on_eth7(1));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(id, "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join(id, "e1"));
    let before = harness.kernel.render();
    // The engine moved the link and, after a crash, requests the network again: other settings are refused.
    harness.kernel.meddle(|datapath| datapath.objects.clear());
    harness.ok("NetworkDriver.CreateNetwork", on_eth7(1));
    assert_eq!(harness.life().driver.sizes(), (1, 1));
    for other in [on_eth7(2), network(id, 1, false), on_parent(id, 1, json!({"parent": "eth8"}))] {
        let message = harness.err("NetworkDriver.CreateNetwork", other);
        assert!(message.contains("exists with other settings and 1 endpoints"), "{message}");
    }
    assert!(!harness.kernel.render().contains("Tunnel") && !before.contains("Tunnel"));
}

#[test]
fn no_gateway_is_allocated_on_a_parent() {
    let harness = host();
    let body = |options: Value| json!({"Options": {"com.docker.network.generic": options}});
    let skips = |options| harness.ok("NetworkDriver.GwAllocCheck", body(options));
    assert_eq!(skips(json!({"parent": "eth7"})), json!({"SkipIPv4": true, "SkipIPv6": true}));
    assert_eq!(skips(json!({})), json!({"SkipIPv4": false, "SkipIPv6": false}));
}
