//! Which pools are granted, and the messages of refusals.

use super::*;

fn refusal(ipam: &Ipam, ask: &PoolAsk) -> String {
    ipam.request_pool(ask, &HOST).unwrap_err().to_string()
}

#[test]
fn ids_are_made_of_what_was_asked() {
    let mut ipam = Ipam::default();
    assert_eq!(ipam.pool(&named("172.30.0.0/24")).id, "pontoon-local/172.30.0.0/24");
    let ranged = PoolAsk { range: Some(net("172.31.0.130/25")), ..named("172.31.0.0/24") };
    let pool = ipam.pool(&ranged);
    assert_eq!(pool.id, "pontoon-local/172.31.0.0/24/172.31.0.128/25");
    assert_eq!((pool.range, pool.used), (Some(net("172.31.0.128/25")), false));
    let global = PoolAsk { space: GLOBAL_SPACE, ..named("fd00::/64") };
    assert_eq!(ipam.pool(&global).id, "pontoon-global/fd00::/64");
}

#[test]
fn malformed_asks_are_explained() {
    let ipam = Ipam::default();
    let text = refusal(&ipam, &PoolAsk { space: "elsewhere", ..ANY });
    assert!(text.contains("\"elsewhere\"") && text.contains(LOCAL_SPACE) && text.contains(GLOBAL_SPACE), "{text}");
    assert!(refusal(&ipam, &named("10.0.0.1/24")).contains("write 10.0.0.0/24"));
    for range in ["10.0.1.0/25", "10.0.0.0/23", "fd00::/64"] {
        let text = refusal(&ipam, &PoolAsk { range: Some(net(range)), ..named("10.0.0.0/24") });
        assert!(text.contains("10.0.0.0/24") && text.contains("--ip-range"), "{text}");
    }
    assert!(refusal(&ipam, &PoolAsk { range: Some(net("10.0.0.0/24")), ..ANY }).contains("add --subnet"));
}

#[test]
fn used_pools_are_in_the_way_of_their_own_space_only() {
    let mut ipam = Ipam::default();
    ipam.busy("10.0.0.0/16");
    for subnet in ["10.0.0.0/16", "10.0.7.0/24", "10.0.0.0/8", "0.0.0.0/0"] {
        let text = refusal(&ipam, &named(subnet));
        assert!(text.contains(subnet) && text.contains("overlaps 10.0.0.0/16 (1 gateway)"), "{text}");
    }
    ipam.apply(&Record::Network(Box::new(network(
        "0123456789abcdef",
        serde_json::json!({"v4": {"pool": "10.0.0.0/16"}}),
    ))));
    let text = refusal(&ipam, &named("10.0.7.0/24"));
    assert!(text.contains("(of network 0123456789ab: 1 gateway)"), "{text}");
    ipam.pool(&PoolAsk { space: GLOBAL_SPACE, ..named("10.0.7.0/24") });
    ipam.pool(&named("10.1.0.0/16"));
    ipam.pool(&named("::/0"));
}

#[test]
fn pools_that_were_never_used_give_way() {
    let mut ipam = Ipam::default();
    let first = ipam.pool(&named("10.0.0.0/24"));
    let (again, records) = ipam.request_pool(&named("10.0.0.0/24"), &HOST).unwrap();
    assert_eq!((again, records), (first, vec![]));
    ipam.pool(&named("10.0.1.0/24"));
    let (wide, records) = ipam.request_pool(&named("10.0.0.0/16"), &HOST).unwrap();
    let gone = |id: &str| Record::NoPool { id: id.into() };
    let expected = [gone("pontoon-local/10.0.0.0/24"), gone("pontoon-local/10.0.1.0/24"), Record::Pool(wide.clone())];
    assert_eq!(records, expected);
    ipam.does(records);
    let ranged = PoolAsk { range: Some(net("10.0.8.0/24")), ..named("10.0.0.0/16") };
    let (_, records) = ipam.request_pool(&ranged, &HOST).unwrap();
    assert_eq!(records[0], gone(&wide.id));
    // If one of them is in use, none yields.
    ipam.does(records);
    let used = ipam.busy("10.9.0.0/24");
    assert!(refusal(&ipam, &named("10.0.0.0/8")).contains("10.9.0.0/24"));
    assert_eq!(ipam.does(ipam.release_pool(&used)), 1);
    assert_eq!(ipam.does(ipam.release_pool(&used)), 0);
    ipam.pool(&named("10.0.0.0/8"));
}

#[test]
fn a_new_leader_repeats_what_is_in_force() {
    let mut ipam = Ipam::default();
    let ask = PoolAsk { space: GLOBAL_SPACE, ..named("10.0.0.0/24") };
    let pool = ipam.pool(&ask);
    ipam.takes(&pool.id, "10.0.0.7");
    let (again, records) = ipam.request_pool(&ask, &HOST).unwrap();
    assert_eq!((again.id.as_str(), records.len()), (pool.id.as_str(), 0));
    assert_eq!(ipam.takes(&pool.id, "10.0.0.7"), "10.0.0.7/24");
    assert!(ipam.request_pool(&PoolAsk { pool: Some(net("10.0.0.0/16")), ..ask }, &HOST).is_err());
}

#[test]
fn the_lowest_default_pool_with_nothing_in_its_way() {
    let mut ipam = Ipam::default();
    ipam.busy("172.17.3.0/24");
    let routes = [net("172.18.9.0/24"), net("0.0.0.0/0"), net("fd00::/8")];
    let resolvers = [ip("172.19.0.53"), ip("fd00::53")];
    let host = HostView { routes: &routes, resolvers: &resolvers, ..HOST };
    let (pool, records) = ipam.request_pool(&ANY, &host).unwrap();
    assert_eq!((pool.subnet, records.len()), (net("172.20.0.0/16"), 1));
    // The engine may be about to refuse that pool, so the next request gets another one.
    ipam.does(records);
    let (second, records) = ipam.request_pool(&ANY, &host).unwrap();
    assert_eq!(second.subnet, net("172.21.0.0/16"));
    ipam.does(records);
    ipam.does(ipam.release_pool(&pool.id));
    assert_eq!(ipam.request_pool(&ANY, &host).unwrap().0.subnet, net("172.20.0.0/16"));
    assert_eq!(ipam.pool(&PoolAsk { space: GLOBAL_SPACE, ..ANY }).subnet, net("172.17.0.0/16"));
    assert_eq!(ipam.pool(&PoolAsk { prefix_only: Some(24), ..ANY }).subnet, net("172.17.0.0/24"));
    assert!(refusal(&ipam, &PoolAsk { prefix_only: Some(9), ..ANY }).contains("room for a /9"));
    assert!(refusal(&ipam, &PoolAsk { prefix_only: Some(33), ..ANY }).contains("room for a /33"));
}

#[test]
fn exhaustion_takes_back_the_never_used_and_then_says_so() {
    let mut ipam = Ipam::new(DefaultPools::new(vec!["base=10.0.0.0/22,size=24".parse().unwrap()]));
    let pools: Vec<PoolRecord> = (0..4).map(|_| ipam.pool(&ANY)).collect();
    for pool in &pools[1..] {
        ipam.next(&pool.id);
    }
    let (again, records) = ipam.request_pool(&ANY, &HOST).unwrap();
    assert_eq!((again.subnet, records.len()), (net("10.0.0.0/24"), 0));
    // A smaller pool replaces the larger one that was never used.
    let (_, records) = ipam.request_pool(&PoolAsk { prefix_only: Some(26), ..ANY }, &HOST).unwrap();
    assert_eq!(records[0], Record::NoPool { id: pools[0].id.clone() });
    ipam.next(&pools[0].id);
    let text = refusal(&ipam, &ANY);
    assert!(text.contains("IPv4") && text.contains("all 4 default pools of size /24"), "{text}");
    assert!(text.contains("--default-address-pools"), "{text}");
    let only6 = Ipam::new(DefaultPools::new(vec!["base=fd00::/63,size=64".parse().unwrap()]));
    assert!(refusal(&only6, &ANY).contains("there are no default pools"));
    let (pool, records) = only6.request_pool(&PoolAsk { v6: true, ..ANY }, &HOST).unwrap();
    assert_eq!((pool.subnet, records.len()), (net("fd00::/64"), 1));
}

#[test]
fn ipv6_comes_from_one_prefix_drawn_once() {
    let mut ipam = Ipam::default();
    let ask = PoolAsk { v6: true, ..ANY };
    let (first, records) = ipam.request_pool(&ask, &HOST).unwrap();
    assert_eq!(first.subnet, net("fd01:203:405::/64"));
    assert_eq!(records, [Record::Ula { prefix: net("fd01:203:405::/48") }, Record::Pool(first.clone())]);
    ipam.does(records);
    let other = HostView { ula_seed: [9; 5], ..HOST };
    let (second, records) = ipam.request_pool(&ask, &other).unwrap();
    assert_eq!((second.subnet, records.len()), (net("fd01:203:405:1::/64"), 1));
    let routes = [net("fd01:203:405::/48")];
    let text = ipam.request_pool(&ask, &HostView { routes: &routes, ..HOST }).unwrap_err().to_string();
    assert!(text.contains("IPv6") && text.contains("all 65536 default pools of size /64"), "{text}");
    assert_eq!(ipam.pool(&PoolAsk { prefix_only: Some(120), ..ask }).subnet, net("fd01:203:405:1::/120"));
}
