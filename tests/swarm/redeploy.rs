//! All tasks of a service anew, over and over, on a subnet that has hardly an address to spare: so
//! each address is on another node the moment it is free. Every pair of tasks is asked from the
//! first moment, and what is remembered is held against what is true.
//!
//! `REDEPLOY=10x240` has ten rounds of 240 tasks. All hosts of the lab share one kernel's table of
//! neighbours: from 32 tasks on, who each know all others, its usual 1,024 entries are not enough
//! (`net.ipv4.neigh.default.gc_thresh1` to `gc_thresh3`). Choose numbers a few below a power of two, so that
//! addresses are scarce. `make redeploy` does the same on the engine's own
//! overlay, in turns, and prints how long tasks take to be reached.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::place::{Place, Places};
use crate::probe::{Arrival, Probes};
use crate::support::wait_until;
use crate::truth;

/// What is still remembered wrongly when a container ran for so long is stale: Pontoon announces
/// it for the last time after three seconds. A kernel finds out by itself after eight.
const SETTLED: Duration = Duration::from_secs(4);

/// For one round, and more for each task.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_EACH: Duration = Duration::from_secs(2);

/// A network with a service on it, and a watcher on each node: a container that stays, and that
/// has asked every task before it went.
struct Service<'a> {
    cluster: &'a Cluster,
    network: &'static str,
    name: &'static str,
    tasks: usize,
}

/// What came of one round.
struct Round {
    /// When each task was reached from everywhere, and reached everywhere.
    arrivals: Vec<Arrival>,
    /// From the command until then, for all of them.
    took: Duration,
    /// Addresses that went to another node.
    moved: usize,
}

impl<'a> Service<'a> {
    fn create(cluster: &'a Cluster, driver: &str, network: &'static str, name: &'static str, tasks: usize) -> Self {
        // Network, broadcast, gateway; watchers; and what the engine's own takes for each node.
        let bits = (tasks + 9).next_power_of_two().trailing_zeros();
        let subnet = format!("10.{}.0.0/{}", if network == "fleet" { 91 } else { 92 }, 32 - bits);
        cluster.manager(&["network", "create", "-d", driver, "--attachable", "--subnet", &subnet, network]);
        for (at, node) in cluster.nodes().iter().enumerate() {
            node.run_container(&format!("{network}-{at}"), &["--network", network]);
        }
        let count = tasks.to_string();
        let on = ["--network", network, "--replicas", &count, "--endpoint-mode", "dnsrr"];
        let how = ["--stop-grace-period", "1s", "--restart-delay", "0s", "busybox"];
        let what = ["service", "create", "--detach", "--name", name];
        let service = Self { cluster, network, name, tasks };
        service.round(false, || drop(cluster.manager(&[&what[..], &on, &how].concat())));
        service
    }

    fn is_task(&self, place: &Place) -> bool {
        place.service.as_deref() == Some(self.name)
    }

    fn patience(&self) -> Duration {
        PATIENCE + PATIENCE_EACH * self.tasks as u32
    }

    /// From half of the tasks to all of them: how long it takes until all reach all.
    fn scale(&self) -> Duration {
        let scale = |tasks: usize| {
            self.cluster.manager(&["service", "scale", "--detach", &format!("{}={tasks}", self.name)]);
        };
        let half = self.tasks / 2;
        scale(half);
        let mut places = Places::of(self.cluster, self.network);
        wait_until(self.patience(), "half of the tasks to be gone", || {
            places.look().iter().filter(|place| self.is_task(place)).count() == half
        });
        self.round(true, || scale(self.tasks)).took
    }

    fn redeploy(&self) -> Round {
        let update = ["service", "update", "--detach", "--force", "--update-parallelism", "0", self.name];
        self.round(false, || drop(self.cluster.manager(&update)))
    }

    /// Gives the command, and asks all pairs until every task is reached: of those that were there
    /// before only if they stay.
    #[track_caller]
    fn round(&self, stay: bool, command: impl FnOnce()) -> Round {
        let mut places = Places::of(self.cluster, self.network);
        let is_task = |place: &Place| self.is_task(place);
        let before: BTreeMap<_, _> = places.look().into_iter().map(|place| (place.id.clone(), place)).collect();
        let began = Instant::now();
        command();
        let deadline = self.patience();
        let (mut probes, mut looked, mut stale) = (Probes::default(), None, Vec::new());
        let mut now = Vec::new();
        loop {
            if looked.is_none_or(|at: Instant| at.elapsed() > Duration::from_millis(100)) {
                now = places.look();
                now.retain(|place| stay || !is_task(place) || !before.contains_key(&place.id));
                looked = Some(Instant::now());
                probes.follow(&now);
                // Sampled while it matters: what heals later was wrong all the same.
                let old = |place: &&Place| place.started.elapsed().is_ok_and(|age| age > SETTLED);
                stale.extend(truth::remembered(&now.iter().filter(old).cloned().collect::<Vec<_>>()));
            }
            probes.ask();
            let tasks = now.iter().filter(|place| is_task(place)).count();
            if tasks == self.tasks && probes.missing().is_empty() {
                break;
            }
            assert!(
                began.elapsed() < deadline,
                "{}: {tasks} of {} tasks; not reached: {:#?}; {:#?}",
                self.network,
                self.tasks,
                probes.missing(),
                truth::remembered(&now)
            );
            thread::sleep(Duration::from_millis(2));
        }
        let took = began.elapsed();
        stale.extend(truth::remembered(&now));
        // The engine's own overlay is measured here, and not judged.
        assert!(self.network != "fleet" || stale.is_empty(), "remembered wrongly: {stale:#?}");
        let nodes: BTreeMap<_, _> = before.values().map(|place| (place.address, place.node)).collect();
        let moved =
            now.iter().filter(|place| nodes.get(&place.address).is_some_and(|node| *node != place.node)).count();
        Round { arrivals: probes.arrivals(is_task), took, moved }
    }

    fn remove(self) {
        self.cluster.manager(&["service", "rm", self.name]);
        for (at, node) in self.cluster.nodes().iter().enumerate() {
            node.docker(&["rm", "-f", &format!("{}-{at}", self.network)]).ok();
        }
        self.cluster.remove_network(self.network);
    }
}

/// Rounds and tasks.
fn size(rounds: usize, tasks: usize) -> (usize, usize) {
    let asked = std::env::var("REDEPLOY").unwrap_or_default();
    let parsed = asked.split_once('x').and_then(|(rounds, tasks)| Some((rounds.parse().ok()?, tasks.parse().ok()?)));
    parsed.unwrap_or((rounds, tasks))
}

#[test]
fn mass_redeploys_leave_nothing_stale() {
    let (rounds, tasks) = size(3, 22);
    let cluster = Cluster::up();
    let service = Service::create(&cluster, "pontoon:latest", "fleet", "web", tasks);
    let mut moved = 0;
    for _ in 0..rounds {
        moved += service.redeploy().moved;
        // Everything else as well: forwarding, floods, links, endpoints.
        cluster.settle("fleet", "nothing of the tasks before to be left");
    }
    assert!(moved > 0, "no address went to another node: nothing was tried");
    service.remove();
    cluster.nothing_left();
}

#[test]
#[ignore = "measurement: make redeploy"]
fn beside_the_engines_own_overlay() {
    let (rounds, tasks) = size(5, 54);
    let cluster = Cluster::up();
    let ours = Service::create(&cluster, "pontoon:latest", "fleet", "web", tasks);
    let theirs = Service::create(&cluster, "overlay", "builtin", "other", tasks);
    let (mut results, mut scaled) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..rounds {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let service = [&ours, &theirs][side];
            results[side].push(service.redeploy());
            scaled[side].push(service.scale());
        }
    }
    let (major, minor) = cluster.nodes()[0].engine_version();
    println!("\n{rounds} rounds of {tasks} tasks on three nodes, engine {major}.{minor}, in turns\n");
    println!("| what | Pontoon | built-in overlay | ratio |\n|---|---|---|---|");
    let row = |what: &str, at: f64, times: &[Vec<Duration>; 2]| {
        let [ours, theirs] = times.each_ref().map(|times| {
            let mut times = times.clone();
            times.sort();
            times[((times.len() - 1) as f64 * at).round() as usize]
        });
        println!("| {what} | {ours:.1?} | {theirs:.1?} | {:.2} |", ours.as_secs_f64() / theirs.as_secs_f64());
    };
    let arrivals = |of: fn(&Arrival) -> Duration| {
        results.each_ref().map(|rounds| rounds.iter().flat_map(|round| round.arrivals.iter().map(of)).collect())
    };
    let took = results.each_ref().map(|rounds| rounds.iter().map(|round| round.took).collect());
    let asked = arrivals(|arrival| arrival.asked);
    row("a task is asked by all and asks all until the last answer, median", 0.5, &asked);
    row("the same, 95 of 100", 0.95, &asked);
    row("the same, slowest", 1.0, &asked);
    let running = arrivals(|arrival| arrival.running);
    row("a task runs, its engine tells of it, and so on until the last answer, median", 0.5, &running);
    row("from the command until all reach all, median", 0.5, &took);
    row("from `docker service scale`, half of the tasks to all, until all reach all, median", 0.5, &scaled);
    let moved = results.each_ref().map(|rounds| rounds.iter().map(|round: &Round| round.moved).sum::<usize>());
    println!("| addresses that went to another node | {} | {} | |", moved[0], moved[1]);
    println!("| stale entries | 0 | not judged | |");
    ours.remove();
    theirs.remove();
}
