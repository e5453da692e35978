//! The fast path between containers of a network of one host, with packets: which frames bypass the bridge, which do
//! not, and that the checks of the bridge hold for both.

use std::collections::BTreeSet;

use pontoon::datapath::fastpath::Leftover;
use pontoon::datapath::{FastPath, Kernel, ObjectKind, Protected, Step, diff};
use pontoon::linux::LinuxKernel;
use pontoon::model::Mac;

use crate::fastpath::{change, held, mend};
use crate::spoof::{add, checked, send_frame};
use testkit::netns::*;
use testkit::topology::*;

fn bridge() -> FastPath {
    FastPath::Bridge { bridge: name("pntbone") }
}

/// The fast path of container `id` of the topology's first network.
fn neighbour(id: &str, n: u32) -> FastPath {
    FastPath::Neighbour {
        bridge: name("pntbone"),
        port: veth(id, "pntbone").0,
        mac: Mac::derive("peer", id),
        addresses: [format!("10.1.0.{n}"), format!("fd00:1::{n}")].iter().map(|text| ip(text)).collect(),
    }
}

/// The topology with checked ports and a fast path between `a` and `b`, which know each other's hardware addresses.
fn with_fast_path(kernel: &LinuxKernel) -> Topology {
    let topology = Topology::new(kernel, basics());
    add(kernel, checked(&topology));
    change(kernel, &[bridge(), neighbour("a", 2), neighbour("b", 3)], &[]);
    for (from, to) in [(&topology.a, "b"), (&topology.b, "a")] {
        let (n, mac) = (if to == "a" { 2 } else { 3 }, Mac::derive("peer", to));
        from.run(&format!(
            "ip neigh replace 10.1.0.{n} lladdr {mac} dev eth0 nud permanent; \
             ip neigh replace fd00:1::{n} lladdr {mac} dev eth0 nud permanent"
        ));
    }
    topology
}

/// The firewall of the host sees bridged frames as with Docker, counts those between the containers and drops them.
fn close() {
    run("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1");
    run(
        "nft 'add table inet theirs; add chain inet theirs f { type filter hook forward priority 0; policy accept; }; \
         add rule inet theirs f iifname pntbone oifname pntbone meta l4proto { tcp, udp, icmp } counter drop; \
         add rule inet theirs f iifname pntbone oifname pntbone icmpv6 type echo-request counter drop'",
    );
}

fn open() {
    run("nft delete table inet theirs");
}

/// Packets of the containers that the host's firewall saw on the bridge.
fn seen() -> u64 {
    counted(&run("nft list chain inet theirs f"))
}

/// What all counters of a listing counted.
fn counted(text: &str) -> u64 {
    text.split("packets ").skip(1).map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Counts the frames that a container receives and that a condition describes.
fn count(container: &Netns, condition: &str) {
    container.run(&format!(
        "nft 'add table netdev got; add chain netdev got f {{ type filter hook ingress device eth0 priority 0; }}; \
         add rule netdev got f {condition} counter'"
    ));
}

/// The frames counted since [`count`].
fn got(container: &Netns) -> u64 {
    counted(&container.run("nft list chain netdev got f"))
}

#[test]
fn frames_between_neighbours_bypass_the_bridge() {
    in_netns(|kernel| {
        let topology = with_fast_path(kernel);
        close();
        for (from, to, who) in [(&topology.a, 3, 2), (&topology.b, 2, 3)] {
            assert_eq!(from.ask(TCP, &format!("10.1.0.{to}:80")), Some(format!("10.1.0.{who}")));
            assert_eq!(from.ask(UDP, &format!("10.1.0.{to}:80")), Some(format!("10.1.0.{who}")));
            assert_eq!(from.ask(TCP, &format!("[fd00:1::{to}]:80")), Some(format!("fd00:1::{who}")));
            assert_eq!(from.ask(UDP, &format!("[fd00:1::{to}]:80")), Some(format!("fd00:1::{who}")));
            assert!(from.pings(&format!("10.1.0.{to}")));
        }
        assert_eq!(seen(), 0, "no frame passed the bridge");
        assert!(topology.a.enter(|| succeeds("ping -n -c 1 -W 5 -M do -s 1472 10.1.0.3")), "as large as the MTU");
        assert!(!topology.a.pings("fd00:1::3"), "ICMPv6 passes the bridge, where it is dropped");
        assert!(seen() > 0);
        // Without the fast path everything passes the bridge.
        change(kernel, &[], &[neighbour("a", 2), neighbour("b", 3), bridge()]);
        assert_eq!((topology.a.ask(TCP, "10.1.0.3:80"), topology.b.pings("10.1.0.2")), (None, false));
        open();
        assert_eq!(topology.a.ask(TCP, "10.1.0.3:80"), Some("10.1.0.2".into()));
    });
}

/// Either both directions of a flow bypass the bridge or none, so that connection tracking never sees half of one.
#[test]
fn both_ends_are_checked() {
    in_netns(|kernel| {
        let topology = with_fast_path(kernel);
        let (a, b) = (Mac::derive("peer", "a"), Mac::derive("peer", "b"));
        close();
        // An address that Pontoon did not give, of either end.
        let ping = |options: &str| topology.a.enter(|| succeeds(&format!("ping -n -c 1 -W 1 {options}")));
        topology.b.run("ip addr add 10.1.0.8/24 dev eth0");
        topology.a.run(&format!("ip neigh replace 10.1.0.8 lladdr {b} dev eth0 nud permanent"));
        let before = seen();
        assert!(!ping("10.1.0.8"), "to another address of the neighbour");
        assert_eq!(seen(), before + 1);
        // A container that has no fast path, because a rule decides about it.
        change(kernel, &[], &[neighbour("b", 3)]);
        for (from, to) in [(&topology.a, "10.1.0.3"), (&topology.b, "10.1.0.2")] {
            let before = seen();
            assert!(!from.enter(|| succeeds(&format!("ping -n -c 1 -W 1 {to}"))), "{to}");
            assert_eq!(seen(), before + 1, "{to}");
        }
        change(kernel, &[neighbour("b", 3)], &[]);
        assert!(ping("10.1.0.3"));
        // Loopback addresses of a neighbour, and the gateway's address with the neighbour's hardware address.
        let packet = |to: [u8; 4]| {
            let mut frame = [&b.bytes()[..], &a.bytes()[..], &[8, 0]].concat();
            frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2]);
            frame.extend(to);
            frame.extend([0, 80, 0, 80, 0, 8, 0, 0]);
            frame
        };
        count(&topology.b, &format!("ether saddr {a} udp dport 80"));
        for (to, arrives) in [([10, 1, 0, 3], 1), ([10, 1, 0, 1], 0), ([10, 1, 0, 2], 0), ([127, 0, 0, 1], 0)] {
            let before = got(&topology.b);
            send_frame(&topology.a, &packet(to));
            assert_eq!(got(&topology.b) - before, arrives, "{to:?}");
        }
    });
}

/// Frames with a forged source take the bridge, whose checks drop them: with a fast path as without.
#[test]
fn forged_sources_are_dropped() {
    in_netns(|kernel| {
        let topology = with_fast_path(kernel);
        let (a, b) = (Mac::derive("peer", "a").bytes(), Mac::derive("peer", "b").bytes());
        let udp = |source: [u8; 6], address: [u8; 4], tagged: bool| {
            let mut frame = [&b[..], &source[..]].concat();
            if tagged {
                frame.extend([0x81, 0, 0, 0]);
            }
            let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            header.extend(address);
            header.extend([10, 1, 0, 3]);
            // A bridge that calls iptables drops packets with a wrong checksum.
            let sum: u32 = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header.splice(10..12, sum.to_be_bytes());
            frame.extend([&[8, 0][..], &header, &[0, 81, 0, 81, 0, 8, 0, 0]].concat());
            frame
        };
        // The rest of a neighbour advertisement does not matter.
        let mut advertisement = [&b[..], &a[..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]].concat();
        advertisement.extend("fd00:1::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        advertisement.extend("fd00:1::3".parse::<std::net::Ipv6Addr>().unwrap().octets());
        advertisement.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
        advertisement.extend("fd00:1::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
        let mut arp = [&b[..], &a[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
        arp.extend([&a[..], &[10, 1, 0, 1], &b[..], &[10, 1, 0, 3]].concat());
        let gateway = run("ip -br link show dev pntbone | awk '{ print $3 }'");
        count(&topology.b, &format!("ether daddr {} ether saddr != {}", Mac::derive("peer", "b"), gateway.trim()));
        let got = || got(&topology.b);
        let own = udp(a, [10, 1, 0, 2], false);
        let forged = [
            ("another's hardware address", udp([2, 0, 0, 0, 0, 9], [10, 1, 0, 2], false)),
            ("the neighbour's own hardware address", udp(b, [10, 1, 0, 2], false)),
            ("another's address", udp(a, [10, 1, 0, 9], false)),
            ("the neighbour's own address", udp(a, [10, 1, 0, 3], false)),
            ("the gateway's address", udp(a, [10, 1, 0, 1], false)),
            ("a loopback address", udp(a, [127, 0, 0, 1], false)),
            ("a tag", udp(a, [10, 1, 0, 2], true)),
            ("another's address in a neighbour advertisement", advertisement),
            ("the gateway's address in ARP", arp),
        ];
        for with in [true, false] {
            let before = got();
            send_frame(&topology.a, &own);
            assert_eq!(got(), before + 1, "its own, with a fast path: {with}");
            for (what, frame) in &forged {
                let before = got();
                send_frame(&topology.a, frame);
                assert_eq!(got(), before, "{what}, with a fast path: {with}");
            }
            change(kernel, &[], &[neighbour("a", 2), neighbour("b", 3), bridge()]);
        }
    });
}

/// Answers to translated packets are translated back by the host: they leave by the gateway, not to the neighbour.
#[test]
fn published_ports_are_reached_from_the_same_network() {
    in_netns(|kernel| {
        let topology = with_fast_path(kernel);
        let ports = [port(TCP, "0.0.0.0", 8080, "10.1.0.3"), port(UDP, "0.0.0.0", 8080, "10.1.0.3")];
        add(kernel, [ports.to_vec(), vec![port(TCP, "::", 8080, "fd00:1::3")]].concat());
        for called in [0, 1] {
            run(&format!(
                "sysctl -qw net.bridge.bridge-nf-call-iptables={called} net.bridge.bridge-nf-call-ip6tables={called}"
            ));
            for (from, who) in [(&topology.a, "10.1.0.1"), (&topology.b, "10.1.0.1"), (&topology.outside, "192.0.2.2")]
            {
                for protocol in [TCP, UDP] {
                    let answer = from.ask(protocol, "192.0.2.1:8080");
                    assert_eq!(answer.as_deref(), Some(who), "{protocol:?}, called {called}");
                }
            }
            assert_eq!(topology.a.ask(TCP, "[2001:db8::1]:8080"), Some("fd00:1::1".into()), "called {called}");
            // The same port of the neighbour itself, while that flow is tracked.
            assert_eq!(topology.a.ask(TCP, "10.1.0.3:80"), Some("10.1.0.2".into()), "called {called}");
        }
    });
}

/// Frames past the bridge do not tell it where a container is. Once it has forgotten, the first frame of the container
/// that passes it tells it again.
#[test]
fn the_bridge_learns_again_what_it_forgot() {
    in_netns(|kernel| {
        let topology = with_fast_path(kernel);
        let a = Mac::derive("peer", "a");
        let learned = || run("bridge fdb show br pntbone").lines().any(|l| l.starts_with(&a.to_string()));
        assert!(topology.a.pings("10.1.0.1") && learned());
        run("ip link set pntbone type bridge ageing_time 100");
        wait_for("the bridge to forget while the containers talk", || {
            assert!(topology.a.enter(|| succeeds("ping -n -c 3 -i 0.1 -W 5 10.1.0.3")));
            !learned()
        });
        run("ip link set pntbone type bridge ageing_time 30000");
        count(&topology.b, &format!("ether daddr {a}"));
        let flooded = || got(&topology.b);
        // The gateway sends the first frame to all ports, as to every container that was silent for long.
        run("ping -n -c 1 -W 5 10.1.0.2");
        assert!(learned() && flooded() >= 1);
        let before = flooded();
        run("ping -n -c 3 -i 0.1 -W 5 10.1.0.2");
        assert_eq!(flooded(), before);
    });
}

#[test]
fn fast_paths_are_created_lost_and_restored() {
    in_netns(|kernel| {
        let _topology = with_fast_path(kernel);
        let all = BTreeSet::from([bridge(), neighbour("a", 2), neighbour("b", 3)]);
        assert_eq!(held(kernel), all);
        let mend = |what: &str| mend(kernel, &all, what);
        assert_eq!(mend("nothing"), []);
        for _ in 0..2 {
            change(kernel, &[bridge(), neighbour("a", 2), neighbour("b", 3)], &[]);
            assert_eq!(held(kernel), all);
        }
        for _ in 0..2 {
            change(kernel, &[], &[neighbour("b", 3)]);
            assert_eq!(held(kernel), [bridge(), neighbour("a", 2)].into());
        }
        mend("removal");
        let (end, mac) = (veth("a", "pntbone").0, Mac::derive("peer", "a"));
        // Another address, while the chain of the previous one is missing.
        run(&format!("nft delete chain netdev pontoon {end}"));
        change(kernel, &[neighbour("a", 7)], &[neighbour("a", 2)]);
        assert_eq!(held(kernel), [bridge(), neighbour("a", 7), neighbour("b", 3)].into());
        change(kernel, &[neighbour("a", 2)], &[neighbour("a", 7)]);
        for damage in [
            "nft delete table netdev pontoon".to_owned(),
            "nft flush ruleset".to_owned(),
            format!("nft flush chain netdev pontoon {end}"),
            format!("nft delete chain netdev pontoon {end}"),
            format!("nft 'delete element netdev pontoon pntbone_near4 {{ {mac} . 10.1.0.2 }}'"),
            format!("nft 'delete element netdev pontoon pntbone_near6 {{ {mac} . fd00:1::2 }}'"),
            format!(
                "nft 'delete element netdev pontoon pntbone_near4 {{ {mac} . 10.1.0.2 }}; add element netdev pontoon pntbone_near4 {{ {mac} . 10.1.0.2 : \"lo\" }}'"
            ),
            "nft 'add element netdev pontoon pntbone_near4 { 02:00:00:00:00:77 . 10.1.0.77 : \"lo\" }'".to_owned(),
            "nft 'add map netdev pontoon some_near4 { type ether_addr . ipv4_addr : iface_index; }'".to_owned(),
            "nft 'delete table netdev pontoon; add table netdev pontoon'".to_owned(),
        ] {
            run(&damage);
            assert_ne!(held(kernel), all, "{damage}");
            assert!(!mend(&damage).is_empty());
        }
        // A removed container.
        let end = veth("b", "pntbone").0;
        kernel.apply(&[Step::Delete(end.clone(), ObjectKind::Veth)]).unwrap();
        settle(kernel);
        let place =
            |address| FastPath::Leftover(Leftover::Neighbour("pntbone".into(), Mac::derive("peer", "b"), ip(address)));
        let mut left = held(kernel);
        // Kernels from 6.16 on keep the chain, too.
        left.remove(&FastPath::Leftover(Leftover::Chain(end.as_str().to_owned())));
        assert_eq!(left, [bridge(), neighbour("a", 2), place("10.1.0.3"), place("fd00:1::3")].into());
        change(kernel, &[], &[neighbour("b", 3)]);
        assert_eq!(held(kernel), [bridge(), neighbour("a", 2)].into());
        change(kernel, &[], &[neighbour("a", 2), bridge()]);
        assert_eq!(held(kernel), [].into());
        assert_eq!(run("nft list table netdev pontoon").matches("map").count(), 0);
    });
}

/// The commands printed by `pontoon plan` have the effect of Pontoon's steps, once and twice.
#[test]
fn the_printed_commands_have_the_same_effect() {
    in_netns(|kernel| {
        let _topology = with_fast_path(kernel);
        let wholes = [bridge(), neighbour("a", 2), neighbour("b", 3)];
        let others = [bridge(), neighbour("a", 7), neighbour("b", 3)];
        run("nft delete table netdev pontoon; nft add table netdev pontoon; \
             nft 'add map netdev pontoon old_near4 { type ether_addr . ipv4_addr : iface_index; }'");
        for all in [&wholes[..], &others, &wholes, &wholes[..2], &[]] {
            let have = observe(kernel);
            let mut want = have.clone();
            want.fastpath = Some(all.iter().cloned().collect());
            let steps = diff(&have, &want, &Protected::default()).steps;
            let script = steps.iter().flat_map(|step| kernel.commands(step)).collect::<Vec<_>>().join("\n");
            for _ in 0..2 {
                run(&format!("set -e\n{script}"));
                assert_eq!(held(kernel), all.iter().cloned().collect(), "{script}");
            }
        }
    });
}

/// As an administrator reads it.
#[test]
fn the_table_equals_the_golden_file() {
    in_netns(|kernel| {
        let _topology = with_fast_path(kernel);
        let mut text = run("nft list table netdev pontoon");
        run(&format!("nft delete table netdev pontoon; nft -c -f - <<'EOF'\n{text}\nEOF"));
        // Kernels with default tunnels (tunl0, sit0 ...) have other indices of links.
        for (id, number) in [("a", 5), ("b", 7)] {
            let index = run(&format!("ip -o link show dev {} | cut -d : -f 1", veth(id, "pntbone").0));
            let mac = Mac::derive("peer", id);
            text = text.replace(&format!("pntbone {} {mac}", index.trim()), &format!("pntbone {number} {mac}"));
        }
        testkit::golden::file("tests/golden/neighbours.txt", &text);
    });
}
