//! What happens to containers, told to an engine: each a story that goes on through the end of
//! Pontoon at any point.

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::oracle::Kind;
use super::{flows, kernel_view, ledger, stage};

/// A part of a story; whatever fails for the engine fails as it would for its user.
type Part = fn(&mut Engine<'_>);

/// A story. Pontoon may end only in the middle of it.
#[derive(Clone, Copy)]
pub struct Story {
    /// What is there before.
    pub open: Part,
    /// What happens.
    pub tell: Part,
    /// What is looked at and taken away after.
    pub close: Part,
}

const SUBNET: &str = "10.77.0.0/24";

fn nothing(_: &mut Engine<'_>) {}

impl Story {
    const fn of(tell: Part) -> Self {
        Self { open: nothing, tell, close: nothing }
    }

    /// Everything that happens to a container: a network of its own, published ports, a second
    /// network, and all of it taken away again.
    pub const LIFE: Self = Self::of(life);

    /// The same on each kind of network.
    pub const KINDS: [(&str, Self); 5] = [
        ("a network of both families", Self::of(dual)),
        ("an internal network", Self::of(internal)),
        ("a routed network", Self::of(routed)),
        ("a network of containers that do not talk", Self::of(apart)),
        ("an overlay network", Self::of(overlay)),
    ];

    /// Ports of a container that runs.
    pub const CHANGES: [(&str, Self); 2] = [
        ("a change of ports", Self { open: published, tell: change, close: changed }),
        ("a withdrawal of ports", Self { open: published, tell: withdraw, close: withdrawn }),
    ];
}

fn life(engine: &mut Engine<'_>) {
    let base = engine.networks.keys().next().unwrap().clone();
    let Ok(network) = engine.create_network(SUBNET) else { return };
    if let Ok(one) = engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]) {
        let address = kernel_view::plain(&engine.attached[&one].address);
        // what a start removes in the background may take the first one along
        let leads = (0..3).any(|_| {
            stage::send_to_port(engine.host, 5353);
            !flows::translated_flows(engine.host, &address).is_empty()
        });
        assert!(leads, "a published port leads nowhere");
        if let Ok(two) = engine.attach(&base, 2, "eth1", &[]) {
            engine.detach(&two);
        }
        engine.detach(&one);
        if engine.lost.endpoints.is_empty() {
            flows::no_flows(engine.host, &address);
        }
    }
    engine.remove_network(&network);
}

/// Two containers on a network of this kind, one of them with published ports.
fn life_on(engine: &mut Engine<'_>, kind: Kind) {
    let network = match engine.create_network_of(kind, SUBNET) {
        Ok(network) => network,
        Err(failure) => {
            assert!(failure.doubtful, "{}", failure.message);
            return;
        }
    };
    let one = engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]);
    let two = engine.attach(&network, 1, "eth1", &[]);
    for endpoint in one.into_iter().chain(two) {
        engine.detach(&endpoint);
    }
    engine.remove_network(&network);
}

fn dual(engine: &mut Engine<'_>) {
    life_on(engine, Kind { six: "fd00:77::/64", ..Kind::default() });
}

fn internal(engine: &mut Engine<'_>) {
    life_on(engine, Kind { internal: true, ..Kind::default() });
}

fn routed(engine: &mut Engine<'_>) {
    let options = &[("com.docker.network.bridge.gateway_mode_ipv4", "routed")];
    life_on(engine, Kind { options, ..Kind::default() });
}

fn apart(engine: &mut Engine<'_>) {
    life_on(engine, Kind { options: &[("com.docker.network.bridge.enable_icc", "false")], ..Kind::default() });
}

fn overlay(engine: &mut Engine<'_>) {
    let options = &[("pontoon.vni", "7007"), ("pontoon.peers", "198.51.100.7,198.51.100.8")];
    life_on(engine, Kind { options, ..Kind::default() });
}

/// A container with published ports, clients of theirs, and one who asks for a port too early.
fn published(engine: &mut Engine<'_>) {
    let network = engine.insist_on_network(SUBNET);
    engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353), (17, 5355)]).expect("a container");
    let told = |port| {
        (0..3).any(|_| {
            stage::send_to_port(engine.host, port);
            !flows::flows_for(engine.host, port).is_empty()
        })
    };
    assert!([5353, 5354, 5355].into_iter().all(told), "connections are not tracked");
}

/// The container of this story.
fn container(engine: &Engine<'_>) -> (String, String) {
    let (id, attached) = engine.attached.iter().find(|(_, attached)| attached.sandbox == 2).expect("a container");
    (id.clone(), kernel_view::plain(&attached.address))
}

/// One port stays, one goes, one comes.
fn change(engine: &mut Engine<'_>) {
    let (id, _) = container(engine);
    engine.change_ports(&id, &[(6, 8080), (17, 5354), (17, 5355)]);
    linger(engine);
}

fn changed(engine: &mut Engine<'_>) {
    let (_, address) = container(engine);
    flows::no_flows_for(engine.host, 5353, None);
    flows::no_flows_for(engine.host, 5354, Some(&address));
    clear(engine);
}

fn withdraw(engine: &mut Engine<'_>) {
    let (id, _) = container(engine);
    engine.change_ports(&id, &[]);
    linger(engine);
}

/// Waits until what is done in the background is done, or Pontoon ended in it.
fn linger(engine: &Engine<'_>) {
    let (host, deadline) = (engine.host, Instant::now() + kernel_view::SOON);
    while !host.has_ended() && !ledger::read(&host.paths.ledger()).flows.is_empty() {
        assert!(Instant::now() < deadline, "the ledger does not hear that flows are removed:\n{}", host.log());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn withdrawn(engine: &mut Engine<'_>) {
    flows::no_flows_for(engine.host, 5353, None);
    flows::no_flows_for(engine.host, 5355, None);
    clear(engine);
}

fn clear(engine: &mut Engine<'_>) {
    let (id, _) = container(engine);
    let network = engine.attached[&id].network.clone();
    engine.detach(&id);
    engine.remove_network(&network);
}
