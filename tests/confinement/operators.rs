//! The status socket of a running daemon: what it shows, who may use it, and that it changes nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::daemon::Daemon;
use testkit::harness::{Dir, Reply, endpoint, network, request};
use testkit::wait_until;

/// A group that no file names, and a user without any right.
const GROUP: &str = "4711";
const USER: &str = "65534";

const PATHS: [&str; 7] = ["/healthz", "/readyz", "/status", "/objects", "/drops", "/events", "/metrics"];

/// The arguments of a daemon with a status socket for [`GROUP`].
fn arguments(socket: &Path) -> [&str; 4] {
    ["--status-socket", socket.to_str().unwrap(), "--status-group", GROUP]
}

fn get(socket: &Path, path: &str) -> Reply {
    request(socket, "GET", path, b"")
}

fn call(daemon: &Daemon, method: &str, body: &Value) {
    let reply = request(&daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
    assert!(reply.status == 200 && !reply.body.contains("\"Err"), "{method}: {}\n{}", reply.body, daemon.log());
}

/// A copy of the program where every user may run it.
fn program(dir: &Path) -> PathBuf {
    let copy = dir.join("program");
    fs::copy(testkit::program(), &copy).unwrap();
    copy
}

/// Runs the program as another user, in the network namespace of the daemon.
fn as_user(daemon: &Daemon, program: &Path, groups: &str, args: &[&str]) -> Output {
    let net = format!("--net=/proc/{}/ns/net", daemon.pid());
    let user = ["--reuid", USER, "--regid", USER, groups, "--bounding-set=-all", "--inh-caps=-all"];
    let mut command = Command::new("nsenter");
    command.arg(net).arg("setpriv").args(user).arg(program).args(args).args(["--docker", "/nowhere"]);
    command.output().expect("setpriv is installed (util-linux)")
}

#[test]
fn it_shows_everything_and_changes_nothing() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    call(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    let ledger = fs::read(daemon.state.join("ledger")).unwrap();
    let rules = daemon.shell("nft list ruleset | grep -v counter");

    for path in PATHS {
        let reply = get(&socket, path);
        assert_eq!(reply.status, 200, "{path}: {}\n{}", reply.body, daemon.log());
        if reply.headers.contains("application/json") {
            assert_eq!(reply.json()["schema"], 1, "{path}");
        }
    }
    assert_eq!(get(&socket, "/objects").json()["networks"][0]["endpoints"][0]["id"], "e1");
    let status = get(&socket, "/status").json();
    assert_eq!(status["status_socket"]["group"], GROUP, "{status:#}");
    assert_eq!(status["plan"]["commands"].as_array().map(Vec::len), Some(0), "{status:#}");
    assert!(get(&socket, "/metrics").body.contains("pontoon_endpoints 1"));

    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in PATHS.into_iter().chain(["/repair", "/NetworkDriver.DeleteNetwork", "/Plugin.Activate"]) {
            let reply = request(&socket, method, path, br#"{"NetworkID":"aa","EndpointID":"e1"}"#);
            assert_eq!(reply.status, 405, "{method} {path}: {}", reply.body);
        }
    }
    for path in ["/repair", "/ports", "/Plugin.Activate", "/NetworkDriver.DeleteNetwork", "/", "/status/", "//status"] {
        assert_eq!(get(&socket, path).status, 404, "{path}");
    }
    assert_eq!(fs::read(daemon.state.join("ledger")).unwrap(), ledger);
    assert_eq!(daemon.shell("nft list ruleset | grep -v counter"), rules);
    // Daemons before 0.2.0 have these on the plugin socket; commands of that release still find them there.
    for path in ["/status", "/metrics", "/ports"] {
        assert_eq!(get(&daemon.socket, path).status, 200, "{path}");
    }
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
}

#[test]
fn only_members_of_its_group_use_it_and_they_need_no_privilege() {
    let dir = Dir::new();
    let (socket, program) = (dir.0.join("status.sock"), program(&dir.0));
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    call(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    let found = fs::metadata(&socket).unwrap();
    assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (0o660, 0, 4711));

    let at = ["--status-socket", socket.to_str().unwrap()];
    for command in
        [&["status"][..], &["ls"], &["inspect", "e1"], &["pools"], &["peers"], &["drops"], &["events"], &["version"]]
    {
        let args: Vec<&str> = command.iter().copied().chain(at).collect();
        let member = as_user(&daemon, &program, "--groups=4711", &args);
        let text = String::from_utf8_lossy(&member.stdout).into_owned();
        assert_eq!(member.status.code(), Some(0), "{command:?}: {text}{}", String::from_utf8_lossy(&member.stderr));
        if ["status", "ls", "inspect"].contains(&command[0]) {
            assert!(text.contains("aa") || text.contains("e1"), "{command:?}: {text}");
        }
        if command[0] == "version" {
            continue;
        }
        let other = as_user(&daemon, &program, "--clear-groups", &args);
        let (said, why) = (String::from_utf8_lossy(&other.stdout), String::from_utf8_lossy(&other.stderr).into_owned());
        assert_eq!((other.status.code(), &*said), (Some(3), ""), "{command:?}: {why}");
        assert!(why.contains("run this command as root, or as a member of group 4711"), "{command:?}: {why}");
    }
    // The plugin socket stays root's, also for members.
    let plugin = as_user(&daemon, &program, "--groups=4711", &["ls", "--socket", daemon.socket.to_str().unwrap()]);
    assert_eq!(plugin.status.code(), Some(3));
}

/// As under systemd, where the daemon may not give files to a group: the directory's setgid bit does.
#[test]
fn a_directory_gives_the_socket_to_its_group_without_a_privilege() {
    let dir = Dir::new();
    let without_chown = ["setpriv", "--bounding-set=-chown", "--inh-caps=-chown", "unshare", "--net"];
    for (name, bits, mode, group, warned) in [("with", 0o2755, 0o660, 4711, false), ("without", 0o755, 0o600, 0, true)]
    {
        let run = dir.0.join(name);
        fs::create_dir(&run).unwrap();
        chown(&run, Some(0), Some(4711)).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(bits)).unwrap();
        let socket = run.join("status.sock");
        let daemon = Daemon::start_by(&run, &arguments(&socket), &without_chown);
        let found = fs::metadata(&socket).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.gid()), (mode, group), "{name}\n{}", daemon.log());
        assert_eq!(daemon.log().contains("status socket: only root can use it"), warned, "{}", daemon.log());
        assert_eq!(get(&socket, "/readyz").status, 200);
    }
}

/// The daemon serves Docker without a status socket, replaces a stale one, and leaves a file that is no socket.
#[test]
fn what_is_wrong_with_it_does_not_keep_the_daemon_from_serving() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    fs::write(&socket, "precious").unwrap();
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    assert!(daemon.log().contains("is not a socket"), "{}", daemon.log());
    let status = get(&daemon.socket, "/status");
    assert_eq!(status.status, 200);
    drop(daemon);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    fs::remove_file(&socket).unwrap();
    drop(Daemon::start(&dir.0, &arguments(&socket)));
    assert!(UnixStream::connect(&socket).is_err() && socket.exists(), "killed, it leaves a stale socket");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    assert_eq!(get(&socket, "/healthz").status, 200);
    daemon.shell(&format!("kill -TERM {}", daemon.pid()));
    wait_until(Duration::from_secs(10), "its removal", || !socket.exists());
}

/// Operators who connect and say nothing, or read nothing, keep no other operator out, and not Docker.
#[test]
fn idle_operators_make_room() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    let idle: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(get(&socket, "/healthz").status, 200);
    assert_eq!(get(&socket, "/status").status, 200);
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    drop(idle);
}

/// A ledger that lacks facts makes the daemon unready, in words, and it stays alive.
#[test]
fn a_daemon_with_an_incomplete_state_is_healthy_and_not_ready() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    for n in 1..4 {
        call(&daemon, "NetworkDriver.CreateNetwork", &network(&format!("n{n}"), n, false));
    }
    assert_eq!(get(&socket, "/readyz").status, 200);
    drop(daemon);
    let ledger = dir.0.join("pontoon.state/ledger");
    let mut bytes = fs::read(&ledger).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&ledger, bytes).unwrap();
    let _daemon = Daemon::start(&dir.0, &arguments(&socket));
    let ready = get(&socket, "/readyz");
    assert!(ready.status == 503 && ready.body.contains("the state may be incomplete"), "{}", ready.body);
    assert_eq!(get(&socket, "/healthz").status, 200);
}

/// The events after a number, with the number to ask with the next time.
fn events(socket: &Path, query: &str) -> (Vec<Value>, u64) {
    let reply = get(socket, &format!("/events{query}"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    (json["events"].as_array().cloned().unwrap_or_default(), json["next"].as_u64().unwrap())
}

#[test]
fn events_tell_what_happened() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    let (first, next) = events(&socket, "");
    assert!(first.iter().any(|event| event["kind"] == "started"), "{first:?}");
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    call(&daemon, "NetworkDriver.CreateEndpoint", &endpoint("aa", "e1", "10.1.0.2/24"));
    let twice = endpoint("bb", "e2", "10.1.0.3/24").to_string();
    assert!(request(&daemon.socket, "POST", "/NetworkDriver.CreateEndpoint", twice.as_bytes()).body.contains("Err"));
    let (verbs, next) = events(&socket, &format!("?since={next}"));
    let shown: Vec<_> = verbs
        .iter()
        .map(|e| [&e["method"], &e["network"], &e["endpoint"]].map(|v| v.as_str().unwrap_or_default()))
        .collect();
    assert_eq!(shown, [["CreateNetwork", "aa", ""], ["CreateEndpoint", "aa", "e1"], ["CreateEndpoint", "bb", "e2"]]);
    assert!(verbs[1]["seconds"].as_f64() > Some(0.0) && verbs[1].get("error").is_none(), "{}", verbs[1]);
    assert!(verbs[2]["error"].as_str().unwrap().contains("bb"), "{}", verbs[2]);

    // Another program removes a table: its repair is an event, for which a reader waits.
    daemon.shell("nft delete table inet pontoon");
    let mut since = next;
    wait_until(Duration::from_secs(20), "the repair", || {
        let (more, next) = events(&socket, &format!("?since={since}&wait=8"));
        since = next;
        more.iter().any(|event| event["kind"] == "repair" && event["steps"].as_u64() > Some(0))
    });
    for query in ["?since=x", "?wait=-1", "?since=99999999999999999999999"] {
        assert_eq!(get(&socket, &format!("/events{query}")).status, 400, "{query}");
    }
}

/// As many readers as there are connections wait, and neither Docker nor other operators wait for them.
#[test]
fn readers_that_wait_delay_neither_docker_nor_operators() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    let next = events(&socket, "").1;
    let waiting = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let head = format!("GET /events?since={next}&wait=8 HTTP/1.1\r\nHost: \r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        stream
    };
    let mut readers: Vec<UnixStream> = (0..32).map(|_| waiting()).collect();
    assert_eq!(get(&socket, "/healthz").status, 200);
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, true));
    let replies = readers.iter_mut().filter_map(testkit::harness::read_reply);
    let woken = replies.filter(|reply| reply.body.contains("CreateNetwork")).count();
    assert!(woken > 8, "{woken} readers got the event");
    // The end of the daemon ends their waits.
    let next = events(&socket, "").1;
    let mut stream = UnixStream::connect(&socket).unwrap();
    let head = format!("GET /events?since={next}&wait=8 HTTP/1.1\r\nHost: \r\n\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    daemon.shell(&format!("kill -TERM {}", daemon.pid()));
    let (_, log) = daemon.end();
    assert!(!log.contains("stopping with requests in progress"), "{log}");
}

#[test]
fn events_are_followed_across_a_restart_and_end_with_their_reader() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    call(&daemon, "NetworkDriver.CreateNetwork", &network("n1", 1, false));
    let (out, err) = (dir.0.join("out"), dir.0.join("err"));
    let script = format!(
        "{} events --follow -o json --status-socket {} 2>{} | while read -r line; do echo \"$line\" >>{}; case $line in *n3*) exit;; esac; done; echo ${{PIPESTATUS[0]}} >>{}",
        testkit::program().display(),
        socket.display(),
        err.display(),
        out.display(),
        out.display()
    );
    let mut follower = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    let text = || fs::read_to_string(&out).unwrap_or_default();
    wait_until(Duration::from_secs(20), "the ring", || text().contains("\"n1\""));
    drop(daemon);
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    call(&daemon, "NetworkDriver.CreateNetwork", &network("n2", 2, false));
    wait_until(Duration::from_secs(30), "events of the second process", || text().contains("\"n2\""));
    // Its reader ends at the third, and it notices at one of the next lines.
    let mut n = 3;
    wait_until(Duration::from_secs(60), "its end", || {
        call(&daemon, "NetworkDriver.CreateNetwork", &network(&format!("n{n}"), n, false));
        n += 1;
        follower.try_wait().unwrap().is_some()
    });
    let (text, said) = (text(), fs::read_to_string(&err).unwrap());
    assert!(text.ends_with("\n0\n"), "{text}");
    assert!(said.contains("waiting") && !said.to_lowercase().contains("pipe"), "{said}");
    let lines = text.lines().filter(|line| line.contains("\"kind\":\"verb\""));
    assert_eq!(lines.count(), 3, "each event once: {text}");
}

#[test]
fn health_is_an_exit_code_and_a_line() {
    let dir = Dir::new();
    let socket = dir.0.join("status.sock");
    let daemon = Daemon::start(&dir.0, &arguments(&socket));
    call(&daemon, "NetworkDriver.CreateNetwork", &network("aa", 1, false));
    let run = |args: &[&str]| {
        let mut command = Command::new(testkit::program());
        let output = command.args(args).args(["--status-socket", socket.to_str().unwrap()]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["health"]), (Some(0), "healthy\n".to_owned()));
    let (code, line) = run(&["health", "--nagios"]);
    assert_eq!((code, &*line), (Some(0), "PONTOON OK - healthy | networks=1;; endpoints=0;; repairs=0;;\n"));
    let (code, json) = run(&["health", "-o", "json"]);
    assert!(code == Some(0) && json.contains("\"problems\":[]"), "{json}");
    assert_eq!(run(&["version"]).1.matches(env!("CARGO_PKG_VERSION")).count(), 2);
    drop(daemon);
    let at = dir.0.join("pontoon.state");
    let (code, line) = run(&["health", "--nagios", "--state-dir", at.to_str().unwrap(), "--socket", "/nowhere"]);
    assert!(code == Some(2) && line.starts_with("PONTOON CRITICAL - the daemon does not answer"), "{code:?} {line}");
    let (code, line) = run(&["health", "--nagios", "--state-dir", "/nowhere", "--socket", "/nowhere"]);
    assert!(code == Some(3) && line.starts_with("PONTOON UNKNOWN - "), "{code:?} {line}");
}
