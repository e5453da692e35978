//! Values in recorded requests: Pontoon's type for a field accepts all values that engines send. The decoding itself is
//! tested in crates/libnetwork-plugin.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use pontoon::api::Method;
use pontoon::api::network::{PortBinding, key};
use pontoon::model::{EndpointId, Mac, NetworkId, NetworkOptions};
use serde_json::Value;

#[path = "../crates/libnetwork-plugin/tests/recorded/mod.rs"]
mod recorded;

use recorded::decode::Decoded;
use recorded::{Sent, fixtures};

/// Pontoon's type for a field has to accept every value that an engine sends.
fn values_parse(sent: &Sent, kept: &Value) {
    let at = format!("{}: {}", sent.from, sent.path);
    if let Some(id) = kept["NetworkID"].as_str() {
        NetworkId::parse(id).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    if let Some(id) = kept["EndpointID"].as_str() {
        EndpointId::parse(id).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    let cidr = |value: &Value| {
        let text = value.as_str().unwrap_or("");
        assert!(text.is_empty() || text.parse::<IpNetwork>().is_ok(), "{at}: {text} is not address/prefix");
    };
    for field in ["Address", "AddressIPv6"] {
        cidr(&kept["Interface"][field]);
    }
    for field in ["Pool", "SubPool"] {
        cidr(&kept[field]);
    }
    for family in ["IPv4Data", "IPv6Data"] {
        for data in kept[family].as_array().into_iter().flatten() {
            cidr(&data["Pool"]);
            cidr(&data["Gateway"]);
            data["AuxAddresses"].as_object().unwrap().values().for_each(cidr);
        }
    }
    match kept["Interface"]["MacAddress"].as_str() {
        None | Some("") => {}
        Some(mac) => {
            Mac::parse(mac).unwrap_or_else(|e| panic!("{at}: {e}"));
        }
    }
    let options = &kept["Options"];
    if let Some(ports) = options.get(key::PORT_MAP) {
        let bindings: Vec<PortBinding> = serde_json::from_value(ports.clone()).unwrap();
        for binding in bindings {
            assert!(binding.port > 0 && [6, 17, 132].contains(&binding.proto), "{at}: {binding:?}");
            assert!(binding.host_port <= binding.host_port_end, "{at}: {binding:?}");
            assert!(binding.host_ip.is_empty() || binding.host_ip.parse::<std::net::IpAddr>().is_ok(), "{at}");
        }
    }
    if matches!(sent.method(), Method::CreateNetwork | Method::GwAllocCheck) {
        let generic: BTreeMap<String, String> = serde_json::from_value(options[key::GENERIC].clone()).unwrap();
        // Some options of the captures are invented; a refusal must nevertheless be one readable line.
        if let Err(refusal) = NetworkOptions::parse(&generic) {
            assert!(!refusal.to_string().contains('\n'), "{at}: {refusal}");
        }
    }
}

#[test]
fn every_recorded_value_parses() {
    let mut checked = 0;
    for sent in fixtures() {
        if let Decoded::Request(kept) = sent.decoded() {
            values_parse(&sent, &kept);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}
