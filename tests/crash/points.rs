//! kill -9 before and after every write, every netlink message and every answer: each point once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use nix::unistd::Pid;

use super::engine::Engine;
use super::fixture;
use super::host::Host;
use super::kernel_view::Surroundings;
use super::scenarios::Scenario;
use super::tracee::{Call, Tracee};
use super::tracer::{Entry, Exit, Script};
use testkit::ledger;

/// Before or after the nth call with a name. Background work comes earlier in one run and later in the next: a number
/// among all calls would be a different point in each run, and some would never be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    call: String,
    nth: u32,
    after: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (#{})", if self.after { "after" } else { "before" }, self.call, self.nth)
    }
}

/// The calls of a run, and the point at which to kill.
#[derive(Default)]
struct Watch {
    on: bool,
    calls: BTreeMap<String, u32>,
    end: Option<Point>,
    reached: bool,
}

/// Counts calls, and kills Pontoon at one of them.
#[derive(Clone, Default)]
struct KillAt {
    watch: Arc<Mutex<Watch>>,
    /// The calls that threads are in.
    entered: HashMap<Pid, Point>,
}

impl KillAt {
    /// Counts from now on, up to `end`.
    fn watch(&self, end: Option<&Point>) {
        *self.watch.lock().unwrap() = Watch { on: true, end: end.cloned(), ..Watch::default() };
    }

    /// Stops counting; returns the counts, and whether the end was reached.
    fn stop(&self) -> (BTreeMap<String, u32>, bool) {
        let seen = std::mem::take(&mut *self.watch.lock().unwrap());
        (seen.calls, seen.reached)
    }

    fn due(&self, point: &Point) -> bool {
        let mut watch = self.watch.lock().unwrap();
        if !watch.on || watch.end.as_ref() != Some(point) {
            return false;
        }
        (watch.on, watch.reached) = (false, true);
        true
    }

    fn count(&self, call: &Call) -> Option<Point> {
        let mut watch = self.watch.lock().unwrap();
        if !watch.on || !matters(call) {
            return None;
        }
        let call = call_name(&call.label);
        let nth = watch.calls.entry(call.clone()).or_default();
        *nth += 1;
        Some(Point { call, nth: *nth, after: false })
    }
}

/// The name of a call without the names of links, which differ between runs.
fn call_name(label: &str) -> String {
    let parts = label.split('/').map(|part| if part.starts_with("pnt") { "*" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Reading changes nothing: a point at a receive equals the one after the send before it. The long run includes those,
/// too.
fn matters(call: &Call) -> bool {
    match call.number {
        libc::SYS_read => false,
        libc::SYS_recvfrom | libc::SYS_recvmsg => super::long_run(),
        _ => true,
    }
}

impl Script for KillAt {
    fn before(&mut self, call: &Call, _: &Tracee) -> Entry {
        let Some(point) = self.count(call) else { return Entry::Pass };
        if self.due(&point) {
            return Entry::Kill;
        }
        self.entered.insert(call.tid, Point { after: true, ..point });
        Entry::Pass
    }
    fn after(&mut self, call: &Call, _: i64, _: &Tracee) -> Exit {
        let due = self.entered.remove(&call.tid).is_some_and(|point| self.due(&point));
        if due { Exit::Kill } else { Exit::Pass }
    }
}

/// Hosts that share the points of a scenario.
const SHARDS: usize = 2;

/// Runs in which the points are learned, and attempts to reach a point.
const TRIES: usize = 3;

/// Of calls with the same name, a sample has the first and the last ones. The long run takes all.
const FIRST: u32 = 5;
const LAST: u32 = 3;

/// All points, as learned by the first of the hosts that share them.
#[derive(Default)]
struct Points {
    sampled: bool,
    all: OnceLock<Vec<Point>>,
    reached: Mutex<BTreeSet<Point>>,
}

impl Points {
    /// A host's share of the points that occur in each of several runs.
    fn share(&self, shard: usize, stride: usize, run: impl FnMut(usize) -> BTreeMap<String, u32>) -> Vec<Point> {
        let learn = || {
            let both = |one: BTreeMap<String, u32>, other: BTreeMap<String, u32>| {
                one.into_iter()
                    .filter_map(|(call, count)| other.get(&call).map(|more| (call, count.min(*more))))
                    .collect()
            };
            let always = (0..TRIES).map(run).reduce(both).unwrap_or_default();
            let calls = always.into_iter().flat_map(|(call, count)| {
                let taken = |nth: &u32| !self.sampled || *nth <= FIRST || *nth + LAST > count;
                (1..=count).filter(taken).map(|nth| (call.clone(), nth)).collect::<Vec<_>>()
            });
            calls.flat_map(|(call, nth)| [false, true].map(|after| Point { call: call.clone(), nth, after })).collect()
        };
        self.all.get_or_init(learn).iter().step_by(stride).skip(shard).step_by(SHARDS).cloned().collect()
    }

    /// Runs until the point is reached: background work does not happen in every run.
    fn reach(&self, point: Point, mut run: impl FnMut(&Point) -> bool) {
        if (0..TRIES).any(|_| run(&point)) {
            self.reached.lock().unwrap().insert(point);
        }
    }

    /// The names of all points that were reached.
    fn names(self, of: &str, stride: usize) -> Vec<String> {
        let (all, reached) = (self.all.into_inner().unwrap(), self.reached.into_inner().unwrap());
        let names: Vec<_> = reached.iter().map(Point::to_string).collect();
        if super::long_run() {
            names.iter().for_each(|point| println!("{point}"));
        }
        println!("points of {of}: {} of {}", names.len(), all.len().div_ceil(stride));
        names
    }
}

/// Runs `scenario` repeatedly and kills Pontoon at one of its points after the other, or at every `stride`th of them.
fn kill_at_every_point(name: &str, scenario: Scenario, stride: usize) -> Vec<String> {
    let points = Points::default();
    fixture::side_by_side(SHARDS, "x", |shard, engine, around| {
        let seen = around.clone();
        engine.after_crash = Some(Box::new(move |engine| fixture::after_crash(engine, &seen)));
        let mine = points.share(shard, stride, |_| {
            let (calls, _) = run(engine, scenario, None);
            verify_and_collect(engine, around);
            calls
        });
        for point in mine {
            points.reach(point, |point| {
                let (_, reached) = run(engine, scenario, Some(point));
                verify_and_collect(engine, around);
                reached
            });
        }
    });
    points.names(name, stride)
}

/// Runs the scenario once and kills Pontoon at one point; returns the calls up to there, and whether it was reached.
fn run(engine: &mut Engine<'_>, scenario: Scenario, end: Option<&Point>) -> (BTreeMap<String, u32>, bool) {
    let (host, script) = (engine.host, KillAt::default());
    host.kill();
    host.begin(Some(Box::new(script.clone())));
    assert!(host.serves(), "{}", host.log());
    (scenario.setup)(engine);
    engine.crashes = 0;
    script.watch(end);
    (scenario.run)(engine);
    let (calls, reached) = script.stop();
    if reached && engine.crashes == 0 {
        // It ended at its last answer, or at background work.
        host.reap();
        host.start();
    }
    (scenario.teardown)(engine);
    (calls, reached)
}

/// Verifies the state after the scenario; what the engine lost track of is removed by expiry or by its garbage
/// collection.
fn verify_and_collect(engine: &mut Engine<'_>, around: &Surroundings) {
    let host = engine.host;
    fixture::compare(host, &[engine], around);
    if !engine.lost.is_empty() {
        host.kill();
        ledger::age(&host.paths.ledger());
        host.start();
        engine.collect_garbage(&Default::default());
        engine.lost = Default::default();
        fixture::compare(host, &[engine], around);
    }
    super::flows::no_flows(host, "10.77.0.2");
}

/// Asserts that at least one call of each of these kinds was a point, before it and after it.
fn assert_covered(points: &[String], of: &str, kinds: &[&str]) {
    for point in kinds.iter().flat_map(|kind| ["before", "after"].map(|when| format!("{when} {kind}"))) {
        assert!(points.iter().any(|known| known.starts_with(&point)), "{of} has no point {point}");
    }
}

#[test]
fn a_container_survives_a_crash_at_every_point() {
    let points = kill_at_every_point("a container's life", Scenario::LIFE, 1);
    let kinds = ["write state/ledger", "sync state/ledger", "send netlink", "write client", "write sysctl"];
    assert_covered(&points, "a container's life", &kinds);
    assert!(points.len() > 150, "only {} points: the tracer sees too little", points.len());
}

/// A regular run takes some of the points of each.
#[test]
fn every_kind_of_network_survives_a_crash_at_every_point() {
    let stride = if super::long_run() { 1 } else { 9 };
    for (name, scenario) in Scenario::KINDS {
        let points = kill_at_every_point(name, scenario, stride);
        assert!(points.len() * stride > 60, "only {} points of {name}: the tracer sees too little", points.len());
    }
}

#[test]
fn a_port_change_survives_a_crash_at_every_point() {
    for (name, scenario) in Scenario::CHANGES {
        let points = kill_at_every_point(name, scenario, 1);
        assert_covered(&points, name, &["write state/ledger", "send netlink", "write client"]);
    }
}

/// Starts repeatedly on a host with a defect and kills Pontoon at one point of its start after the other.
fn every_point_of_a_start() -> Vec<String> {
    // A start reads and repairs many objects of a kind, one after another in the same way.
    let points = [(); DEFECTS].map(|()| Points { sampled: !super::long_run(), ..Points::default() });
    fixture::side_by_side(SHARDS, "y", |shard, engine, around| {
        let network = engine.create_network_with_retries("10.77.0.0/24");
        engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]).expect("a container");
        let bridge = format!("pntb{network}");
        for (which, points) in points.iter().enumerate() {
            for point in points.share(shard, 1, |_| start(engine, around, &bridge, which, None).0) {
                points.reach(point, |point| start(engine, around, &bridge, which, Some(point)).1);
            }
        }
    });
    let names = points.into_iter().enumerate().map(|(which, points)| points.names(&format!("start {which}"), 1));
    names.flatten().collect()
}

/// One start, with the results of [`run`].
fn start(
    engine: &mut Engine<'_>,
    around: &Surroundings,
    bridge: &str,
    which: usize,
    end: Option<&Point>,
) -> (BTreeMap<String, u32>, bool) {
    let (host, script) = (engine.host, KillAt::default());
    host.kill();
    add_defect(host, bridge, which);
    script.watch(end);
    host.begin(Some(Box::new(script.clone())));
    let served = host.serves();
    let (calls, reached) = script.stop();
    if !served || reached {
        host.reap();
        host.start();
    }
    fixture::compare(host, &[engine], around);
    (calls, reached)
}

/// The number of defects.
const DEFECTS: usize = 3;

/// A defect that appears while Pontoon does not run, outside the bystanders' network.
fn add_defect(host: &Host, bridge: &str, which: usize) {
    match which {
        0 => drop(host.netns.run(&["ip", "link", "delete", bridge])),
        1 => host.netns.ip(&format!("addr flush dev {bridge}\nlink set {bridge} down")),
        _ => drop(host.netns.run(&["nft", "delete table inet pontoon; delete table bridge pontoon"])),
    }
}

#[test]
fn a_repairing_start_survives_a_crash_at_every_point() {
    let points = every_point_of_a_start();
    assert!(points.len() > 40, "only {} points: {points:?}", points.len());
}
