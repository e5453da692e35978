//! `pontoon.host=true`: the host and its macvlan containers reach each other at the host's own addresses, and
//! containers publish ports, without visible effects for other stations.

use std::time::Duration;

use testkit::testbed::{SOON, Testbed, binary};
use testkit::{Node, Options, Segment, Signal, wait_until};

const LAN: [&str; 17] = [
    "--subnet",
    "192.168.77.0/24",
    "--gateway",
    "192.168.77.254",
    "--ip-range",
    "192.168.77.64/26",
    "--ipv6",
    "--subnet",
    "fd77::/64",
    "--gateway",
    "fd77::ffff",
    "--ip-range",
    "fd77::1:0/112",
    "-o",
    "parent=eth0",
    "-o",
    "pontoon.host=true",
];

/// The node's own addresses.
fn addresses_of(node: &Node) -> Vec<String> {
    let text = node.exec(&["ip", "-oneline", "address", "show", "dev", "eth0", "scope", "global"]).ok();
    let addresses: Vec<_> =
        text.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()).map(str::to_owned).collect();
    assert_eq!(addresses.len(), 2, "one of each family: {text}");
    addresses
}

/// The MAC addresses that a station of the network learns for the node, with a new request each time.
fn learned(segment: &Segment, addresses: &[String]) -> Vec<String> {
    let mut macs = Vec::new();
    for _ in 0..6 {
        segment.exec(&["ip", "neigh", "flush", "all"]);
        for address in addresses {
            segment.exec(&["ping", "-c1", "-W1", address]).ok();
            let entry = segment.exec(&["ip", "neigh", "show", address]).ok();
            let mac = entry.split("lladdr ").nth(1).and_then(|rest| rest.split(' ').next());
            macs.push(mac.unwrap_or_else(|| panic!("an entry of {address}: {entry:?}")).to_owned());
        }
    }
    macs.sort();
    macs.dedup();
    macs
}

/// Counts ARP replies about the node's address with another MAC address: of two answers, a kernel may accept either.
fn count_wrong_answers(segment: &Segment, address: &str, mac: &str) {
    let chain = format!(
        "table arp watch {{ chain in {{ type filter hook input priority 0; arp operation reply arp saddr ip {address} \
         arp saddr ether != {mac} counter; }} ; }}"
    );
    segment.exec(&["nft", &chain]).ok();
}

fn wrong_answers(segment: &Segment) -> String {
    segment.exec(&["nft", "list", "table", "arp", "watch"]).ok()
}

fn links(node: &Node) -> String {
    node.exec(&["ip", "-oneline", "link", "show", "type", "macvlan"]).ok()
}

#[test]
fn the_host_and_its_containers_on_a_parent_reach_each_other() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    let own = addresses_of(&node);
    let mac = node.exec(&["cat", "/sys/class/net/eth0/address"]).ok().trim().to_owned();
    let uplink = || {
        let text = node.exec(&["sh", "-c", "ip -oneline address show eth0; ip route; ip -6 route show dev eth0"]).ok();
        text.replace(" tentative", "")
    };
    let before = uplink();
    // New links inherit this setting, with which they would ignore requests of containers.
    node.exec(&["sysctl", "-qw", "net.ipv4.conf.default.arp_ignore=1"]).ok();
    node.start_pontoon(&binary(), &[]);
    let testbed = Testbed::new(&node, "pontoon");
    testbed.network("lan", &LAN);
    testbed.run_container("web", &["--network", "lan", "-p", "8080:80", "-p", "9090:90/udp"]);
    testbed.run_container("two", &["--network", "lan"]);
    testbed.serve("web", 80);
    let addresses = |container| {
        let address = testbed.container_addr(container, "lan");
        [address.v4.expect("IPv4").to_string(), address.v6.expect("IPv6").to_string()]
    };
    let reaches_all = || {
        for container in ["web", "two"] {
            for address in addresses(container) {
                wait_until(SOON, &format!("the host to reach {address}"), || testbed.host_pings(&address));
            }
            for address in own.iter().map(String::as_str).chain(["192.168.77.254", "fd77::ffff"]) {
                testbed.ping_soon(container, address);
            }
        }
        testbed.names("two", "-4", "web");
        // From the host, from the network, and from another container.
        for at in ["127.0.0.1:8080", &format!("{}:8080", own[0]), &format!("[{}]:8080", own[1])] {
            testbed.host_gets(at);
            if !at.starts_with("127") {
                testbed.gets("two", at);
                assert!(
                    segment
                        .exec(&["curl", "-sf", "--globoff", "-o", "/dev/null", "-m5", &format!("http://{at}/hosts")])
                        .success(),
                    "from the network: {at}"
                );
            }
        }
    };
    reaches_all();
    let doctor = testbed.exec(&["/lab/pontoon", "doctor", "--docker=/lab/docker.sock"]);
    assert!(doctor.success(), "{doctor}");
    // No station learns the MAC address of the host link, for any setting of rp_filter.
    count_wrong_answers(&segment, &own[0], &mac);
    for rp_filter in ["0", "1", "2"] {
        node.exec(&["sysctl", "-qw", &format!("net.ipv4.conf.all.rp_filter={rp_filter}")]).ok();
        assert_eq!(learned(&segment, &own), std::slice::from_ref(&mac), "rp_filter={rp_filter}");
        for address in own.iter() {
            testbed.ping_soon("two", address);
        }
    }
    node.exec(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"]).ok();
    let counted = wrong_answers(&segment);
    assert!(counted.contains("counter packets 0 "), "{counted}");
    // The host does not route for the containers: packets for other networks are dropped.
    testbed.network("inner", &["--subnet", "10.66.0.0/24"]);
    testbed.run_container("hidden", &["--network", "inner"]);
    let hidden = testbed.container_addr("hidden", "inner").v4.expect("IPv4").to_string();
    let inside = "ip route add 10.66.0.0/24 via";
    let container = testbed.inspect("two")["State"]["Pid"].as_u64().expect("a process").to_string();
    node.exec(&["sh", "-c", &format!("nsenter -t {container} -n {inside} {}", own[0])]).ok();
    assert!(!testbed.ping("two", &hidden), "through the host");
    // Stopped and started again, without the plugin and with its next process.
    let link = links(&node);
    assert!(link.contains("pnts"), "{link}");
    node.kill_pontoon(Signal::Kill);
    assert!(testbed.host_pings(&addresses("two")[0]));
    node.start_pontoon(&binary(), &[]);
    assert_eq!(links(&node), link);
    reaches_all();
    // Deleted by another program.
    let name = link.split(": ").nth(1).and_then(|rest| rest.split('@').next()).expect("a name").to_owned();
    node.exec(&["ip", "link", "del", &name]).ok();
    wait_until(SOON, "the host link to be restored", || testbed.host_pings(&addresses("two")[0]));
    reaches_all();
    // The host gets another address, and loses it.
    node.exec(&["ip", "address", "add", "192.168.77.33/24", "dev", "eth0"]).ok();
    testbed.ping_soon("two", "192.168.77.33");
    assert_eq!(learned(&segment, &["192.168.77.33".to_owned()]), std::slice::from_ref(&mac));
    node.exec(&["ip", "address", "del", "192.168.77.33/24", "dev", "eth0"]).ok();
    wait_until(SOON, "the host link to lose the address", || !testbed.ping("two", "192.168.77.33"));
    testbed.ping_soon("two", &own[0]);
    // The first of two addresses of a subnet is removed, and the parent keeps the second.
    let copied =
        || node.exec(&["sh", "-c", "ip -oneline address show | grep pnts | grep -o '192.168.99.[0-9]*/' | xargs"]).ok();
    node.exec(&[
        "sysctl",
        "-qw",
        "net.ipv4.conf.eth0.promote_secondaries=1",
        "net.ipv4.conf.default.promote_secondaries=0",
    ])
    .ok();
    for address in ["192.168.99.1/24", "192.168.99.2/24"] {
        node.exec(&["ip", "address", "add", address, "dev", "eth0"]).ok();
    }
    wait_until(SOON, "both addresses on the host link", || copied().trim() == "192.168.99.1/ 192.168.99.2/");
    let link = links(&node).split(": ").nth(1).and_then(|rest| rest.split('@').next()).expect("a name").to_owned();
    node.exec(&["sysctl", "-qw", &format!("net.ipv4.conf.{link}.promote_secondaries=0")]).ok();
    node.exec(&["ip", "address", "del", "192.168.99.1/24", "dev", "eth0"]).ok();
    wait_until(Duration::from_secs(10), "the second address alone", || copied().trim() == "192.168.99.2/");
    node.exec(&["ip", "address", "del", "192.168.99.2/24", "dev", "eth0"]).ok();
    testbed.docker(&["restart", "-t", "1", "two"]).ok();
    reaches_all();
    testbed.sweep_names(&["web", "two", "hidden"], &["lan", "inner"]);
    wait_until(SOON, "all macvlan links to be deleted", || links(&node).is_empty());
    assert_eq!(uplink(), before, "the parent and the routes are as before");
}

#[test]
fn a_parent_that_appears_late_gets_its_host_link() {
    let node = Options::new().up();
    let parent = |verb: &str| {
        match verb {
        "add" => node.exec(&["sh", "-c", "ip link add name p0 type veth peer name p1 && ip link set p0 up && ip link set p1 up && ip address add 192.168.88.1/24 dev p0"]).ok(),
        _ => node.exec(&["ip", "link", "del", "p0"]).ok(),
    }
    };
    parent("add");
    node.start_pontoon(&binary(), &[]);
    let testbed = Testbed::new(&node, "pontoon");
    testbed.network(
        "lan",
        &[
            "--subnet",
            "192.168.88.0/24",
            "--gateway",
            "192.168.88.254",
            "--ip-range",
            "192.168.88.64/26",
            "-o",
            "parent=p0",
            "-o",
            "pontoon.host=true",
        ],
    );
    testbed.network("inner", &["--subnet", "10.66.0.0/24"]);
    testbed.run_container("other", &["--network", "inner"]);
    testbed.run_container("one", &["--network", "lan"]);
    let one = testbed.container_addr("one", "lan").v4.expect("IPv4").to_string();
    wait_until(SOON, "the host to reach the container", || testbed.host_pings(&one));
    // As after a reboot: the parent appears while Pontoon already runs.
    testbed.docker(&["stop", "-t", "1", "one"]).ok();
    node.kill_pontoon(Signal::Kill);
    parent("del");
    node.start_pontoon(&binary(), &[]);
    assert!(links(&node).is_empty());
    let message = testbed.docker(&["start", "one"]).err();
    assert!(message.contains("p0"), "the message names the parent: {message}");
    testbed.ping_soon("other", "10.66.0.1");
    parent("add");
    wait_until(SOON, "the host link", || links(&node).contains("pnts"));
    testbed.docker(&["start", "one"]).ok();
    let one = testbed.container_addr("one", "lan").v4.expect("IPv4").to_string();
    wait_until(SOON, "the host to reach the container again", || testbed.host_pings(&one));
    testbed.sweep_names(&["one", "other"], &["lan", "inner"]);
}
