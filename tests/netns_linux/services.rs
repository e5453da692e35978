//! Service addresses in a container's namespace, here the test's own: packets, established connections, flows that have
//! to move, and a connection that was too early.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pontoon::linux::balance::Backends;
use pontoon::linux::sandbox;

use testkit::netns::*;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
/// For one answer; longer than any expected delay.
const PATIENCE: Duration = Duration::from_secs(40);

/// A neighbour with two addresses, and servers at both that answer with their number.
fn neighbour() -> Netns {
    let servers = Netns::new();
    run("ip link add c type veth peer name s");
    servers.take("s", "10.9.0.11/24", "");
    servers.run("ip addr add 10.9.0.12/24 dev eth0");
    run("ip addr add 10.9.0.2/24 dev c && ip link set c up");
    // The engine translates in every container, towards its name server: connection tracking is active there, and a
    // translated connection stays translated until its end, with or without Pontoon's table.
    run("nft add table ip engine && nft add chain ip engine out '{ type nat hook output priority -100; }' \
         && nft add rule ip engine out ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:5353");
    // Neighbour resolution must not fail on a busy machine.
    run("echo 100 > /proc/sys/net/ipv4/neigh/c/mcast_solicit");
    for last in [11, 12] {
        let at = SocketAddr::from((Ipv4Addr::new(10, 9, 0, last), 7));
        let (listener, socket) = servers.enter(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || echo(stream, last));
            }
        });
        thread::spawn(move || {
            while let Ok((_, client)) = socket.recv_from(&mut [0]) {
                let _ = socket.send_to(&[last], client);
            }
        });
    }
    // A new link may need a while on a busy machine.
    let end = Instant::now() + PATIENCE;
    while !succeeds("ping -n -c 1 -W 1 10.9.0.11") {
        assert!(Instant::now() < end, "the link carries nothing");
    }
    servers
}

/// Answers every byte with the server's number.
fn echo(mut stream: TcpStream, own: u8) {
    while stream.read_exact(&mut [0]).is_ok() && stream.write_all(&[own]).is_ok() {}
}

fn ask(stream: &mut TcpStream) -> u8 {
    let mut answer = [0];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[0]).unwrap();
    stream.read_exact(&mut answer).unwrap();
    answer[0]
}

fn connect() -> TcpStream {
    TcpStream::connect_timeout(&(VIP, 7).into(), PATIENCE).unwrap()
}

fn lead(last: &[u8]) -> Backends {
    Backends::from([(VIP, last.iter().map(|last| Ipv4Addr::new(10, 9, 0, *last)).collect())])
}

#[test]
fn connections_are_balanced_and_stay_with_their_backend() {
    in_netns(|_| {
        let _servers = neighbour();
        let none = Backends::new();
        sandbox::balance(&none, &lead(&[11])).unwrap();
        let mut old = connect();
        assert_eq!(ask(&mut old), 11);
        sandbox::balance(&lead(&[11]), &lead(&[12])).unwrap();
        assert_eq!((ask(&mut connect()), ask(&mut old)), (12, 11));
        // Another process, which does not know the previous state.
        sandbox::balance(&none, &lead(&[11, 12])).unwrap();
        let drawn: BTreeSet<u8> = (0..64).map(|_| ask(&mut connect())).collect();
        assert_eq!((drawn, ask(&mut old)), (BTreeSet::from([11, 12]), 11));
        assert!(run("nft list tables").contains("pontoon_vip"));
        sandbox::balance(&lead(&[11, 12]), &none).unwrap();
        assert!(!run("nft list tables").contains("pontoon_vip"));
        assert_eq!(ask(&mut old), 11);
    });
}

#[test]
fn a_udp_client_is_given_another_backend() {
    in_netns(|_| {
        let _servers = neighbour();
        sandbox::balance(&Backends::new(), &lead(&[11])).unwrap();
        let socket = UdpSocket::bind("10.9.0.2:5000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect((VIP, 7)).unwrap();
        // A datagram may be lost on a busy machine.
        let ask = || {
            let (mut answer, end) = ([0], Instant::now() + PATIENCE);
            while socket.send(&[0]).is_err() || socket.recv(&mut answer).is_err() {
                assert!(Instant::now() < end, "no answer");
            }
            answer[0]
        };
        assert_eq!(ask(), 11);
        sandbox::balance(&lead(&[11]), &lead(&[11, 12])).unwrap();
        assert_eq!(ask(), 11, "its backend still serves");
        sandbox::balance(&lead(&[11, 12]), &lead(&[12])).unwrap();
        assert_eq!(ask(), 12);
    });
}

#[test]
fn a_connection_started_before_the_rules_reaches_a_backend() {
    in_netns(|_| {
        let _servers = neighbour();
        thread::scope(|scope| {
            let early = scope.spawn(|| ask(&mut connect()));
            wait_for("the connection to wait for its neighbour", || run("ip neigh show dev c").contains("10.9.0.100"));
            sandbox::balance(&Backends::new(), &lead(&[11])).unwrap();
            assert_eq!(early.join().unwrap(), 11);
        });
    });
}

#[test]
fn work_in_a_sandbox_returns_to_the_own_namespace() {
    let sandbox = Netns::new();
    sandbox.run("ip addr add 10.9.0.5/24 dev lo");
    let file = PathBuf::from(format!("/proc/{}/ns/net", sandbox.tid()));
    let (own, addresses) = (std::fs::read_link("/proc/self/ns/net").unwrap(), sandbox::addresses);
    let found = sandbox::within(&file, addresses).unwrap().unwrap();
    assert!(found.contains(&net("10.9.0.5/24")), "{found:?}");
    assert_eq!(std::fs::read_link("/proc/self/ns/net").unwrap(), own);
    assert!(sandbox::within(&PathBuf::from("/proc/self/status"), addresses).is_err(), "no namespace");
    assert!(sandbox::within(&PathBuf::from("/nowhere"), addresses).is_err());
}
