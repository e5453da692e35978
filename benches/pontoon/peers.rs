//! The costs of other hosts: up to a thousand simulated ones; and three real ones, with 300 endpoints each. Without
//! engines: the requests are sent over the socket.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{self, Client};
use crate::daemon::{Daemon, Dir};
use crate::flow;
use crate::report::{Row, median, show};
use crate::verbs::time;

const JOINS: usize = 50;
const HOSTS: usize = 3;
const EACH: usize = 300;
const GLOBAL: [&str; 2] = ["--scope", "global"];

pub fn run() -> Vec<Row> {
    let mut rows = simulated();
    rows.extend(real());
    rows
}

/// A host on its own link, with an increasing number of peers.
fn simulated() -> Vec<Row> {
    sh("ip link add eth0 type bridge; ip link set eth0 up; ip addr add 172.20.0.1/16 dev eth0");
    let mut rows = Vec::new();
    let mut first = Duration::ZERO;
    for (turn, peers) in [1usize, 10, 100, 1000].into_iter().enumerate() {
        let dir = Dir::new("peers");
        let daemon = Daemon::start_with(&dir.0, &GLOBAL);
        let mut client = daemon.client();
        let network = format!("{turn}peers");
        known(&mut client, "172.20.0.1", true);
        let idle = daemon.resident();
        let learn = time(|| (0..peers).for_each(|n| known(&mut client, &peer(n), false)));
        let create = time(|| make_network(&mut client, &network));
        let mut joins = Vec::new();
        for n in 0..JOINS {
            joins.push(time(|| join(&mut client, &network, n)));
        }
        let late = time(|| known(&mut client, "172.20.99.99", false));
        let entries = output(&format!("bridge fdb show dev pntx{network} | grep -c dst"));
        let resident = daemon.resident();
        if turn == 0 {
            first = median(&joins);
        }
        rows.push(Row::ratio(
            &format!("CreateEndpoint + Join, {peers} peers"),
            median(&joins),
            "1 peer",
            first,
            Some(1.2),
        ));
        let memory = format!("{}, {idle} to {resident} kB", entries.trim());
        let what = |what: &str| format!("{what}, {peers} peers");
        rows.push(Row::figure(&what("a peer learned, and with a network there"), pair(learn / peers as u32, late)));
        rows.push(Row::figure(&what("CreateNetwork"), show(create)));
        rows.push(Row::figure(&what("entries to flood to, memory before and after"), memory));
        client.call("NetworkDriver.DeleteNetwork", &json!({ "NetworkID": network }).to_string());
        daemon.kill();
        sh(
            "nft delete table inet pontoon; nft delete table bridge pontoon; for link in $(ls /sys/class/net | grep ^pnt); do ip link del $link; done",
        );
    }
    sh("ip link del eth0");
    rows
}

/// Three hosts on a switch: the entries of one host for the endpoints of all.
fn real() -> Vec<Row> {
    sh("ip link add switch type bridge; ip link set switch up");
    let hosts: Vec<Host> = (1..=HOSTS).map(Host::up).collect();
    let mut clients: Vec<Client> = hosts.iter().map(|host| host.daemon.client()).collect();
    let before = hosts[0].daemon.resident();
    for (n, client) in clients.iter_mut().enumerate() {
        (1..=HOSTS).for_each(|other| known(client, &address(other), other == n + 1));
        make_network(client, "three");
    }
    let sandbox = flow::sandbox();
    let began = Instant::now();
    for (n, client) in clients.iter_mut().enumerate() {
        for endpoint in n * EACH..(n + 1) * EACH {
            join(client, "three", endpoint);
        }
        // Pontoon would regard links that stay on the host as abandoned.
        flow::give_away(&hosts[n].at, n * EACH..(n + 1) * EACH, &sandbox);
    }
    let joined = began.elapsed();
    let count = |what: &str| {
        let list = format!("bridge fdb show dev pntxthree | grep {what} | grep -vc 00:00:00:00:00:00");
        flow::inside(&hosts[0].at, || output(&list)).trim().parse::<usize>().expect("a number")
    };
    // Each endpoint is announced for three seconds after its join; a host is complete with the 600 entries of the
    // others.
    let deadline = Instant::now() + Duration::from_secs(60);
    while count("dst") < (HOSTS - 1) * EACH && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let learned = began.elapsed();
    vec![
        Row::figure("3 hosts with 300 endpoints each: all joined, all known to all", pair(joined, learned)),
        Row::figure(
            "of one of them: memory before and after, entries of others' endpoints in the tunnel and in the bridge",
            format!("{before} to {} kB, {} and {}", hosts[0].daemon.resident(), count("dst"), count("master")),
        ),
    ]
}

/// A host in its own namespace, on the switch of the caller's.
struct Host {
    at: PathBuf,
    daemon: Daemon,
    _namespace: File,
    _dir: Dir,
}

impl Host {
    fn up(n: usize) -> Self {
        let namespace = flow::sandbox();
        let at = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        sh(&format!("ip link add sw{n} type veth peer name down{n}; ip link set sw{n} master switch up"));
        crate::raw::Raw::open().give_away(&format!("down{n}"), &namespace);
        let dir = Dir::new(&format!("host{n}"));
        let daemon = flow::inside(&at, || {
            let own = address(n);
            sh(&format!(
                "ip link set lo up; ip link set down{n} name eth0; ip addr add {own}/16 dev eth0; ip link set eth0 up"
            ));
            Daemon::start_with(Path::new(&dir.0), &GLOBAL)
        });
        Self { at, daemon, _namespace: namespace, _dir: dir }
    }
}

fn address(host: usize) -> String {
    format!("172.21.0.{host}")
}

fn peer(n: usize) -> String {
    format!("172.20.{}.{}", n / 200 + 1, n % 200 + 1)
}

/// Reports a node, or the address of this one, as the engine does.
fn known(client: &mut Client, address: &str, own: bool) {
    let body = json!({"DiscoveryType": 1, "DiscoveryData": {"Address": address, "BindAddress": address, "Self": own}});
    client.call("NetworkDriver.DiscoverNew", &body.to_string());
}

/// Requests a network as on a manager and then on a node.
fn make_network(client: &mut Client, id: &str) {
    let pools = json!([{"AddressSpace": "GlobalDefault", "Pool": "10.80.0.0/16", "Gateway": "10.80.0.1/16"}]);
    let body = json!({"NetworkID": id, "Options": {}, "IPv4Data": pools, "IPv6Data": []});
    let answer = client.call("NetworkDriver.AllocateNetwork", &body.to_string());
    let body = json!({"NetworkID": id, "Options": {"com.docker.network.generic": answer["Options"]},
        "IPv4Data": pools, "IPv6Data": []});
    client.call("NetworkDriver.CreateNetwork", &body.to_string());
}

fn join(client: &mut Client, network: &str, n: usize) {
    client.call("NetworkDriver.CreateEndpoint", &client::create(network, 80, n));
    client.call("NetworkDriver.Join", &client::join(network, n));
}

fn pair(one: Duration, other: Duration) -> String {
    format!("{}, {}", show(one), show(other))
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-c", script]).status().expect("a shell");
    assert!(done.success(), "{script}");
}

fn output(script: &str) -> String {
    let done = Command::new("sh").args(["-c", script]).output().expect("a shell");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
