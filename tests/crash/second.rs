//! Two Pontoons where there can be one: the second refuses to start with a reason, the first continues.

use super::engine::Engine;
use super::fixture;
use super::host::{Netns, binary};
use super::kernel_view::Surroundings;

/// The error of a second one, started in this namespace with these paths.
fn second(netns: &Netns, socket: &str, state: &str) -> String {
    let binary = binary();
    let output = netns.output(&[binary.to_str().unwrap(), "serve", "--socket", socket, "--state-dir", state]);
    assert!(!output.status.success(), "the second one runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_instance_refuses_with_the_reason() {
    fixture::run_on_host("z", 2, refuse);
}

fn refuse(engine: &mut Engine<'_>, around: &Surroundings) {
    let host = engine.host;
    let elsewhere = Netns::new();
    let at = |name: &str| host.paths.root.join(name).to_str().unwrap().to_owned();
    let (socket, state) = (host.paths.socket(), host.paths.state.clone());
    let (socket, state) = (socket.to_str().unwrap(), state.to_str().unwrap());
    let pid = host.pid().unwrap();

    let text = second(&elsewhere, &at("other.sock"), state);
    assert!(text.contains(state) && text.contains(&format!("process {pid}")), "{text}");
    let text = second(&elsewhere, socket, &at("other"));
    assert!(text.contains("another process listens on this socket") && text.contains("--socket"), "{text}");
    let text = second(&host.netns, &at("other.sock"), &at("third"));
    assert!(text.contains("another Pontoon already serves this network namespace"), "{text}");

    let network = engine.create_network_with_retries("10.77.0.0/24");
    engine.remove_network(&network);
    fixture::compare(host, &[engine], around);
}
