//! Parents of endpoint links: VLAN links created by Pontoon, and constraints among networks on one parent.

use pontoon::datapath::object::{Ipvlan, Vlan};
use pontoon::datapath::{Object, ObjectKind, Step};
use pontoon::model::kind::{IpvlanFlag, IpvlanMode};
use serde_json::json;

use crate::macvlan::{host, name, on_parent};
use testkit::harness::{Harness, endpoint, join, of};

fn vlan(harness: &Harness) -> Option<Vlan> {
    let object = harness.kernel.datapath().objects.get(&name("eth7.40")).cloned();
    object.map(|object| if let Object::Vlan(vlan) = object { vlan } else { panic!("{object:?}") })
}

#[test]
fn a_vlan_parent_is_created_on_demand_and_removed_with_the_last_network() {
    let mut harness = host();
    let before = harness.kernel.datapath();
    let child = || json!({"parent": "eth7.40"});
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, child()));
    assert_eq!(vlan(&harness), Some(Vlan { below: name("eth7"), vid: 40, up: true }));
    harness
        .ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7.40", "macvlan_mode": "private"})));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("bb", "e1", "10.2.0.2/24"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert!(vlan(&harness).is_some(), "bb needs it");
    // After a reboot it exists before the first request.
    harness.kernel.meddle(|datapath| datapath.objects.clear());
    harness.restart();
    assert!(vlan(&harness).is_some());
    let steps = harness.kernel.take_steps();
    let made = steps.iter().position(|step| matches!(step, Step::Create(_, Object::Vlan(_))));
    let child = steps.iter().position(|step| matches!(step, Step::Create(_, Object::Macvlan(_))));
    assert!(made.is_some() && made < child, "{steps:?}");
    // A VLAN link whose network was deleted while the daemon was down.
    for _ in 0..2 {
        harness.ok("NetworkDriver.DeleteEndpoint", of("bb", "e1"));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    }
    assert_eq!(harness.kernel.datapath().objects, before.objects);
}

#[test]
fn a_vlan_link_of_the_user_is_used_and_kept() {
    let harness = host();
    harness.kernel.add_link(&name("eth7.40"), "vlan");
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7.40"})));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.life().driver.tick();
    let steps = harness.kernel.take_steps();
    assert!(steps.iter().all(|step| step.link() != Some(&name("eth7.40"))), "{steps:?}");
}

#[test]
fn an_ipvlan_endpoint_has_no_mac_address_of_its_own() {
    let harness = host();
    let options = json!({"parent": "eth7", "ipvlan_mode": "l2", "ipvlan_flag": "private"});
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options));
    let mut body = endpoint("aa", "e0", "10.1.0.9/24");
    body["Interface"]["MacAddress"] = json!("02:00:00:00:00:09");
    let text = harness.err("NetworkDriver.CreateEndpoint", body);
    assert!(text.contains("--mac-address") && text.contains("eth7") && text.contains("macvlan"), "{text}");
    let answer = harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert!(answer["Interface"]["MacAddress"].as_str().is_none_or(str::is_empty), "{answer}");
    let objects = harness.kernel.datapath().objects;
    let child = objects.values().find_map(|object| if let Object::Ipvlan(child) = object { Some(child) } else { None });
    let wanted = Ipvlan { parent: name("eth7"), mode: IpvlanMode::L2, flag: IpvlanFlag::Private, mtu: 1500 };
    assert_eq!(child, Some(&wanted));
    let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
    assert_eq!(joined["Gateway"], "10.1.0.1");
    harness.ok("NetworkDriver.Leave", of("aa", "e1"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    assert!(harness.kernel.datapath().objects.values().all(|object| object.kind() != ObjectKind::Ipvlan));
}

#[test]
fn containers_of_layer_three_have_a_default_route_on_their_link() {
    for mode in ["l3", "l3s"] {
        let harness = host();
        harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7", "ipvlan_mode": mode})));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
        let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
        assert_eq!(joined["Gateway"].as_str().unwrap_or_default(), "");
        assert_eq!(joined["DisableGatewayService"], true, "docker_gwbridge would be a second link");
        let routes = joined["StaticRoutes"].as_array().expect("routes");
        assert_eq!(routes.len(), 1, "{joined}");
        assert_eq!((&routes[0]["Destination"], &routes[0]["RouteType"]), (&json!("0.0.0.0/0"), &json!(1)));
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
        // With an address of the host as gateway, earlier engines let it publish ports.
        let options = json!({"parent": "eth7", "ipvlan_mode": mode, "pontoon.host": "10.1.0.9"});
        harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
        let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
        assert_eq!(joined["Gateway"], "10.1.0.9");
        assert!(joined["StaticRoutes"].as_array().is_none_or(Vec::is_empty), "{joined}");
    }
}

#[test]
fn conflicting_networks_on_a_parent_are_refused_with_the_remedy() {
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7", "ipvlan_mode": "l3"})));
    for (options, says) in [
        (json!({"parent": "eth7", "ipvlan_mode": "l2"}), "already carries network aa with ipvlan_mode=l3"),
        (json!({"parent": "eth7"}), "already carries network aa with ipvlan_mode=l3"),
        (json!({"parent": "eth7", "ipvlan_mode": "l3", "macvlan_mode": "bridge"}), "exclude each other"),
        (json!({"ipvlan_mode": "l3"}), "-o parent=LINK"),
        (json!({"parent": "eth7", "ipvlan_mode": "l4"}), "l2, l3 or l3s"),
        (json!({"parent": "eth7", "ipvlan_flag": "loud"}), "bridge, private or vepa"),
        (json!({"parent": "eth8.40"}), "no link eth8"),
        (json!({"parent": "eth7.4095"}), "NAME.VID"),
        (json!({"parent": "eth7.0"}), "NAME.VID"),
        (json!({"parent": "eth7", "ipvlan_mode": "l3", "com.docker.network.bridge.enable_icc": "false"}), "enable_icc"),
    ] {
        let text = harness.err("NetworkDriver.CreateNetwork", on_parent("bb", 2, options));
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
    }
    // The refused networks reserve nothing.
    harness.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7", "ipvlan_mode": "l3"})));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    harness.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7"})));
}
