//! A container with very many published ports, and a low limit of open files.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::host::{Host, Network, Publish};
use testkit::daemon::Daemon;
use testkit::harness::{Dir, endpoint, join, network, of, request};
use testkit::topology::{UDP, ask, serve};

/// A tenth of the engine's timeout for a request; the daemon answers earlier that it is still working.
const PATIENCE: Duration = Duration::from_secs(10);

fn ports(first: u16, count: usize) -> Value {
    let one = |n: usize| {
        let port = first as usize + n;
        json!({"Proto": 17, "IP": "", "Port": port, "HostIP": "", "HostPort": port, "HostPortEnd": port})
    };
    (0..count).map(one).collect()
}

fn exposed(first: u16, count: usize) -> Value {
    (0..count).map(|n| json!({"Proto": 17, "Port": first as usize + n})).collect()
}

/// Calls a method with ports; returns its answer and how long it took.
fn call(daemon: &Daemon, method: &str, mut body: Value, first: u16, count: usize) -> (Value, Duration) {
    body["Options"] = json!({"com.docker.network.portmap": ports(first, count),
        "com.docker.network.endpoint.exposedports": exposed(first, count)});
    let body = body.to_string();
    let began = Instant::now();
    let reply = request(&daemon.socket, "POST", &format!("/NetworkDriver.{method}"), body.as_bytes());
    (reply.json(), began.elapsed())
}

fn publish(daemon: &Daemon, first: u16, count: usize) -> Value {
    for (method, body) in [("CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24")), ("Join", join("aa", "e1"))] {
        let (answer, took) = call(daemon, method, body, first, count);
        println!("{count} ports: {method} {took:?}");
        assert!(answer.get("Err").is_none(), "{answer}");
    }
    let (answer, took) = call(daemon, "ProgramExternalConnectivity", of("aa", "e1"), first, count);
    println!("{count} ports: ProgramExternalConnectivity {took:?}");
    assert!(took < PATIENCE, "{took:?}");
    answer
}

fn post(daemon: &Daemon, method: &str, body: &Value) -> Value {
    request(&daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes()).json()
}

fn leave(daemon: &Daemon) {
    for method in ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint"] {
        let began = Instant::now();
        let answer = post(daemon, &format!("NetworkDriver.{method}"), &of("aa", "e1"));
        println!("{method} {:?}", began.elapsed());
        assert!(answer.get("Err").is_none() && began.elapsed() < PATIENCE, "{answer}");
    }
}

#[test]
fn one_container_publishes_fifty_thousand_ports() {
    for (count, v6) in [(10_001, false), (50_000, false)] {
        let mut host = Host::start(&["--log", "warn"]);
        let daemon = host.daemon();
        post(daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, v6));
        let answer = publish(daemon, 10_000, count);
        if (getrlimit(Resource::RLIMIT_NOFILE).unwrap().1 as usize) < count + 600 {
            // The limit of open files cannot be raised that far here.
            let error = answer["Err"].as_str().unwrap();
            assert!(error.contains(&count.to_string()) && error.contains("limit"), "{error}");
            continue;
        }
        assert!(answer.get("Err").is_none(), "{answer}");
        // Repeated, as engines do, then with one port more and one less.
        for (first, count) in [(10_000, count), (10_000, count + 1), (10_001, count - 1)] {
            let (answer, took) = call(daemon, "ProgramExternalConnectivity", of("aa", "e1"), first, count);
            println!("changed: {took:?}");
            assert!(answer.get("Err").is_none() && took < PATIENCE, "{took:?} {answer}");
        }
        let elements = host.run("nft list map inet pontoon published4");
        let last = 10_000 + count - 1;
        assert!(
            elements.contains(&format!("udp . {last} : 10.1.0.2 . {last}")),
            "the last port is published: {}",
            elements.len()
        );
        println!("peak {} kB, {} descriptors", daemon.kilobytes("VmHWM"), daemon.descriptors());
        assert!(daemon.kilobytes("VmHWM") < 512 * 1024);
        let began = Instant::now();
        host.begin();
        println!("{count} ports: start {:?}", began.elapsed());
        leave(host.daemon());
        assert!(host.daemon().descriptors() < 200, "{}", host.daemon().descriptors());
    }
}

#[test]
fn too_many_ports_are_refused_with_their_number() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &["--log", "warn"]);
    post(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    post(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    let one = json!({"Proto": 17, "Port": 80, "HostPort": 80, "HostPortEnd": 80});
    for (count, words) in [(70_000, "70000"), (400_000, "published ports")] {
        let mut body = of("aa", "e1");
        body["Options"] = json!({"com.docker.network.portmap": vec![one.clone(); count]});
        let reply =
            request(&daemon.socket, "POST", "/NetworkDriver.ProgramExternalConnectivity", body.to_string().as_bytes());
        let error = reply.json()["Err"].as_str().unwrap().to_owned();
        assert!(error.contains(words) && error.contains("ports"), "{error}");
    }
    // The body limit of other methods is unchanged.
    let long = format!("{{\"NetworkID\":\"{}\"}}", "a".repeat(2 << 20));
    assert_eq!(request(&daemon.socket, "POST", "/NetworkDriver.DeleteNetwork", long.as_bytes()).status, 413);
}

/// Few open files: ports that do not fit are refused with their number, connections are served, and a start with more
/// ports than fit serves all of them.
#[test]
fn a_low_limit_of_open_files_refuses_ports_but_serves_connections() {
    let mut host = Host::start(&["--log", "info"]);
    host.limit_files(256);
    host.begin();
    let daemon = host.daemon();
    post(daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    let answer = publish(daemon, 10_000, 400);
    let error = answer["Err"].as_str().unwrap();
    assert!(error.contains("400 ports") && error.contains("256"), "{error}");
    assert!(daemon.descriptors() < 60, "a partial reservation is released: {}", daemon.descriptors());
    let (answer, _) = call(daemon, "ProgramExternalConnectivity", of("aa", "e1"), 10_000, 100);
    assert!(answer.get("Err").is_none(), "{answer}");
    host.limit_files(4096);
    host.begin();
    let daemon = host.daemon();
    let (answer, _) = call(daemon, "ProgramExternalConnectivity", of("aa", "e1"), 10_000, 400);
    assert!(answer.get("Err").is_none(), "{answer}");
    host.limit_files(256);
    host.begin();
    let daemon = host.daemon();
    assert!(daemon.log().contains("published ports are not reserved on the host"), "{}", daemon.log());
    let status = request(&daemon.socket, "GET", "/status", b"").json();
    let unreserved = status["unreserved"].as_array().unwrap().len();
    assert!(unreserved >= 400 - 128, "{unreserved}");
    assert_eq!(status["networks"][0]["endpoints"][0]["published"].as_array().unwrap().len(), 400);

    // More idle connections than files: the oldest are evicted, and each new one is answered.
    let mut idle = Vec::new();
    for _ in 0..400 {
        let _ = std::os::unix::net::UnixStream::connect(&daemon.socket).map(|stream| idle.push(stream));
        if idle.len() % 50 == 0 {
            assert_eq!(request(&daemon.socket, "GET", "/ports", b"").status, 200, "{} idle", idle.len());
        }
    }
    assert_eq!(post(daemon, "NetworkDriver.DeleteNetwork", &json!({"NetworkID": "unknown"})), json!({}));
    drop(idle);
    leave(daemon);
}

/// At every number of spare descriptors near the limit: accepting a connection needs one, too.
#[test]
fn a_new_connection_is_answered_at_every_limit_of_open_files() {
    let mut host = Host::start(&["--log", "info"]);
    for limit in 96..96 + 9 {
        host.limit_files(limit);
        host.begin();
        let daemon = host.daemon();
        let idle: Vec<_> = (0..30).map(|_| std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap()).collect();
        assert_eq!(request(&daemon.socket, "GET", "/ports", b"").status, 200, "at most {limit} files");
        drop(idle);
    }
}

/// A published port works whether it is reserved or not.
#[test]
fn a_port_without_reservation_is_reachable() {
    let mut host = Host::start(&["--log", "info"]);
    let one = Network::new("one", 1);
    host.create(&one);
    let many: Vec<Publish> =
        (0..200).map(|n| Publish::new(17, 10_000 + n, if n == 199 { 80 } else { 10_000 + n })).collect();
    let served = host.container_with(&one, 2, &many);
    serve(&served);
    for server in ["192.0.2.1:10199", "[2001:db8::1]:10199"] {
        // IPv6 addresses need duplicate address detection first.
        testkit::netns::wait_for(server, || host.outside.enter(|| ask(UDP, server)).is_some());
    }
    host.end();
    host.limit_files(128);
    host.begin();
    assert!(host.daemon().log().contains("published ports are not reserved on the host"), "{}", host.daemon().log());
    for server in ["192.0.2.1:10199", "[2001:db8::1]:10199"] {
        // The first packet may be lost during neighbour resolution.
        assert!((0..3).any(|_| host.outside.enter(|| ask(UDP, server)).is_some()), "{server}");
    }
}
