use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn parse(pairs: &[(&str, &str)]) -> Result<NetworkOptions, OptionError> {
    NetworkOptions::parse(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(parse(&[]).unwrap(), NetworkOptions::default());
}

#[test]
fn every_supported_row_parses_to_its_field() {
    let options = parse(&[
        (BRIDGE_NAME, "br-test"),
        (MTU, "1400"),
        (ENABLE_ICC, "false"),
        (ENABLE_MASQUERADE, "0"),
        (INHIBIT_IPV4, "T"),
        (IFACE_PREFIX, "net"),
        ("com.docker.network.enable_ipv6", "true"),
    ])
    .unwrap();
    let expected = NetworkOptions {
        bridge_name: Some(IfName::parse("br-test").unwrap()),
        mtu: Some(1400),
        icc: false,
        masquerade: false,
        inhibit_ipv4: true,
        iface_prefix: "net".into(),
        ..NetworkOptions::default()
    };
    assert_eq!(options, expected);
    assert_eq!(parse(&[(MTU, "0")]).unwrap().mtu, None);
}

#[test]
fn a_typing_error_names_the_option_that_was_meant() {
    for (typed, meant) in [
        ("com.docker.network.bridge.enable_ic", ENABLE_ICC),
        ("com.docker.network.bridge.enable_IP_masqerade", ENABLE_MASQUERADE),
        ("mtu", MTU),
        ("com.docker.network.drivr.mtu", MTU),
        ("bridge.name", BRIDGE_NAME),
    ] {
        let error = parse(&[(typed, "1")]).unwrap_err();
        assert_eq!(error, OptionError::Unknown { key: typed.into(), nearest: Some(meant) });
        assert!(error.to_string().contains(meant) && error.to_string().contains(typed));
    }
    let named = parse(&[("bridge.name", "1")]).unwrap_err().to_string();
    assert!(named.contains("Name of the bridge"), "{named}");
    // A user who names a link with another option does not mean the bridge: one called lan0 would be created.
    for other in ["name", "com.docker.network.link.name", "com.docker.network.interface.name", "link"] {
        let text = parse(&[(other, "lan0")]).unwrap_err().to_string();
        assert!(!text.contains("did you mean"), "{text}");
    }
    let far = parse(&[("colour", "red")]).unwrap_err().to_string();
    assert!(far.contains("colour") && far.contains("pontoon options"), "{far}");
    assert!(parse(&[(&"x".repeat(5000), "")]).unwrap_err().to_string().len() < 300);
}

#[test]
fn bad_values_name_option_value_and_form() {
    for (key, value) in [
        (MTU, "67"),
        (MTU, "65536"),
        (MTU, "-1"),
        (MTU, "big"),
        (MTU, ""),
        (ENABLE_ICC, "yes"),
        (ENABLE_ICC, ""),
        (BRIDGE_NAME, "a/b"),
        (BRIDGE_NAME, ""),
        (IFACE_PREFIX, "thirteenchars"),
        (IFACE_PREFIX, ""),
        (IFACE_PREFIX, "e h"),
    ] {
        let text = parse(&[(key, value)]).unwrap_err().to_string();
        assert!(text.contains(key) && text.contains(&format!("{value:?}")), "{text}");
    }
}

#[test]
fn options_of_the_outside() {
    let options = parse(&[
        (GATEWAY_MODE_4, "routed"),
        (GATEWAY_MODE_6, "nat-unprotected"),
        (HOST_BINDING, "127.0.0.1"),
        (TRUSTED, "eth1:wg0"),
        (HOST_IPV4, "192.0.2.7"),
        (HOST_IPV6, "2001:db8::7"),
        (ALLOW, "192.0.2.0/24, 2001:db8::/32,198.51.100.7,192.0.2.9"),
        (SPOOFCHECK, "false"),
    ])
    .unwrap();
    assert_eq!((options.mode4, options.mode6), (GatewayMode::Routed, GatewayMode::NatUnprotected));
    assert_eq!(options.host_binding.unwrap().to_string(), "127.0.0.1");
    assert_eq!(options.trusted.len(), 2);
    // Subnets that another one covers are left out.
    let allow: Vec<_> = options.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]);
    assert!(!options.spoofcheck);
    assert_eq!(parse(&[(HOST_BINDING, "0.0.0.0")]).unwrap().host_binding, None);
    for (key, value) in [
        (GATEWAY_MODE_4, "bridged"),
        (HOST_BINDING, "everywhere"),
        (TRUSTED, "eth1:a/b"),
        (HOST_IPV4, "::1"),
        (HOST_IPV6, "1.2.3.4"),
        (ALLOW, "10.0.0.1/8"),
        (ALLOW, ""),
    ] {
        assert!(parse(&[(key, value)]).unwrap_err().to_string().contains(key), "{key}={value}");
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let text = parse(&[("com.docker.network.bridge.default_bridge", "true")]).unwrap_err().to_string();
    assert!(text.contains("default_bridge") && text.contains("not supported"), "{text}");
}

#[test]
fn endpoint_options() {
    let mut options = EndpointOptions::default();
    options.take(table::SYSCTLS, "x=1").unwrap();
    options.take(ALLOW, "10.0.0.0/8").unwrap();
    options.take(SPOOFCHECK, "0").unwrap();
    assert_eq!((options.allow.as_ref().map(Vec::len), options.spoofcheck), (Some(1), Some(false)));
    let mut refuse = |key: &str| options.take(key, "").unwrap_err().to_string();
    assert!(refuse("com.docker.network.endpoint.sysctl").contains(table::SYSCTLS));
    assert!(refuse("com.docker.network.endpoint.ifname").contains("container_iface_prefix"));
}

/// Keys of the table, and values of which some fit.
fn given() -> impl Strategy<Value = (String, String)> {
    let keys = NETWORK_OPTIONS.iter().chain(ENDPOINT_OPTIONS).map(|row| row.key.to_owned()).collect::<Vec<_>>();
    let values = "true|false|0|7|1500|4095|eth0|eth0\\.40|routed|l3s|bridge|auto|accept|50-59,70|50mbit|32kb|50/s|10\\.0\\.0\\.0/8,fd00::/8|192\\.0\\.2\\.1";
    (prop_oneof![9 => select(keys), 1 => "\\PC{0,40}"], prop_oneof![3 => values, 1 => "\\PC{0,200}"])
}

proptest! {
    /// The ledger has what was parsed, and the engine shows the user one line.
    #[test]
    fn any_options_are_kept_or_refused_in_one_line(pairs in vec(given(), 0..6)) {
        let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
        match NetworkOptions::parse(&pairs) {
            Ok(options) => {
                let written = serde_json::to_string(&options).unwrap();
                prop_assert_eq!(serde_json::from_str::<NetworkOptions>(&written).unwrap(), options);
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert!(!text.contains('\n') && text.len() < 1200, "{}", text);
                prop_assert!(pairs.keys().any(|key| text.contains(&shorten(key)) || text.contains(&format!("{:?}", shorten(key)))), "{}", text);
            }
        }
        for (key, value) in &pairs {
            let mut options = EndpointOptions::default();
            if options.take(key, value).is_ok() {
                let written = serde_json::to_string(&options).unwrap();
                prop_assert_eq!(serde_json::from_str::<EndpointOptions>(&written).unwrap(), options);
            }
        }
    }
}
