//! Which addresses are granted, in which order, and the messages of refusals.

use super::*;
use crate::model::EndpointId;

#[test]
fn the_next_one_with_the_prefix_of_the_pool() {
    let mut ipam = Ipam::default();
    let id = ipam.pool(&named("10.0.0.0/24")).id;
    let (gateway, records) = ipam.request_address(&id, None, true, NOW).unwrap();
    assert_eq!(gateway, net("10.0.0.1/24"));
    let address = AddressRecord { pool: id.clone(), address: ip("10.0.0.1"), holder: Holder::Gateway };
    assert!(matches!(&records[0], Record::Pool(pool) if pool.used));
    assert_eq!(records[1], Record::Address(address));
    // Nothing changes before the records are applied.
    assert_eq!(ipam.request_address(&id, None, true, NOW).unwrap().0, gateway);
    ipam.does(records);
    let (next, records) = ipam.request_address(&id, None, false, NOW).unwrap();
    assert_eq!((next, records.len()), (net("10.0.0.2/24"), 1));
    assert!(matches!(&records[0], Record::Address(a) if a.holder == Holder::Unclaimed { since: NOW }));
    let six = ipam.pool(&named("fd00::/64")).id;
    assert_eq!(ipam.next(&six), "fd00::1/64");
}

#[test]
fn what_was_freed_comes_last() {
    let mut ipam = Ipam::default();
    let id = ipam.pool(&named("10.0.0.0/29")).id;
    for last in 1..=3 {
        assert_eq!(ipam.next(&id), format!("10.0.0.{last}/29"));
    }
    assert_eq!(ipam.does(ipam.release_address(&id, ip("10.0.0.2"))), 1);
    assert_eq!(ipam.does(ipam.release_address(&id, ip("10.0.0.2"))), 0);
    assert_eq!(ipam.does(ipam.release_address("another pool", ip("10.0.0.2"))), 0);
    // A named address elsewhere does not move the cursor.
    ipam.takes(&id, "10.0.0.5");
    let rest: Vec<String> = (0..3).map(|_| ipam.next(&id)).collect();
    assert_eq!(rest, ["10.0.0.4/29", "10.0.0.6/29", "10.0.0.2/29"]);
    let text = ipam.try_next(&id).unwrap_err();
    assert!(text.contains("all 6 addresses of 10.0.0.0/29 are taken: 6 not yet attached"), "{text}");
    ipam.does(ipam.release_address(&id, ip("10.0.0.6")));
    assert_eq!(ipam.next(&id), "10.0.0.6/29");
}

#[test]
fn a_restart_goes_on_where_it_stood() {
    let mut ipam = Ipam::default();
    let (id, six) = (ipam.busy("10.0.0.0/24"), ipam.busy("fd00::/64"));
    let mut ledger: Vec<Record> = ipam.snapshot();
    for _ in 0..5 {
        let (_, records) = ipam.request_address(&id, None, false, NOW).unwrap();
        ledger.extend(records.clone());
        ipam.does(records);
    }
    ipam.does(ipam.release_address(&id, ip("10.0.0.3")));
    ledger.retain(|record| !matches!(record, Record::Address(a) if a.address == ip("10.0.0.3")));
    for records in [ledger, ipam.snapshot()] {
        let mut again = Ipam::load(DefaultPools::default(), &records);
        assert_eq!((again.next(&id), again.next(&six)), ("10.0.0.7/24".into(), "fd00::2/64".into()));
    }
    // Also after the cursor has wrapped around.
    let small = ipam.pool(&named("10.7.0.0/29")).id;
    (0..6).for_each(|_| drop(ipam.next(&small)));
    for last in [1, 2, 4] {
        ipam.does(ipam.release_address(&small, ip(&format!("10.7.0.{last}"))));
    }
    assert_eq!(ipam.next(&small), "10.7.0.1/29");
    let mut again = Ipam::load(DefaultPools::default(), &ipam.snapshot());
    assert_eq!((ipam.next(&small), again.next(&small)), ("10.7.0.2/29".into(), "10.7.0.2/29".into()));
    assert_eq!(again.snapshot(), ipam.snapshot());
}

#[test]
fn a_range_bounds_the_choice_but_not_what_is_named() {
    let mut ipam = Ipam::default();
    let id = ipam.pool(&PoolAsk { range: Some(net("10.0.0.128/30")), ..named("10.0.0.0/24") }).id;
    let chosen: Vec<String> = (0..4).map(|_| ipam.next(&id)).collect();
    assert_eq!(chosen, ["10.0.0.128/24", "10.0.0.129/24", "10.0.0.130/24", "10.0.0.131/24"]);
    assert_eq!(ipam.takes(&id, "10.0.0.9"), "10.0.0.9/24");
    assert!(ipam.refuses(&id, "10.0.0.9").contains("requested 5 s ago and not yet attached"));
    let text = ipam.try_next(&id).unwrap_err();
    assert!(text.contains("all 4 addresses of range 10.0.0.128/30 of 10.0.0.0/24 are taken: 4 not yet"), "{text}");
    ipam.does(ipam.release_address(&id, ip("10.0.0.9")));
    assert!(ipam.try_next(&id).is_err());
    // The ends of the subnet are no hosts, wherever the range lies.
    let low = ipam.pool(&PoolAsk { range: Some(net("10.1.0.0/31")), ..named("10.1.0.0/24") }).id;
    assert_eq!(ipam.next(&low), "10.1.0.1/24");
    assert!(ipam.try_next(&low).unwrap_err().contains("all 1 addresses"));
}

#[test]
fn addresses_that_are_no_hosts() {
    let mut ipam = Ipam::default();
    let id = ipam.busy("10.0.0.0/24");
    let six = ipam.busy("fd00::/64");
    assert!(ipam.refuses(&id, "10.0.0.0").contains("it is the network address of pool 10.0.0.0/24"));
    assert!(ipam.refuses(&id, "10.0.0.255").contains("it is the broadcast address"));
    assert!(ipam.refuses(&id, "10.0.1.0").contains("10.0.1.0: it is not in pool 10.0.0.0/24"));
    assert!(ipam.refuses(&id, "fd00::1").contains("not in pool"));
    assert!(ipam.refuses(&six, "fd00::").contains("subnet-router anycast"));
    assert_eq!(ipam.takes(&six, "fd00::ffff:ffff:ffff:ffff"), "fd00::ffff:ffff:ffff:ffff/64");
    for (subnet, all) in [
        ("10.1.0.0/31", vec!["10.1.0.0/31", "10.1.0.1/31"]),
        ("10.2.0.7/32", vec!["10.2.0.7/32"]),
        ("10.3.0.0/30", vec!["10.3.0.1/30", "10.3.0.2/30"]),
        ("fd01::/127", vec!["fd01::/127", "fd01::1/127"]),
        ("fd02::/128", vec!["fd02::/128"]),
        ("fd03::/126", vec!["fd03::1/126", "fd03::2/126", "fd03::3/126"]),
        ("255.255.255.252/30", vec!["255.255.255.253/30", "255.255.255.254/30"]),
    ] {
        let id = ipam.pool(&named(subnet)).id;
        let found: Vec<String> = std::iter::from_fn(|| ipam.try_next(&id).ok()).take(9).collect();
        assert_eq!(found, all, "{subnet}");
    }
}

#[test]
fn a_taken_one_says_who_has_it() {
    let mut ipam = Ipam::default();
    let id = ipam.busy("10.0.0.0/24");
    let holders = [
        (Holder::Aux, "(an --aux-address)"),
        (Holder::Unclaimed { since: 990 }, "(requested 15 s ago and not yet attached)"),
        (
            Holder::Endpoint {
                network: NetworkId::parse("0123456789abcdef").unwrap(),
                endpoint: EndpointId::parse("fedcba9876543210").unwrap(),
            },
            "(endpoint fedcba987654 of network 0123456789ab)",
        ),
    ];
    for (last, (holder, text)) in (10..).zip(holders) {
        let address = ip(&format!("10.0.0.{last}"));
        ipam.apply(&Record::Address(AddressRecord { pool: id.clone(), address, holder }));
        let found = ipam.refuses(&id, &address.to_string());
        assert!(found.contains(text) && found.contains("10.0.0.0/24"), "{found}");
    }
    assert!(ipam.refuses(&id, "10.0.0.1").contains("(the gateway)"));
    // The gateway itself may be requested again, as a gateway.
    let (again, records) = ipam.request_address(&id, Some(ip("10.0.0.1")), true, NOW).unwrap();
    assert_eq!((again, records.len()), (net("10.0.0.1/24"), 0));
    assert!(ipam.request_address(&id, Some(ip("10.0.0.10")), true, NOW).is_err());
    assert_eq!(ipam.does(ipam.release_address(&id, ip("10.0.0.1"))), 1);
    let text = ipam.request_address("pontoon-local/gone", None, false, NOW).unwrap_err().to_string();
    assert!(text.contains("\"pontoon-local/gone\" is not known; remove the network"), "{text}");
}

#[test]
fn stale_ones_are_the_last_resort_and_free_for_who_names_them() {
    let mut ipam = Ipam::default();
    let id = ipam.busy("10.0.0.0/29");
    for last in [2, 4, 5] {
        let address = ip(&format!("10.0.0.{last}"));
        ipam.apply(&Record::Address(AddressRecord { pool: id.clone(), address, holder: Holder::Stale }));
    }
    assert_eq!(ipam.takes(&id, "10.0.0.4"), "10.0.0.4/29");
    let rest: Vec<String> = (0..4).map(|_| ipam.next(&id)).collect();
    assert_eq!(rest, ["10.0.0.3/29", "10.0.0.6/29", "10.0.0.2/29", "10.0.0.5/29"]);
    assert!(ipam.try_next(&id).unwrap_err().contains("1 gateway, 5 not yet attached"));
    // Released while stale, it is simply free.
    let other = ipam.busy("10.1.0.0/30");
    ipam.apply(&Record::Address(AddressRecord { pool: other.clone(), address: ip("10.1.0.2"), holder: Holder::Stale }));
    ipam.does(ipam.release_address(&other, ip("10.1.0.2")));
    assert_eq!(ipam.next(&other), "10.1.0.2/30");
}

#[test]
fn large_pools_cost_what_small_ones_do() {
    let mut ipam = Ipam::default();
    for (subnet, count) in [("10.0.0.0/8", 1000), ("fd00::/64", 1000), ("172.16.0.0/16", 60_000)] {
        let id = ipam.pool(&named(subnet)).id;
        let mut all = std::collections::BTreeSet::new();
        (0..count).for_each(|_| assert!(all.insert(ipam.next(&id))));
        assert_eq!(ipam.pools[&id].fragments(), 1, "{subnet}");
    }
}
