//! How networks and endpoints claim their addresses, and how leaks are found.

use super::*;

fn holder(ipam: &Ipam, id: &str, address: &str) -> Option<Holder> {
    ipam.pools[id].holder(ip(address)).cloned()
}

fn net1() -> Network {
    let v4 = serde_json::json!({
        "pool": "10.0.0.0/24", "gateway": "10.0.0.1", "default_gateway": "10.0.0.254", "aux": ["10.0.0.9", "10.9.9.9"]
    });
    network("n1", serde_json::json!({"v4": v4, "v6": {"pool": "fd00::/64", "gateway": "fd00::1"}}))
}

#[test]
fn a_network_claims_what_it_set_aside() {
    let mut ipam = Ipam::default();
    let (id, six) = (ipam.pool(&named("10.0.0.0/24")).id, ipam.pool(&named("fd00::/64")).id);
    for address in ["10.0.0.9", "10.0.0.254", "10.0.0.7"] {
        ipam.takes(&id, address);
    }
    assert_eq!(ipam.does(ipam.claim(&net1())), 5);
    assert_eq!(ipam.claim(&net1()), []);
    assert_eq!(holder(&ipam, &id, "10.0.0.1"), Some(Holder::Gateway));
    assert_eq!(holder(&ipam, &id, "10.0.0.9"), Some(Holder::Aux));
    assert_eq!(holder(&ipam, &id, "10.0.0.254"), Some(Holder::Aux));
    assert_eq!(holder(&ipam, &id, "10.0.0.7"), Some(Holder::Unclaimed { since: NOW }));
    assert_eq!(holder(&ipam, &id, "10.9.9.9"), None);
    assert_eq!(holder(&ipam, &six, "fd00::1"), Some(Holder::Gateway));
    assert!(ipam.pools.values().all(|pool| pool.record.used));
    assert_eq!(Ipam::default().claim(&net1()), []);
}

#[test]
fn a_network_in_the_global_space_is_not_ours_to_claim() {
    let mut ipam = Ipam::default();
    let id = ipam.pool(&PoolAsk { space: GLOBAL_SPACE, ..named("10.0.0.0/24") }).id;
    ipam.takes(&id, "10.0.0.7");
    assert_eq!(ipam.claim(&net1()), []);
    assert_eq!(ipam.claim_endpoint(&endpoint("e1", Some("10.0.0.7/24"), None)).unwrap(), []);
    assert_eq!(ipam.reclaim(&|_| true, NOW * 9, 60), []);
}

#[test]
fn an_endpoint_claims_holds_and_gives_up_its_addresses() {
    let mut ipam = Ipam::default();
    let (id, six) = (ipam.busy("10.0.0.0/24"), ipam.busy("fd00::/64"));
    let one = endpoint("e1", Some("10.0.0.2/24"), Some("fd00::2/64"));
    assert_eq!((ipam.next(&id), ipam.next(&six)), ("10.0.0.2/24".into(), "fd00::2/64".into()));
    assert_eq!(ipam.does(ipam.claim_endpoint(&one).unwrap()), 2);
    assert_eq!(ipam.claim_endpoint(&one).unwrap(), []);
    // A late release by an earlier holder does not free it.
    assert_eq!(ipam.release_address(&id, ip("10.0.0.2")), []);
    let text = ipam.claim_endpoint(&endpoint("e2", Some("10.0.0.2/24"), None)).unwrap_err().to_string();
    assert!(text.contains("endpoint e2: its address 10.0.0.2 is taken (endpoint e1 of network n1)"), "{text}");
    assert!(
        ipam.claim_endpoint(&endpoint("e2", Some("10.0.0.1/24"), None))
            .unwrap_err()
            .to_string()
            .contains("(the gateway)")
    );
    // The grace period is over, and the address is not a leak.
    assert_eq!(ipam.reclaim(&|_| true, NOW + 1000, 60), []);
    assert_eq!(ipam.unclaim_endpoint(&endpoint("e2", Some("10.0.0.2/24"), None), &Holder::Stale), []);
    assert_eq!(ipam.does(ipam.unclaim_endpoint(&one, &Holder::Unclaimed { since: NOW + 50 })), 2);
    assert_eq!(ipam.unclaim_endpoint(&one, &Holder::Stale), []);
    assert_eq!(holder(&ipam, &six, "fd00::2"), Some(Holder::Unclaimed { since: NOW + 50 }));
    assert_eq!(ipam.does(ipam.release_address(&id, ip("10.0.0.2"))), 1);
    // Reclaimed, stale or never requested: still claimed by the endpoint.
    ipam.apply(&Record::Address(AddressRecord { pool: six.clone(), address: ip("fd00::2"), holder: Holder::Stale }));
    assert_eq!(ipam.does(ipam.claim_endpoint(&one).unwrap()), 2);
    assert_eq!(ipam.next(&id), "10.0.0.3/24");
    // Addresses from another IPAM driver.
    let foreign = endpoint("e3", Some("10.0.0.3/25"), Some("fd07::2/64"));
    assert_eq!(ipam.claim_endpoint(&foreign).unwrap(), []);
    assert_eq!(ipam.unclaim_endpoint(&foreign, &Holder::Stale), []);
}

#[test]
fn claiming_marks_the_pool_as_used() {
    let mut ipam = Ipam::default();
    let id = ipam.pool(&named("10.0.0.0/24")).id;
    assert_eq!(ipam.does(ipam.claim_endpoint(&endpoint("e1", Some("10.0.0.2/24"), None)).unwrap()), 2);
    assert!(ipam.pools[&id].record.used);
    // When a network claims its addresses again, an endpoint keeps its own.
    let odd = network("n1", serde_json::json!({"v4": {"pool": "10.0.0.0/24", "gateway": "10.0.0.2"}}));
    assert_eq!(ipam.claim(&odd), []);
}

#[test]
fn what_nobody_claims_comes_back_after_the_grace_period() {
    let mut ipam = Ipam::default();
    let (ours, other) = (ipam.busy("10.0.0.0/24"), ipam.busy("10.1.0.0/24"));
    ipam.next(&ours);
    ipam.next(&other);
    let carried = |subnet: &IpNetwork| *subnet == net("10.0.0.0/24");
    assert_eq!(ipam.reclaim(&carried, NOW + 59, 60), []);
    assert_eq!(ipam.reclaim(&carried, NOW - 500, 60), []);
    let leaks = ipam.reclaim(&carried, NOW + 60, 60);
    assert_eq!(leaks, [Record::NoAddress { pool: ours.clone(), address: ip("10.0.0.2") }]);
    ipam.does(leaks);
    assert_eq!(ipam.reclaim(&carried, NOW + 60, 60), []);
    assert_eq!(ipam.next(&ours), "10.0.0.3/24");
    // A network of another driver keeps its addresses, whatever their age.
    assert_eq!(holder(&ipam, &other, "10.1.0.2"), Some(Holder::Unclaimed { since: NOW }));
}

#[test]
fn records_that_fit_nothing_change_nothing() {
    let mut ipam = Ipam::default();
    let id = ipam.busy("10.0.0.0/24");
    let before = ipam.snapshot();
    let stray = AddressRecord { pool: "gone".into(), address: ip("10.0.0.2"), holder: Holder::Stale };
    ipam.apply(&Record::Address(stray));
    ipam.apply(&Record::NoAddress { pool: id, address: ip("fd00::1") });
    ipam.apply(&Record::NoPool { id: "gone".into() });
    ipam.apply(&Record::Endpoint(Box::new(endpoint("e1", None, None))));
    assert_eq!(ipam.snapshot(), before);
}
