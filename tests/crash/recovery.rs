//! Recovery time: from kill -9 to serving, with many endpoints.

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::fixture;
use super::kernel_view::Surroundings;

/// Number of measured crashes.
const TIMES: usize = 5;

#[test]
fn a_host_with_many_containers_recovers_quickly() {
    let count = super::size("CRASH_ENDPOINTS", 60) as usize;
    let serving = fixture::run_on_host("r", 3, |engine, around| measure(engine, around, count));
    assert!(serving < Duration::from_secs(5), "{serving:?}");
}

/// The median time until it serves again.
fn measure(engine: &mut Engine<'_>, around: &Surroundings, count: usize) -> Duration {
    let host = engine.host;
    let network = engine.create_network_with_retries("10.80.0.0/16");
    for number in 0..count {
        engine.attach(&network, 2, &format!("eth{number}"), &[]).expect("a container");
    }
    let (mut serving, mut verified) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        // The firewall is flushed while Pontoon does not run, so that the next start has something to repair.
        let began = Instant::now();
        host.kill();
        host.netns.run(&["nft", "delete table inet pontoon"]);
        host.start();
        serving.push(began.elapsed());
        fixture::compare(host, &[engine], around);
        verified.push(began.elapsed());
    }
    serving.sort();
    verified.sort();
    let show = |times: &[Duration]| format!("{:.0} ms", times[times.len() / 2].as_secs_f64() * 1e3);
    println!(
        "with {} endpoints, median of {TIMES}: from kill -9 to serving, the flushed firewall repaired: {}; \
         to a datapath that ip and nft have verified: {}",
        engine.attached.len(),
        show(&serving),
        show(&verified)
    );
    serving[TIMES / 2]
}
