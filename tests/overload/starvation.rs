//! A network with stuck requests does not delay others. Uses the fake kernel, which can be made to stall.

use pontoon::datapath::ObjectKind;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pontoon::datapath::fake::Fault;

use crate::{connect, head};
use testkit::harness::{Harness, endpoint, network, read_reply};

#[test]
fn a_stuck_network_starves_no_other() {
    const STUCK: usize = 300;
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("stuck", 1, false));
    harness.ok("NetworkDriver.CreateNetwork", network("free", 2, false));
    let stall = Duration::from_secs(4);
    harness.kernel.inject(|step| step.creates(ObjectKind::Veth), Fault::Stall(stall));
    // One request holds the network's lock and waits for the kernel; all others wait for the lock.
    let began = Instant::now();
    let mut streams: Vec<_> = (0..STUCK).map(|_| connect(&harness.life().socket)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let body = endpoint("stuck", &format!("s{number:03}"), &format!("10.1.0.{}/24", 2 + number % 250)).to_string();
        write!(stream, "{}{body}", head("NetworkDriver.CreateEndpoint", body.len())).unwrap();
    }
    static OVER: AtomicBool = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for stream in &mut streams {
                assert!(read_reply(stream).is_some());
            }
            OVER.store(true, Ordering::SeqCst);
        });
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let asked = Instant::now();
            let id = format!("f{number}");
            harness.ok("NetworkDriver.CreateEndpoint", endpoint("free", &id, &format!("10.2.0.{}/24", 2 + number)));
            harness.ok("NetworkDriver.DeleteEndpoint", testkit::harness::of("free", &id));
            slowest = slowest.max(asked.elapsed());
        }
        assert!(!OVER.load(Ordering::SeqCst) && began.elapsed() < stall, "the others did not stay stuck");
        assert!(slowest < Duration::from_secs(1), "an endpoint took {slowest:?}");
        println!("slowest pair of requests beside {STUCK} stuck ones: {slowest:?}");
    });
}
