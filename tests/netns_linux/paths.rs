//! The doctor's view of the paths to other hosts, and of firewalls outside nf_tables: with real routers, packets and
//! tables.

use std::net::{IpAddr, UdpSocket};

use pontoon::doctor::path::{Arrival, holders, probe};
use pontoon::linux::Options;
use pontoon::linux::survey::Survey;
use pontoon::model::Family;

use testkit::netns::*;
use testkit::topology::ip;

/// Two hosts and a router between them: 10.5.1.1 and 10.5.2.1, with an IPv6 address each.
fn line() -> [Netns; 3] {
    let [here, router, there] = [(); 3].map(|()| Netns::new());
    router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for (n, host) in [(1, &here), (2, &there)] {
        run(&format!("ip link add way{n} type veth peer name far{n}"));
        host.take(&format!("way{n}"), &format!("10.5.{n}.1/24"), &format!("10.5.{n}.254"));
        host.run(&format!("ip addr add fd05:{n}::1/64 dev eth0 nodad; ip -6 route add default via fd05:{n}::ff"));
        router.take(&format!("far{n}"), &format!("10.5.{n}.254/24"), "");
        router.run(&format!(
            "ip addr add fd05:{n}::ff/64 dev eth0 nodad; ip link set eth0 down; ip link set eth0 name to{n}; ip link set to{n} up"
        ));
        router.run(&format!(
            "ip addr replace 10.5.{n}.254/24 dev to{n}; ip addr replace fd05:{n}::ff/64 dev to{n} nodad"
        ));
    }
    [here, router, there]
}

fn arrives(here: &Netns, from: &str, to: &str) -> Arrival {
    let (from, to): (IpAddr, IpAddr) = (ip(from), ip(to));
    here.enter(|| probe(from, &[to], 1500))[&to]
}

#[test]
fn a_path_is_whole_narrow_swallows_or_is_silent() {
    in_netns(|_| {
        let [here, router, there] = line();
        for (from, to) in [("10.5.1.1", "10.5.2.1"), ("fd05:1::1", "fd05:2::1")] {
            wait_for("the path", || here.pings(to));
            wait_for("full packets to arrive", || arrives(&here, from, to) == Arrival::Whole);
        }
        let path = |peer: &str| {
            let peers = [ip(peer)];
            let paths = here.enter(|| Survey::open(Options::default()).unwrap().paths(ip("10.5.1.1"), &peers).unwrap());
            assert_eq!(paths.link.as_deref(), Some("eth0"));
            // A veth accepts tunnel packets without segmentation.
            assert!(paths.offloads.iter().any(|name| name == "tx-udp_tnl-segmentation"), "{:?}", paths.offloads);
            paths.peers.into_iter().next().unwrap()
        };
        assert_eq!((path("10.5.2.1").link.as_deref(), path("10.5.2.1").mtu), (Some("eth0"), Some(1500)));

        // The router reports that the next link is too narrow, and the learned MTU is read.
        router.run("ip link set to2 mtu 1400");
        for (from, to) in [("10.5.1.1", "10.5.2.1"), ("fd05:1::1", "fd05:2::1")] {
            wait_for("the path to be narrow", || arrives(&here, from, to) == Arrival::TooLarge);
        }
        wait_for("the learned MTU of the route", || path("10.5.2.1").mtu == Some(1400));

        // The router sends no report.
        here.run("ip route flush cache; ip -6 route flush cache");
        router.run("nft add table inet t; nft add chain inet t o '{ type filter hook output priority 0; }'");
        router.run("nft add rule inet t o icmp type destination-unreachable drop; nft add rule inet t o icmpv6 type packet-too-big drop");
        for (from, to) in [("10.5.1.1", "10.5.2.1"), ("fd05:1::1", "fd05:2::1")] {
            wait_for("the path to swallow large packets", || arrives(&here, from, to) == Arrival::Swallowed);
        }
        there.run("nft add table inet t; nft add chain inet t i '{ type filter hook input priority 0; policy drop; }'");
        assert_eq!(arrives(&here, "10.5.1.1", "10.5.2.1"), Arrival::Silent);
        here.run("ip route replace unreachable 10.5.2.1");
        assert_eq!(path("10.5.2.1").link, None);
    });
}

#[test]
fn a_process_on_the_tunnel_port_is_distinguished_from_tunnels() {
    in_netns(|_| {
        run("ip link add vx type vxlan id 7 local 127.0.0.1 dstport 4789; ip link set vx up");
        assert_eq!(holders(4789), [""; 0], "the kernel's own socket has no process");
        run("ip link del vx");
        let socket = UdpSocket::bind("127.0.0.1:4789").unwrap();
        assert_eq!(holders(4789).len(), 1);
        drop(socket);
        assert!(holders(4789).is_empty());
        run(
            "ip link add every type vxlan external dstport 4790; ip link add one type vxlan id 8 remote 192.0.2.1 dstport 4791",
        );
        let host = Survey::open(Options::default()).unwrap().host().unwrap();
        let tunnels: Vec<_> = host.links.iter().filter_map(|l| Some((l.name.as_str(), l.tunnel?))).collect();
        let numbers: Vec<_> = tunnels.iter().map(|(name, t)| (*name, t.vni, t.port)).collect();
        assert_eq!(numbers, [("every", 0, 4790), ("one", 8, 4791)]);
    });
}

#[test]
fn chains_of_iptables_legacy_are_read() {
    in_netns(|_| {
        let chains = || Survey::open(Options::default()).unwrap().host().unwrap().legacy;
        assert!(chains().is_empty(), "reading created a table");
        run("iptables-legacy -P FORWARD DROP; iptables-legacy -A INPUT -i pnt+ -j ACCEPT");
        let [four] = chains()[..] else { panic!("one table") };
        assert!(four.drops && !four.names_ours && four.family == Family::V4, "{four:?}");
        run("iptables-legacy -A FORWARD -i pnt+ -j ACCEPT; ip6tables-legacy -A FORWARD -i eth0 -j DROP");
        let [four, six] = chains()[..] else { panic!("two tables") };
        assert!(
            four.drops && four.names_ours && !six.drops && !six.names_ours && six.family == Family::V6,
            "{four:?} {six:?}"
        );
        run("ip6tables-legacy -P FORWARD DROP; iptables-legacy -P FORWARD ACCEPT");
        let [four, six] = chains()[..] else { panic!("two tables") };
        assert!(!four.drops && six.drops, "{four:?} {six:?}");
    });
}
