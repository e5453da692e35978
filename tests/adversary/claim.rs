//! Only another Pontoon can keep Pontoon from starting. A local user, and root of a container in the host's network
//! without CAP_NET_ADMIN, cannot.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::host::{Host, Network};
use testkit::daemon::Daemon;
use testkit::harness::{Dir, request};

/// Starts as root and drops to an ordinary user in the script: such a user may be unable to execute python.
const USER: &str = "env USER=nobody";
/// Root of a container with Docker's default capabilities, as far as they matter here.
const CONTAINER: &str = "setpriv --inh-caps=-all --bounding-set=-all,+net_bind_service,+net_raw,+kill,+setuid,+setgid";
const ROOT: &str = "env";

/// A python program in the host's network; it prints a line when it is ready.
struct Squatter(Child);

impl Squatter {
    fn start(host: &Host, by: &str, script: &str) -> Self {
        let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), host.netns.tid());
        let user = "if os.environ.get('USER') == 'nobody':\n  os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)";
        let script =
            format!("import os, socket, struct, time\n{user}\n{script}\nprint('ready', flush=True)\ntime.sleep(600)");
        let mut command = Command::new("nsenter");
        command.arg(&net).args(by.split(' ')).args(["python3", "-c", &script]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("nsenter, setpriv and python3");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{by}: {script}");
        Self(child)
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const STREAM: &str = "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); s.bind('\\0pontoon')";
/// More than the queue holds, so that no other client can connect.
const FULL: &str = "s.listen(0)\nfor i in range(4):\n  c = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); c.setblocking(False); c.connect_ex('\\0pontoon'); globals()['c%d' % i] = c";
const WATCHER: &str = "n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); n.bind((0, 1 << 6))";
/// Binds the kernel's exclusive netlink group; `error` is the error number of the answer.
const GROUP: &str = "n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
n.send(struct.pack('=IHHII', 28, (4 << 8) | 1, 5, 1, 0) + struct.pack('!BBH', 0, 0, 0x706e) + struct.pack('=HHBxxx', 5, 1, 1))
error = -struct.unpack('=i', n.recv(4096)[16:20])[0]";

#[test]
fn a_squatter_on_the_socket_does_not_prevent_a_start() {
    let names = [
        ("bound", STREAM.to_owned()),
        ("listening", format!("{STREAM}; s.listen(8)")),
        ("full", format!("{STREAM}; {FULL}")),
        ("datagram", "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('\\0pontoon')".to_owned()),
    ];
    for by in [USER, CONTAINER] {
        // A privileged process that monitors the firewall does not make the squatter look like Pontoon. Root of a
        // container cannot be distinguished from an earlier release in that case.
        for monitored in [false, true].into_iter().filter(|monitored| !monitored || by == USER) {
            for (what, script) in &names {
                let mut host = Host::without_daemon();
                let _monitor = monitored.then(|| Squatter::start(&host, ROOT, WATCHER));
                let _squatter = Squatter::start(&host, by, script);
                host.begin();
                let network = Network::new("one", 1);
                host.create(&network);
                assert!(host.daemon().log().contains("listening"), "{by}: {what}, monitored: {monitored}");
            }
        }
        let host = Host::without_daemon();
        let script = format!("{GROUP}\nassert error == 1, error");
        drop(Squatter::start(&host, by, &script));
    }
}

/// The netlink group is the guard: a program with CAP_NET_ADMIN can take it and thereby block Pontoon.
#[test]
fn a_taken_netlink_group_prevents_a_start() {
    let host = Host::without_daemon();
    let squatter = Squatter::start(&host, ROOT, &format!("{GROUP}\nassert error == 0, error"));
    let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), host.netns.tid());
    let (status, log) = Daemon::launch(&host.dir.0, "second", &[], &["nsenter", &net]).end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("another Pontoon already serves this network namespace"), "{log}");
    drop(squatter);
    Daemon::start_by(&host.dir.0, &[], &["nsenter", &net]);
}

/// An earlier release holds only the abstract socket, as root, and is subscribed to firewall changes.
#[test]
fn an_earlier_release_is_detected() {
    // It accepts no connection, so its queue may have filled up.
    for listens in ["s.listen(8)", FULL] {
        let host = Host::without_daemon();
        let _earlier = Squatter::start(&host, ROOT, &format!("{STREAM}; {listens}\n{WATCHER}"));
        let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), host.netns.tid());
        let (status, log) = Daemon::launch(&host.dir.0, "second", &[], &["nsenter", &net]).end();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("another Pontoon already serves this network namespace"), "{log}");
    }
}

/// An earlier release detects this one.
#[test]
fn an_earlier_release_detects_this_one() {
    let host = Host::start(&[]);
    let script = format!("try:\n  {STREAM}; raise SystemExit('bound')\nexcept OSError as e: assert e.errno == 98, e");
    drop(Squatter::start(&host, ROOT, &script));
}

/// A managed plugin's log is rarely read: every answer contains the reason until the other Pontoon has ended.
#[test]
fn a_managed_plugin_answers_the_reason_until_it_can_serve() {
    let mut first = Host::start(&[]);
    let dir = Dir::new();
    let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), first.netns.tid());
    let environment = ["env", "PONTOON_MANAGED=on", "PONTOON_SCOPE=global", "nsenter", &net];
    let mut second = Daemon::start_by(&dir.0, &[], &environment);
    let call = |second: &Daemon, method: &str| {
        request(&second.socket, "POST", &format!("/{method}"), json!({"NetworkID": "one"}).to_string().as_bytes())
    };
    assert_eq!(call(&second, "Plugin.Activate").json(), json!({"Implements": ["NetworkDriver", "IpamDriver"]}));
    assert_eq!(call(&second, "NetworkDriver.GetCapabilities").json()["Scope"], "global");
    assert!(call(&second, "IpamDriver.GetDefaultAddressSpaces").body.contains("pontoon"));
    for (method, key) in [
        ("NetworkDriver.CreateNetwork", "Err"),
        ("NetworkDriver.Join", "Err"),
        ("NetworkDriver.DeleteNetwork", "Err"),
        ("IpamDriver.RequestPool", "Error"),
    ] {
        let answer = call(&second, method).json();
        let said = answer[key].as_str().unwrap_or_else(|| panic!("{method}: {answer}"));
        assert!(said.contains("another Pontoon already serves this network namespace"), "{said}");
    }
    let status = request(&second.socket, "GET", "/status", b"");
    assert_eq!(status.status, 503);
    assert!(status.body.contains("another Pontoon"), "{}", status.body);
    assert!(
        first.call("NetworkDriver.CreateNetwork", &Network::new("one", 1).body()).is_ok(),
        "the first still serves"
    );
    first.end();
    // A managed plugin logs informational messages to another stream; it does not know the other one's network.
    second
        .until("it to serve", |second| second.log().contains("keeping links of Pontoon that the ledger does not know"));
    assert_eq!(call(&second, "NetworkDriver.DeleteNetwork").json(), json!({}));
    // It is confined like a plugin that served at once.
    for (field, value) in [("Seccomp", "2"), ("NoNewPrivs", "1")] {
        let values = second.of_threads(field);
        assert!(!values.is_empty() && values.iter().all(|found| found == value), "{field}: {values:?}");
    }
}
