//! The cost of a packet's path: connections, round trips and bytes, with client and server on one processor at real-time
//! priority, so that neither wake-ups on another processor nor other work is measured. One host with Pontoon and one with
//! the built-in bridge, in rounds of random order; each ratio is the median over the rounds.
//!
//! A second host with Pontoon has a fast path between its containers (`pontoon.shortcut=auto`).
//!
//! With `PONTOON_BEFORE=FILE` a fourth host runs that binary, and is measured in the same rounds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::flow;
use crate::report::{Row, median, middle, show};
use crate::traffic::Host;
use testkit::{Options, Segment, wait_until};

const ROUNDS: usize = 21;
const CONNECTIONS: usize = 400;
const ROUND_TRIPS: usize = 3000;
const SPAN: Duration = Duration::from_millis(300);
const GIGABYTE_IN_BITS: f64 = 8.0;

/// What is measured, in the order of [`measure`].
const WHAT: [&str; 5] = [
    "new connection from outside to a published port",
    "round trip, outside to a published port",
    "round trip, container to container",
    "a gigabyte, outside to a published port",
    "a gigabyte, container to container",
];

fn measure(host: &Host, outside: &Path) -> [Duration; WHAT.len()] {
    let bytes = |from: &Path, to| {
        Duration::from_secs_f64(GIGABYTE_IN_BITS / flow::throughput(from, to, SPAN).max(f64::MIN_POSITIVE))
    };
    [
        median(&flow::connections(outside, host.published, CONNECTIONS)),
        median(&flow::round_trips(outside, host.published, ROUND_TRIPS)),
        median(&flow::round_trips(&host.neighbour, host.direct, ROUND_TRIPS)),
        bytes(outside, host.published),
        bytes(&host.neighbour, host.direct),
    ]
}

pub fn run() -> Vec<Row> {
    let segment = Segment::up();
    let outside = Options::new().uplink(&segment, 9).bare().up();
    flow::pin();
    let before = std::env::var_os("PONTOON_BEFORE").map(PathBuf::from);
    let short = Host::with(&segment, 4, "pontoon", None, &["-o", "pontoon.shortcut=auto"]);
    wait_until(Duration::from_secs(30), "the fast path", || {
        let table = short.node.exec(&["nft", "list", "table", "netdev", "pontoon"]);
        table.success() && table.ok().contains("to its neighbours")
    });
    let mut hosts = vec![Host::up(&segment, 2, "bridge", None), Host::up(&segment, 1, "pontoon", None), short];
    hosts.extend(before.as_deref().map(|binary| Host::up(&segment, 3, "pontoon", Some(binary))));
    let from = flow::of_node(&outside);
    let mut times = vec![[const { Vec::new() }; WHAT.len()]; hosts.len()];
    let mut random = 1u64;
    for _ in 0..ROUNDS {
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        for at in (1..order.len()).rev() {
            // Knuth's numbers for a linear congruential generator.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(at, (random >> 33) as usize % (at + 1));
        }
        for host in order {
            for (kept, time) in times[host].iter_mut().zip(measure(&hosts[host], &from)) {
                kept.push(time);
            }
        }
    }
    let (major, minor) = hosts[1].node.engine_version();
    let mut rows = Vec::new();
    for (at, what) in WHAT.iter().enumerate() {
        let theirs = &times[0][at];
        let whose = ["", ", pontoon.shortcut=auto", ", PONTOON_BEFORE"];
        for (host, whose) in (1..hosts.len()).zip(whose) {
            let ours = &times[host][at];
            let ratios: Vec<f64> =
                ours.iter().zip(theirs).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
            let (least, most) = ratios.iter().fold((f64::MAX, 0f64), |(least, most), r| (least.min(*r), most.max(*r)));
            eprintln!("{what}{whose}: {:.3} ({least:.3} to {most:.3})", middle(&ratios));
            rows.push(Row {
                what: format!("{what}{whose}, engine {major}.{minor}"),
                ours: show(median(ours)),
                against: format!("built-in bridge {}", show(median(theirs))),
                ratio: Some(middle(&ratios)),
                goal: None,
            });
        }
    }
    rows
}
