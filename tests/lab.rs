//! The lab, tested with the engine's own bridge driver: the foundation of Pontoon's tests has to work by itself.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use testkit::{Node, Options, Segment, Signal, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn containers_on_a_network_reach_each_other_by_name() {
    let node = Node::up();
    node.docker(&["network", "create", "--subnet", "10.77.0.0/24", "net"]).ok();
    node.run_container("one", &["--network", "net"]);
    node.run_container("two", &["--network", "net", "--ip", "10.77.0.22"]);
    node.ping_soon("one", "two");
    node.ping_soon("two", "one");
    let address = node.container_addr("two", "net");
    assert_eq!(address.v4, "10.77.0.22".parse().ok());
    assert_eq!(address.mac.len(), 17);
    assert!(!node.ping("one", "10.77.0.99"));
}

#[test]
fn a_container_and_a_host_outside_reach_each_other() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    let outside = Options::new().uplink(&segment, 2).bare().up();
    node.docker(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/etc"]).ok();
    node.ping_soon("web", "192.168.77.2");
    node.ping_soon("web", "192.168.77.254");
    let page = wait_for(SOON, "the published port", || {
        let curl = outside.exec(&["curl", "-sf", "--max-time", "2", "http://192.168.77.1:8080/passwd"]);
        curl.success().then(|| curl.ok())
    });
    assert!(page.starts_with("root:"));
    assert!(outside.exec(&["ping", "-c1", "-W2", "fd77::1"]).success());
    assert!(node.interface_addrs("eth0").contains(&"192.168.77.1".parse().expect("an address")));
}

#[test]
fn a_reboot_keeps_only_the_disk() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).flag("--debug").up();
    let other = Options::new().uplink(&segment, 2).bare().up();
    let booted = node.boot_id();
    assert_eq!(fs::read_to_string(node.path("/run/boot_id")).expect("a boot id").trim(), booted);
    node.docker(&["network", "create", "net"]).ok();
    node.run_container("always", &["--network", "net", "--restart", "always"]);
    node.run_container("never", &["--network", "net"]);
    node.exec(&[
        "sh",
        "-c",
        "echo kept >/var/lib/pontoon/state; echo kept >/etc/kept; touch /run/lost; ip link add lost type bridge",
    ])
    .ok();
    assert!(other.exec(&["ping", "-c1", "-W2", "192.168.77.1"]).success());

    node.reboot();

    assert_ne!(node.boot_id(), booted);
    assert_eq!(node.exec(&["cat", "/var/lib/pontoon/state", "/etc/kept"]).ok(), "kept\nkept");
    node.exec(&["test", "!", "-e", "/run/lost"]).ok();
    node.exec(&["ip", "link", "show", "lost"]).err();
    assert_eq!(node.inspect("net")["Name"], "net");
    wait_until(SOON, "the restarted container", || node.inspect("always")["State"]["Running"] == true);
    assert_eq!(node.inspect("never")["State"]["Running"], false);
    assert!(other.exec(&["ping", "-c1", "-W2", "192.168.77.1"]).success());

    node.stop_dockerd(Signal::Term);
    node.reboot_bare();
    node.docker(&["version"]).err();
    node.start_dockerd();
    node.docker(&["version"]).ok();
}

#[test]
fn an_engine_crash_is_survived() {
    let node = Options::new().flag("--live-restore").up();
    node.docker(&["network", "create", "net"]).ok();
    node.run_container("one", &["--network", "net"]);
    node.run_container("two", &["--network", "net"]);
    node.ping_soon("one", "two");
    let pid = node.inspect("one")["State"]["Pid"].clone();
    node.kill_dockerd();
    node.docker(&["version"]).err();
    node.start_dockerd();
    assert_eq!(node.inspect("one")["State"]["Pid"], pid);
    node.ping_soon("one", "two");
    node.restart_dockerd(Signal::Term);
    assert_eq!(node.inspect("one")["State"]["Pid"], pid);
}

#[test]
fn nodes_start_in_parallel() {
    let segment = Segment::up();
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| Options::new().uplink(&segment, 1).up());
        let two = scope.spawn(|| Options::new().uplink(&segment, 2).up());
        (one.join().expect("one"), two.join().expect("two"))
    });
    for node in [&one, &two] {
        node.docker(&["network", "create", "--subnet", "10.77.0.0/24", "net"]).ok();
        node.run_container("same", &["--network", "net"]);
    }
    one.ping_soon("same", "192.168.77.2");
    two.ping_soon("same", "192.168.77.1");
    assert_ne!(one.boot_id(), two.boot_id());
}

#[test]
fn nothing_is_left_of_a_node() {
    let node = Node::up();
    node.docker(&["network", "create", "net"]).ok();
    let container = node.run_container("one", &["--network", "net", "--restart", "always"]);
    let dir = node.shared().parent().expect("the node's directory").to_owned();
    let before = descendants(keeper(&dir));
    assert!(before.len() >= 5, "keeper, holder, dockerd, containerd, shim, container: {before:?}");
    assert!(!cgroups(&container).is_empty());
    drop(node);
    assert!(!dir.exists());
    assert!(!mounts().contains(&*dir.to_string_lossy()));
    assert_eq!(cgroups(&container), Vec::<PathBuf>::new());
    let alive = processes();
    let left: Vec<_> =
        before.iter().filter(|(pid, birth)| alive.get(pid).is_some_and(|p| p.birth == **birth)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_node_does_not_outlive_its_test() {
    let name = format!("tether{}", std::process::id());
    let lab = testkit::root().join("crates/testkit/lab");
    let mut up =
        Command::new(&lab).args(["up", &name, "--tether"]).stdin(Stdio::piped()).spawn().expect("the lab starts");
    let tether = up.stdin.take();
    assert!(up.wait().expect("a child").success());
    let path = Command::new(&lab).args(["path", &name]).output().expect("the lab starts");
    let dir = PathBuf::from(String::from_utf8_lossy(&path.stdout).trim());
    let before = descendants(keeper(&dir));
    // What the kernel does when a test's process ends.
    drop(tether);
    wait_until(SOON, "the node to be removed", || !dir.exists());
    wait_until(SOON, "its processes to end", || {
        let alive = processes();
        !before.iter().any(|(pid, birth)| alive.get(pid).is_some_and(|process| process.birth == *birth))
    });
}

#[test]
fn a_command_ends_at_its_deadline() {
    let node = Options::new().bare().up();
    let output = node.exec_within(Duration::from_millis(300), &["sleep", "4242"]);
    assert!(output.status.is_none());
    wait_until(SOON, "its process to end", || !node.exec(&["pgrep", "-f", "^sleep 4242"]).success());
    let mut process = node.spawn(&["sh", "-c", "echo started; exec sleep 4243"]);
    wait_until(SOON, "its output", || process.log().contains("started"));
    assert!(process.running());
    process.kill();
    wait_until(SOON, "its process to end", || !node.exec(&["pgrep", "-f", "^sleep 4243"]).success());
    let mut brief = node.spawn(&["true"]);
    assert!(brief.wait(SOON));
}

#[test]
fn the_tools_image_has_its_tools() {
    let node = Node::up();
    node.load_image("nettools");
    let tools = "for t in bash ip ss bridge tc ping arping nft curl socat tcpdump iperf3 getent nslookup; do \
                 command -v $t >/dev/null || echo $t; done; ip -brief link show eth0 >/dev/null && nft list ruleset";
    assert_eq!(node.docker(&["run", "--rm", "--cap-add", "NET_ADMIN", "nettools", "sh", "-c", tools]).ok(), "");
}

#[test]
fn a_registry_serves_plugins() {
    let node = Node::up();
    let registry = node.start_registry();
    let plugin = node.shared().join("source");
    fs::create_dir_all(plugin.join("rootfs")).expect("a directory");
    let config =
        r#"{"entrypoint": ["/none"], "interface": {"types": ["docker.networkdriver/1.0"], "socket": "idle.sock"}}"#;
    fs::write(plugin.join("config.json"), config).expect("a file");
    for _ in 0..2 {
        node.create_plugin(&plugin);
        assert_eq!(node.inspect("pontoon:latest")["Enabled"], false);
        node.docker(&["plugin", "rm", "pontoon"]).ok();
    }
    let name = format!("{registry}/idle:1");
    node.docker(&["plugin", "create", &name, "/lab/plugin"]).ok();
    node.docker(&["plugin", "push", &name]).ok();
    node.docker(&["plugin", "rm", &name]).ok();
    node.docker(&["plugin", "install", "--disable", "--grant-all-permissions", "--alias", "idle", &name]).ok();
    assert_eq!(node.inspect("idle")["PluginReference"], name);
}

/// Listens on a socket like Pontoon, without any function.
const LISTENER: &str = r#"#!/usr/bin/perl
use IO::Socket::UNIX;
print STDERR "started: @ARGV\n";
$SIG{TERM} = sub { print STDERR "bye\n"; exit 0 };
unlink $ARGV[2];
my $socket = IO::Socket::UNIX->new(Local => $ARGV[2], Listen => 5) or die "$ARGV[2]: $!";
while (1) { $socket->accept }
"#;

#[test]
fn a_program_is_run_like_pontoon() {
    let node = Options::new().bare().up();
    let program = node.shared().join("listener");
    fs::write(&program, LISTENER).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    let first = node.start_pontoon(&program, &["--more"]);
    assert_eq!(node.pontoon_pid(), Some(first));
    assert!(node.log_tail("pontoon").contains("--state-dir /var/lib/pontoon --more"));
    node.kill_pontoon(Signal::Kill);
    assert_eq!(node.pontoon_pid(), None);
    let second = node.start_pontoon(&program, &[]);
    assert_ne!(first, second);
    node.kill_pontoon(Signal::Term);
    assert!(node.log_tail("pontoon").ends_with("bye"));
    node.start_pontoon(&program, &[]);
    node.reboot();
    assert!(!node.pontoon_runs());
}

struct Process {
    parent: u32,
    birth: u64,
}

/// The processes of this machine, except zombies.
fn processes() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").expect("/proc exists").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        (fields[0] != "Z").then_some(())?;
        Some((pid, Process { parent: fields[1].parse().ok()?, birth: fields[19].parse().ok()? }))
    })
    .collect()
}

/// A process and its descendants, with their start times.
fn descendants(top: u32) -> HashMap<u32, u64> {
    let all = processes();
    let below = |pid: u32| {
        let mut at = pid;
        while at != top {
            match all.get(&at) {
                Some(process) => at = process.parent,
                None => return false,
            }
        }
        true
    };
    all.iter().filter(|(pid, _)| below(**pid)).map(|(pid, process)| (*pid, process.birth)).collect()
}

fn keeper(dir: &Path) -> u32 {
    fs::read_to_string(dir.join("keeper")).expect("a keeper").trim().parse().expect("a process id")
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("/proc exists")
}

/// The control groups of a container.
fn cgroups(container: &str) -> Vec<PathBuf> {
    let find =
        Command::new("find").args(["/sys/fs/cgroup/", "-type", "d", "-name", &format!("*{container}*")]).output();
    let text = find.expect("find is installed").stdout;
    String::from_utf8_lossy(&text).lines().map(PathBuf::from).collect()
}
