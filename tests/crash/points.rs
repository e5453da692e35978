//! kill -9 before and after every write, every netlink message and every answer: each point once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::engine::Engine;
use super::host::Host;
use super::stories::Story;
use super::tracee::{Call, Tracee};
use super::tracer::{Entry, Exit, Script};
use super::witness::Surroundings;
use super::{ledger, stage};

/// Ends Pontoon at the stop that is so many stops ahead.
#[derive(Clone)]
struct KillAt {
    /// Stops ahead; negative is idle.
    ahead: Arc<AtomicI64>,
    hit: Arc<Mutex<Option<String>>>,
}

impl KillAt {
    fn new(ahead: i64) -> Self {
        Self { ahead: Arc::new(AtomicI64::new(ahead)), hit: Arc::default() }
    }

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

    /// Ends nobody any more; the point at which it did, if it came to that.
    fn rest(&self) -> Option<String> {
        self.ahead.store(-1, Ordering::SeqCst);
        self.hit.lock().unwrap().take()
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

/// Hosts that share the points of a story.
const SHARDS: usize = 2;

/// How often which point was met.
#[derive(Default)]
struct Points(Mutex<BTreeMap<String, u32>>);

impl Points {
    fn met(&self, point: &str, at: i64) {
        *self.0.lock().unwrap().entry(format!("{point} (#{at})")).or_default() += 1;
    }

    fn all(self, of: &str) -> BTreeMap<String, u32> {
        let points = self.0.into_inner().unwrap();
        if super::at_length() {
            points.keys().for_each(|point| println!("{point}"));
        }
        println!("points of {of}: {}", points.len());
        points
    }
}

/// Tells `story` again and again, with the end of Pontoon at the first stop, the second, and so
/// on, until it is over before; or at every `stride`th of them.
fn everywhere(name: &str, story: Story, stride: usize) -> BTreeMap<String, u32> {
    let points = Points::default();
    stage::side_by_side(SHARDS, "x", |shard, engine, around| {
        let seen = around.clone();
        engine.after_death = Some(Box::new(move |engine| stage::after_death(engine, &seen)));
        for at in (shard as i64 * stride as i64..).step_by(SHARDS * stride) {
            let Some(point) = die_at(engine, story, at) else { break };
            settle(engine, around);
            points.met(&point, at);
        }
    });
    points.all(name)
}

/// One telling of the story, with the end of Pontoon at one stop; `None` if it is over before.
fn die_at(engine: &mut Engine<'_>, story: Story, at: i64) -> Option<String> {
    let (host, script) = (engine.host, KillAt::new(-1));
    host.kill();
    host.begin(Some(Box::new(script.clone())));
    assert!(host.serves(), "{}", host.log());
    (story.open)(engine);
    engine.deaths = 0;
    script.ahead.store(at, Ordering::SeqCst);
    (story.tell)(engine);
    let point = script.rest();
    if point.is_some() && engine.deaths == 0 {
        // It ended at its last answer, or at work that nobody waits for.
        host.bury();
        host.start();
    }
    (story.close)(engine);
    point
}

/// After the story: what is there is what the engine believes; what it lost track of goes by
/// itself, or with its word.
fn settle(engine: &mut Engine<'_>, around: &Surroundings) {
    let host = engine.host;
    stage::compare(host, &[engine], around);
    if !engine.lost.nothing() {
        host.kill();
        ledger::age(&host.paths.ledger());
        host.start();
        engine.collect_garbage(&Default::default());
        engine.lost = Default::default();
        stage::compare(host, &[engine], around);
    }
    super::flows::no_flows(host, "10.77.0.2");
}

#[test]
fn a_container_lives_through_an_end_at_every_point() {
    let points = everywhere("a container's life", Story::LIFE, 1);
    for kind in ["write state/ledger", "sync state/ledger", "send netlink", "write client", "write sysctl"] {
        for when in ["before", "after"] {
            let point = format!("{when} {kind}");
            assert!(points.keys().any(|known| known.starts_with(&point)), "the tracer never saw: {point}");
        }
    }
    assert!(points.len() > 150, "only {} points: the tracer sees too little", points.len());
}

/// An everyday run takes some of the points of each.
#[test]
fn every_kind_of_network_lives_through_an_end_at_every_point() {
    let stride = if super::at_length() { 1 } else { 9 };
    for (name, story) in Story::KINDS {
        let points = everywhere(name, story, stride);
        assert!(points.len() * stride > 60, "only {} points of {name}: the tracer sees too little", points.len());
    }
}

#[test]
fn ports_change_through_an_end_at_every_point() {
    for (name, story) in Story::CHANGES {
        let points = everywhere(name, story, 1);
        for kind in ["write state/ledger", "send netlink", "write client"] {
            assert!(points.keys().any(|known| known.contains(kind)), "the tracer never saw: {kind} of {name}");
        }
    }
}

/// Starts again and again over a host on which something is amiss, with the end of Pontoon at the
/// first stop of its start, the second, and so on.
fn every_point_of_a_start() -> BTreeMap<String, u32> {
    let points = Points::default();
    stage::side_by_side(SHARDS, "y", |shard, engine, around| {
        let host = engine.host;
        let network = engine.insist_on_network("10.77.0.0/24");
        engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]).expect("a container");
        let bridge = format!("pntb{network}");
        for at in (shard as i64..).step_by(SHARDS) {
            host.kill();
            amiss(host, &bridge, at);
            let script = KillAt::new(at);
            host.begin(Some(Box::new(script.clone())));
            let served = host.serves();
            let point = script.rest();
            if !served || point.is_some() {
                host.bury();
                host.start();
            }
            stage::compare(host, &[engine], around);
            let Some(point) = point else { break };
            points.met(&point, at);
        }
    });
    points.all("a start")
}

/// Something happened while Pontoon was away; not to the network of those who talk.
fn amiss(host: &Host, bridge: &str, which: i64) {
    match which / SHARDS as i64 % 3 {
        0 => drop(host.netns.run(&["ip", "link", "delete", bridge])),
        1 => host.netns.ip(&format!("addr flush dev {bridge}\nlink set {bridge} down")),
        _ => drop(host.netns.run(&["nft", "delete table inet pontoon; delete table bridge pontoon"])),
    }
}

#[test]
fn a_start_that_repairs_may_end_at_every_point() {
    let points = every_point_of_a_start();
    assert!(points.len() > 40, "only {} points: {points:?}", points.len());
}
