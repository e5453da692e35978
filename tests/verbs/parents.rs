//! Parents of the endpoints' links: VLAN links that Pontoon creates, and what networks on one parent agree about.

use pontoon::datapath::object::{Ipvlan, Vlan};
use pontoon::datapath::{Object, ObjectKind, Step};
use pontoon::model::kind::{IpvlanFlag, IpvlanMode};
use serde_json::json;

use crate::macvlan::{host, name, on_parent};
use crate::rig::{Rig, endpoint, join, of};

fn vlan(rig: &Rig) -> Option<Vlan> {
    let object = rig.kernel.datapath().objects.get(&name("eth7.40")).cloned();
    object.map(|object| if let Object::Vlan(vlan) = object { vlan } else { panic!("{object:?}") })
}

#[test]
fn a_vlan_parent_is_made_on_demand_and_goes_with_the_last_network() {
    let mut rig = host();
    let before = rig.kernel.datapath();
    let child = || json!({"parent": "eth7.40"});
    rig.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, child()));
    assert_eq!(vlan(&rig), Some(Vlan { below: name("eth7"), vid: 40, up: true }));
    rig.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7.40", "macvlan_mode": "private"})));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("bb", "e1", "10.2.0.2/24"));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert!(vlan(&rig).is_some(), "bb needs it");
    // After a reboot it is there before the first request.
    rig.kernel.meddle(|datapath| datapath.objects.clear());
    rig.restart();
    assert!(vlan(&rig).is_some());
    let steps = rig.kernel.take_steps();
    let made = steps.iter().position(|step| matches!(step, Step::Create(_, Object::Vlan(_))));
    let child = steps.iter().position(|step| matches!(step, Step::Create(_, Object::Macvlan(_))));
    assert!(made.is_some() && made < child, "{steps:?}");
    // One whose network ended while the daemon did not run.
    for _ in 0..2 {
        rig.ok("NetworkDriver.DeleteEndpoint", of("bb", "e1"));
        rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    }
    assert_eq!(rig.kernel.datapath().objects, before.objects);
}

#[test]
fn a_vlan_link_of_the_user_is_used_and_kept() {
    let rig = host();
    rig.kernel.add_link(&name("eth7.40"), "vlan");
    rig.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7.40"})));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    rig.life().driver.tick();
    let steps = rig.kernel.take_steps();
    assert!(steps.iter().all(|step| step.link() != Some(&name("eth7.40"))), "{steps:?}");
}

#[test]
fn an_ipvlan_endpoint_has_no_hardware_address_of_its_own() {
    let rig = host();
    let options = json!({"parent": "eth7", "ipvlan_mode": "l2", "ipvlan_flag": "private"});
    rig.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options));
    let mut body = endpoint("aa", "e0", "10.1.0.9/24");
    body["Interface"]["MacAddress"] = json!("02:00:00:00:00:09");
    let text = rig.err("NetworkDriver.CreateEndpoint", body);
    assert!(text.contains("--mac-address") && text.contains("eth7") && text.contains("macvlan"), "{text}");
    let answer = rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert!(answer["Interface"]["MacAddress"].as_str().is_none_or(str::is_empty), "{answer}");
    let objects = rig.kernel.datapath().objects;
    let child = objects.values().find_map(|object| if let Object::Ipvlan(child) = object { Some(child) } else { None });
    let wanted = Ipvlan { parent: name("eth7"), mode: IpvlanMode::L2, flag: IpvlanFlag::Private, mtu: 1500 };
    assert_eq!(child, Some(&wanted));
    let joined = rig.ok("NetworkDriver.Join", join("aa", "e1"));
    assert_eq!(joined["Gateway"], "10.1.0.1");
    rig.ok("NetworkDriver.Leave", of("aa", "e1"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    assert!(rig.kernel.datapath().objects.values().all(|object| object.kind() != ObjectKind::Ipvlan));
}

#[test]
fn containers_of_layer_three_have_a_default_route_on_their_link() {
    for mode in ["l3", "l3s"] {
        let rig = host();
        rig.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7", "ipvlan_mode": mode})));
        rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
        let joined = rig.ok("NetworkDriver.Join", join("aa", "e1"));
        assert_eq!(joined["Gateway"].as_str().unwrap_or_default(), "");
        assert_eq!(joined["DisableGatewayService"], true, "or docker_gwbridge would be a second link");
        let routes = joined["StaticRoutes"].as_array().expect("routes");
        assert_eq!(routes.len(), 1, "{joined}");
        assert_eq!((&routes[0]["Destination"], &routes[0]["RouteType"]), (&json!("0.0.0.0/0"), &json!(1)));
    }
}

#[test]
fn what_a_parent_cannot_carry_is_refused_with_the_remedy() {
    let rig = host();
    rig.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7", "ipvlan_mode": "l3"})));
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
        let text = rig.err("NetworkDriver.CreateNetwork", on_parent("bb", 2, options));
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
    }
    // Nothing of the refused ones is held.
    rig.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7", "ipvlan_mode": "l3"})));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    rig.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7"})));
}
