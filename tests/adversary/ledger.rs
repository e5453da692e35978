//! A lost or old ledger, and commands that use the wrong one: containers keep their network across restarts and
//! commands.

use std::fs;

use crate::host::{Container, Host, Network, Publish};
use testkit::topology::{TCP, UDP, ask, serve};

const PONTOON: &str = env!("CARGO_BIN_EXE_pontoon");

struct Topology {
    host: Host,
    a: Container,
    b: Container,
    foreign: Container,
}

/// Two containers in a network with Pontoon's bridge, one on a user's bridge.
fn topology() -> Topology {
    let host = Host::start(&[]);
    let one = Network::new("one", 1);
    host.run("ip link add mine0 type bridge; ip link set mine0 up; ip addr add 10.3.0.1/24 dev mine0");
    let own = Network::new("own", 3).option("com.docker.network.bridge.name", "mine0");
    host.create(&one);
    host.create(&Network::new("idle", 2));
    host.create(&own);
    let a = host.container(&one, 2);
    let b = host.container_with(&one, 3, &[Publish::new(6, 8080, 80), Publish::new(17, 8080, 80)]);
    let foreign = host.container(&own, 2);
    serve(&b);
    // The bridge's IPv6 address stays tentative for a second or two.
    host.run("for i in $(seq 50); do ip -6 addr show tentative | grep -q tentative || break; sleep 0.1; done");
    Topology { host, a, b, foreign }
}

impl Topology {
    #[track_caller]
    fn assert_works(&self, when: &str) {
        for address in ["10.1.0.3", "fd00:1::3"] {
            assert!(self.a.pings(address), "{address} {when}\n{}", self.host.run("ip link; nft list ruleset"));
        }
        assert!(self.foreign.pings("192.0.2.2"), "the user's bridge {when}");
        for protocol in [TCP, UDP] {
            for server in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
                assert!(self.host.outside.enter(|| ask(protocol, server)).is_some(), "{server} {when}");
            }
        }
        assert!(self.host.run("ip -o link show type bridge").contains("pntbidle"), "an idle network {when}");
    }

    fn state(&self) -> std::path::PathBuf {
        self.host.dir.0.join("pontoon.state")
    }

    /// The output of a command, with state and socket of this host by default.
    fn command(&self, command: &str, state: &std::path::Path) -> String {
        let socket = self.host.dir.0.join("pontoon.sock");
        let paths = format!("--state-dir {} --socket {}", state.display(), socket.display());
        self.host.run(&format!("{PONTOON} {command} {paths} 2>&1; echo exit $?"))
    }
}

#[test]
fn a_lost_ledger_removes_nothing_at_any_start() {
    let mut topology = topology();
    topology.assert_works("before");
    topology.host.end();
    let aside = topology.host.dir.0.join("aside");
    fs::rename(topology.state(), &aside).unwrap();
    // Without a daemon, with the default state directory of another host: twice, as a user would.
    for turn in 1..=2 {
        for command in ["check", "plan", "repair", "repair"] {
            let said = topology.command(command, &topology.state());
            topology.assert_works(&format!("after {command}, turn {turn}: {said}"));
            assert!(!said.contains("ip link del") && !said.contains("nothing to do"), "{command}: {said}");
        }
        let check = topology.command("check --json", &topology.state());
        assert!(check.contains("unknown_links") && check.contains("exit 1"), "{check}");
    }
    for life in 1..=3 {
        topology.host.begin();
        topology.assert_works(&format!("after start {life} without the ledger"));
        let doctor = topology.command("doctor", &topology.state());
        assert!(doctor.contains("not in its ledger") && !doctor.contains("ip link del"), "{doctor}");
        topology.host.run("nft delete table inet pontoon; nft delete table bridge pontoon; sleep 1.2");
        topology.assert_works(&format!("after start {life} and a flush of the firewall"));
        topology.command("repair", &topology.state());
        topology.assert_works(&format!("after start {life} and a repair"));
    }
    // A release with another ruleset preserves what the tables hold.
    topology.host.end();
    topology.host.run("nft add chain inet pontoon other");
    topology.host.begin();
    topology.assert_works("after the table was created again");
    assert!(!topology.host.run("nft list table inet pontoon").contains("chain other"));
    // The right ledger accounts for all of it again.
    topology.host.end();
    fs::remove_dir_all(topology.state()).unwrap();
    fs::rename(&aside, topology.state()).unwrap();
    topology.host.begin();
    topology.assert_works("with the right ledger again");
    let check = topology.command("doctor --json", &topology.state());
    assert!(!check.contains("are not in its ledger"), "{check}");
    topology.host.detach(&topology.b.first);
    assert!(topology.host.outside.enter(|| ask(TCP, "192.0.2.1:8080")).is_none());
}

#[test]
fn an_older_ledger_removes_nothing_newer() {
    let mut topology = topology();
    topology.host.end();
    let copy = fs::read(topology.state().join("ledger")).unwrap();
    topology.host.begin();
    // Created since the copy: another network, a container with a port, and a port that moved to another container.
    let late = Network::new("late", 4);
    topology.host.create(&late);
    let c = topology.host.container_with(&late, 2, &[Publish::new(6, 9090, 80)]);
    serve(&c);
    let served = |topology: &Topology| topology.host.outside.enter(|| ask(TCP, "192.0.2.1:9090")).is_some();
    assert!((0..20).any(|_| served(&topology)));
    for life in 1..=3 {
        topology.host.end();
        if life == 1 {
            fs::write(topology.state().join("ledger"), &copy).unwrap();
        }
        for command in ["plan", "repair", "repair"] {
            topology.command(command, &topology.state());
        }
        topology.host.begin();
        topology.assert_works(&format!("after start {life} with the older ledger"));
        assert!(served(&topology), "the newer container, after start {life}");
    }
    let link = c.first.port.clone();
    let refused = topology.command("repair --remove pntblate --yes", &topology.state());
    assert!(refused.contains(&link) && refused.contains("nothing is removed"), "{refused}");
    assert!(served(&topology));
    let done = topology.command(&format!("repair --remove {link} --remove pntblate --yes"), &topology.state());
    assert!(done.contains("exit 0"), "{done}");
    // Links are deleted in the background.
    let gone = || !topology.host.run("ip link").contains("pntblate");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !gone() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(gone() && !served(&topology), "{done}");
    topology.assert_works("after the newer network was removed by name");
}
