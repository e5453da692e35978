//! A container with an egress list that wants to send something else, with frames that it makes itself: to another
//! container of its network, to the host and to the outside. Everything with br_netfilter on and off.

use std::net::{Ipv6Addr, UdpSocket};

use serde_json::json;
use testkit::netns::{Netns, wait_for};
use testkit::topology::{TCP, UDP, serve};

use crate::host::{Container, Host, Network, Publish};
use crate::packet::{Sight, checksum, datagram, frame, icmp6, ip4, ip6, mac_of, send, udp};

const EGRESS: &str = "pontoon.egress.allow";
const ALLOWED: u16 = 9999;
const OTHER: u16 = 9998;

pub fn bridges_call_iptables(host: &Host, on: bool) {
    for family in ["ip", "ip6"] {
        host.run(&format!("echo {} > /proc/sys/net/bridge/bridge-nf-call-{family}tables", u8::from(on)));
    }
}

/// IPv4 that is a later fragment of another packet.
fn later_fragment(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[6..8].copy_from_slice(&185u16.to_be_bytes());
    packet[10..12].fill(0);
    let check = checksum(&packet[..20]).to_be_bytes();
    packet[10..12].copy_from_slice(&check);
    packet
}

/// A datagram behind destination options, and behind the header of a fragment with this offset.
fn behind_options(from: &str, to: &str, port: u16) -> Vec<u8> {
    ip6(from, to, 60, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(from, to, port)].concat())
}

fn behind_fragment(from: &str, to: &str, port: u16) -> Vec<u8> {
    ip6(from, to, 44, &[&[17, 0, 5, 0xc8, 0, 0, 0, 1][..], &udp(from, to, port)].concat())
}

fn link_local(container: &Container) -> String {
    let [a, b, c, d, e, f] = mac_of(&container.first.mac);
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]).to_string()
}

#[test]
fn forged_frames_do_not_get_around_an_egress_list() {
    for on in [true, false] {
        let mut host = Host::start(&[]);
        bridges_call_iptables(&host, on);
        let one = Network::new("one", 1).option(EGRESS, "udp:9999@net");
        host.create(&one);
        let (a, b) = (host.container(&one, 2), host.container(&one, 3));
        // One that may do everything, whose list is worth borrowing.
        let open = host.container_of(&one, 4, &[(EGRESS, "any")]);
        for container in [&a, &b, &open] {
            container.run("ip neigh flush all");
        }
        let (from, to) = (mac_of(&a.first.mac), mac_of(&b.first.mac));
        let (four, six) = (("10.1.0.2", "10.1.0.3"), ("fd00:1::2", "fd00:1::3"));
        let of = |to: [u8; 6], (kind, content): (u16, Vec<u8>)| frame(to, from, kind, &content);
        let arrives = |frame: Vec<u8>| seen(&b, || send(&a, "eth0", &[frame]));
        for (own, peer) in [four, six] {
            assert!(arrives(of(to, datagram(own, peer, ALLOWED))), "{own}: what is allowed, br_netfilter {on}");
            assert!(!arrives(of(to, datagram(own, peer, OTHER))), "{own}: another port, br_netfilter {on}");
        }
        assert!(arrives(of(to, (0x86dd, behind_options(six.0, six.1, ALLOWED)))), "the port is found behind options");
        let refused = [
            ("another port behind options", of(to, (0x86dd, behind_options(six.0, six.1, OTHER)))),
            ("a later fragment, IPv6", of(to, (0x86dd, behind_fragment(six.0, six.1, ALLOWED)))),
            ("a later fragment, IPv4", of(to, (0x0800, later_fragment(&datagram(four.0, four.1, ALLOWED).1)))),
            ("half a header", of(to, (0x0800, ip4(four.0, four.1, 17, &[0x1e])))),
            ("no next header", of(to, (0x86dd, ip6(six.0, six.1, 59, b"data")))),
            ("another protocol", of(to, (0x0800, ip4(four.0, four.1, 47, &[0; 8])))),
            ("the address of another", of(to, datagram("10.1.0.4", four.1, OTHER))),
            ("the address of another, IPv6", of(to, datagram("fd00:1::4", six.1, OTHER))),
            (
                "both addresses of another",
                frame(to, mac_of(&open.first.mac), 0x0800, &datagram("10.1.0.4", four.1, OTHER).1),
            ),
            ("no address", of(to, datagram("0.0.0.0", four.1, OTHER))),
            ("no address, IPv6", of(to, datagram("::", six.1, OTHER))),
            ("its link-local address", of(to, datagram(&link_local(&a), six.1, OTHER))),
            ("an echo reply", of(to, (0x0800, ip4(four.0, "10.1.0.9", 1, &[0, 0, 0xff, 0xff, 0, 0, 0, 0])))),
            ("neighbour discovery that was routed", {
                let mut packet = ip6(six.0, six.1, 58, &icmp6(six.0, six.1, 135, &[0; 20]));
                packet[7] = 254;
                of(to, (0x86dd, packet))
            }),
            ("DHCP to one host", {
                let mut content = udp(four.0, four.1, 67);
                content[..2].copy_from_slice(&68u16.to_be_bytes());
                of(to, (0x0800, ip4(four.0, four.1, 17, &content)))
            }),
            ("another EtherType", of(to, (0x88b5, vec![0; 46]))),
        ];
        for (what, frame) in &refused {
            assert!(!arrives(frame.clone()), "{what}, br_netfilter {on}");
        }
        // What the list prevents, and not something else: without the last rules most of it arrives.
        host.end();
        let dropping = [("bridge pontoon bridge_egress", 2), ("inet pontoon forward_egress", 1)];
        for (chain, count) in dropping {
            assert_eq!(host.remove_rules(chain, "not in the egress list"), count);
        }
        for what in ["another port behind options", "another protocol", "its link-local address", "DHCP to one host"] {
            let (_, frame) = refused.iter().find(|(name, _)| *name == what).unwrap();
            assert!(arrives(frame.clone()), "{what} is stopped by something else, br_netfilter {on}");
        }
        host.begin();
        wait_for("the rules are repaired", || !arrives(of(to, datagram(four.0, four.1, OTHER))));
    }
}

/// Whether anything but address resolution arrives at a container.
fn seen(at: &Container, act: impl FnOnce()) -> bool {
    at.run("nft delete table netdev seen 2>/dev/null; nft 'add table netdev seen; add chain netdev seen c { type filter hook ingress device eth0 priority 500; }'");
    at.run("nft 'add rule netdev seen c ether type arp accept; add rule netdev seen c ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept; add rule netdev seen c ip6 hoplimit 1 accept; add rule netdev seen c counter'");
    act();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let text = at.run("nft list table netdev seen");
    !text.contains("packets 0 ")
}

#[test]
fn the_host_is_no_way_around_a_list_and_nothing_passes_before_it_is_in_force() {
    let mut host = Host::start(&[]);
    let one = Network::new("one", 1).option("pontoon.policy", "deny-egress");
    host.create(&one);
    let leaves = |outside: &Netns, act: &dyn Fn()| {
        outside.run("nft delete table netdev sight_out 2>/dev/null || true");
        Sight::new(outside, "out", "ip saddr { 192.0.2.1, 10.1.0.0/24 } ip protocol { tcp, udp }").sees(act)
    };
    let a = host.container_with(&one, 2, &[Publish::new(6, 8080, 80)]);
    serve(&a);
    // The first packets of its life.
    let ask = || drop((a.ask(UDP, "192.0.2.2:80"), a.ask(TCP, "192.0.2.2:80")));
    assert!(!leaves(&host.outside, &ask));
    assert!(host.outside.ask(TCP, "192.0.2.1:8080").is_some(), "it answers");
    let service = host.netns.enter(|| UdpSocket::bind("[::]:7070").unwrap());
    service.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    let received = || service.recv_from(&mut [0; 64]).is_ok();
    let bridge = host.run(&format!("ip -o link show dev {}", one.bridge()));
    let gateway = mac_of(bridge.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap());
    let bridge6 = host.run(&format!("ip -6 -o addr show dev {} scope link", one.bridge()));
    let bridge6 = bridge6.split_whitespace().find(|word| word.starts_with("fe80")).unwrap().split('/').next().unwrap();
    for (own, peer) in [
        ("10.1.0.2", "10.1.0.1"),
        ("10.1.0.2", "192.0.2.1"),
        ("fd00:1::2", "fd00:1::1"),
        ("fd00:1::2", "2001:db8::1"),
        (link_local(&a).as_str(), bridge6),
        ("::", "fd00:1::1"),
        ("0.0.0.0", "10.1.0.1"),
    ] {
        let (kind, content) = datagram(own, peer, 7070);
        send(&a, "eth0", &[frame(gateway, mac_of(&a.first.mac), kind, &content)]);
        assert!(!received(), "from {own} to {peer}");
    }
    // Another program removes everything, with Pontoon and without it.
    host.run("nft flush ruleset");
    wait_for("the list is in force again", || !leaves(&host.outside, &ask));
    host.end();
    host.run("nft flush ruleset");
    assert!(leaves(&host.outside, &ask), "this is what the list prevents");
    host.begin();
    wait_for("the list is in force again", || !leaves(&host.outside, &ask));
    host.end();
    assert!(!leaves(&host.outside, &ask), "while Pontoon does not run");
}

#[test]
fn a_list_that_could_not_be_enforced_is_refused_by_name() {
    let host = Host::start(&[]);
    host.run("ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up");
    let create = |network: Network| host.call("NetworkDriver.CreateNetwork", &network.body()).unwrap_err();
    let on_parent = |key, value| Network::new("two", 2).option("parent", "lan0").option(key, value);
    for (mode, value) in [("macvlan_mode", "bridge"), ("ipvlan_mode", "l2"), ("ipvlan_mode", "l3")] {
        for (key, list) in [("pontoon.policy", "deny"), (EGRESS, "any")] {
            let text = create(on_parent(mode, value).option(key, list));
            assert!(text.contains(key) && text.contains("remove it"), "{mode}={value}: {text}");
        }
    }
    let text = create(Network::new("two", 2).option("pontoon.ingress.allow", "tcp:443@api.example.com"));
    assert!(text.contains("api.example.com") && text.contains("only in pontoon.egress.allow"), "{text}");
    let text = create(Network::new("two", 2).option(EGRESS, "dns+tcp:443"));
    assert!(text.contains(EGRESS) && text.contains("at character 5"), "{text}");
    let one = Network::new("one", 1).option("pontoon.spoofcheck", "false");
    host.create(&one);
    host.create(&Network::new("three", 3));
    let endpoint = |n: u8, network: &str, key: &str, value: &str| {
        let interface = json!({"Address": format!("10.{n}.0.2/24"), "AddressIPv6": "", "MacAddress": ""});
        let body = json!({"NetworkID": network, "EndpointID": "e", "Options": {key: value}, "Interface": interface});
        host.call("NetworkDriver.CreateEndpoint", &body).unwrap_err()
    };
    let text = endpoint(1, "one", EGRESS, "any");
    assert!(text.contains("pontoon.spoofcheck=false"), "{text}");
    // Names: where the host is not the gateway, and with more ranges of ports than the firewall shall have.
    host.run("ip link add br-mine type bridge; ip link set br-mine up");
    host.create(&Network::new("four", 4).option("com.docker.network.bridge.name", "br-mine"));
    let text = endpoint(4, "four", EGRESS, "tcp:443@api.example.com");
    assert!(text.contains("api.example.com") && text.contains("gateway is this host"), "{text}");
    let ports = |from: u16| (0..30).map(|n| (from + 2 * n).to_string()).collect::<Vec<_>>().join("/");
    let list = [1000, 2000, 3000].map(|from| format!("tcp:{}@api.example.com", ports(from))).join("+");
    let text = endpoint(3, "three", EGRESS, &list);
    assert!(text.contains("90 different ranges"), "{text}");
    for (value, said) in [("db+a b", "pontoon.group"), ("", "pontoon.group"), (&vec!["db"; 17].join("+"), "up to 16")] {
        let text = endpoint(3, "three", "pontoon.group", value);
        assert!(text.contains(said), "{text}");
    }
    // Members on other hosts are not known.
    host.create(&Network::new("five", 5).option("pontoon.vni", "70000"));
    for (key, value) in [("pontoon.group", "db"), ("pontoon.ingress.allow", "group:db")] {
        let text = endpoint(5, "five", key, value);
        assert!(text.contains(key) && text.contains("overlay networks"), "{text}");
    }
}
