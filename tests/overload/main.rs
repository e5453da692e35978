//! More than the engine would ever ask for: the real program, over its socket, with the real
//! kernel of a network namespace. It answers, or refuses in words; its memory, its descriptors
//! and the time that others wait stay bounded. Needs root.

#[path = "../rig/daemon.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "../rig/mod.rs"]
mod rig;

mod connections;
mod requests;
mod shapes;
mod starvation;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon::Daemon;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Most memory that any of this may take, in kB.
const MEMORY: u64 = 192 * 1024;

/// Longest that one request of a well-behaved client may wait meanwhile.
const LATENCY: Duration = Duration::from_secs(5);

/// Lets this process open thousands of connections.
fn many_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    }
}

fn head(method: &str, length: usize) -> String {
    format!("POST /{method} HTTP/1.1\r\nHost: \r\nContent-Length: {length}\r\n\r\n")
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// One request as a well-behaved client makes it, which has to be answered in time.
fn well_behaved(daemon: &Daemon, method: &str, body: &Value) -> String {
    let began = Instant::now();
    let reply = rig::request(&daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
    let took = began.elapsed();
    assert!(reply.status == 200 && !reply.body.contains("\"Err"), "{method}: {}\n{}", reply.body, daemon.log());
    assert!(took < LATENCY, "{method} took {took:?}");
    reply.body
}

/// What has to be true when all is over: memory bounded, descriptors back where they were.
fn calm(daemon: &mut Daemon, descriptors: usize) {
    daemon.until("its descriptors to be closed", |daemon| daemon.descriptors() <= descriptors);
    let peak = daemon.kilobytes("VmHWM");
    assert!(peak < MEMORY, "it took {peak} kB");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    println!("peak {peak} kB, {descriptors} descriptors, {} threads", daemon.of_threads("Name").len());
}

/// A body of CreateNetwork with room for thousands of addresses.
fn large_network(id: &str, n: u8) -> Value {
    let mut body = rig::network(id, n, false);
    body["IPv4Data"] =
        json!([{"AddressSpace": "x", "Pool": format!("10.{n}.0.0/16"), "Gateway": format!("10.{n}.0.1/16")}]);
    body
}

/// A body of CreateEndpoint in one of those.
fn endpoint(network: &str, n: u8, number: usize) -> Value {
    let address = format!("10.{n}.{}.{}/16", 1 + number / 200, 1 + number % 200);
    rig::endpoint(network, &format!("{network}{number:04}"), &address)
}
