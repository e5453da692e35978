//! The kernel refuses, loses answers, stalls: verbs succeed or fail whole, and nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pontoon::datapath::fake::Fault;
use pontoon::datapath::{Object, ObjectKind, Policy, Step};
use pontoon::model::Family;

use super::rig::{Rig, endpoint, network};

#[test]
fn every_step_refused_for_good_leaves_nothing() {
    // Each step of a dual-stack network and of an endpoint fails in turn, as often as it is tried.
    for at in 0..6 {
        let rig = Rig::new();
        rig.ok("NetworkDriver.CreateNetwork", network("first", 9, false));
        let before = rig.kernel.datapath();
        let kinds: [fn(&Step) -> bool; 6] = [
            |s| matches!(s, Step::Forward { family: Family::V6 }),
            |s| matches!(s, Step::ChangeFirewall { add, .. } if !add.is_empty()),
            |s| s.creates(ObjectKind::Bridge),
            |s| s.creates(ObjectKind::Veth),
            |s| s.creates(ObjectKind::Veth),
            |s| s.creates(ObjectKind::Veth),
        ];
        for _ in 0..10 {
            rig.kernel.inject(kinds[at], Fault::Refuse(libc::ENOMEM));
        }
        if at < 3 {
            let text = rig.err("NetworkDriver.CreateNetwork", network("aa", 1, true));
            assert!(text.contains("network aa"), "{text}");
        } else {
            let text = rig.err("NetworkDriver.CreateEndpoint", endpoint("first", "e1", "10.9.0.2/24"));
            assert!(text.contains("endpoint e1") && text.contains("Cannot allocate memory"), "{text}");
        }
        rig.life().driver.tick();
        let mut after = rig.kernel.datapath();
        // Forwarding that was turned on stays on, for Pontoon's networks alone.
        (after.forwarding, after.turned_on) = (before.forwarding, before.turned_on);
        after.policy.as_mut().unwrap().remove(&Policy::LimitedForwarding(Family::V6));
        assert_eq!(after, before, "step kind {at}");
        assert_eq!(rig.life().driver.sizes(), (1, 0));
    }
}

#[test]
fn a_step_refused_once_is_tried_again() {
    let rig = Rig::new();
    rig.kernel.inject(|s| s.creates(ObjectKind::Bridge), Fault::Refuse(libc::EBUSY));
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    rig.kernel.inject(|s| s.creates(ObjectKind::Veth), Fault::DoneButRefused(libc::EINTR));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert_eq!(rig.kernel.datapath().veths().len(), 1);
}

#[test]
fn a_verb_finds_the_table_or_the_bridge_gone_and_makes_it_anew() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    rig.kernel.meddle(|d| d.policy = None);
    rig.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    assert_eq!(rig.kernel.datapath().policy.unwrap().len(), 11);
    rig.kernel.meddle(|d| d.objects.retain(|_, object| object.kind() != ObjectKind::Bridge));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    assert_eq!(rig.kernel.datapath().bridges().len(), 2);
}

#[test]
fn a_torn_listing_removes_nothing() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = rig.kernel.datapath();
    rig.kernel.tear(3);
    for _ in 0..3 {
        rig.life().driver.tick();
        assert_eq!(rig.kernel.datapath(), before);
    }
}

#[test]
fn a_stalled_kernel_answers_in_time_and_holds_up_nobody_else() {
    let mut rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("slow", 1, false));
    rig.ok("NetworkDriver.CreateNetwork", network("quick", 2, false));
    rig.life = None;
    let kernel: std::sync::Arc<dyn pontoon::datapath::Kernel> = rig.kernel.clone();
    let life = super::rig::Process::begin(&rig.dir.0, kernel, "boot-1", Duration::from_millis(300));
    let stalls = |s: &Step| matches!(s, Step::Create(host, Object::Veth(_)) if host.as_str().contains("stuck"));
    rig.kernel.inject(stalls, Fault::Stall(Duration::from_millis(1500)));
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| life.err("NetworkDriver.CreateEndpoint", endpoint("slow", "stuck", "10.1.0.2/24")));
        std::thread::sleep(Duration::from_millis(100));
        // While it hangs, others are served.
        life.ok("NetworkDriver.CreateEndpoint", endpoint("quick", "e1", "10.2.0.2/24"));
        assert!(!stuck.is_finished());
        let text = stuck.join().unwrap();
        assert!(text.contains("no result within"), "{text}");
    });
    // It went on in the background and finished.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while rig.kernel.datapath().veths().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the stalled verb never finished");
        std::thread::sleep(Duration::from_millis(10));
    }
    life.ok("NetworkDriver.CreateEndpoint", endpoint("slow", "stuck", "10.1.0.2/24"));
}

#[test]
fn what_fails_time_and_again_is_tried_less_often_until_somebody_asks() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let driver = &rig.life().driver;
    rig.kernel.meddle(|d| d.objects.retain(|_, object| object.kind() != ObjectKind::Bridge));
    let tried = Arc::new(AtomicUsize::new(0));
    // Each comparison tries what is due with all the rest and, when that fails, by itself.
    for _ in 0..20 {
        let tried = Arc::clone(&tried);
        let counts = move |s: &Step| {
            let ours = s.creates(ObjectKind::Bridge);
            tried.fetch_add(usize::from(ours), Relaxed);
            ours
        };
        rig.kernel.inject(counts, Fault::Refuse(libc::EEXIST));
    }
    for turn in 1..=9 {
        assert!(driver.repair_all().is_err(), "an operator is told");
        assert_eq!((tried.load(Relaxed), driver.reconciler().failing()), (turn * 2, 1));
    }
    let next = driver.reconciler().next_try().expect("a date");
    assert!(next > std::time::Instant::now() + Duration::from_secs(60));
    // Nothing else waits for it, and it is no failure to wait.
    let failures = driver.reconciler().counts.failures.load(Relaxed);
    rig.kernel.meddle(|d| d.policy = None);
    for _ in 0..3 {
        driver.tick();
    }
    assert!(rig.kernel.datapath().policy.is_some());
    assert_eq!((tried.load(Relaxed), driver.reconciler().failing()), (18, 1));
    assert_eq!(driver.reconciler().counts.failures.load(Relaxed), failures);
    driver.repair_all().unwrap_err();
    driver.repair_all().unwrap();
    assert_eq!((rig.kernel.datapath().bridges().len(), driver.reconciler().failing()), (1, 0));
    assert_eq!(driver.reconciler().next_try(), None);
}
