//! A full disk, simulated by the limit on file sizes: the limit applies to the whole process, so this test has its own
//! binary.

use testkit::harness::{Harness, endpoint, network, of};

/// Runs a closure while files cannot grow beyond `size` bytes.
fn with_full_disk<T>(size: u64, act: impl FnOnce() -> T) -> T {
    // SAFETY: plain system call on the own process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` and `new` are valid for the calls; the soft limit is restored.
    unsafe {
        libc::getrlimit(libc::RLIMIT_FSIZE, &mut old);
        let new = libc::rlimit { rlim_cur: size, rlim_max: old.rlim_max };
        libc::setrlimit(libc::RLIMIT_FSIZE, &new);
    }
    let result = act();
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &old) };
    result
}

// A single test, because the limit applies to the whole process.
#[test]
fn a_full_disk_fails_only_the_request() {
    creations();
    deletions();
}

fn creations() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = harness.kernel.datapath();
    let size = std::fs::metadata(harness.ledger_file()).unwrap().len();
    let texts = with_full_disk(size + 10, || {
        [
            harness.err("NetworkDriver.CreateNetwork", network("bb", 2, false)),
            harness.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24")),
        ]
    });
    for text in texts {
        assert!(text.contains("ledger"), "{text}");
    }
    assert_eq!(harness.kernel.datapath(), before);
    harness.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
}

/// The engine forgets what it deletes, whatever the answer: so the deletion is carried out, and recorded in the ledger
/// as soon as there is space.
fn deletions() {
    let mut harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    harness.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    let before = harness.kernel.datapath();
    for id in ["e1", "e2", "e3"] {
        harness.ok("NetworkDriver.CreateEndpoint", endpoint(if id == "e1" { "aa" } else { "bb" }, id, ""));
    }
    let size = std::fs::metadata(harness.ledger_file()).unwrap().len();
    let texts = with_full_disk(size + 10, || {
        [
            harness.err("NetworkDriver.DeleteEndpoint", of("aa", "e1")),
            harness.err("NetworkDriver.DeleteNetwork", serde_json::json!({"NetworkID": "bb"})),
        ]
    });
    for text in texts {
        assert!(text.contains("ledger"), "{text}");
    }
    let left: Vec<_> = before.bridges().keys().filter(|name| name.as_str() != "pntbbb").cloned().collect();
    assert_eq!(harness.kernel.datapath().bridges().into_keys().collect::<Vec<_>>(), left);
    assert!(harness.kernel.datapath().veths().is_empty());
    // The subnet and the name are free at once.
    harness.ok("NetworkDriver.CreateNetwork", network("cc", 2, false));
    let after = harness.kernel.datapath();
    harness.restart();
    assert_eq!(harness.life().driver.sizes(), (2, 0), "the deletions are in the ledger");
    assert_eq!(harness.kernel.datapath(), after);
}
