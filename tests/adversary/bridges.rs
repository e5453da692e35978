//! Bridge settings: containers do not change a user's bridge, and Pontoon restores its own bridges after foreign
//! changes.

use std::time::{Duration, Instant};

use crate::host::{Host, Network};
use testkit::netns::wait_for;

fn mac_and_mtu(host: &Host, link: &str) -> (String, String) {
    let text = host.run(&format!("ip -o link show {link}"));
    let word =
        |behind: &str| text.split(behind).nth(1).and_then(|rest| rest.split(' ').next()).expect(behind).to_owned();
    (word("link/ether "), word(" mtu "))
}

#[test]
fn containers_do_not_change_mac_or_mtu_of_a_user_bridge() {
    // With and without a port that has a high address; with a default and with a configured MTU.
    for (port, settings, mtu) in [
        ("fa:ff:ff:ff:ff:ff", "", "1500"),
        ("", "", "1500"),
        ("", "ip link set br-lan address 02:00:00:00:00:99", "1500"),
        ("fa:ff:ff:ff:ff:ff", "ip link set br-lan mtu 1450; ip link set br-lan mtu 1500", "1500"),
        ("0a:00:00:00:00:01", "ip link set lan0 mtu 9000", "9000"),
    ] {
        let mut host = Host::start(&[]);
        host.run("ip link add br-lan type bridge");
        if !port.is_empty() {
            host.run("ip link add lan0 type veth peer name lan1; ip link set lan1 up");
            host.run(&format!("ip link set lan0 address {port} master br-lan up"));
        }
        host.run(&format!("{settings}\nip link set br-lan up"));
        host.run("ip addr add 10.1.0.1/24 dev br-lan; ip addr add fd00:1::1/64 dev br-lan nodad");
        let before = mac_and_mtu(&host, "br-lan");
        assert_eq!(before.1, mtu);
        let network = Network::new("lan", 1)
            .option("com.docker.network.bridge.name", "br-lan")
            .option("com.docker.network.driver.mtu", "1400");
        host.create(&network);
        let mut all = Vec::new();
        for n in 2..8 {
            let container = host.container(&network, n);
            assert_eq!(mac_and_mtu(&host, "br-lan"), before, "container {n}, {port}, {settings}");
            assert!(mac_and_mtu(&host, &container.first.port).0.starts_with("fe:"));
            assert!(container.run("ip link show eth0").contains("mtu 1400"));
            all.push(container);
        }
        assert!(all[0].pings("10.1.0.1") && all[0].pings("fd00:1::3"));
        // A port that left the bridge is added again.
        host.run(&format!("ip link set {} nomaster", all[0].first.port));
        wait_for("the link to be a port again", || host.run("bridge link").contains(&all[0].first.port));
        assert_eq!(mac_and_mtu(&host, "br-lan"), before, "{port}, {settings}");
        host.begin();
        assert_eq!(mac_and_mtu(&host, "br-lan"), before, "after a restart");
        for container in &all {
            host.detach(&container.first);
        }
        wait_for("all ports to be removed", || !host.run("bridge link").contains("pnth"));
        assert_eq!(mac_and_mtu(&host, "br-lan"), before, "after the last container, {port}, {settings}");
        if !port.is_empty() {
            // The owner of the bridge can still change it.
            host.run("ip link set br-lan address 02:00:00:00:00:88 mtu 1480");
            let _ = host.container(&network, 2);
            assert_eq!(mac_and_mtu(&host, "br-lan"), ("02:00:00:00:00:88".into(), "1480".into()));
        }
    }
}

#[test]
fn a_changed_mac_address_is_restored_within_a_second() {
    let host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let a = host.container(&network, 2);
    let bridge = network.bridge();
    // Pontoon's own changes are over: the following ones are foreign.
    std::thread::sleep(Duration::from_millis(1200));
    for link in [&bridge, &a.first.port] {
        let before = mac_and_mtu(&host, link);
        let mut slowest = Duration::ZERO;
        for n in 0..3 {
            host.run(&format!("ip link set {link} address 02:00:00:00:00:1{n}"));
            let changed = Instant::now();
            wait_for("the address to be restored", || mac_and_mtu(&host, link) == before);
            slowest = slowest.max(changed.elapsed());
            assert!(a.pings("10.1.0.1"));
            std::thread::sleep(Duration::from_millis(1100));
        }
        assert!(slowest < Duration::from_millis(1000), "{link}: {slowest:?}");
    }
}

/// Ports and bridges created by an earlier release with other settings get the current settings at start, without
/// packet loss.
#[test]
fn links_of_an_earlier_release_get_current_settings_at_start() {
    let mut host = Host::start(&[]);
    let network = Network::new("one", 1);
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    let (bridge, port) = (network.bridge(), &a.first.port);
    host.end();
    host.run(&format!("ip link set {bridge} type bridge no_linklocal_learn 0 mcast_snooping 1"));
    host.run(&format!("ip link set {port} arp on; ip link set {port} address 36:00:00:00:00:05"));
    host.run("nft delete table inet pontoon; nft delete table bridge pontoon");
    assert!(b.pings("10.1.0.2"));
    let lost = std::thread::scope(|scope| {
        let pings = scope.spawn(|| b.run("ping -n -i 0.02 -c 150 -W 1 10.1.0.2 | grep received"));
        host.begin();
        pings.join().unwrap()
    });
    assert!(lost.contains("150 received"), "{lost}");
    let link = host.run(&format!("ip -d link show {bridge}; ip link show {port}"));
    for setting in ["no_linklocal_learn 1", "mcast_snooping 0", "NOARP", "link/ether fe:"] {
        assert!(link.contains(setting), "{setting}: {link}");
    }
    assert!(a.pings("10.1.0.1") && a.pings("fd00:1::3"));
}
