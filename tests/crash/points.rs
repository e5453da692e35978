//! kill -9 before and after every write, every netlink message and every answer: each point once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use nix::unistd::Pid;

use super::engine::Engine;
use super::host::Host;
use super::kernel_view::Surroundings;
use super::stories::Story;
use super::tracee::{Call, Tracee};
use super::tracer::{Entry, Exit, Script};
use super::{ledger, stage};

/// Before or after the nth call of a name. What is done in the background comes sooner in one
/// telling and later in the next: a point that were a number of all calls would be another one
/// each time, and some would never be met.
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

/// What the calls of a telling were, and the point at which it is to end.
#[derive(Default)]
struct Watch {
    on: bool,
    calls: BTreeMap<String, u32>,
    end: Option<Point>,
    met: bool,
}

/// Counts calls, and ends Pontoon at one of them.
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

    /// Counts and ends nothing any more; what was counted, and whether the end was met.
    fn rest(&self) -> (BTreeMap<String, u32>, bool) {
        let seen = std::mem::take(&mut *self.watch.lock().unwrap());
        (seen.calls, seen.met)
    }

    fn due(&self, point: &Point) -> bool {
        let mut watch = self.watch.lock().unwrap();
        if !watch.on || watch.end.as_ref() != Some(point) {
            return false;
        }
        (watch.on, watch.met) = (false, true);
        true
    }

    fn count(&self, call: &Call) -> Option<Point> {
        let mut watch = self.watch.lock().unwrap();
        if !watch.on || !matters(call) {
            return None;
        }
        let call = place(&call.label);
        let nth = watch.calls.entry(call.clone()).or_default();
        *nth += 1;
        Some(Point { call, nth: *nth, after: false })
    }
}

/// The name of a call without the names of links, which differ from telling to telling.
fn place(label: &str) -> String {
    let parts = label.split('/').map(|part| if part.starts_with("pnt") { "*" } else { part });
    parts.collect::<Vec<_>>().join("/")
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

/// Hosts that share the points of a story.
const SHARDS: usize = 2;

/// Tellings from which the points are learned, and that a point is given to be met.
const TRIES: usize = 3;

/// The points there are, as the first of the hosts that share them has learned.
#[derive(Default)]
struct Points {
    all: OnceLock<Vec<Point>>,
    met: Mutex<BTreeSet<Point>>,
}

impl Points {
    /// A host's share of what is counted in each of several tellings.
    fn share(&self, shard: usize, stride: usize, tell: impl FnMut(usize) -> BTreeMap<String, u32>) -> Vec<Point> {
        let learn = || {
            let both = |one: BTreeMap<String, u32>, other: BTreeMap<String, u32>| {
                one.into_iter()
                    .filter_map(|(call, count)| other.get(&call).map(|more| (call, count.min(*more))))
                    .collect()
            };
            let always = (0..TRIES).map(tell).reduce(both).unwrap_or_default();
            let calls = always.into_iter().flat_map(|(call, count)| (1..=count).map(move |nth| (call.clone(), nth)));
            calls.flat_map(|(call, nth)| [false, true].map(|after| Point { call: call.clone(), nth, after })).collect()
        };
        self.all.get_or_init(learn).iter().step_by(stride).skip(shard).step_by(SHARDS).cloned().collect()
    }

    /// Tells until the point is met; what is done in the background is not done each time.
    fn meet(&self, point: Point, mut tell: impl FnMut(&Point) -> bool) {
        if (0..TRIES).any(|_| tell(&point)) {
            self.met.lock().unwrap().insert(point);
        }
    }

    /// The names of all points that were met.
    fn names(self, of: &str, stride: usize) -> Vec<String> {
        let (all, met) = (self.all.into_inner().unwrap(), self.met.into_inner().unwrap());
        let names: Vec<_> = met.iter().map(Point::to_string).collect();
        if super::at_length() {
            names.iter().for_each(|point| println!("{point}"));
        }
        println!("points of {of}: {} of {}", names.len(), all.len().div_ceil(stride));
        names
    }
}

/// Tells `story` again and again, with the end of Pontoon at one of its points after the other, or
/// at every `stride`th of them.
fn everywhere(name: &str, story: Story, stride: usize) -> Vec<String> {
    let points = Points::default();
    stage::side_by_side(SHARDS, "x", |shard, engine, around| {
        let seen = around.clone();
        engine.after_death = Some(Box::new(move |engine| stage::after_death(engine, &seen)));
        let mine = points.share(shard, stride, |_| {
            let (calls, _) = tell(engine, story, None);
            settle(engine, around);
            calls
        });
        for point in mine {
            points.meet(point, |point| {
                let (_, met) = tell(engine, story, Some(point));
                settle(engine, around);
                met
            });
        }
    });
    points.names(name, stride)
}

/// One telling of the story, with the end of Pontoon at one point: the calls up to there, and
/// whether it came to that.
fn tell(engine: &mut Engine<'_>, story: Story, end: Option<&Point>) -> (BTreeMap<String, u32>, bool) {
    let (host, script) = (engine.host, KillAt::default());
    host.kill();
    host.begin(Some(Box::new(script.clone())));
    assert!(host.serves(), "{}", host.log());
    (story.open)(engine);
    engine.deaths = 0;
    script.watch(end);
    (story.tell)(engine);
    let (calls, met) = script.rest();
    if met && engine.deaths == 0 {
        // It ended at its last answer, or at work that nobody waits for.
        host.bury();
        host.start();
    }
    (story.close)(engine);
    (calls, met)
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

/// Whether at least one call of each of these kinds was a point, before it and after it.
fn saw(points: &[String], of: &str, kinds: &[&str]) {
    for point in kinds.iter().flat_map(|kind| ["before", "after"].map(|when| format!("{when} {kind}"))) {
        assert!(points.iter().any(|known| known.starts_with(&point)), "the tracer never saw: {point} of {of}");
    }
}

#[test]
fn a_container_lives_through_an_end_at_every_point() {
    let points = everywhere("a container's life", Story::LIFE, 1);
    let kinds = ["write state/ledger", "sync state/ledger", "send netlink", "write client", "write sysctl"];
    saw(&points, "a container's life", &kinds);
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
        saw(&points, name, &["write state/ledger", "send netlink", "write client"]);
    }
}

/// Starts again and again over a host on which something is amiss, with the end of Pontoon at one
/// point of its start after the other.
fn every_point_of_a_start() -> Vec<String> {
    let points = [(); AMISS].map(|()| Points::default());
    stage::side_by_side(SHARDS, "y", |shard, engine, around| {
        let network = engine.insist_on_network("10.77.0.0/24");
        engine.attach(&network, 2, "eth0", &[(6, 8080), (17, 5353)]).expect("a container");
        let bridge = format!("pntb{network}");
        for (which, points) in points.iter().enumerate() {
            for point in points.share(shard, 1, |_| start(engine, around, &bridge, which, None).0) {
                points.meet(point, |point| start(engine, around, &bridge, which, Some(point)).1);
            }
        }
    });
    let names = points.into_iter().enumerate().map(|(which, points)| points.names(&format!("start {which}"), 1));
    names.flatten().collect()
}

/// One start, as [`tell`] tells a story.
fn start(
    engine: &mut Engine<'_>,
    around: &Surroundings,
    bridge: &str,
    which: usize,
    end: Option<&Point>,
) -> (BTreeMap<String, u32>, bool) {
    let (host, script) = (engine.host, KillAt::default());
    host.kill();
    amiss(host, bridge, which);
    script.watch(end);
    host.begin(Some(Box::new(script.clone())));
    let served = host.serves();
    let (calls, met) = script.rest();
    if !served || met {
        host.bury();
        host.start();
    }
    stage::compare(host, &[engine], around);
    (calls, met)
}

/// Things that may be amiss.
const AMISS: usize = 3;

/// Something happened while Pontoon was away; not to the network of those who talk.
fn amiss(host: &Host, bridge: &str, which: usize) {
    match which {
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
