//! Source validation of a port: its own addresses pass, others do not.

use pontoon::datapath::{Kernel, LinkProperty, Policy, Step};
use pontoon::linux::LinuxKernel;
use pontoon::model::Mac;

use testkit::netns::*;
use testkit::topology::*;

pub fn checked(topology: &Topology) -> Vec<Policy> {
    let mut policy = Vec::new();
    for (end, id, n) in [(&topology.ends[0], "a", 2), (&topology.ends[1], "b", 3)] {
        policy.push(Policy::Link(LinkProperty::SpoofChecked, end.clone()));
        let mac = Mac::derive("peer", id);
        policy.push(Policy::SourceMac(end.clone(), mac));
        for address in [format!("10.1.0.{n}"), format!("fd00:1::{n}")] {
            policy.push(Policy::SourceAddress(end.clone(), ip(&address)));
            policy.push(Policy::Source(end.clone(), mac, ip(&address)));
        }
    }
    policy
}

pub fn add(kernel: &LinuxKernel, policy: Vec<Policy>) {
    kernel.apply(&[Step::ChangeFirewall { add: policy, remove: vec![] }]).unwrap();
}

/// The number of packets that the rule with this comment dropped.
fn dropped(comment: &str) -> u64 {
    let text = run("nft list chain bridge pontoon prerouting_source");
    let line = text.lines().find(|line| line.contains(&format!("\"{comment}\""))).expect(comment);
    line.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Sends a frame with this content from eth0, through a packet socket.
pub fn send_frame(from: &Netns, frame: &[u8]) {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    from.run(&format!(
        "python3 -c \"import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); s.send(bytes.fromhex('{hex}'))\""
    ));
}

#[test]
fn own_addresses_pass_and_foreign_ones_do_not() {
    in_netns(|kernel| {
        let topology = Topology::new(kernel, basics());
        serve(&topology.outside);
        add(kernel, checked(&topology));
        for (container, v4, v6) in [(&topology.a, "10.1.0.2", "fd00:1::2"), (&topology.b, "10.1.0.3", "fd00:1::3")] {
            container.run("ip neigh flush all; ip -6 neigh flush all");
            assert_eq!(container.ask(TCP, "192.0.2.2:80"), Some("192.0.2.1".into()), "{v4}");
            assert!(container.pings("fd00:1::1") && container.pings("2001:db8::2"), "{v6}");
        }
        assert!(topology.a.pings("10.1.0.3") && topology.a.pings("fd00:1::3"));
        assert_eq!(topology.a.ask(UDP, "[fd00:1::3]:80"), Some("fd00:1::2".into()));

        // Another IPv4 address, announced and used.
        topology.a.run("ip addr add 10.1.0.9/24 dev eth0; ip addr add fd00:1::9/64 dev eth0 nodad");
        let ping_from = |source: &str, target: &str| {
            topology.a.enter(|| succeeds(&format!("ping -n -c 1 -W 1 -I {source} {target}")))
        };
        let before = dropped("foreign IPv4 address");
        assert!(!ping_from("10.1.0.9", "10.1.0.3"));
        assert!(dropped("foreign IPv4 address") > before);
        assert!(!topology.b.pings("10.1.0.9"), "the address was announced");
        assert!(dropped("foreign IPv4 address in ARP") > 0);
        assert!(!ping_from("fd00:1::9", "fd00:1::3"));
        assert!(dropped("foreign IPv6 address") > 0);
        assert!(!topology.b.pings("fd00:1::9"), "the address was announced");
        assert!(dropped("foreign IPv6 address in a neighbour advertisement") > 0);
        // The gateway's addresses, in gratuitous announcements.
        topology.a.run("ip addr add 10.1.0.1/32 dev eth0 2>/dev/null; arping -c 1 -U -I eth0 -s 10.1.0.1 10.1.0.1 2>/dev/null || true");
        topology.b.run("ip neigh flush all");
        assert!(topology.b.pings("10.1.0.1"));
        assert!(!topology.b.run("ip neigh show 10.1.0.1").contains(&Mac::derive("peer", "a").to_string()));

        // Another MAC address: in the frame, then only in ARP.
        let mac = Mac::derive("peer", "a").bytes();
        let arp = |frame_source: [u8; 6], sender: [u8; 6], address: [u8; 4]| {
            let mut frame = vec![0xff; 6];
            frame.extend(frame_source);
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            frame.extend(sender);
            frame.extend(address);
            frame.extend([0; 6]);
            frame.extend([10, 1, 0, 3]);
            frame
        };
        let other = [2, 0, 0, 0, 0, 9];
        for (frame, comment) in [
            (arp(other, mac, [10, 1, 0, 2]), "foreign MAC address"),
            (arp(mac, other, [10, 1, 0, 2]), "foreign MAC address in ARP"),
            (arp(mac, mac, [10, 1, 0, 1]), "foreign IPv4 address in ARP"),
        ] {
            let before = dropped(comment);
            send_frame(&topology.a, &frame);
            assert_eq!(dropped(comment), before + 1, "{comment}");
        }
        // A frame to the neighbour with a foreign source, hidden behind tags of VLAN 0.
        let packet = || {
            let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 10, 1, 0, 3];
            packet.extend([0, 80, 0, 80, 0, 8, 0, 0]);
            packet
        };
        for tags in 0..4 {
            let mut frame = [&Mac::derive("peer", "b").bytes()[..], &mac[..]].concat();
            (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 0]));
            frame.extend([8, 0]);
            frame.extend(packet());
            // Linux 7 parses the packet behind two tags as if they were absent.
            let counters: &[&str] = match tags {
                0 => &["foreign IPv4 address"],
                2 => &["foreign IPv4 address", "802.1Q tag"],
                _ => &["802.1Q tag"],
            };
            let count = || counters.iter().map(|comment| dropped(comment)).sum::<u64>();
            let before = count();
            send_frame(&topology.a, &frame);
            assert_eq!(count(), before + 1, "{tags} tags");
        }
        // A router advertisement, from its own link-local address.
        let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
        frame.extend(mac);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 58, 255, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        send_frame(&topology.a, &frame);
        assert_eq!(dropped("rogue router advertisement"), 1);
    });
}

#[test]
fn a_port_without_addresses_can_use_any_but_keeps_its_mac() {
    in_netns(|kernel| {
        let topology = Topology::new(kernel, basics());
        let end = topology.ends[0].clone();
        add(
            kernel,
            vec![
                Policy::Link(LinkProperty::SpoofChecked, end.clone()),
                Policy::SourceMac(end.clone(), Mac::derive("peer", "a")),
                Policy::SourceAddress(end.clone(), ip("0.0.0.0")),
                Policy::SourceAddress(end.clone(), ip("fd00:1::2")),
            ],
        );
        topology.a.run("ip addr add 10.1.0.9/24 dev eth0; ip addr add fd00:1::9/64 dev eth0 nodad");
        assert!(topology.b.pings("10.1.0.9") && topology.b.pings("10.1.0.2") && topology.b.pings("fd00:1::2"));
        assert!(!topology.b.pings("fd00:1::9"), "IPv6 is checked");
        kernel
            .apply(&[Step::ChangeFirewall {
                add: vec![],
                remove: vec![Policy::SourceAddress(end.clone(), ip("0.0.0.0"))],
            }])
            .unwrap();
        assert!(!topology.b.pings("10.1.0.9"));
        add(kernel, vec![Policy::SourceAddress(end, ip("0.0.0.0"))]);
        topology.a.run("ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:09; ip link set eth0 up");
        assert!(!topology.b.pings("10.1.0.9"), "another MAC address");
    });
}
