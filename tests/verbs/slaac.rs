//! Networks whose IPv6 addresses are formed with the prefixes of routers of the local network.

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::dhcp::Advertisement;
use ::dhcp::advertisement::Prefix;
use pontoon::datapath::Object;
use pontoon::driver::LeaseState;
use pontoon::driver::history::Happening;
use pontoon::model::Mac;
use serde_json::{Value, json};

use crate::dhcp::{Server, Talk, anywhere, bridge, delete, host, lan, soon, states};
use crate::macvlan::name;
use testkit::harness::{Harness, join};

/// What the router announces: a prefix, and for how long it is preferred; all are valid for a day.
type Prefixes = Arc<Mutex<Vec<(Ipv6Addr, u32)>>>;

fn said(prefixes: &[(Ipv6Addr, u32)]) -> Advertisement {
    let prefix = |&(prefix, preferred)| Prefix { prefix, length: 64, autonomous: true, valid: 86_400, preferred };
    Advertisement {
        router: "fe80::1".parse().unwrap(),
        lifetime: 1800,
        managed: false,
        other: false,
        mtu: Some(1400),
        prefixes: prefixes.iter().map(prefix).collect(),
        dns: Vec::new(),
    }
}

/// A router on the network of every link, which announces 2001:db8:1::/64.
fn router(harness: &Harness) -> Prefixes {
    let prefixes: Prefixes = Arc::new(Mutex::new(vec![("2001:db8:1::".parse().unwrap(), 14_400)]));
    let announced = Arc::clone(&prefixes);
    harness.kernel.add_router(Arc::new(move |_| Some(said(&announced.lock().unwrap()))));
    prefixes
}

fn network(more: Value) -> Value {
    let mut options = json!({"pontoon.dhcp": "slaac"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bridge("aa", options)
}

/// The addresses of both families and the hardware address.
fn create(harness: &Harness, id: &str, options: Value) -> [String; 3] {
    let answer = harness.ok("NetworkDriver.CreateEndpoint", anywhere("aa", id, options));
    ["Address", "AddressIPv6", "MacAddress"].map(|key| answer["Interface"][key].as_str().unwrap_or_default().to_owned())
}

/// The address that a kernel forms.
fn formed(prefix: &str, mac: &str) -> String {
    let id = Mac::parse(mac).unwrap().link_local().octets();
    let mut octets = prefix.parse::<Ipv6Addr>().unwrap().octets();
    octets[8..].copy_from_slice(&id[8..]);
    format!("{}/64", Ipv6Addr::from(octets))
}

#[test]
fn an_endpoint_has_the_address_that_its_kernel_forms() {
    let harness = host(&Server::new(&[]));
    router(&harness);
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", network(json!({})));
    let [v4, v6, mac] = create(&harness, "e1", json!({"pontoon.dhcp.id": "printer"}));
    assert_eq!((v4.as_str(), &v6), ("", &formed("2001:db8:1::", &mac)));
    assert_eq!(harness.kernel.take_solicited(), [name("br-lan")]);
    assert!(harness.kernel.take_dhcp().is_empty(), "no DHCP server is asked");
    let veth = harness.kernel.datapath().veths().into_values().next().unwrap();
    assert_eq!((veth.mtu, veth.peer_mtu), (1500, 1400));
    // A repeated request is answered from the state; the kernel in the container takes its route from the router.
    assert_eq!(create(&harness, "e1", json!({"pontoon.dhcp.id": "printer"})), [v4, v6, mac]);
    let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
    assert!(joined["GatewayIPv6"].as_str().unwrap_or_default().is_empty(), "{joined}");
    assert_eq!(joined["DisableGatewayService"], json!(true));
    // What the router said to one container is known to the next.
    let [_, two, mac] = create(&harness, "e2", json!({}));
    assert_eq!(two, formed("2001:db8:1::", &mac));
    assert!(harness.kernel.take_solicited().is_empty());
}

#[test]
fn an_endpoint_may_have_addresses_of_both_sources() {
    let mut harness = host(&Server::new(&[]));
    router(&harness);
    let talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", network(json!({"pontoon.dhcp": "4,slaac"})));
    let one = create(&harness, "e1", json!({}));
    let [v4, v6, mac] = &one;
    assert_eq!((v4.as_str(), v6), ("192.0.2.100/24", &formed("2001:db8:1::", mac)));
    let joined = harness.ok("NetworkDriver.Join", join("aa", "e1"));
    assert_eq!(joined["Gateway"], "192.0.2.254");
    assert_eq!(states(&harness.life().driver), [LeaseState::Bound; 2]);
    // Both are parked, and found again by the next endpoint, by a later process, and after a reboot.
    let two = create(&harness, "e2", json!({}));
    delete(&harness, "e1");
    assert_eq!(states(&harness.life().driver).iter().filter(|state| **state == LeaseState::Parked).count(), 2);
    assert_eq!(create(&harness, "e3", json!({})), one);
    drop(talk);
    harness.restart();
    harness.kernel.take_solicited();
    harness.kernel.take_dhcp();
    let talk = Talk::of(&harness);
    std::thread::sleep(Duration::from_millis(50));
    assert!(harness.kernel.take_solicited().is_empty() && harness.kernel.take_dhcp().is_empty(), "nothing is due");
    assert_eq!(states(&harness.life().driver), [LeaseState::Bound; 4]);
    drop(talk);
    harness.reboot();
    harness.kernel.add_link(&name("br-lan"), "bridge");
    let _talk = Talk::of(&harness);
    assert_eq!(states(&harness.life().driver), [LeaseState::Remembered; 4]);
    assert_eq!(
        ["g1", "g2"].map(|id| create(&harness, id, json!({}))).iter().filter(|got| [&one, &two].contains(got)).count(),
        2
    );
}

#[test]
fn an_address_that_another_host_has_is_not_used() {
    let harness = host(&Server::new(&[]));
    router(&harness);
    let _talk = Talk::of(&harness);
    let mac = "02:00:00:00:00:07";
    let of_kernel: Ipv6Addr = formed("2001:db8:1::", mac).trim_end_matches("/64").parse().unwrap();
    harness.kernel.set_station(&name("br-lan"), of_kernel.into(), Some(Mac::derive("x", "laptop")));
    harness.ok("NetworkDriver.CreateNetwork", network(json!({"pontoon.conflict": "refuse"})));
    let start = |id: &str| {
        let mut body = anywhere("aa", id, json!({}));
        body["Interface"]["MacAddress"] = json!(mac);
        harness.ok("NetworkDriver.CreateEndpoint", body)["Interface"]["AddressIPv6"].as_str().unwrap().to_owned()
    };
    let v6 = start("e1");
    assert!(v6.starts_with("2001:db8:1:0:") && v6 != formed("2001:db8:1::", mac), "{v6}");
    assert_eq!(harness.life().driver.lease_counts().declined.load(Ordering::Relaxed), 1);
    let probed: Vec<_> = harness.kernel.take_probed().into_iter().map(|(_, address)| address).collect();
    let own: Ipv6Addr = v6.trim_end_matches("/64").parse().unwrap();
    assert!(probed.contains(&of_kernel.into()) && probed.contains(&own.into()), "{probed:?}");
    // The address that was found free is asked for once as long as it is kept.
    delete(&harness, "e1");
    assert_eq!(start("e2"), v6);
    assert!(harness.kernel.take_probed().is_empty());
}

#[test]
fn a_renumbering_is_told_once_and_the_next_start_has_the_new_prefix() {
    let harness = host(&Server::new(&[]));
    let prefixes = router(&harness);
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", network(json!({"pontoon.dhcp.park": "0"})));
    let named = json!({"pontoon.dhcp.id": "one"});
    let [_, old, mac] = create(&harness, "e1", named.clone());
    let renumbered = [("2001:db8:1::".parse().unwrap(), 0), ("2001:db8:2::".parse().unwrap(), 14_400)];
    *prefixes.lock().unwrap() = renumbered.to_vec();
    for _ in 0..3 {
        harness.kernel.advertise(&name("br-lan"), said(&renumbered));
        soon("the state", || states(&harness.life().driver) == [LeaseState::Lost]);
    }
    assert_eq!(harness.life().driver.lease_counts().lost.load(Ordering::Relaxed), 1);
    let events = harness.life().driver.history().after(0, Duration::ZERO).events;
    let lost = |what: &Happening| matches!(what, Happening::Lease { state: "lost", address: Some(address), .. } if old.starts_with(&address.to_string()));
    assert_eq!(events.iter().filter(|event| lost(&event.what)).count(), 1);
    delete(&harness, "e1");
    soon("the end of the lease", || states(&harness.life().driver) == [LeaseState::Remembered]);
    assert_eq!(create(&harness, "e2", named)[1], formed("2001:db8:2::", &mac));
}

#[test]
fn containers_that_share_a_hardware_address_have_addresses_of_their_own() {
    let harness = host(&Server::new(&[]));
    router(&harness);
    let _talk = Talk::of(&harness);
    let options = json!({"parent": "eth7", "ipvlan_mode": "l2", "pontoon.dhcp": "slaac", "pontoon.conflict": "off"});
    harness.ok("NetworkDriver.CreateNetwork", lan("aa", options));
    let [one, two] = ["e1", "e2"].map(|id| create(&harness, id, json!({"pontoon.dhcp.id": id})));
    assert!(one[1].starts_with("2001:db8:1:0:") && one[1] != two[1] && one[2].is_empty(), "{one:?} {two:?}");
    assert!(harness.kernel.datapath().objects.values().any(|object| matches!(object, Object::Ipvlan(_))));
    delete(&harness, "e1");
    assert_eq!(create(&harness, "e3", json!({"pontoon.dhcp.id": "e1"})), one);
}

#[test]
fn without_a_prefix_the_error_says_what_was_seen() {
    let harness = host(&Server::new(&[]));
    let _talk = Talk::of(&harness);
    harness.ok("NetworkDriver.CreateNetwork", network(json!({"pontoon.dhcp.timeout": "1"})));
    let refused = |id| harness.err("NetworkDriver.CreateEndpoint", anywhere("aa", id, json!({})));
    let error = refused("e1");
    for part in ["aa", "br-lan", "within 1 s", "no router answered"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(harness.kernel.datapath().veths().is_empty() && harness.life().driver.sizes() == (1, 0));
    let mut managed = said(&[]);
    managed.managed = true;
    harness.kernel.advertise(&name("br-lan"), managed);
    let error = refused("e2");
    assert!(error.contains("fe80::1") && error.contains("DHCPv6") && error.lines().count() == 1, "{error}");
    // It goes on asking: the next start finds the address.
    harness.kernel.advertise(&name("br-lan"), said(&[("2001:db8:1::".parse().unwrap(), 14_400)]));
    soon("the address", || states(&harness.life().driver).contains(&LeaseState::Parked));
    let [_, v6, mac] = create(&harness, "e3", json!({}));
    assert_eq!(v6, formed("2001:db8:1::", &mac));
}

#[test]
fn what_cannot_be_is_refused() {
    let harness = host(&Server::new(&[]));
    let _talk = Talk::of(&harness);
    let mut internal = network(json!({}));
    internal["Options"]["com.docker.network.internal"] = json!(true);
    for (body, says) in [
        (internal, "--internal"),
        (network(json!({"pontoon.dhcp.server": "192.0.2.1"})), "pontoon.dhcp.server has an effect only"),
        (network(json!({"pontoon.ra": "refuse"})), "pontoon.ra=refuse"),
        (network(json!({"pontoon.dhcp": "auto"})), "auto is not supported"),
        (lan("aa", json!({"pontoon.dhcp": "slaac"})), "com.docker.network.bridge.name"),
        (lan("aa", json!({"pontoon.dhcp": "slaac", "pontoon.vni": "77"})), "overlay"),
        (
            lan("aa", json!({"pontoon.dhcp": "4,slaac", "parent": "eth7", "ipvlan_mode": "l3"})),
            "pontoon.dhcp=4,slaac is not possible",
        ),
    ] {
        let error = harness.err("NetworkDriver.CreateNetwork", body);
        assert!(error.contains(says) && error.lines().count() == 1, "{says}: {error}");
    }
    harness.ok("NetworkDriver.CreateNetwork", network(json!({})));
    for option in ["pontoon.dhcp.request", "pontoon.dhcp.hostname"] {
        let value = if option.ends_with("request") { "192.0.2.9" } else { "x" };
        let error = harness.err("NetworkDriver.CreateEndpoint", anywhere("aa", "e1", json!({option: value})));
        assert!(error.contains(option) && error.contains("pontoon.dhcp=4:"), "{error}");
    }
}
