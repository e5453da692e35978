//! What a user waits for: `docker run --rm` and `docker network create/rm` on Pontoon and on the
//! built-in bridge of the same engine, in turn.

use std::path::Path;
use std::time::Duration;

use crate::report::{Row, median};
use crate::support::Node;
use crate::verbs::time;

const RUNS: usize = 25;

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
    let row = |what: &str, times: &[Vec<Duration>; 2]| {
        let what = format!("{what}, engine {major}.{minor}");
        Row::ratio(&what, median(&times[1]), "built-in bridge", median(&times[0]), Some(1.0))
    };
    vec![
        row("docker run --rm busybox true", &run),
        row("docker network create", &create),
        row("docker network rm", &remove),
    ]
}
