//! What a user waits for: `docker run --rm` and `docker network create/rm` on Pontoon and on the
//! built-in bridge of the same engine, in turn.

use std::path::Path;
use std::time::Duration;

use crate::report::{Row, median};
use crate::support::Node;
use crate::verbs::time;

const RUNS: usize = 25;
/// The built-in driver takes seconds for 200 ports.
const MANY_RUNS: usize = 3;
const MANY: &str = "20000-20199:20000-20199";

pub fn run() -> Vec<Row> {
    let node = Node::up();
    let (major, minor) = node.engine_version();
    node.start_pontoon(Path::new("target/pontoon"), &["--log", "warn"]);
    for driver in ["bridge", "pontoon"] {
        node.docker(&["network", "create", "-d", driver, &format!("n-{driver}")]).ok();
    }
    let (mut run, mut create, mut remove) =
        ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for turn in 0..RUNS + 2 {
        // Who goes first changes from turn to turn; the first two turns warm up.
        let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let driver = ["bridge", "pontoon"][side];
            let keep = |times: &mut Vec<Duration>, took| {
                if turn >= 2 {
                    times.push(took);
                }
            };
            let network = format!("n-{driver}");
            keep(
                &mut run[side],
                time(|| drop(node.docker(&["run", "--rm", "--network", &network, "busybox", "true"]).ok())),
            );
            keep(&mut create[side], time(|| drop(node.docker(&["network", "create", "-d", driver, "extra"]).ok())));
            keep(&mut remove[side], time(|| drop(node.docker(&["network", "rm", "extra"]).ok())));
        }
    }
    let (mut one_port, mut many_ports) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for turn in 0..RUNS {
        for side in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let network = format!("n-{}", ["bridge", "pontoon"][side]);
            let run = |ports: &str| {
                time(|| drop(node.docker(&["run", "--rm", "--network", &network, "-p", ports, "busybox", "true"]).ok()))
            };
            one_port[side].push(run("18080:80"));
            if turn < MANY_RUNS {
                many_ports[side].push(run(MANY));
            }
        }
    }
    let own_share = program_time(&node);
    let row = |what: &str, times: &[Vec<Duration>; 2]| {
        let what = format!("{what}, engine {major}.{minor}");
        Row::ratio(&what, median(&times[1]), "built-in bridge", median(&times[0]), Some(1.0))
    };
    let with_goal = |mut row: Row, goal: f64| {
        row.goal = Some(goal);
        row
    };
    vec![
        with_goal(row("docker run --rm -p, 1 port", &one_port), 0.75),
        with_goal(row("docker run --rm -p, 200 ports", &many_ports), 0.05),
        Row::figure("Pontoon's own share of publishing, mean a call", own_share),
        row("docker run --rm busybox true", &run),
        row("docker network create", &create),
        row("docker network rm", &remove),
    ]
}

/// From the daemon's own counts: time in ProgramExternalConnectivity, and how many calls.
fn program_time(node: &Node) -> String {
    let text =
        node.exec(&["curl", "-s", "--unix-socket", "/run/docker/plugins/pontoon.sock", "http://pontoon/metrics"]).ok();
    let value = |name: &str| -> f64 {
        let key = format!("{name}{{method=\"program_external_connectivity\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&key)?.parse().ok()).unwrap_or(0.0)
    };
    let (calls, seconds) = (value("pontoon_verbs_total"), value("pontoon_verb_seconds_total"));
    format!("{:.2} ms over {calls} calls", 1e3 * seconds / calls.max(1.0))
}
