//! The fast path with packets: which frames bypass the bridge of an overlay network and the host's firewall there,
//! which do not, and how the rules are created, lost and restored.

use std::collections::BTreeSet;

use pontoon::datapath::fastpath::Leftover;
use pontoon::datapath::{FastPath, Kernel, ObjectKind, Protected, Step, diff};
use pontoon::linux::LinuxKernel;
use pontoon::model::Mac;

use crate::overlay::{Container, Host, hosts};
use testkit::netns::*;
use testkit::topology::{TCP, UDP, ip};

fn network() -> FastPath {
    FastPath::Network { tunnel: name("pntxover"), gateway: Mac::derive("bridge", "over") }
}

/// The fast path of container `id` with address .N; without addresses if its source is not validated.
fn port(id: &str, n: Option<u32>) -> FastPath {
    let addresses = n.map(|n| [ip(&format!("10.9.0.{n}")), ip(&format!("fd09::{n}"))]);
    let addresses = addresses.into_iter().flatten().collect();
    FastPath::Port { tunnel: name("pntxover"), port: veth(id, "pntbover").0, mac: Mac::derive("peer", id), addresses }
}

pub fn change(kernel: &LinuxKernel, add: &[FastPath], remove: &[FastPath]) {
    kernel.apply(&[Step::FastPath { add: add.to_vec(), remove: remove.to_vec() }]).unwrap();
}

pub fn held(kernel: &LinuxKernel) -> BTreeSet<FastPath> {
    observe(kernel).fastpath.unwrap()
}

/// Repairs the fast path to exactly these entries. Returns the steps that it took.
pub fn mend(kernel: &LinuxKernel, all: &BTreeSet<FastPath>, what: &str) -> Vec<Step> {
    let have = observe(kernel);
    let mut want = have.clone();
    want.fastpath = Some(all.clone());
    let plan = diff(&have, &want, &Protected::default());
    kernel.apply(&plan.steps).unwrap();
    assert_eq!(held(kernel), *all, "after {what}");
    plan.steps
}

/// The host's firewall drops all bridged frames, which it sees as with Docker.
fn close(host: &Host) {
    host.netns.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1");
    host.netns.run(
        "nft 'add table inet theirs; add chain inet theirs f { type filter hook forward priority 0; policy drop; }'",
    );
}

fn open(host: &Host) {
    host.netns.run("nft delete table inet theirs");
}

/// Two hosts, `a` (.11) and `c` (.13) on the first and `b` (.12) on the second, all with a fast path and resolved
/// neighbours; both firewalls closed.
fn checked_topology() -> (Vec<Host>, [Container; 3]) {
    let hosts = hosts(2, false);
    let containers = [(0, "a", 11), (1, "b", 12), (0, "c", 13)].map(|(host, id, n)| {
        let container = hosts[host].container(id, n);
        hosts[host].do_in(|kernel| change(kernel, &[network(), port(id, Some(n))], &[]));
        container
    });
    for (from, to) in [(0, 12), (0, 13), (1, 13)] {
        for subnet in ["10.9.0.", "fd09::"] {
            assert!(containers[from].netns.pings(&format!("{subnet}{to}")), "{from} to {to}");
        }
    }
    // Neighbour discovery would use the closed bridges.
    for container in &containers {
        let known = "ip neigh show dev eth0 nud reachable nud stale nud delay nud probe";
        container.netns.run(&format!(
            "{known} | while read a l m rest; do ip neigh replace $a lladdr $m dev eth0 nud permanent; done"
        ));
    }
    hosts.iter().for_each(close);
    (hosts, containers)
}

#[test]
fn frames_between_containers_bypass_the_bridge() {
    in_netns(|_| {
        let (hosts, [a, b, c]) = checked_topology();
        for container in [&a, &b, &c] {
            testkit::topology::serve(&container.netns);
        }
        for (from, to, who) in [(&a, 12, 11), (&b, 11, 12), (&a, 13, 11), (&b, 13, 12)] {
            assert_eq!(from.netns.ask(TCP, &format!("10.9.0.{to}:80")), Some(format!("10.9.0.{who}")));
            assert_eq!(from.netns.ask(UDP, &format!("10.9.0.{to}:80")), Some(format!("10.9.0.{who}")));
            assert_eq!(from.netns.ask(TCP, &format!("[fd09::{to}]:80")), Some(format!("fd09::{who}")));
            assert!(from.netns.pings(&format!("10.9.0.{to}")));
        }
        let full = "ping -n -c 1 -W 2 -M do -s 1372 10.9.0.12";
        assert!(a.netns.enter(|| succeeds(full)), "as large as the network's MTU");
        // Without the fast path, everything uses the bridges, which are closed.
        for (host, id, n) in [(0, "a", 11), (1, "b", 12), (0, "c", 13)] {
            hosts[host].do_in(|kernel| change(kernel, &[], &[port(id, Some(n))]));
        }
        hosts.iter().for_each(|host| host.do_in(|kernel| change(kernel, &[], &[network()])));
        assert!(!a.netns.pings("10.9.0.12") && !a.netns.pings("10.9.0.13"));
        hosts.iter().for_each(open);
        assert!(a.netns.pings("10.9.0.12") && a.netns.pings("10.9.0.13"));
    });
}

#[test]
fn unvalidated_frames_use_the_bridge() {
    in_netns(|_| {
        let (hosts, [a, _b, c]) = checked_topology();
        let ping =
            |from: &Container, options: &str| from.netns.enter(|| succeeds(&format!("ping -n -c 1 -W 1 {options}")));
        assert!(ping(&a, "10.9.0.12") && ping(&a, "10.9.0.13"));
        // Neighbour discovery is ICMPv6, which uses the bridge.
        assert!(!ping(&a, "fd09::12"), "ICMPv6");
        a.netns.run("ip addr add 10.9.0.99/24 dev eth0");
        assert!(!ping(&a, "-I 10.9.0.99 10.9.0.12") && !ping(&a, "-I 10.9.0.99 10.9.0.13"), "another's address");
        // The gateway is the bridge: forwarded packets are filtered by the firewall, its own are not.
        assert!(ping(&a, "10.9.0.1"));
        // Packets of another host's gateway, which has the same addresses, do not arrive.
        let own = Mac::derive("peer", "a");
        hosts[1].netns.run(&format!("ip neigh replace 10.9.0.11 lladdr {own} dev pntbover nud permanent"));
        let came = |to: &Container| {
            let counts = to.netns.run("grep ^Udp: /proc/net/snmp | tail -1");
            counts.split(' ').nth(2).unwrap().parse::<u64>().unwrap()
        };
        let before = came(&a);
        for (from, arrives) in [(&hosts[1], 0), (&hosts[0], 1)] {
            from.netns.enter(|| {
                let socket = std::net::UdpSocket::bind("10.9.0.1:0").unwrap();
                socket.send_to(b"x", "10.9.0.11:9999").unwrap();
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(came(&a) - before, arrives);
        }
        let (c_mac, before) = (Mac::derive("peer", "c"), came(&c));
        for (mac, arrives) in [("02:00:00:00:00:99".to_owned(), 0), (own.to_string(), 1)] {
            a.netns.run(&format!(
                "ip link set eth0 address {mac}; ip neigh replace 10.9.0.13 lladdr {c_mac} dev eth0 nud permanent"
            ));
            a.netns.enter(|| {
                let socket = std::net::UdpSocket::bind("10.9.0.11:0").unwrap();
                socket.send_to(b"x", "10.9.0.13:9999").unwrap();
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(came(&c) - before, arrives, "from {mac}");
        }
        // A container without source validation sends through the bridge.
        hosts[0].do_in(|kernel| change(kernel, &[port("a", None)], &[port("a", Some(11))]));
        assert!(!ping(&a, "10.9.0.13") && !ping(&c, "10.9.0.11"));
        hosts.iter().for_each(open);
        assert!(ping(&a, "10.9.0.13") && ping(&c, "10.9.0.11"));
    });
}

/// A container moves with its MAC address, as only a user-defined one does.
#[test]
fn a_moved_container_is_found_at_its_new_host() {
    in_netns(|_| {
        let (hosts, [a, b, _c]) = checked_topology();
        hosts.iter().for_each(open);
        let (host, mut pair) = veth("b2", "pntbover");
        pair.peer_mac = Some(Mac::derive("peer", "b"));
        hosts[1].do_in(|kernel| {
            change(kernel, &[], &[port("b", Some(12))]);
            kernel.apply(&[Step::Delete(veth("b", "pntbover").0, ObjectKind::Veth)]).unwrap();
            settle(kernel);
        });
        drop(b);
        // First to the other host, without source validation: only its own frames tell where it is.
        let unchecked = FastPath::Port {
            tunnel: name("pntxover"),
            port: host.clone(),
            mac: Mac::derive("peer", "b"),
            addresses: BTreeSet::new(),
        };
        hosts[0].do_in(|kernel| {
            kernel.apply(&[Step::create(host.clone(), pair.clone())]).unwrap();
            change(kernel, std::slice::from_ref(&unchecked), &[]);
        });
        let moved = Netns::new();
        hosts[0].netns.enter(|| moved.take(pair.peer.as_str(), "10.9.0.12/24", "10.9.0.1"));
        assert!(moved.pings("10.9.0.11"), "frames from the moved container");
        assert!(a.netns.pings("10.9.0.12"), "frames to the moved container");
        // Then with source validation, there and back again.
        let checked = match &unchecked {
            FastPath::Port { tunnel, port, mac, .. } => FastPath::Port {
                tunnel: tunnel.clone(),
                port: port.clone(),
                mac: *mac,
                addresses: [ip("10.9.0.12")].into(),
            },
            other => other.clone(),
        };
        hosts[0].do_in(|kernel| change(kernel, std::slice::from_ref(&checked), std::slice::from_ref(&unchecked)));
        hosts.iter().for_each(close);
        assert!(a.netns.pings("10.9.0.12"));
    });
}

#[test]
fn fast_paths_are_created_lost_and_restored() {
    in_netns(|_| {
        let (hosts, _containers) = checked_topology();
        let all = BTreeSet::from([network(), port("a", Some(11)), port("c", Some(13))]);
        hosts[0].do_in(|kernel| {
            assert_eq!(held(kernel), all);
            let mend = |what: &str| mend(kernel, &all, what);
            assert_eq!(mend("nothing"), []);
            // Repeated, and a repeated removal.
            for _ in 0..2 {
                change(kernel, &[network(), port("a", Some(11)), port("c", Some(13))], &[]);
                assert_eq!(held(kernel), all);
            }
            for _ in 0..2 {
                change(kernel, &[], &[port("c", Some(13))]);
                assert_eq!(held(kernel), [network(), port("a", Some(11))].into());
            }
            mend("removal");
            // Another address, while the chain of the previous one is missing.
            run(&format!("nft delete chain netdev pontoon {}", veth("a", "pntbover").0));
            change(kernel, &[port("a", Some(15))], &[port("a", Some(11))]);
            assert_eq!(held(kernel), [network(), port("a", Some(15)), port("c", Some(13))].into());
            change(kernel, &[port("a", Some(11))], &[port("a", Some(15))]);
            // A port of a network without a tunnel.
            let elsewhere = FastPath::Port {
                tunnel: name("pntxnone"),
                port: veth("a", "pntbover").0,
                mac: Mac::derive("peer", "a"),
                addresses: [ip("10.9.0.11")].into(),
            };
            change(kernel, &[elsewhere], &[]);
            assert_eq!(held(kernel), all);
            let end = veth("a", "pntbover").0;
            let mac = Mac::derive("peer", "a");
            for damage in [
                "nft delete table netdev pontoon".to_owned(),
                "nft flush ruleset".to_owned(),
                format!("nft flush chain netdev pontoon {end}"),
                format!("nft delete chain netdev pontoon {end}"),
                "nft flush chain netdev pontoon pntxover_on".to_owned(),
                "nft delete chain netdev pontoon pntxover".to_owned(),
                format!("nft 'delete element netdev pontoon pntxover_here {{ {mac} }}'"),
                format!("nft 'delete element netdev pontoon pntxover_here {{ {mac} }}; add element netdev pontoon pntxover_here {{ {mac} : \"lo\" }}'"),
                "nft 'add element netdev pontoon pntxover_here { 02:00:00:00:00:77 : \"lo\" }'".to_owned(),
                "nft 'add chain netdev pontoon more; add map netdev pontoon some_here { type ether_addr : iface_index; }'".to_owned(),
                "nft add set netdev pontoon some_thing '{ type ether_addr; }'".to_owned(),
                "nft 'delete table netdev pontoon; add table netdev pontoon'".to_owned(),
            ] {
                run(&damage);
                assert_ne!(held(kernel), all, "{damage}");
                assert!(!mend(&damage).is_empty());
            }
            // A tunnel that is created again, and a removed container with a leftover entry.
            let tunnel = observe(kernel).vxlans()[&name("pntxover")].clone();
            kernel.apply(&[Step::Delete(name("pntxover"), ObjectKind::Vxlan), Step::create(name("pntxover"), tunnel)]).unwrap();
            settle(kernel);
            assert!(!held(kernel).contains(&network()));
            mend("a new tunnel");
            kernel.apply(&[Step::Delete(veth("c", "pntbover").0, ObjectKind::Veth)]).unwrap();
            settle(kernel);
            let place = FastPath::Leftover(Leftover::Place("pntxover".to_owned(), Mac::derive("peer", "c")));
            let mut left = held(kernel);
            // Kernels from 6.16 on keep the chain, too.
            left.remove(&FastPath::Leftover(Leftover::Chain(veth("c", "pntbover").0.as_str().to_owned())));
            assert_eq!(left, [network(), port("a", Some(11)), place].into());
            change(kernel, &[], &[port("c", Some(13))]);
            assert_eq!(held(kernel), [network(), port("a", Some(11))].into());
            change(kernel, &[], &[port("a", Some(11)), network()]);
            assert_eq!(held(kernel), [].into());
            assert_eq!(run("nft list table netdev pontoon").matches("chain").count(), 0);
        });
    });
}

/// The commands printed by `pontoon plan` have the effect of Pontoon's steps, once and twice.
#[test]
fn the_printed_commands_have_the_same_effect() {
    in_netns(|_| {
        let (hosts, [a, _b, _c]) = checked_topology();
        hosts[0].do_in(|kernel| {
            let wholes = [network(), port("a", Some(11)), port("c", Some(13))];
            let other = [network(), port("a", Some(15)), port("c", None)];
            let broken = FastPath::Leftover(Leftover::Network("pntxold".to_owned()));
            for damage in [
                "nft delete table netdev pontoon",
                "nft add map netdev pontoon pntxold_here '{ type ether_addr : iface_index; }'",
            ] {
                run(damage);
                assert!(damage.contains("delete") || held(kernel).contains(&broken));
                for all in [&wholes, &other, &wholes] {
                    let have = observe(kernel);
                    let mut want = have.clone();
                    want.fastpath = Some(all.iter().cloned().collect());
                    let steps = diff(&have, &want, &Protected::default()).steps;
                    let script = steps.iter().flat_map(|step| kernel.commands(step)).collect::<Vec<_>>().join("\n");
                    for _ in 0..2 {
                        run(&format!("set -e\n{script}"));
                        assert_eq!(held(kernel), all.iter().cloned().collect(), "{script}");
                    }
                }
            }
            let gone = Step::FastPath { add: vec![], remove: [&wholes[1..], &wholes[..1]].concat() };
            let script = kernel.commands(&gone).join("\n");
            assert!(a.netns.pings("10.9.0.13"));
            for _ in 0..2 {
                run(&format!("set -e\n{script}"));
                assert_eq!(held(kernel), [].into(), "{script}");
            }
            assert!(!a.netns.pings("10.9.0.13"), "frames pass the closed bridge");
        });
    });
}

/// The text with the link indices of a kernel without default tunnels (tunl0, sit0 ...) in each namespace.
fn numbered(text: &str) -> String {
    let links = ["pntxover", "pntha", "pnthc"].map(|link| run(&format!("ip -o link show dev {link} | cut -d : -f 1")));
    // The network's name is followed by the index of its link, or of the port.
    let words = ["network", "port", "port"].map(|word| format!("\"{word} pntxover "));
    let mut text = text.to_owned();
    for ((word, link), number) in words.iter().zip(&links).zip([4, 6, 8]) {
        text = text.replace(&format!("{word}{} ", link.trim()), &format!("{word}#{number} "));
    }
    text.replace("pntxover #", "pntxover ")
}

/// As an administrator reads it.
#[test]
fn the_table_equals_the_golden_file() {
    in_netns(|_| {
        let (hosts, _containers) = checked_topology();
        let text = hosts[0].do_in(|kernel| {
            change(kernel, &[port("c", None)], &[port("c", Some(13))]);
            let text = run("nft flush set netdev pontoon pntxover_there; nft list table netdev pontoon");
            run(&format!("nft delete table netdev pontoon; nft -c -f - <<'EOF'\n{text}\nEOF"));
            numbered(&text)
        });
        testkit::golden::file("tests/golden/fastpath.txt", &text);
    });
}
