//! An invalid setting does not break anything else: requests that depend on it are answered with the reason, and the
//! doctor reports it.

use std::process::Command;

use serde_json::{Value, json};

use crate::host::Network;
use testkit::daemon::Daemon;
use testkit::harness::{Dir, request};

struct Set {
    daemon: Daemon,
    _dir: Dir,
}

impl Set {
    /// A daemon with these variables.
    fn start(variables: &[&str]) -> Self {
        let dir = Dir::new();
        let prefix: Vec<&str> =
            ["env"].into_iter().chain(variables.iter().copied()).chain(["unshare", "--net"]).collect();
        Self { daemon: Daemon::start_by(&dir.0, &[], &prefix), _dir: dir }
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value, String> {
        let answer = request(&self.daemon.socket, "POST", &format!("/{method}"), body.to_string().as_bytes()).json();
        let error = answer.get("Err").or(answer.get("Error")).and_then(Value::as_str).filter(|text| !text.is_empty());
        error.map_or(Ok(answer.clone()), |error| Err(error.to_owned()))
    }

    fn local(&self) -> Result<Value, String> {
        self.call("NetworkDriver.CreateNetwork", &Network::new("one", 1).body())
    }

    fn overlay(&self) -> Result<Value, String> {
        self.call("NetworkDriver.CreateNetwork", &Network::new("two", 2).option("pontoon.vni", "4711").body())
    }

    fn chosen_subnet(&self) -> Result<Value, String> {
        self.call("IpamDriver.RequestPool", &json!({"AddressSpace": "pontoon-local", "Pool": "", "V6": false}))
    }

    /// The doctor's findings of the check `settings`, and its exit code.
    fn doctor(&self) -> (Vec<Value>, i32) {
        let net = format!("--net=/proc/{}/ns/net", self.daemon.pid());
        let output = Command::new("nsenter")
            .args([&net, env!("CARGO_BIN_EXE_pontoon"), "doctor", "--json", "--socket"])
            .arg(&self.daemon.socket)
            .arg("--state-dir")
            .arg(&self.daemon.state)
            .output()
            .unwrap();
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let of_settings = findings.into_iter().filter(|finding| finding["check"] == "settings").collect();
        (of_settings, output.status.code().unwrap())
    }

    /// Asserts that the doctor reports it as degraded.
    fn assert_reported(&self, words: &str) {
        let (findings, code) = self.doctor();
        assert!(code > 0, "{findings:?}");
        let [finding] = findings.as_slice() else { panic!("{findings:?}") };
        assert_eq!(finding["level"], "degraded");
        assert!(finding["title"].as_str().unwrap().contains(words), "{finding}");
        assert!(!finding["remedy"].as_str().unwrap().is_empty(), "{finding}");
    }
}

#[test]
fn invalid_log_settings_refuse_nothing() {
    for variable in ["PONTOON_LOG=verbose", "PONTOON_LOG_FORMAT=xml", "PONTOON_CONFINE=no", "PONTOON_MANAGED=perhaps"] {
        let set = Set::start(&[variable]);
        set.local().unwrap();
        set.chosen_subnet().unwrap();
        set.assert_reported(variable);
        assert!(set.daemon.log().contains(variable), "{}", set.daemon.log());
    }
}

#[test]
fn requests_that_depend_on_an_invalid_setting_are_refused_with_the_reason() {
    for variable in
        ["PONTOON_PEERS=host2", "PONTOON_PEERS=192.0.2.1,", "PONTOON_VXLAN_PORT=0", "PONTOON_DATA_PATH=a link"]
    {
        let set = Set::start(&[variable]);
        set.local().unwrap();
        set.chosen_subnet().unwrap();
        let refused = set.overlay().unwrap_err();
        assert!(refused.contains(variable) && refused.contains("docker plugin set"), "{refused}");
        set.assert_reported(variable);
    }
    let set = Set::start(&["PONTOON_DEFAULT_ADDRESS_POOLS=10.0.0.0/8"]);
    set.local().unwrap();
    let refused = set.chosen_subnet().unwrap_err();
    assert!(refused.contains("PONTOON_DEFAULT_ADDRESS_POOLS=10.0.0.0/8"), "{refused}");
    set.assert_reported("PONTOON_DEFAULT_ADDRESS_POOLS");
    for variable in ["PONTOON_SCOPE=gloabl", "PONTOON_CONNECTIVITY=swarm", "PONTOON_SYSCTL_ROOT=/nowhere"] {
        let set = Set::start(&[variable]);
        let refused = set.local().unwrap_err();
        assert!(refused.contains(variable), "{refused}");
        set.assert_reported(variable);
    }
}

/// A valid setting that names a link which this host does not have.
#[test]
fn a_missing_data_path_link_is_degraded() {
    for path in ["nosuch0", "192.0.2.77", "2001:db8::77"] {
        let variable = format!("PONTOON_DATA_PATH={path}");
        let set = Set::start(&[&variable]);
        set.local().unwrap();
        let refused = set.overlay().unwrap_err();
        assert!(refused.contains(&variable), "{refused}");
        set.assert_reported(&variable);
    }
    let set = Set::start(&["PONTOON_DATA_PATH=late0"]);
    set.daemon.shell("ip link add late0 type veth peer name late1; ip link set late1 up; ip addr add 192.0.2.77/24 dev late0; ip link set late0 up");
    set.overlay().unwrap();
    assert_eq!(set.doctor().0[0]["level"], "ok");
}

/// A setting that became invalid does not break existing networks.
#[test]
fn existing_networks_survive_an_invalid_setting() {
    let dir = Dir::new();
    let start = |variable: &str| {
        Daemon::start_by(
            &dir.0,
            &[],
            &[
                "env",
                variable,
                "unshare",
                "--net",
                "sh",
                "-c",
                "ip link add up0 type veth peer name up1; ip link set up1 up; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; ip route add default via 192.0.2.2; exec \"$@\"",
                "sh",
            ],
        )
    };
    let first = start("PONTOON_PEERS=192.0.2.9");
    let body = Network::new("two", 2).option("pontoon.vni", "4711").body();
    let create =
        |daemon: &Daemon| request(&daemon.socket, "POST", "/NetworkDriver.CreateNetwork", body.to_string().as_bytes());
    assert!(!create(&first).body.contains("Err\":\""), "{}", create(&first).body);
    drop(first);
    let second = start("PONTOON_PEERS=host2");
    assert!(second.shell("bridge fdb show").contains("192.0.2.9"), "the peer is still flooded");
    assert!(!create(&second).body.contains("Err\":\""), "the network exists: {}", create(&second).body);
}

/// Without a state directory nothing can be persisted: each request answers the reason until there is one.
#[test]
fn every_request_reports_an_unusable_state_directory() {
    let dir = Dir::new();
    let file = dir.0.join("file");
    std::fs::write(&file, "").unwrap();
    let variable = format!("PONTOON_STATE_DIR={}", file.display());
    let socket = dir.0.join("set.sock");
    let child = Command::new("env")
        .args([&variable, "unshare", "--net", env!("CARGO_BIN_EXE_pontoon"), "serve", "--socket"])
        .arg(&socket)
        .stderr(std::fs::File::create(dir.0.join("log")).unwrap())
        .spawn()
        .unwrap();
    let child = Killed(child);
    testkit::netns::wait_for("the socket", || socket.exists());
    let answer = request(&socket, "POST", "/NetworkDriver.CreateNetwork", b"{}").json();
    assert!(answer["Err"].as_str().unwrap().contains(file.to_str().unwrap()), "{answer}");
    let answer = request(&socket, "POST", "/NetworkDriver.GetCapabilities", b"").json();
    assert_eq!(answer["Scope"], "local");
    std::fs::remove_file(&file).unwrap();
    let log = || std::fs::read_to_string(dir.0.join("log")).unwrap();
    testkit::netns::wait_for("the daemon to serve", || log().contains("listening"));
    assert_eq!(request(&socket, "GET", "/status", b"").status, 200);
    drop(child);
}

/// The user who types a flag sees the refusal.
#[test]
fn an_invalid_flag_is_refused_at_once() {
    for flag in ["--log=verbose", "--peers=host2", "--scope=gloabl"] {
        let output = Command::new(env!("CARGO_BIN_EXE_pontoon")).args(["serve", flag]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("invalid value"));
    }
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
