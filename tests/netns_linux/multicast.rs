//! Broadcasts and multicasts of an overlay network, with packets: they reach every host or, if the network disables
//! them, only their own, while neighbour resolution still works.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use pontoon::datapath::{Kernel, LinkProperty, Policy, Step};

use crate::overlay::{Container, Host, hosts};
use testkit::netns::*;

/// mDNS (RFC 6762).
const PORT: u16 = 5353;
const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// Two containers on the first host, one on the second and one on the third: .11, .14, .12, .13.
fn topology(hosts: &[Host]) -> Vec<Container> {
    let containers = [(0, 11), (0, 14), (1, 12), (2, 13)].map(|(host, n)| hosts[host].container(&format!("c{n}"), n));
    for container in &containers {
        container.netns.run("sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0");
    }
    for (from, to) in [(0, 14), (0, 12), (0, 13), (2, 13)] {
        let reached = |to: &str| containers[from].netns.pings(to);
        assert!(reached(&format!("10.9.0.{to}")) && reached(&format!("fd09::{to}")), "{from} to {to}");
    }
    containers.into()
}

/// The last numbers of the addresses that answer a few pings to a group.
fn answers(from: &Container, target: &str) -> BTreeSet<String> {
    let text = from.netns.run(&format!("ping -n -c 3 -i 0.2 -W 1 {target} || true"));
    let who = text.lines().filter_map(|line| line.split("bytes from ").nth(1)?.split_whitespace().next());
    who.map(|who| who.trim_end_matches(':').rsplit(['.', ':']).next().unwrap().to_owned()).collect()
}

/// The three kinds of groups.
const TARGETS: [&str; 3] = ["-b 10.9.0.255", "224.0.0.1", "-6 -I fd09::11 ff02::1%eth0"];

/// Binds once the port is free: a process forked by another test briefly holds this process's sockets, even closed
/// ones, until its exec.
fn bind(address: IpAddr) -> UdpSocket {
    let mut bound = None;
    wait_for("the port", || {
        bound = UdpSocket::bind((address, PORT)).ok();
        bound.is_some()
    });
    bound.unwrap()
}

/// A socket on the port of mDNS in a container, joined to both of its groups.
fn listener(container: &Container, v6: bool) -> UdpSocket {
    let socket = container.netns.enter(|| {
        if v6 {
            let eth0 = nix::net::if_::if_nametoindex("eth0").unwrap();
            let socket = bind(Ipv6Addr::UNSPECIFIED.into());
            socket.join_multicast_v6(&GROUP6, eth0).unwrap();
            socket
        } else {
            let socket = bind(Ipv4Addr::UNSPECIFIED.into());
            socket.join_multicast_v4(&GROUP4, &Ipv4Addr::UNSPECIFIED).unwrap();
            socket.set_multicast_ttl_v4(255).unwrap();
            socket
        }
    });
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

fn group(container: &Container, v6: bool) -> SocketAddr {
    let eth0 = || container.netns.enter(|| nix::net::if_::if_nametoindex("eth0").unwrap());
    if v6 { SocketAddrV6::new(GROUP6, PORT, 0, eth0()).into() } else { (GROUP4, PORT).into() }
}

/// The name `there.local`, as encoded in a message.
const NAME: &[u8] = b"\x05there\x05local\0";

/// A question for the address of that name, or an answer with one.
fn message(address: Option<[u8; 4]>) -> Vec<u8> {
    let (flags, questions, records) = if address.is_some() { (0x84, 0, 1) } else { (0, 1, 0) };
    let mut bytes = vec![0, 0, flags, 0, 0, questions, 0, records, 0, 0, 0, 0];
    bytes.extend(NAME);
    bytes.extend([0, 1, 0, 1]);
    if let Some(address) = address {
        bytes.extend([0, 0, 0, 120, 0, 4]);
        bytes.extend(address);
    }
    bytes
}

/// Whether a message of this form arrives within a few moments.
fn comes(socket: &UdpSocket, is: impl Fn(&[u8]) -> bool) -> bool {
    let mut bytes = [0; 512];
    while let Ok(len) = socket.recv(&mut bytes) {
        if is(&bytes[..len]) && bytes[..len].windows(NAME.len()).any(|part| part == NAME) {
            return true;
        }
    }
    false
}

const fn is_question(bytes: &[u8]) -> bool {
    bytes[2] & 0x80 == 0
}

/// One container asks, another one answers, both by multicast. True if both messages arrived.
fn resolves(asks: &Container, knows: &Container, v6: bool) -> bool {
    let (here, there) = (listener(asks, v6), listener(knows, v6));
    here.send_to(&message(None), group(asks, v6)).unwrap();
    if !comes(&there, is_question) {
        return false;
    }
    there.send_to(&message(Some([10, 9, 0, 13])), group(knows, v6)).unwrap();
    comes(&here, |bytes| bytes.ends_with(&[10, 9, 0, 13]))
}

#[test]
fn broadcasts_and_multicasts_reach_every_host() {
    for v6 in [false, true] {
        in_netns(move |_| {
            let hosts = hosts(3, v6);
            let containers = topology(&hosts);
            for target in TARGETS {
                let all = ["12", "13", "14"].map(str::to_owned);
                wait_for(target, || all.iter().all(|who| answers(&containers[0], target).contains(who)));
            }
            for v6 in [false, true] {
                wait_for("a name of mDNS", || resolves(&containers[0], &containers[3], v6));
            }
        });
    }
}

#[test]
fn without_multicast_they_stay_on_their_host_and_addresses_resolve() {
    in_netns(|_| {
        let hosts = hosts(3, false);
        let containers = topology(&hosts);
        for host in &hosts {
            let step = Step::ChangeFirewall {
                add: vec![Policy::Link(LinkProperty::NoMulticast, name("pntxover"))],
                remove: vec![],
            };
            host.do_in(|kernel| kernel.apply(&[step]).unwrap());
        }
        for target in TARGETS {
            // The neighbour on the own host shows that the group was pinged.
            let mut answered = BTreeSet::new();
            wait_for(target, || {
                answered = answers(&containers[0], target);
                answered.contains("14")
            });
            assert!(!answered.contains("12") && !answered.contains("13"), "{target}: {answered:?}");
        }
        for v6 in [false, true] {
            wait_for("mDNS on the own host", || resolves(&containers[0], &containers[1], v6));
            assert!(!resolves(&containers[0], &containers[3], v6), "mDNS reached another host");
        }
        let chain = hosts[0].netns.run("nft list chain bridge pontoon postrouting_tunnel");
        let dropped = chain.split("counter packets ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(dropped.parse::<u32>().unwrap() >= 6, "{chain}");
        // With empty neighbour tables, everyone is found.
        for (at, container) in containers.iter().enumerate() {
            container.netns.run("ip neigh flush all; ip -6 neigh flush all");
            for to in 11..15 {
                assert!(container.netns.pings(&format!("10.9.0.{to}")), "{at} to {to}");
                assert!(container.netns.pings(&format!("fd09::{to}")), "{at} to {to}");
            }
        }
    });
}
