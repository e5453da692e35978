//! Firewall and traffic control: flowtables, connection tracking on a bridge, netem.

use crate::wire::{counted, plug, stream};
use testkit::netns::Netns;
use testkit::{KERNEL, in_guest};

/// A router with two hosts; the second address of each pair is the router's.
fn routed() -> (Netns, [Netns; 2]) {
    let (router, hosts) = (Netns::new(), [Netns::new(), Netns::new()]);
    router.run("sysctl -qw net.ipv4.ip_forward=1");
    for (n, host) in (1..).zip(&hosts) {
        plug(&router, &format!("port{n}"), host, &format!("10.{n}.0.2/24"));
        router.run(&format!("ip address add 10.{n}.0.1/24 dev port{n}"));
        host.run(&format!("ip route add default via 10.{n}.0.1"));
    }
    (router, hosts)
}

/// The forward chain sees the first packets of a connection, the flowtable the others.
#[test]
fn a_flowtable_bypasses_the_forward_chain() {
    in_guest(KERNEL, || {
        let (router, [client, server]) = routed();
        let rules = |offload: &str| {
            format!(
                "nft -f - <<'END'
                table inet fast {{
                    flowtable ways {{ hook ingress priority 0; devices = {{ port1, port2 }}; }}
                    chain forward {{
                        type filter hook forward priority 0;
                        counter comment \"all\"
                        {offload}
                    }}
                }}\nEND"
            )
        };
        router.run(&rules(""));
        stream(&client, &server, "10.2.0.2:700", 4 << 20, || {});
        let without = counted(&router, "inet fast", "\"all\"");
        router.run("nft delete table inet fast");
        router.run(&rules("ct state established meta l4proto tcp flow add @ways"));
        let tracked = stream(&client, &server, "10.2.0.2:701", 4 << 20, || router.run("conntrack -L 2>/dev/null"));
        let with = counted(&router, "inet fast", "\"all\"");
        assert!(with * 4 < without, "{with} packets with the flowtable, {without} without it");
        assert!(tracked.contains("[OFFLOAD]"), "{tracked}");
    });
}

/// A bridge forwards answers to that port, and nothing else.
#[test]
fn a_bridge_tracks_connections() {
    in_guest(KERNEL, || {
        let (switch, hosts) = (Netns::new(), [Netns::new(), Netns::new()]);
        switch.run("ip link add br0 up type bridge");
        for (n, host) in (1..).zip(&hosts) {
            plug(&switch, &format!("port{n}"), host, &format!("10.4.0.{n}/24"));
            switch.run(&format!("ip link set port{n} master br0"));
        }
        assert!(hosts[0].pings("10.4.0.2") && hosts[1].pings("10.4.0.1"));
        switch.run(
            "nft -f - <<'END'
            table bridge guard {
                chain forward {
                    type filter hook forward priority -2; policy drop;
                    meta protocol arp accept
                    ct state established,related counter accept comment \"answers\"
                    iifname port1 ct state new accept
                }
            }\nEND",
        );
        assert!(hosts[0].pings("10.4.0.2"), "the answer to a packet of port1");
        assert!(!hosts[1].pings("10.4.0.1"), "a packet of port2 by itself");
        assert!(counted(&switch, "bridge guard", "\"answers\"") > 0);
    });
}

/// Half of the packets are lost, the others are delayed.
#[test]
fn netem_delays_and_drops() {
    in_guest(KERNEL, || {
        let (one, two) = (Netns::new(), Netns::new());
        plug(&one, "eth1", &two, "10.6.0.2/24");
        one.run("ip address add 10.6.0.1/24 dev eth1");
        assert!(one.pings("10.6.0.2"));
        one.run("tc qdisc add dev eth1 root netem delay 80ms");
        let summary = one.run("ping -n -q -c 3 -i 0.2 10.6.0.2");
        let (_, times) = summary.rsplit_once("= ").expect("a summary");
        let fastest: f64 = times.split('/').next().and_then(|time| time.parse().ok()).expect("a time");
        assert!(fastest >= 80.0, "{summary}");
        one.run("tc qdisc change dev eth1 root netem loss 100%");
        assert!(!one.pings("10.6.0.2"));
        one.run("tc qdisc delete dev eth1 root");
        assert!(one.pings("10.6.0.2"));
    });
}
