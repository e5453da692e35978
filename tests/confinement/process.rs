//! A running daemon, inspected from outside.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use testkit::daemon::Daemon;
use testkit::harness::{Dir, endpoint, network, request};
use testkit::wait_until;

/// CAP_NET_ADMIN (12) and CAP_NET_BIND_SERVICE (10).
const KEPT: &str = "0000000000001400";
/// CAP_NET_RAW (13).
const NET_RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";

fn call(daemon: &Daemon, method: &str, body: &serde_json::Value) -> String {
    let reply = request(&daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
    assert!(reply.status == 200 && !reply.body.contains("\"Err"), "{method}: {}\n{}", reply.body, daemon.log());
    reply.body
}

#[test]
fn every_thread_is_confined_and_verbs_work() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    call(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    assert!(daemon.shell("ip -o link show type bridge").contains("pntb"));
    assert_ne!(daemon.shell("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");

    let threads = daemon.of_threads("Name");
    assert!(threads.len() > 3, "threads that serve requests are among them: {threads:?}");
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

/// As the systemd unit starts it, without CAP_SETPCAP: it has what the unit grants at most, and has no reason to warn.
#[test]
fn the_capabilities_of_the_unit_suffice() {
    let dir = Dir::new();
    let unit = include_str!("../../plugin/systemd/pontoon.service");
    let granted = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("a bounding set");
    let granted = granted.to_lowercase().replace("cap_", "+").replace(' ', ",");
    let prefix = ["unshare", "--net", "setpriv", "--no-new-privs", "--bounding-set", &format!("-all,{granted}")];
    let daemon = Daemon::start_by(&dir.0, &[], &prefix);
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    call(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    for (field, expected) in [("CapEff", KEPT), ("CapPrm", KEPT), ("CapInh", NONE), ("CapAmb", NONE)] {
        assert_eq!(daemon.status(field), expected, "{field}");
    }
    let log = daemon.log();
    assert!(log.contains("capabilities=true") && !log.contains("WARN"), "{log}");
}

/// The process that opens packet sockets: the only child, of the first thread, before there are others.
fn opener(daemon: &Daemon) -> String {
    let pid = daemon.pid();
    daemon.shell(&format!("cat /proc/{pid}/task/{pid}/children")).trim().to_owned()
}

/// The process that opens packet sockets has that privilege and no other, does not have the daemon's files, and ends with
/// the daemon.
#[test]
fn the_process_that_opens_packet_sockets_has_only_that_privilege() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    let child = opener(&daemon);
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{child}/{file}")).unwrap_or_default();
    assert_eq!(read("comm").trim(), "pontoon-packets", "child {child}");
    let status = read("status");
    let value = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("{field}: {status}")).to_owned()
    };
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(value(field), NET_RAW, "{field}");
    }
    for (field, expected) in [("CapInh", NONE), ("CapAmb", NONE), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        assert_eq!(value(field), expected, "{field}");
    }
    let open = daemon.shell(&format!("ls /proc/{child}/fd"));
    assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let channel = daemon.shell(&format!("readlink /proc/{child}/fd/3"));
    assert!(channel.starts_with("socket:"), "{channel}");
    // Ends of terminals are for the daemon, which may need sockets until it has ended.
    daemon.shell(&format!("kill -INT {child}; kill -TERM {child}"));
    assert_eq!(read("comm").trim(), "pontoon-packets");

    drop(daemon);
    wait_until(Duration::from_secs(10), "its end", || {
        // As a zombie, until the process that adopted it waits for it.
        let status = read("status");
        status.is_empty() || status.contains("State:\tZ")
    });
}

/// If it ends, existing networks keep working, and the daemon says what a new one lacks.
#[test]
fn a_daemon_without_the_process_that_opens_packet_sockets_says_so() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    daemon.shell("ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up");
    let mut on_a_parent = network("aa", 1, false);
    on_a_parent["Options"]["com.docker.network.generic"] = serde_json::json!({"parent": "lan0"});
    call(&daemon, "NetworkDriver.CreateNetwork", &on_a_parent);
    let deaf = || {
        let status = request(&daemon.socket, "GET", "/status", b"").body;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["conflicts"]["deaf"] == true
    };
    assert!(!deaf(), "{}", daemon.log());
    daemon.shell(&format!("kill -KILL {}", opener(&daemon)));
    wait_until(Duration::from_secs(10), "the daemon to know", deaf);
    call(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
}

/// The kernel may evict and create inodes of /proc, and Landlock rules apply to inodes.
#[test]
fn settings_stay_writable_after_the_kernel_drops_its_caches() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    for _ in 0..3 {
        std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    assert_ne!(daemon.shell("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
}

#[test]
fn its_files_are_private() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &[]);
    for (path, mode) in [(&daemon.socket, 0o600), (&daemon.state, 0o700), (&daemon.state.join("ledger"), 0o600)] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (mode, 0, 0), "{}", path.display());
    }
}

#[test]
fn confinement_can_be_disabled() {
    let dir = Dir::new();
    let daemon = Daemon::start(&dir.0, &["--confine", "off"]);
    assert!(daemon.of_threads("Seccomp").iter().all(|value| value == "0"));
    assert!(daemon.of_threads("CapEff").iter().all(|value| value != KEPT));
    assert!(daemon.log().contains("confinement is disabled (PONTOON_CONFINE=off)"), "{}", daemon.log());
}

/// A directory that root can read only with CAP_DAC_OVERRIDE is refused at the start, not later.
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

/// The second instance reports the reason, whatever it shares with the first.
#[test]
fn a_second_pontoon_refuses() {
    let dir = Dir::new();
    let first = Daemon::start(&dir.0, &[]);
    let (state, socket) = (first.state.to_str().unwrap(), first.socket.to_str().unwrap());
    let inside = format!("--net=/proc/{}/ns/net", first.pid());
    let other_namespace = ["unshare", "--net"];
    for (name, prefix, args, message) in [
        ("state", other_namespace, ["--state-dir", state], "uses this directory; stop it, or give this one another"),
        ("socket", other_namespace, ["--socket", socket], "another process listens on this socket; stop it"),
        ("place", ["nsenter", &inside], ["--log", "info"], "another Pontoon already serves this network namespace"),
    ] {
        let (status, log) = Daemon::launch(&dir.0, name, &args, &prefix).end();
        assert_eq!(status.code(), Some(1), "{name}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("pontoon: ") && last.contains(message), "{name}: {log}");
    }
    let (_, log) = Daemon::launch(&dir.0, "who", &["--state-dir", state], &other_namespace).end();
    assert!(log.contains(&format!("process {}", first.pid())), "{log}");
    // The first is not affected.
    call(&first, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    assert!(first.socket.exists());
}

/// The socket and lock of a killed process do not prevent the next start.
#[test]
fn a_killed_pontoon_does_not_prevent_the_next_start() {
    let dir = Dir::new();
    let first = Daemon::start(&dir.0, &[]);
    call(&first, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    drop(first);
    assert!(dir.0.join("pontoon.sock").exists());
    let mut second = Daemon::start(&dir.0, &[]);
    second.until("the network to be known", |daemon| daemon.log().contains("networks=1"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let second = &second;
            scope.spawn(move || {
                call(second, "NetworkDriver.CreateEndpoint", &endpoint("aa", &format!("e{thread}"), "10.1.0.2/24"))
            });
        }
    });
}
