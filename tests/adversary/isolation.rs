//! Containers of a network with `enable_icc=false`: the host must not route between them what their bridge ports block.

use crate::host::{Attached, Container, Host, Network, Publish};
use crate::packet::{Sight, frame, ip4, mac_of, send, udp};
use testkit::netns::Netns;
use testkit::topology::{TCP, UDP, ask, serve};

const ICC: &str = "com.docker.network.bridge.enable_icc";
const NAME: &str = "com.docker.network.bridge.name";
const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";

/// The rules that isolate them, and their chains: the specific ones, and the one that closes every network.
const GUARDS: [(&str, &str); 3] = [
    ("forward_isolated", "isolated containers, routed"),
    ("forward_isolated", "isolated containers on a user's bridge"),
    ("forward_filter", "all other traffic into a network"),
];

fn bridges_call_iptables(host: &Host, on: bool) {
    for family in ["ip", "ip6"] {
        host.run(&format!("echo {} > /proc/sys/net/bridge/bridge-nf-call-{family}tables", u8::from(on)));
    }
}

/// Sends from `attacker` to `address` via `gateway` with every protocol; whether anything arrives at `victim`.
fn arrives(attacker: &Netns, victim: &Netns, address: &str, gateway: &str) -> bool {
    let (ip, bits) = if address.contains(':') { ("ip -6", 128) } else { ("ip", 32) };
    let count =
        "nft add table inet count; nft 'add chain inet count in { type filter hook prerouting priority -400; }'";
    victim.run(&format!(
        "nft delete table inet count 2>/dev/null; {count}; nft add rule inet count in meta l4proto '{{ icmp, icmpv6, tcp, udp }}' icmpv6 type != '{{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-query, mld2-listener-report, mld-listener-report }}' counter; nft add rule inet count in meta l4proto '{{ icmp, tcp, udp }}' counter"
    ));
    // The attacker ignores redirects to other gateways.
    attacker.run("sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv6.conf.eth0.accept_redirects=0");
    attacker.run(&format!("{ip} route flush cache; {ip} route replace {address}/{bits} via {gateway}"));
    let at = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
    attacker.run(&format!("ping -n -c 1 -W 1 {address} || true"));
    for protocol in [TCP, UDP] {
        attacker.ask(protocol, &at);
    }
    attacker.run(&format!("{ip} route del {address}/{bits} via {gateway}"));
    let chain = victim.run("nft list chain inet count in");
    chain.lines().any(|line| line.contains("counter packets ") && !line.contains("counter packets 0 "))
}

/// A host, a network with isolated containers, and two of them.
fn apart(network: &Network) -> (Host, Container, Container) {
    let host = Host::start(&[]);
    if network.options.iter().any(|(key, _)| *key == NAME) {
        let n = network.n;
        host.run(&format!("ip link add lan0 type bridge; ip addr add 10.{n}.0.1/24 dev lan0; ip link set lan0 up"));
        host.run(&format!("ip addr add fd00:{n}::1/64 dev lan0 nodad; sysctl -qw net.ipv6.conf.lan0.accept_dad=0"));
    }
    host.create(network);
    let (a, b) = (host.container(network, 2), host.container(network, 3));
    serve(&b);
    for container in [&a, &b] {
        assert!(container.pings(&format!("10.{}.0.1", network.n)), "the gateway");
        assert!(container.pings(&format!("fd00:{}::1", network.n)), "the gateway");
    }
    (host, a, b)
}

/// Tries every path from `a` to `b` via the host's addresses `gateways`: all are closed, and open without the guards.
fn closed(host: &mut Host, a: &Container, b: &Container, gateways: &[[&str; 2]]) {
    let ways = |host: &Host, open: bool| {
        for called in [false, true] {
            bridges_call_iptables(host, called);
            for [four, six] in gateways {
                for (address, gateway) in [(&b.first.v4, four), (&b.first.v6, six)] {
                    let came = arrives(a, b, address, gateway);
                    assert_eq!(came, open, "{address} by {gateway}, bridges call iptables: {called}");
                }
            }
        }
    };
    ways(host, false);
    host.end();
    let removed: usize =
        GUARDS.iter().map(|(chain, guard)| host.remove_rules(&format!("inet pontoon {chain}"), guard)).sum();
    assert!(removed >= 4, "{removed}");
    ways(host, true);
    host.begin();
    ways(host, false);
}

#[test]
fn the_host_routes_nothing_between_isolated_containers() {
    let network = Network::new("apart", 1).option(ICC, "false");
    let (mut host, a, b) = apart(&network);
    // A second address of the bridge also serves as gateway, as does a proxy ARP address.
    host.run(&format!("ip addr add 10.1.0.250/24 dev {0}; ip addr add fd00:1::250/64 dev {0} nodad", network.bridge()));
    host.run(&format!(
        "sysctl -qw net.ipv4.conf.{0}.proxy_arp=1 net.ipv4.conf.{0}.proxy_arp_pvlan=1",
        network.bridge()
    ));
    assert!(a.pings("10.1.0.250") && a.pings("fd00:1::250"), "second gateways");
    assert!(!a.pings("10.1.0.3") && !a.pings("fd00:1::3"), "directly, or by proxy ARP of the host");
    closed(&mut host, &a, &b, &[["10.1.0.1", "fd00:1::1"], ["10.1.0.250", "fd00:1::250"]]);
}

#[test]
fn open_gateway_modes_keep_containers_isolated() {
    for mode in ["routed", "nat-unprotected"] {
        let network = Network::new("apart", 1).option(ICC, "false").option(MODE4, mode).option(MODE6, mode);
        let host = Host::start(&[]);
        host.create(&network);
        let a = host.container(&network, 2);
        let b = host.container_with(&network, 3, &[Publish::new(6, 8080, 80), Publish::new(17, 8080, 80)]);
        serve(&b);
        assert!(host.outside.pings("10.1.0.3") && host.outside.pings("fd00:1::3"), "{mode}: open from outside");
        for at in ["10.1.0.3:80", "[fd00:1::3]:80"] {
            assert!(
                [TCP, UDP].iter().all(|protocol| host.outside.ask(*protocol, at).is_some()),
                "{mode}: {at} is open"
            );
        }
        for called in [false, true] {
            bridges_call_iptables(&host, called);
            assert!(!arrives(&a, &b, "10.1.0.3", "10.1.0.1"), "{mode}, {called}");
            assert!(!arrives(&a, &b, "fd00:1::3", "fd00:1::1"), "{mode}, {called}");
        }
        let mut host = host;
        host.end();
        assert_eq!(host.remove_rules("inet pontoon forward_isolated", "isolated containers, routed"), 1);
        assert!(arrives(&a, &b, "10.1.0.3", "10.1.0.1") && arrives(&a, &b, "fd00:1::3", "fd00:1::1"), "{mode}: guard");
    }
}

#[test]
fn an_overlay_network_isolates_containers() {
    let network = Network::new("apart", 1).option(ICC, "false").option("pontoon.vni", "77");
    let (mut host, a, b) = apart(&network);
    assert!(host.run("ip -o link show type vxlan").contains("pntx"), "a tunnel");
    closed(&mut host, &a, &b, &[["10.1.0.1", "fd00:1::1"]]);
}

#[test]
fn a_user_bridge_isolates_containers_and_passes_other_traffic() {
    let network = Network::new("own", 5).option(ICC, "false").option(NAME, "lan0");
    let (mut host, a, b) = apart(&network);
    // Machines on the same bridge, one in the same subnet and one in a subnet that the host routes.
    let machine = |link: &str, address: &str, gateway: &str| {
        let netns = Netns::new();
        host.run(&format!(
            "ip link add {link} type veth peer name eth0 netns {}; ip link set {link} master lan0 up",
            netns.tid()
        ));
        netns.run(&format!("ip addr add {address} dev eth0; ip link set eth0 up; ip route add default via {gateway}"));
        netns
    };
    host.run("ip addr add 10.6.0.1/24 dev lan0");
    let (near, far) = (machine("vm0", "10.5.0.20/24", "10.5.0.1"), machine("vm1", "10.6.0.20/24", "10.6.0.1"));
    serve(&near);
    let others = |host: &Host| {
        for called in [false, true] {
            bridges_call_iptables(host, called);
            for machine in [&near, &far] {
                assert!(machine.pings("10.5.0.2") && machine.ask(TCP, "10.5.0.3:80").is_some(), "called: {called}");
            }
            assert!(a.ask(UDP, "10.5.0.20:80").is_some() && far.ask(TCP, "10.5.0.20:80").is_some(), "called: {called}");
        }
    };
    others(&host);
    closed(&mut host, &a, &b, &[["10.5.0.1", "fd00:5::1"]]);
    others(&host);
}

#[test]
fn a_second_network_of_the_attacker_gives_no_path() {
    let mut host = Host::start(&[]);
    let (one, two) = (Network::new("apart", 1).option(ICC, "false"), Network::new("other", 2));
    host.create(&one);
    host.create(&two);
    let (a, b) = (host.container(&one, 2), host.container(&one, 3));
    let _second: Attached = host.connect(&two, &a, "eth1", 2, &[], false);
    serve(&b);
    assert!(a.pings("10.2.0.1") && a.pings("fd00:2::1"));
    assert!(!arrives(&a, &b, "10.1.0.3", "10.2.0.1") && !arrives(&a, &b, "fd00:1::3", "fd00:2::1"));
    host.end();
    assert_eq!(host.remove_rules("inet pontoon forward_filter", "all other traffic into a network"), 1);
    assert!(arrives(&a, &b, "10.1.0.3", "10.2.0.1") && arrives(&a, &b, "fd00:1::3", "fd00:2::1"), "guard");
}

#[test]
fn a_siblings_published_port_is_reached_at_the_hosts_address() {
    let host = Host::start(&[]);
    let network = Network::new("apart", 1).option(ICC, "false");
    host.create(&network);
    let a = host.container(&network, 2);
    let b = host.container_with(&network, 3, &[Publish::new(6, 8080, 80), Publish::new(17, 8080, 80)]);
    serve(&b);
    bridges_call_iptables(&host, false);
    for protocol in [TCP, UDP] {
        for (server, by) in [
            ("192.0.2.1:8080", "10.1.0.1"),
            ("10.1.0.1:8080", "10.1.0.1"),
            ("[2001:db8::1]:8080", "fd00:1::1"),
            ("[fd00:1::1]:8080", "fd00:1::1"),
        ] {
            assert_eq!(a.ask(protocol, server).as_deref(), Some(by), "{server}");
        }
        assert_eq!(host.netns.enter(|| ask(protocol, "10.1.0.3:80")).as_deref(), Some("10.1.0.1"), "from the host");
        assert_eq!(a.ask(protocol, "192.0.2.1:80"), None, "unpublished");
    }
    assert!(!arrives(&a, &b, "10.1.0.3", "10.1.0.1"), "the same port at the container's address");
}

/// Established connections are accepted early. A container of an internal network whose packets are not checked can send
/// what looks like a part of another container's connection: it must not leave, nor come in as a reply.
#[test]
fn an_internal_network_cannot_use_the_connections_of_others() {
    let (open, inside) = (Network::new("open", 1), Network::new("inside", 2).internal());
    let mut host = Host::start(&[]);
    host.create(&open);
    host.create(&inside);
    let one = host.container(&open, 2);
    let attacker = host.container_of(&inside, 2, &[("pontoon.spoofcheck", "false")]);
    serve(&host.outside);
    let gateway = |host: &Host, network: &Network| {
        let link = host.run(&format!("ip -o link show dev {}", network.bridge()));
        mac_of(link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect(&link))
    };
    let datagram = |host: &Host, from: &Container, network: &Network| {
        let packet = ip4("10.1.0.2", "192.0.2.2", 17, &udp("10.1.0.2", "192.0.2.2", 80));
        send(&from.netns, "eth0", &[frame(gateway(host, network), mac_of(&from.first.mac), 0x0800, &packet)]);
    };
    let seen = Sight::new(&host.outside, "forged", "udp dport 80");
    for called in [false, true] {
        bridges_call_iptables(&host, called);
        // The answer makes the connection an established one.
        assert!(seen.sees(|| datagram(&host, &one, &open)), "its own container");
        assert!(!seen.sees(|| datagram(&host, &attacker, &inside)), "bridges call iptables: {called}");
        assert!(host.run("nft list chain inet pontoon forward_internal").contains("out of an internal network"));
    }
    host.end();
    assert_eq!(host.remove_rules("inet pontoon forward_internal", "out of an internal network"), 1);
    let seen = Sight::new(&host.outside, "unguarded", "udp dport 80");
    assert!(seen.sees(|| datagram(&host, &attacker, &inside)), "without the guard");
}
