//! Forwarding enabled by Pontoon routes nothing between foreign links, unless another program enables forwarding,
//! before or after.

use std::thread::sleep;
use std::time::Duration;

use crate::host::{Host, Network, Publish};
use testkit::netns::{Netns, succeeds, wait_for};
use testkit::topology::{TCP, ask, serve};

/// A second link of the host that Pontoon does not manage: 198.51.100.1 and 2001:db8:1::1 on the host, .2 and ::2 in
/// the namespace behind it, whose default route is the host.
fn lan(host: &Host) -> Netns {
    let lan = Netns::new();
    host.run(&format!("ip link add lan0 type veth peer name eth0 netns {}", lan.tid()));
    host.run("ip addr add 198.51.100.1/24 dev lan0; ip addr add 2001:db8:1::1/64 dev lan0 nodad; ip link set lan0 up");
    lan.run("ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8:1::2/64 dev eth0 nodad; ip link set eth0 up");
    lan.run("ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1");
    lan
}

/// Whether one of two pings is answered within a short time.
fn reaches(from: &Netns, address: &str) -> bool {
    from.enter(|| succeeds(&format!("ping -n -c 3 -i 0.3 -W 0.6 {address}")))
}

const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const LAN: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];

/// Whether outside and the second link reach each other, per family.
fn crosses(host: &Host, lan: &Netns) -> [bool; 2] {
    [0, 1].map(|family| {
        let mut ways = (reaches(&host.outside, LAN[family]), reaches(lan, OUTSIDE[family]));
        if ways.0 || ways.1 {
            // A single reply may have been too slow.
            ways = (host.outside.pings(LAN[family]), lan.pings(OUTSIDE[family]));
        }
        assert_eq!(ways.0, ways.1, "one way only: {} and {}", LAN[family], OUTSIDE[family]);
        ways.0
    })
}

fn works(host: &Host, container: &Netns) {
    for address in OUTSIDE.iter().chain(&LAN) {
        assert!(container.pings(address), "a container reaches {address}");
    }
    for server in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        assert!(host.outside.enter(|| ask(TCP, server)).is_some(), "{server} from outside");
    }
}

#[test]
fn foreign_links_stay_isolated() {
    let mut host = Host::start(&[]);
    let lan = lan(&host);
    assert_eq!(crosses(&host, &lan), [false; 2], "before");
    let network = Network::new("one", 1);
    host.create(&network);
    let container = host.container_with(&network, 2, &[Publish::new(6, 8080, 80)]);
    serve(&container);
    works(&host, &container);
    assert_eq!(crosses(&host, &lan), [false; 2], "with a network");
    host.run("iptables-nft -F; iptables-nft -P FORWARD ACCEPT; ip6tables-nft -P FORWARD ACCEPT");
    assert_eq!(crosses(&host, &lan), [false; 2], "with an accepting FORWARD chain");
    host.end();
    assert_eq!(crosses(&host, &lan), [false; 2], "while Pontoon does not run");
    host.begin();
    assert_eq!(crosses(&host, &lan), [false; 2], "after a start");
    host.run("nft flush ruleset");
    wait_for("the rules to be restored", || host.run("nft list ruleset").contains("between links of other programs"));
    assert_eq!(crosses(&host, &lan), [false; 2], "after a flush");
    // As after a crash between the two writes, with all other rules lost.
    host.end();
    host.run("nft flush ruleset");
    host.begin();
    assert_eq!(crosses(&host, &lan), [false; 2], "after a start without tables");
    works(&host, &container);
    host.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
    wait_for("forwarding to be restored", || container.pings(LAN[0]) && container.pings(LAN[1]));
    assert_eq!(crosses(&host, &lan), [false; 2], "after another program disabled forwarding");
    host.end();
    assert_eq!(host.remove_rules("inet pontoon forward_others", "between links of other programs"), 2);
    assert_eq!(crosses(&host, &lan), [true; 2], "without the guard");
}

#[test]
fn forwarding_enabled_before_still_applies() {
    let host = Host::start(&[]);
    let lan = lan(&host);
    host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.create(&Network::new("one", 1));
    assert_eq!(crosses(&host, &lan), [true; 2]);
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding"), "1\n1\n");
}

#[test]
fn forwarding_enabled_later_applies() {
    let mut host = Host::start(&[]);
    let lan = lan(&host);
    host.create(&Network::new("one", 1));
    assert_eq!(crosses(&host, &lan), [false; 2]);
    host.run("sysctl -qw net.ipv4.ip_forward=1");
    wait_for("IPv4 forwarding by the user", || reaches(&lan, OUTSIDE[0]));
    assert_eq!(crosses(&host, &lan), [true, false]);
    host.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
    wait_for("IPv6 forwarding by the user", || reaches(&lan, OUTSIDE[1]));
    assert_eq!(crosses(&host, &lan), [true, true]);
    host.create(&Network::new("two", 2));
    host.begin();
    assert_eq!(crosses(&host, &lan), [true, true], "after a start");
}

#[test]
fn links_with_per_link_forwarding_keep_it() {
    let mut host = Host::start(&[]);
    let lan = lan(&host);
    let forced = succeeds("test -e /proc/sys/net/ipv6/conf/all/force_forwarding");
    host.run("sysctl -qw net.ipv4.conf.up0.forwarding=1 net.ipv4.conf.lan0.forwarding=1");
    if forced {
        host.run("sysctl -qw net.ipv6.conf.up0.force_forwarding=1 net.ipv6.conf.lan0.force_forwarding=1");
    }
    assert_eq!(crosses(&host, &lan), [true, forced], "before");
    let third = Netns::new();
    host.run(&format!("ip link add dmz0 type veth peer name eth0 netns {}", third.tid()));
    host.run("ip addr add 203.0.113.1/24 dev dmz0; ip link set dmz0 up; sysctl -qw net.ipv4.conf.dmz0.forwarding=0");
    third.run("ip addr add 203.0.113.2/24 dev eth0; ip link set eth0 up; ip route add default via 203.0.113.1");
    host.create(&Network::new("one", 1));
    assert_eq!(crosses(&host, &lan), [true, forced], "with a network");
    assert!(!reaches(&third, "198.51.100.2"), "a link without forwarding");
    assert_eq!(host.run("sysctl -n net.ipv4.conf.up0.forwarding"), "1\n");
    // As after a crash before the setting is restored.
    host.run("echo 706 > /proc/sys/net/ipv4/conf/up0/forwarding");
    host.begin();
    assert_eq!(crosses(&host, &lan), [true, forced], "after a start");
    assert!(!reaches(&third, "198.51.100.2"), "a link without forwarding");
}

/// With br_netfilter, bridged packets also traverse the forward chains.
#[test]
fn foreign_bridges_still_forward_between_their_ports() {
    let mut host = Host::start(&[]);
    let (a, b) = (Netns::new(), Netns::new());
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1");
    host.run("ip link add virbr0 type bridge; ip addr add 10.99.0.1/24 dev virbr0; ip addr add fd99::1/64 dev virbr0 nodad; ip link set virbr0 up");
    for (n, guest) in [(2, &a), (3, &b)] {
        host.run(&format!("ip link add vm{n} type veth peer name eth0 netns {}", guest.tid()));
        host.run(&format!("ip link set vm{n} master virbr0 up"));
        guest.run(&format!("ip addr add 10.99.0.{n}/24 dev eth0; ip addr add fd99::{n}/64 dev eth0 nodad"));
        guest.run("ip link set eth0 up; ip route add default via 10.99.0.1; ip -6 route add default via fd99::1");
    }
    host.create(&Network::new("one", 1));
    let check = |host: &Host, when: &str| {
        assert!(a.pings("10.99.0.3") && a.pings("fd99::3"), "within a foreign bridge {when}");
        assert!(!reaches(&a, OUTSIDE[0]) && !reaches(&a, OUTSIDE[1]), "not out of a foreign bridge {when}");
        assert!(
            !reaches(&host.outside, "10.99.0.2") && !reaches(&host.outside, "fd99::2"),
            "not into a foreign bridge {when}"
        );
    };
    check(&host, "with a network");
    host.end();
    host.run("nft flush set inet pontoon foreign_bridge");
    check(&host, "while Pontoon does not run");
    assert_eq!(host.remove_rules("inet pontoon prerouting_bridges", "record bridges"), 1);
    host.run("nft flush set inet pontoon foreign_bridge");
    assert!(!reaches(&a, "10.99.0.3") && !reaches(&a, "fd99::3"), "without the recorded bridge");
}

/// A container on a user's bridge is routed; other machines on that bridge are not.
#[test]
fn a_user_bridge_is_no_transit() {
    let host = Host::start(&[]);
    let lan = lan(&host);
    let neighbour = Netns::new();
    host.run("ip link add br-user type bridge; ip addr add 10.1.0.1/24 dev br-user; ip addr add fd00:1::1/64 dev br-user nodad; ip link set br-user up");
    host.run(&format!("ip link add vm0 type veth peer name eth0 netns {}", neighbour.tid()));
    host.run("ip link set vm0 master br-user up");
    neighbour.run("ip addr add 10.1.0.9/24 dev eth0; ip addr add fd00:1::9/64 dev eth0 nodad; ip link set eth0 up");
    neighbour.run("ip route add default via 10.1.0.1; ip -6 route add default via fd00:1::1");
    let network = Network::new("one", 1).option("com.docker.network.bridge.name", "br-user");
    host.create(&network);
    let container = host.container_with(&network, 2, &[Publish::new(6, 8080, 80)]);
    serve(&container);
    works(&host, &container);
    assert!(!reaches(&neighbour, OUTSIDE[0]) && !reaches(&neighbour, OUTSIDE[1]), "a neighbour of the container");
    assert!(!reaches(&lan, "10.1.0.9") && !reaches(&lan, "fd00:1::9"), "to the neighbour");
    assert_eq!(crosses(&host, &lan), [false; 2]);
    host.detach(&container.first);
    sleep(Duration::from_millis(100));
    assert_eq!(host.run("nft list set inet pontoon user_bridge_container4").matches("10.1.0.2").count(), 0);
}

#[test]
fn the_ip_forward_option_leaves_forwarding_unchanged() {
    let host = Host::start(&["--ip-forward=false"]);
    let lan = lan(&host);
    let error = host.call("NetworkDriver.CreateNetwork", &Network::new("one", 1).body()).expect_err("no forwarding");
    assert!(error.contains("PONTOON_IP_FORWARD=false") && error.contains("net.ipv4.ip_forward=1"), "{error}");
    let inside = Network::new("two", 2).internal();
    host.create(&inside);
    let (a, _b) = (host.container(&inside, 2), host.container(&inside, 3));
    assert!(a.pings("10.2.0.3"), "an internal network needs none");
    host.run("sysctl -qw net.ipv4.ip_forward=1");
    let error = host.call("NetworkDriver.CreateNetwork", &Network::new("one", 1).body()).expect_err("no forwarding");
    assert!(error.contains("net.ipv6.conf.all.forwarding=1"), "{error}");
    let mut four = Network::new("one", 1);
    four.v6 = false;
    host.create(&four);
    assert!(host.container(&four, 2).pings(LAN[0]), "forwarding enabled by the user suffices");
    assert_eq!(crosses(&host, &lan), [true, false]);
    host.run("sysctl -qw net.ipv4.ip_forward=0");
    sleep(Duration::from_secs(1));
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward"), "0\n", "forwarding stays off when the user disables it");
}
