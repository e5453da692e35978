//! `make bench`: the costs of Pontoon beside those of the kernel and the built-in driver, in one run, alternately, as
//! ratios. Needs root; real engines come from the lab, of the suite in `PONTOON_ENGINE`.
//!
//! `cargo bench --bench pontoon -- verbs scale` runs some of the parts. Each takes less than three minutes.

mod client;
mod crowd;
mod daemon;
mod engine;
mod flow;
mod lan;
mod overlay;
mod path;
mod peers;
mod ports;
mod raw;
mod report;
mod restart;
mod scale;
mod traffic;
mod verbs;

use report::{Report, Row};

/// A part's name, its description, and its function.
type Part = (&'static str, &'static str, fn() -> Vec<Row>);

const PARTS: [Part; 11] = [
    ("verbs", "the socket against raw netlink", || in_namespace(verbs::run)),
    ("scale", "1,000 endpoints: memory, start, comparison", || in_namespace(scale::run)),
    ("lan", "a start on a local network, beside one on a bridge of Pontoon's own", || in_namespace(lan::run)),
    ("ports", "netlink for a port, beside none to 10,000 of them", ports::run),
    ("restart", "10,000 published ports: start, memory, transactions", || in_namespace(restart::run)),
    ("engine", "docker run and network create/rm, against the built-in bridge", engine::run),
    ("crowd", "docker run -p, beside 1,000 endpoints and none", crowd::run),
    ("traffic", "connections, throughput and round trips, against the built-in bridge", traffic::run),
    ("path", "a packet's path on one processor, against the built-in bridge", path::run),
    ("overlay", "a Swarm of three: traffic across hosts, a node's way in, against the built-in overlay", overlay::run),
    ("peers", "an overlay with up to 1,000 other hosts; three with 300 endpoints each", || in_namespace(peers::run)),
];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|asked| PARTS.iter().all(|(name, ..)| name != asked)) {
        eprintln!("there is no part {unknown}; the parts are:");
        PARTS.iter().for_each(|(name, what, _)| eprintln!("  {name:8} {what}"));
        std::process::exit(2);
    }
    // SAFETY: plain system call without arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("the benchmark creates network namespaces and runs engines: run it as root");
        std::process::exit(1);
    }
    let mut report = Report::new();
    for (name, what, run) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            eprintln!("{name}: {what}");
            report.add(name, run());
        }
    }
    report.print();
    report.write(std::path::Path::new("target/bench.json"));
}

/// Runs `work` on a thread in a new network namespace; processes that it starts inherit the namespace, which is removed
/// with the last of them.
fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
                work()
            })
            .join()
            .expect("the benchmark completed")
    })
}
