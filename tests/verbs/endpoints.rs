//! create_endpoint, join, leave, delete_endpoint, program_external_connectivity.

use serde_json::json;

use super::rig::{Rig, endpoint, join, network, of};

#[test]
fn the_life_of_an_endpoint() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    let mut body = endpoint("aa", "0123456789abcdef", "10.1.0.2/24");
    body["Interface"]["AddressIPv6"] = json!("fd01::2/64");
    let made = rig.ok("NetworkDriver.CreateEndpoint", body.clone());
    let mac = made["Interface"]["MacAddress"].as_str().unwrap().to_owned();
    assert_eq!(made, json!({"Interface": {"Address": "", "AddressIPv6": "", "MacAddress": mac}}));
    assert_eq!(rig.ok("NetworkDriver.CreateEndpoint", body.clone()), made, "a repetition gets the recorded answer");
    let (host, veth) = rig.kernel.datapath().veths().into_iter().next().unwrap();
    assert_eq!((host.as_str(), veth.peer.as_str()), ("pnth0123456789a", "pntc0123456789a"));
    assert_eq!(veth.peer_mac.unwrap().to_string(), mac);
    let joined = rig.ok("NetworkDriver.Join", join("aa", "0123456789abcdef"));
    let expected = json!({"InterfaceName": {"SrcName": "pntc0123456789a", "DstPrefix": "eth"},
        "Gateway": "10.1.0.1", "GatewayIPv6": "fd01::1"});
    assert_eq!(joined, expected);
    assert_eq!(rig.ok("NetworkDriver.Join", join("aa", "0123456789abcdef")), expected);
    let program =
        json!({"NetworkID": "aa", "EndpointID": "0123456789abcdef", "Options": {"com.docker.network.portmap": []}});
    rig.ok("NetworkDriver.ProgramExternalConnectivity", program);
    assert_eq!(rig.ok("NetworkDriver.EndpointOperInfo", of("aa", "0123456789abcdef")), json!({"Value": {}}));
    for method in ["RevokeExternalConnectivity", "Leave", "Leave", "DeleteEndpoint", "DeleteEndpoint"] {
        rig.ok(&format!("NetworkDriver.{method}"), of("aa", "0123456789abcdef"));
    }
    assert!(rig.kernel.datapath().veths().is_empty());
}

#[test]
fn verbs_for_what_is_not_known() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    for method in ["DeleteEndpoint", "Leave", "RevokeExternalConnectivity", "EndpointOperInfo"] {
        rig.ok(&format!("NetworkDriver.{method}"), of("aa", "unknown"));
        rig.ok(&format!("NetworkDriver.{method}"), of("unknown", "unknown"));
    }
    let text = rig.err("NetworkDriver.CreateEndpoint", endpoint("unknown", "e1", ""));
    assert!(text.contains("network unknown is not known") && text.contains("docker network rm"), "{text}");
    assert!(rig.err("NetworkDriver.Join", join("aa", "e1")).contains("endpoint e1"));
}

#[test]
fn only_blank_fields_are_filled() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let mut body = endpoint("aa", "e1", "10.1.0.9/24");
    body["Interface"]["MacAddress"] = json!("02:42:ac:1e:00:99");
    assert_eq!(rig.ok("NetworkDriver.CreateEndpoint", body), json!({}));
    let veth = rig.kernel.datapath().veths().into_values().next().unwrap();
    assert_eq!(veth.peer_mac.unwrap().to_string(), "02:42:ac:1e:00:99");
}

#[test]
fn no_way_out_of_internal_and_of_address_less_networks() {
    let rig = Rig::new();
    let mut internal = network("internal", 1, true);
    internal["Options"]["com.docker.network.internal"] = json!(true);
    rig.ok("NetworkDriver.CreateNetwork", internal);
    let null = json!({"NetworkID": "null", "Options": {}, "IPv4Data": [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]});
    rig.ok("NetworkDriver.CreateNetwork", null);
    for (net, address) in [("internal", "10.1.0.2/24"), ("null", "")] {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(net, "e1", address));
        let answer = rig.ok("NetworkDriver.Join", join(net, "e1"));
        assert!(answer.get("Gateway").is_none() && answer.get("GatewayIPv6").is_none(), "{answer}");
        assert_eq!(answer["DisableGatewayService"], true);
    }
}

#[test]
fn a_default_gateway_beside_the_bridge() {
    let rig = Rig::new();
    let mut body = network("aa", 1, false);
    body["IPv4Data"][0]["AuxAddresses"] = json!({"DefaultGatewayIPv4": "10.1.0.254/24", "printer": "10.1.0.9/24"});
    rig.ok("NetworkDriver.CreateNetwork", body);
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert_eq!(rig.ok("NetworkDriver.Join", join("aa", "e1"))["Gateway"], "10.1.0.254");
}

#[test]
fn the_1024th_endpoint_is_refused_in_words() {
    let rig = Rig::new();
    let mut body = network("aa", 1, false);
    body["IPv4Data"][0] = json!({"AddressSpace": "x", "Pool": "10.0.0.0/16", "Gateway": "10.0.0.1/16"});
    rig.ok("NetworkDriver.CreateNetwork", body);
    let address = |n: usize| format!("10.0.{}.{}/16", n / 250 + 1, n % 250 + 1);
    for n in 0..1023 {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", &format!("{n:04}-endpoint"), &address(n)));
    }
    let text = rig.err("NetworkDriver.CreateEndpoint", endpoint("aa", "one-too-many", &address(1023)));
    assert!(text.contains("1023") && text.contains("aa"), "{text}");
    assert_eq!(rig.kernel.datapath().veths().len(), 1023);
    rig.ok("NetworkDriver.DeleteEndpoint", of("aa", "0000-endpoint"));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "one-too-many", &address(1023)));
}

#[test]
fn a_verb_never_lists_the_kernel() {
    let rig = Rig::new();
    let at_start = rig.kernel.observations();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    for n in 0..50 {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", &format!("e{n}"), &format!("10.1.0.{}/24", n + 2)));
        rig.ok("NetworkDriver.Join", join("aa", &format!("e{n}")));
    }
    for n in 0..50 {
        rig.ok("NetworkDriver.Leave", of("aa", &format!("e{n}")));
        rig.ok("NetworkDriver.DeleteEndpoint", of("aa", &format!("e{n}")));
    }
    rig.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert_eq!(rig.kernel.observations(), at_start);
}

#[test]
fn one_endpoint_costs_two_steps_and_its_deletion_three() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    rig.kernel.take_steps();
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    rig.ok("NetworkDriver.Join", join("aa", "e1"));
    // What it may send, then the pair.
    assert_eq!(rig.kernel.take_steps().len(), 2);
    rig.ok("NetworkDriver.Leave", of("aa", "e1"));
    rig.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    // Both again, and what connection tracking has of it.
    assert_eq!(rig.kernel.take_steps().len(), 3);
}

#[test]
fn concurrent_requests_for_one_endpoint_make_one() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"))))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(rig.kernel.datapath().veths().len(), 1);
    let text = rig.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.3/24"));
    assert!(text.contains("e1") && text.contains("other addresses"), "{text}");
    let text = rig.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.9.0.3/24"));
    assert!(text.contains("10.9.0.3") && text.contains("10.1.0.0/24"), "{text}");
}
