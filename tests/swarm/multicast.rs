//! Multicasts and broadcasts on a network reach the other hosts, or stay on their host if the network disables them.

use crate::cluster::{Cluster, SOON};
use testkit::{Node, Output, wait_until};

const MDNS: &str = include_str!("mdns.pl");

/// The command that runs another one in a container's network.
fn within(node: &Node, container: &str) -> Vec<String> {
    let pid = node.docker(&["inspect", "--format", "{{.State.Pid}}", container]).ok();
    ["nsenter", "-t", &pid, "-n"].map(str::to_owned).into()
}

fn run(node: &Node, container: &str, command: &[&str]) -> Output {
    let within = within(node, container);
    let all: Vec<&str> = within.iter().map(String::as_str).chain(command.iter().copied()).collect();
    node.exec(&all)
}

/// A container on `one` gets answers of the one on `two`: to an mDNS query, and to pings to all nodes.
#[track_caller]
pub fn assert_received(cluster: &Cluster, here: &str, there: &str, address: &str, families: &[&str]) {
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    run(two, there, &["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0"]).ok();
    let within = within(two, there);
    let knows: Vec<&str> = within.iter().map(String::as_str).chain(["perl", "-e", MDNS, "know", address]).collect();
    let _knows = two.spawn(&knows);
    for family in families {
        assert_eq!(run(one, here, &["perl", "-e", MDNS, "ask", family]).ok(), address, "mDNS over IPv{family}");
    }
    let link = run(two, there, &["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]).ok();
    for family in families {
        let (group, expected) = match *family {
            "4" => ("224.0.0.1", address),
            _ => {
                ("ff02::1%eth0", link.split_whitespace().nth(3).and_then(|a| a.split('/').next()).expect("an address"))
            }
        };
        wait_until(SOON, &format!("{expected} to answer pings to {group}"), || {
            let output = run(one, here, &["ping", "-n", "-c", "3", "-i", "0.3", "-W", "1", group]);
            output.stdout.contains(&format!("from {expected}"))
        });
    }
}

/// Between plain engines, with IPv6; and a network without multicast between hosts.
pub fn between_plain_engines(cluster: &Cluster) {
    for (name, vni, quiet) in [("loud", "4343", "true"), ("quiet", "4344", "false")] {
        for (node, peer, range) in [("one", "192.168.77.12", "32"), ("two", "192.168.77.11", "64")] {
            let subnet = |last: &str| format!("10.{}.0.{last}", if name == "loud" { 43 } else { 44 });
            let (v4, range) = (subnet("0/24"), subnet(&format!("{range}/27")));
            let (vni, peers) = (format!("pontoon.vni={vni}"), format!("pontoon.peers={peer}"));
            let multicast = format!("pontoon.multicast={quiet}");
            let v6 = format!("fd{}::/64", &vni[vni.len() - 2..]);
            let options = ["-o", &vni, "-o", &peers, "-o", &multicast, "--ipv6", "--subnet", &v6];
            let start = ["network", "create", "-d", "pontoon", "--subnet", &v4, "--ip-range", &range];
            let node = cluster.node(node);
            node.docker(&[&start[..], &options, &[name]].concat()).ok();
        }
    }
    let ends = [("one", "here", 2), ("two", "there", 3)];
    for (node, container, last) in ends {
        // IPv6 addresses are not divided between the hosts, so they are specified.
        cluster.node(node).run_container(container, &["--network", "loud", "--ip6", &format!("fd43::{last}")]);
        let also = format!("also-{container}");
        cluster.node(node).run_container(&also, &["--network", "quiet", "--ip6", &format!("fd44::{last}")]);
    }
    let address = |container: &str, network: &str| {
        cluster.node("two").container_addr(container, network).v4.expect("an address").to_string()
    };
    assert_received(cluster, "here", "there", &address("there", "loud"), &["4", "6"]);

    let one = cluster.node("one");
    let quiet = address("also-there", "quiet");
    run(one, "also-here", &["ping", "-n", "-c", "2", "-i", "0.2", "ff02::1%eth0"]);
    let chain = one.exec(&["nft", "list", "chain", "bridge", "pontoon", "postrouting_tunnel"]).ok();
    assert!(!chain.contains("counter packets 0 "), "nothing was dropped: {chain}");
    one.ping_soon("also-here", &quiet);
    one.ping_soon("also-here", "fd44::3");

    let refused = one.docker(&["network", "create", "-d", "pontoon", "-o", "pontoon.multicast=false", "net"]).err();
    assert!(refused.contains("pontoon.vni"), "{refused}");
    for (node, container, _) in ends {
        let node = cluster.node(node);
        node.docker(&["rm", "-f", container, &format!("also-{container}")]).ok();
        node.docker(&["network", "rm", "loud", "quiet"]).ok();
    }
}

/// In a Swarm, on the network of the page.
pub fn in_a_swarm(cluster: &Cluster) {
    for (node, container) in [("one", "here"), ("two", "there")] {
        cluster.node(node).run_container(container, &["--network", "fleet"]);
    }
    let there = cluster.node("two").container_addr("there", "fleet").v4.expect("an address").to_string();
    assert_received(cluster, "here", "there", &there, &["4"]);
    cluster.node("one").docker(&["rm", "-f", "here"]).ok();
    cluster.node("two").docker(&["rm", "-f", "there"]).ok();
}
