//! More load than an engine would produce: the real program, over its socket, on the real kernel in a network
//! namespace. It answers, or refuses with a reason; its memory, its descriptors and the latency of others stay bounded.
//! Needs root.

mod connections;
mod requests;
mod shapes;
mod starvation;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use testkit::daemon::Daemon;
use testkit::harness;

/// Maximum memory in these tests, in kB: most is used by bodies designed to grow when they are decoded, with 8 MiB in
/// total before that.
const MEMORY: u64 = 256 * 1024;

/// Maximum latency of a well-behaved client's request during the load.
const LATENCY: Duration = Duration::from_secs(8);

/// Raises the limit of open files for thousands of connections.
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

/// A request of a well-behaved client, which has to be answered in time.
fn well_behaved(daemon: &Daemon, method: &str, body: &Value) -> String {
    let began = Instant::now();
    let reply = harness::request(&daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
    let took = began.elapsed();
    assert!(reply.status == 200 && !reply.body.contains("\"Err"), "{method}: {}\n{}", reply.body, daemon.log());
    assert!(took < LATENCY, "{method} took {took:?}");
    reply.body
}

/// Verifies the state after the load: bounded memory, and descriptors back at their previous number.
fn assert_bounded(daemon: &mut Daemon, descriptors: usize) {
    daemon.until("its descriptors to be closed", |daemon| daemon.descriptors() <= descriptors);
    let peak = daemon.kilobytes("VmHWM");
    assert!(peak < MEMORY, "memory peak {peak} kB");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    println!("peak {peak} kB, {descriptors} descriptors, {} threads", daemon.of_threads("Name").len());
}

/// A body of CreateNetwork with a subnet of thousands of addresses.
fn large_network(id: &str, n: u8) -> Value {
    let mut body = harness::network(id, n, false);
    body["IPv4Data"] =
        json!([{"AddressSpace": "x", "Pool": format!("10.{n}.0.0/16"), "Gateway": format!("10.{n}.0.1/16")}]);
    body
}

/// A body of CreateEndpoint for such a network.
fn endpoint(network: &str, n: u8, number: usize) -> Value {
    let address = format!("10.{n}.{}.{}/16", 1 + number / 200, 1 + number % 200);
    harness::endpoint(network, &format!("{network}{number:04}"), &address)
}
