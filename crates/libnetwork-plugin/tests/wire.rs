//! Decoding of the engines' requests and encoding of answers.
//!
//! Every recorded request must decode, without loss, into the type of its method. With `PLUGIN_CAPTURES=<dir>` in the
//! environment, so must every request line in every *.jsonl file below that directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use libnetwork_plugin::network::{PortBinding, key};
use libnetwork_plugin::{Empty, Manifest, Method, ipam, network};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

mod recorded;

use recorded::decode::{Decoded, decode};
use recorded::{ENGINES, Sent, fixtures, fixtures_of, requests};

/// Engines whose lost connections were recorded, including the retries without a body.
const FAULTED: [&str; 3] = ["20.10.24+dfsg1", "28.5.2+dfsg4", "29.7.2"];

/// The first difference of `kept` from `sent`. Null and the zero value are equal, as in Go.
fn lost(sent: &Value, kept: &Value, at: &str) -> Option<String> {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => sent
            .iter()
            .find_map(|(key, value)| lost(value, kept.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"))),
        (Value::Array(sent), Value::Array(kept)) if sent.len() == kept.len() => {
            sent.iter().zip(kept).enumerate().find_map(|(i, (sent, kept))| lost(sent, kept, &format!("{at}/{i}")))
        }
        _ if sent == kept => None,
        (Value::Null, zero) if [json!(""), json!([]), json!({}), json!(false), json!(0)].contains(zero) => None,
        _ => Some(format!("{at}: sent {sent}, kept {kept}")),
    }
}

/// Checks one request completely and returns its decoded form.
fn check(sent: &Sent) -> Decoded {
    let method = sent.method();
    let decoded = sent.decoded();
    match &decoded {
        Decoded::Nothing => assert!(method.has_no_body(), "{}: {} without a body", sent.from, sent.path),
        Decoded::Retry => assert!(!method.has_no_body(), "{}: {} is no retry", sent.from, sent.path),
        Decoded::Request(kept) => {
            assert!(!method.has_no_body(), "{}: {} has a body", sent.from, sent.path);
            assert_eq!(lost(&sent.body(), kept, ""), None, "{}: {}", sent.from, sent.path);
            let again = decode(method, kept.to_string().as_bytes()).unwrap();
            assert_eq!(again, decoded, "{}: {} changes when it is encoded again", sent.from, sent.path);
        }
    }
    decoded
}

fn retries<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    for one in sent {
        if one.decoded() == Decoded::Retry {
            *count.entry(one.method().name()).or_default() += 1;
        }
    }
    count
}

#[test]
fn every_fixture_decodes_without_loss() {
    for sent in fixtures() {
        check(&sent);
    }
}

#[test]
fn every_available_capture_decodes() {
    let Some(dir) = std::env::var_os("PLUGIN_CAPTURES") else { return };
    let (mut dirs, mut files) = (vec![PathBuf::from(dir)], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => dirs.push(path),
                Some(end) if end == "jsonl" => files.push(path),
                _ => {}
            }
        }
    }
    let all: Vec<Sent> = files.iter().flat_map(|file| requests(file)).collect();
    assert!(!all.is_empty(), "PLUGIN_CAPTURES has no requests");
    let mut count = [0; 3];
    for sent in &all {
        count[match check(sent) {
            Decoded::Request(_) => 0,
            Decoded::Nothing => 1,
            Decoded::Retry => 2,
        }] += 1;
    }
    println!(
        "{} requests in {} files: {} bodies, {} without one by nature, {} retries without one {:?}",
        all.len(),
        files.len(),
        count[0],
        count[1],
        count[2],
        retries(&all)
    );
}

#[test]
fn methods_come_from_the_engines_that_have_them() {
    let mut seen = BTreeSet::new();
    for (version, swarm) in ENGINES {
        let sent: BTreeSet<&str> = fixtures_of(version).iter().map(|sent| sent.method().name()).collect();
        for (method, _, name) in Method::ALL {
            let expected = match method {
                Method::GwAllocCheck => version.starts_with("head") || version >= "28",
                Method::DiscoverNew | Method::DiscoverDelete | Method::AllocateNetwork | Method::FreeNetwork => swarm,
                _ => true,
            };
            assert_eq!(sent.contains(name), expected, "{version}: {name}");
        }
        seen.extend(sent);
    }
    assert_eq!(seen.len(), Method::ALL.len());
}

#[test]
fn only_retries_have_no_body() {
    for (version, _) in ENGINES {
        let expected = match FAULTED.contains(&version) {
            true => BTreeMap::from([("create_network", 1), ("create_endpoint", 1), ("join", 1)]),
            false => BTreeMap::new(),
        };
        assert_eq!(retries(&fixtures_of(version)), expected, "{version}");
    }
}

/// A property of requests that depends on the engine's version: name, versions, test.
type Trait = (&'static str, fn(&str) -> bool, fn(Method, &Value) -> bool);

fn since(version: &str, first: &str) -> bool {
    version.starts_with("head") || version >= first
}

const TRAITS: &[Trait] = &[
    (
        "IPv4 can be disabled, and the options contain that",
        |version| since(version, "28"),
        |method, body| method == Method::CreateNetwork && body["Options"].get(key::ENABLE_IPV4).is_some(),
    ),
    (
        "a network without IPv4 has an empty list of pools",
        |version| since(version, "28"),
        |method, body| method == Method::CreateNetwork && body["IPv4Data"] == json!([]),
    ),
    (
        "Program contains whether to proxy IPv6 to IPv4",
        |version| since(version, "28"),
        |method, body| {
            method == Method::ProgramExternalConnectivity
                && body["Options"].get("com.docker.network.driver.private.no_proxy_6to4").is_some()
        },
    ),
    (
        "an address comes with the container's name",
        |version| since(version, "29"),
        |method, body| {
            method == Method::RequestAddress && body["Options"].get("com.docker.network.endpoint.name").is_some()
        },
    ),
    (
        "aux addresses are an empty object",
        |version| since(version, "29"),
        |method, body| method == Method::CreateNetwork && body["IPv4Data"][0]["AuxAddresses"] == json!({}),
    ),
    (
        "Join names parent and child endpoints, null",
        |version| !since(version, "28"),
        |method, body| method == Method::Join && body["Options"][key::GENERIC].get("ParentEndpoints").is_some(),
    ),
    (
        "options of an address are null",
        |_| true,
        |method, body| method == Method::RequestAddress && body.get("Options") == Some(&Value::Null),
    ),
    (
        "a gateway is not allocated",
        |_| true,
        |method, body| method == Method::CreateNetwork && body["IPv4Data"][0].get("Gateway").is_none(),
    ),
    (
        "several ports are published",
        |_| true,
        |method, body| {
            method == Method::CreateEndpoint
                && body["Options"][key::PORT_MAP].as_array().is_some_and(|ports| ports.len() > 1)
        },
    ),
];

#[test]
fn differences_between_engines_are_in_the_fixtures() {
    for (version, _) in ENGINES {
        let sent: Vec<(Method, Value)> = fixtures_of(version).iter().map(|one| (one.method(), one.body())).collect();
        for (what, says, is) in TRAITS {
            assert_eq!(sent.iter().any(|(method, body)| is(*method, body)), says(version), "{version}: {what}");
        }
    }
}

#[test]
fn identifiers_of_swarm_are_not_hexadecimal() {
    for (version, swarm) in ENGINES {
        let base36 =
            fixtures_of(version).iter().any(|one| one.body()["NetworkID"].as_str().is_some_and(|id| id.len() == 25));
        assert_eq!(base36, swarm, "{version}");
    }
}

fn with_body() -> impl Iterator<Item = Method> {
    Method::ALL.into_iter().map(|row| row.0).filter(|method| !method.has_no_body())
}

#[test]
fn null_missing_and_unknown_fields_are_the_zero_value() {
    for method in with_body() {
        let Decoded::Request(zero) = decode(method, b"{}").unwrap() else { panic!("{method:?}") };
        let fields = zero.as_object().unwrap();
        assert!(!fields.is_empty(), "{method:?}");

        let null: Value = fields.keys().map(|key| (key.clone(), Value::Null)).collect::<serde_json::Map<_, _>>().into();
        assert_eq!(decode(method, null.to_string().as_bytes()).unwrap(), Decoded::Request(zero.clone()), "{method:?}");

        let unknown = br#"{"Later":{"a":[1,null,"x"]},"":0}"#;
        assert_eq!(decode(method, unknown).unwrap(), Decoded::Request(zero.clone()), "{method:?}");
    }
    let body = br#"{"NetworkID":"n","IPv4Data":[{"Pool":null,"AuxAddresses":null,"New":1}]}"#;
    let Decoded::Request(kept) = decode(Method::CreateNetwork, body).unwrap() else { panic!() };
    assert_eq!(kept["IPv4Data"], json!([{"AddressSpace":"","Pool":"","Gateway":"","AuxAddresses":{}}]));
    let Decoded::Request(kept) = decode(Method::CreateEndpoint, br#"{"Interface":{"MacAddress":null}}"#).unwrap()
    else {
        panic!()
    };
    assert_eq!(kept["Interface"], json!({"Address":"","AddressIPv6":"","MacAddress":""}));
}

#[test]
fn wrong_types_and_broken_bodies_are_errors() {
    for method in with_body() {
        let Decoded::Request(zero) = decode(method, b"{}").unwrap() else { panic!("{method:?}") };
        for (field, value) in zero.as_object().unwrap() {
            for wrong in [json!(1.5), json!("x"), json!([1]), json!({"a": 1}), json!(true)] {
                let same_type = std::mem::discriminant(value) == std::mem::discriminant(&wrong);
                // Options keep values of any type; DiscoveryData is stored unchanged.
                if same_type || field == "DiscoveryData" {
                    continue;
                }
                let body = json!({ field: wrong }).to_string();
                assert!(decode(method, body.as_bytes()).is_err(), "{method:?} {body}");
            }
        }
        for broken in ["x", "{", "null", "\"\"", "1", "{}{}", "{\"a\":}", "\u{feff}{}", " "] {
            assert!(decode(method, broken.as_bytes()).is_err(), "{method:?} {broken:?}");
        }
        assert!(decode(method, &[0xff, 0xfe]).is_err());
        // An infinitely nested value is refused where it would be stored, and skipped elsewhere.
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for field in ["Options", "DiscoveryData"].iter().filter(|field| zero.get(field).is_some()) {
            let body = format!("{{\"{field}\":{{\"a\":{deep}}}}}");
            assert!(decode(method, body.as_bytes()).is_err(), "{method:?} {field}");
        }
        assert_eq!(decode(method, format!("{{\"a\":{deep}}}").as_bytes()).unwrap(), Decoded::Request(zero));
    }
}

#[test]
fn published_ports_decode_in_the_engines_format() {
    let one = r#"{"Proto":17,"IP":"","Port":90,"HostIP":"127.0.0.1","HostPort":9000,"HostPortEnd":9001}"#;
    let expected =
        PortBinding { proto: 17, port: 90, host_ip: "127.0.0.1".into(), host_port: 9000, host_port_end: 9001 };
    assert_eq!(serde_json::from_str::<PortBinding>(one).unwrap(), expected);
    for wrong in [r#"{"Port":65536}"#, r#"{"Port":-1}"#, r#"{"Proto":256}"#, r#"{"HostPort":"80"}"#] {
        assert!(serde_json::from_str::<PortBinding>(wrong).is_err(), "{wrong}");
    }
}

/// Compares an answer with the exact text for the engine, and reads it back.
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(answer: T, text: &str) {
    assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    assert_eq!(serde_json::from_str::<T>(text).unwrap(), answer);
}

#[test]
fn answers_of_the_network_half() {
    let kinds = vec!["NetworkDriver".to_owned(), "IpamDriver".to_owned()];
    golden(Manifest { implements: kinds }, r#"{"Implements":["NetworkDriver","IpamDriver"]}"#);
    golden(Empty {}, "{}");
    golden(
        network::CapabilitiesResponse {
            scope: network::Scope::Local,
            connectivity_scope: network::Scope::Global,
            gw_alloc_checker: true,
        },
        r#"{"Scope":"local","ConnectivityScope":"global","GwAllocChecker":true}"#,
    );
    golden(
        network::GwAllocCheckResponse { skip_ipv4: true, skip_ipv6: false },
        r#"{"SkipIPv4":true,"SkipIPv6":false}"#,
    );
    golden(network::OperInfoResponse::default(), r#"{"Value":{}}"#);
    let options = [("test.vni", "4097"), ("k", "v")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    golden(network::AllocateNetworkResponse { options }, r#"{"Options":{"k":"v","test.vni":"4097"}}"#);
}

#[test]
fn an_endpoint_answer_has_only_blank_fields() {
    golden(network::CreateEndpointResponse { interface: None }, "{}");
    let mac = network::Interface { mac_address: "02:42:0a:00:00:02".into(), ..Default::default() };
    golden(
        network::CreateEndpointResponse { interface: Some(mac) },
        r#"{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:42:0a:00:00:02"}}"#,
    );
}

#[test]
fn join_omits_unset_fields() {
    let interface_name = network::InterfaceName { src_name: "veth0123".into(), dst_prefix: "eth".into() };
    let mut answer = network::JoinResponse {
        interface_name,
        gateway: String::new(),
        gateway_ipv6: String::new(),
        static_routes: Vec::new(),
        disable_gateway_service: false,
    };
    golden(answer.clone(), r#"{"InterfaceName":{"SrcName":"veth0123","DstPrefix":"eth"}}"#);
    answer.gateway_ipv6 = "fd00::1".into();
    golden(answer.clone(), r#"{"InterfaceName":{"SrcName":"veth0123","DstPrefix":"eth"},"GatewayIPv6":"fd00::1"}"#);
    answer.gateway = "10.0.0.1".into();
    answer.disable_gateway_service = true;
    golden(
        answer,
        r#"{"InterfaceName":{"SrcName":"veth0123","DstPrefix":"eth"},"Gateway":"10.0.0.1","GatewayIPv6":"fd00::1","DisableGatewayService":true}"#,
    );
}

#[test]
fn answers_of_the_ipam_half() {
    golden(
        ipam::CapabilitiesResponse { requires_mac_address: false, requires_request_replay: false },
        r#"{"RequiresMACAddress":false,"RequiresRequestReplay":false}"#,
    );
    golden(
        ipam::AddressSpacesResponse {
            local_default_address_space: "test-local".into(),
            global_default_address_space: "test-global".into(),
        },
        r#"{"LocalDefaultAddressSpace":"test-local","GlobalDefaultAddressSpace":"test-global"}"#,
    );
    golden(
        ipam::RequestPoolResponse { pool_id: "p".into(), pool: "10.0.0.0/24".into(), data: BTreeMap::new() },
        r#"{"PoolID":"p","Pool":"10.0.0.0/24","Data":{}}"#,
    );
    golden(
        ipam::RequestAddressResponse { address: "10.0.0.2/24".into(), data: BTreeMap::new() },
        r#"{"Address":"10.0.0.2/24","Data":{}}"#,
    );
}

#[test]
fn the_check_for_loss_detects_loss() {
    let sent = json!({"a": [{"b": null, "c": 1}], "d": ""});
    assert_eq!(lost(&sent, &json!({"a": [{"b": "", "c": 1}], "d": "", "e": 0}), ""), None);
    for kept in [
        json!({"d": ""}),
        json!({"a": [], "d": ""}),
        json!({"a": [{"c": 2}], "d": ""}),
        json!({"a": [{"b": "x", "c": 1}], "d": ""}),
    ] {
        assert!(lost(&sent, &kept, "").is_some(), "{kept}");
    }
}
