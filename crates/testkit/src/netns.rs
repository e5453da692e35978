//! Network namespaces for tests: a new namespace for each test, and further ones for its hosts.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use nix::sched::{CloneFlags, setns, unshare};
use pontoon::datapath::{Bridge, Datapath, Kernel, Step, Veth};
use pontoon::linux::{LinuxKernel, Options};
use pontoon::model::{IfName, LinkRole, Mac};

use crate::poll::patient;

/// Runs a test on a new thread in a new network namespace.
pub fn in_netns(test: impl FnOnce(&LinuxKernel) + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
        run("ip link set lo up");
        test(&LinuxKernel::new(Options::default()).expect("the kernel opens"));
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A further namespace, which exists as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    tid: i32,
    _stop: mpsc::Sender<()>,
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Netns {
    /// A new namespace with only the loopback link, which is up.
    pub fn new() -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            run("ip link set lo up");
            send.send((File::open("/proc/thread-self/ns/net").unwrap(), nix::unistd::gettid().as_raw())).unwrap();
            let _ = stopped.recv();
        });
        let (file, tid) = receive.recv().unwrap();
        Self { file, tid, _stop: stop }
    }

    /// The id of a thread inside, for paths in `/proc`.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Runs a closure inside.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }

    /// Runs a shell command inside, which must succeed.
    pub fn run(&self, command: &str) -> String {
        self.enter(|| run(command))
    }

    /// Moves a link of the calling thread's namespace into this one, as `eth0` with an address. Returns when the link
    /// is ready: the kernel processes a new carrier later (net/core/link_watch.c), by seconds where many namespaces end.
    pub fn take(&self, link: &str, address: &str, gateway: &str) {
        run(&format!("ip link set {link} netns {} name eth0", self.tid));
        self.run(&format!("ip addr add {address} dev eth0"));
        self.run("ip link set eth0 up");
        wait_for("a link that is ready", || {
            let link = self.run("ip -o link show dev eth0");
            !link.contains("LOWER_UP") || !(link.contains("state DOWN") || link.contains("state LOWERLAYERDOWN"))
        });
        if !gateway.is_empty() {
            self.run(&format!("ip route add default via {gateway}"));
        }
    }

    /// Whether one of a few pings is answered.
    pub fn pings(&self, target: &str) -> bool {
        self.enter(|| {
            succeeds(&format!("ping -n -c 1 -W 1 {target}")) || succeeds(&format!("ping -n -c 2 -W 1 {target}"))
        })
    }
}

/// A shell command. Runs simple commands without a shell: starting a program takes 15 ms and more in a guest.
fn shell(command: &str) -> Command {
    const BUILT_IN: [&str; 8] = ["cd", "command", "exec", "exit", "export", "set", "ulimit", "umask"];
    let plain = command.chars().all(|c| c.is_ascii_alphanumeric() || " ./:,@%+-_".contains(c));
    let mut words = command.split_whitespace();
    match words.next().filter(|program| plain && !BUILT_IN.contains(program)) {
        Some(program) => {
            let mut direct = Command::new(program);
            direct.args(words);
            direct
        }
        None => {
            let mut shell = Command::new("sh");
            shell.args(["-c", command]);
            shell
        }
    }
}

/// Runs a shell command that must succeed, and returns its output.
pub fn run(command: &str) -> String {
    let output = shell(command).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a shell command succeeds.
pub fn succeeds(command: &str) -> bool {
    shell(command).output().unwrap_or_else(|error| panic!("{command}: {error}")).status.success()
}

/// Waits for a condition; panics after a minute, or later on a machine that is known to be slow.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patient(Duration::from_secs(60));
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A name of an interface.
pub fn name(text: &str) -> IfName {
    IfName::parse(text).unwrap()
}

/// An address with its prefix length.
pub fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

/// A bridge with Pontoon's settings.
pub fn bridge(id: &str, addresses: &[&str]) -> Bridge {
    Bridge {
        owned: true,
        mac: Some(Mac::derive("bridge", id)),
        mtu: 1500,
        alias: format!("pontoon network {id}"),
        addresses: addresses.iter().map(|a| net(a)).collect(),
        ipv6: addresses.iter().any(|a| a.contains(':')),
        localnet: false,
        hardened: true,
        filters_vlans: false,
        up: true,
    }
}

/// A pair and the name of its host end.
pub fn veth(id: &str, bridge: &str) -> (IfName, Veth) {
    let veth = Veth {
        peer: IfName::derive(LinkRole::Peer, id, 0),
        host_mac: Mac::derive("host", id),
        peer_mac: Some(Mac::derive("peer", id)),
        mtu: 1500,
        peer_mtu: 1500,
        bridge: Some(name(bridge)),
        isolated: false,
        vlans: None,
        hairpin: false,
        shape: None,
        arp: false,
        up: true,
    };
    (IfName::derive(LinkRole::Host, id, 0), veth)
}

/// A pair as it reads back: the MAC of a peer in another namespace is unknown.
pub fn read_back(veth: &Veth) -> Veth {
    Veth { peer_mac: None, ..veth.clone() }
}

/// All objects of Pontoon in the kernel.
pub fn observe(kernel: &LinuxKernel) -> Datapath {
    kernel.observe(&BTreeSet::new()).unwrap()
}

/// Applies the steps twice: every step is idempotent.
pub fn twice(kernel: &LinuxKernel, steps: &[Step]) {
    for _ in 0..2 {
        kernel.apply(steps).unwrap();
    }
}

/// Waits until all retired links are deleted.
pub fn settle(kernel: &LinuxKernel) {
    assert!(kernel.settle(patient(Duration::from_secs(10))), "links are left");
}
