//! Containers on a user's bridge with an uplink to the local network: they are stations of that network, and the bridge
//! does not change.

use testkit::testbed::{Testbed, binary};
use testkit::{Options, Segment};

/// Makes the uplink `eth0` of the node a port of the bridge `br-lan`, which takes over its address.
const BRIDGE: &str = "ip link add br-lan type bridge forward_delay 0 && ip link set br-lan up && \
    ip address flush dev eth0 && ip link set eth0 master br-lan && ip address add 192.168.77.1/24 dev br-lan && \
    ip route replace default via 192.168.77.254";

/// The output of `ip` for the bridge and its uplink, without counters and timers.
fn bridge(testbed: &Testbed) -> String {
    let script = "ip -details link show dev br-lan; ip -details link show dev eth0; ip address show dev br-lan; \
        ip address show dev eth0; ip route; bridge vlan show dev eth0; \
        grep -s . /proc/sys/net/ipv[46]/conf/br-lan/* /proc/sys/net/ipv[46]/conf/eth0/*; true";
    let text = testbed.exec(&["sh", "-c", script]).ok();
    // Newer versions of ip show fdb_n_learned: the bridge forgets a container's address some time after its removal.
    let timers = ["hello_timer", "gc_timer", "tcn_timer", "topology_change_timer", "fdb_n_learned"];
    let words = |line: &str| {
        let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let mut at = 0;
        while at < words.len() {
            if timers.contains(&words[at].as_str()) {
                words.remove(at + 1);
            }
            at += 1;
        }
        words.join(" ")
    };
    text.lines().map(|line| words(line).replace(" tentative", "") + "\n").collect()
}

#[test]
fn networks_share_a_bridge_without_changing_it() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    node.start_pontoon(&binary(), &[]);
    let testbed = &Testbed::new(&node, "pontoon");
    testbed.exec(&["sh", "-c", BRIDGE]).ok();
    // The bridge has the MAC address of its only port, which the kernel would choose again with each port.
    let before = bridge(testbed);
    let on = ["-o", "com.docker.network.bridge.name=br-lan", "--aux-address", "DefaultGatewayIPv4=192.168.77.254"];
    let lan = ["--subnet", "192.168.77.0/24", "--ip-range", "192.168.77.64/26", "--gateway", "192.168.77.1"];
    testbed.network("lan", &[&on[..], &lan].concat());
    let side = ["-o", "com.docker.network.bridge.name=br-lan", "-o", "com.docker.network.driver.mtu=1300"];
    testbed.network("side", &[&side[..], &["--subnet", "10.98.0.0/24", "--gateway", "10.98.0.1"]].concat());
    for round in 0..10 {
        testbed.run_container("one", &["--network", "lan"]);
        testbed.run_container("two", &["--network", "side"]);
        if round == 0 {
            let one = testbed.container_addr("one", "lan").v4.expect("an address").to_string();
            testbed.ping_soon("one", "192.168.77.254");
            let own = testbed.cat("one", "/sys/class/net/eth0/address");
            let neighbour = segment.exec(&["ip", "neigh", "show", &one]).ok();
            assert!(neighbour.contains(own.trim()), "{own}: {neighbour}");
            assert!(segment.exec(&["ping", "-c1", "-W1", &one]).success(), "from outside");
            assert_eq!(testbed.cat("two", "/sys/class/net/eth0/mtu").trim(), "1300");
        }
        assert_eq!(bridge(testbed), before, "with containers, round {round}");
        testbed.docker(&["rm", "-f", "one", "two"]).ok();
    }
    // The removal of one network does not affect the other.
    testbed.run_container("one", &["--network", "lan"]);
    testbed.docker(&["network", "rm", "side"]).ok();
    testbed.ping_soon("one", "192.168.77.254");
    testbed.docker(&["rm", "-f", "one"]).ok();
    testbed.docker(&["network", "rm", "lan"]).ok();
    assert_eq!(bridge(testbed), before, "without networks");
    // The kernel no longer adjusts the MTU of a bridge after any program has set it explicitly.
    testbed.exec(&["ip", "link", "set", "eth0", "mtu", "1450"]).ok();
    assert!(
        testbed.exec(&["ip", "link", "show", "br-lan"]).ok().contains("mtu 1450"),
        "the MTU no longer follows the uplink"
    );
    testbed.exec(&["ip", "link", "del", "br-lan"]).ok();
    testbed.sweep();
}

/// A laptop on the segment has addresses of the network's range: a start with `--ip` is refused with the laptop's
/// address in the message, and Pontoon's IPAM takes the next address.
#[test]
fn an_address_of_another_lan_host_is_never_assigned() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    node.start_pontoon(&binary(), &[]);
    let testbed = &Testbed::new(&node, "pontoon");
    testbed.exec(&["sh", "-c", BRIDGE]).ok();
    // The link of the segment that the node is attached to.
    let route = segment.exec(&["ip", "-o", "route", "get", "192.168.77.1"]).ok();
    let link = route.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("a link").to_owned();
    for address in ["192.168.77.64/24", "192.168.77.65/24"] {
        segment.exec(&["ip", "address", "add", address, "dev", &link]).ok();
    }
    let lan = ["--ipam-driver", "pontoon", "--subnet", "192.168.77.0/24", "--ip-range", "192.168.77.64/26"];
    let on = ["-o", "com.docker.network.bridge.name=br-lan", "--gateway", "192.168.77.1"];
    testbed.network("lan", &[&on[..], &lan].concat());
    let run = ["run", "--rm", "--network", "lan", "--ip", "192.168.77.65", "busybox", "true"];
    let refused = testbed.docker(&run).err();
    let hardware =
        testbed.exec(&["sh", "-c", "ping -c1 -W1 192.168.77.65 >/dev/null; ip neigh show 192.168.77.65"]).ok();
    let mac = hardware.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).expect("the laptop's address");
    for part in ["192.168.77.65", mac, "br-lan", "choose another --ip"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    testbed.run_container("one", &["--network", "lan"]);
    assert_eq!(testbed.container_addr("one", "lan").v4.expect("an address").to_string(), "192.168.77.66");
    testbed.ping_soon("one", "192.168.77.65");
    testbed.docker(&["rm", "-f", "one"]).ok();
    testbed.docker(&["network", "rm", "lan"]).ok();
    testbed.exec(&["ip", "link", "del", "br-lan"]).ok();
    testbed.sweep();
}
