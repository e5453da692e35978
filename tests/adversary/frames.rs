//! Link-local frames between bridges (01:80:c2:00:00:0x) and frames with VLAN tags: both need rules of their own,
//! because ordinary filters do not see them.

use std::net::UdpSocket;
use std::time::Duration;

use crate::host::{Container, Host, Network};
use crate::packet::*;
use testkit::netns::{succeeds, wait_for};

/// A socket of the host that listens on all addresses.
struct Listener(UdpSocket);

impl Listener {
    fn new(host: &Host) -> Self {
        let socket = host.netns.enter(|| UdpSocket::bind("[::]:9999").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self(socket)
    }

    fn receives(&self, act: impl FnOnce()) -> bool {
        act();
        let heard = self.0.recv(&mut [0; 64]).is_ok();
        while heard && self.0.recv(&mut [0; 64]).is_ok() {}
        heard
    }
}

/// A user's bridge with a port of its own and the address 10.1.0.1, and a network on it.
fn users_bridge(host: &Host, settings: &str) -> Network {
    host.run(&format!(
        "ip link add br-lan type bridge {settings}; ip link add lan0 type veth peer name lan1; ip link set lan1 up"
    ));
    host.run("ip link set lan0 address 02:00:00:00:00:77 master br-lan up; ip link set br-lan up");
    host.run("ip addr add 10.1.0.1/24 dev br-lan; ip addr add fd00:1::1/64 dev br-lan nodad");
    let network = Network::new("lan", 1).option("com.docker.network.bridge.name", "br-lan");
    host.create(&network);
    network
}

fn entries(host: &Host, bridge: &str) -> String {
    host.run(&format!("bridge fdb show br {bridge} dynamic; bridge fdb show br {bridge} | grep -v permanent || true"))
}

/// Frames to all sixteen addresses, with source `mac`.
fn claims(mac: [u8; 6]) -> Vec<Vec<u8>> {
    (0..16).map(|last| frame(to_bridges(last), mac, 0x88cc, &[0; 46])).collect()
}

/// Whether the bridge has this hardware address behind that port.
fn is_behind(host: &Host, bridge: &str, mac: &str, port: &str) -> bool {
    entries(host, bridge).lines().any(|line| line.starts_with(mac) && line.contains(port))
}

#[test]
fn a_bridge_learns_nothing_from_link_local_frames() {
    let mut host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let bridge = network.bridge();
    assert!(a.pings("10.1.0.3") && b.pings("10.1.0.1"));
    assert!(is_behind(&host, &bridge, &b.first.mac, &b.first.port));
    send(&a, "eth0", &claims(mac_of(&b.first.mac)));
    assert!(is_behind(&host, &bridge, &b.first.mac, &b.first.port), "a sibling's address stays with its port");
    let many: Vec<_> = (0..200).flat_map(|n| claims([2, 9, 9, 9, 9, n])).collect();
    send(&a, "eth0", &many);
    assert!(!entries(&host, &bridge).contains("02:09:09:09"), "no address is learned");
    assert!(a.pings("10.1.0.3"));

    // A changed setting is restored; without it the attack works.
    host.run(&format!("ip link set {bridge} type bridge no_linklocal_learn 0 mcast_snooping 1"));
    let settings = |host: &Host| host.run(&format!("ip -d link show {bridge}"));
    wait_for("the settings to be restored", || {
        let settings = settings(&host);
        settings.contains("no_linklocal_learn 1") && settings.contains("mcast_snooping 0")
    });
    host.end();
    host.run(&format!("ip link set {bridge} type bridge no_linklocal_learn 0"));
    wait_for("the guard is needed", || {
        // Any frame of the sibling corrects the entry.
        send(&a, "eth0", &claims(mac_of(&b.first.mac)));
        is_behind(&host, &bridge, &b.first.mac, &a.first.port)
    });
    send(&a, "eth0", &many);
    assert!(entries(&host, &bridge).matches("02:09:09:09").count() >= 200);
}

/// Forged IP packets in such frames.
fn forged(a: &Container, from: &str, to: &str) -> Vec<Vec<u8>> {
    let (kind, packet) = datagram(from, to, 9999);
    (0..16).map(|last| frame(to_bridges(last), mac_of(&a.first.mac), kind, &packet)).collect()
}

fn arp_from(a: &Container, address: [u8; 4]) -> Vec<Vec<u8>> {
    let mac = mac_of(&a.first.mac);
    let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
    question.extend(mac);
    question.extend(address);
    question.extend([0; 6]);
    question.extend([10, 1, 0, 1]);
    question.extend([0; 18]);
    (0..16).map(|last| frame(to_bridges(last), mac, 0x0806, &question)).collect()
}

#[test]
fn link_local_frames_do_not_reach_the_hosts_ip_stack() {
    for users in [false, true] {
        let mut host = Host::start(&[]);
        let network = if users { users_bridge(&host, "stp_state 1 forward_delay 200") } else { Network::new("one", 1) };
        if !users {
            host.create(&network);
        }
        let a = host.container(&network, 2);
        wait_for("the port to forward", || a.pings("10.1.0.1"));
        let listener = Listener::new(&host);
        let own = host.run(&format!("ip -6 -o addr show dev {} scope link", a.first.port));
        let of_port = own
            .split("inet6 ")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .expect("a link-local address")
            .to_owned();
        let targets = [
            ("192.0.2.77", "10.1.0.1"),
            ("10.1.0.2", "192.0.2.1"),
            ("fd00:1::77", "fd00:1::1"),
            ("fe80::77", &of_port),
        ];
        for (from, to) in targets {
            assert!(!listener.receives(|| send(&a, "eth0", &forged(&a, from, to))), "{from} to {to}, {users}");
        }
        send(&a, "eth0", &arp_from(&a, [10, 1, 0, 77]));
        let learned = |host: &Host| host.run(&format!("ip neigh show dev {}", a.first.port));
        assert!(!learned(&host).contains("10.1.0.77"), "ARP");
        assert!(a.pings("10.1.0.1") && a.pings("fd00:1::1"));

        if !users {
            // A changed setting is restored.
            host.run(&format!("ip link set {} arp on", a.first.port));
            wait_for("ARP to be off again", || host.run(&format!("ip link show {}", a.first.port)).contains("NOARP"));
        }
        host.end();
        host.run("nft delete table netdev pontoon 2>/dev/null || true");
        if users {
            assert!(
                !listener.receives(|| send(&a, "eth0", &forged(&a, "192.0.2.77", "10.1.0.1"))),
                "one guard suffices"
            );
        }
        assert_eq!(host.remove_rules("inet pontoon prerouting_raw", "past the bridge, from a container port"), 1);
        for (from, to) in targets {
            assert!(
                listener.receives(|| send(&a, "eth0", &forged(&a, from, to))),
                "{from} to {to}: the guard is needed"
            );
        }
        host.run(&format!("ip link set {} arp on", a.first.port));
        send(&a, "eth0", &arp_from(&a, [10, 1, 0, 77]));
        assert!(learned(&host).contains("10.1.0.77"), "the guard is needed");
    }
}

/// A spanning tree configuration message with the root's identity.
fn claim_of_root(mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![0, 38, 0x42, 0x42, 3, 0, 0, 0, 0, 0];
    message.extend([0, 0, 2, 0, 0, 0, 0, 1]);
    message.extend([0; 4]);
    message.extend([0, 0, 2, 0, 0, 0, 0, 1]);
    message.extend([0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0]);
    message.extend([0; 8]);
    [&to_bridges(0)[..], &mac, &message].concat()
}

#[test]
fn spanning_tree_messages_do_not_leave_a_container() {
    // To siblings, on a bridge created by Pontoon.
    let mut host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let sight = Sight::new(&b, "bridges", "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00");
    let own = mac_of(&a.first.mac);
    let messages: Vec<_> = std::iter::once(claim_of_root(own)).chain(forged(&a, "10.1.0.2", "10.1.0.3")).collect();
    assert!(!sight.sees(|| send(&a, "eth0", &messages)));
    host.end();
    assert_eq!(host.remove_rules("bridge pontoon prerouting_source", "link-local frames to bridges (STP, LLDP)"), 1);
    assert!(sight.sees(|| send(&a, "eth0", &messages)), "the guard is needed");

    // To a user's bridge that takes part in a spanning tree.
    let mut host = Host::start(&[]);
    let network = users_bridge(&host, "stp_state 1 forward_delay 200 group_fwd_mask 65528");
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    wait_for("the ports to forward", || a.pings("10.1.0.3") && b.pings("10.1.0.1"));
    // Frames that the bridge itself would process and learn from. (The kernel handles spanning tree messages only in
    // the initial network namespace, so the elected root is not visible here.)
    let attack = [vec![claim_of_root(mac_of(&a.first.mac))], claims([2, 0, 0, 0, 0, 5])].concat();
    let for_bridges = "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00";
    let sight = Sight::new(&b, "bridges", &format!("{for_bridges} ether saddr 02:00:00:00:00:05"));
    let is_held = |host: &Host| {
        let heard = Sight::of(&host.netns, &a.first.port, "port", for_bridges);
        let passed_on = sight.sees(|| send(&a, "eth0", &attack));
        let learned = entries(host, "br-lan").contains("02:00:00:00:00:05");
        let count = heard.count();
        host.run("nft delete table netdev sight_port");
        !passed_on && !learned && count == 0
    };
    assert!(is_held(&host));
    assert!(a.pings("10.1.0.3"), "the container keeps its own network");
    // The guard is restored.
    host.run("nft flush ruleset");
    let there = |host: &Host| {
        host.netns.enter(|| succeeds(&format!("nft list chain netdev pontoon {} | grep -q drop", a.first.port)))
    };
    wait_for("the guard to be restored", || there(&host));
    assert!(is_held(&host));
    host.end();
    host.run(&format!("nft delete chain netdev pontoon {}", a.first.port));
    assert!(!is_held(&host), "the guard is needed");
    assert!(entries(&host, "br-lan").contains("02:00:00:00:00:05"));
    // The guard is removed with the container.
    host.begin();
    wait_for("the guard to be created at start", || there(&host));
    host.detach(&a.first);
    wait_for("the guard to be removed", || !there(&host));
}

/// A frame for `b` with these tags.
fn tagged(a: &Container, b: &Container, tags: &[u16], kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for tag in tags {
        content.extend(tag.to_be_bytes());
        content.extend([0, 0]);
    }
    content.extend(kind.to_be_bytes());
    content.extend(packet);
    [&mac_of(&b.first.mac)[..], &mac_of(&a.first.mac), &content].concat()
}

#[test]
fn no_tagged_frame_leaves_a_container() {
    let mut host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let stacks: [&[u16]; 8] = [
        &[0x8100],
        &[0x88a8],
        &[0x9100],
        &[0x8100, 0x8100],
        &[0x88a8, 0x8100],
        &[0x8100, 0x88a8, 0x8100],
        &[0x8100, 0x8100, 0x8100, 0x8100],
        &[0x9100, 0x8100, 0x8100],
    ];
    let listener = b.enter(|| UdpSocket::bind("[::]:9999").unwrap());
    listener.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let arrives = |frame: Vec<u8>| {
        send(&a, "eth0", &[frame]);
        listener.recv(&mut [0; 64]).is_ok()
    };
    let packets = |forged: bool| {
        let n = if forged { 77 } else { 2 };
        [datagram(&format!("10.1.0.{n}"), "10.1.0.3", 9999), datagram(&format!("fd00:1::{n}"), "fd00:1::3", 9999)]
    };
    let seen = Sight::new(&b, "tags", "ether type { 8021q, 8021ad, 0x9100 }");
    for (kind, packet) in packets(false) {
        assert!(arrives(tagged(&a, &b, &[], kind, &packet)), "an untagged packet");
    }
    for (kind, packet) in packets(true) {
        assert!(!arrives(tagged(&a, &b, &[], kind, &packet)));
    }
    for stack in stacks {
        for (kind, packet) in packets(true).into_iter().chain(packets(false)) {
            let frame = tagged(&a, &b, stack, kind, &packet);
            assert!(!seen.sees(|| send(&a, "eth0", &[frame])), "{stack:x?}");
        }
    }
    assert!(listener.recv(&mut [0; 64]).is_err());
    host.end();
    assert_eq!(host.remove_rules("bridge pontoon prerouting_source", "\"802.1"), 4);
    let (kind, packet) = &packets(true)[0];
    assert!(arrives(tagged(&a, &b, &[0x8100; 3], *kind, packet)), "the guard is needed");
}
