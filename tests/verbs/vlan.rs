//! Networks in a VLAN of a user's bridge: refusals and their remedies, the VLANs of the ports, and equal addresses in
//! two VLANs.

use pontoon::datapath::{Change, Policy, Step, Veth};
use pontoon::model::{IfName, PortVlans, Vid};
use serde_json::{Value, json};

use crate::macvlan::name;
use testkit::harness::{Harness, endpoint, network, of};

const BRIDGE: &str = "com.docker.network.bridge.name";

fn vid(number: u16) -> Vid {
    Vid::new(number).unwrap()
}

fn port(access: u16, trunk: &str) -> PortVlans {
    PortVlans::of(vid(access), if trunk.is_empty() { Default::default() } else { trunk.parse().unwrap() })
}

/// A network of subnet 10.N.0.0/24 on `lan0` with these further options.
fn on_lan(id: &str, n: u8, options: Value) -> Value {
    let mut body = network(id, n, false);
    body["Options"]["com.docker.network.generic"] = options;
    body["Options"]["com.docker.network.generic"][BRIDGE] = json!("lan0");
    body
}

fn in_vlan(id: &str, n: u8, vid: &str) -> Value {
    on_lan(id, n, json!({"pontoon.vlan": vid}))
}

fn with_options(id: &str, endpoint_id: &str, address: &str, options: Value) -> Value {
    let mut body = endpoint(id, endpoint_id, address);
    for (key, value) in options.as_object().unwrap() {
        body["Options"][key] = value.clone();
    }
    body
}

/// A host with the bridge `lan0`, whose uplink `eth7` carries these VLANs.
fn host(trunk: &str) -> Harness {
    let harness = Harness::new();
    harness.kernel.add_link(&name("lan0"), "bridge");
    harness.kernel.filter_vlans(&name("lan0"), true);
    harness.kernel.set_vlans(&name("lan0"), &name("lan0"), port(1, ""));
    harness.kernel.set_vlans(&name("lan0"), &name("eth7"), port(1, trunk));
    harness
}

fn ports(harness: &Harness) -> Vec<(IfName, Veth)> {
    harness.kernel.datapath().veths().into_iter().collect()
}

#[test]
fn an_unsuitable_bridge_is_refused_with_the_commands_that_fix_it() {
    let harness = Harness::new();
    let create = || in_vlan("aa", 1, "40");
    // Pontoon would have to create the bridge.
    let text = harness.err("NetworkDriver.CreateNetwork", create());
    assert!(text.contains("pontoon.vlan needs a bridge of your own") && text.contains("parent=LINK.VID"), "{text}");
    harness.kernel.add_link(&name("lan0"), "bridge");
    harness.err("NetworkDriver.CreateNetwork", create());
    harness.kernel.filter_vlans(&name("lan0"), false);
    harness.kernel.set_vlans(&name("lan0"), &name("eth7"), port(1, ""));
    let text = harness.err("NetworkDriver.CreateNetwork", create());
    assert!(
        text.contains("ip link set dev lan0 type bridge vlan_filtering 1") && text.contains("other ports"),
        "{text}"
    );
    harness.kernel.filter_vlans(&name("lan0"), true);
    let text = harness.err("NetworkDriver.CreateNetwork", create());
    assert!(text.contains("bridge vlan add dev eth7 vid 40;") && text.contains("dev lan0 vid 40 self"), "{text}");
    assert!(harness.kernel.datapath().objects.is_empty() && harness.life().driver.sizes() == (0, 0));
    harness.kernel.set_vlans(&name("lan0"), &name("eth7"), port(1, "40"));
    harness.ok("NetworkDriver.CreateNetwork", create());
    // The owner disables filtering: all VLANs would be one segment.
    harness.kernel.filter_vlans(&name("lan0"), false);
    let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert!(text.contains("vlan_filtering 1"), "{text}");
    harness.kernel.filter_vlans(&name("lan0"), true);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
}

#[test]
fn a_vlan_is_a_number_and_belongs_to_bridges() {
    let harness = host("2-4094");
    for bad in ["0", "4095", "-1", "x", "", "40-50"] {
        let text = harness.err("NetworkDriver.CreateNetwork", in_vlan("aa", 1, bad));
        assert!(text.contains("pontoon.vlan") && text.contains("1 to 4094"), "{bad}: {text}");
    }
    harness.kernel.add_link(&name("eth8"), "");
    let mut body = network("aa", 1, false);
    body["Options"]["com.docker.network.generic"] = json!({"parent": "eth8", "pontoon.vlan": "40"});
    let text = harness.err("NetworkDriver.CreateNetwork", body);
    assert!(text.contains("pontoon.vlan has no effect"), "{text}");
    harness.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    for option in ["pontoon.vlan", "pontoon.vlan.trunk"] {
        let body = with_options("bb", "e1", "10.2.0.2/24", json!({option: "40"}));
        let text = harness.err("NetworkDriver.CreateEndpoint", body);
        assert!(text.contains(&format!("{option} needs a bridge of your own")), "{text}");
    }
}

#[test]
fn ports_have_the_vlan_of_the_network_or_of_the_endpoint_and_a_trunk() {
    let mut harness = host("2-4094");
    harness.ok("NetworkDriver.CreateNetwork", in_vlan("aa", 1, "40"));
    harness.ok("NetworkDriver.CreateNetwork", on_lan("bb", 2, json!({})));
    let create = |network: &str, id: &str, n: u8, options: Value| {
        let net = if network == "aa" { 1 } else { 2 };
        with_options(network, id, &format!("10.{net}.0.{n}/24"), options)
    };
    for (network, id, n, options, wanted) in [
        ("aa", "e1", 2, json!({}), Some(port(40, ""))),
        ("aa", "e2", 3, json!({"pontoon.vlan": "41"}), Some(port(41, ""))),
        ("aa", "e3", 4, json!({"pontoon.vlan.trunk": "50-59,70"}), Some(port(40, "50-59,70"))),
        ("bb", "e4", 2, json!({}), None),
        ("bb", "e5", 3, json!({"pontoon.vlan": "7", "pontoon.vlan.trunk": "8"}), Some(port(7, "8"))),
    ] {
        let before = ports(&harness);
        harness.ok("NetworkDriver.CreateEndpoint", create(network, id, n, options));
        let new = ports(&harness).into_iter().find(|port| !before.contains(port)).expect("a port");
        assert_eq!(new.1.vlans, wanted, "{id}");
    }
    let trunks = || {
        let policy = harness.kernel.datapath().policy.unwrap();
        policy.into_iter().filter(|policy| matches!(policy, Policy::TrunkVlan(..))).count()
    };
    assert_eq!(trunks(), 12);
    for (options, says) in [
        (json!({"pontoon.vlan.trunk": "40"}), "contains 40"),
        (json!({"pontoon.vlan.trunk": "50-"}), "ranges like 50-59"),
        (json!({"pontoon.vlan": "0"}), "1 to 4094"),
    ] {
        let text = harness.err("NetworkDriver.CreateEndpoint", create("aa", "e9", 9, options));
        assert!(text.contains(says), "{text}");
    }
    let text = harness.err("NetworkDriver.CreateEndpoint", create("bb", "e9", 9, json!({"pontoon.vlan.trunk": "50"})));
    assert!(text.contains("needs pontoon.vlan"), "{text}");
    // All of it is restored from the ledger.
    let before = ports(&harness);
    harness.restart();
    assert_eq!(ports(&harness), before);
    assert!(harness.kernel.take_steps().iter().all(|step| !matches!(step, Step::Change(_, Change::Vlans(_)))));
}

#[test]
fn vlan_drift_is_repaired_without_joining_another_vlan() {
    let harness = host("2-4094");
    harness.ok("NetworkDriver.CreateNetwork", in_vlan("aa", 1, "40"));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let before = ports(&harness);
    let meddle = |change: fn(&mut Veth)| {
        harness.kernel.meddle(|datapath| datapath.veths_mut().for_each(|(_, veth)| change(veth)));
        harness.kernel.take_steps();
        harness.life().driver.tick();
        assert_eq!(ports(&harness), before);
        harness.kernel.take_steps()
    };
    let steps = meddle(|veth| veth.vlans = Some(port(1, "")));
    assert_eq!(steps, [Step::Change(before[0].0.clone(), Change::Vlans(port(40, "")))]);
    let join = Change::JoinVlans { bridge: name("lan0"), vlans: port(40, "") };
    for steps in [meddle(|veth| veth.bridge = None), meddle(|veth| veth.up = false)] {
        assert_eq!(steps, [Step::Change(before[0].0.clone(), join.clone())]);
    }
    // VLANs are irrelevant while the bridge does not filter them.
    harness.kernel.filter_vlans(&name("lan0"), false);
    harness.kernel.meddle(|datapath| datapath.veths_mut().for_each(|(_, veth)| veth.vlans = Some(port(1, ""))));
    harness.life().driver.tick();
    assert!(harness.kernel.take_steps().is_empty());
    harness.kernel.filter_vlans(&name("lan0"), true);
    harness.life().driver.tick();
    assert_eq!(ports(&harness), before);
}

fn pool(vlan: &str) -> Value {
    let options = if vlan.is_empty() { json!({}) } else { json!({"pontoon.vlan": vlan}) };
    json!({"AddressSpace": "pontoon-local", "Pool": "10.1.0.0/24", "SubPool": "", "Options": options, "V6": false})
}

#[test]
fn two_vlans_may_have_the_same_subnet_and_the_same_addresses() {
    let mut harness = host("2-4094");
    let request = |harness: &Harness, vlan: &str| {
        harness.ok("IpamDriver.RequestPool", pool(vlan))["PoolID"].as_str().unwrap().to_owned()
    };
    let address = |harness: &Harness, pool: &str, ip: &str| {
        harness.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": ip, "Options": {}}))
    };
    let forty = request(&harness, "40");
    address(&harness, &forty, "10.1.0.1");
    // Refused without a VLAN, and in the same one.
    for vlan in ["", "40"] {
        let text = harness.err("IpamDriver.RequestPool", pool(vlan));
        assert!(text.contains("overlaps"), "{text}");
    }
    let text = harness.err("IpamDriver.RequestPool", pool("4095"));
    assert!(text.contains("1 to 4094"), "{text}");
    let text = harness.err("NetworkDriver.CreateNetwork", in_vlan("aa", 1, "41"));
    assert!(text.contains("for VLAN 40") && text.contains("--ipam-opt"), "{text}");
    harness.ok("NetworkDriver.CreateNetwork", in_vlan("aa", 1, "40"));
    let fifty = request(&harness, "50");
    assert_ne!(forty, fifty);
    harness.ok("NetworkDriver.CreateNetwork", in_vlan("bb", 1, "50"));
    for (pool, network, id) in [(&forty, "aa", "e1"), (&fifty, "bb", "e2")] {
        address(&harness, pool, "10.1.0.9");
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(network, id, "10.1.0.9/24"));
    }
    // Each pool has its own endpoint.
    for pool in [&forty, &fifty] {
        let text =
            harness.err("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": "10.1.0.9", "Options": {}}));
        assert!(text.contains("10.1.0.9"), "{text}");
    }
    let listed = |harness: &Harness| {
        let policy = harness.kernel.datapath().policy.unwrap();
        policy.iter().filter(|policy| matches!(policy, Policy::UserBridgeContainer(_))).count()
    };
    assert_eq!(listed(&harness), 1);
    harness.restart();
    // The deletion of one does not affect the other.
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    assert_eq!(listed(&harness), 1);
    harness.ok("IpamDriver.ReleaseAddress", json!({"PoolID": forty, "Address": "10.1.0.9"}));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    harness.ok("IpamDriver.ReleasePool", json!({"PoolID": forty}));
    let masqueraded = |harness: &Harness| {
        harness.kernel.datapath().policy.unwrap().iter().any(|policy| matches!(policy, Policy::Masquerade(_)))
    };
    assert!(masqueraded(&harness) && listed(&harness) == 1);
    harness.err("IpamDriver.RequestAddress", json!({"PoolID": fifty, "Address": "10.1.0.9", "Options": {}}));
    harness.ok("NetworkDriver.DeleteEndpoint", of("bb", "e2"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    assert!(!masqueraded(&harness) && listed(&harness) == 0);
}
