//! Commands that show again and again: `--watch` and `pontoon top`; and hostile names in what commands print.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::daemon::Daemon;
use testkit::harness::{Dir, endpoint, network, request};
use testkit::wait_until;

use crate::engine::engine;

/// How long a slow machine may take.
const SOON: Duration = Duration::from_secs(60);

/// A container's and a network's name that erase the screen, and change the order of what follows.
const HOSTILE: [&str; 2] = ["web\u{1b}[2J\u{9b}31m", "blue\u{202e}\n\r\u{7}"];

struct Host {
    dir: Dir,
    daemon: Daemon,
    status: PathBuf,
}

impl Host {
    /// A daemon with two networks, of which each has an endpoint.
    fn up() -> Self {
        let dir = Dir::new();
        let status = dir.0.join("status.sock");
        let host = Self { daemon: Self::daemon(&dir.0, &status), status, dir };
        for (net, end, address, n) in [("aa", "e1", "10.1.0.2/24", 1), ("bb", "e2", "10.2.0.2/24", 2)] {
            host.call("NetworkDriver.CreateNetwork", &network(net, n, false));
            host.call("NetworkDriver.CreateEndpoint", &endpoint(net, end, address));
        }
        host
    }

    fn daemon(dir: &Path, status: &Path) -> Daemon {
        Daemon::start(dir, &["--status-socket", status.to_str().unwrap()])
    }

    fn call(&self, method: &str, body: &Value) {
        let reply = request(&self.daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
        assert!(
            reply.status == 200 && !reply.body.contains("\"Err"),
            "{method}: {}\n{}",
            reply.body,
            self.daemon.log()
        );
    }

    /// The command line of a program in the daemon's network namespace.
    fn line(&self, args: &str) -> String {
        // What needs root asks the plugin socket.
        let (flag, socket) = if args.starts_with("explain") || args.starts_with("policy") {
            ("socket", &self.daemon.socket)
        } else {
            ("status-socket", &self.status)
        };
        let (net, program) = (format!("/proc/{}/ns/net", self.daemon.pid()), testkit::program());
        format!("nsenter --net={net} {} {args} --{flag} {}", program.display(), socket.display())
    }

    fn bash(&self, script: &str) -> Output {
        Command::new("bash").args(["-c", script]).stdin(Stdio::null()).output().unwrap()
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn top_shows_the_busiest_endpoint_first() {
    let host = Host::up();
    let objects = request(&host.status, "GET", "/objects", b"").json();
    let peer = objects["networks"][0]["endpoints"][0]["attachment"].to_string();
    let peer = peer.split('"').find(|word| word.starts_with("pntc")).expect("the container's end").to_owned();
    let pid = host.daemon.pid();
    // Broadcasts of the host to the network of e1 alone.
    let script = format!(
        "ip link set {peer} up; while :; do ping -q -b -f -c 100 -w 2 10.1.0.255 >/dev/null 2>&1 || sleep 0.1; done"
    );
    let net = format!("--net=/proc/{pid}/ns/net");
    let mut sender = Command::new("nsenter").args([&net, "bash", "-c", &script]).spawn().unwrap();
    let run = |args: &str| host.bash(&host.line(&format!("{args} --docker /nowhere")));
    let mut shown = Value::Null;
    wait_until(SOON, "traffic", || {
        let output = run("top --once --seconds 1 -o json");
        shown = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        shown["endpoints"][0]["receive_packets_per_second"].as_f64() > Some(1.0)
    });
    let (one, text) = (run("top --once --seconds 1 -n 1 -o json"), run("top --once --seconds 1"));
    sender.kill().unwrap();
    sender.wait().unwrap();
    assert_eq!((&shown["schema"], &shown["count"], &shown["endpoints"][0]["id"]), (&json!(1), &json!(2), &json!("e1")));
    let [busy, idle] = [0, 1].map(|at| shown["endpoints"][at]["receive_bytes_per_second"].as_f64().unwrap());
    assert!(busy > idle && shown["seconds"].as_f64() >= Some(1.0), "{shown:#}");
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((one["endpoints"].as_array().map(Vec::len), &one["count"]), (Some(1), &json!(2)));
    let (text, said) = (String::from_utf8(text.stdout).unwrap(), String::from_utf8_lossy(&text.stderr).into_owned());
    assert!(text.starts_with("2 endpoints in 1."), "{text}");
    assert!(text.contains("CONTAINER  NETWORK  IN/s") && text.contains("\ne1         aa "), "{text}");
    assert_eq!(said.lines().count(), 1, "that names are missing, once: {said}");
    let refused = host.bash(&format!("{} top --once --status-socket /nowhere", testkit::program().display()));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}

#[test]
fn a_watched_list_is_appended_and_ends_with_its_reader() {
    let host = Host::up();
    let err = host.dir.0.join("err");
    let watch = |args: &str, lines: usize| {
        let line = host.line(&format!("{args} --watch=1 --docker /nowhere"));
        let output =
            host.bash(&format!("{line} 2>{} | head -n {lines}; echo \"code ${{PIPESTATUS[0]}}\"", err.display()));
        String::from_utf8(output.stdout).unwrap()
    };
    for (args, list) in [
        ("ls", "endpoints"),
        ("status", "networks"),
        ("pools", "pools"),
        ("peers", "reach"),
        ("leases", "leases"),
        ("drops", "drops"),
    ] {
        let said = watch(&format!("{args} -o json"), 2);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 3 && lines[2] == "code 0", "{args}: {said}");
        for line in &lines[..2] {
            let json: Value = serde_json::from_str(line).unwrap();
            assert!(json["schema"] == 1 && json.get(list).is_some(), "{args}: {line}");
        }
        let said = text(&err);
        assert!(said.lines().count() <= 1 && !said.to_lowercase().contains("pipe"), "{args}: {said}");
    }
    let said = watch("ls", 5);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("CONTAINER") && lines[1].starts_with("e1 "), "{said}");
    assert_eq!((lines[3], lines[4], lines[5]), ("", lines[0], "code 0"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    // It notices the end of its reader while it waits.
    let line = host.line("ls --watch=3600 --docker /nowhere");
    let ended = host.bash(&format!("timeout 60 {line} | head -n 1; echo \"code ${{PIPESTATUS[0]}}\""));
    assert!(String::from_utf8_lossy(&ended.stdout).ends_with("code 0\n"), "{ended:?}");
    let yaml = watch("ls -o yaml", 2);
    assert!(yaml.starts_with("---\nendpoints:\n"), "{yaml}");
    let wide = watch("ls -o wide", 2);
    assert!(wide.lines().next().unwrap().ends_with("ENDPOINT  NETWORK ID") && wide.contains("e1        aa"), "{wide}");
    for wrong in ["--watch=0", "--watch=x", "--watch=99999"] {
        assert_eq!(host.bash(&host.line(&format!("ls {wrong}"))).status.code(), Some(2), "{wrong}");
    }
}

/// The daemon is away for a while: said once, and the list goes on.
#[test]
fn a_watched_list_goes_on_after_a_restart() {
    let Host { dir, daemon, status } = Host::up();
    let (out, err) = (dir.0.join("out"), dir.0.join("err"));
    let file = |path: &Path| File::create(path).unwrap();
    // Without a ledger of its own, the command has no other source.
    let args = ["ls", "--watch=1", "-o", "json", "--docker", "/nowhere", "--state-dir", "/nowhere"];
    let mut watcher = Command::new(testkit::program())
        .args(args)
        .args(["--status-socket", status.to_str().unwrap(), "--socket", "/nowhere"])
        .stdin(Stdio::null())
        .stdout(file(&out))
        .stderr(file(&err))
        .spawn()
        .unwrap();
    wait_until(SOON, "the first list", || text(&out).contains("\"e2\""));
    drop(daemon);
    wait_until(SOON, "its notice", || text(&err).contains("; waiting"));
    let before = text(&out).lines().count();
    let _daemon = Host::daemon(&dir.0, &status);
    wait_until(SOON, "the list again", || text(&out).lines().count() > before);
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    let said = text(&err);
    assert_eq!(said.matches("waiting").count(), said.lines().filter(|line| line.contains("waiting")).count());
    assert!(said.lines().count() <= 3, "{said}");
}

/// On a terminal a list is drawn in place, in colours unless NO_COLOR is set, and Ctrl-C ends it without a word.
#[test]
fn a_watched_list_on_a_terminal_is_drawn_in_place() {
    let host = Host::up();
    for (name, variable, coloured) in [("plain", "NO_COLOR=1", false), ("colour", "NOT_SET=1", true)] {
        let record = host.dir.0.join(name);
        let line = host.line("status --watch=1 --docker /nowhere");
        let line = format!("stty rows 6 cols 60; {variable} TERM=xterm exec {line}");
        let mut script: Child = Command::new("script")
            .args(["-qfec", &line, record.to_str().unwrap()])
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("script is installed (bsdutils)");
        let seen = || String::from_utf8_lossy(&fs::read(&record).unwrap_or_default()).into_owned();
        wait_until(SOON, "two frames", || seen().matches("\u{1b}[HPontoon").count() > 1);
        script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        wait_until(SOON, "its end", || script.try_wait().unwrap().is_some());
        let seen = seen();
        assert!(seen.contains("more lines") && !seen.contains("NETWORK  MODE"), "{seen:?}");
        assert_eq!(seen.contains("\u{1b}[32mhealthy"), coloured, "{seen:?}");
        let (_, rest) = seen.rsplit_once("\u{1b}[J").unwrap();
        let rest = rest.replace("^C", "");
        assert!(!rest.contains("pontoon") && !rest.contains("panick"), "{rest:?}");
    }
}

#[test]
fn hostile_names_reach_no_terminal() {
    let host = Host::up();
    let docker = host.dir.0.join("docker.sock");
    engine(&docker, HOSTILE);
    let shown = ["web\\u{1b}[2J\\u{9b}31m", "blue\\u{202e}  \\u{7}"];
    for args in [
        "ls",
        "status",
        "inspect e1",
        "inspect aa",
        "inspect nothing",
        "explain e1 e2:80",
        "policy show e1",
        "events",
        "graph",
        "graph -o dot",
        "top --once --seconds 1",
    ] {
        let output = host.bash(&format!("{} --docker {}", host.line(args), docker.display()));
        let all = [&output.stdout[..], &output.stderr].concat();
        let all = String::from_utf8(all).unwrap();
        let raw = all.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(raw, None, "{args}: {all:?}");
        if args != "inspect nothing" {
            assert!(shown.iter().any(|name| all.replace("\\\\", "\\").contains(name)), "{args}: {all}");
        }
    }
    // The name that is shown is the one by which the container is found.
    let found = host.bash(&format!("{} --docker {}", host.line(&format!("inspect '{}'", shown[0])), docker.display()));
    assert!(found.status.success(), "{found:?}");
}
