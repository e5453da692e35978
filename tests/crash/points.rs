//! kill -9 before and after every write, every netlink message and every answer: each point once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::engine::Engine;
use super::host::Host;
use super::tracee::{Call, Tracee};
use super::tracer::{Entry, Exit, Script};
use super::witness::{self, Surroundings};
use super::{ledger, stage};

/// Ends Pontoon at the stop that is so many stops ahead.
struct KillAt {
    /// Stops ahead; negative is idle.
    ahead: Arc<AtomicI64>,
    hit: Arc<Mutex<Option<String>>>,
}

impl KillAt {
    fn due(&self, call: &Call, when: &str) -> bool {
        if self.ahead.load(Ordering::SeqCst) < 0 || !matters(call) {
            return false;
        }
        if self.ahead.fetch_sub(1, Ordering::SeqCst) != 0 {
            return false;
        }
        *self.hit.lock().unwrap() = Some(format!("{when} {}", call.label));
        true
    }
}

/// Reading changes nothing: a point at a receive is the one after the send before it. The long
/// run tries those too.
fn matters(call: &Call) -> bool {
    match call.number {
        libc::SYS_read => false,
        libc::SYS_recvfrom | libc::SYS_recvmsg => super::at_length(),
        _ => true,
    }
}

impl Script for KillAt {
    fn before(&mut self, call: &Call, _: &Tracee) -> Entry {
        if self.due(call, "before") { Entry::Kill } else { Entry::Pass }
    }
    fn after(&mut self, call: &Call, _: i64, _: &Tracee) -> Exit {
        if self.due(call, "after") { Exit::Kill } else { Exit::Pass }
    }
}

/// What a test does with an engine; fails where the engine fails.
type Story = fn(&mut Engine<'_>);

/// Hosts that share the points of a story.
const SHARDS: i64 = 2;

/// Runs `story` again and again, with the end of Pontoon at the first stop, the second, and so
/// on, until the story is over before. Returns how often which point was met.
fn everywhere(prepare: Story, story: Story) -> BTreeMap<String, u32> {
    let points = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let points = &points;
            scope.spawn(move || {
                let host = Host::new();
                let around = stage::surround(&host);
                let mut engine = Engine::new(&host, "x", 3);
                stage::bystanders(&mut engine);
                let stream = stage::Stream::start(&engine);
                prepare(&mut engine);
                let seen = around.clone();
                engine.after_death = Some(Box::new(move |engine| stage::after_death(engine, &seen)));
                for at in (shard..).step_by(SHARDS as usize) {
                    let Some(point) = die_at(&host, &mut engine, story, at) else { break };
                    settle(&host, &mut engine, &around);
                    *points.lock().unwrap().entry(point).or_default() += 1;
                }
                stream.lost_nothing();
            });
        }
    });
    points.into_inner().unwrap()
}

/// One telling of the story, with the end of Pontoon at one stop; `None` if it is over before.
fn die_at(host: &Host, engine: &mut Engine<'_>, story: Story, at: i64) -> Option<String> {
    let (ahead, hit) = (Arc::new(AtomicI64::new(-1)), Arc::new(Mutex::new(None)));
    host.kill();
    host.begin(Some(Box::new(KillAt { ahead: Arc::clone(&ahead), hit: Arc::clone(&hit) })));
    assert!(host.serves(), "{}", host.log());
    engine.deaths = 0;
    ahead.store(at, Ordering::SeqCst);
    story(engine);
    ahead.store(-1, Ordering::SeqCst);
    let point = hit.lock().unwrap().take()?;
    if engine.deaths == 0 {
        // It ended at its last answer, or at work that nobody waits for.
        host.bury();
        host.start();
    }
    Some(format!("{point} (#{at})"))
}

/// After the story: what is there is what the engine believes; what it lost track of goes by
/// itself, or with its word.
fn settle(host: &Host, engine: &mut Engine<'_>, around: &Surroundings) {
    stage::compare(host, &[engine], around);
    if !engine.lost.nothing() {
        host.kill();
        ledger::age(&host.paths.ledger());
        host.start();
        engine.collect_garbage(&Default::default());
        engine.lost = Default::default();
        stage::compare(host, &[engine], around);
    }
    witness::no_flows(host, "10.77.0.2");
}

fn nothing(_: &mut Engine<'_>) {}

/// Everything that happens to a container: a network of its own, published ports, a second
/// network, and all of it taken away again.
fn life_of_a_container(engine: &mut Engine<'_>) {
    let base = engine.networks.keys().next().unwrap().clone();
    let Ok(network) = engine.create_network("10.77.0.0/24") else { return };
    if let Ok(one) = engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]) {
        let address = engine.attached[&one].address.split('/').next().unwrap().to_owned();
        // what a start removes in the background may take the first one along
        let leads = (0..3).any(|_| {
            stage::send_to_port(engine.host, 5353);
            !witness::translated_flows(engine.host, &address).is_empty()
        });
        assert!(leads, "a published port leads nowhere");
        if let Ok(two) = engine.attach(&base, 2, "eth1", &[]) {
            engine.detach(&two);
        }
        engine.detach(&one);
        if engine.lost.endpoints.is_empty() {
            witness::no_flows(engine.host, &address);
        }
    }
    engine.remove_network(&network);
}

#[test]
fn a_container_lives_through_an_end_at_every_point() {
    let points = everywhere(nothing, life_of_a_container);
    if super::at_length() {
        points.keys().for_each(|point| println!("{point}"));
    }
    println!("points of a container's life: {}", points.len());
    for kind in ["write state/ledger", "sync state/ledger", "send netlink", "write client", "write sysctl"] {
        for when in ["before", "after"] {
            let point = format!("{when} {kind}");
            assert!(points.keys().any(|known| known.starts_with(&point)), "the tracer never saw: {point}");
        }
    }
    assert!(points.len() > 150, "only {} points: the tracer sees too little", points.len());
}

/// Starts again and again over a host on which something is amiss, with the end of Pontoon at the
/// first stop of its start, the second, and so on.
fn every_point_of_a_start() -> BTreeMap<String, u32> {
    let points = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let points = &points;
            scope.spawn(move || {
                let host = Host::new();
                let around = stage::surround(&host);
                let mut engine = Engine::new(&host, "y", 3);
                stage::bystanders(&mut engine);
                let network = engine.insist_on_network("10.77.0.0/24");
                engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]).expect("a container");
                let stream = stage::Stream::start(&engine);
                let bridge = format!("pntb{network}");
                for at in (shard..).step_by(SHARDS as usize) {
                    host.kill();
                    amiss(&host, &bridge, at);
                    let (ahead, hit) = (Arc::new(AtomicI64::new(at)), Arc::new(Mutex::new(None)));
                    host.begin(Some(Box::new(KillAt { ahead: Arc::clone(&ahead), hit: Arc::clone(&hit) })));
                    let served = host.serves();
                    ahead.store(-1, Ordering::SeqCst);
                    let point = hit.lock().unwrap().take();
                    if !served || point.is_some() {
                        host.bury();
                        host.start();
                    }
                    stage::compare(&host, &[&engine], &around);
                    let Some(point) = point else { break };
                    *points.lock().unwrap().entry(format!("{point} (#{at})")).or_default() += 1;
                }
                stream.lost_nothing();
            });
        }
    });
    points.into_inner().unwrap()
}

/// Something happened while Pontoon was away; not to the network of those who talk.
fn amiss(host: &Host, bridge: &str, which: i64) {
    match which / SHARDS % 3 {
        0 => drop(host.netns.run(&["ip", "link", "delete", bridge])),
        1 => host.netns.ip(&format!("addr flush dev {bridge}\nlink set {bridge} down")),
        _ => drop(host.netns.run(&["nft", "delete table inet pontoon; delete table bridge pontoon"])),
    }
}

#[test]
fn a_start_that_repairs_may_end_at_every_point() {
    let points = every_point_of_a_start();
    println!("points of a start: {}", points.len());
    assert!(points.len() > 40, "only {} points: {points:?}", points.len());
}
