//! A running daemon, seen from outside.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::daemon::Daemon;
use crate::rig::{Dir, endpoint, network, request};

/// CAP_NET_ADMIN (12) and CAP_NET_BIND_SERVICE (10).
const KEPT: &str = "0000000000001400";
const NONE: &str = "0000000000000000";

fn verb(daemon: &Daemon, method: &str, body: &serde_json::Value) -> String {
    let reply = request(&daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
    assert!(reply.status == 200 && !reply.body.contains("\"Err"), "{method}: {}\n{}", reply.body, daemon.log());
    reply.body
}

#[test]
fn every_thread_is_confined_and_verbs_work() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    verb(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    verb(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    assert!(daemon.shell("ip -o link show type bridge").contains("pntb"));
    assert_ne!(daemon.shell("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");

    let threads = daemon.of_threads("Name");
    assert!(threads.len() > 3, "the verbs' threads are among them: {threads:?}");
    for (field, expected) in [
        ("CapEff", KEPT),
        ("CapPrm", KEPT),
        ("CapBnd", KEPT),
        ("CapInh", NONE),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let found = daemon.of_threads(field);
        assert!(found.iter().all(|value| value == expected), "{field}: {found:?} of {threads:?}");
    }
    let line = daemon.log().lines().find(|line| line.contains("confined")).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("{}", daemon.log()));
    assert!(
        line.contains("capabilities=true no_new_privs=true landlock_abi=") && line.contains("seccomp=true"),
        "{line}"
    );
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
}

/// Inodes of /proc are made anew when the kernel forgot them, and rules are about inodes.
#[test]
fn settings_stay_within_reach_when_the_kernel_forgets_its_caches() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    for _ in 0..3 {
        std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
    verb(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    assert_ne!(daemon.shell("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
}

#[test]
fn its_files_are_its_own() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    for (path, mode) in [(&daemon.socket, 0o600), (&daemon.state, 0o700), (&daemon.state.join("ledger"), 0o600)] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (mode, 0, 0), "{}", path.display());
    }
}

#[test]
fn it_can_be_switched_off() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &["--confine", "off"]);
    assert!(daemon.of_threads("Seccomp").iter().all(|value| value == "0"));
    assert!(daemon.of_threads("CapEff").iter().all(|value| value != KEPT));
    assert!(daemon.log().contains("confinement is disabled (PONTOON_CONFINE=off)"), "{}", daemon.log());
}

/// A directory that root reads only by CAP_DAC_OVERRIDE is refused at the start, not some day later.
#[test]
fn a_directory_of_another_user_is_refused_at_once() {
    let dir = Dir::new();
    let theirs = dir.0.join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1), Some(1)).unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o700)).unwrap();
    let prefix = ["unshare", "--net"];
    let (status, log) = Daemon::launch(&dir.0, "a", &["--state-dir", theirs.to_str().unwrap()], &prefix).end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("Permission denied") && log.contains("give Pontoon read and write access"), "{log}");
}

/// The second says why, whatever it has in common with the first.
#[test]
fn a_second_pontoon_refuses() {
    let dir = Dir::new();
    let first = Daemon::start(&dir.0, &[]);
    let (state, socket) = (first.state.to_str().unwrap(), first.socket.to_str().unwrap());
    let inside = format!("--net=/proc/{}/ns/net", first.pid());
    let another_place = ["unshare", "--net"];
    for (name, prefix, args, message) in [
        ("state", another_place, ["--state-dir", state], "uses this directory; stop it, or give this one another"),
        ("socket", another_place, ["--socket", socket], "another process listens on this socket; stop it"),
        ("place", ["nsenter", &inside], ["--log", "info"], "another Pontoon already serves this network namespace"),
    ] {
        let (status, log) = Daemon::launch(&dir.0, name, &args, &prefix).end();
        assert_eq!(status.code(), Some(1), "{name}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("pontoon: ") && last.contains(message), "{name}: {log}");
    }
    let (_, log) = Daemon::launch(&dir.0, "who", &["--state-dir", state], &another_place).end();
    assert!(log.contains(&format!("process {}", first.pid())), "{log}");
    // The first has not noticed.
    verb(&first, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    assert!(first.socket.exists());
}

/// A dead one's socket and lock are in nobody's way.
#[test]
fn a_killed_pontoon_leaves_nothing_that_stops_the_next() {
    let dir = Dir::new();
    let first = Daemon::start(&dir.0, &[]);
    verb(&first, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    drop(first);
    assert!(dir.0.join("pontoon.sock").exists());
    let mut second = Daemon::start(&dir.0, &[]);
    second.until("the network to be known", |daemon| daemon.log().contains("networks=1"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let second = &second;
            scope.spawn(move || {
                verb(second, "NetworkDriver.CreateEndpoint", &endpoint("aa", &format!("e{thread}"), "10.1.0.2/24"))
            });
        }
    });
}
