//! The connection tracking entries of a host, read with `conntrack`.

use std::time::{Duration, Instant};

use super::host::Host;
use super::kernel_view::SOON;

/// Waits until no translated connection to an address is tracked: entries are removed in the background.
#[track_caller]
pub fn no_flows(host: &Host, address: &str) {
    gone(host, || translated_flows(host, address));
}

/// The same for connections to a port of the host that do not lead to `address`.
#[track_caller]
pub fn no_flows_for(host: &Host, port: u16, address: Option<&str>) {
    let leads = |flow: &String| address.is_some_and(|address| flow.contains(&format!("src={address} ")));
    gone(host, || flows_for(host, port).into_iter().filter(|flow| !leads(flow)).collect());
}

#[track_caller]
fn gone(host: &Host, flows: impl Fn() -> Vec<String>) {
    let began = Instant::now();
    loop {
        let flows = flows();
        if flows.is_empty() {
            return;
        }
        assert!(began.elapsed() < SOON, "flows that should be removed: {flows:?}\n{}", host.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Translated tracked connections to or from an address.
pub fn translated_flows(host: &Host, address: &str) -> Vec<String> {
    flows(host, &format!("src={address} "))
}

/// Tracked connections to a port.
pub fn flows_for(host: &Host, port: u16) -> Vec<String> {
    flows(host, &format!("dport={port} "))
}

fn flows(host: &Host, part: &str) -> Vec<String> {
    let list = host.netns.output(&["conntrack", "-L", "-o", "extended"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    list.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}
