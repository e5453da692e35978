//! Connections by the thousand that ask for nothing, or take their time to ask.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::rig::{Dir, read_reply};
use crate::{calm, connect, endpoint, head, large_network, many_descriptors, well_behaved};

const MANY: usize = 3000;

/// Opens connections that each begin with `text`; those that had to leave are no matter.
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
    // The engine's own connection, which it keeps for its next request.
    let mut engine = connect(&daemon.socket);
    let ask = |engine: &mut UnixStream, number| {
        let body = endpoint("aa", 1, number).to_string();
        write!(engine, "{}{body}", head("NetworkDriver.CreateEndpoint", body.len())).unwrap();
        read_reply(engine).expect("an answer")
    };
    assert_eq!(ask(&mut engine, 0).status, 200);
    let mut crowd = flood(&daemon, text);
    for round in 0..3 {
        // Byte by byte, for as long as the other end takes it.
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
    calm(&mut daemon, descriptors);
    well_behaved(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", 1, 20));
}

#[test]
fn idle_connections_keep_nobody_out() {
    under("");
}

#[test]
fn heads_that_never_end_keep_nobody_out() {
    under("POST /NetworkDriver.CreateEndpoint HTTP/1.1\r\nHost: ");
}

#[test]
fn bodies_that_never_end_keep_nobody_out() {
    under(&(head("NetworkDriver.CreateEndpoint", 100_000) + "{"));
}

#[test]
fn a_body_that_takes_too_long_is_refused() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    let mut slow = connect(&daemon.socket);
    write!(slow, "{}{{", head("NetworkDriver.CreateEndpoint", 100)).unwrap();
    let began = Instant::now();
    let reply = read_reply(&mut slow).expect("an answer");
    assert_eq!(reply.status, 408, "{}", reply.body);
    assert!(reply.json()["Err"].as_str().is_some_and(|text| text.contains("longer than 10 s")), "{}", reply.body);
    assert!(began.elapsed() < Duration::from_secs(15));
    // And its connection ends: there is no telling where the next request would begin.
    assert_eq!(slow.read(&mut [0; 1]).unwrap_or(0), 0);
}
