//! Replaces all tasks of a service repeatedly, on a subnet with hardly a spare address, so that each address moves to
//! another node as soon as it is free. Every pair of tasks is probed from the start, and learned state is compared with
//! the actual locations.
//!
//! `REDEPLOY=10x240` runs ten rounds of 240 tasks. All hosts of the lab share the neighbour table of one kernel: from
//! 32 tasks on, each with entries for all others, the default of 1,024 entries is not enough
//! (`net.ipv4.neigh.default.gc_thresh1` to `gc_thresh3`). Choose numbers a few below a power of two, so that addresses
//! are scarce. `make redeploy` alternates with the engine's own overlay, and prints how long it takes until tasks are
//! reached.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::consistency;
use crate::place::{Place, Places};
use crate::probe::{Arrival, Probes};
use testkit::wait_until;

/// A wrong entry for a container that has run for this time is stale: Pontoon's last announcement comes after three
/// seconds. Without it a kernel needs eight seconds to detect the change.
const SETTLED: Duration = Duration::from_secs(4);

/// Deadline of one round, plus time for each task.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_EACH: Duration = Duration::from_secs(2);

/// A network with a service on it, and a watcher on each node: a permanent container that has contacted every earlier
/// task.
struct Service<'a> {
    cluster: &'a Cluster,
    network: &'static str,
    name: &'static str,
    tasks: usize,
}

/// The result of one round.
struct Round {
    /// When each task reached, and was reached by, all others.
    arrivals: Vec<Arrival>,
    /// The time from the command until then, for all tasks.
    took: Duration,
    /// The number of addresses that moved to another node.
    moved: usize,
}

impl<'a> Service<'a> {
    fn create(cluster: &'a Cluster, driver: &str, network: &'static str, name: &'static str, tasks: usize) -> Self {
        // Network, broadcast, gateway; watchers; and the address that the engine's own overlay needs for each node.
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

    /// Scales from half of the tasks to all of them; the time until all reach all.
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

    /// Runs the command, and probes all pairs until every task is reached; the previous tasks are included only if they
    /// `stay`.
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
                // Sampled during the round: an entry that is corrected later was nevertheless wrong.
                let old = |place: &&Place| place.started.elapsed().is_ok_and(|age| age > SETTLED);
                stale.extend(consistency::wrong_neighbours(&now.iter().filter(old).cloned().collect::<Vec<_>>()));
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
                consistency::wrong_neighbours(&now)
            );
            thread::sleep(Duration::from_millis(2));
        }
        let took = began.elapsed();
        stale.extend(consistency::wrong_neighbours(&now));
        // The engine's own overlay is measured, without assertions.
        assert!(self.network != "fleet" || stale.is_empty(), "stale entries: {stale:#?}");
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

/// The numbers of rounds and tasks.
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
        // All other state as well: forwarding, flooding, links, endpoints.
        cluster.wait_for_consistency("fleet", "state of the previous tasks to be removed");
    }
    assert!(moved > 0, "no address moved to another node: the case was not tested");
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
    row("first probe of a task to the last answer, median", 0.5, &asked);
    row("the same, 95 of 100", 0.95, &asked);
    row("the same, slowest", 1.0, &asked);
    let running = arrivals(|arrival| arrival.running);
    row("start of a task to the last answer, median", 0.5, &running);
    row("command until all tasks reach each other, median", 0.5, &took);
    row("`docker service scale` from half of the tasks to all, until all reach each other, median", 0.5, &scaled);
    let moved = results.each_ref().map(|rounds| rounds.iter().map(|round: &Round| round.moved).sum::<usize>());
    println!("| addresses that moved to another node | {} | {} | |", moved[0], moved[1]);
    println!("| stale entries | 0 | not checked | |");
    ours.remove();
    theirs.remove();
}
