//! A disk that takes no more bytes, played by the limit on file sizes: a limit of the whole process,
//! so this test has a program of its own.

mod rig;

use rig::{Rig, endpoint, network};

#[test]
fn a_full_disk_fails_the_verb_and_nothing_else() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("aa", 1, false));
    let before = rig.kernel.datapath();
    // SAFETY: plain system call on the own process; restored below.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let size = std::fs::metadata(rig.ledger_file()).unwrap().len();
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` and `new` are valid for the calls; the soft limit is put back.
    unsafe {
        libc::getrlimit(libc::RLIMIT_FSIZE, &mut old);
        let new = libc::rlimit { rlim_cur: size + 10, rlim_max: old.rlim_max };
        libc::setrlimit(libc::RLIMIT_FSIZE, &new);
    }
    let network_text = rig.err("NetworkDriver.CreateNetwork", network("bb", 2, false));
    let endpoint_text = rig.err("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &old) };
    for text in [network_text, endpoint_text] {
        assert!(text.contains("ledger"), "{text}");
    }
    assert_eq!(rig.kernel.datapath(), before);
    rig.ok("NetworkDriver.CreateNetwork", network("bb", 2, false));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
}
