//! Output to a closed pipe or a full disk: every command ends with a proper exit code.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::host::{Host, Network};
use testkit::harness::Dir;

const COMMANDS: [&[&str]; 9] = [
    &["options"],
    &["--help"],
    &["--version"],
    &["serve", "--help"],
    &["doctor"],
    &["doctor", "--json"],
    &["check"],
    &["plan"],
    &["ports"],
];

fn command(host: &Host, args: &[&str]) -> Command {
    let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), host.netns.tid());
    let mut command = Command::new("nsenter");
    command.arg(net).arg(env!("CARGO_BIN_EXE_pontoon")).args(args);
    command.env("PONTOON_SOCKET", &host.daemon().socket).env("PONTOON_STATE_DIR", &host.daemon().state);
    command.stderr(Stdio::piped());
    command
}

#[test]
fn a_closed_pipe_is_no_error() {
    let host = Host::start(&[]);
    host.create(&Network::new("one", 1));
    for args in COMMANDS {
        let healthy = command(&host, args).stdout(Stdio::piped()).output().unwrap();
        let mut child = command(&host, args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let code = child.wait().unwrap().code();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((code, said.as_str()), (healthy.status.code(), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_a_one_line_error() {
    let host = Host::start(&[]);
    for args in COMMANDS {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(&host, args).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains("cannot be written: No space left on device"), "{said}");
    }
}

/// Docker logs the standard error of a managed plugin as errors, with its own timestamp.
#[test]
fn a_managed_plugin_logs_informational_messages_to_standard_output() {
    let dir = Dir::new();
    let (out, errors) = (dir.0.join("out"), dir.0.join("errors"));
    let mut child = Command::new("unshare")
        .args(["--net", env!("CARGO_BIN_EXE_pontoon"), "serve", "--socket"])
        .arg(dir.0.join("socket"))
        .arg("--state-dir")
        .arg(dir.0.join("state"))
        .env("PONTOON_MANAGED", "on")
        .env("PONTOON_LOG_FORMAT", "xml")
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let read = |path| std::fs::read_to_string(path).unwrap();
    testkit::netns::wait_for("the daemon to listen", || read(&out).contains("listening"));
    let _ = child.kill();
    let _ = child.wait();
    let (out, errors) = (read(&out), read(&errors));
    assert!(errors.contains("PONTOON_LOG_FORMAT=xml") && !errors.contains("INFO"), "{errors}");
    assert!(!out.contains("ERROR") && out.contains("INFO"), "{out}");
    for line in out.lines().chain(errors.lines()) {
        assert!(!line.starts_with("20"), "a second timestamp: {line}");
    }
}
