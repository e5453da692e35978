//! Kernel errors, lost answers, stalls: each request succeeds or fails as a whole, without leftovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pontoon::datapath::fake::Fault;
use pontoon::datapath::{Object, ObjectKind, Policy, Step};
use pontoon::model::Family;

use testkit::harness::{Harness, endpoint, network};

#[test]
fn a_permanently_refused_step_leaves_nothing() {
    // Each step of a dual-stack network and of an endpoint fails in turn, at every attempt.
    for at in 0..6 {
        let harness = Harness::new();
        harness.ok("NetworkDriver.CreateNetwork", network("first", 9, false));
        let before = harness.kernel.datapath();
        let kinds: [fn(&Step) -> bool; 6] = [
            |s| matches!(s, Step::Forward { family: Family::V6 }),
            |s| matches!(s, Step::ChangeFirewall { add, .. } if !add.is_empty()),
            |s| s.creates(ObjectKind::Bridge),
            |s| s.creates(ObjectKind::Veth),
            |s| s.creates(ObjectKind::Veth),
            |s| s.creates(ObjectKind::Veth),
        ];
        for _ in 0..10 {
            harness.kernel.inject(kinds[at], Fault::Refuse(libc::ENOMEM));
        }
        if at < 3 {
            let text = harness.err("NetworkDriver.CreateNetwork", network("aa", 1, true));
            assert!(text.contains("network aa"), "{text}");
        } else {
            let text = harness.err("NetworkDriver.CreateEndpoint", endpoint("first", "e1", "10.9.0.2/24"));
            assert!(text.contains("endpoint e1") && text.contains("Cannot allocate memory"), "{text}");
        }
        harness.life().driver.tick();
        let mut after = harness.kernel.datapath();
        // Forwarding stays enabled, for Pontoon's networks only.
        (after.forwarding, after.turned_on) = (before.forwarding, before.turned_on);
        after.policy.as_mut().unwrap().remove(&Policy::LimitedForwarding(Family::V6));
        assert_eq!(after, before, "step kind {at}");
        assert_eq!(harness.life().driver.sizes(), (1, 0));
    }
}

#[test]
fn a_step_refused_once_is_retried() {
    let harness = Harness::new();
    harness.kernel.inject(|s| s.creates(ObjectKind::Bridge), Fault::Refuse(libc::EBUSY));
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    harness.kernel.inject(|s| s.creates(ObjectKind::Veth), Fault::DoneButRefused(libc::EINTR));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert_eq!(harness.kernel.datapath().veths().len(), 1);
}

#[test]
fn a_request_creates_a_missing_table_or_bridge_again() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    harness.kernel.meddle(|d| d.policy = None);
    harness.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    assert_eq!(harness.kernel.datapath().policy.unwrap().len(), 11);
    harness.kernel.meddle(|d| d.objects.retain(|_, object| object.kind() != ObjectKind::Bridge));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert_eq!(harness.kernel.datapath().bridges().len(), 2);
}

#[test]
fn an_interrupted_dump_removes_nothing() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = harness.kernel.datapath();
    harness.kernel.tear(3);
    for _ in 0..3 {
        harness.life().driver.tick();
        assert_eq!(harness.kernel.datapath(), before);
    }
}

#[test]
fn a_stalled_request_is_answered_in_time_and_blocks_no_other() {
    let mut harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("slow", 1, false));
    harness.ok("NetworkDriver.CreateNetwork", network("quick", 2, false));
    harness.life = None;
    let kernel: std::sync::Arc<dyn pontoon::datapath::Kernel> = harness.kernel.clone();
    let life = testkit::harness::Process::begin(&harness.dir.0, kernel, "boot-1", Duration::from_millis(300));
    let stalls = |s: &Step| matches!(s, Step::Create(host, Object::Veth(_)) if host.as_str().contains("stuck"));
    harness.kernel.inject(stalls, Fault::Stall(Duration::from_millis(1500)));
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| life.err("NetworkDriver.CreateEndpoint", endpoint("slow", "stuck", "10.1.0.2/24")));
        std::thread::sleep(Duration::from_millis(100));
        // Other requests are served meanwhile.
        life.ok("NetworkDriver.CreateEndpoint", endpoint("quick", "e1", "10.2.0.2/24"));
        assert!(!stuck.is_finished());
        let text = stuck.join().unwrap();
        assert!(text.contains("no result within"), "{text}");
    });
    // The request continued in the background and finished.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while harness.kernel.datapath().veths().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the stalled request never finished");
        std::thread::sleep(Duration::from_millis(10));
    }
    life.ok("NetworkDriver.CreateEndpoint", endpoint("slow", "stuck", "10.1.0.2/24"));
}

#[test]
fn a_failing_repair_is_retried_with_backoff_until_requested() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let driver = &harness.life().driver;
    harness.kernel.meddle(|d| d.objects.retain(|_, object| object.kind() != ObjectKind::Bridge));
    let tried = Arc::new(AtomicUsize::new(0));
    // Each reconciliation tries due steps with all others and, when that fails, alone.
    for _ in 0..20 {
        let tried = Arc::clone(&tried);
        let counts = move |s: &Step| {
            let ours = s.creates(ObjectKind::Bridge);
            tried.fetch_add(usize::from(ours), Relaxed);
            ours
        };
        harness.kernel.inject(counts, Fault::Refuse(libc::EEXIST));
    }
    for turn in 1..=9 {
        assert!(driver.repair_all().is_err(), "the operator gets the error");
        assert_eq!((tried.load(Relaxed), driver.reconciler().failing()), (turn * 2, 1));
    }
    let next = driver.reconciler().next_try().expect("a date");
    assert!(next > std::time::Instant::now() + Duration::from_secs(60));
    // Other repairs do not wait for it, and waiting does not count as a failure.
    let failures = driver.reconciler().counts.failures.load(Relaxed);
    harness.kernel.meddle(|d| d.policy = None);
    for _ in 0..3 {
        driver.tick();
    }
    assert!(harness.kernel.datapath().policy.is_some());
    assert_eq!((tried.load(Relaxed), driver.reconciler().failing()), (18, 1));
    assert_eq!(driver.reconciler().counts.failures.load(Relaxed), failures);
    driver.repair_all().unwrap_err();
    driver.repair_all().unwrap();
    assert_eq!((harness.kernel.datapath().bridges().len(), driver.reconciler().failing()), (1, 0));
    assert_eq!(driver.reconciler().next_try(), None);
}
