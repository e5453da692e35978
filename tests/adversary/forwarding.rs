//! Nobody crosses a host because Pontoon needs forwarding: links of others stay apart, unless
//! somebody else turns forwarding on, before or after.

use std::thread::sleep;
use std::time::Duration;

use crate::host::{Host, Network, Publish};
use crate::netns_support::{Netns, succeeds, wait_for};
use crate::topology::{TCP, ask, serve};

/// A second link of the host's that is none of Pontoon's: 198.51.100.1 and 2001:db8:1::1 there, .2
/// and ::2 in the namespace behind it, which routes everything to the host.
fn lan(host: &Host) -> Netns {
    let lan = Netns::new();
    host.run(&format!("ip link add lan0 type veth peer name eth0 netns {}", lan.tid()));
    host.run("ip addr add 198.51.100.1/24 dev lan0; ip addr add 2001:db8:1::1/64 dev lan0 nodad; ip link set lan0 up");
    lan.run("ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8:1::2/64 dev eth0 nodad; ip link set eth0 up");
    lan.run("ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1");
    lan
}

/// Whether one ping out of two is answered, soon.
fn reaches(from: &Netns, address: &str) -> bool {
    from.enter(|| succeeds(&format!("ping -n -c 3 -i 0.3 -W 0.6 {address}")))
}

const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const LAN: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];

/// Whether outside and the second link reach each other, by family.
fn crosses(host: &Host, lan: &Netns) -> [bool; 2] {
    [0, 1].map(|family| {
        let mut ways = (reaches(&host.outside, LAN[family]), reaches(lan, OUTSIDE[family]));
        if ways.0 || ways.1 {
            // One may just have been too slow.
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
fn links_of_others_stay_apart() {
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
    assert_eq!(crosses(&host, &lan), [false; 2], "whatever is in FORWARD");
    host.end();
    assert_eq!(crosses(&host, &lan), [false; 2], "while Pontoon does not run");
    host.begin();
    assert_eq!(crosses(&host, &lan), [false; 2], "after a start");
    host.run("nft flush ruleset");
    wait_for("the rules are back", || host.run("nft list ruleset").contains("between links of other programs"));
    assert_eq!(crosses(&host, &lan), [false; 2], "after a flush");
    // As when it dies between its two writes, and everything else is lost.
    host.end();
    host.run("nft flush ruleset");
    host.begin();
    assert_eq!(crosses(&host, &lan), [false; 2], "after a start without tables");
    works(&host, &container);
    host.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
    wait_for("forwarding is back", || container.pings(LAN[0]) && container.pings(LAN[1]));
    assert_eq!(crosses(&host, &lan), [false; 2], "after somebody turned it off");
    host.end();
    assert_eq!(host.remove_rules("inet pontoon forward_filter", "between links of other programs"), 2);
    assert_eq!(crosses(&host, &lan), [true; 2], "without the guard");
}

#[test]
fn what_others_forwarded_before_is_forwarded() {
    let host = Host::start(&[]);
    let lan = lan(&host);
    host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.create(&Network::new("one", 1));
    assert_eq!(crosses(&host, &lan), [true; 2]);
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding"), "1\n1\n");
}

#[test]
fn who_turns_it_on_later_has_it() {
    let mut host = Host::start(&[]);
    let lan = lan(&host);
    host.create(&Network::new("one", 1));
    assert_eq!(crosses(&host, &lan), [false; 2]);
    host.run("sysctl -qw net.ipv4.ip_forward=1");
    wait_for("IPv4 is the user's", || reaches(&lan, OUTSIDE[0]));
    assert_eq!(crosses(&host, &lan), [true, false]);
    host.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
    wait_for("IPv6 is the user's", || reaches(&lan, OUTSIDE[1]));
    assert_eq!(crosses(&host, &lan), [true, true]);
    host.create(&Network::new("two", 2));
    host.begin();
    assert_eq!(crosses(&host, &lan), [true, true], "after a start");
}

#[test]
fn links_with_forwarding_of_their_own_keep_it() {
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
    assert!(!reaches(&third, "198.51.100.2"), "a link that had none");
    assert_eq!(host.run("sysctl -n net.ipv4.conf.up0.forwarding"), "1\n");
    // As when it dies before it gives the setting back.
    host.run("echo 706 > /proc/sys/net/ipv4/conf/up0/forwarding");
    host.begin();
    assert_eq!(crosses(&host, &lan), [true, forced], "after a start");
    assert!(!reaches(&third, "198.51.100.2"), "a link that had none");
}

/// With br_netfilter the forward chains are asked about what a bridge forwards, too.
#[test]
fn bridges_of_others_forward_within() {
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
        assert!(a.pings("10.99.0.3") && a.pings("fd99::3"), "within a bridge of others {when}");
        assert!(!reaches(&a, OUTSIDE[0]) && !reaches(&a, OUTSIDE[1]), "and not out of it {when}");
        assert!(!reaches(&host.outside, "10.99.0.2") && !reaches(&host.outside, "fd99::2"), "nor into it {when}");
    };
    check(&host, "with a network");
    host.end();
    host.run("nft flush set inet pontoon foreign_bridge");
    check(&host, "while Pontoon does not run");
    assert_eq!(host.remove_rules("inet pontoon prerouting_raw", "record bridges"), 1);
    host.run("nft flush set inet pontoon foreign_bridge");
    assert!(!reaches(&a, "10.99.0.3") && !reaches(&a, "fd99::3"), "without what is noted");
}

/// A bridge of the user's with a container on it: that is forwarded for, what else is there is not.
#[test]
fn a_bridge_of_the_users_is_no_way_through() {
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
    assert!(!reaches(&neighbour, OUTSIDE[0]) && !reaches(&neighbour, OUTSIDE[1]), "a neighbour of the container's");
    assert!(!reaches(&lan, "10.1.0.9") && !reaches(&lan, "fd00:1::9"), "and to it");
    assert_eq!(crosses(&host, &lan), [false; 2]);
    host.detach(&container.first);
    sleep(Duration::from_millis(100));
    assert_eq!(host.run("nft list set inet pontoon user_bridge_container4").matches("10.1.0.2").count(), 0);
}

#[test]
fn forwarding_is_left_alone_where_it_is_to_be() {
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
    assert!(host.container(&four, 2).pings(LAN[0]), "the user's forwarding serves");
    assert_eq!(crosses(&host, &lan), [true, false]);
    host.run("sysctl -qw net.ipv4.ip_forward=0");
    sleep(Duration::from_secs(1));
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward"), "0\n", "and stays off when he turns it off");
}
