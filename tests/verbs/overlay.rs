//! Overlay networks: VNIs, tunnels, peers, and a Swarm whose engine crashes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pontoon::datapath::fake::{FakeKernel, Fault};
use pontoon::datapath::{FastPath, Kernel, LinkProperty, Object, ObjectKind, Policy, Step, Underlay, Vxlan};
use pontoon::driver::{Audience, Driver, Event, Events, OverlaySettings, Settings};
use pontoon::model::{IfName, Scope, Vni};
use pontoon::server::decode;
use pontoon::state::Ledger;
use serde_json::{Value, json};

use testkit::harness::{Dir, Harness, endpoint, join, network, of};

const NET: &str = "u4ylute1if55shzy1kj09qow0";
const OTHER: &str = "oyhoufe3kygdq4ozphbntt7pn";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(kernel: &FakeKernel) {
    kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: 1500 }));
    kernel.set_uplink_mtu(Some(1500));
}

fn swarm() -> Harness {
    Harness::with(OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() }, host)
}

fn local() -> Harness {
    Harness::with(OverlaySettings::default(), host)
}

/// Swarm networks of scope `local`, with the peers that the Swarm discovers.
fn swarm_local() -> Harness {
    Harness::with(OverlaySettings { connectivity: Scope::Global, ..OverlaySettings::default() }, host)
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

/// The only tunnel of the host.
fn tunnel(harness: &Harness) -> Vxlan {
    let vxlans = harness.kernel.datapath().vxlans();
    assert_eq!(vxlans.len(), 1, "{vxlans:?}");
    vxlans.into_values().next().unwrap()
}

fn peers(harness: &Harness) -> Vec<String> {
    tunnel(harness).peers.iter().map(ToString::to_string).collect()
}

fn accepted(harness: &Harness) -> Vec<String> {
    let elements = harness.kernel.datapath().policy.unwrap();
    elements.iter().filter_map(|e| if let Policy::Peer(peer) = e { Some(peer.to_string()) } else { None }).collect()
}

#[test]
fn the_scope_is_set_by_the_operator() {
    let answer = swarm().ok("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!((&answer["Scope"], &answer["ConnectivityScope"]), (&json!("global"), &json!("global")));
    let answer = local().ok("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!((&answer["Scope"], &answer["ConnectivityScope"]), (&json!("local"), &json!("local")));
    let answer = swarm_local().ok("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!((&answer["Scope"], &answer["ConnectivityScope"]), (&json!("local"), &json!("global")));
}

#[test]
fn a_vni_is_allocated_once_returned_with_the_options_and_kept() {
    let mut harness = swarm();
    let mtu = json!({"com.docker.network.driver.mtu": "1400"});
    let first = harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, mtu))["Options"].clone();
    assert_eq!(first["pontoon.vni"], Vni::derive(NET).to_string());
    assert_eq!((&first["com.docker.network.driver.mtu"], &first["pontoon.allocated"]), (&json!("1400"), &json!(NET)));
    // The same request again, with the answer among the options: here, after a restart, and on a manager that does not
    // know the network.
    assert_eq!(harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, first.clone()))["Options"], first);
    harness.reboot();
    assert_eq!(
        harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({})))["Options"]["pontoon.vni"],
        first["pontoon.vni"]
    );
    let another = swarm();
    assert_eq!(another.ok("NetworkDriver.AllocateNetwork", allocate(NET, first.clone()))["Options"], first);
    // An allocation recorded in the Swarm has precedence over this manager's.
    let mut taken = first.clone();
    taken["pontoon.allocated"] = json!(OTHER);
    assert_eq!(another.ok("NetworkDriver.AllocateNetwork", allocate(OTHER, taken.clone()))["Options"], taken);
    // A user's request does not.
    let wish = json!({"pontoon.vni": first["pontoon.vni"]});
    let message = harness.err("NetworkDriver.AllocateNetwork", allocate(OTHER, wish.clone()));
    assert!(message.contains(&NET[..12]) && message.contains("pontoon.vni"), "{message}");
    let message = harness.err("NetworkDriver.AllocateNetwork", allocate(OTHER, json!({"pontoon.allocated": NET})));
    assert!(message.contains("pontoon.allocated"), "{message}");
    for bad in [json!({"pontoon.vni": "0"}), json!({"pontoon.vni": "16777216"}), json!({"pontoon.vnii": "5"})] {
        assert!(harness.err("NetworkDriver.AllocateNetwork", allocate(OTHER, bad)).contains("pontoon.vni"));
    }
}

#[test]
fn a_released_vni_is_not_reused_at_once() {
    let mut harness = swarm();
    let vni = Vni::derive(OTHER);
    harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({"pontoon.vni": vni.to_string()})));
    for _ in 0..2 {
        harness.ok("NetworkDriver.FreeNetwork", json!({"NetworkID": NET}));
    }
    harness.ok("NetworkDriver.FreeNetwork", json!({"NetworkID": "never-heard-of"}));
    harness.restart();
    let given =
        harness.ok("NetworkDriver.AllocateNetwork", allocate(OTHER, json!({})))["Options"]["pontoon.vni"].clone();
    assert_eq!(given, vni.next_chosen().to_string(), "its derived VNI was reused at once");
}

#[test]
fn pools_of_both_families_are_accepted_in_one_list() {
    let harness = swarm();
    let mut body = allocate(NET, json!({}));
    body["IPv4Data"] =
        json!([{"Pool": "10.55.0.0/24", "Gateway": "10.55.0.1/24"}, {"Pool": "fd55::/64", "Gateway": "fd55::1/64"}]);
    harness.ok("NetworkDriver.AllocateNetwork", body.clone());
    body["IPv4Data"][0]["Pool"] = json!("10.55.0.7/24");
    assert!(harness.err("NetworkDriver.AllocateNetwork", body).contains("10.55.0.0/24"));
}

#[test]
fn a_swarm_network_has_a_tunnel_to_every_node() {
    let mut harness = swarm();
    harness
        .kernel
        .set_underlay(Some(&IfName::parse("eth1").unwrap()), Some(Underlay { address: ip("198.51.100.1"), mtu: 9000 }));
    harness.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.7", false));
    let options = harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({})))["Options"].clone();
    harness.ok("NetworkDriver.CreateNetwork", with_options(NET, 55, options));
    let made = tunnel(&harness);
    assert_eq!((made.vni, made.local, made.mtu, made.port), (Vni::derive(NET), ip("192.0.2.1"), 1450, 4789));
    assert_eq!(peers(&harness), ["192.0.2.7"]);
    let elements = harness.kernel.datapath().policy.unwrap();
    assert!(elements.contains(&Policy::Tunnel(made.vni)) && elements.contains(&Policy::TunnelPort(4789)));
    // Another node, this node's address as seen by others, and this node as a peer.
    harness.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.8", false));
    harness.ok("NetworkDriver.DiscoverNew", discovered("198.51.100.1", false));
    harness.ok("NetworkDriver.DiscoverNew", discovered("198.51.100.1", true));
    assert_eq!(
        (tunnel(&harness).local, peers(&harness)),
        (ip("198.51.100.1"), vec!["192.0.2.7".into(), "192.0.2.8".into()])
    );
    // Other discovery types and empty addresses are ignored.
    harness.ok("NetworkDriver.DiscoverNew", json!({"DiscoveryType": 3, "DiscoveryData": {"Keys": []}}));
    harness.ok("NetworkDriver.DiscoverNew", discovered("", false));
    // All of it is persisted: the engine does not repeat the peers.
    harness.reboot();
    assert_eq!(
        (tunnel(&harness).local, peers(&harness)),
        (ip("198.51.100.1"), vec!["192.0.2.7".into(), "192.0.2.8".into()])
    );
    assert_eq!(accepted(&harness), ["192.0.2.7", "192.0.2.8"]);
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": NET}));
    assert!(harness.kernel.datapath().vxlans().is_empty());
    assert!(!harness.kernel.datapath().policy.unwrap().contains(&Policy::Tunnel(made.vni)));
}

#[test]
fn a_reported_departure_keeps_the_peer() {
    let harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    harness.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.7", false));
    for _ in 0..2 {
        harness.ok("NetworkDriver.DiscoverDelete", discovered("192.0.2.7", false));
    }
    harness.ok("NetworkDriver.DiscoverDelete", discovered("192.0.2.99", false));
    assert_eq!(peers(&harness), ["192.0.2.7"]);
    harness.kernel.hear(ip("192.0.2.7"), Duration::from_secs(1));
    harness.life().driver.tick();
    assert_eq!((peers(&harness), accepted(&harness)), (vec!["192.0.2.7".to_owned()], vec!["192.0.2.7".to_owned()]));
}

#[test]
fn the_tunnel_follows_a_changed_address_and_survives_a_missing_one() {
    let harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    harness.kernel.set_underlay(None, None);
    harness.life().driver.tick();
    assert_eq!(tunnel(&harness).local, ip("192.0.2.1"));
    harness.kernel.set_underlay(None, Some(Underlay { address: ip("2001:db8::1"), mtu: 1500 }));
    harness.life().driver.tick();
    assert_eq!(tunnel(&harness).local, ip("2001:db8::1"));
}

#[test]
fn an_overlay_without_swarm_has_the_configured_peers() {
    let settings = OverlaySettings { peers: vec![ip("192.0.2.3")], ..OverlaySettings::default() };
    let harness = Harness::with(settings, host);
    let options = json!({"pontoon.vni": "4242", "pontoon.peers": "192.0.2.2, 2001:db8::2"});
    harness.ok("NetworkDriver.CreateNetwork", with_options("a", 1, options.clone()));
    assert_eq!(
        (tunnel(&harness).vni.get(), peers(&harness)),
        (4242, vec!["192.0.2.2".to_owned(), "192.0.2.3".to_owned()])
    );
    assert_eq!(accepted(&harness), ["192.0.2.2", "192.0.2.3", "2001:db8::2"]);
    // Swarm discovery has no effect here.
    harness.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.9", false));
    assert_eq!(peers(&harness).len(), 2);
    let message = harness.err("NetworkDriver.CreateNetwork", with_options("b", 2, options));
    assert!(message.contains("VNI 4242") && message.contains("network a"), "{message}");
    let message =
        harness.err("NetworkDriver.CreateNetwork", with_options("b", 2, json!({"pontoon.peers": "192.0.2.2"})));
    assert!(message.contains("pontoon.vni"), "{message}");
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "a"}));
    // Packets of the configured peers are still accepted.
    assert_eq!(accepted(&harness), ["192.0.2.3"]);
    harness.ok("NetworkDriver.CreateNetwork", with_options("b", 2, json!({"pontoon.vni": "4242"})));
    // A VNI refused for one network is free for the next.
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "b"}));
    harness.ok("NetworkDriver.CreateNetwork", network("b", 2, false));
    assert!(harness.kernel.datapath().vxlans().is_empty(), "a network without a VNI is no overlay");
}

#[test]
fn the_multicast_option_applies_only_to_overlay_networks() {
    let mut harness = local();
    let quiet = |harness: &Harness| {
        let elements = harness.kernel.datapath().policy.unwrap();
        elements.iter().filter(|element| matches!(element, Policy::Link(LinkProperty::NoMulticast, _))).count()
    };
    harness.ok(
        "NetworkDriver.CreateNetwork",
        with_options("a", 1, json!({"pontoon.vni": "4242", "pontoon.multicast": "true"})),
    );
    assert_eq!(quiet(&harness), 0);
    harness.ok(
        "NetworkDriver.CreateNetwork",
        with_options("b", 2, json!({"pontoon.vni": "4243", "pontoon.multicast": "false"})),
    );
    assert_eq!(quiet(&harness), 1);
    harness.restart();
    assert_eq!(quiet(&harness), 1, "restored from the ledger");
    harness.ok("NetworkDriver.DeleteNetwork", of("b", ""));
    assert_eq!(quiet(&harness), 0);
    let message =
        harness.err("NetworkDriver.CreateNetwork", with_options("c", 3, json!({"pontoon.multicast": "false"})));
    assert!(message.contains("pontoon.vni"), "{message}");
}

/// The fast path is the same after a restart, and created again if it is lost.
pub fn assert_fast_path_survives(harness: &mut Harness) {
    let before = harness.kernel.datapath().fastpath;
    harness.restart();
    assert_eq!(harness.kernel.datapath().fastpath, before, "restored from the ledger");
    harness.kernel.meddle(|datapath| datapath.fastpath = Some(Default::default()));
    harness.restart();
    assert_eq!(harness.kernel.datapath().fastpath, before, "created again");
}

#[test]
fn fast_paths_follow_the_endpoints_of_overlay_networks() {
    let mut harness = local();
    let ports = |harness: &Harness| {
        let shortcuts = harness.kernel.datapath().fastpath.unwrap_or_default();
        let checked = |shortcut: &FastPath| match shortcut {
            FastPath::Port { addresses, .. } => Some(!addresses.is_empty()),
            _ => None,
        };
        (shortcuts.len(), shortcuts.iter().filter_map(checked).collect::<Vec<_>>())
    };
    let overlay = |id: &str, n: u8, vni: &str, key: &str, value: &str| {
        harness.ok("NetworkDriver.CreateNetwork", with_options(id, n, json!({"pontoon.vni": vni, key: value})));
    };
    overlay("a", 1, "4242", "pontoon.shortcut", "true");
    assert_eq!(ports(&harness), (1, vec![]));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.2/24"));
    assert_eq!(ports(&harness), (2, vec![true]));
    // Networks without a fast path, for different reasons.
    overlay("b", 2, "4243", "pontoon.shortcut", "false");
    overlay("c", 3, "4244", "com.docker.network.bridge.enable_icc", "false");
    harness.ok("NetworkDriver.CreateNetwork", network("d", 4, false));
    for (n, id) in ["b", "c", "d"].into_iter().enumerate() {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(id, &format!("{id}1"), &format!("10.{}.0.2/24", n + 2)));
    }
    assert_eq!(ports(&harness), (2, vec![true]));
    let mut unchecked = endpoint("a", "e2", "10.1.0.3/24");
    unchecked["Options"]["pontoon.spoofcheck"] = json!("false");
    harness.ok("NetworkDriver.CreateEndpoint", unchecked);
    assert_eq!(ports(&harness).0, 3);
    assert_fast_path_survives(&mut harness);
    // An endpoint works without a fast path.
    let refused = |step: &Step| matches!(step, Step::FastPath { .. });
    harness.kernel.inject(refused, Fault::Refuse(libc::EINVAL));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e3", "10.1.0.4/24"));
    assert_eq!(ports(&harness).0, 3);
    harness.life().driver.tick();
    assert_eq!(ports(&harness).0, 4, "the reconciliation adds it");
    for id in ["e1", "e2", "e3"] {
        harness.ok("NetworkDriver.DeleteEndpoint", of("a", id));
    }
    assert_eq!(ports(&harness), (1, vec![]));
    harness.ok("NetworkDriver.DeleteNetwork", of("a", ""));
    assert_eq!(ports(&harness), (0, vec![]));
}

#[test]
fn a_local_network_with_a_vni_has_the_swarms_peers() {
    let harness = swarm_local();
    harness.ok("NetworkDriver.DiscoverNew", discovered("192.0.2.9", false));
    harness.ok("NetworkDriver.CreateNetwork", with_options(NET, 1, json!({"pontoon.vni": "4242"})));
    assert_eq!((tunnel(&harness).vni.get(), peers(&harness)), (4242, vec!["192.0.2.9".to_owned()]));
    harness.ok("NetworkDriver.CreateNetwork", network(OTHER, 2, false));
    assert_eq!(tunnel(&harness).vni.get(), 4242, "the other network is no overlay");
}

#[test]
fn a_host_without_an_underlay_address_names_the_remedy() {
    let harness = Harness::with(OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() }, |_| {});
    let message = harness.err("NetworkDriver.CreateNetwork", network(NET, 55, false));
    assert!(message.contains("PONTOON_DATA_PATH"), "{message}");
    harness.kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: 1300 }));
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    let message = harness.err("NetworkDriver.CreateNetwork", network(OTHER, 56, true));
    assert!(message.contains("1250") && message.contains("1280"), "{message}");
    harness.ok("NetworkDriver.CreateNetwork", network(OTHER, 56, false));
}

#[test]
fn a_refused_tunnel_leaves_no_network() {
    let harness = swarm();
    for _ in 0..2 {
        harness
            .kernel
            .inject(|step| step.creates(ObjectKind::Vxlan), pontoon::datapath::fake::Fault::Refuse(libc::EEXIST));
    }
    // Refused for the request, its reconciliation and the retry of that.
    for _ in 0..2 {
        harness
            .kernel
            .inject(|step| step.creates(ObjectKind::Vxlan), pontoon::datapath::fake::Fault::Refuse(libc::EEXIST));
    }
    harness.err("NetworkDriver.CreateNetwork", network(NET, 55, false));
    let left = harness.kernel.datapath();
    assert!(left.vxlans().is_empty() && left.bridges().is_empty(), "{}", harness.kernel.render());
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
}

#[test]
fn overlay_mac_addresses_are_not_derived_from_the_ip_address() {
    let mac = |harness: &Harness, net: &str, n: u8, id: &str| {
        let made = harness.ok("NetworkDriver.CreateEndpoint", endpoint(net, id, &format!("10.{n}.0.7/24")));
        harness.ok("NetworkDriver.DeleteEndpoint", of(net, id));
        made["Interface"]["MacAddress"].clone()
    };
    let harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    assert_ne!(mac(&harness, NET, 55, "one"), mac(&harness, NET, 55, "two"));
    let harness = local();
    harness.ok("NetworkDriver.CreateNetwork", network("a", 1, false));
    assert_eq!(mac(&harness, "a", 1, "one"), mac(&harness, "a", 1, "two"));
}

#[test]
fn endpoints_are_announced_from_join_until_leave() {
    let harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    let made = harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "one", "10.55.0.7/24"));
    assert!(harness.life().driver.announced().is_empty(), "announced before the join");
    harness.ok("NetworkDriver.Join", join(NET, "one"));
    let events = harness.life().take_events();
    let arrivals: Vec<_> = events.iter().filter(|event| matches!(event, Event::Arrival(..))).collect();
    let [Event::Arrival(net, id)] = arrivals[..] else { panic!("{events:?}") };
    assert!(harness.kernel.take_announced().is_empty(), "the request itself sends announcements");
    assert_eq!(harness.life().driver.announce(net, id), Some(Audience::Overlay));
    let said = harness.kernel.take_announced();
    assert_eq!(
        (said[0].mac.unwrap().to_string(), said[0].addresses.clone()),
        (made["Interface"]["MacAddress"].as_str().unwrap().to_owned(), vec![ip("10.55.0.7")])
    );
    assert_eq!(harness.life().driver.announced(), [(net.clone(), id.clone())]);
    harness.ok("NetworkDriver.Leave", of(NET, "one"));
    assert!(harness.life().driver.announced().is_empty());
    assert!(harness.life().driver.announce(net, id).is_none() && harness.kernel.take_announced().is_empty());
    let harness = local();
    harness.ok("NetworkDriver.CreateNetwork", network("a", 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "one", "10.1.0.7/24"));
    harness.ok("NetworkDriver.Join", join("a", "one"));
    assert!(harness.life().driver.announced().is_empty(), "a local network needs no announcement");
}

#[test]
fn all_endpoints_are_announced_periodically() {
    let harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    for (id, n) in [("one", 7), ("two", 8)] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, id, &format!("10.55.0.{n}/24")));
        harness.ok("NetworkDriver.Join", join(NET, id));
    }
    // This process was not notified of the joins, as after a restart.
    let (arrivals, receive) = std::sync::mpsc::channel();
    pontoon::announcer::start(harness.life().driver.clone(), Duration::from_millis(20), receive).unwrap();
    let mut said = Vec::new();
    let began = std::time::Instant::now();
    while said.len() < 6 && began.elapsed() < Duration::from_secs(40) {
        said.extend(harness.kernel.take_announced());
        std::thread::yield_now();
    }
    let of = |n: u8| said.iter().filter(|one| one.addresses == [ip(&format!("10.55.0.{n}"))]).count();
    assert!(of(7) >= 3 && of(8) >= 3, "{said:?}");
    drop(arrivals);
}

#[test]
fn a_failed_change_keeps_the_old_tunnel() {
    use pontoon::datapath::{Step, fake::Fault};
    let mut harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(OTHER, 56, false));
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "live", "10.55.0.3/24"));
    harness.ok("NetworkDriver.Join", join(NET, "live"));
    let before = harness.kernel.datapath();
    let other = before.vxlans().values().find(|vxlan| vxlan.vni == Vni::derive(OTHER)).unwrap().vni;
    let changed = |vni: u32, mtu: &str| {
        let mut body = network(NET, 57, false);
        body["Options"]["com.docker.network.generic"] =
            json!({"com.docker.network.driver.mtu": mtu, "pontoon.vni": vni.to_string()});
        body
    };
    // A request that fails validation changes nothing: a used VNI, an MTU that does not fit, the subnet of another
    // network.
    harness.kernel.take_steps();
    assert!(harness.err("NetworkDriver.CreateNetwork", changed(other.get(), "1300")).contains("pontoon.vni"));
    harness.err("NetworkDriver.CreateNetwork", changed(777_777, "20"));
    harness.err("NetworkDriver.CreateNetwork", with_options(NET, 56, json!({"pontoon.vni": "777777"})));
    assert_eq!(harness.kernel.take_steps(), [], "the tunnel changed");
    harness.ok("NetworkDriver.CreateNetwork", network("second", 57, false));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "second"}));
    // The kernel refuses the new tunnel, for the request, its reconciliation and their retries: the old one is created
    // again, and the new VNI and subnet are free.
    for _ in 0..4 {
        let new = |step: &Step| matches!(step, Step::Create(_, Object::Vxlan(vxlan)) if vxlan.vni.get() == 777_777);
        harness.kernel.inject(new, Fault::Refuse(libc::EEXIST));
    }
    harness.err("NetworkDriver.CreateNetwork", changed(777_777, "1300"));
    assert_eq!(harness.kernel.datapath(), before, "{}", harness.kernel.render());
    let mut third = network("third", 57, false);
    third["Options"]["com.docker.network.generic"] = json!({"pontoon.vni": "777777"});
    harness.ok("NetworkDriver.CreateNetwork", third);
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "third"}));
    // The ledger has the same state, and the change can be requested again.
    harness.restart();
    assert_eq!(harness.kernel.datapath(), before, "{}", harness.kernel.render());
    harness.ok("NetworkDriver.CreateNetwork", changed(777_777, "1300"));
    let vxlans = harness.kernel.datapath().vxlans();
    let mut numbers: Vec<_> = vxlans.values().map(|vxlan| (vxlan.vni.get(), vxlan.mtu)).collect();
    numbers.sort_unstable();
    let mut meant = [(other.get(), 1450), (777_777, 1300)];
    meant.sort_unstable();
    assert_eq!(numbers, meant);
}

#[test]
fn a_crashed_engine_can_request_a_network_again() {
    let harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    for (id, n) in [("dead", 2), ("live", 3), ("unborn", 4)] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, id, &format!("10.55.0.{n}/24")));
        if id != "unborn" {
            harness.ok("NetworkDriver.Join", join(NET, id));
        }
    }
    // The first sandbox was removed, and its pair with it.
    let dead = harness.kernel.datapath().veths().keys().find(|host| host.as_str().contains("dead")).unwrap().clone();
    harness.kernel.meddle(|datapath| drop(datapath.objects.remove(&dead)));
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    assert_eq!(harness.life().driver.sizes(), (1, 1));
    // With other settings, the running endpoint keeps its link, and the network gets the new ones.
    let mut other = network(NET, 55, false);
    other["Options"]["com.docker.network.generic"] =
        json!({"com.docker.network.driver.mtu": "1300", "pontoon.vni": "777777"});
    harness.ok("NetworkDriver.CreateNetwork", other.clone());
    harness.ok("NetworkDriver.CreateNetwork", other);
    assert_eq!(harness.life().driver.sizes(), (1, 1));
    assert_eq!((tunnel(&harness).vni.get(), tunnel(&harness).mtu), (777_777, 1300));
    let veths = harness.kernel.datapath().veths();
    assert_eq!(veths.values().map(|veth| veth.mtu).collect::<Vec<_>>(), [1300]);
    // The address of the dead endpoint is free.
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "next", "10.55.0.2/24"));
    // The same with a Swarm network of scope `local`: it does not become an overlay.
    let harness = swarm_local();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 55, false));
    for (id, n) in [("live", 3), ("unborn", 4)] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, id, &format!("10.55.0.{n}/24")));
    }
    harness.ok("NetworkDriver.Join", join(NET, "live"));
    let mtu = json!({"com.docker.network.driver.mtu": "1300"});
    harness.ok("NetworkDriver.CreateNetwork", with_options(NET, 55, mtu));
    assert_eq!(harness.life().driver.sizes(), (1, 1));
    let made = harness.kernel.datapath();
    assert!(made.vxlans().is_empty());
    assert_eq!(made.veths().values().map(|veth| veth.mtu).collect::<Vec<_>>(), [1300]);
    // Outside a Swarm this is an error.
    let harness = local();
    harness.ok("NetworkDriver.CreateNetwork", network("a", 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "one", "10.1.0.7/24"));
    harness.err("NetworkDriver.CreateNetwork", network("a", 2, false));
}

/// A network that the Swarm removed while this engine was down, and its replacement.
#[test]
fn a_stale_swarm_network_is_replaced() {
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
            "its VNI",
            with_options(NET, 1, json!({"pontoon.vni": "4242"})),
            with_options(OTHER, 2, json!({"pontoon.vni": "4242"})),
        ),
        ("all of it", with_options(NET, 1, both("swarm0")), with_options(OTHER, 1, both("swarm0"))),
    ];
    for (what, before, after) in cases {
        // Without an endpoint, and with one whose sandbox was removed.
        for attached in [false, true] {
            let mut harness = swarm();
            harness.ok("NetworkDriver.CreateNetwork", before.clone());
            if attached {
                harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
                harness.ok("NetworkDriver.Join", join(NET, "e1"));
                harness
                    .kernel
                    .meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
            }
            // It was requested just now, so it is about to be used.
            harness.err("NetworkDriver.CreateNetwork", after.clone());
            harness.restart();
            harness.ok("NetworkDriver.CreateNetwork", after.clone());
            assert_eq!(harness.life().driver.sizes(), (1, 0), "{what}");
            let datapath = harness.kernel.datapath();
            assert_eq!(
                (datapath.bridges().len(), datapath.vxlans().len(), datapath.veths().len()),
                (1, 1, 0),
                "{what}"
            );
            harness.ok("NetworkDriver.CreateNetwork", after.clone());
        }
    }
}

#[test]
fn a_swarm_network_with_a_running_container_is_kept() {
    let mut harness = swarm();
    harness.ok("NetworkDriver.CreateNetwork", network(NET, 1, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "e1", "10.1.0.7/24"));
    harness.ok("NetworkDriver.Join", join(NET, "e1"));
    harness.restart();
    let message = harness.err("NetworkDriver.CreateNetwork", network(OTHER, 1, false));
    assert!(message.contains("overlaps") && message.contains(&NET[..12]), "{message}");
    assert_eq!(harness.life().driver.sizes(), (1, 1));
}

#[test]
fn a_swarm_subnet_that_cuts_off_the_host_is_refused() {
    let harness = swarm();
    harness.kernel.surround(|around| around.addresses.push(("10.0.1.7/24".parse().unwrap(), "eth0".to_owned())));
    let mut body = network(NET, 1, false);
    body["IPv4Data"][0]["Pool"] = json!("10.0.1.0/24");
    body["IPv4Data"][0]["Gateway"] = json!("10.0.1.1/24");
    let message = harness.err("NetworkDriver.CreateNetwork", body);
    assert!(
        message.contains("10.0.1.7, the address of link eth0") && message.contains("--default-addr-pool"),
        "{message}"
    );
}
/// A subnet chosen by a Swarm must not contain a name server of the host. A subnet chosen by a user for one host may: a
/// container can be that server.
#[test]
fn a_swarm_subnet_that_contains_a_name_server_is_refused() {
    let harness = swarm();
    let (kernel, dir): (Arc<dyn Kernel>, _) = (Arc::<FakeKernel>::clone(&harness.kernel), Dir::new());
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

/// Hosts with large and with ordinary link MTUs create the same network; in a Swarm, the manager decides the MTU.
#[test]
fn hosts_with_different_links_agree_on_the_mtu() {
    for (link, chosen) in [(9000, 1450), (1500, 1450), (1400, 1350)] {
        let harness = local();
        harness.kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: link }));
        harness.life().driver.tick();
        harness.ok("NetworkDriver.CreateNetwork", with_options("a", 1, json!({"pontoon.vni": "4242"})));
        assert_eq!(tunnel(&harness).mtu, chosen, "link {link}");
        let harness = Harness::with(OverlaySettings { scope: Scope::Global, ..OverlaySettings::default() }, host);
        harness.kernel.set_underlay(None, Some(Underlay { address: ip("192.0.2.1"), mtu: link }));
        harness.life().driver.tick();
        let first = harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, json!({})))["Options"].clone();
        assert_eq!(first["com.docker.network.driver.mtu"], json!(chosen.to_string()));
        // A network allocated without an MTU keeps the one that its hosts chose.
        let mut before = first.clone();
        before.as_object_mut().unwrap().remove("com.docker.network.driver.mtu");
        let again = harness.ok("NetworkDriver.AllocateNetwork", allocate(NET, before))["Options"].clone();
        assert_eq!(again.get("com.docker.network.driver.mtu"), None);
    }
}
