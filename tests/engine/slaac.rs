//! Containers whose IPv6 addresses are formed with the prefix of a router of the local network: dnsmasq, in a network
//! namespace of its own behind a bridge of the user.

use std::net::Ipv6Addr;

use testkit::testbed::{SOON, Testbed, binary, text};
use testkit::{Options, Process, Signal, wait_until};

/// The bridge `br-lan`, and the namespace `lan` with the router's link.
const NETWORK: &str = "set -e
    ip link add br-lan type bridge forward_delay 0; ip link set br-lan up
    ip netns add lan
    ip link add lan0 type veth peer name eth0 netns lan; ip link set lan0 master br-lan up
    ip -n lan link set lo up; ip -n lan address add 192.168.61.1/24 dev eth0
    ip -n lan address add 2001:db8:61::1/64 dev eth0 nodad; ip -n lan address add 2001:db8:62::1/64 dev eth0 nodad
    ip -n lan link set eth0 up";

/// A router that announces these ranges, and gives IPv4 addresses by DHCP.
fn router(testbed: &Testbed, ranges: &[&str]) -> Process {
    let mut command = vec!["ip", "netns", "exec", "lan", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"];
    command.extend(["--user=root", "--port=0", "--pid-file=/tmp/dnsmasq.pid", "--dhcp-leasefile=/tmp/leases"]);
    command.extend(["--log-facility=-", "--no-ping", "--enable-ra", "--ra-param=eth0,mtu:1400,5,1800"]);
    command.push("--dhcp-range=192.168.61.100,192.168.61.199,1h");
    command.extend(ranges);
    let router = testbed.node.spawn(&command);
    wait_until(SOON, "the router to start", || router.log().contains("router advertisement on"));
    router
}

fn stop(testbed: &Testbed, router: Process) {
    testbed.exec(&["sh", "-c", "kill $(cat /tmp/dnsmasq.pid)"]).ok();
    drop(router);
}

/// The addresses and the hardware address that the engine shows.
fn shown(testbed: &Testbed, name: &str, network: &str) -> [String; 3] {
    let of = &testbed.inspect(name)["NetworkSettings"]["Networks"][network];
    ["IPAddress", "GlobalIPv6Address", "MacAddress"].map(|key| text(&of[key]).to_owned())
}

fn run(testbed: &Testbed, name: &str, network: &str, id: &str) -> [String; 3] {
    let on = format!("name={network},driver-opt=pontoon.dhcp.id={id}");
    testbed.run_container(name, &["--network", &on]);
    shown(testbed, name, network)
}

/// The address that a kernel forms.
fn formed(prefix: &str, mac: &str) -> String {
    let bytes: Vec<u8> = mac.split(':').map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let [a, b, c, d, e, f] = bytes[..] else { panic!("{mac}") };
    let mut octets = prefix.parse::<Ipv6Addr>().unwrap().octets();
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from(octets).to_string()
}

/// The global addresses in a container, as `ip` prints them.
fn inside(testbed: &Testbed, name: &str) -> String {
    testbed.exec_in(name, &["ip", "-6", "address", "show", "dev", "eth0", "scope", "global"]).ok()
}

#[test]
fn containers_have_one_address_with_the_prefix_of_the_router_and_keep_it() {
    let node = Options::new().full().up();
    node.start_pontoon(&binary(), &[]);
    let testbed = &Testbed::new(&node, "pontoon");
    testbed.exec(&["sh", "-c", NETWORK]).ok();
    let first = router(testbed, &["--dhcp-range=2001:db8:61::,ra-only,64"]);
    let on = ["--ipam-driver", "null", "-o", "pontoon.dhcp=4,slaac", "-o", "com.docker.network.bridge.name=br-lan"];
    testbed.network("lan", &on);

    // The engine shows the address that the container's kernel forms, and the container has no other one.
    let one = run(testbed, "one", "lan", "one");
    let [v4, v6, mac] = &one;
    assert_eq!(*v6, formed("2001:db8:61::", mac));
    assert!(v4.starts_with("192.168.61."), "{v4}");
    let has_route = || testbed.exec_in("one", &["ip", "-6", "route"]).ok().contains("default via fe80:");
    wait_until(SOON, "the route of the router", has_route);
    let addresses = inside(testbed, "one");
    assert!(addresses.matches("inet6").count() == 1 && addresses.contains(&format!("{v6}/64")), "{addresses}");
    assert_eq!(testbed.cat("one", "/sys/class/net/eth0/mtu").trim(), "1400");
    // From outside, and to outside.
    let ping = || testbed.exec(&["ip", "netns", "exec", "lan", "ping", "-6", "-c1", "-W1", v6]).success();
    wait_until(SOON, "an answer of the container", ping);
    testbed.ping_soon("one", "2001:db8:62::1");

    // The next process keeps it, and a container that starts again has it again.
    node.kill_pontoon(Signal::Kill);
    node.start_pontoon(&binary(), &[]);
    testbed.docker(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(shown(testbed, "one", "lan")[1], *v6);
    testbed.docker(&["rm", "-f", "one"]).ok();
    assert_eq!(run(testbed, "again", "lan", "one"), one);
    wait_until(SOON, "an answer of the container", ping);

    // Another host has the address that the next container would form: it gets another one.
    let taken = formed("2001:db8:61::", "02:00:00:00:00:09");
    testbed.exec(&["ip", "-n", "lan", "address", "add", &format!("{taken}/64"), "dev", "eth0", "nodad"]).ok();
    testbed.run_container("two", &["--network", "lan", "--mac-address", "02:00:00:00:00:09"]);
    let [_, two, _] = shown(testbed, "two", "lan");
    assert!(two.starts_with("2001:db8:61:") && two != taken, "{two}");
    testbed.ping_soon("two", "2001:db8:61::1");

    // The provider changes the prefix: it is told, and the container's kernel has the new one besides.
    stop(testbed, first);
    let renumbered = ["--dhcp-range=2001:db8:61::,ra-only,64,deprecated", "--dhcp-range=2001:db8:62::,ra-only,64"];
    let second = router(testbed, &renumbered);
    let is_lost = || {
        testbed.exec(&["/lab/pontoon", "leases"]).ok().lines().any(|line| line.contains(v6) && line.contains("lost"))
    };
    wait_until(SOON, "the renumbering to be told", is_lost);
    let events = testbed.exec(&["/lab/pontoon", "events"]).ok();
    let told = events.lines().filter(|line| line.contains(" lease ") && line.contains(v6) && line.contains("lost"));
    assert_eq!(told.count(), 1, "{events}");
    let new = formed("2001:db8:62::", mac);
    wait_until(SOON, "the kernel's own address", || inside(testbed, "again").contains(&new));
    wait_until(SOON, "the old one to be deprecated", || {
        inside(testbed, "again").lines().any(|line| line.contains(v6) && line.contains("deprecated"))
    });
    testbed.docker(&["restart", "-t", "0", "again"]).ok();
    assert_eq!(shown(testbed, "again", "lan")[1], new);

    // Without a router a start fails soon, and says what was seen.
    stop(testbed, second);
    testbed.docker(&["rm", "-f", "again", "two"]).ok();
    testbed.docker(&["network", "rm", "lan"]).ok();
    let on = ["--ipam-driver", "null", "-o", "pontoon.dhcp=slaac", "-o", "com.docker.network.bridge.name=br-lan"];
    testbed.network("lan", &on);
    let refused = testbed.docker(&["run", "--rm", "--network", "lan", "busybox", "true"]).err();
    for part in ["br-lan", "no router answered"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    testbed.docker(&["network", "rm", "lan"]).ok();
    testbed.exec(&["sh", "-c", "ip link del lan0; ip link del br-lan; ip netns del lan"]).ok();
    testbed.sweep();
}
