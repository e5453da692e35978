//! Containers whose addresses come from a DHCP server of the local network: dnsmasq, in a network namespace of its own
//! behind a bridge of the user.

use std::time::{Duration, Instant};

use testkit::testbed::{SOON, Testbed, binary, text};
use testkit::{Options, Signal, wait_until};

/// The bridge `br-lan`, the namespace `lan` with the server's link, and the link `up0` on the same network, which can be
/// a parent.
const NETWORK: &str = "set -e
    ip link add br-lan type bridge forward_delay 0; ip link set br-lan up
    ip netns add lan
    ip link add lan0 type veth peer name eth0 netns lan; ip link set lan0 master br-lan up
    ip -n lan link set lo up; ip -n lan address add 192.168.60.1/24 dev eth0; ip -n lan link set eth0 up
    ip link add up0 type veth peer name up1; ip link set up1 master br-lan up; ip link set up0 up
    ip netns exec lan nft -f - <<RULES
    table ip seen {
        counter errors { }
        chain in {
            type filter hook prerouting priority -300
            iifname != \"lo\" icmp type destination-unreachable counter name errors
        }
    }
RULES";

/// The server: leases of two minutes that are to be renewed every four seconds.
const SERVER: [&str; 16] = [
    "ip",
    "netns",
    "exec",
    "lan",
    "dnsmasq",
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--user=root",
    "--port=0",
    "--pid-file=/tmp/dnsmasq.pid",
    "--dhcp-leasefile=/tmp/leases",
    "--dhcp-range=192.168.60.100,192.168.60.199,2m",
    "--dhcp-option-force=option:T1,4",
    "--dhcp-option=26,1400",
    "--dhcp-option=121,0.0.0.0/0,192.168.60.1,10.55.0.0/16,192.168.60.2",
    "--log-facility=-",
];

const ON: [&str; 6] = ["--ipam-driver", "null", "-o", "pontoon.dhcp=4", "-o", "com.docker.network.bridge.name=br-lan"];

/// The lease of a client in the server's file: when it ends, and the address.
fn lease(testbed: &Testbed, mac: &str) -> Option<(u64, String)> {
    let file = testbed.exec(&["cat", "/tmp/leases"]).ok();
    let line = file.lines().find(|line| line.split_whitespace().nth(1) == Some(mac))?;
    let mut words = line.split_whitespace();
    Some((words.next()?.parse().ok()?, words.nth(1)?.to_owned()))
}

fn run(testbed: &Testbed, name: &str, network: &str, id: &str) -> (String, String) {
    let on = format!("name={network},driver-opt=pontoon.dhcp.id={id}");
    testbed.run_container(name, &["--network", &on]);
    let of = &testbed.inspect(name)["NetworkSettings"]["Networks"][network];
    (text(&of["IPAddress"]).to_owned(), text(&of["MacAddress"]).to_owned())
}

/// Packets that arrived at the server's namespace.
fn seen(testbed: &Testbed, counter: &str) -> u64 {
    let text = testbed.exec(&["ip", "netns", "exec", "lan", "nft", "list", "counter", "ip", "seen", counter]).ok();
    text.split_whitespace().skip_while(|word| *word != "packets").nth(1).and_then(|count| count.parse().ok()).unwrap()
}

/// How often the server was asked for any address.
fn discovers(server: &testkit::Process) -> usize {
    server.log().matches("DHCPDISCOVER").count()
}

#[test]
fn containers_get_their_addresses_from_the_server_of_the_lan_and_keep_them() {
    let node = Options::new().full().up();
    node.start_pontoon(&binary(), &[]);
    let testbed = &Testbed::new(&node, "pontoon");
    testbed.exec(&["sh", "-c", NETWORK]).ok();
    let server = node.spawn(&SERVER);
    wait_until(SOON, "the server to start", || server.log().contains("DHCP, IP range"));
    testbed.network("lan", &ON);

    // Address, MAC, MTU and routes are those of the server.
    let (address, mac) = run(testbed, "one", "lan", "one");
    assert_eq!(lease(testbed, &mac).expect("in the server's file").1, address);
    assert_eq!(testbed.cat("one", "/sys/class/net/eth0/mtu").trim(), "1400");
    assert_eq!(testbed.exec(&["cat", "/sys/class/net/br-lan/mtu"]).ok().trim(), "1500", "the bridge has its own");
    let routes = testbed.exec_in("one", &["ip", "route"]).ok();
    for route in ["default via 192.168.60.1", "10.55.0.0/16 via 192.168.60.2"] {
        assert!(routes.contains(route), "{route}: {routes}");
    }
    assert!(testbed.exec(&["ip", "netns", "exec", "lan", "ping", "-c1", "-W1", &address]).success(), "from outside");

    // Renewed several times, of which the container notices nothing.
    let before = lease(testbed, &mac).unwrap().0;
    let (asked, begun) = (discovers(&server), Instant::now());
    let pings = testbed.exec_in("one", &["ping", "-i", "0.1", "-c", "120", "-W1", "192.168.60.1"]).ok();
    assert!(pings.contains(" 0% packet loss"), "{pings}");
    assert!(begun.elapsed() > Duration::from_secs(9));
    let renewed = lease(testbed, &mac).unwrap();
    assert!(renewed.0 >= before + 6 && renewed.1 == address, "{before} {renewed:?}");
    assert_eq!(seen(testbed, "errors"), 0, "the container's kernel rejected an answer");

    // The next process keeps it, and a container that starts again finds it: no client asks for any address.
    node.kill_pontoon(Signal::Kill);
    node.start_pontoon(&binary(), &[]);
    testbed.docker(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(testbed.container_addr("one", "lan").v4.expect("an address").to_string(), address);
    testbed.docker(&["rm", "-f", "one"]).ok();
    assert_eq!(run(testbed, "again", "lan", "one"), (address.clone(), mac.clone()));
    assert_eq!(discovers(&server), asked);
    let two = run(testbed, "two", "lan", "two");
    assert_ne!(two.0, address);

    // On a parent on the same network.
    testbed.network("mac", &["--ipam-driver", "null", "-o", "pontoon.dhcp=4", "-o", "parent=up0"]);
    let (address, mac) = run(testbed, "child", "mac", "child");
    assert!(address.starts_with("192.168.60."), "{address}");
    testbed.ping_soon("child", "192.168.60.1");
    testbed.docker(&["rm", "-f", "child"]).ok();
    testbed.docker(&["network", "rm", "mac"]).ok();
    wait_until(SOON, "the lease to be given back", || lease(testbed, &mac).is_none());

    // Without a server a start fails soon, and says what was seen. Running containers keep what they have.
    drop(server);
    testbed.exec(&["sh", "-c", "kill $(cat /tmp/dnsmasq.pid)"]);
    let begun = Instant::now();
    let refused = testbed.docker(&["run", "--rm", "--network", "lan", "busybox", "true"]).err();
    for part in ["br-lan", "no server answered", "pontoon.dhcp.timeout"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "the engine's own patience is longer");
    testbed.ping_soon("again", "192.168.60.1");
    testbed.docker(&["rm", "-f", "again", "two"]).ok();
    testbed.docker(&["network", "rm", "lan"]).ok();
    testbed.exec(&["sh", "-c", "ip link del lan0; ip link del br-lan; ip link del up0; ip netns del lan"]).ok();
    testbed.sweep();
}
