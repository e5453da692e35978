//! A disk that takes no more bytes, played by the limit on file sizes: a limit of the whole process,
//! so this test has a program of its own.

mod rig;

use rig::{Rig, endpoint, network, of};

/// Runs something while files may not grow beyond `size` bytes.
fn with_full_disk<T>(size: u64, act: impl FnOnce() -> T) -> T {
    // SAFETY: plain system call on the own process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` and `new` are valid for the calls; the soft limit is put back.
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

// One test: the limit is the whole process's.
#[test]
fn a_full_disk_fails_the_verb_and_nothing_else() {
    creations();
    deletions();
}

fn creations() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = rig.kernel.datapath();
    let size = std::fs::metadata(rig.ledger_file()).unwrap().len();
    let texts = with_full_disk(size + 10, || {
        [
            rig.err("NetworkDriver.CreateNetwork", network("bb", 2, false)),
            rig.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24")),
        ]
    });
    for text in texts {
        assert!(text.contains("ledger"), "{text}");
    }
    assert_eq!(rig.kernel.datapath(), before);
    rig.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
}

/// What the engine deletes is gone for it, whatever the answer: so it goes, and the ledger hears
/// of it as soon as there is room.
fn deletions() {
    let mut rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    rig.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    let before = rig.kernel.datapath();
    for id in ["e1", "e2", "e3"] {
        rig.ok("NetworkDriver.CreateEndpoint", endpoint(if id == "e1" { "aa" } else { "bb" }, id, ""));
    }
    let size = std::fs::metadata(rig.ledger_file()).unwrap().len();
    let texts = with_full_disk(size + 10, || {
        [
            rig.err("NetworkDriver.DeleteEndpoint", of("aa", "e1")),
            rig.err("NetworkDriver.DeleteNetwork", serde_json::json!({"NetworkID": "bb"})),
        ]
    });
    for text in texts {
        assert!(text.contains("ledger"), "{text}");
    }
    let left: Vec<_> = before.bridges().keys().filter(|name| name.as_str() != "pntbbb").cloned().collect();
    assert_eq!(rig.kernel.datapath().bridges().into_keys().collect::<Vec<_>>(), left);
    assert!(rig.kernel.datapath().veths().is_empty());
    // Its subnet and its name are free at once.
    rig.ok("NetworkDriver.CreateNetwork", network("cc", 2, false));
    let after = rig.kernel.datapath();
    rig.restart();
    assert_eq!(rig.life().driver.sizes(), (2, 0), "the ends are in the ledger");
    assert_eq!(rig.kernel.datapath(), after);
}
