//! A node: a host with a Docker engine.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{ChildStdin, Command},
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{
    command::{self, Output},
    enter::Entrance,
    options::Options,
    poll,
    process::Process,
    segment,
};

/// A signal that ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM: an orderly end.
    Term,
    /// KILL: a crash.
    Kill,
}

impl Signal {
    /// The name for `kill -s`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// The addresses of a container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The IPv4 address, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address, if it has one.
    pub v6: Option<Ipv6Addr>,
    /// The MAC address, as the engine prints it.
    pub mac: String,
}

/// A host with a Docker engine and a busybox image, removed when the value is dropped.
#[derive(Debug)]
pub struct Node {
    name: String,
    dir: PathBuf,
    entrance: Entrance,
    spawned: AtomicUsize,
    _tether: ChildStdin,
}

/// Longer than the lab's own deadlines, so that the lab can report the error.
const LAB: Duration = Duration::from_secs(150);
/// The deadline of a command in a node.
const COMMAND: Duration = Duration::from_secs(90);

impl Node {
    /// A node with default options.
    #[track_caller]
    pub fn up() -> Self {
        Self::with(&Options::new())
    }

    #[track_caller]
    pub(super) fn with(options: &Options) -> Self {
        let name = segment::unique("n");
        let mut up = command::lab(["up", &name, "--tether"]);
        up.args(&options.args).arg("--").args(&options.flags);
        let (output, tether) = command::run_tethered(up, LAB);
        output.ok();
        let dir = PathBuf::from(command::run(command::lab(["path", &name]), COMMAND).ok());
        let (entrance, spawned) = (Entrance::of(&dir), AtomicUsize::new(0));
        Self { name, dir, entrance, spawned, _tether: tether.expect("standard input is piped") }
    }

    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory on this machine that is `/lab` in the node.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("lab")
    }

    /// The path on this machine of a path in the node; also for sockets, whatever the length of the path.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.entrance.path(inside)
    }

    // Commands

    /// Runs the node's Docker client.
    pub fn docker(&self, args: &[&str]) -> Output {
        self.docker_within(COMMAND, args)
    }

    /// [`Node::docker`] with a deadline.
    pub fn docker_within(&self, deadline: Duration, args: &[&str]) -> Output {
        let mut command = vec!["docker"];
        command.extend(args);
        self.exec_within(deadline, &command)
    }

    /// Runs a command in the node.
    pub fn exec(&self, command: &[&str]) -> Output {
        self.exec_within(COMMAND, command)
    }

    /// [`Node::exec`] with a deadline.
    pub fn exec_within(&self, deadline: Duration, command: &[&str]) -> Output {
        let output = command::run(self.entering(command), deadline);
        Output { command: format!("{}: {}", self.name, command.join(" ")), ..output }
    }

    /// Starts a command in the node, in the background.
    pub fn spawn(&self, command: &[&str]) -> Process {
        let log = format!("spawn-{}.log", self.spawned.fetch_add(1, Ordering::Relaxed));
        self.spawn_to(command, &log)
    }

    pub(super) fn spawn_to(&self, command: &[&str], log: &str) -> Process {
        Process::start(self.entering(command), self.shared().join(log))
    }

    /// A command in the node; the lab has the words for a node that is off.
    fn entering(&self, command: &[&str]) -> Command {
        self.entrance.command(command).unwrap_or_else(|| {
            let mut exec = command::lab(["exec", &self.name]);
            exec.args(command);
            exec
        })
    }

    // The host and its engine

    /// A power cut and a boot, including dockerd if it ran. The disk is kept; `/run`, the network namespace and the
    /// boot id are new.
    #[track_caller]
    pub fn reboot(&self) {
        self.lab("reboot", &[], LAB).ok();
    }

    /// [`Node::reboot`] without the start of dockerd.
    #[track_caller]
    pub fn reboot_bare(&self) {
        self.lab("reboot", &["--no-dockerd"], LAB).ok();
    }

    /// The boot id of the node.
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.exec(&["cat", "/proc/sys/kernel/random/boot_id"]).ok()
    }

    /// Starts dockerd and waits until it answers.
    #[track_caller]
    pub fn start_dockerd(&self) {
        self.lab("start", &[], LAB).ok();
    }

    /// Starts dockerd after a crash, repeatedly if it exits during its start, like an init system: 20.10 gives up if a
    /// plugin does not come up in time (libnetwork nevertheless requests its capabilities).
    #[track_caller]
    pub fn revive_dockerd(&self) {
        poll::wait_until(LAB, "dockerd to come up", || self.lab("start", &[], LAB).success());
    }

    /// Starts dockerd with other flags.
    #[track_caller]
    pub fn start_dockerd_with(&self, flags: &[&str]) {
        self.lab("start", flags, LAB).ok();
    }

    /// Ends dockerd by a signal and waits for its end.
    #[track_caller]
    pub fn stop_dockerd(&self, signal: Signal) {
        self.lab("stop", &[signal.name()], LAB).ok();
    }

    /// Kills dockerd, as in a crash.
    #[track_caller]
    pub fn kill_dockerd(&self) {
        self.stop_dockerd(Signal::Kill);
    }

    /// Ends dockerd by a signal and starts it again.
    #[track_caller]
    pub fn restart_dockerd(&self, signal: Signal) {
        self.stop_dockerd(signal);
        self.start_dockerd();
    }

    /// The engine's version, as comparable numbers.
    #[track_caller]
    pub fn engine_version(&self) -> (u32, u32) {
        let text = self.docker(&["version", "--format", "{{.Server.Version}}"]).ok();
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Loads a further image of the lab: nettools.
    #[track_caller]
    pub fn load_image(&self, name: &str) {
        self.lab("image", &[name], LAB).ok();
    }

    /// Starts a registry in the node, for pushes and upgrades of plugins; returns its address.
    #[track_caller]
    pub fn start_registry(&self) -> &'static str {
        self.lab("registry", &[], LAB).ok();
        "127.0.0.1:5000"
    }

    // Containers

    /// Starts a busybox container that sleeps; `args` precede the image.
    #[track_caller]
    pub fn run_container(&self, name: &str, args: &[&str]) -> String {
        let mut run = vec!["run", "-d", "--name", name];
        run.extend(args);
        run.push("busybox");
        self.docker(&run).ok()
    }

    /// Runs a command in the namespaces of a container, as root and with all capabilities: for what a test wants to
    /// know. What a container may do is tried by a process of its own, or by `docker exec`.
    pub fn exec_in(&self, container: &str, command: &[&str]) -> Output {
        let ask = || self.docker(&["inspect", "--format", "{{.Id}} {{.State.Pid}}", container]).answer();
        if let Some(entering) = self.entrance.in_container(container, command, ask) {
            let output = command::run(entering, COMMAND);
            return Output { command: format!("{container} on {}: {}", self.name, command.join(" ")), ..output };
        }
        let mut exec = vec!["exec", container];
        exec.extend(command);
        self.docker(&exec)
    }

    /// One ping from a container, with a timeout of a second.
    pub fn ping(&self, from: &str, to: &str) -> bool {
        self.exec_in(from, &["ping", "-c1", "-W1", to]).success()
    }

    /// Pings until there is an answer.
    #[track_caller]
    pub fn ping_soon(&self, from: &str, to: &str) {
        let what = format!("{from} to reach {to} on {}", self.name);
        poll::wait_until(Duration::from_secs(40), &what, || self.ping(from, to));
    }

    /// The engine's data about a container, network, image, plugin or volume.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.docker(&["inspect", name]).json()[0].take()
    }

    /// The addresses of a container on a network.
    #[track_caller]
    pub fn container_addr(&self, name: &str, network: &str) -> Address {
        let container = self.inspect(name);
        let endpoint = &container["NetworkSettings"]["Networks"][network];
        assert!(endpoint.is_object(), "{name} is not on {network}: {}", container["NetworkSettings"]);
        Address {
            v4: parse(&endpoint["IPAddress"]),
            v6: parse(&endpoint["GlobalIPv6Address"]),
            mac: endpoint["MacAddress"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The addresses of the node's own interface, such as `eth0`.
    #[track_caller]
    pub fn interface_addrs(&self, interface: &str) -> Vec<IpAddr> {
        let links = self.exec(&["ip", "-json", "address", "show", "dev", interface]).json();
        let addrs = links[0]["addr_info"].as_array().cloned().unwrap_or_default();
        addrs.iter().filter_map(|addr| parse(&addr["local"])).collect()
    }

    /// The last lines of one of the node's logs: dockerd or pontoon.
    pub fn log_tail(&self, log: &str) -> String {
        let text = fs::read(self.shared().join(format!("{log}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Copies a file or a directory of this machine to `/lab/NAME` in the node, and replaces an older copy.
    #[track_caller]
    pub fn copy_in(&self, from: &Path, name: &str) {
        let to = self.shared().join(name);
        if to.is_dir() {
            fs::remove_dir_all(&to).expect("the old copy can be removed");
        }
        let mut copy = std::process::Command::new("cp");
        copy.args(["-a", "--remove-destination", "-T"]).args([from, &to]);
        command::run(copy, COMMAND).ok();
    }

    fn lab(&self, verb: &str, args: &[&str], deadline: Duration) -> Output {
        let mut lab = command::lab([verb, &self.name]);
        lab.args(args);
        command::run(lab, deadline)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["dockerd", "pontoon"] {
                let tail = self.log_tail(log);
                if !tail.is_empty() {
                    eprintln!("--- {log} on {}\n{tail}", self.name);
                }
            }
        }
        let down = self.lab("down", &[], LAB);
        if !down.success() {
            eprintln!("{down}");
        }
    }
}

fn parse<T: FromStr>(text: &Value) -> Option<T> {
    text.as_str()?.parse().ok()
}
