//! Verbs of overlay networks: numbers, tunnels, other hosts, and a Swarm whose engine crashes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pontoon::datapath::fake::{FakeKernel, Fault};
use pontoon::datapath::{FastPath, Kernel, Object, ObjectKind, Policy, Step, Underlay, Vxlan};
use pontoon::driver::{Driver, Event, Events, OverlaySettings, Settings};
use pontoon::model::{IfName, Scope, Vni};
use pontoon::server::decode;
use pontoon::state::Ledger;
use serde_json::{Value, json};

use crate::rig::{Dir, Rig, endpoint, join, network, of};

const NET: &str = "u4ylute1if55shzy1kj09qow0";
const OTHER: &str = "oyhoufe3kygdq4ozphbntt7pn";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(kernel: &FakeKernel) {
    kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: 1500 }));
    kernel.set_uplink_mtu(Some(1500));
}

fn swarm() -> Rig {
    Rig::with(OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() }, host)
}

fn local() -> Rig {
    Rig::with(OverlaySettings::default(), host)
}

/// Networks of the Swarm that are each host's own, with the Swarm's word of the hosts.
fn each_its_own() -> Rig {
    Rig::with(OverlaySettings { connectivity: Scope::Global, ..OverlaySettings::default() }, host)
}

fn allocate(id: &str, options: Value) -> Value {
    json!({"NetworkID": id, "Options": options, "IPv6Data": null,
        "IPv4Data": [{"AddressSpace": "", "Gateway": "10.55.0.1/24", "Pool": "10.55.0.0/24"}]})
}

fn discovered(address: &str, own: bool) -> Value {
    json!({"DiscoveryType": 1, "DiscoveryData": {"Address": address, "BindAddress": "", "Self": own}})
}

fn with_options(id: &str, n: u8, options: Value) -> Value {
    let mut body = network(id, n, false);
    body["Options"]["com.docker.network.generic"] = options;
    body
}

/// The one tunnel of the host.
fn tunnel(rig: &Rig) -> Vxlan {
    let vxlans = rig.kernel.datapath().vxlans();
    assert_eq!(vxlans.len(), 1, "{vxlans:?}");
    vxlans.into_values().next().unwrap()
}

fn peers(rig: &Rig) -> Vec<String> {
    tunnel(rig).peers.iter().map(ToString::to_string).collect()
}

fn accepted(rig: &Rig) -> Vec<String> {
    let elements = rig.kernel.datapath().policy.unwrap();
    elements.iter().filter_map(|e| if let Policy::Peer(peer) = e { Some(peer.to_string()) } else { None }).collect()
}

#[test]
fn the_scope_is_what_the_operator_says() {
    let answer = swarm().ok("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!((&answer["Scope"], &answer["ConnectivityScope"]), (&json!("global"), &json!("global")));
    let answer = local().ok("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!((&answer["Scope"], &answer["ConnectivityScope"]), (&json!("local"), &json!("local")));
    let answer = each_its_own().ok("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!((&answer["Scope"], &answer["ConnectivityScope"]), (&json!("local"), &json!("global")));
}

#[test]
fn a_number_is_given_once_echoed_with_the_users_options_and_kept() {
    let mut rig = swarm();
    let mtu = json!({"com.docker.network.driver.mtu": "1400"});
    let first = rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, mtu))["Options"].clone();
    assert_eq!(first["pontoon.vni"], Vni::derive(NET).to_string());
    assert_eq!((&first["com.docker.network.driver.mtu"], &first["pontoon.allocated"]), (&json!("1400"), &json!(NET)));
    // The same again, with the answer among the options: here, after a restart, and on a manager
    // that has never heard of it.
    assert_eq!(rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, first.clone()))["Options"], first);
    rig.reboot();
    assert_eq!(
        rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({})))["Options"]["pontoon.vni"],
        first["pontoon.vni"]
    );
    let another = swarm();
    assert_eq!(another.ok("NetworkDriver.AllocateNetwork", allocate(NET, first.clone()))["Options"], first);
    // What the Swarm says is already so wins over what this manager remembers.
    let mut taken = first.clone();
    taken["pontoon.allocated"] = json!(OTHER);
    assert_eq!(another.ok("NetworkDriver.AllocateNetwork", allocate(OTHER, taken.clone()))["Options"], taken);
    // A user's wish does not.
    let wish = json!({"pontoon.vni": first["pontoon.vni"]});
    let message = rig.err("NetworkDriver.AllocateNetwork", allocate(OTHER, wish.clone()));
    assert!(message.contains(&NET[..12]) && message.contains("pontoon.vni"), "{message}");
    let message = rig.err("NetworkDriver.AllocateNetwork", allocate(OTHER, json!({"pontoon.allocated": NET})));
    assert!(message.contains("pontoon.allocated"), "{message}");
    for bad in [json!({"pontoon.vni": "0"}), json!({"pontoon.vni": "16777216"}), json!({"pontoon.vnii": "5"})] {
        assert!(rig.err("NetworkDriver.AllocateNetwork", allocate(OTHER, bad)).contains("pontoon.vni"));
    }
}

#[test]
fn a_number_that_was_given_back_rests() {
    let mut rig = swarm();
    let vni = Vni::derive(OTHER);
    rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({"pontoon.vni": vni.to_string()})));
    for _ in 0..2 {
        rig.ok("NetworkDriver.FreeNetwork", json!({"NetworkID": NET}));
    }
    rig.ok("NetworkDriver.FreeNetwork", json!({"NetworkID": "never-heard-of"}));
    rig.restart();
    let given = rig.ok("NetworkDriver.AllocateNetwork", allocate(OTHER, json!({})))["Options"]["pontoon.vni"].clone();
    assert_eq!(given, vni.next_chosen().to_string(), "its own number rests");
}

#[test]
fn pools_of_both_families_come_in_one_list() {
    let rig = swarm();
    let mut body = allocate(NET, json!({}));
    body["IPv4Data"] =
        json!([{"Pool": "10.55.0.0/24", "Gateway": "10.55.0.1/24"}, {"Pool": "fd55::/64", "Gateway": "fd55::1/64"}]);
    rig.ok("NetworkDriver.AllocateNetwork", body.clone());
    body["IPv4Data"][0]["Pool"] = json!("10.55.0.7/24");
    assert!(rig.err("NetworkDriver.AllocateNetwork", body).contains("10.55.0.0/24"));
}

#[test]
fn a_network_of_the_swarm_has_a_tunnel_to_every_node() {
    let mut rig = swarm();
    rig.kernel
        .set_underlay(Some(&IfName::parse("eth1").unwrap()), Some(Underlay { address: ip("198.51.100.1"), mtu: 9000 }));
    rig.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.7", false));
    let options = rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({})))["Options"].clone();
    rig.ok("NetworkDriver.CreateNetwork", with_options(NET, 55, options));
    let made = tunnel(&rig);
    assert_eq!((made.vni, made.local, made.mtu, made.port), (Vni::derive(NET), ip("192.0.2.1"), 1450, 4789));
    assert_eq!(peers(&rig), ["192.0.2.7"]);
    let elements = rig.kernel.datapath().policy.unwrap();
    assert!(elements.contains(&Policy::Tunnel(made.vni)) && elements.contains(&Policy::TunnelPort(4789)));
    // Another node, this node under the address by which the others know it, and itself as peer.
    rig.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.8", false));
    rig.ok("NetworkDriver.DiscoverNew", discovered("198.51.100.1", false));
    rig.ok("NetworkDriver.DiscoverNew", discovered("198.51.100.1", true));
    assert_eq!((tunnel(&rig).local, peers(&rig)), (ip("198.51.100.1"), vec!["192.0.2.7".into(), "192.0.2.8".into()]));
    // What is no node, and no address, is let pass.
    rig.ok("NetworkDriver.DiscoverNew", json!({"DiscoveryType": 3, "DiscoveryData": {"Keys": []}}));
    rig.ok("NetworkDriver.DiscoverNew", discovered("", false));
    // All of it is remembered: the engine does not repeat the peers.
    rig.reboot();
    assert_eq!((tunnel(&rig).local, peers(&rig)), (ip("198.51.100.1"), vec!["192.0.2.7".into(), "192.0.2.8".into()]));
    assert_eq!(accepted(&rig), ["192.0.2.7", "192.0.2.8"]);
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": NET}));
    assert!(rig.kernel.datapath().vxlans().is_empty());
    assert!(!rig.kernel.datapath().policy.unwrap().contains(&Policy::Tunnel(made.vni)));
}

#[test]
fn a_departure_is_a_hint() {
    let rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    rig.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.7", false));
    for _ in 0..2 {
        rig.ok("NetworkDriver.DiscoverDelete", discovered("192.0.2.7", false));
    }
    rig.ok("NetworkDriver.DiscoverDelete", discovered("192.0.2.99", false));
    assert_eq!(peers(&rig), ["192.0.2.7"]);
    rig.kernel.hear(ip("192.0.2.7"), Duration::from_secs(1));
    rig.life().driver.tick();
    assert_eq!((peers(&rig), accepted(&rig)), (vec!["192.0.2.7".to_owned()], vec!["192.0.2.7".to_owned()]));
}

#[test]
fn the_kernel_follows_an_address_that_moves_and_keeps_one_that_is_gone_for_a_moment() {
    let rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    rig.kernel.set_underlay(None, None);
    rig.life().driver.tick();
    assert_eq!(tunnel(&rig).local, ip("192.0.2.1"));
    rig.kernel.set_underlay(None, Some(Underlay { address: ip("2001:db8::1"), mtu: 1500 }));
    rig.life().driver.tick();
    assert_eq!(tunnel(&rig).local, ip("2001:db8::1"));
}

#[test]
fn an_overlay_without_swarm_has_the_peers_that_it_is_given() {
    let settings = OverlaySettings { peers: vec![ip("192.0.2.3")], ..OverlaySettings::default() };
    let rig = Rig::with(settings, host);
    let options = json!({"pontoon.vni": "4242", "pontoon.peers": "192.0.2.2, 2001:db8::2"});
    rig.ok("NetworkDriver.CreateNetwork", with_options("a", 1, options.clone()));
    assert_eq!((tunnel(&rig).vni.get(), peers(&rig)), (4242, vec!["192.0.2.2".to_owned(), "192.0.2.3".to_owned()]));
    assert_eq!(accepted(&rig), ["192.0.2.2", "192.0.2.3", "2001:db8::2"]);
    // The Swarm has no say here.
    rig.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.9", false));
    assert_eq!(peers(&rig).len(), 2);
    let message = rig.err("NetworkDriver.CreateNetwork", with_options("b", 2, options));
    assert!(message.contains("VNI 4242") && message.contains("network a"), "{message}");
    let message = rig.err("NetworkDriver.CreateNetwork", with_options("b", 2, json!({"pontoon.peers": "192.0.2.2"})));
    assert!(message.contains("pontoon.vni"), "{message}");
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "a"}));
    // Those that the operator names still believe what this host sends.
    assert_eq!(accepted(&rig), ["192.0.2.3"]);
    rig.ok("NetworkDriver.CreateNetwork", with_options("b", 2, json!({"pontoon.vni": "4242"})));
    // What one network refused is free for the next.
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "b"}));
    rig.ok("NetworkDriver.CreateNetwork", network("b", 2, false));
    assert!(rig.kernel.datapath().vxlans().is_empty(), "a network without a number is no overlay");
}

#[test]
fn broadcasts_stay_on_their_host_only_where_they_would_leave_it() {
    let mut rig = local();
    let quiet = |rig: &Rig| {
        let elements = rig.kernel.datapath().policy.unwrap();
        elements.iter().filter(|element| matches!(element, Policy::NoMulticast(_))).count()
    };
    rig.ok(
        "NetworkDriver.CreateNetwork",
        with_options("a", 1, json!({"pontoon.vni": "4242", "pontoon.multicast": "true"})),
    );
    assert_eq!(quiet(&rig), 0);
    rig.ok(
        "NetworkDriver.CreateNetwork",
        with_options("b", 2, json!({"pontoon.vni": "4243", "pontoon.multicast": "false"})),
    );
    assert_eq!(quiet(&rig), 1);
    rig.restart();
    assert_eq!(quiet(&rig), 1, "the ledger keeps it");
    rig.ok("NetworkDriver.DeleteNetwork", of("b", ""));
    assert_eq!(quiet(&rig), 0);
    let message = rig.err("NetworkDriver.CreateNetwork", with_options("c", 3, json!({"pontoon.multicast": "false"})));
    assert!(message.contains("pontoon.vni"), "{message}");
}

#[test]
fn shortcuts_come_and_go_with_the_endpoints_of_overlay_networks() {
    let mut rig = local();
    let ports = |rig: &Rig| {
        let shortcuts = rig.kernel.datapath().fastpath.unwrap_or_default();
        let checked = |shortcut: &FastPath| match shortcut {
            FastPath::Port { addresses, .. } => Some(!addresses.is_empty()),
            _ => None,
        };
        (shortcuts.len(), shortcuts.iter().filter_map(checked).collect::<Vec<_>>())
    };
    let overlay = |id: &str, n: u8, vni: &str, key: &str, value: &str| {
        rig.ok("NetworkDriver.CreateNetwork", with_options(id, n, json!({"pontoon.vni": vni, key: value})));
    };
    overlay("a", 1, "4242", "pontoon.shortcut", "true");
    assert_eq!(ports(&rig), (1, vec![]));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.2/24"));
    assert_eq!(ports(&rig), (2, vec![true]));
    // Those without, of one kind and another.
    overlay("b", 2, "4243", "pontoon.shortcut", "false");
    overlay("c", 3, "4244", "com.docker.network.bridge.enable_icc", "false");
    rig.ok("NetworkDriver.CreateNetwork", network("d", 4, false));
    for (n, id) in ["b", "c", "d"].into_iter().enumerate() {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(id, &format!("{id}1"), &format!("10.{}.0.2/24", n + 2)));
    }
    assert_eq!(ports(&rig), (2, vec![true]));
    let mut unchecked = endpoint("a", "e2", "10.1.0.3/24");
    unchecked["Options"]["pontoon.spoofcheck"] = json!("false");
    rig.ok("NetworkDriver.CreateEndpoint", unchecked);
    assert_eq!(ports(&rig).0, 3);
    let before = rig.kernel.datapath().fastpath;
    rig.restart();
    assert_eq!(rig.kernel.datapath().fastpath, before, "the ledger keeps what they follow from");
    rig.kernel.meddle(|datapath| datapath.fastpath = Some(Default::default()));
    rig.restart();
    assert_eq!(rig.kernel.datapath().fastpath, before, "and they are made again");
    // Who gets none gets along without.
    let refused = |step: &Step| matches!(step, Step::FastPath { .. });
    rig.kernel.inject(refused, Fault::Refuse(libc::EINVAL));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e3", "10.1.0.4/24"));
    assert_eq!(ports(&rig).0, 3);
    rig.life().driver.tick();
    assert_eq!(ports(&rig).0, 4, "until somebody looks again");
    for id in ["e1", "e2", "e3"] {
        rig.ok("NetworkDriver.DeleteEndpoint", of("a", id));
    }
    assert_eq!(ports(&rig), (1, vec![]));
    rig.ok("NetworkDriver.DeleteNetwork", of("a", ""));
    assert_eq!(ports(&rig), (0, vec![]));
    let message = rig.err("NetworkDriver.CreateNetwork", with_options("f", 5, json!({"pontoon.shortcut": "false"})));
    assert!(message.contains("pontoon.shortcut") && message.contains("pontoon.vni"), "{message}");
}

#[test]
fn a_network_of_a_hosts_own_has_the_swarms_peers_when_it_has_a_number() {
    let rig = each_its_own();
    rig.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.9", false));
    rig.ok("NetworkDriver.CreateNetwork", with_options(NET, 1, json!({"pontoon.vni": "4242"})));
    assert_eq!((tunnel(&rig).vni.get(), peers(&rig)), (4242, vec!["192.0.2.9".to_owned()]));
    rig.ok("NetworkDriver.CreateNetwork", network(OTHER, 2, false));
    assert_eq!(tunnel(&rig).vni.get(), 4242, "the other is no overlay");
}

#[test]
fn a_host_without_an_address_says_what_to_do() {
    let rig = Rig::with(OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() }, |_| {});
    let message = rig.err("NetworkDriver.CreateNetwork", network(NET, 55, false));
    assert!(message.contains("PONTOON_DATA_PATH"), "{message}");
    rig.kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: 1300 }));
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    let message = rig.err("NetworkDriver.CreateNetwork", network(OTHER, 56, true));
    assert!(message.contains("1250") && message.contains("1280"), "{message}");
    rig.ok("NetworkDriver.CreateNetwork", network(OTHER, 56, false));
}

#[test]
fn a_kernel_that_refuses_the_tunnel_leaves_no_network() {
    let rig = swarm();
    for _ in 0..2 {
        rig.kernel.inject(|step| step.creates(ObjectKind::Vxlan), pontoon::datapath::fake::Fault::Refuse(libc::EEXIST));
    }
    // Refused in the verb, in its comparison and in the comparison's second try.
    for _ in 0..2 {
        rig.kernel.inject(|step| step.creates(ObjectKind::Vxlan), pontoon::datapath::fake::Fault::Refuse(libc::EEXIST));
    }
    rig.err("NetworkDriver.CreateNetwork", network(NET, 55, false));
    let left = rig.kernel.datapath();
    assert!(left.vxlans().is_empty() && left.bridges().is_empty(), "{}", rig.kernel.render());
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
}

#[test]
fn hardware_addresses_do_not_follow_an_address() {
    let mac = |rig: &Rig, net: &str, n: u8, id: &str| {
        let made = rig.ok("NetworkDriver.CreateEndpoint", endpoint(net, id, &format!("10.{n}.0.7/24")));
        rig.ok("NetworkDriver.DeleteEndpoint", of(net, id));
        made["Interface"]["MacAddress"].clone()
    };
    let rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    assert_ne!(mac(&rig, NET, 55, "one"), mac(&rig, NET, 55, "two"));
    let rig = local();
    rig.ok("NetworkDriver.CreateNetwork", network("a", 1, false));
    assert_eq!(mac(&rig, "a", 1, "one"), mac(&rig, "a", 1, "two"));
}

#[test]
fn endpoints_are_announced_when_they_arrive_and_not_once_they_left() {
    let rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    let made = rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "one", "10.55.0.7/24"));
    assert!(rig.life().driver.announced().is_empty(), "not before it is in its sandbox");
    rig.ok("NetworkDriver.Join", join(NET, "one"));
    let events = rig.life().take_events();
    let arrivals: Vec<_> = events.iter().filter(|event| matches!(event, Event::Arrival(..))).collect();
    let [Event::Arrival(net, id)] = arrivals[..] else { panic!("{events:?}") };
    assert!(rig.kernel.take_announced().is_empty(), "the verb itself sends nothing");
    assert!(rig.life().driver.announce(net, id));
    let said = rig.kernel.take_announced();
    assert_eq!(
        (said[0].mac.to_string(), said[0].addresses.clone()),
        (made["Interface"]["MacAddress"].as_str().unwrap().to_owned(), vec![ip("10.55.0.7")])
    );
    assert_eq!(rig.life().driver.announced(), [(net.clone(), id.clone())]);
    rig.ok("NetworkDriver.Leave", of(NET, "one"));
    assert!(rig.life().driver.announced().is_empty());
    assert!(!rig.life().driver.announce(net, id) && rig.kernel.take_announced().is_empty());
    let rig = local();
    rig.ok("NetworkDriver.CreateNetwork", network("a", 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("a", "one", "10.1.0.7/24"));
    rig.ok("NetworkDriver.Join", join("a", "one"));
    assert!(rig.life().driver.announced().is_empty(), "a local network needs none");
}

#[test]
fn all_endpoints_are_announced_in_rounds() {
    let rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    for (id, n) in [("one", 7), ("two", 8)] {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, id, &format!("10.55.0.{n}/24")));
        rig.ok("NetworkDriver.Join", join(NET, id));
    }
    // Nobody said that they arrived: an earlier life did.
    let (arrivals, receive) = std::sync::mpsc::channel();
    pontoon::announcer::start(rig.life().driver.clone(), Duration::from_millis(20), receive).unwrap();
    let mut said = Vec::new();
    let began = std::time::Instant::now();
    while said.len() < 6 && began.elapsed() < Duration::from_secs(40) {
        said.extend(rig.kernel.take_announced());
        std::thread::yield_now();
    }
    let of = |n: u8| said.iter().filter(|one| one.addresses == [ip(&format!("10.55.0.{n}"))]).count();
    assert!(of(7) >= 3 && of(8) >= 3, "{said:?}");
    drop(arrivals);
}

#[test]
fn a_change_that_fails_leaves_the_tunnel_that_was() {
    use pontoon::datapath::{Step, fake::Fault};
    let mut rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(OTHER, 56, false));
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "live", "10.55.0.3/24"));
    rig.ok("NetworkDriver.Join", join(NET, "live"));
    let before = rig.kernel.datapath();
    let other = before.vxlans().values().find(|vxlan| vxlan.vni == Vni::derive(OTHER)).unwrap().vni;
    let changed = |vni: u32, mtu: &str| {
        let mut body = network(NET, 57, false);
        body["Options"]["com.docker.network.generic"] =
            json!({"com.docker.network.driver.mtu": mtu, "pontoon.vni": vni.to_string()});
        body
    };
    // What is refused before anything is done touches nothing: a number that is taken, an MTU that
    // does not fit, somebody else's subnet.
    rig.kernel.take_steps();
    assert!(rig.err("NetworkDriver.CreateNetwork", changed(other.get(), "1300")).contains("pontoon.vni"));
    rig.err("NetworkDriver.CreateNetwork", changed(777_777, "20"));
    rig.err("NetworkDriver.CreateNetwork", with_options(NET, 56, json!({"pontoon.vni": "777777"})));
    assert_eq!(rig.kernel.take_steps(), [], "the tunnel stands all the while");
    rig.ok("NetworkDriver.CreateNetwork", network("second", 57, false));
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "second"}));
    // The kernel refuses the new tunnel, in the verb, in its comparison and in their second tries:
    // the old one is made again, and the number and the subnet that were meant for it are free.
    for _ in 0..4 {
        let new = |step: &Step| matches!(step, Step::Create(_, Object::Vxlan(vxlan)) if vxlan.vni.get() == 777_777);
        rig.kernel.inject(new, Fault::Refuse(libc::EEXIST));
    }
    rig.err("NetworkDriver.CreateNetwork", changed(777_777, "1300"));
    assert_eq!(rig.kernel.datapath(), before, "{}", rig.kernel.render());
    let mut third = network("third", 57, false);
    third["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "777777"});
    rig.ok("NetworkDriver.CreateNetwork", third);
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "third"}));
    // The ledger says the same, and the change may be asked for again.
    rig.restart();
    assert_eq!(rig.kernel.datapath(), before, "{}", rig.kernel.render());
    rig.ok("NetworkDriver.CreateNetwork", changed(777_777, "1300"));
    let vxlans = rig.kernel.datapath().vxlans();
    let mut numbers: Vec<_> = vxlans.values().map(|vxlan| (vxlan.vni.get(), vxlan.mtu)).collect();
    numbers.sort_unstable();
    let mut meant = [(other.get(), 1450), (777_777, 1300)];
    meant.sort_unstable();
    assert_eq!(numbers, meant);
}

#[test]
fn an_engine_that_crashed_may_ask_for_a_network_again() {
    let rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    for (id, n) in [("dead", 2), ("live", 3), ("unborn", 4)] {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, id, &format!("10.55.0.{n}/24")));
        if id != "unborn" {
            rig.ok("NetworkDriver.Join", join(NET, id));
        }
    }
    // The sandbox of the first went, and its pair with it.
    let dead = rig.kernel.datapath().veths().keys().find(|host| host.as_str().contains("dead")).unwrap().clone();
    rig.kernel.meddle(|datapath| drop(datapath.objects.remove(&dead)));
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    assert_eq!(rig.life().driver.sizes(), (1, 1));
    // With other settings the one that lives keeps its link, and the network is the new one.
    let mut other = network(NET, 55, false);
    other["Options"]["com.docker.network.generic"] =
        json!({"com.docker.network.driver.mtu": "1300", "pontoon.vni": "777777"});
    rig.ok("NetworkDriver.CreateNetwork", other.clone());
    rig.ok("NetworkDriver.CreateNetwork", other);
    assert_eq!(rig.life().driver.sizes(), (1, 1));
    assert_eq!((tunnel(&rig).vni.get(), tunnel(&rig).mtu), (777_777, 1300));
    let veths = rig.kernel.datapath().veths();
    assert_eq!(veths.values().map(|veth| veth.mtu).collect::<Vec<_>>(), [1300]);
    // The address of the dead one is free for the next.
    rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "next", "10.55.0.2/24"));
    // The same with a network of the Swarm that is this host's own: it does not become an overlay.
    let rig = each_its_own();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    for (id, n) in [("live", 3), ("unborn", 4)] {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, id, &format!("10.55.0.{n}/24")));
    }
    rig.ok("NetworkDriver.Join", join(NET, "live"));
    let mtu = json!({"com.docker.network.driver.mtu": "1300"});
    rig.ok("NetworkDriver.CreateNetwork", with_options(NET, 55, mtu));
    assert_eq!(rig.life().driver.sizes(), (1, 1));
    let made = rig.kernel.datapath();
    assert!(made.vxlans().is_empty());
    assert_eq!(made.veths().values().map(|veth| veth.mtu).collect::<Vec<_>>(), [1300]);
    // Outside a Swarm that stays an error.
    let rig = local();
    rig.ok("NetworkDriver.CreateNetwork", network("a", 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("a", "one", "10.1.0.7/24"));
    rig.err("NetworkDriver.CreateNetwork", network("a", 2, false));
}

/// A network that the Swarm removed while the engine here was down, and the one in its place.
#[test]
fn a_stale_network_of_the_swarm_is_in_nobodys_way() {
    let both = |host: &str| json!({"com.docker.network.bridge.name": host, "pontoon.vni": "4242"});
    let wide = || {
        let mut body = network(OTHER, 1, false);
        body["IPv4Data"][0]["Pool"] = json!("10.1.0.0/16");
        body["IPv4Data"][0]["Gateway"] = json!("10.1.0.1/16");
        body
    };
    let cases = [
        ("its subnet", network(NET, 1, false), network(OTHER, 1, false)),
        ("a wider subnet", network(NET, 1, false), wide()),
        (
            "its number",
            with_options(NET, 1, json!({"pontoon.vni": "4242"})),
            with_options(OTHER, 2, json!({"pontoon.vni": "4242"})),
        ),
        ("all of it", with_options(NET, 1, both("swarm0")), with_options(OTHER, 1, both("swarm0"))),
    ];
    for (what, before, after) in cases {
        // Without an endpoint, and with one whose sandbox is gone.
        for attached in [false, true] {
            let mut rig = swarm();
            rig.ok("NetworkDriver.CreateNetwork", before.clone());
            if attached {
                rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
                rig.ok("NetworkDriver.Join", join(NET, "e1"));
                rig.kernel.meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
            }
            // It was asked for just now: somebody is about to use it.
            rig.err("NetworkDriver.CreateNetwork", after.clone());
            rig.restart();
            rig.ok("NetworkDriver.CreateNetwork", after.clone());
            assert_eq!(rig.life().driver.sizes(), (1, 0), "{what}");
            let datapath = rig.kernel.datapath();
            assert_eq!(
                (datapath.bridges().len(), datapath.vxlans().len(), datapath.veths().len()),
                (1, 1, 0),
                "{what}"
            );
            rig.ok("NetworkDriver.CreateNetwork", after.clone());
        }
    }
}

#[test]
fn a_network_of_the_swarm_on_which_a_container_lives_is_kept() {
    let mut rig = swarm();
    rig.ok("NetworkDriver.CreateNetwork", network(NET, 1, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
    rig.ok("NetworkDriver.Join", join(NET, "e1"));
    rig.restart();
    let message = rig.err("NetworkDriver.CreateNetwork", network(OTHER, 1, false));
    assert!(message.contains("overlaps") && message.contains(&NET[..12]), "{message}");
    assert_eq!(rig.life().driver.sizes(), (1, 1));
}

#[test]
fn a_swarm_has_no_subnet_that_cuts_the_host_off() {
    let rig = swarm();
    rig.kernel.surround(|around| around.addresses.push(("10.0.1.7/24".parse().unwrap(), "eth0".to_owned())));
    let mut body = network(NET, 1, false);
    body["IPv4Data"][0]["Pool"] = json!("10.0.1.0/24");
    body["IPv4Data"][0]["Gateway"] = json!("10.0.1.1/24");
    let message = rig.err("NetworkDriver.CreateNetwork", body);
    assert!(
        message.contains("10.0.1.7, the address of link eth0") && message.contains("--default-addr-pool"),
        "{message}"
    );
}
/// What a Swarm chooses must not hold a name server of the host either; what a user chooses for one host may:
/// a container of the network can be that server.
#[test]
fn a_swarm_has_no_subnet_that_holds_a_name_server() {
    let rig = swarm();
    let (kernel, dir): (Arc<dyn Kernel>, _) = (Arc::<FakeKernel>::clone(&rig.kernel), Dir::new());
    let create = |scope: Scope, id: &str, n: u8| {
        let opened = Ledger::open(&dir.0.join(id), "boot").unwrap();
        let settings =
            Settings { overlay: OverlaySettings { scope, ..OverlaySettings::default() }, ..Settings::default() };
        let driver = Driver::load(opened, Arc::clone(&kernel), settings, Events::none(), || vec![ip("10.7.0.53")]);
        let spec = decode::network(&serde_json::from_value(network(id, n, false)).unwrap()).unwrap();
        driver.create_network(spec).map_err(|e| e.to_string())
    };
    let message = create(Scope::Global, NET, 7).unwrap_err();
    assert!(message.contains("10.7.0.53, a name server") && message.contains("--default-addr-pool"), "{message}");
    create(Scope::Global, OTHER, 8).unwrap();
    create(Scope::Local, "here", 7).unwrap();
}

/// A host with large links and one with ordinary ones make the same network the same; in a Swarm the
/// manager says it for all.
#[test]
fn hosts_with_different_links_agree_on_the_mtu() {
    for (link, chosen) in [(9000, 1450), (1500, 1450), (1400, 1350)] {
        let rig = local();
        rig.kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: link }));
        rig.life().driver.tick();
        rig.ok("NetworkDriver.CreateNetwork", with_options("a", 1, json!({"pontoon.vni": "4242"})));
        assert_eq!(tunnel(&rig).mtu, chosen, "link {link}");
        let rig = Rig::with(OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() }, host);
        rig.kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: link }));
        rig.life().driver.tick();
        let first = rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({})))["Options"].clone();
        assert_eq!(first["com.docker.network.driver.mtu"], json!(chosen.to_string()));
        // What was allocated without one keeps what its hosts chose.
        let mut before = first.clone();
        before.as_object_mut().unwrap().remove("com.docker.network.driver.mtu");
        let again = rig.ok("NetworkDriver.AllocateNetwork", allocate(NET, before))["Options"].clone();
        assert_eq!(again.get("com.docker.network.driver.mtu"), None);
    }
}
