//! `make bench`: what Pontoon costs beside what the kernel and the built-in driver cost, in one
//! run, interleaved, as ratios. Needs root; real engines come from the lab.
//!
//! Parts: `verbs` (the socket against raw netlink), `scale` (1,000 endpoints: memory, start,
//! reconcile), `engine` (`docker run` and `network create/rm` against the built-in bridge).
//! `cargo bench --bench pontoon -- verbs scale` runs some of them.

#[path = "../../tests/support/mod.rs"]
mod support;

mod client;
mod daemon;
mod engine;
mod raw;
mod report;
mod scale;
mod verbs;

use report::Report;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|arg| arg == part);
    // SAFETY: plain system call without arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("the benchmark makes network namespaces and runs engines: run it as root");
        std::process::exit(1);
    }
    let mut report = Report::new();
    if wanted("verbs") {
        in_namespace(verbs::run).into_iter().for_each(|row| report.add(row));
    }
    if wanted("scale") {
        in_namespace(scale::run).into_iter().for_each(|row| report.add(row));
    }
    if wanted("engine") {
        engine::run().into_iter().for_each(|row| report.add(row));
    }
    report.print();
    report.write(std::path::Path::new("target/bench.json"));
}

/// Runs `work` on a thread with a network namespace of its own; processes that it starts are in
/// there too, and the namespace goes with the last of them.
fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
                work()
            })
            .join()
            .expect("the benchmark ran through")
    })
}
