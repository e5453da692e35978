//! Egress lists with DNS names: real engines, whose resolver in the container asks from the container's namespace, and
//! dnsmasq as the server of `--dns`, in a network namespace of its own.

use testkit::testbed::{SOON, Testbed, binary};
use testkit::{Options, Signal, wait_until};

/// The namespace `names` with the name server and the addresses of the names.
const NETWORK: &str = "set -e
    ip netns add names
    ip link add up0 type veth peer name eth0 netns names
    ip address add 192.168.70.1/24 dev up0; ip link set up0 up
    ip -n names link set lo up; ip -n names link set eth0 up
    for last in 2 10 11 12; do ip -n names address add 192.168.70.$last/24 dev eth0; done";

const SERVER: [&str; 15] = [
    "ip",
    "netns",
    "exec",
    "names",
    "dnsmasq",
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--user=root",
    "--no-resolv",
    "--no-hosts",
    "--pid-file=/tmp/names.pid",
    "--log-facility=-",
    "--address=/api.example.com/192.168.70.10",
    "--address=/example.org/192.168.70.11",
    "--address=/other.example.com/192.168.70.12",
];

fn pings(testbed: &Testbed, from: &str, to: &str) -> bool {
    testbed.docker(&["exec", from, "ping", "-c", "1", "-W", "1", to]).success()
}

#[test]
fn names_of_an_egress_list_are_reachable_and_nothing_else() {
    let node = Options::new().full().up();
    node.start_pontoon(&binary(), &[]);
    let testbed = &Testbed::new(&node, "pontoon");
    testbed.exec(&["sh", "-c", NETWORK]).ok();
    let server = node.spawn(&SERVER);
    testbed.network("box", &["--subnet", "10.98.0.0/24", "-o", "pontoon.policy=deny-egress"]);
    let named = "name=box,driver-opt=pontoon.egress.allow=icmp@api.example.com+icmp@*.example.org";
    for name in ["agent", "other"] {
        testbed.run_container(name, &["--dns", "192.168.70.2", "--network", named]);
    }
    testbed.run_container("closed", &["--dns", "192.168.70.2", "--network", "box"]);
    wait_until(SOON, "the name server", || server.log().contains("started"));
    assert!(!pings(testbed, "other", "192.168.70.10"), "not before it was looked up");
    assert!(pings(testbed, "agent", "api.example.com") && pings(testbed, "agent", "a.b.example.org"));
    assert!(pings(testbed, "agent", "192.168.70.10"), "the address of the name");
    for to in ["other.example.com", "192.168.70.12", "192.168.70.2", "10.98.0.1"] {
        assert!(!pings(testbed, "agent", to), "{to}");
    }
    assert!(!pings(testbed, "closed", "api.example.com") && !pings(testbed, "closed", "192.168.70.10"));
    // The end of Pontoon leaves what was looked up; the next process goes on with it, and looks up again.
    testbed.kill_pontoon(Signal::Kill);
    assert!(pings(testbed, "agent", "192.168.70.10") && !pings(testbed, "other", "192.168.70.10"));
    testbed.start_pontoon(&binary(), &[]);
    assert!(pings(testbed, "agent", "192.168.70.10"));
    assert!(pings(testbed, "other", "api.example.com") && pings(testbed, "other", "192.168.70.10"));
    assert!(!pings(testbed, "other", "192.168.70.12"));
    // Another container that gets the address begins without.
    testbed.docker(&["rm", "-f", "agent", "other"]).ok();
    testbed.run_container("next", &["--ip", "10.98.0.2", "--dns", "192.168.70.2", "--network", "box"]);
    assert!(!pings(testbed, "next", "192.168.70.10"));
}
