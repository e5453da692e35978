//! create_endpoint, join, leave, delete_endpoint, program_external_connectivity.

use serde_json::json;

use testkit::harness::{Harness, endpoint, join, network, of};

#[test]
fn the_life_of_an_endpoint() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    let mut body = endpoint("aa", "0123456789abcdef", "10.1.0.2/24");
    body["Interface"]["AddressIPv6"] = json!("fd01::2/64");
    let made = harness.ok("NetworkDriver.CreateEndpoint", body.clone());
    let mac = made["Interface"]["MacAddress"].as_str().unwrap().to_owned();
    assert_eq!(made, json!({"Interface": {"Address": "", "AddressIPv6": "", "MacAddress": mac}}));
    assert_eq!(harness.ok("NetworkDriver.CreateEndpoint", body.clone()), made, "a retry gets the recorded answer");
    let (host, veth) = harness.kernel.datapath().veths().into_iter().next().unwrap();
    assert_eq!((host.as_str(), veth.peer.as_str()), ("pnth0123456789a", "pntc0123456789a"));
    assert_eq!(veth.peer_mac.unwrap().to_string(), mac);
    let joined = harness.ok("NetworkDriver.Join", join("aa", "0123456789abcdef"));
    let expected = json!({"InterfaceName": {"SrcName": "pntc0123456789a", "DstPrefix": "eth"},
        "Gateway": "10.1.0.1", "GatewayIPv6": "fd01::1"});
    assert_eq!(joined, expected);
    assert_eq!(harness.ok("NetworkDriver.Join", join("aa", "0123456789abcdef")), expected);
    let program =
        json!({"NetworkID": "aa", "EndpointID": "0123456789abcdef", "Options": {"com.docker.network.portmap": []}});
    harness.ok("NetworkDriver.ProgramExternalConnectivity", program);
    assert_eq!(harness.ok("NetworkDriver.EndpointOperInfo", of("aa", "0123456789abcdef")), json!({"Value": {}}));
    for method in ["RevokeExternalConnectivity", "Leave", "Leave", "DeleteEndpoint", "DeleteEndpoint"] {
        harness.ok(&format!("NetworkDriver.{method}"), of("aa", "0123456789abcdef"));
    }
    assert!(harness.kernel.datapath().veths().is_empty());
}

#[test]
fn requests_for_unknown_objects() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    for method in ["DeleteEndpoint", "Leave", "RevokeExternalConnectivity", "EndpointOperInfo"] {
        harness.ok(&format!("NetworkDriver.{method}"), of("aa", "unknown"));
        harness.ok(&format!("NetworkDriver.{method}"), of("unknown", "unknown"));
    }
    let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("unknown", "e1", ""));
    assert!(text.contains("network unknown is not known") && text.contains("docker network rm"), "{text}");
    assert!(harness.err("NetworkDriver.Join", join("aa", "e1")).contains("endpoint e1"));
}

#[test]
fn only_blank_fields_are_filled() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let mut body = endpoint("aa", "e1", "10.1.0.9/24");
    body["Interface"]["MacAddress"] = json!("02:42:ac:1e:00:99");
    assert_eq!(harness.ok("NetworkDriver.CreateEndpoint", body), json!({}));
    let veth = harness.kernel.datapath().veths().into_values().next().unwrap();
    assert_eq!(veth.peer_mac.unwrap().to_string(), "02:42:ac:1e:00:99");
}

#[test]
fn internal_and_address_less_networks_have_no_default_route() {
    let harness = Harness::new();
    let mut internal = network("internal", 1, true);
    internal["Options"]["com.docker.network.internal"] = json!(true);
    harness.ok("NetworkDriver.CreateNetwork", internal);
    let null = json!({"NetworkID": "null", "Options": {}, "IPv4Data": [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]});
    harness.ok("NetworkDriver.CreateNetwork", null);
    for (net, address) in [("internal", "10.1.0.2/24"), ("null", "")] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(net, "e1", address));
        let answer = harness.ok("NetworkDriver.Join", join(net, "e1"));
        assert!(answer.get("Gateway").is_none() && answer.get("GatewayIPv6").is_none(), "{answer}");
        assert_eq!(answer["DisableGatewayService"], true);
    }
}

#[test]
fn a_default_gateway_beside_the_bridge() {
    let harness = Harness::new();
    let mut body = network("aa", 1, false);
    body["IPv4Data"][0]["AuxAddresses"] = json!({"DefaultGatewayIPv4": "10.1.0.254/24", "printer": "10.1.0.9/24"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert_eq!(harness.ok("NetworkDriver.Join", join("aa", "e1"))["Gateway"], "10.1.0.254");
}

#[test]
fn the_1024th_endpoint_is_refused_with_the_reason() {
    let harness = Harness::new();
    let mut body = network("aa", 1, false);
    body["IPv4Data"][0] = json!({"AddressSpace": "x", "Pool": "10.0.0.0/16", "Gateway": "10.0.0.1/16"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    let address = |n: usize| format!("10.0.{}.{}/16", n / 250 + 1, n % 250 + 1);
    for n in 0..1023 {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", &format!("{n:04}-endpoint"), &address(n)));
    }
    let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "one-too-many", &address(1023)));
    assert!(text.contains("1023") && text.contains("aa"), "{text}");
    assert_eq!(harness.kernel.datapath().veths().len(), 1023);
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "0000-endpoint"));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "one-too-many", &address(1023)));
}

#[test]
fn a_request_never_dumps_the_kernel() {
    let harness = Harness::new();
    let at_start = harness.kernel.observations();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    for n in 0..50 {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", &format!("e{n}"), &format!("10.1.0.{}/24", n + 2)));
        harness.ok("NetworkDriver.Join", join("aa", &format!("e{n}")));
    }
    for n in 0..50 {
        harness.ok("NetworkDriver.Leave", of("aa", &format!("e{n}")));
        harness.ok("NetworkDriver.DeleteEndpoint", of("aa", &format!("e{n}")));
    }
    harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "aa"}));
    assert_eq!(harness.kernel.observations(), at_start);
}

#[test]
fn one_endpoint_costs_two_steps_and_its_deletion_three() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    harness.kernel.take_steps();
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join("aa", "e1"));
    // The allowed source addresses, then the pair.
    assert_eq!(harness.kernel.take_steps().len(), 2);
    harness.ok("NetworkDriver.Leave", of("aa", "e1"));
    harness.ok("NetworkDriver.DeleteEndpoint", of("aa", "e1"));
    // Both are removed, and the tracked connections.
    assert_eq!(harness.kernel.take_steps().len(), 3);
}

#[test]
fn concurrent_requests_for_one_endpoint_create_one() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"))))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(harness.kernel.datapath().veths().len(), 1);
    let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.3/24"));
    assert!(text.contains("e1") && text.contains("other addresses"), "{text}");
    let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e2", "10.9.0.3/24"));
    assert!(text.contains("10.9.0.3") && text.contains("10.1.0.0/24"), "{text}");
}
