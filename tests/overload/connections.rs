//! Thousands of connections that send nothing, or send their request slowly.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::{assert_bounded, connect, endpoint, head, large_network, many_descriptors, well_behaved};
use testkit::daemon::Daemon;
use testkit::harness::{Dir, read_reply};

const MANY: usize = 3000;

/// Opens connections that each begin with `text`; evicted ones are ignored.
fn flood(daemon: &Daemon, text: &str) -> Vec<UnixStream> {
    (0..MANY)
        .map(|_| {
            let mut stream = connect(&daemon.socket);
            let _ = stream.write_all(text.as_bytes());
            stream
        })
        .collect()
}

fn under(text: &str) {
    many_descriptors();
    let dir = Dir::new();
    let mut daemon = Daemon::start(&dir.0, &["--log", "warn"]);
    well_behaved(&daemon, "NetworkDriver.CreateNetwork", &large_network("aa", 1));
    let descriptors = daemon.descriptors();
    // The engine's own connection, which it keeps open between requests.
    let mut engine = connect(&daemon.socket);
    let ask = |engine: &mut UnixStream, number| {
        let body = endpoint("aa", 1, number).to_string();
        write!(engine, "{}{body}", head("NetworkDriver.CreateEndpoint", body.len())).unwrap();
        read_reply(engine).expect("an answer")
    };
    assert_eq!(ask(&mut engine, 0).status, 200);
    let mut crowd = flood(&daemon, text);
    for round in 0..3 {
        // Byte by byte, as long as the other end accepts it.
        for stream in crowd.iter_mut().filter(|_| !text.is_empty()) {
            let _ = stream.write_all(b"x");
        }
        well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, 10 + round));
        let began = Instant::now();
        let reply = ask(&mut engine, 1 + round);
        assert!(reply.status == 200 && began.elapsed() < crate::LATENCY, "the engine's connection was not kept");
    }
    drop(crowd);
    drop(engine);
    assert_bounded(&mut daemon, descriptors);
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, 20));
}

#[test]
fn idle_connections_block_no_other_client() {
    under("");
}

#[test]
fn endless_heads_block_no_other_client() {
    under("POST /NetworkDriver.CreateEndpoint HTTP/1.1\r\nHost: ");
}

#[test]
fn endless_bodies_block_no_other_client() {
    under(&(head("NetworkDriver.CreateEndpoint", 100_000) + "{"));
}

#[test]
fn a_slow_body_is_refused() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    let mut slow = connect(&daemon.socket);
    write!(slow, "{}{{", head("NetworkDriver.CreateEndpoint", 100)).unwrap();
    let began = Instant::now();
    let reply = read_reply(&mut slow).expect("an answer");
    assert_eq!(reply.status, 408, "{}", reply.body);
    assert!(reply.json()["Err"].as_str().is_some_and(|text| text.contains("longer than 10 s")), "{}", reply.body);
    assert!(began.elapsed() < Duration::from_secs(15));
    // Its connection is closed, because the start of the next request is unknown.
    assert_eq!(slow.read(&mut [0; 1]).unwrap_or(0), 0);
}
