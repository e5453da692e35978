//! Owns network namespaces for tests: one fresh namespace a test, further ones for its hosts.

#![allow(dead_code)]

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

/// Runs a test on a fresh thread in a network namespace of its own.
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

/// A further namespace, alive as long as this value.
pub struct Netns {
    file: File,
    tid: i32,
    _stop: mpsc::Sender<()>,
}

impl Netns {
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

    /// A thread inside, by which `/proc` shows it.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Runs something inside.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }

    pub fn run(&self, command: &str) -> String {
        self.enter(|| run(command))
    }

    /// Moves a link of the calling thread's namespace in here, as `eth0` with an address.
    pub fn take(&self, link: &str, address: &str, gateway: &str) {
        run(&format!("ip link set {link} netns {} name eth0", self.tid));
        self.run(&format!("ip addr add {address} dev eth0"));
        self.run("ip link set eth0 up");
        if !gateway.is_empty() {
            self.run(&format!("ip route add default via {gateway}"));
        }
    }

    /// Whether one ping out of a few is answered.
    pub fn pings(&self, target: &str) -> bool {
        self.enter(|| {
            succeeds(&format!("ping -n -c 1 -W 1 {target}")) || succeeds(&format!("ping -n -c 2 -W 1 {target}"))
        })
    }
}

/// Runs a command that must succeed and returns what it printed.
pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn succeeds(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).output().unwrap().status.success()
}

/// Waits for a level, with a deadline.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn name(text: &str) -> IfName {
    IfName::parse(text).unwrap()
}

pub fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

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
        hairpin: false,
        arp: false,
        up: true,
    };
    (IfName::derive(LinkRole::Host, id, 0), veth)
}

/// A pair as it reads back: the MAC of the other end may be out of sight.
pub fn read_back(veth: &Veth) -> Veth {
    Veth { peer_mac: None, ..veth.clone() }
}

pub fn observe(kernel: &LinuxKernel) -> Datapath {
    kernel.observe(&BTreeSet::new()).unwrap()
}

/// Applies twice: every step is idempotent.
pub fn twice(kernel: &LinuxKernel, steps: &[Step]) {
    for _ in 0..2 {
        kernel.apply(steps).unwrap();
    }
}

pub fn settle(kernel: &LinuxKernel) {
    assert!(kernel.settle(Duration::from_secs(10)), "links are left");
}
