//! Who a container says that it is, in neighbour discovery and as a multicast router.

use crate::host::{Container, Host, Network, mac_bytes};
use crate::netns_support::wait_for;
use crate::packet::*;

const RULES: &str = "bridge pontoon prerouting_source";

/// The link-local address that a container's kernel gave its link.
fn link_local(of: &Container) -> String {
    let own = || of.run("ip -6 -o addr show dev eth0 scope link -tentative");
    wait_for("a link-local address", || own().contains("inet6"));
    own().split("inet6 ").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned()
}

fn group(address: &str) -> [u8; 6] {
    let octets = address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
}

/// ICMPv6 from `a` to `to`, in a frame for that group or for everybody.
fn said(a: &Container, from: &str, to: &str, message: &[u8]) -> Vec<u8> {
    frame(group(to), mac_bytes(&a.first.mac), 0x86dd, &ip6(from, to, 58, message))
}

#[test]
fn a_container_speaks_for_its_own_addresses_in_neighbour_discovery() {
    let mut host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let (of_a, of_b) = (link_local(&a), link_local(&b));
    let gateway = host.run(&format!("ip -6 -o addr show dev {} scope link", network.bridge()));
    let gateway =
        gateway.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next()).expect("it has one").to_owned();
    // What is usual works: by link-local addresses, by given ones, and after a new start of the link.
    assert!(b.pings(&format!("{of_a}%eth0")) && a.pings(&format!("{gateway}%eth0")) && b.pings("fd00:1::2"));
    a.run("ip link set eth0 down; ip link set eth0 up; ip addr add fd00:1::2/64 dev eth0 nodad");
    assert_eq!(link_local(&a), of_a);
    assert!(b.pings(&format!("{of_a}%eth0")) && b.pings("fd00:1::2"));

    let mine = mac_bytes(&a.first.mac);
    let all = "ff02::1";
    let advertised = |about: &str| said(&a, &of_a, all, &neighbour(136, &of_a, all, about, Some(mine)));
    let hidden = |about: &str| {
        // A destination options header before it.
        let message = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &neighbour(136, &of_a, all, about, Some(mine))].concat();
        frame(group(all), mine, 0x86dd, &ip6(&of_a, all, 60, &message))
    };
    let solicited = |from: &str, about: &str| {
        let mac = (from != "::").then_some(mine);
        said(&a, from, "ff02::1:ff00:3", &neighbour(135, from, "ff02::1:ff00:3", about, mac))
    };
    let sight = Sight::new(&b, "discovery", "ether saddr != 02:00:00:00:00:00 icmpv6 type { 135, 136 }");
    let every = Sight::new(&b, "hidden", "ip6 nexthdr 60");
    let datagrams = Sight::new(&b, "udp", "udp dport 9999");
    let (_, from_sibling) = datagram(&of_b, "fd00:1::3", 9999);
    let (_, from_gateway) = datagram("fe80::1", "fd00:1::3", 9999);
    let (_, from_own) = datagram(&of_a, "fd00:1::3", 9999);
    let at_b = |packet: &[u8]| frame(mac_bytes(&b.first.mac), mine, 0x86dd, packet);
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("the sibling's, advertised", advertised(&of_b)),
        ("the gateway's, advertised", advertised(&gateway)),
        ("the gateway's given one, advertised", advertised("fd00:1::1")),
        ("the sibling's, asked whether it is free", solicited("::", &of_b)),
        ("the sibling's given one, asked whether it is free", solicited("::", "fd00:1::3")),
        ("asked from the sibling's", solicited(&of_b, "fd00:1::3")),
        ("asked from the gateway's", solicited(&gateway, "fd00:1::3")),
    ];
    for (what, lie) in &lies {
        assert!(!sight.sees(|| send(&a, "eth0", std::slice::from_ref(lie))), "{what}");
    }
    assert!(!every.sees(|| send(&a, "eth0", &[hidden(&of_b), hidden(&of_a)])), "behind another header");
    for packet in [&from_sibling, &from_gateway] {
        assert!(!datagrams.sees(|| send(&a, "eth0", &[at_b(packet)])), "another's link-local address");
    }
    // The truth passes, in both its forms.
    assert!(datagrams.sees(|| send(&a, "eth0", &[at_b(&from_own)])));
    for truth in [advertised(&of_a), advertised("fd00:1::2"), solicited("::", &of_a), solicited(&of_a, "fd00:1::3")] {
        assert!(sight.sees(|| send(&a, "eth0", &[truth])), "its own");
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
    for (what, lie) in &lies {
        assert!(sight.sees(|| send(&a, "eth0", std::slice::from_ref(lie))), "{what}: the guard is needed");
    }
    assert!(
        every.sees(|| send(&a, "eth0", &[hidden(&of_b)]))
            && datagrams.sees(|| send(&a, "eth0", &[at_b(&from_sibling)]))
    );
}

/// Messages by which a bridge with snooping comes to believe in a querier or a router.
fn of_a_multicast_router(a: &Container) -> Vec<(&'static str, &'static str, Vec<u8>)> {
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
    // A hop-by-hop header with a router alert, as they all have.
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
    // Queries come last: a bridge that believes one passes multicasts on to members alone.
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

/// Ports behind which a bridge believes multicast routers, and whether it believes in a querier.
fn believed(host: &Host, bridge: &str) -> String {
    host.run(&format!("bridge -d mdb show dev {bridge} | grep -i router || true"))
}

#[test]
fn a_container_is_no_multicast_router() {
    // On a bridge of the user's, which may snoop.
    let mut host = Host::start(&[]);
    host.run("ip link add br-lan type bridge mcast_snooping 1; ip link set br-lan up");
    host.run("ip addr add 10.1.0.1/24 dev br-lan; ip addr add fd00:1::1/64 dev br-lan nodad");
    let network = Network::new("lan", 1).option("com.docker.network.bridge.name", "br-lan");
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    assert!(a.pings("10.1.0.3") && b.pings("fd00:1::2"));
    // With br_netfilter connection tracking waits for the rest of a fragment.
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true");
    let messages = of_a_multicast_router(&a);
    let arrives = |(what, expression, message): &(&'static str, &'static str, Vec<u8>)| {
        let sight = Sight::new(&b, "routers", expression);
        let arrives = sight.sees(|| send(&a, "eth0", std::slice::from_ref(message)));
        b.run("nft delete table netdev sight_routers");
        (arrives, *what)
    };
    for message in &messages {
        assert_eq!(arrives(message), (false, message.0));
        assert!(!believed(&host, "br-lan").contains(&a.first.port), "{}", message.0);
    }
    host.end();
    assert_eq!(host.remove_rules(RULES, "rogue "), 7);
    assert_eq!(host.remove_rules(RULES, "fragmented IGMP"), 1);
    // The bridge keeps what goes to all snoopers to itself.
    for message in messages.iter().filter(|message| message.0 != "an IPv6 router by MRD") {
        assert_eq!(arrives(message), (true, message.0), "the guard is needed");
    }
    assert!(believed(&host, "br-lan").contains(&a.first.port), "the bridge believes it");

    // On a bridge of Pontoon's nobody is believed, not even a container that is not checked.
    let host = Host::start(&[]);
    let network = Network::new("one", 1).option("pontoon.spoofcheck", "false");
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let all: Vec<_> = of_a_multicast_router(&a).into_iter().map(|(_, _, message)| message).collect();
    send(&a, "eth0", &all);
    assert!(!believed(&host, &network.bridge()).contains(&a.first.port));
    b.run("ip -6 neigh flush all");
    assert!(b.pings("fd00:1::2"));
}
