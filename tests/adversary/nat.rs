//! Published ports of containers on several networks, and foreign NAT rules beside Pontoon's.

use crate::host::{Container, Host, Network, Publish};
use testkit::netns::{Netns, wait_for};
use testkit::topology::{TCP, UDP, ask, serve};

const NAME: &str = "com.docker.network.bridge.name";
const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const WEB: [Publish; 2] = [
    Publish { protocol: 6, host_address: "", host_port: 8080, container_port: 80 },
    Publish { protocol: 17, host_address: "", host_port: 8080, container_port: 80 },
];

fn bridges_call_iptables(host: &Host, on: bool) {
    for family in ["ip", "ip6"] {
        host.run(&format!("echo {} > /proc/sys/net/bridge/bridge-nf-call-{family}tables", u8::from(on)));
    }
}

/// Clients at these addresses are answered over TCP and UDP, with and without br_netfilter, and the server sees them as
/// `by`.
#[track_caller]
fn answered(host: &Host, client: &Netns, ways: &[(&str, &str)]) {
    for called in [false, true] {
        bridges_call_iptables(host, called);
        for protocol in [TCP, UDP] {
            for (server, by) in ways {
                let seen = client.ask(protocol, server);
                assert_eq!(seen.as_deref(), Some(*by), "{protocol:?} {server}, bridges call iptables: {called}");
            }
        }
    }
}

#[track_caller]
fn silent(client: &Netns, servers: &[&str]) {
    for protocol in [TCP, UDP] {
        for server in servers {
            assert_eq!(client.ask(protocol, server), None, "{protocol:?} {server}");
        }
    }
}

/// A server on `front`, which provides its default route and ports, and on `back`; and a client on `back`.
fn server_on_two(host: &Host, front: &Network, back: &Network) -> (Container, Container) {
    host.create(front);
    host.create(back);
    let server = host.container_with(front, 3, &WEB);
    host.connect(back, &server, "eth1", 3, &WEB, false);
    let client = host.container(back, 2);
    serve(&server);
    assert!(client.pings(&format!("10.{}.0.3", back.n)) && client.pings(&format!("fd00:{}::3", back.n)));
    assert!(server.pings(&format!("fd00:{}::1", front.n)));
    (server, client)
}

const FROM_TWO: [(&str, &str); 4] = [
    ("192.0.2.1:8080", "10.1.0.1"),
    ("10.2.0.1:8080", "10.1.0.1"),
    ("[2001:db8::1]:8080", "fd00:1::1"),
    ("[fd00:2::1]:8080", "fd00:1::1"),
];

#[test]
fn a_container_on_two_networks_is_reached_at_its_port_from_both_of_them() {
    for (options, checked) in [(vec![], true), (vec![("pontoon.spoofcheck", "false")], false)] {
        let mut host = Host::start(&[]);
        let (mut front, mut back) = (Network::new("one", 1), Network::new("two", 2));
        front.options.clone_from(&options);
        back.options.clone_from(&options);
        let (server, client) = server_on_two(&host, &front, &back);
        answered(&host, &client, &FROM_TWO);
        // From the network of its default route, from itself, from outside, and from the host via every address.
        let sibling = host.container(&front, 2);
        answered(&host, &sibling, &[("192.0.2.1:8080", "10.1.0.1"), ("[2001:db8::1]:8080", "fd00:1::1")]);
        answered(&host, &server, &[("192.0.2.1:8080", "10.1.0.1"), ("[2001:db8::1]:8080", "fd00:1::1")]);
        answered(&host, &host.outside, &[("192.0.2.1:8080", "192.0.2.2"), ("[2001:db8::1]:8080", "2001:db8::2")]);
        answered(
            &host,
            &host.netns,
            &[
                ("192.0.2.1:8080", "192.0.2.1"),
                ("127.0.0.1:8080", "10.1.0.1"),
                ("10.1.0.1:8080", "10.1.0.1"),
                ("10.2.0.1:8080", "10.1.0.1"),
                ("[2001:db8::1]:8080", "2001:db8::1"),
                ("[fd00:2::1]:8080", "fd00:1::1"),
            ],
        );
        // A client on both networks, whichever route it uses.
        let both = host.container(&back, 4);
        host.connect(&front, &both, "eth1", 4, &[], false);
        answered(&host, &both, &FROM_TWO);
        // Without the rules the connection hangs. With br_netfilter a bridged answer is translated as well, unless its
        // source is validated.
        bridges_call_iptables(&host, checked);
        host.end();
        for guard in ["to published ports", "between networks"] {
            assert!(host.remove_rules("inet pontoon postrouting_nat", guard) > 0);
        }
        silent(&client, &["192.0.2.1:8080", "[2001:db8::1]:8080"]);
        if checked {
            silent(&host.netns, &["10.2.0.1:8080", "[fd00:2::1]:8080"]);
        }
    }
}

#[test]
fn published_ports_are_reached_from_every_kind_of_network() {
    for (kind, option) in [
        ("routed", [(MODE4, "routed"), (MODE6, "routed")]),
        ("no masquerading", [("com.docker.network.bridge.enable_ip_masquerade", "false"), (MODE4, "nat")]),
        ("a chosen address", [("com.docker.network.host_ipv4", "192.0.2.1"), (MODE4, "nat")]),
        ("an overlay", [("pontoon.vni", "77"), (MODE4, "nat")]),
        ("without icc", [("com.docker.network.bridge.enable_icc", "false"), (MODE4, "nat")]),
    ] {
        eprintln!("{kind}");
        let host = Host::start(&[]);
        let (front, mut back) = (Network::new("one", 1), Network::new("two", 2));
        back.options = option.to_vec();
        host.create(&front);
        host.create(&back);
        let server = host.container_with(&front, 3, &WEB);
        host.connect(&back, &server, "eth1", 3, &WEB, false);
        let client = host.container(&back, 2);
        serve(&server);
        assert!(client.pings("10.2.0.1") && client.pings("fd00:2::1") && server.pings("fd00:1::1"));
        answered(&host, &client, &FROM_TWO);
        answered(&host, &host.netns, &[("10.2.0.1:8080", "10.1.0.1"), ("[fd00:2::1]:8080", "fd00:1::1")]);
    }
}

#[test]
fn a_port_reached_without_translation_answers() {
    for mode in ["nat-unprotected", "routed"] {
        let host = Host::start(&[]);
        let front = Network::new("one", 1).option(MODE4, mode).option(MODE6, mode);
        let (_server, client) = server_on_two(&host, &front, &Network::new("two", 2));
        answered(&host, &client, &[("10.1.0.3:80", "10.1.0.1"), ("[fd00:1::3]:80", "fd00:1::1")]);
        if mode == "nat-unprotected" {
            answered(&host, &client, &FROM_TWO);
        }
    }
}

#[test]
fn allowed_sources_match_the_original_address() {
    let host = Host::start(&[]);
    let front = Network::new("one", 1).option("pontoon.publish.allow", "192.0.2.0/24,10.2.0.2/32,fd00:2::2/128");
    let (_server, client) = server_on_two(&host, &front, &Network::new("two", 2));
    answered(&host, &client, &FROM_TWO);
    let other = host.container(&Network::new("two", 2), 9);
    assert!(other.pings("10.2.0.1"));
    silent(&other, &["192.0.2.1:8080", "10.2.0.1:8080", "[2001:db8::1]:8080"]);
}

#[test]
fn a_port_on_the_hosts_loopback_address_is_closed_to_neighbours() {
    let host = Host::start(&[]);
    let (front, back) = (Network::new("one", 1), Network::new("two", 2));
    host.create(&front);
    host.create(&back);
    let ports = WEB.map(|port| Publish { host_address: "127.0.0.1", ..port });
    let server = host.container_with(&front, 3, &ports);
    host.connect(&back, &server, "eth1", 3, &ports, false);
    let client = host.container(&back, 2);
    serve(&server);
    assert!(client.pings("10.2.0.1"));
    client.run(
        "ip route del local 127.0.0.0/8 table local; ip route add 127.0.0.1/32 via 10.2.0.1; ip addr flush dev lo",
    );
    silent(&client, &["192.0.2.1:8080", "10.2.0.1:8080", "127.0.0.1:8080"]);
    assert_eq!(host.netns.enter(|| ask(TCP, "127.0.0.1:8080")).as_deref(), Some("10.1.0.1"));
}

#[test]
fn a_network_of_the_bridge_driver_is_a_neighbour_too() {
    let host = Host::start(&[]);
    host.create(&Network::new("one", 1));
    host.run("ip link add br-0123456789ab type bridge; ip addr add 10.7.0.1/24 dev br-0123456789ab");
    host.run("ip addr add fd00:7::1/64 dev br-0123456789ab nodad; ip link set br-0123456789ab up");
    let attach = |container: &Netns, n: u8, link: &str| {
        host.run(&format!("ip link add th{n} type veth peer name {link} netns {}", container.tid()));
        host.run(&format!("ip link set th{n} master br-0123456789ab up"));
        container.run(&format!("ip addr add 10.7.0.{n}/24 dev {link}; ip addr add fd00:7::{n}/64 dev {link} nodad"));
        container.run(&format!("ip link set {link} up"));
    };
    let server = host.container_with(&Network::new("one", 1), 3, &WEB);
    attach(&server, 3, "eth1");
    let client = Netns::new();
    attach(&client, 2, "eth0");
    client.run("ip route add default via 10.7.0.1; ip route add default via fd00:7::1");
    serve(&server);
    assert!(client.pings("10.7.0.3") && client.pings("fd00:7::3") && server.pings("fd00:1::1"));
    wait_for("the bridge to be known", || {
        host.run("nft list set inet pontoon container_bridges").contains("br-0123456789ab")
    });
    answered(
        &host,
        &client,
        &[
            ("192.0.2.1:8080", "10.1.0.1"),
            ("10.7.0.1:8080", "10.1.0.1"),
            ("[2001:db8::1]:8080", "fd00:1::1"),
            ("[fd00:7::1]:8080", "fd00:1::1"),
        ],
    );
}

#[test]
fn a_user_bridge_has_neighbours_and_machines_keep_their_address() {
    let host = Host::start(&[]);
    host.run("ip link add lan0 type bridge; ip addr add 10.5.0.1/24 dev lan0; ip link set lan0 up");
    host.run("ip addr add fd00:5::1/64 dev lan0 nodad");
    let (ours, own) = (Network::new("one", 1), Network::new("own", 5).option(NAME, "lan0"));
    host.create(&ours);
    host.create(&own);
    let server = host.container_with(&ours, 3, &WEB);
    host.connect(&own, &server, "eth1", 3, &WEB, false);
    serve(&server);
    let client = host.container(&own, 2);
    let other = WEB.map(|port| Publish { host_port: 8081, ..port });
    let sibling = host.container_with(&own, 4, &other);
    host.connect(&ours, &sibling, "eth1", 4, &other, false);
    serve(&sibling);
    let neighbour = host.container(&ours, 2);
    assert!(client.pings("fd00:5::3") && sibling.pings("fd00:5::1") && neighbour.pings("fd00:1::3"));
    let ports = [("192.0.2.1:8080", "10.1.0.1"), ("10.5.0.1:8080", "10.1.0.1"), ("[2001:db8::1]:8080", "fd00:1::1")];
    answered(&host, &client, &ports);
    answered(&host, &client, &[("192.0.2.1:8081", "10.5.0.1"), ("[2001:db8::1]:8081", "fd00:5::1")]);
    answered(&host, &neighbour, &[("192.0.2.1:8081", "10.5.0.1"), ("[2001:db8::1]:8081", "fd00:5::1")]);
    answered(&host, &host.netns, &[("10.5.0.1:8080", "10.1.0.1"), ("10.1.0.1:8081", "10.5.0.1")]);
    // A machine that is not a container keeps its address; its server is on one network only.
    let machine = Netns::new();
    host.run(&format!(
        "ip link add vm0 type veth peer name eth0 netns {}; ip link set vm0 master lan0 up",
        machine.tid()
    ));
    machine.run("ip addr add 10.5.0.20/24 dev eth0; ip link set eth0 up; ip route add default via 10.5.0.1");
    let alone = host.container_with(&ours, 6, &WEB.map(|port| Publish { host_port: 8082, ..port }));
    serve(&alone);
    assert!(machine.pings("10.5.0.1") && alone.pings("10.1.0.1"));
    answered(&host, &machine, &[("192.0.2.1:8082", "10.5.0.20")]);
}

/// An operator's NAT rule: the script, and the expected result.
struct ForeignRule {
    what: &'static str,
    iptables: &'static str,
    nft: &'static str,
    /// Source, destination, and the expected peer address.
    expected: &'static [(&'static str, &'static str, &'static str)],
}

/// Container .2 publishes 8080 without a server; container .3 and the host serve.
const FOREIGN_RULES: [ForeignRule; 5] = [
    ForeignRule {
        what: "another source address",
        iptables: "IPT -t nat -A POSTROUTING -s 10.1.0.0/24 -o up0 -j SNAT --to-source 192.0.2.50
                   IPT6 -t nat -A POSTROUTING -s fd00:1::/64 -o up0 -j SNAT --to-source 2001:db8::50",
        nft: "chain post { type nat hook postrouting priority srcnat + PRIO;
              ip saddr 10.1.0.0/24 oifname up0 snat ip to 192.0.2.50
              ip6 saddr fd00:1::/64 oifname up0 snat ip6 to 2001:db8::50; }",
        expected: &[("b", "192.0.2.2:80", "192.0.2.50"), ("b", "[2001:db8::2]:80", "2001:db8::50")],
    },
    ForeignRule {
        what: "no other source address",
        iptables: "IPT -t nat -I POSTROUTING -s 10.1.0.0/24 -d 192.0.2.2 -j NETMAP --to 10.1.0.0/24
                   IPT6 -t nat -I POSTROUTING -s fd00:1::/64 -d 2001:db8::2 -j NETMAP --to fd00:1::/64",
        nft: "chain post { type nat hook postrouting priority srcnat + PRIO;
              ip saddr 10.1.0.0/24 ip daddr 192.0.2.2 snat ip prefix to 10.1.0.0/24
              ip6 saddr fd00:1::/64 ip6 daddr 2001:db8::2 snat ip6 prefix to fd00:1::/64; }",
        expected: &[("b", "192.0.2.2:80", "10.1.0.3"), ("b", "[2001:db8::2]:80", "fd00:1::3")],
    },
    ForeignRule {
        what: "a published port redirected to the host",
        iptables: "IPT -t nat -A PREROUTING -i up0 -p tcp --dport 8080 -j REDIRECT --to-ports 80
                   IPT -t nat -A PREROUTING -i up0 -p udp --dport 8080 -j REDIRECT --to-ports 80
                   IPT6 -t nat -A PREROUTING -i up0 -p tcp --dport 8080 -j REDIRECT --to-ports 80
                   IPT6 -t nat -A PREROUTING -i up0 -p udp --dport 8080 -j REDIRECT --to-ports 80",
        nft: "chain pre { type nat hook prerouting priority dstnat + PRIO;
              iifname up0 meta l4proto { tcp, udp } th dport 8080 redirect to :80; }",
        expected: &[("outside", "192.0.2.1:8080", "192.0.2.2"), ("outside", "[2001:db8::1]:8080", "2001:db8::2")],
    },
    ForeignRule {
        what: "a published port redirected to another container",
        iptables: "IPT -t nat -A PREROUTING -i up0 -p tcp --dport 8080 -j DNAT --to-destination 10.1.0.3:80
                   IPT -t nat -A PREROUTING -i up0 -p udp --dport 8080 -j DNAT --to-destination 10.1.0.3:80
                   IPT6 -t nat -A PREROUTING -i up0 -p tcp --dport 8080 -j DNAT --to-destination [fd00:1::3]:80
                   IPT6 -t nat -A PREROUTING -i up0 -p udp --dport 8080 -j DNAT --to-destination [fd00:1::3]:80",
        nft: "chain pre { type nat hook prerouting priority dstnat + PRIO;
              iifname up0 meta nfproto ipv4 meta l4proto { tcp, udp } th dport 8080 dnat ip to 10.1.0.3:80
              iifname up0 meta nfproto ipv6 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:1::3]:80; }",
        expected: &[("outside", "192.0.2.1:8080", "192.0.2.2"), ("outside", "[2001:db8::1]:8080", "2001:db8::2")],
    },
    ForeignRule {
        what: "a published port redirected for the host",
        iptables: "IPT -t nat -A OUTPUT -d 192.0.2.1 -p tcp --dport 8080 -j DNAT --to-destination 10.1.0.3:80
                   IPT -t nat -A OUTPUT -d 192.0.2.1 -p udp --dport 8080 -j DNAT --to-destination 10.1.0.3:80
                   IPT6 -t nat -A OUTPUT -d 2001:db8::1 -p tcp --dport 8080 -j DNAT --to-destination [fd00:1::3]:80
                   IPT6 -t nat -A OUTPUT -d 2001:db8::1 -p udp --dport 8080 -j DNAT --to-destination [fd00:1::3]:80",
        nft: "chain out { type nat hook output priority OUT;
              ip daddr 192.0.2.1 meta l4proto { tcp, udp } th dport 8080 dnat ip to 10.1.0.3:80
              ip6 daddr 2001:db8::1 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:1::3]:80; }",
        expected: &[("host", "192.0.2.1:8080", "192.0.2.1"), ("host", "[2001:db8::1]:8080", "2001:db8::1")],
    },
];

#[test]
fn foreign_nat_rules_take_precedence_in_any_start_order() {
    for tool in ["iptables-nft", "iptables-legacy", "nft", "firewalld's place"] {
        for ours_first in [true, false] {
            let mut host = Host::without_daemon();
            host.run("ip addr add 192.0.2.50/32 dev up0; ip addr add 2001:db8::50/128 dev up0 nodad");
            // The kernel's hooks of both families are registered before or after Pontoon's.
            let prepare = match tool {
                "nft" | "firewalld's place" => String::from(
                    "nft add table inet early; nft 'add chain inet early p { type nat hook prerouting priority dstnat; }'",
                ),
                tool => format!("{tool} -t nat -S; ip6tables{} -t nat -S", tool.trim_start_matches("iptables")),
            };
            if ours_first {
                host.begin();
            } else {
                host.run(&prepare);
                let theirs: String =
                    FOREIGN_RULES.iter().map(|theirs| script(tool, theirs)).collect::<Vec<_>>().join("\n");
                host.run(&theirs);
                undo(&host, tool);
                host.begin();
            }
            let network = Network::new("one", 1);
            host.create(&network);
            let _a = host.container_with(&network, 2, &WEB);
            let b = host.container(&network, 3);
            for server in [&host.netns, &host.outside, &b.netns] {
                serve(server);
            }
            assert!(b.pings("192.0.2.2") && b.pings("2001:db8::2"));
            for theirs in &FOREIGN_RULES {
                if !ours_first {
                    // The foreign chains also have to be older.
                    host.end();
                    host.run("nft delete table inet pontoon");
                }
                host.run(&script(tool, theirs));
                if !ours_first {
                    host.begin();
                }
                for (from, server, by) in theirs.expected {
                    let client = match *from {
                        "b" => &b.netns,
                        "outside" => &host.outside,
                        _ => &host.netns,
                    };
                    for protocol in [TCP, UDP] {
                        let seen = client.ask(protocol, server);
                        let case = format!("{tool}, ours first: {ours_first}, {}: {protocol:?} {server}", theirs.what);
                        assert_eq!(seen.as_deref(), Some(*by), "{case}");
                    }
                }
                undo(&host, tool);
            }
            // Without them, Pontoon's rules apply.
            assert_eq!(b.ask(TCP, "192.0.2.2:80").as_deref(), Some("192.0.2.1"));
        }
    }
}

fn script(tool: &str, theirs: &ForeignRule) -> String {
    match tool {
        "nft" => nft(theirs, "0"),
        "firewalld's place" => nft(theirs, "10"),
        tool => {
            let six = tool.replace("iptables", "ip6tables");
            format!("set -e\n{}", theirs.iptables.replace("IPT6", &six).replace("IPT", tool))
        }
    }
}

fn nft(theirs: &ForeignRule, priority: &str) -> String {
    // nft has no priority name for a nat output chain.
    let out = if priority == "0" { "-100" } else { "-90" };
    let rules = theirs.nft.replace("PRIO", priority).replace("OUT", out).replace("; }", "\n}");
    format!("nft -f - <<'EOF'\ntable inet theirs {{\n{rules}\n}}\nEOF")
}

fn undo(host: &Host, tool: &str) {
    match tool {
        "nft" | "firewalld's place" => host.run("nft delete table inet theirs"),
        tool => host.run(&format!("{tool} -t nat -F; {} -t nat -F", tool.replace("iptables", "ip6tables"))),
    };
}
