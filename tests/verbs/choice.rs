//! Networks that name several parents, of which each host uses one of its own.

use std::collections::BTreeSet;

use pontoon::driver::OverlaySettings;
use pontoon::model::{PortVlans, Scope, Vid};
use serde_json::json;

use crate::macvlan::{host, name, on_parent};
use testkit::harness::{Harness, endpoint, join};

/// The parents of all links of endpoints that are on the host.
fn parents(harness: &Harness) -> BTreeSet<String> {
    let objects = harness.kernel.datapath().objects;
    objects.values().filter_map(|object| object.parent().map(ToString::to_string)).collect()
}

fn parent_of(harness: &Harness, id: &str) -> String {
    let networks = harness.life().driver.networks();
    let held = networks.iter().find(|held| held.network.spec.id.as_str() == id).expect("the network");
    held.network.kind.link().to_string()
}

fn addresses(harness: &Harness, address: &str, link: &str) {
    let (address, link) = (address.parse().unwrap(), link.to_owned());
    harness.kernel.surround(|around| around.addresses = vec![(address, link)]);
}

#[test]
fn each_form_finds_the_link_of_this_host() {
    let harness = host();
    addresses(&harness, "192.168.1.7/24", "eth7");
    harness.kernel.surround(|around| around.uplink = Some(name("eth7")));
    for (choice, parent) in [
        ("eno1,eth7", "eth7"),
        ("@default", "eth7"),
        ("@192.168.1.0/24", "eth7"),
        ("@10.0.0.0/8,@192.168.0.0/16.40", "eth7.40"),
        ("eno1.40,eth7.40", "eth7.40"),
    ] {
        harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": choice})));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
        assert!(parents(&harness).contains(parent), "{choice}: {:?}", parents(&harness));
        assert_eq!(parent_of(&harness, "aa"), parent, "{choice}");
        harness.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": "aa", "EndpointID": "e1"}));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    }
    assert!(parents(&harness).is_empty());
}

#[test]
fn a_host_without_a_candidate_is_told_what_each_lacks() {
    let harness = host();
    let refused = |choice: &str| {
        let text = harness.err("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": choice})));
        assert!(!text.contains('\n'), "{text}");
        text
    };
    let text = refused("eth0,eno1.7,@default,@10.9.0.0/16");
    for says in ["eth0", "eno1.7", "default route", "10.9.0.0/16", "ip link"] {
        assert!(text.contains(says), "{text}: {says}");
    }
    assert!(refused("@10.9.0.1/16").contains("@10.9.0.0/16"));
    assert!(refused("@eth7").contains("@SUBNET"));
    // A name with a VLAN that no link can have.
    harness.kernel.add_link(&name("a-longer-name7"), "");
    harness.kernel.surround(|around| around.uplink = Some(name("a-longer-name7")));
    assert!(refused("@default.400").contains("a-longer-name7.400"));
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "@default"})));
}

#[test]
fn another_candidate_takes_the_place_of_a_parent_that_is_gone() {
    let mut harness = host();
    let options = json!({"parent": "eth7,eno1", "pontoon.host": "true"});
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options.clone()));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.1.0.3/24"));
    harness.ok("NetworkDriver.Join", join("aa", "e2"));
    // While there is no other, the network waits for its own.
    harness.kernel.remove_link(&name("eth7"));
    assert!(harness.life().driver.lacks_parent());
    harness.life().driver.tick();
    assert_eq!(parent_of(&harness, "aa"), "eth7");
    harness.kernel.add_link(&name("eno1"), "");
    let _ = harness.life().driver.repair();
    assert_eq!(parents(&harness), BTreeSet::from(["eno1".to_owned()]));
    let moved = harness.kernel.datapath();
    assert_eq!(moved.stations.len(), 2, "{:?}", moved.stations);
    assert!(!harness.life().driver.lacks_parent());
    // It stays there: containers run on it, whatever appears, and after a restart.
    harness.kernel.add_link(&name("eth7"), "");
    harness.life().driver.tick();
    harness.restart();
    assert_eq!(parents(&harness), BTreeSet::from(["eno1".to_owned()]));
    // Networks on the parent that is gone and on the new one agree about it.
    let l3 = json!({"parent": "eno1", "ipvlan_mode": "l3"});
    let text = harness.err("NetworkDriver.CreateNetwork", on_parent("bb", 2, l3));
    assert!(text.contains("eno1 already carries network aa"), "{text}");
    harness.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eth7", "ipvlan_mode": "l3"})));
    // The engine asks again for the same network.
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, options));
}

#[test]
fn after_a_reboot_the_links_of_the_host_may_have_other_names() {
    let mut harness = host();
    addresses(&harness, "192.168.1.7/24", "eth7");
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "@192.168.1.0/24.40"})));
    assert!(harness.kernel.datapath().objects.contains_key(&name("eth7.40")));
    harness.kernel.remove_link(&name("eth7"));
    harness.kernel.reboot();
    harness.kernel.add_link(&name("eno1"), "");
    addresses(&harness, "192.168.1.7/24", "eno1");
    harness.restart();
    let objects = harness.kernel.datapath().objects;
    assert!(objects.contains_key(&name("eno1.40")) && !objects.contains_key(&name("eth7.40")), "{objects:?}");
}

#[test]
fn a_network_keeps_its_parent_when_another_has_other_terms() {
    let harness = host();
    harness.kernel.add_link(&name("eno1"), "");
    harness.ok("NetworkDriver.CreateNetwork", on_parent("aa", 1, json!({"parent": "eth7,eno1"})));
    harness.ok("NetworkDriver.CreateNetwork", on_parent("bb", 2, json!({"parent": "eno1", "ipvlan_mode": "l2"})));
    harness.kernel.remove_link(&name("eth7"));
    harness.life().driver.tick();
    assert_eq!(parent_of(&harness, "aa"), "eth7");
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    harness.life().driver.tick();
    assert_eq!(parent_of(&harness, "aa"), "eno1");
}

/// A LAN leads to the other hosts by itself: a manager of a Swarm allocates no VNI for it.
#[test]
fn a_network_of_a_swarm_on_a_lan_is_no_overlay() {
    let settings = OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() };
    let harness = Harness::with(settings, |kernel| {
        kernel.add_link(&name("eth7"), "");
        kernel.add_link(&name("br-lan"), "bridge");
        kernel.filter_vlans(&name("br-lan"), true);
        let uplink = PortVlans::of(Vid::new(1).unwrap(), "40".parse().unwrap());
        kernel.set_vlans(&name("br-lan"), &name("eth0"), uplink);
    });
    let id = "u4ylute1if55shzy1kj09qow0";
    for options in
        [json!({"parent": "@default,eth7"}), json!({"com.docker.network.bridge.name": "br-lan", "pontoon.vlan": "40"})]
    {
        let allocate = json!({"NetworkID": id, "Options": options, "IPv6Data": null,
            "IPv4Data": [{"AddressSpace": "", "Gateway": "10.1.0.1/24", "Pool": "10.1.0.0/24"}]});
        let answer = harness.ok("NetworkDriver.AllocateNetwork", allocate)["Options"].clone();
        assert_eq!(answer, options, "the nodes get what the user said");
        harness.ok("NetworkDriver.CreateNetwork", on_parent(id, 1, answer));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(id, "e1", "10.1.0.2/24"));
        assert!(harness.kernel.datapath().vxlans().is_empty());
        harness.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": id, "EndpointID": "e1"}));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": id}));
    }
}
