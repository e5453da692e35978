//! Forged identities: neighbour discovery for foreign addresses, and containers that pose as multicast routers.

use crate::host::{Container, Host, Network, mac_bytes};
use crate::packet::*;
use testkit::netns::wait_for;

const RULES: &str = "bridge pontoon prerouting_source";

/// The link-local address that the container's kernel assigned to its link.
fn link_local(of: &Container) -> String {
    let own = || of.run("ip -6 -o addr show dev eth0 scope link -tentative");
    wait_for("a link-local address", || own().contains("inet6"));
    own().split("inet6 ").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned()
}

fn group(address: &str) -> [u8; 6] {
    let octets = address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
}

/// ICMPv6 from `a` to `to`, in a frame for the multicast address of `to`.
fn icmp_frame(a: &Container, from: &str, to: &str, message: &[u8]) -> Vec<u8> {
    frame(group(to), mac_bytes(&a.first.mac), 0x86dd, &ip6(from, to, 58, message))
}

#[test]
fn a_container_advertises_only_its_own_addresses() {
    let mut host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let (of_a, of_b) = (link_local(&a), link_local(&b));
    let gateway = host.run(&format!("ip -6 -o addr show dev {} scope link", network.bridge()));
    let gateway = gateway
        .split("inet6 ")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .expect("a link-local address of the bridge")
        .to_owned();
    // Regular traffic works: by link-local addresses, by assigned ones, and after the link was set down and up.
    assert!(b.pings(&format!("{of_a}%eth0")) && a.pings(&format!("{gateway}%eth0")) && b.pings("fd00:1::2"));
    a.run("ip link set eth0 down; ip link set eth0 up; ip addr add fd00:1::2/64 dev eth0 nodad");
    assert_eq!(link_local(&a), of_a);
    assert!(b.pings(&format!("{of_a}%eth0")) && b.pings("fd00:1::2"));

    let mine = mac_bytes(&a.first.mac);
    let all = "ff02::1";
    let advertised = |about: &str| icmp_frame(&a, &of_a, all, &neighbour(136, &of_a, all, about, Some(mine)));
    let hidden = |about: &str| {
        // Preceded by a destination options header.
        let message = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &neighbour(136, &of_a, all, about, Some(mine))].concat();
        frame(group(all), mine, 0x86dd, &ip6(&of_a, all, 60, &message))
    };
    let solicited = |from: &str, about: &str| {
        let mac = (from != "::").then_some(mine);
        icmp_frame(&a, from, "ff02::1:ff00:3", &neighbour(135, from, "ff02::1:ff00:3", about, mac))
    };
    let sight = Sight::new(&b, "discovery", "ether saddr != 02:00:00:00:00:00 icmpv6 type { 135, 136 }");
    let every = Sight::new(&b, "hidden", "ip6 nexthdr 60");
    let datagrams = Sight::new(&b, "udp", "udp dport 9999");
    let (_, from_sibling) = datagram(&of_b, "fd00:1::3", 9999);
    let (_, from_gateway) = datagram("fe80::1", "fd00:1::3", 9999);
    let (_, from_own) = datagram(&of_a, "fd00:1::3", 9999);
    let at_b = |packet: &[u8]| frame(mac_bytes(&b.first.mac), mine, 0x86dd, packet);
    let forged: Vec<(&str, Vec<u8>)> = vec![
        ("advertisement of the sibling's address", advertised(&of_b)),
        ("advertisement of the gateway's address", advertised(&gateway)),
        ("advertisement of the gateway's global address", advertised("fd00:1::1")),
        ("duplicate detection of the sibling's address", solicited("::", &of_b)),
        ("duplicate detection of the sibling's global address", solicited("::", "fd00:1::3")),
        ("solicitation from the sibling's address", solicited(&of_b, "fd00:1::3")),
        ("solicitation from the gateway's address", solicited(&gateway, "fd00:1::3")),
    ];
    for (what, message) in &forged {
        assert!(!sight.sees(|| send(&a, "eth0", std::slice::from_ref(message))), "{what}");
    }
    assert!(!every.sees(|| send(&a, "eth0", &[hidden(&of_b), hidden(&of_a)])), "behind another header");
    for packet in [&from_sibling, &from_gateway] {
        assert!(!datagrams.sees(|| send(&a, "eth0", &[at_b(packet)])), "another's link-local address");
    }
    // Messages with its own addresses pass, in both forms.
    assert!(datagrams.sees(|| send(&a, "eth0", &[at_b(&from_own)])));
    for own in [advertised(&of_a), advertised("fd00:1::2"), solicited("::", &of_a), solicited(&of_a, "fd00:1::3")] {
        assert!(sight.sees(|| send(&a, "eth0", &[own])), "its own");
    }
    host.end();
    let guards = [
        "in duplicate address detection",
        "in a neighbour advertisement",
        "foreign IPv6 address\"",
        "behind extension headers",
    ];
    for guard in guards {
        assert_eq!(host.remove_rules(RULES, guard), 1, "{guard}");
    }
    for (what, message) in &forged {
        assert!(sight.sees(|| send(&a, "eth0", std::slice::from_ref(message))), "{what}: the guard is needed");
    }
    assert!(
        every.sees(|| send(&a, "eth0", &[hidden(&of_b)]))
            && datagrams.sees(|| send(&a, "eth0", &[at_b(&from_sibling)]))
    );
}

/// Messages that make a snooping bridge register a querier or a multicast router.
fn multicast_router_messages(a: &Container) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mine = mac_bytes(&a.first.mac);
    let own = a.first.mac.as_str();
    let local = pontoon::model::Mac::parse(own).unwrap().link_local().to_string();
    let all = [0x01, 0, 0x5e, 0, 0, 1];
    let checked = |mut message: Vec<u8>| {
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        message
    };
    let four =
        |to: &str, protocol: u8, message: Vec<u8>| frame(all, mine, 0x0800, &ip4("10.1.0.2", to, protocol, &message));
    let query = || checked(vec![0x11, 100, 0, 0, 0, 0, 0, 0]);
    // A hop-by-hop header with a router alert, which all of them carry.
    let six = |to: &str, kind: u8, rest: &[u8]| {
        let message = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &icmp6(&local, to, kind, rest)].concat();
        let mut packet = ip6(&local, to, 0, &message);
        packet[7] = 1;
        frame(group(to), mine, 0x86dd, &packet)
    };
    let mut fragment = ip4("10.1.0.2", "224.0.0.1", 2, &query());
    fragment[6..8].copy_from_slice(&1u16.to_be_bytes());
    fragment[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&fragment[..20]).to_be_bytes();
    fragment[10..12].copy_from_slice(&sum);
    // Queries come last: after one, the bridge forwards multicasts to group members only.
    vec![
        (
            "an IGMP query as a fragment",
            "ip protocol igmp ip frag-off & 0x1fff != 0",
            frame(all, mine, 0x0800, &fragment),
        ),
        ("a router by MRD", "igmp type 0x30", four("224.0.0.106", 2, checked(vec![0x30, 20, 0, 0, 0, 0, 0, 0]))),
        (
            "a router by PIM",
            "ip protocol pim",
            four("224.0.0.13", 103, checked(vec![0x20, 0, 0, 0, 0, 1, 0, 2, 0, 105])),
        ),
        ("an IPv6 router by MRD", "icmpv6 type 151", six("ff02::6a", 151, &[0, 0, 0, 0])),
        ("an IGMP query", "igmp type 0x11", four("224.0.0.1", 2, query())),
        ("an MLD query", "icmpv6 type 130", six("ff02::1", 130, &[[0, 100, 0, 0].as_slice(), &[0; 16]].concat())),
    ]
}

/// The multicast router ports of the bridge, and its querier.
fn multicast_routers(host: &Host, bridge: &str) -> String {
    host.run(&format!("bridge -d mdb show dev {bridge} | grep -i router || true"))
}

#[test]
fn a_container_cannot_become_a_multicast_router() {
    // On a user's bridge, which may snoop.
    let mut host = Host::start(&[]);
    host.run("ip link add br-lan type bridge mcast_snooping 1; ip link set br-lan up");
    host.run("ip addr add 10.1.0.1/24 dev br-lan; ip addr add fd00:1::1/64 dev br-lan nodad");
    let network = Network::new("lan", 1).option("com.docker.network.bridge.name", "br-lan");
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    assert!(a.pings("10.1.0.3") && b.pings("fd00:1::2"));
    // With br_netfilter, connection tracking holds a fragment until the rest arrives.
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true");
    let messages = multicast_router_messages(&a);
    let arrives = |(what, expression, message): &(&'static str, &'static str, Vec<u8>)| {
        let sight = Sight::new(&b, "routers", expression);
        let arrives = sight.sees(|| send(&a, "eth0", std::slice::from_ref(message)));
        b.run("nft delete table netdev sight_routers");
        (arrives, *what)
    };
    for message in &messages {
        assert_eq!(arrives(message), (false, message.0));
        assert!(!multicast_routers(&host, "br-lan").contains(&a.first.port), "{}", message.0);
    }
    host.end();
    assert_eq!(host.remove_rules(RULES, "rogue "), 7);
    assert_eq!(host.remove_rules(RULES, "fragmented IGMP"), 1);
    // The bridge does not forward messages to the all-snoopers address.
    for message in messages.iter().filter(|message| message.0 != "an IPv6 router by MRD") {
        assert_eq!(arrives(message), (true, message.0), "the guard is needed");
    }
    assert!(
        multicast_routers(&host, "br-lan").contains(&a.first.port),
        "the bridge registered the container as a router"
    );

    // A bridge created by Pontoon registers no router, not even a container without source validation.
    let host = Host::start(&[]);
    let network = Network::new("one", 1).option("pontoon.spoofcheck", "false");
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let all: Vec<_> = multicast_router_messages(&a).into_iter().map(|(_, _, message)| message).collect();
    send(&a, "eth0", &all);
    assert!(!multicast_routers(&host, &network.bridge()).contains(&a.first.port));
    b.run("ip -6 neigh flush all");
    assert!(b.pings("fd00:1::2"));
}

/// A router advertisement with which a host forms an address in fd99::/64.
fn advertisement(to: &str) -> Vec<u8> {
    let lifetimes = [0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0];
    let prefix = [&[3, 4, 64, 0xc0][..], &lifetimes, &[0xfd, 0x99, 0, 0, 0, 0, 0, 0], &[0; 8]].concat();
    icmp6("fe80::1", to, 134, &[&[64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..], &prefix].concat())
}

/// To all nodes, and to one container: a router may answer a solicitation by unicast.
#[test]
fn the_ra_option_decides_about_router_advertisements() {
    let host = Host::start(&[]);
    let (accepting, refusing) = (Network::new("one", 1), Network::new("two", 2).option("pontoon.ra", "refuse"));
    for (network, refused) in [(&accepting, false), (&refusing, true)] {
        host.create(network);
        let a = host.container(network, 2);
        let of_a = link_local(&a);
        let sight = Sight::new(&a, "advertisements", "icmpv6 type nd-router-advert");
        let from = [2, 0, 0, 0, 0, 1];
        for (to, mac) in [(of_a.as_str(), mac_bytes(&a.first.mac)), ("ff02::1", group("ff02::1"))] {
            let frames = [frame(mac, from, 0x86dd, &ip6("fe80::1", to, 58, &advertisement(to)))];
            assert_ne!(sight.sees(|| send(&host.netns, &network.bridge(), &frames)), refused, "{} to {to}", network.id);
        }
        let formed = || a.run("ip -6 -o addr show dev eth0 to fd99::/64").contains("fd99:");
        if refused {
            assert!(!formed());
        } else {
            wait_for("an address formed by the container", formed);
        }
        assert!(a.pings(if refused { "fd00:2::1" } else { "fd00:1::1" }), "neighbour discovery passes");
    }
}
