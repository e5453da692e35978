//! The IPAM half: pools and addresses, their leaks and their errors.

use pontoon::datapath::ObjectKind;
use serde_json::{Value, json};

use super::rig::{Rig, endpoint, of};

fn pool(rig: &Rig, subnet: &str) -> String {
    let answer = rig.ok("IpamDriver.RequestPool", ask(subnet));
    answer["PoolID"].as_str().unwrap().to_owned()
}

fn ask(subnet: &str) -> Value {
    json!({"AddressSpace": "pontoon-local", "Pool": subnet, "SubPool": "", "Options": {}, "V6": subnet.contains(':')})
}

fn request(rig: &Rig, pool: &str, address: &str) -> String {
    let answer = rig.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": address, "Options": null}));
    answer["Address"].as_str().unwrap().to_owned()
}

fn gateway(rig: &Rig, pool: &str, address: &str) -> String {
    let options = json!({"RequestAddressType": "com.docker.network.gateway"});
    let answer = rig.ok("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": address, "Options": options}));
    answer["Address"].as_str().unwrap().to_owned()
}

fn release(rig: &Rig, pool: &str, address: &str) {
    rig.ok("IpamDriver.ReleaseAddress", json!({"PoolID": pool, "Address": address}));
}

/// What the engine does for `network create --ipam-driver pontoon --subnet SUBNET`.
fn make_network(rig: &Rig, id: &str, subnet: &str) -> String {
    let pool_id = pool(rig, subnet);
    let address = gateway(rig, &pool_id, "");
    let data = json!([{"AddressSpace": "pontoon-local", "Pool": subnet, "Gateway": address}]);
    rig.ok("NetworkDriver.CreateNetwork", json!({"NetworkID": id, "Options": {}, "IPv4Data": data}));
    pool_id
}

#[test]
fn capabilities_and_spaces() {
    let rig = Rig::new();
    let spaces = rig.ok("IpamDriver.GetDefaultAddressSpaces", Value::Null);
    assert_ne!(spaces["LocalDefaultAddressSpace"], spaces["GlobalDefaultAddressSpace"]);
    let capabilities = rig.ok("IpamDriver.GetCapabilities", Value::Null);
    assert_eq!(capabilities, json!({"RequiresMACAddress": false, "RequiresRequestReplay": false}));
}

/// An engine forgets the Swarm's networks when it crashes, and asks for their pools anew.
#[test]
fn a_pool_of_a_network_of_the_swarm_is_granted_again_once_nothing_on_it_lives() {
    const NET: &str = "u4ylute1if55shzy1kj09qow0";
    let mut rig = Rig::new();
    let id = make_network(&rig, NET, "10.7.0.0/24");
    let address = request(&rig, &id, "");
    rig.ok("NetworkDriver.CreateEndpoint", endpoint(NET, "one", &address));
    rig.ok("NetworkDriver.Join", super::rig::join(NET, "one"));
    assert!(rig.err("IpamDriver.RequestPool", ask("10.7.0.0/24")).contains("overlaps"), "a container is on it");
    rig.kernel.meddle(|datapath| datapath.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
    rig.restart();
    for _ in 0..2 {
        assert_eq!(pool(&rig, "10.7.0.0/24"), id);
    }
    assert!(rig.kernel.datapath().bridges().is_empty());
    assert_eq!(gateway(&rig, &id, ""), "10.7.0.1/24", "nothing is left of it");
    // A network of the engine's own is not forgotten by it, and refused to others.
    make_network(&rig, "a", "10.8.0.0/24");
    assert!(rig.err("IpamDriver.RequestPool", ask("10.8.0.0/24")).contains("overlaps"));
}

#[test]
fn a_chosen_pool_avoids_routes_pools_and_never_repeats() {
    let rig = Rig::new();
    rig.kernel.add_route("172.17.0.0/16".parse().unwrap());
    rig.kernel.add_route("172.18.4.0/24".parse().unwrap());
    let first = rig.ok("IpamDriver.RequestPool", ask(""));
    assert_eq!(first["Pool"], "172.19.0.0/16");
    let second = rig.ok("IpamDriver.RequestPool", ask(""));
    assert_eq!(second["Pool"], "172.20.0.0/16");
    let sized = rig.ok("IpamDriver.RequestPool", ask("0.0.0.0/26"));
    assert!(sized["Pool"].as_str().unwrap().ends_with("/26"), "{sized}");
    let six = json!({"AddressSpace": "pontoon-local", "Pool": "", "SubPool": "", "Options": null, "V6": true});
    let (a, b) = (rig.ok("IpamDriver.RequestPool", six.clone()), rig.ok("IpamDriver.RequestPool", six));
    assert!(a["Pool"].as_str().unwrap().starts_with("fd01:203:405:") && a["Pool"] != b["Pool"], "{a} {b}");
}

#[test]
fn addresses_carry_the_mask_and_are_reused_last() {
    let rig = Rig::new();
    let id = pool(&rig, "10.5.0.0/29");
    assert_eq!(gateway(&rig, &id, ""), "10.5.0.1/29");
    assert_eq!(request(&rig, &id, ""), "10.5.0.2/29");
    release(&rig, &id, "10.5.0.2");
    assert_eq!(request(&rig, &id, ""), "10.5.0.3/29");
    assert_eq!(request(&rig, &id, "10.5.0.6"), "10.5.0.6/29");
    assert_eq!(request(&rig, &id, ""), "10.5.0.4/29");
    assert_eq!(request(&rig, &id, ""), "10.5.0.5/29");
    assert_eq!(request(&rig, &id, ""), "10.5.0.2/29");
    let text = rig.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": ""}));
    assert!(text.contains("10.5.0.0/29") && text.contains('6'), "{text}");
}

#[test]
fn refusals_say_what_and_who() {
    let rig = Rig::new();
    let id = make_network(&rig, "aa", "10.5.0.0/24");
    let address = request(&rig, &id, "10.5.0.9");
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", &address));
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
        let text = rig.err(&format!("IpamDriver.{method}"), body);
        assert!(text.contains(says) && !text.contains('\n'), "{text:?} should name {says:?}");
    }
    rig.ok("IpamDriver.ReleasePool", json!({"PoolID": "never-seen"}));
    release(&rig, "never-seen", "10.5.0.1");
}

#[test]
fn ranges_hold_for_choices_only() {
    let rig = Rig::new();
    let body = json!({"AddressSpace": "pontoon-local", "Pool": "10.5.0.0/24", "SubPool": "10.5.0.128/30", "V6": false});
    let id = rig.ok("IpamDriver.RequestPool", body)["PoolID"].as_str().unwrap().to_owned();
    assert!(request(&rig, &id, "").starts_with("10.5.0.12"));
    assert_eq!(request(&rig, &id, "10.5.0.5"), "10.5.0.5/24", "an aux address may lie outside the range");
}

#[test]
fn pools_and_gateways_survive_reboot_and_endpoint_addresses_do_not() {
    let mut rig = Rig::new();
    let id = make_network(&rig, "aa", "10.5.0.0/29");
    let taken = request(&rig, &id, "");
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", &taken));
    rig.restart();
    let text = rig.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": taken.split('/').next().unwrap()}));
    assert!(text.contains("e1"), "{text}");
    rig.reboot();
    assert_eq!(request(&rig, &id, taken.split('/').next().unwrap()), taken);
    assert!(rig.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": "10.5.0.1"})).contains("gateway"));
}

#[test]
fn the_leak_of_a_lost_reply_is_reclaimed_and_a_held_address_is_not() {
    let rig = Rig::new();
    let id = make_network(&rig, "aa", "10.5.0.0/29");
    let lost = request(&rig, &id, "10.5.0.3");
    let held = request(&rig, &id, "10.5.0.4");
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", &held));
    // The pool of a built-in network: nobody ever tells whether its addresses are in use.
    let other = pool(&rig, "10.6.0.0/29");
    request(&rig, &other, "10.6.0.3");
    let now = pontoon::driver::now();
    let driver = &rig.life().driver;
    assert_eq!(driver.reclaim_addresses(now + 5).unwrap(), 0, "not within the grace period");
    assert_eq!(driver.reclaim_addresses(now + 3600).unwrap(), 1);
    assert_eq!(request(&rig, &id, "10.5.0.3"), lost);
    assert!(rig.err("IpamDriver.RequestAddress", json!({"PoolID": id, "Address": "10.5.0.4"})).contains("e1"));
    assert!(!rig.err("IpamDriver.RequestAddress", json!({"PoolID": other, "Address": "10.6.0.3"})).is_empty());
}

#[test]
fn a_pool_whose_reply_was_lost_gives_way() {
    let rig = Rig::new();
    pool(&rig, "10.5.0.0/24");
    pool(&rig, "10.5.0.0/25");
    let id = pool(&rig, "10.5.0.0/24");
    gateway(&rig, &id, "");
    assert!(rig.err("IpamDriver.RequestPool", ask("10.5.0.0/25")).contains("10.5.0.0/24"));
    rig.ok("IpamDriver.ReleasePool", json!({"PoolID": id}));
    pool(&rig, "10.5.0.0/25");
}

#[test]
fn endpoints_the_engine_gave_up_are_swept() {
    let rig = Rig::new();
    let id = make_network(&rig, "aa", "10.5.0.0/24");
    for n in 2..5 {
        let address = request(&rig, &id, &format!("10.5.0.{n}"));
        rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", &format!("e{n}"), &address));
    }
    rig.ok("NetworkDriver.Join", super::rig::join("aa", "e3"));
    rig.ok("NetworkDriver.Join", super::rig::join("aa", "e4"));
    rig.ok("NetworkDriver.Leave", of("aa", "e4"));
    let now = pontoon::driver::now();
    rig.life().driver.reap_abandoned(now + 10);
    assert_eq!(rig.kernel.datapath().veths().len(), 3);
    rig.life().driver.reap_abandoned(now + 600);
    let left: Vec<_> = rig.kernel.datapath().veths().into_keys().collect();
    assert_eq!(left.len(), 1, "only the joined one stays: {left:?}");
}
