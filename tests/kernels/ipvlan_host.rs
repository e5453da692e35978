//! `pontoon.host` on ipvlan networks: the host and its containers reach each other, and containers publish ports.

use testkit::{Node, Segment, Signal, wait_until};

use crate::engine::{SOON, binary, on_host};

const HOST: &str = "192.168.77.11";

#[test]
fn the_host_and_its_ipvlan_containers_reach_each_other() {
    on_host(|segment, node| {
        let uplink = || node.exec(&["sh", "-c", "ip -d link show eth0; ip address show eth0; ip route"]).ok();
        let before = uplink();
        node.start_pontoon(&binary(), &[]);
        let lan = [
            "--subnet 192.168.77.0/24 --gateway 192.168.77.254 --ip-range 192.168.77.64/26",
            "--aux-address host=192.168.77.120",
            "--ipv6 --subnet fd77::/64 --gateway fd77::ffff --ip-range fd77::1:0/112 --aux-address host6=fd77::1:f0",
        ]
        .join(" ");
        let own = ["192.168.77.120", "fd77::1:f0"];
        with_published_port(segment, node, "l2", &lan, &own);
        // Layer 3: the segment has no route to the containers, but reaches published ports.
        for mode in ["l3", "l3s"] {
            let subnet = "--subnet 10.60.0.0/24 --aux-address host=10.60.0.250";
            with_published_port(segment, node, mode, subnet, &["10.60.0.250"]);
        }
        at_the_addresses_of_the_host(node, "l3");
        assert_eq!(uplink(), before, "the parent and the routes are as before");
        node.kill_pontoon(Signal::Term);
    });
}

fn create(node: &Node, mode: &str, host: &str, more: &str) {
    let text = format!(
        "docker network create -d pontoon -o parent=eth0 -o ipvlan_mode={mode} -o pontoon.host={host} {more} net"
    );
    node.exec(&["sh", "-c", &text]).ok();
}

fn remove(node: &Node) {
    node.docker(&["rm", "-f", "one"]).ok();
    node.docker(&["network", "rm", "net"]).ok();
    wait_until(SOON, "the host link to be deleted", || {
        node.exec(&["ip", "-o", "link", "show", "type", "ipvlan"]).ok().is_empty()
    });
}

/// The address of a container.
fn of_container(node: &Node, v6: bool) -> String {
    let address = node.container_addr("one", "net");
    if v6 { address.v6.expect("IPv6").to_string() } else { address.v4.expect("IPv4").to_string() }
}

/// The host has addresses of its own on the network.
fn with_published_port(segment: &Segment, node: &Node, mode: &str, subnets: &str, own: &[&str]) {
    create(node, mode, &own.join(","), subnets);
    node.run_container("one", &["--network", "net", "-p", "8080:80"]);
    node.exec_in("one", &["httpd", "-p", "80", "-h", "/etc"]).ok();
    let reach = |when: &str| {
        for host in own {
            let container = of_container(node, host.contains(':'));
            wait_until(SOON, &format!("{mode}: the container {container} by the host, {when}"), || {
                node.exec(&["ping", "-c1", "-W1", &container]).success()
            });
            node.ping_soon("one", host);
        }
        let fetched = ["curl", "-sf", "--max-time", "3", "-o", "/dev/null", "http://192.168.77.11:8080/hosts"];
        wait_until(SOON, &format!("{mode}: the published port by the segment, {when}"), || {
            segment.exec(&fetched).success()
        });
        wait_until(SOON, &format!("{mode}: the published port on the host, {when}"), || {
            node.exec(&["curl", "-sf", "--max-time", "3", "-o", "/dev/null", "http://127.0.0.1:8080/hosts"]).success()
        });
    };
    reach("at first");
    // The host itself is reached as before: its address is not that of a child.
    assert!(segment.exec(&["ping", "-c1", "-W2", HOST]).success(), "{mode}");
    if mode == "l2" {
        let link = node.exec(&["sh", "-c", "ip -o link show type ipvlan | grep -o 'pnts[^@]*'"]).ok();
        node.exec(&["ip", "link", "del", link.trim()]).ok();
        reach("after its host link was deleted");
    }
    remove(node);
}

/// The host has no address on the network: packets to any of its addresses are routed to it.
fn at_the_addresses_of_the_host(node: &Node, mode: &str) {
    create(node, mode, "true", "--subnet 10.60.0.0/24");
    node.run_container("one", &["--network", "net"]);
    let container = of_container(node, false);
    wait_until(SOON, &format!("{mode}: the container by the host"), || {
        node.exec(&["ping", "-c1", "-W1", &container]).success()
    });
    node.ping_soon("one", HOST);
    remove(node);
}
