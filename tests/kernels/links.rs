//! Links: VLANs on a bridge and beside one, ipvlan, WireGuard.

use crate::wire::plug;
use testkit::netns::{Netns, wait_for};
use testkit::{KERNEL, in_guest};

/// Access ports of two VLANs and a trunk with one of them.
#[test]
fn a_bridge_keeps_vlans_apart() {
    in_guest(KERNEL, || {
        let switch = Netns::new();
        switch.run("ip link add br0 up type bridge vlan_filtering 1 vlan_default_pvid 0");
        let hosts: Vec<Netns> = (1..=4).map(|_| Netns::new()).collect();
        for (n, host) in (1..).zip(&hosts) {
            let address = if n == 4 { String::new() } else { format!("10.10.0.{n}/24") };
            plug(&switch, &format!("port{n}"), host, &address);
            switch.run(&format!("ip link set port{n} master br0"));
        }
        let [first, _, other, trunk] = &hosts[..] else { unreachable!() };
        assert!(!first.pings("10.10.0.2"), "a fresh port has no VLAN");
        for (port, vlan) in
            [("port1", "10 pvid untagged"), ("port2", "10 pvid untagged"), ("port3", "20 pvid untagged")]
        {
            switch.run(&format!("bridge vlan add dev {port} vid {vlan}"));
        }
        switch.run("bridge vlan add dev port4 vid 10");
        trunk.run("ip link add link eth0 name eth0.10 up type vlan id 10; ip address add 10.10.0.4/24 dev eth0.10");
        trunk.run("ip link add link eth0 name eth0.20 up type vlan id 20; ip address add 10.20.0.4/24 dev eth0.20");
        other.run("ip address add 10.20.0.3/24 dev eth0");

        assert!(first.pings("10.10.0.2"), "two access ports of one VLAN");
        assert!(first.pings("10.10.0.4"), "an access port and a trunk");
        assert!(!first.pings("10.10.0.3"), "two VLANs");
        assert!(!other.pings("10.20.0.4"), "the trunk does not carry VLAN 20");
        switch.run("bridge vlan add dev port4 vid 20");
        assert!(other.pings("10.20.0.4"), "the trunk carries VLAN 20");
        // The host itself takes part through its own link, once the bridge is a member of the VLAN.
        switch.run("ip link add link br0 name br0.10 up type vlan id 10; ip address add 10.10.0.5/24 dev br0.10");
        assert!(!first.pings("10.10.0.5"), "the bridge is no member yet");
        switch.run("bridge vlan add dev br0 vid 10 self");
        assert!(first.pings("10.10.0.5"));
    });
}

#[test]
fn a_tagged_link_reaches_only_its_own_vlan() {
    in_guest(KERNEL, || {
        let (one, two) = (Netns::new(), Netns::new());
        plug(&one, "eth1", &two, "");
        one.run("ip link add link eth1 name eth1.7 up type vlan id 7; ip address add 10.7.0.1/24 dev eth1.7");
        one.run("ip link add link eth1 name eth1.8 up type vlan id 8; ip address add 10.8.0.1/24 dev eth1.8");
        two.run("ip link add link eth0 name tagged up type vlan id 7; ip address add 10.7.0.2/24 dev tagged");
        assert!(one.pings("10.7.0.2"));
        two.run("ip address add 10.8.0.2/24 dev tagged");
        assert!(!one.pings("10.8.0.2"), "VLAN 8 has no link there");
        // A dummy as the parent, for a network without an uplink.
        one.run("ip link add dummy0 up type dummy; ip link add link dummy0 name dummy0.9 up type vlan id 9");
        one.run("ip address add 10.9.0.1/24 dev dummy0.9");
        assert!(one.pings("10.9.0.1"));
    });
}

/// Children of one parent reach each other and the parent's network, with the parent's MAC address.
#[test]
fn ipvlan_shares_its_parents_mac_address() {
    in_guest(KERNEL, || {
        let (outside, host) = (Netns::new(), Netns::new());
        plug(&outside, "eth1", &host, "");
        outside.run("ip address add 10.3.0.1/24 dev eth1");
        let containers = [Netns::new(), Netns::new()];
        for (n, container) in (2..).zip(&containers) {
            host.run(&format!(
                "ip link add child link eth0 type ipvlan mode l2 && ip link set child netns {}",
                container.tid()
            ));
            container.run(&format!("ip link set child name eth0 up && ip address add 10.3.0.{n}/24 dev eth0"));
        }
        assert!(containers[0].pings("10.3.0.3"), "a sibling");
        assert!(containers[0].pings("10.3.0.1") && outside.pings("10.3.0.3"), "the outside");
        let neighbours = outside.run("ip neigh show dev eth1");
        let parent = host.run("cat /proc/net/arp >/dev/null; ip -br link show eth0");
        let mac = parent.split_whitespace().nth(2).expect("an address");
        assert_eq!(neighbours.matches(mac).count(), 2, "{neighbours}\n{parent}");
    });
}

/// Packets are encrypted, and accepted only with the right key.
#[test]
fn wireguard_carries_packets_between_hosts() {
    in_guest(KERNEL, || {
        let hosts = [Netns::new(), Netns::new()];
        plug(&hosts[0], "eth1", &hosts[1], "192.0.2.2/24");
        hosts[0].run("ip address add 192.0.2.1/24 dev eth1");
        let keys: Vec<(String, String)> = hosts
            .iter()
            .map(|host| {
                let secret = host.run("wg genkey").trim().to_owned();
                let public = host.run(&format!("echo {secret} | wg pubkey")).trim().to_owned();
                (secret, public)
            })
            .collect();
        let stranger = hosts[0].run("wg genkey | wg pubkey");
        for (n, host) in (1..).zip(&hosts) {
            host.run(&format!("ip link add wg0 type wireguard && ip address add 10.5.0.{n}/24 dev wg0"));
            host.run(&format!("echo {} | wg set wg0 listen-port 51820 private-key /dev/stdin", keys[n - 1].0));
            host.run("ip link set wg0 up");
        }
        let peer = |n: usize, key: &str| {
            let other = 3 - n;
            hosts[n - 1].run(&format!(
                "wg set wg0 peer {} allowed-ips 10.5.0.{other}/32 endpoint 192.0.2.{other}:51820",
                key.trim()
            ));
        };
        peer(1, &keys[1].1);
        peer(2, &stranger);
        assert!(!hosts[0].pings("10.5.0.2"), "the other host does not know this one");
        hosts[1].run(&format!("wg set wg0 peer {} remove", stranger.trim()));
        peer(2, &keys[0].1);
        wait_for("a handshake", || hosts[0].pings("10.5.0.2"));
        assert!(hosts[1].pings("10.5.0.1"));
        assert_ne!(hosts[0].run("wg show wg0 latest-handshakes").split_whitespace().last(), Some("0"));
        assert!(hosts[0].run("ip link show wg0").contains("mtu 1420 "));
    });
}
