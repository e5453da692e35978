//! Invalid bodies, paths and connections: answered with an error message, never with a panic, and without side effects.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pontoon::api::Method;
use serde_json::json;

use testkit::harness::{Harness, endpoint, network, read_reply, request};

#[test]
fn malformed_bodies_are_400_with_err() {
    let harness = Harness::new();
    for (method, path, _) in Method::ALL {
        if method.has_no_body() {
            continue;
        }
        for body in [&b"{"[..], b"null", b"[]", b"7", b"\"x\"", b"{\"NetworkID\":7}", b"\xff\xfe", b"{}{}", b" "] {
            let reply = request(&harness.life().socket, "POST", path, body);
            let text = reply.json()["Err"].as_str().map(str::to_owned);
            let shown = String::from_utf8_lossy(body);
            match reply.status {
                400 => assert!(text.unwrap().contains(path), "{path} {shown}"),
                // A well-formed body without any field may also be refused by the handler, or be harmless
                // (EndpointOperInfo).
                200 => {}
                other => panic!("{path} {shown}: {other} {}", reply.body),
            }
        }
    }
    assert_eq!(harness.life().driver.sizes(), (0, 0));
}

#[test]
fn an_empty_body_is_an_engine_retry_and_is_refused() {
    let harness = Harness::new();
    for (method, path, _) in Method::ALL {
        let reply = request(&harness.life().socket, "POST", path, b"");
        if method.has_no_body() {
            assert_eq!(reply.status, 200, "{path}");
        } else {
            assert_eq!(reply.status, 400, "{path}");
            assert!(reply.json()["Err"].as_str().unwrap().contains("no body"), "{path}");
        }
    }
}

#[test]
fn unknown_paths_and_verbs() {
    let harness = Harness::new();
    let socket = &harness.life().socket;
    for path in
        ["/", "/NetworkDriver.Nope", "/../etc/passwd", "/VolumeDriver.Create", &format!("/{}", "x".repeat(5000))]
    {
        let reply = request(socket, "POST", path, b"{}");
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.json()["Err"].as_str().unwrap().len() < 300);
    }
    assert_eq!(request(socket, "GET", "/NetworkDriver.Join", b"").status, 405);
    let metrics = request(socket, "GET", "/metrics", b"");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("pontoon_networks 0"), "{}", metrics.body);
}

#[test]
fn oversized_bodies_are_413() {
    let harness = Harness::new();
    let mut body = network("aa", 1, false).to_string();
    body.push_str(&" ".repeat(2 << 20));
    let reply = request(&harness.life().socket, "POST", "/NetworkDriver.CreateNetwork", body.as_bytes());
    assert_eq!(reply.status, 413);
    assert!(reply.json()["Err"].as_str().unwrap().contains("1048576"));
    let deep = format!("{{\"NetworkID\":\"aa\",\"Options\":{}1{}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    assert_eq!(request(&harness.life().socket, "POST", "/NetworkDriver.CreateNetwork", deep.as_bytes()).status, 400);
    assert_eq!(harness.life().driver.sizes().0, 0);
}

#[test]
fn slow_and_silent_clients_block_no_other_client() {
    let harness = Harness::new();
    let idle: Vec<_> = (0..100).map(|_| UnixStream::connect(&harness.life().socket).unwrap()).collect();
    let mut slow = UnixStream::connect(&harness.life().socket).unwrap();
    slow.write_all(b"POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    drop(slow);
    drop(idle);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
}

#[test]
fn one_connection_serves_many_requests_without_a_host_header() {
    let harness = Harness::new();
    let mut stream = UnixStream::connect(&harness.life().socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..3 {
        // As written by engine 20.10: an empty Host, no Content-Type.
        stream
            .write_all(b"POST /NetworkDriver.GetCapabilities HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let reply = read_reply(&mut stream).unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json(), json!({"Scope": "local", "ConnectivityScope": "local", "GwAllocChecker": true}));
        assert!(reply.headers.to_ascii_lowercase().contains("content-length"));
    }
}

#[test]
fn a_disconnect_does_not_cancel_the_request() {
    let harness = Harness::new();
    let body = network("aa", 1, false).to_string();
    let mut stream = UnixStream::connect(&harness.life().socket).unwrap();
    write!(
        stream,
        "POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    drop(stream);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while harness.life().driver.sizes().0 == 0 || harness.kernel.datapath().bridges().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the request was never handled");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
}

#[test]
fn a_thousand_clients_are_served_at_once() {
    allow_descriptors();
    let harness = Harness::new();
    let ask = b"POST /NetworkDriver.GetCapabilities HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let before = resident();
    let mut clients: Vec<_> = (0..1000).map(|_| UnixStream::connect(&harness.life().socket).unwrap()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            client.write_all(ask).unwrap();
        }
        for client in &mut clients {
            assert_eq!(read_reply(client).unwrap().status, 200);
        }
    }
    let each = (resident() - before) / 1000;
    eprintln!("{each} kB for each connection");
    // 97 without optimisation; each buffer or runtime more is at least 32.
    assert!(each < 128, "{each} kB for each connection");
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
}

/// Resident memory of this process, in kilobytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Raises the limit of open files: both ends of all connections are in this process.
fn allow_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[test]
fn invalid_values_are_named_and_have_no_effect() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let mut mac = endpoint("aa", "e1", "10.1.0.2/24");
    mac["Interface"]["MacAddress"] = json!("ff:ff:ff:ff:ff:ff");
    for (body, says) in [
        (endpoint("aa", "e1", "999.1.1.1/24"), "999.1.1.1"),
        (endpoint("aa", "e1", "10.1.0.2/99"), "10.1.0.2/99"),
        (endpoint("aa", "e1", "fd00::1/64"), "fd00::1"),
        (endpoint("aa", &"e".repeat(500), "10.1.0.2/24"), "500 bytes"),
        (endpoint("aa", "../../etc", "10.1.0.2/24"), "EndpointID"),
        (endpoint("aa", "", "10.1.0.2/24"), "EndpointID"),
        (mac, "multicast"),
    ] {
        let text = harness.err("NetworkDriver.CreateEndpoint", body);
        assert!(text.contains(says) && text.len() < 300, "{text}");
    }
    assert!(harness.kernel.datapath().veths().is_empty());
}

/// A body of CreateNetwork with other subnets and options.
fn shaped(v4: &serde_json::Value, v6: &serde_json::Value, options: &serde_json::Value) -> serde_json::Value {
    let mut body = network("bb", 9, !v6.is_null());
    body["IPv4Data"] = json!([v4]);
    if !v6.is_null() {
        body["IPv6Data"] = json!([v6]);
    }
    for (key, value) in options.as_object().unwrap() {
        match key.as_str() {
            "internal" => body["Options"]["com.docker.network.internal"] = value.clone(),
            key => body["Options"]["com.docker.network.generic"][key] = value.clone(),
        }
    }
    body
}

#[test]
fn unusable_networks_are_refused_with_a_remedy() {
    let harness = Harness::new();
    let (none, plain) = (json!({}), json!({"Pool": "10.9.0.0/24", "Gateway": "10.9.0.1/24"}));
    let pool = |pool: &str| json!({"Pool": pool});
    let null = serde_json::Value::Null;
    let mode = |family: u8| format!("com.docker.network.bridge.gateway_mode_ipv{family}");
    let mut cases = vec![
        (pool("127.0.0.0/8"), null.clone(), none.clone(), "every host keeps to itself"),
        (pool("255.255.255.0/24"), null.clone(), none.clone(), "255.255.255.255"),
        (pool("224.0.0.0/24"), null.clone(), none.clone(), "multicast"),
        (pool("0.1.0.0/24"), null.clone(), none.clone(), "0.0.0.0/8"),
        (plain.clone(), pool("::1/128"), none.clone(), "loopback"),
        (plain.clone(), pool("fe80::/64"), none.clone(), "fe80::/10"),
        (plain.clone(), pool("ff02::/64"), none.clone(), "multicast"),
        (plain.clone(), pool("::ffff:10.0.0.0/112"), none.clone(), "IPv4"),
        (json!({"Pool": "10.9.0.0/24", "Gateway": "10.9.0.255/24"}), null.clone(), none.clone(), "broadcast"),
        (json!({"Pool": "10.9.0.0/24", "Gateway": "10.9.0.0/24"}), null.clone(), none.clone(), "network address"),
        (
            json!({"Pool": "10.9.0.0/24", "AuxAddresses": {"DefaultGatewayIPv4": "10.9.0.255/24"}}),
            null.clone(),
            none.clone(),
            "default gateway 10.9.0.255",
        ),
    ];
    for key in [mode(4), mode(6)] {
        for value in ["routed", "nat-unprotected"] {
            cases.push((plain.clone(), null.clone(), json!({"internal": true, &key: value}), "--internal"));
        }
    }
    for (key, value, says) in [
        ("com.docker.network.bridge.trusted_host_interfaces", "eth0,eth1", "':'"),
        ("com.docker.network.bridge.trusted_host_interfaces", "eth0 eth1", "' '"),
        ("com.docker.network.bridge.name", "docker0", "Docker's own"),
        ("com.docker.network.bridge.name", "docker_gwbridge", "Docker's own"),
        ("com.docker.network.bridge.name", "br-0123456789ab", "Docker's own"),
        ("com.docker.network.bridge.name", "all", "several links"),
        ("com.docker.network.bridge.name", "default", "several links"),
        ("com.docker.network.bridge.name", "lan+", "several links"),
        ("com.docker.network.bridge.host_binding_ipv4", "224.0.0.1", "host_binding_ipv4"),
        ("com.docker.network.bridge.host_binding_ipv4", "255.255.255.255", "host_binding_ipv4"),
        ("com.docker.network.bridge.host_binding_ipv4", "fe80::1", "host_binding_ipv4"),
        ("com.docker.network.host_ipv4", "0.0.0.0", "host_ipv4"),
        ("com.docker.network.host_ipv4", "127.0.0.1", "host_ipv4"),
        ("com.docker.network.host_ipv4", "fd00::1", "IPv4 address"),
        ("com.docker.network.host_ipv6", "::", "host_ipv6"),
        ("com.docker.network.host_ipv6", "fe80::1", "host_ipv6"),
        ("com.docker.network.host_ipv6", "::ffff:192.0.2.1", "host_ipv6"),
        ("pontoon.publish.allow", "", "subnets"),
        ("pontoon.publish.allow", "10.0.0.1/8", "subnets"),
        ("pontoon.publish.allow", "10.0.0.0/8:fd00::/8", "subnets"),
        ("com.docker.network.driver.mtu", "-1", "68 to 65535"),
        ("com.docker.network.driver.mtu", "1500 bytes", "68 to 65535"),
        ("com.docker.network.bridge.enable_icc", "maybe", "true or false"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "isolated", "--internal"),
        ("com.docker.network.container_iface_prefix", "a/b", "character"),
        ("pontoon.vni", "0", "16777215"),
        ("pontoon.multicast", "false", "pontoon.vni"),
        ("pontoon.spoofchek", "false", "pontoon.spoofcheck"),
        ("colour", "blue", "pontoon options"),
    ] {
        cases.push((plain.clone(), null.clone(), json!({ key: value }), says));
    }
    for (v4, v6, options, says) in cases {
        let text = harness.err("NetworkDriver.CreateNetwork", shaped(&v4, &v6, &options));
        let line = text.contains(says) && text.len() < 300 && !text.contains('\n');
        assert!(line, "{v4} {v6} {options}: {text}");
    }
    assert_eq!(harness.life().driver.sizes(), (0, 0));
    assert!(harness.kernel.datapath().bridges().is_empty());
    // Unusual but valid combinations.
    let routed_alone = json!({"com.docker.network.bridge.gateway_mode_ipv6": "routed"});
    for (v4, options) in [
        (json!({"Pool": "169.254.170.0/24", "Gateway": "169.254.170.1/24"}), none.clone()),
        (json!({"Pool": "10.9.0.0/31", "Gateway": "10.9.0.0/31"}), none.clone()),
        (plain.clone(), routed_alone),
        (plain.clone(), json!({"internal": true, "pontoon.publish.allow": "10.0.0.0/8"})),
        (plain.clone(), json!({"com.docker.network.bridge.trusted_host_interfaces": "eth0:eth1"})),
    ] {
        harness.ok("NetworkDriver.CreateNetwork", shaped(&v4, &null, &options));
        harness.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": "bb"}));
    }
}

#[test]
fn unusable_subnets_are_refused_by_the_ipam_too() {
    let harness = Harness::new();
    let ask = |pool: &str| json!({"AddressSpace": "pontoon-local", "Pool": pool, "SubPool": "", "Options": {}, "V6": pool.contains("::")});
    for pool in ["127.0.0.0/8", "255.255.255.0/24", "239.0.0.0/24", "::1/128", "fe80::/64", "ff00::/64"] {
        let text = harness.err("IpamDriver.RequestPool", ask(pool));
        assert!(text.contains("--subnet") && text.contains("addresses of"), "{pool}: {text}");
    }
    let pool = harness.ok("IpamDriver.RequestPool", ask("10.9.0.0/24"))["PoolID"].clone();
    for (address, says) in [("10.9.0.0", "network"), ("10.9.0.255", "broadcast"), ("10.8.0.1", "not in pool")] {
        let body = json!({"PoolID": pool, "Address": address, "Options": {"RequestAddressType": "com.docker.network.gateway"}});
        let text = harness.err("IpamDriver.RequestAddress", body);
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn endpoints_cannot_have_reserved_addresses() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
    let mut six = endpoint("aa", "e1", "10.1.0.2/24");
    six["Interface"]["AddressIPv6"] = json!("fd01::1/64");
    for (body, says) in [
        (endpoint("aa", "e1", "10.1.0.1/24"), "gateway of the network"),
        (endpoint("aa", "e1", "10.1.0.0/24"), "network address"),
        (endpoint("aa", "e1", "10.1.0.255/24"), "broadcast address"),
        (endpoint("aa", "e1", "10.2.0.2/24"), "not in network"),
        (six, "gateway of the network"),
    ] {
        let text = harness.err("NetworkDriver.CreateEndpoint", body);
        assert!(text.contains(says) && text.contains("choose another") | text.contains("not in"), "{text}");
    }
    assert!(harness.kernel.datapath().veths().is_empty());
    // Where the bridge does not have the gateway's address, a container can be the router.
    let mut inhibited = network("bb", 2, false);
    inhibited["Options"]["com.docker.network.generic"] = json!({"com.docker.network.bridge.inhibit_ipv4": "true"});
    harness.ok("NetworkDriver.CreateNetwork", inhibited);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("bb", "e1", "10.2.0.1/24"));
}

#[test]
fn a_default_host_address_that_publishes_nothing_is_refused() {
    let harness = Harness::new();
    let mut body = network("aa", 1, false);
    body["Options"]["com.docker.network.generic"] = json!({"com.docker.network.bridge.host_binding_ipv4": "::1"});
    harness.ok("NetworkDriver.CreateNetwork", body);
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    let mut program = endpoint("aa", "e1", "10.1.0.2/24");
    program["Options"]["com.docker.network.portmap"] =
        json!([{"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}]);
    let text = harness.err("NetworkDriver.ProgramExternalConnectivity", program);
    assert!(text.contains("::1") && text.contains("--ipv6"), "{text}");
}

#[test]
fn each_cause_of_a_failed_reservation_has_its_own_remedy() {
    use pontoon::datapath::ReserveError;
    use pontoon::driver::Error;
    use pontoon::model::{HostPort, Protocol};
    let port = |address: &str| HostPort { protocol: Protocol::Tcp, address: address.parse().unwrap(), port: 80 };
    let refused = |address: &str, errno| ReserveError::Refused { port: port(address), errno };
    for (source, says, never) in [
        (ReserveError::Taken { port: port("0.0.0.0") }, "stop what uses it", "ip address"),
        (ReserveError::NoAddress { port: port("192.0.2.9") }, "ip address", "stop"),
        (refused("0.0.0.0", libc::EACCES), "CAP_NET_BIND_SERVICE", "stop"),
        (refused("0.0.0.0", libc::EMFILE), "LimitNOFILE", "stop"),
        (refused("fe80::1", libc::EINVAL), "link-local", "stop"),
        (refused("0.0.0.0", libc::EINVAL), "another port", "stop"),
    ] {
        let text = Error::Port { source }.to_string();
        assert!(text.contains(says) && !text.contains(never), "{text}");
    }
}
