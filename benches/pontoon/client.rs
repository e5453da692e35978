//! A connection to the plugin socket, kept open as the engine does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket)?, buffer: vec![0; 64 * 1024] })
    }

    /// One request; an error fails the benchmark, since it would otherwise count as fast.
    pub fn call(&mut self, method: &str, body: &str) -> Value {
        let text = format!(
            "POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(text.as_bytes()).expect("the daemon takes requests");
        let mut length = 0;
        loop {
            let n = self.stream.read(&mut self.buffer[length..]).expect("the daemon answers");
            assert!(n > 0, "the daemon hung up on {method}");
            length += n;
            let Some(at) = self.buffer[..length].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.buffer[..at]).to_ascii_lowercase();
            let size: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .expect("a length");
            if length < at + 4 + size {
                continue;
            }
            let answer: Value = serde_json::from_slice(&self.buffer[at + 4..at + 4 + size]).expect("JSON");
            assert!(answer.get("Err").is_none() && answer.get("Error").is_none(), "{method}: {answer}");
            return answer;
        }
    }
}

/// `GET path` on another connection: the length of the answer.
pub fn get(socket: &Path, path: &str) -> usize {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("the daemon takes requests");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon answers");
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{path}: {}", String::from_utf8_lossy(&answer));
    answer.len()
}

/// With `checks` as a user creates it; without, only a pair and a port of the bridge are created.
pub fn network(id: &str, n: u8, checks: bool) -> String {
    json!({"NetworkID": id, "Options": {"com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": false,
        "com.docker.network.generic": {"pontoon.spoofcheck": checks.to_string()}},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": format!("10.{n}.0.0/16"), "Gateway": format!("10.{n}.0.1/16")}],
        "IPv6Data": []})
    .to_string()
}

pub fn endpoint_id(n: usize) -> String {
    // Different in the first characters, like the engine's random ids.
    format!("{n:08x}{}", "0123456789abcdef".repeat(4))[..64].to_owned()
}

pub fn create(network: &str, subnet: u8, n: usize) -> String {
    let address = format!("10.{subnet}.{}.{}/16", n / 250 + 1, n % 250 + 1);
    json!({"NetworkID": network, "EndpointID": endpoint_id(n),
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
        "Options": {"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": []}})
    .to_string()
}

/// Each endpoint is in its own container, as on a real host.
pub fn join(network: &str, n: usize) -> String {
    let sandbox = format!("/var/run/docker/netns/{n:012x}");
    json!({"NetworkID": network, "EndpointID": endpoint_id(n), "SandboxKey": sandbox,
        "Options": {"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": []}})
    .to_string()
}

pub fn of(network: &str, n: usize) -> String {
    json!({"NetworkID": network, "EndpointID": endpoint_id(n)}).to_string()
}
