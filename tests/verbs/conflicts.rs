//! Address conflicts with other hosts of a local network: refused, skipped, probed in advance, reported.

use std::net::IpAddr;

use pontoon::datapath::Sighting;
use pontoon::driver::{Audience, Event};
use pontoon::model::{EndpointId, Mac, NetworkId};
use serde_json::{Value, json};

use crate::macvlan::{name, on_parent};
use testkit::harness::{Harness, endpoint, join, network, of};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn laptop() -> Mac {
    Mac::parse("06:00:00:00:00:77").unwrap()
}

/// A host with the bridge `br-lan`, on which 10.1.0.9 and 10.1.0.2 belong to a laptop.
fn host() -> Harness {
    let harness = Harness::new();
    harness.kernel.add_link(&name("br-lan"), "bridge");
    harness.kernel.add_link(&name("eth7"), "");
    harness.kernel.allow_probes();
    for link in ["br-lan", "eth7"] {
        for address in ["10.1.0.9", "10.1.0.2", "fd01::9"] {
            harness.kernel.set_station(&name(link), ip(address), Some(laptop()));
        }
    }
    harness
}

fn lan(id: &str, options: Value) -> Value {
    let mut all = json!({"com.docker.network.bridge.name": "br-lan"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    on_parent(id, 1, all)
}

fn count(harness: &Harness) -> u64 {
    harness.life().driver.conflict_count()
}

fn sighting(link: &str, address: &str, mac: Mac) -> Sighting {
    Sighting { link: name(link), address: ip(address), mac }
}

/// What the engine does for `network create --ipam-driver pontoon`; then probes in advance.
fn with_ipam(harness: &Harness, options: Value) -> String {
    let ask =
        json!({"AddressSpace": "pontoon-local", "Pool": "10.1.0.0/24", "SubPool": "", "Options": {}, "V6": false});
    let pool = harness.ok("IpamDriver.RequestPool", ask)["PoolID"].as_str().unwrap().to_owned();
    let options = (lan("a", options), json!({"RequestAddressType": "com.docker.network.gateway"}));
    harness.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": "10.1.0.1", "Options": options.1}));
    harness.ok("NetworkDriver.CreateNetwork", options.0);
    pool
}

fn request(harness: &Harness, pool: &str) -> String {
    let answer = harness.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": "", "Options": null}));
    answer["Address"].as_str().unwrap().to_owned()
}

#[test]
fn an_address_of_another_host_is_refused_and_the_text_names_both() {
    for link in ["br-lan", "eth7"] {
        let harness = host();
        let made = if link == "eth7" { on_parent("a", 1, json!({"parent": "eth7"})) } else { lan("a", json!({})) };
        harness.ok("NetworkDriver.CreateNetwork", made);
        let said = harness.err("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.9/24"));
        for part in ["network a", "10.1.0.9", link, "06:00:00:00:00:77", "--ip", "pontoon.conflict=report"] {
            assert!(said.contains(part) && !said.contains('\n'), "{part}: {said}");
        }
        assert_eq!((harness.life().driver.sizes(), count(&harness)), ((1, 0), 1));
        assert!(harness.kernel.datapath().veths().is_empty(), "nothing was created");
        // The laptop releases it, and the next attempt gets it.
        harness.kernel.set_station(&name(link), ip("10.1.0.9"), None);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.9/24"));
        // A retry does not probe again: by now Pontoon's own endpoint would answer.
        harness.kernel.take_probed();
        harness.kernel.set_station(&name(link), ip("10.1.0.9"), Some(laptop()));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.9/24"));
        assert_eq!(harness.kernel.take_probed(), []);
    }
}

#[test]
fn an_address_of_the_host_itself_is_refused() {
    let harness = host();
    harness.kernel.set_address(ip("10.1.0.7"), true);
    harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({})));
    let said = harness.err("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.7/24"));
    assert!(said.contains("this host itself has the address 10.1.0.7"), "{said}");
}

#[test]
fn both_families_are_probed() {
    let harness = host();
    let mut body = network("a", 1, true);
    body["Options"]["com.docker.network.generic"] = json!({"com.docker.network.bridge.name": "br-lan"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    let mut both = endpoint("a", "e1", "10.1.0.8/24");
    both["Interface"]["AddressIPv6"] = json!("fd01::9/64");
    let said = harness.err("NetworkDriver.CreateEndpoint", both);
    assert!(said.contains("fd01::9") && said.contains("06:00:00:00:00:77"), "{said}");
}

#[test]
fn ipam_skips_addresses_of_other_hosts() {
    let harness = host();
    let pool = with_ipam(&harness, json!({}));
    assert!(harness.life().take_events().contains(&Event::ProbesDue));
    // Cold: the request probes and waits.
    assert_eq!(request(&harness, &pool), "10.1.0.3/24");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.3/24"));
    // Warm: 10.1.0.4 to 10.1.0.11 were probed together with it.
    harness.kernel.take_probed();
    for expected in ["10.1.0.4/24", "10.1.0.5/24", "10.1.0.6/24", "10.1.0.7/24", "10.1.0.8/24"] {
        assert_eq!(request(&harness, &pool), expected);
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", &expected[..8], expected));
    }
    assert_eq!(harness.kernel.take_probed(), [], "no address is probed again");
    harness.life().driver.probe_ahead();
    let asked: Vec<_> = harness.kernel.take_probed().into_iter().map(|(_, address)| address).collect();
    assert!(asked.contains(&ip("10.1.0.13")) && !asked.contains(&ip("10.1.0.9")), "{asked:?}");
    // The allocation order continues after a skipped address as after any other.
    harness.ok("NetworkDriver.DeleteEndpoint", of("a", "10.1.0.4"));
    harness.ok("IpamDriver.ReleaseAddress", json!({"PoolID": pool, "Address": "10.1.0.4"}));
    assert_eq!(request(&harness, &pool), "10.1.0.10/24");
}

#[test]
fn a_pool_exhausted_by_other_hosts_has_its_own_error() {
    let harness = host();
    for last in 2..=254 {
        harness.kernel.set_station(&name("br-lan"), ip(&format!("10.1.0.{last}")), Some(laptop()));
    }
    let pool = with_ipam(&harness, json!({}));
    let ask = json!({"PoolID": pool, "Address": "", "Options": null});
    let said = harness.err("IpamDriver.RequestAddress", ask);
    assert!(said.contains("br-lan") && said.contains("--ip-range"), "{said}");
}

#[test]
fn the_next_addresses_are_probed_in_advance() {
    let mut harness = host();
    let pool = with_ipam(&harness, json!({}));
    harness.life().driver.probe_ahead();
    let first: Vec<_> = harness.kernel.take_probed().into_iter().map(|(_, address)| address).collect();
    assert_eq!(first, (2..10).map(|last| ip(&format!("10.1.0.{last}"))).collect::<Vec<_>>());
    assert_eq!(harness.kernel.listens(), [name("br-lan")].into());
    let started = request(&harness, &pool);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", &started));
    // Restored endpoints are not probed, but watched.
    harness.kernel.take_probed();
    harness.restart();
    harness.life().driver.probe_ahead();
    assert!(harness.kernel.take_probed().iter().all(|(_, address)| *address != ip("10.1.0.3")));
    harness.kernel.sight(sighting("br-lan", "10.1.0.3", laptop()));
    assert_eq!(count(&harness), 1);
    harness.ok("NetworkDriver.DeleteEndpoint", of("a", "e1"));
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "a"}));
    assert!(harness.life().driver.probe_ahead().is_none());
    assert_eq!(harness.kernel.listens(), [].into());
}

#[test]
fn later_conflicts_are_counted_once_and_shown() {
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({})));
    let made = harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.8/24"));
    let own = Mac::parse(made["Interface"]["MacAddress"].as_str().unwrap()).unwrap();
    harness.kernel.sight(sighting("br-lan", "10.1.0.8", own));
    harness.kernel.sight(sighting("br-lan", "10.1.0.99", laptop()));
    harness.kernel.sight(sighting("eth7", "10.1.0.8", laptop()));
    assert_eq!(count(&harness), 0);
    for _ in 0..3 {
        harness.kernel.sight(sighting("br-lan", "10.1.0.8", laptop()));
    }
    assert_eq!(count(&harness), 1);
    let status = pontoon::admin::status::of_daemon(&harness.life().driver).conflicts.unwrap();
    let [line] = &status.present[..] else { panic!("{status:?}") };
    assert_eq!((line.mac, line.other, line.address), (Some(own), laptop(), ip("10.1.0.8")));
    harness.ok("NetworkDriver.DeleteEndpoint", of("a", "e1"));
    let status = pontoon::admin::status::of_daemon(&harness.life().driver).conflicts.unwrap();
    assert!(status.found && status.present.is_empty());
}

#[test]
fn report_and_no_wait_create_the_endpoint_and_see_the_conflict() {
    let harness = host();
    let pool = with_ipam(&harness, json!({"pontoon.conflict": "report"}));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.9/24"));
    assert_eq!(count(&harness), 1);
    assert_eq!(request(&harness, &pool), "10.1.0.2/24", "nothing is skipped");
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({"pontoon.conflict.wait": "0"})));
    // The answer arrives after the wait of zero.
    harness.kernel.set_station(&name("br-lan"), ip("10.1.0.9"), None);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.9/24"));
    assert!(harness.kernel.take_probed().len() > 1, "probed again, since an answer now is a conflict");
    harness.kernel.sight(sighting("br-lan", "10.1.0.9", laptop()));
    assert_eq!(count(&harness), 1);
    let harness = host();
    let pool = with_ipam(&harness, json!({"pontoon.conflict": "off"}));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", &request(&harness, &pool)));
    harness.life().driver.probe_ahead();
    harness.kernel.sight(sighting("br-lan", "10.1.0.2", laptop()));
    assert_eq!((harness.kernel.take_probed(), harness.kernel.listens(), count(&harness)), (vec![], [].into(), 0));
}

#[test]
fn the_options_are_refused_where_they_have_no_effect() {
    let harness = host();
    for (generic, says) in [
        (json!({"pontoon.conflict": "report"}), "pontoon.conflict has an effect only"),
        (json!({"pontoon.conflict.wait": "5"}), "pontoon.conflict.wait has an effect only"),
        (json!({"parent": "eth7", "ipvlan_mode": "l3", "pontoon.conflict": "off"}), "ipvlan l2"),
    ] {
        let said = harness.err("NetworkDriver.CreateNetwork", on_parent("a", 1, generic));
        assert!(said.contains(says) && said.contains("remove it"), "{said}");
        assert_eq!(harness.life().driver.sizes(), (0, 0));
    }
    // Without packet sockets, only an explicit request is refused.
    let harness = Harness::new();
    harness.kernel.add_link(&name("br-lan"), "bridge");
    let said = harness.err("NetworkDriver.CreateNetwork", lan("a", json!({"pontoon.conflict": "refuse"})));
    assert!(said.contains("CAP_NET_RAW"), "{said}");
    harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({})));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.9/24"));
    assert!(!pontoon::admin::status::of_daemon(&harness.life().driver).conflicts.unwrap().found);
    harness.ok("NetworkDriver.CreateNetwork", network("b", 2, false));
}

/// The engine gives up a slow request and retries it.
#[test]
fn other_requests_continue_while_one_waits() {
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({"pontoon.conflict.wait": "2000"})));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.30/24")));
        let same = scope.spawn(|| harness.ok("NetworkDriver.CreateEndpoint", endpoint("a", "e1", "10.1.0.30/24")));
        while harness.kernel.take_probed().is_empty() {
            std::thread::yield_now();
        }
        harness.ok("NetworkDriver.DeleteEndpoint", of("a", "other"));
        harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({"pontoon.conflict.wait": "2000"})));
        assert_eq!(harness.life().driver.sizes(), (1, 0), "the request still waits");
        assert!(!slow.is_finished() && !same.is_finished());
        assert_eq!(slow.join().unwrap(), same.join().unwrap());
    });
    assert_eq!(harness.life().driver.sizes(), (1, 1));
}

#[test]
fn endpoints_on_a_local_network_are_announced_when_they_join() {
    let harness = host();
    harness.ok("NetworkDriver.CreateNetwork", lan("a", json!({})));
    harness.ok("NetworkDriver.CreateNetwork", on_parent("m", 2, json!({"parent": "eth7"})));
    let second = name("eth8");
    harness.kernel.add_link(&second, "");
    harness.ok("NetworkDriver.CreateNetwork", on_parent("i", 3, json!({"parent": "eth8", "ipvlan_mode": "l2"})));
    for (net, n, link) in [("a", 1, "br-lan"), ("m", 2, "eth7"), ("i", 3, "eth8")] {
        let made = harness.ok("NetworkDriver.CreateEndpoint", endpoint(net, net, &format!("10.{n}.0.5/24")));
        harness.life().take_events();
        harness.ok("NetworkDriver.Join", join(net, net));
        let (network, id) = (NetworkId::parse(net).unwrap(), EndpointId::parse(net).unwrap());
        assert!(harness.life().take_events().contains(&Event::Arrival(network.clone(), id.clone())));
        assert_eq!(harness.life().driver.announce(&network, &id), Some(Audience::Lan));
        let [said] = &harness.kernel.take_announced()[..] else { panic!("one announcement") };
        assert_eq!((said.link.as_str(), said.port.is_some()), (link, net == "a"));
        let mac = said.mac.map(|mac| mac.to_string());
        assert_eq!(mac.as_deref(), made["Interface"]["MacAddress"].as_str().filter(|mac| !mac.is_empty()), "{made}");
        assert_eq!(said.addresses, [ip(&format!("10.{n}.0.5"))]);
    }
    assert_eq!(harness.life().driver.announced(), [], "only when they join");
}
