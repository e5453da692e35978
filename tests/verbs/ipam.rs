//! IPAM requests: pools and addresses, leaks and errors.

use pontoon::datapath::ObjectKind;
use pontoon::model::IfName;
use serde_json::{Value, json};

use testkit::harness::{Harness, endpoint, of};

fn pool(harness: &Harness, subnet: &str) -> String {
    let answer = harness.ok("IpamDriver.RequestPool", ask(subnet));
    answer["PoolID"].as_str().unwrap().to_owned()
}

fn ask(subnet: &str) -> Value {
    json!({"AddressSpace": "pontoon-local", "Pool": subnet, "SubPool": "", "Options": {}, "V6": subnet.contains(':')})
}

fn request(harness: &Harness, pool: &str, address: &str) -> String {
    let answer = harness.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": address, "Options": null}));
    answer["Address"].as_str().unwrap().to_owned()
}

fn gateway(harness: &Harness, pool: &str, address: &str) -> String {
    let options = json!({"RequestAddressType": "com.docker.network.gateway"});
    let answer =
        harness.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": address, "Options": options}));
    answer["Address"].as_str().unwrap().to_owned()
}

fn release(harness: &Harness, pool: &str, address: &str) {
    harness.ok("IpamDriver.ReleaseAddress", json!({"PoolID": pool, "Address": address}));
}

/// What the engine does for `network create --ipam-driver pontoon --subnet SUBNET`.
fn make_network(harness: &Harness, id: &str, subnet: &str) -> String {
    let pool_id = pool(harness, subnet);
    let address = gateway(harness, &pool_id, "");
    let data = json!([{"AddressSpace": "pontoon-local", "Pool": subnet, "Gateway": address}]);
    harness.ok("NetworkDriver.CreateNetwork", json!({"NetworkID": id, "Options": {}, "IPv4Data": data}));
    pool_id
}

#[test]
fn capabilities_and_spaces() {
    let harness = Harness::new();
    let spaces = harness.ok("IpamDriver.GetDefaultAddressSpaces", Value::Null);
    assert_ne!(spaces["LocalDefaultAddressSpace"], spaces["GlobalDefaultAddressSpace"]);
    let capabilities = harness.ok("IpamDriver.GetCapabilities", Value::Null);
    assert_eq!(capabilities, json!({"RequiresMACAddress": false, "RequiresRequestReplay": false}));
}

/// After a crash, an engine does not know the Swarm's networks and requests their pools again.
#[test]
fn a_pool_of_a_swarm_network_is_granted_again_without_containers() {
    const NET: &str = "u4ylute1if55shzy1kj09qow0";
    let mut harness = Harness::new();
    let id = make_network(&harness, NET, "10.7.0.0/24");
    let address = request(&harness, &id, "");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "one", &address));
    harness.ok("NetworkDriver.Join", testkit::harness::join(NET, "one"));
    assert!(harness.err("IpamDriver.RequestPool", ask("10.7.0.0/24")).contains("overlaps"), "a container uses it");
    harness.kernel.meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
    harness.restart();
    for _ in 0..2 {
        assert_eq!(pool(&harness, "10.7.0.0/24"), id);
    }
    assert!(harness.kernel.datapath().bridges().is_empty());
    assert_eq!(gateway(&harness, &id, ""), "10.7.0.1/24", "the network is removed");
    // The engine remembers its local networks, so their pools are not granted again.
    make_network(&harness, "a", "10.8.0.0/24");
    assert!(harness.err("IpamDriver.RequestPool", ask("10.8.0.0/24")).contains("overlaps"));
}

#[test]
fn a_chosen_pool_avoids_routes_pools_and_never_repeats() {
    let harness = Harness::new();
    harness.kernel.add_route("172.17.0.0/16".parse().unwrap());
    harness.kernel.add_route("172.18.4.0/24".parse().unwrap());
    let first = harness.ok("IpamDriver.RequestPool", ask(""));
    assert_eq!(first["Pool"], "172.19.0.0/16");
    let second = harness.ok("IpamDriver.RequestPool", ask(""));
    assert_eq!(second["Pool"], "172.20.0.0/16");
    let sized = harness.ok("IpamDriver.RequestPool", ask("0.0.0.0/26"));
    assert!(sized["Pool"].as_str().unwrap().ends_with("/26"), "{sized}");
    let six = json!({"AddressSpace": "pontoon-local", "Pool": "", "SubPool": "", "Options": null, "V6": true});
    let (a, b) = (harness.ok("IpamDriver.RequestPool", six.clone()), harness.ok("IpamDriver.RequestPool", six));
    assert!(a["Pool"].as_str().unwrap().starts_with("fd01:203:405:") && a["Pool"] != b["Pool"], "{a} {b}");
}

#[test]
fn addresses_carry_the_mask_and_are_reused_last() {
    let harness = Harness::new();
    let id = pool(&harness, "10.5.0.0/29");
    assert_eq!(gateway(&harness, &id, ""), "10.5.0.1/29");
    assert_eq!(request(&harness, &id, ""), "10.5.0.2/29");
    release(&harness, &id, "10.5.0.2");
    assert_eq!(request(&harness, &id, ""), "10.5.0.3/29");
    assert_eq!(request(&harness, &id, "10.5.0.6"), "10.5.0.6/29");
    assert_eq!(request(&harness, &id, ""), "10.5.0.4/29");
    assert_eq!(request(&harness, &id, ""), "10.5.0.5/29");
    assert_eq!(request(&harness, &id, ""), "10.5.0.2/29");
    let text = harness.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": ""}));
    assert!(text.contains("10.5.0.0/29") && text.contains('6'), "{text}");
}

#[test]
fn refusals_name_the_object_and_the_holder() {
    let harness = Harness::new();
    let id = make_network(&harness, "aa", "10.5.0.0/24");
    let address = request(&harness, &id, "10.5.0.9");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", &address));
    for (method, body, says) in [
        ("RequestPool", ask("10.5.0.128/25"), "10.5.0.0/24"),
        ("RequestPool", ask("10.6.0.1/24"), "10.6.0.0/24"),
        ("RequestPool", ask("banana"), "banana"),
        ("RequestPool", json!({"AddressSpace": "elsewhere", "Pool": ""}), "elsewhere"),
        (
            "RequestPool",
            json!({"AddressSpace": "pontoon-local", "Pool": "10.7.0.0/24", "SubPool": "10.8.0.0/25"}),
            "10.8.0.0/25",
        ),
        ("RequestAddress", json!({"PoolID": "nope", "Address": ""}), "nope"),
        ("RequestAddress", json!({"PoolID": id, "Address": "10.9.0.1"}), "10.9.0.1"),
        ("RequestAddress", json!({"PoolID": id, "Address": "10.5.0.9"}), "e1"),
        ("RequestAddress", json!({"PoolID": id, "Address": "10.5.0.1"}), "gateway"),
        ("RequestAddress", json!({"PoolID": id, "Address": "ten"}), "ten"),
        ("ReleaseAddress", json!({"PoolID": id, "Address": ""}), "address"),
    ] {
        let text = harness.err(&format!("IpamDriver.{method}"), body);
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
    }
    harness.ok("IpamDriver.ReleasePool", json!({"PoolID": "never-seen"}));
    release(&harness, "never-seen", "10.5.0.1");
}

#[test]
fn ranges_apply_only_to_chosen_addresses() {
    let harness = Harness::new();
    let body = json!({"AddressSpace": "pontoon-local", "Pool": "10.5.0.0/24", "SubPool": "10.5.0.128/30", "V6": false});
    let id = harness.ok("IpamDriver.RequestPool", body)["PoolID"].as_str().unwrap().to_owned();
    assert!(request(&harness, &id, "").starts_with("10.5.0.12"));
    assert_eq!(request(&harness, &id, "10.5.0.5"), "10.5.0.5/24", "an aux address may lie outside the range");
}

#[test]
fn pools_and_gateways_survive_reboot_and_endpoint_addresses_do_not() {
    let mut harness = Harness::new();
    let id = make_network(&harness, "aa", "10.5.0.0/29");
    let taken = request(&harness, &id, "");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", &taken));
    harness.restart();
    let text =
        harness.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": taken.split('/').next().unwrap()}));
    assert!(text.contains("e1"), "{text}");
    harness.reboot();
    assert_eq!(request(&harness, &id, taken.split('/').next().unwrap()), taken);
    assert!(harness.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": "10.5.0.1"})).contains("gateway"));
}

#[test]
fn an_address_leaked_by_a_lost_reply_is_reclaimed_and_a_used_one_is_not() {
    let harness = Harness::new();
    let id = make_network(&harness, "aa", "10.5.0.0/29");
    let lost = request(&harness, &id, "10.5.0.3");
    let held = request(&harness, &id, "10.5.0.4");
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", &held));
    // The pool of a built-in network: Pontoon is never informed whether its addresses are in use.
    let other = pool(&harness, "10.6.0.0/29");
    request(&harness, &other, "10.6.0.3");
    let now = pontoon::driver::now();
    let driver = &harness.life().driver;
    assert_eq!(driver.reclaim_addresses(now + 5).unwrap(), 0, "not within the grace period");
    assert_eq!(driver.reclaim_addresses(now + 3600).unwrap(), 1);
    assert_eq!(request(&harness, &id, "10.5.0.3"), lost);
    assert!(harness.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": "10.5.0.4"})).contains("e1"));
    assert!(!harness.err("IpamDriver.RequestAddress", json!({"PoolID": other, "Address": "10.6.0.3"})).is_empty());
}

#[test]
fn a_pool_whose_reply_was_lost_is_released_on_conflict() {
    let harness = Harness::new();
    pool(&harness, "10.5.0.0/24");
    pool(&harness, "10.5.0.0/25");
    let id = pool(&harness, "10.5.0.0/24");
    gateway(&harness, &id, "");
    assert!(harness.err("IpamDriver.RequestPool", ask("10.5.0.0/25")).contains("10.5.0.0/24"));
    harness.ok("IpamDriver.ReleasePool", json!({"PoolID": id}));
    pool(&harness, "10.5.0.0/25");
}

#[test]
fn endpoints_abandoned_by_the_engine_are_reaped() {
    let harness = Harness::new();
    let id = make_network(&harness, "aa", "10.5.0.0/24");
    for n in 2..5 {
        let address = request(&harness, &id, &format!("10.5.0.{n}"));
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", &format!("e{n}"), &address));
    }
    harness.ok("NetworkDriver.Join", testkit::harness::join("aa", "e3"));
    harness.ok("NetworkDriver.Join", testkit::harness::join("aa", "e4"));
    harness.ok("NetworkDriver.Leave", of("aa", "e4"));
    // A slow engine has not moved the link of a joined one into its sandbox yet.
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "slow", &request(&harness, &id, "10.5.0.9")));
    let joined = harness.ok("NetworkDriver.Join", testkit::harness::join("aa", "slow"));
    let link = joined["InterfaceName"]["SrcName"].as_str().expect("a link");
    harness.kernel.add_link(&IfName::parse(link).expect("a name"), "veth");
    let now = pontoon::driver::now();
    harness.life().driver.reap_abandoned(now + 100);
    assert_eq!(harness.kernel.datapath().veths().len(), 4);
    harness.life().driver.reap_abandoned(now + 600);
    let left: Vec<_> = harness.kernel.datapath().veths().into_keys().collect();
    assert_eq!(left.len(), 1, "only the joined one is kept: {left:?}");
}
