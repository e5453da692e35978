//! Scenarios: a user's actions on containers, each of which an engine completes although Pontoon crashes at any point.

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::oracle::Kind;
use super::{fixture, flows, kernel_view};
use testkit::ledger;

/// A part of a scenario; a failed call fails as it would for a user.
type Part = fn(&mut Engine<'_>);

/// A scenario. Pontoon crashes only during `run`.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Prepares the host.
    pub setup: Part,
    /// The actions under test.
    pub run: Part,
    /// Verifies the result and removes everything.
    pub teardown: Part,
}

const SUBNET: &str = "10.77.0.0/24";

fn no_op(_: &mut Engine<'_>) {}

impl Scenario {
    const fn of(run: Part) -> Self {
        Self { setup: no_op, run, teardown: no_op }
    }

    /// All actions on a container: its own network, published ports, a second network, and the removal of everything.
    pub const LIFE: Self = Self::of(life);

    /// The same on each kind of network.
    pub const KINDS: [(&str, Self); 7] = [
        ("a network of both families", Self::of(dual)),
        ("an internal network", Self::of(internal)),
        ("a routed network", Self::of(routed)),
        ("a network of isolated containers", Self::of(apart)),
        ("a network with a fast path", Self::of(neighbours)),
        ("an overlay network", Self::of(overlay)),
        ("a macvlan network with a host link", Self::of(macvlan)),
    ];

    /// Changes of the ports of a running container.
    pub const CHANGES: [(&str, Self); 2] = [
        ("a change of ports", Self { setup: published, run: change, teardown: changed }),
        ("a withdrawal of ports", Self { setup: published, run: withdraw, teardown: withdrawn }),
    ];
}

fn life(engine: &mut Engine<'_>) {
    let base = engine.networks.keys().next().unwrap().clone();
    let Ok(network) = engine.create_network(SUBNET) else { return };
    if let Ok(one) = engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]) {
        let address = kernel_view::plain(&engine.attached[&one].address);
        // A connection may be lost to the cleanup of stale connections in the background.
        let leads = (0..3).any(|_| {
            fixture::send_to_port(engine.host, 5353);
            !flows::translated_flows(engine.host, &address).is_empty()
        });
        assert!(leads, "a published port is not reachable");
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

fn neighbours(engine: &mut Engine<'_>) {
    let options = &[("pontoon.shortcut", "true")];
    life_on(engine, Kind { six: "fd00:77::/64", options, ..Kind::default() });
}

fn overlay(engine: &mut Engine<'_>) {
    let options = &[("pontoon.vni", "7007"), ("pontoon.peers", "198.51.100.7,198.51.100.8")];
    life_on(engine, Kind { options, ..Kind::default() });
}

fn macvlan(engine: &mut Engine<'_>) {
    let options = &[("parent", "wire0"), ("pontoon.host", "true"), ("pontoon.conflict", "off")];
    life_on(engine, Kind { six: "fd00:77::/64", options, ..Kind::default() });
}

/// A container with published ports, clients of those, and a client of a port that is published later.
fn published(engine: &mut Engine<'_>) {
    let network = engine.create_network_with_retries(SUBNET);
    engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353), (17, 5355)]).expect("a container");
    let tracked = |port| {
        (0..3).any(|_| {
            fixture::send_to_port(engine.host, port);
            !flows::flows_for(engine.host, port).is_empty()
        })
    };
    assert!([5353, 5354, 5355].into_iter().all(tracked), "connections are not tracked");
}

/// The container of this scenario.
fn container(engine: &Engine<'_>) -> (String, String) {
    let (id, attached) = engine.attached.iter().find(|(_, attached)| attached.sandbox == 2).expect("a container");
    (id.clone(), kernel_view::plain(&attached.address))
}

/// One port is kept, one is removed, one is added.
fn change(engine: &mut Engine<'_>) {
    let (id, _) = container(engine);
    engine.change_ports(&id, &[(6, 8080), (17, 5354), (17, 5355)]);
    wait_for_background(engine);
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
    wait_for_background(engine);
}

/// Waits until background work is done, or Pontoon crashed in it.
fn wait_for_background(engine: &Engine<'_>) {
    let (host, deadline) = (engine.host, Instant::now() + kernel_view::SOON);
    while !host.has_ended() && !ledger::read(&host.paths.ledger()).flows.is_empty() {
        assert!(Instant::now() < deadline, "the ledger does not record that flows are removed:\n{}", host.log());
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
