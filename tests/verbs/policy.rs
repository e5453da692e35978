//! From options to the firewall: what each option changes in the policy, and the elements of nftables sets that
//! the change becomes. The text is tests/golden/policy.txt; UPDATE_GOLDEN=1 writes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use pontoon::datapath::{Policy, Underlay};
use pontoon::driver::OverlaySettings;
use pontoon::linux::firewall::elements::element;
use serde_json::{Value, json};

use super::rig::{Rig, endpoint, join, network};

const PREFIX: &str = "com.docker.network";

/// A line for one statement: its name, the set, and the element.
fn line(sign: &str, policy: &Policy) -> String {
    let name = format!("{policy:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
    let (set, element) = element(policy);
    format!("{sign} {name:<20} {} {{ {element} }}\n", set.spec().name)
}

/// The policy with one network of these options, with one container that publishes TCP port 8080 as 80.
fn policy(options: &Value, internal: bool) -> BTreeSet<Policy> {
    let rig = Rig::with(OverlaySettings::default(), |kernel| {
        let address = "192.0.2.1".parse().unwrap();
        kernel.set_underlay(None, Some(Underlay { address, mtu: 1500 }));
        for (name, kind) in [("lan0", "bridge"), ("docker0", "bridge")] {
            kernel.add_link(&pontoon::model::IfName::parse(name).unwrap(), kind);
        }
    });
    let mut body = network("aa", 1, true);
    body["Options"][format!("{PREFIX}.generic")] = options.clone();
    body["Options"][format!("{PREFIX}.internal")] = json!(internal);
    rig.ok("NetworkDriver.CreateNetwork", body);
    let mut body = endpoint("aa", "e1", "10.1.0.2/24");
    body["Interface"]["AddressIPv6"] = json!("fd01::2/64");
    rig.ok("NetworkDriver.CreateEndpoint", body);
    rig.ok("NetworkDriver.Join", join("aa", "e1"));
    if !internal {
        let port = json!({"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080});
        let body = json!({"NetworkID": "aa", "EndpointID": "e1", "Options": {format!("{PREFIX}.portmap"): [port]}});
        rig.ok("NetworkDriver.ProgramExternalConnectivity", body);
    }
    rig.kernel.datapath().policy.expect("the firewall exists")
}

fn cases() -> Vec<(&'static str, Value, bool)> {
    let bridge = |option: &str| format!("{PREFIX}.bridge.{option}");
    let (mode4, mode6) = (bridge("gateway_mode_ipv4"), bridge("gateway_mode_ipv6"));
    vec![
        ("--internal", json!({}), true),
        ("enable_icc=false", json!({bridge("enable_icc"): "false"}), false),
        ("enable_ip_masquerade=false", json!({bridge("enable_ip_masquerade"): "false"}), false),
        (
            "host_ipv4, host_ipv6",
            json!({format!("{PREFIX}.host_ipv4"): "192.0.2.77", format!("{PREFIX}.host_ipv6"): "2001:db8::77"}),
            false,
        ),
        ("mode routed", json!({&mode4: "routed", &mode6: "routed"}), false),
        ("mode nat-unprotected", json!({&mode4: "nat-unprotected", &mode6: "nat-unprotected"}), false),
        ("trusted_host_interfaces=eth1", json!({bridge("trusted_host_interfaces"): "eth1"}), false),
        ("host_binding_ipv4=192.0.2.1", json!({bridge("host_binding_ipv4"): "192.0.2.1"}), false),
        ("pontoon.publish.allow", json!({"pontoon.publish.allow": "192.0.2.0/24,2001:db8::/32"}), false),
        ("pontoon.spoofcheck=false", json!({"pontoon.spoofcheck": "false"}), false),
        ("a bridge of the user", json!({bridge("name"): "lan0"}), false),
        (
            "a bridge of the user, enable_icc=false",
            json!({bridge("name"): "lan0", bridge("enable_icc"): "false"}),
            false,
        ),
        ("pontoon.vni", json!({"pontoon.vni": "70000", "pontoon.peers": "192.0.2.7"}), false),
        ("pontoon.vni, pontoon.multicast=false", json!({"pontoon.vni": "70000", "pontoon.multicast": "false"}), false),
    ]
}

#[test]
fn each_option_changes_the_policy_as_written_down() {
    let default = policy(&json!({}), false);
    let mut text = String::from("# defaults, with port 8080 published as 80\n");
    default.iter().for_each(|policy| text += &line(" ", policy));
    for (title, options, internal) in cases() {
        let changed = policy(&options, internal);
        assert_ne!(changed, default, "{title} changes nothing");
        let _ = writeln!(text, "\n# {title}");
        default.difference(&changed).for_each(|policy| text += &line("-", policy));
        changed.difference(&default).for_each(|policy| text += &line("+", policy));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, written, "UPDATE_GOLDEN=1 cargo test --test verbs policy writes it");
}
