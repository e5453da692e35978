//! The guest itself: what a command prints and how it ends comes back, and nothing else passes for a success.

use std::time::Duration;

use crate::support::{Guest, KERNEL, in_guest, run_in};

#[test]
fn output_and_exit_status_of_a_command_are_the_guests() {
    let outside = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let script = "uname -r; echo to errors >&2; seq 20000 | tail -n 1; exit 37";
    let output = run_in(&Guest::new(KERNEL), &["sh", "-c", script]);
    assert_eq!(output.status.and_then(|status| status.code()), Some(37), "{output}");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].starts_with(KERNEL) && lines[0] != outside.trim(), "{output}");
    assert_eq!((lines[1], output.stderr.trim()), ("20000", "to errors"), "{output}");
}

#[test]
fn what_a_guest_writes_does_not_reach_this_machine() {
    let here = std::env::temp_dir().join(format!("guest-{}", std::process::id()));
    let path = here.to_str().unwrap();
    let output = run_in(&Guest::new(KERNEL), &["sh", "-c", &format!("echo written >{path} && cat {path}")]);
    assert_eq!(output.ok(), "written");
    assert!(!here.exists());
}

#[test]
fn a_guest_ends_at_its_deadline() {
    let output = run_in(&Guest::new(KERNEL).deadline(Duration::from_secs(20)), &["sleep", "1000"]);
    assert_eq!(output.status.and_then(|status| status.code()), Some(124), "{output}");
}

#[test]
fn a_kernel_that_is_not_there_fails_with_the_remedy() {
    let error = run_in(&Guest::new("0.1"), &["true"]).err();
    assert!(error.contains("no kernel 0.1 here: run make kernel"), "{error}");
    let failed = std::panic::catch_unwind(|| in_guest("0.1", || unreachable!("this is another kernel")));
    assert!(failed.is_err(), "a test without its kernel fails");
}

#[test]
fn a_test_in_a_guest_is_on_its_kernel() {
    in_guest(KERNEL, || {
        let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
        assert!(release.starts_with(KERNEL), "{release}");
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(), "guest");
    });
}
