//! Untranslated packets to a published port: broadcasts reach the container and are answered from the host's address,
//! everything else is rejected at once.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::host::{Container, Host, Network, Publish};
use testkit::netns::Netns;
use testkit::topology::{TCP, UDP, ask, serve};

const SOON: Duration = Duration::from_millis(700);

/// A host with a server that has TCP and UDP 8080 published, and 8081 on 192.0.2.1 alone.
fn served(options: &[(&'static str, &'static str)]) -> (Host, Network, Container) {
    let host = Host::start(&[]);
    let mut network = Network::new("one", 1);
    network.options.extend(options);
    host.create(&network);
    let at = Publish { host_address: "192.0.2.1", ..Publish::new(17, 8081, 80) };
    let ports = [Publish::new(6, 8080, 80), Publish::new(17, 8080, 80), at];
    let server = host.container_with(&network, 2, &ports);
    serve(&server);
    (host, network, server)
}

/// Sends a broadcast; returns the address that answered and the client address that it saw.
fn call(from: &Netns, bound: &str, to: &str) -> Option<(String, String)> {
    from.enter(|| {
        let socket = UdpSocket::bind(bound).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(b"who", to).unwrap();
        let mut answer = [0; 64];
        let (len, whose) = socket.recv_from(&mut answer).ok()?;
        Some((whose.to_string(), String::from_utf8_lossy(&answer[..len]).into_owned()))
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Refused,
    Silence,
}

/// The outcome of a request within a moment; `to` may have a zone: `[fe80::1%3]:80`.
fn outcome(from: &Netns, tcp: bool, to: &str) -> Outcome {
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Silence,
        _ => panic!("{to}: {error}"),
    };
    from.enter(|| {
        let to: SocketAddr = to.parse().unwrap();
        if tcp {
            return TcpStream::connect_timeout(&to, SOON).map_or_else(refused, |_| Outcome::Answered);
        }
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"who").unwrap();
        socket.recv(&mut [0; 64]).map_or_else(refused, |_| Outcome::Answered)
    })
}

fn answered() -> Option<(String, String)> {
    Some(("192.0.2.1:8080".to_owned(), "192.0.2.2".to_owned()))
}

/// The link-local address of a link, with the index of `by`, a link of the asking namespace.
fn link_local(of: &Netns, link: &str, asks: &Netns, by: &str) -> String {
    let address = of.run(&format!("ip -6 -o addr show dev {link} scope link | sed -E 's/.*inet6 ([^/]*).*/\\1/'"));
    let index = asks.run(&format!("ip -o link show {by} | cut -d: -f1"));
    format!("[{}%{}]:8080", address.trim(), index.trim())
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn broadcasts_reach_a_published_port_and_are_answered_by_the_host() {
    let (host, ..) = served(&[]);
    for called in ["0", "1"] {
        host.run(&format!("sysctl -qw net.bridge.bridge-nf-call-iptables={called}"));
        for to in ["255.255.255.255:8080", "192.0.2.255:8080"] {
            assert_eq!(call(&host.outside, "192.0.2.2:0", to), answered(), "{to}, called: {called}");
        }
    }
    // A socket bound to one address of the host would not receive it either.
    assert_eq!(call(&host.outside, "192.0.2.2:0", "255.255.255.255:8081"), None);
    // The same source port keeps its translation, and can reach the host's own address, too.
    assert_eq!(call(&host.outside, "192.0.2.2:5555", "255.255.255.255:8080"), answered());
    assert_eq!(call(&host.outside, "192.0.2.2:5555", "192.0.2.1:8080"), answered());
    assert_eq!(call(&host.outside, "192.0.2.2:5555", "192.0.2.255:8080"), answered());
    // Other broadcasts are unchanged.
    let mine = host.netns.enter(|| UdpSocket::bind("0.0.0.0:8082").unwrap());
    mine.set_read_timeout(Some(SOON)).unwrap();
    let _ = call(&host.outside, "192.0.2.2:0", "255.255.255.255:8082");
    assert!(mine.recv(&mut [0; 64]).is_ok(), "the host's own server");
    // The guard: without the rule the broadcasts end at the socket that reserves the port.
    host.run(&format!("kill -STOP {}", host.daemon().pid()));
    assert_eq!(host.remove_rules("inet pontoon prerouting_raw", "broadcast"), 1);
    assert_eq!(call(&host.outside, "192.0.2.2:0", "255.255.255.255:8080"), None);
}

#[test]
fn an_address_added_later_receives_broadcasts() {
    let (mut host, ..) = served(&[]);
    host.run("ip addr add 198.51.100.1/24 dev up0");
    host.outside.run("ip addr add 198.51.100.2/24 dev eth0");
    let later = Some(("198.51.100.1:8080".to_owned(), "198.51.100.2".to_owned()));
    wait_until("the second subnet", || call(&host.outside, "198.51.100.2:0", "198.51.100.255:8080") == later);
    host.run("ip addr del 192.0.2.1/24 dev up0; ip addr add 192.0.2.9/24 dev up0");
    let moved = Some(("192.0.2.9:8080".to_owned(), "192.0.2.2".to_owned()));
    wait_until("the new address", || call(&host.outside, "192.0.2.2:0", "192.0.2.255:8080") == moved);
    host.begin();
    assert_eq!(call(&host.outside, "192.0.2.2:0", "192.0.2.255:8080"), moved, "after a restart");
    host.end();
    assert_eq!(call(&host.outside, "192.0.2.2:0", "192.0.2.255:8080"), moved, "without the daemon");
}

#[test]
fn broadcasts_open_no_closed_port() {
    let (host, network, server) = served(&[("pontoon.publish.allow", "192.0.2.0/28")]);
    host.outside.run("ip addr add 192.0.2.200/24 dev eth0");
    assert_eq!(call(&host.outside, "192.0.2.200:0", "192.0.2.255:8080"), None, "a source that is not allowed");
    assert_eq!(call(&host.outside, "192.0.2.2:0", "192.0.2.255:8080"), answered());
    // A broadcast within a network is meant for that network: it is translated neither there nor elsewhere.
    let sibling = host.container(&network, 3);
    let two = Network::new("two", 2);
    host.create(&two);
    let stranger = host.container(&two, 2);
    server.run("nft 'table inet t { chain c { type filter hook input priority 0; udp dport 80 counter; }; }'");
    for (from, bound, to) in [(&sibling, "10.1.0.3:0", "10.1.0.255:8080"), (&stranger, "10.2.0.2:0", "10.2.0.255:8080")]
    {
        for to in [to, "255.255.255.255:8080"] {
            assert_eq!(call(from, bound, to), None, "{bound} to {to}");
        }
    }
    assert!(server.run("nft list table inet t").contains("packets 0 "), "a broadcast arrived");
}

#[test]
fn a_bridge_with_br_netfilter_keeps_its_broadcasts_on_all_ports() {
    let (host, ..) = served(&[]);
    // A user's bridge with two neighbours; one sends a broadcast to a published port.
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=0");
    let (one, two) = (Netns::new(), Netns::new());
    host.run("ip link add br-lan type bridge; ip addr add 203.0.113.1/24 dev br-lan; ip link set br-lan up");
    for (n, neighbour) in [(2, &one), (3, &two)] {
        host.run(&format!("ip link add lan{n} type veth peer name eth0 netns {}", neighbour.tid()));
        host.run(&format!("ip link set lan{n} master br-lan up"));
        neighbour.run(&format!("ip addr add 203.0.113.{n}/24 dev eth0; ip link set eth0 up"));
    }
    let mine = two.enter(|| UdpSocket::bind("0.0.0.0:8080").unwrap());
    mine.set_read_timeout(Some(SOON)).unwrap();
    let there = Some(("203.0.113.1:8080".to_owned(), "203.0.113.2".to_owned()));
    wait_until("the bridge's broadcasts", || call(&one, "203.0.113.2:0", "203.0.113.255:8080") == there);
    assert!(mine.recv(&mut [0; 64]).is_ok());
    // With br_netfilter the neighbour on the bridge has precedence.
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1; ip addr add 203.0.113.7/24 dev br-lan");
    wait_until("no broadcasts of the bridge", || !host.run("nft list map inet pontoon broadcasts").contains("br-lan"));
    mine.set_read_timeout(Some(SOON)).unwrap();
    while mine.recv(&mut [0; 64]).is_ok() {}
    call(&one, "203.0.113.2:0", "203.0.113.255:8080");
    assert!(mine.recv(&mut [0; 64]).is_ok(), "the neighbour");
}

#[test]
fn untranslated_packets_are_rejected_at_once() {
    let (mut host, network, _server) = served(&[]);
    let from_outside = link_local(&host.netns, "up0", &host.outside, "eth0");
    let own = link_local(&host.netns, "up0", &host.netns, "up0");
    let sibling = host.container(&network, 3);
    let gateway = link_local(&host.netns, &network.bridge(), &sibling, "eth0");
    for netns in [&host.netns, &host.outside, &sibling] {
        wait_until("duplicate address detection", || !netns.run("ip -6 addr show").contains("tentative"));
    }
    let check = |host: &Host, what: &str| {
        let mut silent = Vec::new();
        for tcp in [true, false] {
            for (who, from, to) in [
                ("outside", &host.outside, &from_outside),
                ("host", &host.netns, &own),
                ("sibling", &sibling, &gateway),
            ] {
                // A container can ask from an address that can be answered.
                let outcome = outcome(from, tcp, to);
                if outcome == Outcome::Silence || (outcome == Outcome::Answered && who != "sibling") {
                    silent.push(format!("{what}: {who}, TCP {tcp}, to {to}: {outcome:?}"));
                }
            }
        }
        assert!(silent.is_empty(), "{silent:#?}\n{}", host.run("nft list chain inet pontoon input_reject"));
    };
    check(&host, "link-local");
    // Packets that a user's rule exempts from connection tracking.
    host.run("nft 'table inet mine { chain c { type filter hook prerouting priority raw; th dport 8080 notrack; }; chain o { type filter hook output priority raw; th dport 8080 notrack; }; }'");
    let mut silent = Vec::new();
    for tcp in [true, false] {
        for (from, to) in [
            (&host.outside, "192.0.2.1:8080"),
            (&host.outside, "[2001:db8::1]:8080"),
            (&host.netns, "127.0.0.1:8080"),
            (&host.netns, "[::1]:8080"),
        ] {
            let outcome = outcome(from, tcp, to);
            if outcome != Outcome::Refused {
                silent.push(format!("untracked: TCP {tcp}, to {to}: {outcome:?}"));
            }
        }
    }
    host.run("nft delete table inet mine");
    assert!(silent.is_empty(), "{silent:#?}");
    for protocol in [TCP, UDP] {
        assert!(host.outside.enter(|| ask(protocol, "192.0.2.1:8080")).is_some(), "translated again");
    }
    host.begin();
    check(&host, "after a restart");
    // The guard: without the rules there is no answer. Pontoon must not restore them meanwhile.
    host.run(&format!("kill -STOP {}", host.daemon().pid()));
    assert_eq!(host.remove_rules("inet pontoon input_reject", " reject "), 2);
    assert_eq!(outcome(&host.outside, true, &from_outside), Outcome::Silence);
}

#[test]
fn connections_survive_a_flush_of_the_table() {
    let (host, _network, server) = served(&[]);
    let listener = server.enter(|| std::net::TcpListener::bind("[::]:81").unwrap());
    let two = host.container_with(&Network::new("one", 1), 3, &[Publish::new(6, 8090, 81)]);
    drop(listener);
    let listener = two.enter(|| std::net::TcpListener::bind("[::]:81").unwrap());
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut reader, mut buffer) = (stream.try_clone().unwrap(), [0; 8]);
        while let Ok(len @ 1..) = std::io::Read::read(&mut reader, &mut buffer) {
            std::io::Write::write_all(&mut stream, &buffer[..len]).unwrap();
        }
    });
    let mut client = host.outside.enter(|| TcpStream::connect("192.0.2.1:8090").unwrap());
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..5 {
        host.run("nft flush ruleset");
        std::io::Write::write_all(&mut client, b"x").unwrap();
        std::io::Read::read_exact(&mut client, &mut [0]).expect("the connection persists");
        std::thread::sleep(Duration::from_millis(400));
    }
    drop(client);
    echo.join().unwrap();
}

#[test]
fn the_list_of_ports_rejects_unknown_names() {
    let (host, network, server) = served(&[]);
    let empty = Network::new("two", 2);
    host.create(&empty);
    let list = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pontoon"));
        let output = command.arg("ports").arg("--socket").arg(&host.daemon().socket).args(args).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for args in [&["--network", &network.id][..], &["--endpoint", &server.first.endpoint], &[]] {
        let (done, text) = list(args);
        assert!(done && text.contains("0.0.0.0:8080/udp"), "{args:?}: {text}");
    }
    assert!(list(&["--network", "two"]).0, "a network without ports");
    for args in [["--network", "blue"], ["--endpoint", "web"], ["--network", ""]] {
        let (done, text) = list(&args);
        assert!(!done && text.contains(args[1]) && text.contains("--docker"), "{args:?}: {text}");
    }
}

/// The findings of one check of `pontoon doctor`: titles and remedies.
fn doctor(host: &Host, check: &str) -> (String, Vec<String>) {
    let output = host.netns.enter(|| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pontoon"));
        command.args(["doctor", "--json", "--socket"]).arg(&host.daemon().socket);
        command.arg("--state-dir").arg(&host.daemon().state).output().unwrap()
    });
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("an array");
    let of_check = findings.as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    let (mut titles, mut remedies) = (String::new(), Vec::new());
    for finding in of_check {
        titles += &format!("{} {}\n", finding["level"], finding["title"]);
        remedies.extend(finding["remedy"].as_str().map(str::to_owned));
    }
    (titles, remedies)
}

#[test]
fn doctor_finds_a_final_drop_rule_and_its_remedy_works() {
    for rule in ["-j DROP", "-j REJECT", "-j onward"] {
        let (host, ..) = served(&[]);
        // The chain as Docker creates it; a user's drop in it, and one at the end.
        host.run("iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP");
        host.run("iptables-nft -A DOCKER-USER -s 192.0.2.66 -j DROP");
        host.run("iptables-nft -N onward; iptables-nft -A onward -j DROP");
        wait_until("Pontoon's rules", || host.run("iptables-nft -S FORWARD").contains("-i pnt+"));
        let reached = || host.outside.enter(|| ask(TCP, "192.0.2.1:8080")).is_some();
        assert!(reached() && doctor(&host, "forward_policy").1.is_empty());
        host.run(&format!("iptables-nft -A FORWARD {rule}"));
        // Behind it, they have no effect.
        wait_until("the drop", || host.run("iptables-nft -S FORWARD | tail -1").contains("pnt+"));
        assert!(!reached(), "{rule}");
        let (titles, remedies) = doctor(&host, "forward_policy");
        assert!(titles.contains("\"broken\"") && titles.contains("FORWARD"), "{rule}: {titles}");
        let commands = remedies.join("\n").replace("iptables ", "iptables-nft ");
        host.run(&commands);
        assert!(reached(), "{rule}: {commands}\n{}", host.run("iptables-nft -S"));
        assert!(doctor(&host, "forward_policy").1.is_empty(), "{rule}: healthy again");
        let rules = host.run("iptables-nft -S FORWARD");
        let place = |what: &str| rules.lines().position(|line| line.contains(what)).expect(what);
        assert!(place("DOCKER-USER") < place("pnt+") && place("pnt+") < place(rule), "the user's drops hold: {rules}");
    }
}

#[test]
fn commands_without_privileges_report_no_state() {
    let (host, ..) = served(&[]);
    for command in ["doctor", "check", "plan", "repair", "gc"] {
        let output = host.netns.enter(|| {
            let mut less = std::process::Command::new("setpriv");
            less.args(["--bounding-set=-net_admin", env!("CARGO_BIN_EXE_pontoon"), command]);
            less.args(["--socket"]).arg(&host.daemon().socket);
            less.arg("--state-dir").arg(&host.daemon().state);
            if command == "gc" {
                less.args(["--docker", "/nonexistent"]);
            }
            less.output().unwrap()
        });
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{command}: {said}");
        assert!(output.stdout.is_empty() && said.contains("as root"), "{command}: {said}");
    }
}
