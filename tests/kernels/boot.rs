//! The guest itself: output and exit code of a command are returned, and no failure looks like a success.

use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use serde_json::Value;

use testkit::daemon::Daemon;
use testkit::harness::{Dir, endpoint, join, network, request};
use testkit::{Guest, KERNEL, run_in};

#[test]
fn output_and_exit_status_of_a_command_are_returned() {
    let outside = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let script = "uname -r; echo to errors >&2; seq 20000 | tail -n 1; exit 37";
    let output = run_in(&Guest::new(KERNEL), &["sh", "-c", script]);
    assert_eq!(output.status.and_then(|status| status.code()), Some(37), "{output}");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].starts_with(KERNEL) && lines[0] != outside.trim(), "{output}");
    assert_eq!((lines[1], output.stderr.trim()), ("20000", "to errors"), "{output}");
}

#[test]
fn writes_of_a_guest_do_not_reach_this_machine() {
    let here = std::env::temp_dir().join(format!("guest-{}", std::process::id()));
    let path = here.to_str().unwrap();
    let output = run_in(&Guest::new(KERNEL), &["sh", "-c", &format!("echo written >{path} && cat {path}")]);
    assert_eq!(output.ok(), "written");
    assert!(!here.exists());
}

#[test]
fn a_guest_ends_at_its_deadline() {
    let output = run_in(&Guest::new(KERNEL).deadline(Duration::from_secs(10)), &["sleep", "1000"]);
    assert_eq!(output.status.and_then(|status| status.code()), Some(124), "{output}");
}

#[test]
fn a_missing_kernel_fails_with_the_remedy() {
    let error = run_in(&Guest::new("0.1"), &["true"]).err();
    assert!(error.contains("no kernel 0.1 here: run make kernel"), "{error}");
    let failed = std::panic::catch_unwind(|| Guest::new("0.1").run(|| unreachable!("this is another kernel")));
    assert!(failed.is_err(), "a test without its kernel passed");
}

#[test]
fn a_test_in_a_guest_runs_on_its_kernel() {
    Guest::new(KERNEL).run(|| {
        let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
        assert!(release.starts_with(KERNEL), "{release}");
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(), "guest");
    });
}

/// The time of day may be set at boot, by hand or after a suspend. Only a guest has its own clock.
#[test]
fn a_clock_change_neither_reaps_an_endpoint_nor_keeps_a_dead_one() {
    Guest::new(KERNEL).run(|| {
        let (dir, began) = (Dir::new(), Instant::now());
        let mut daemon = started(&dir);
        let ok = |daemon: &Daemon, method: &str, body: Value| {
            let reply =
                request(&daemon.socket, "POST", &format!("/NetworkDriver.{method}"), body.to_string().as_bytes());
            assert_eq!((reply.status, reply.json().get("Err")), (200, None), "{method}");
        };
        let endpoints = |daemon: &Daemon| {
            assert_eq!(request(&daemon.socket, "POST", "/repair", b"{}").status, 200);
            let status = request(&daemon.socket, "GET", "/status", b"").json();
            status["networks"][0]["endpoints"].as_array().unwrap().len()
        };
        ok(&daemon, "CreateNetwork", network("aa", 1, false));
        ok(&daemon, "CreateEndpoint", endpoint("aa", "e1", "10.1.0.2/24"));
        ok(&daemon, "Join", join("aa", "e1"));

        // The engine has two minutes to move the link into its sandbox.
        for year in [2040, 1975] {
            set_clock(year);
            assert_eq!(endpoints(&daemon), 1, "in {year}");
            drop(daemon);
            daemon = started(&dir);
            assert_eq!(endpoints(&daemon), 1, "in {year}, started again");
        }
        assert!(began.elapsed() < Duration::from_secs(100), "the guest is too slow for this test");
        let deadline = Instant::now() + Duration::from_secs(180);
        while endpoints(&daemon) == 1 {
            assert!(Instant::now() < deadline, "the abandoned endpoint is not reaped: {}", daemon.log());
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

/// Starts the daemon in the guest's own network namespace, where the links persist.
fn started(dir: &Dir) -> Daemon {
    Daemon::start_by(&dir.0, &[], &["env"])
}

/// Sets the time of day to the beginning of a year.
fn set_clock(year: i64) {
    let time = TimeSpec::new((year - 1970) * 31_556_952, 0);
    clock_settime(ClockId::CLOCK_REALTIME, time).expect("root may");
}
