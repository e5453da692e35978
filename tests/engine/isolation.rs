//! Connections that must not be possible.

use serde_json::Value;

use crate::doctor::shell;
use testkit::{
    Address, Options, Segment,
    testbed::{Testbed, on_both},
};

#[test]
fn two_networks_are_isolated() {
    on_both(isolated);
}

fn isolated(testbed: &Testbed) {
    testbed.network("net-a", &["--subnet", "10.96.1.0/24", "--ipv6", "--subnet", "fd96:1::/64"]);
    testbed.network("net-b", &["--subnet", "10.96.2.0/24", "--ipv6", "--subnet", "fd96:2::/64"]);
    testbed.run_container("at-a", &["--network", "net-a"]);
    testbed.run_container("at-b", &["--network", "net-b"]);
    testbed.run_container("both", &["--network", "net-a"]);
    testbed.docker(&["network", "connect", "net-b", "both"]).ok();
    for one in ["at-a", "at-b"] {
        testbed.names("both", "-4", one);
        testbed.names("both", "-6", one);
    }
    closed(testbed, "at-a", "at-b", &testbed.container_addr("at-b", "net-b"));
    closed(testbed, "at-b", "at-a", &testbed.container_addr("at-a", "net-a"));
    closed(testbed, "at-a", "both", &testbed.container_addr("both", "net-b"));
    closed(testbed, "at-b", "both", &testbed.container_addr("both", "net-a"));
    if testbed.is_pontoon() {
        shown(testbed);
    }
}

/// What the commands that list say of these networks.
fn shown(testbed: &Testbed) {
    let ask = |command: &str| {
        let output = shell(testbed, &format!("pontoon {command} --docker /lab/docker.sock -o json"));
        let code = output.status.and_then(|status| status.code());
        (
            code,
            serde_json::from_str::<Value>(&output.stdout)
                .unwrap_or_else(|error| panic!("{command}: {error}: {output}")),
        )
    };
    let explained = |from: &str, to: &str| {
        let output = shell(testbed, &format!("pontoon explain {from} {to} --docker /lab/docker.sock --json"));
        let answer: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
        (output.status.and_then(|status| status.code()), answer["verdict"].as_str().unwrap_or_default().to_owned())
    };
    let is = |code, verdict: &str| (Some(code), verdict.to_owned());
    assert_eq!(explained("both", "at-a:8080"), is(0, "ACCEPTED"));
    assert_eq!(explained("at-a", "at-b:8080"), is(1, "DROPPED"));
    assert_eq!(explained("at-a", "both:8081"), is(1, "NO_LISTENER"));
    let (code, status) = ask("status");
    assert_eq!((code, &status["health"], &status["schema"]), (Some(0), &"healthy".into(), &1.into()), "{status:#}");
    let names: Vec<&str> =
        status["networks"].as_array().into_iter().flatten().filter_map(|n| n["name"].as_str()).collect();
    assert!(names.contains(&"net-a") && names.contains(&"net-b"), "{status:#}");
    assert!(status["dropped_packets"].as_u64() > Some(0), "{status:#}");
    let (_, list) = ask("ls");
    let endpoints = list["endpoints"].as_array().cloned().unwrap_or_default();
    let of = |name: &str| endpoints.iter().filter(|endpoint| endpoint["container"]["name"] == name).count();
    assert_eq!((of("at-a"), of("both")), (1, 2), "{list:#}");
    let (_, both) = ask("inspect both");
    assert_eq!(both["endpoints"].as_array().map(Vec::len), Some(2), "{both:#}");
    let own_pool =
        ["network", "create", "-d", "pontoon", "--ipam-driver", "pontoon", "--subnet", "10.96.9.0/24", "pooled"];
    testbed.docker(&own_pool).ok();
    let (_, pools) = ask("pools");
    testbed.docker(&["network", "rm", "pooled"]).ok();
    let subnets: Vec<&str> =
        pools["pools"].as_array().into_iter().flatten().filter_map(|p| p["subnet"].as_str()).collect();
    assert!(subnets.contains(&"10.96.9.0/24"), "{pools:#}");
    let drops = shell(testbed, "pontoon drops").ok();
    assert!(drops.contains("all other traffic into a network"), "{drops}");
    // A pipe that is closed ends the command quietly, and a wrong name is helped.
    assert_eq!(
        shell(testbed, "pontoon ls --docker /lab/docker.sock | head -0; echo ${PIPESTATUS[0]}").ok().trim(),
        "0"
    );
    let wrong = shell(testbed, "pontoon inspect net-c --docker /lab/docker.sock");
    assert!(!wrong.success() && wrong.stderr.contains("did you mean net-a or net-b?"), "{wrong}");
    // Without the engine, ids are shown, and the answer is not late.
    let nameless = shell(testbed, "pontoon ls --docker /nowhere");
    assert!(nameless.success() && nameless.stderr.contains("names are missing"), "{nameless}");
}

/// Neither a ping nor a connection succeeds, although the server runs.
#[track_caller]
fn closed(testbed: &Testbed, from: &str, server: &str, at: &Address) {
    testbed.exec_in(server, &["sh", "-c", "pidof httpd >/dev/null || httpd -p 8080 -h /etc"]).ok();
    let mut addresses = vec![at.v4.expect("an address").to_string()];
    testbed.host_gets(&format!("{}:8080", addresses[0]));
    // Before 27 the built-in driver does not filter IPv6.
    if testbed.is_pontoon() || testbed.engine >= 27 {
        addresses.extend(at.v6.map(|v6| v6.to_string()));
    }
    testbed.shut_out(from, &addresses);
}

#[test]
fn networks_of_pontoon_and_of_the_built_in_driver_are_isolated() {
    on_both(neighbours);
}

fn neighbours(testbed: &Testbed) {
    testbed.network("ours", &["--subnet", "10.97.1.0/24", "--ipv6", "--subnet", "fd97:1::/64"]);
    let theirs = ["--subnet", "10.97.2.0/24", "--ipv6", "--subnet", "fd97:2::/64"];
    testbed.create_network("bridge", "theirs", &theirs).ok();
    testbed.run_container("at-ours", &["--network", "ours"]);
    testbed.run_container("at-theirs", &["--network", "theirs"]);
    testbed.run_container("at-default", &[]);
    let (ours, theirs) = (testbed.container_addr("at-ours", "ours"), testbed.container_addr("at-theirs", "theirs"));
    let default = testbed.container_addr("at-default", "bridge");
    closed(testbed, "at-ours", "at-theirs", &theirs);
    closed(testbed, "at-ours", "at-default", &default);
    closed(testbed, "at-theirs", "at-ours", &ours);
    closed(testbed, "at-default", "at-ours", &ours);
    // A container on both networks reaches either.
    testbed.docker(&["network", "connect", "theirs", "at-ours"]).ok();
    testbed.names("at-ours", "-4", "at-theirs");
    testbed.docker(&["network", "connect", "ours", "at-default"]).ok();
    testbed.names("at-ours", "-4", "at-default");
}

#[test]
fn a_published_port_of_the_built_in_driver_stays_reachable() {
    let segment = Segment::up();
    testkit::testbed::on_both_with(Options::new().uplink(&segment, 1), published);
}

/// By the host's address, as from everywhere.
fn published(testbed: &Testbed) {
    testbed.network("ours", &[]);
    testbed.create_network("bridge", "theirs", &[]).ok();
    testbed.run_container("at-ours", &["--network", "ours"]);
    testbed.run_container("web", &["--network", "theirs", "-p", "8088:8080"]);
    testbed.serve("web", 8080);
    testbed.ping_soon("at-ours", "192.168.77.1");
    testbed.host_gets("192.168.77.1:8088");
    testbed.gets("at-ours", "192.168.77.1:8088");
}

#[test]
fn without_icc_containers_reach_only_the_host() {
    on_both(icc);
}

fn icc(testbed: &Testbed) {
    let icc = ["-o", "com.docker.network.bridge.enable_icc=false"];
    testbed.network("net", &[&["--subnet", "10.98.0.0/24", "--ipv6", "--subnet", "fd98::/64"][..], &icc].concat());
    testbed.network("open", &[]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.run_container("three", &["--network", "open"]);
    testbed.docker(&["network", "connect", "net", "three"]).ok();
    let two = testbed.container_addr("two", "net");
    let (v4, v6) = (two.v4.expect("an address").to_string(), two.v6.expect("an address").to_string());
    testbed.serve("two", 8080);
    for gateway in ["10.98.0.1", "fd98::1"] {
        testbed.ping_soon("one", gateway);
    }
    testbed.host_gets(&format!("{v4}:8080"));
    let mut addresses = vec![v4.clone()];
    if testbed.is_pontoon() || testbed.engine >= 27 {
        addresses.push(v6);
    }
    for from in ["one", "three"] {
        testbed.shut_out(from, &addresses);
    }
    // Names are resolved by the engine, inside the container.
    assert!(testbed.exec_in("one", &["nslookup", "two", "127.0.0.11"]).ok().contains(&v4));
}
