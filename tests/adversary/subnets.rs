//! Subnets and the host's routes: one can be chosen beside a VPN, and none cuts off the host.

use serde_json::json;

use crate::host::{Host, Network};

/// The subnet that Pontoon chooses, or the error.
fn chosen(host: &Host, v6: bool) -> Result<String, String> {
    let body = json!({"AddressSpace": "pontoon-local", "Pool": "", "SubPool": "", "Options": {}, "V6": v6});
    host.call("IpamDriver.RequestPool", &body).map(|answer| answer["Pool"].as_str().expect("a subnet").to_owned())
}

#[test]
fn a_subnet_can_be_chosen_beside_a_vpn() {
    for (what, routes) in [
        (
            "a full tunnel through a gateway",
            "ip route add 0.0.0.0/1 via 192.0.2.2; ip route add 128.0.0.0/1 via 192.0.2.2; ip -6 route add 2000::/3 via 2001:db8::2",
        ),
        (
            "a full tunnel by a device",
            "ip tuntap add wg0 mode tun; ip addr add 10.8.0.2/24 dev wg0; ip link set wg0 up; ip route add 0.0.0.0/1 dev wg0; ip route add 128.0.0.0/1 dev wg0",
        ),
        (
            "a company's networks",
            "for net in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do ip route add $net via 192.0.2.2; done; ip -6 route add fc00::/7 via 2001:db8::2",
        ),
        (
            "a company's networks in a table of their own",
            "for net in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do ip route add $net via 192.0.2.2 table 52; done; ip rule add lookup 52",
        ),
        (
            "two gateways",
            "ip route add 0.0.0.0/1 nexthop via 192.0.2.2 nexthop via 192.0.2.3; ip route add 128.0.0.0/1 via 192.0.2.2",
        ),
    ] {
        let host = Host::start(&[]);
        host.run(routes);
        assert_eq!(chosen(&host, false).as_deref(), Ok("172.17.0.0/16"), "{what}");
        assert!(chosen(&host, true).is_ok(), "{what}");
    }
}

#[test]
fn existing_routes_are_avoided() {
    let host = Host::start(&[]);
    host.run("ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip addr add 172.17.5.1/24 dev lan0; ip addr add 172.18.0.1/32 dev lan0; ip link set lan0 up");
    // A gateway without a route to it, a specific route, and one as wide as a subnet.
    host.run("ip route add 0.0.0.0/1 via 172.19.0.1 dev lan0 onlink; ip route add 128.0.0.0/1 via 172.19.0.1 dev lan0 onlink");
    host.run("ip route add 172.20.7.0/24 via 192.0.2.2; ip route add 172.21.0.0/16 via 192.0.2.2");
    host.run("ip route add 172.22.0.0/15 dev up0");
    assert_eq!(chosen(&host, false).as_deref(), Ok("172.24.0.0/16"));
    // Where there is a choice, a wide route is avoided, too.
    let host = Host::start(&[]);
    host.run("ip route add 172.16.0.0/12 via 192.0.2.2");
    assert_eq!(chosen(&host, false).as_deref(), Ok("192.168.0.0/20"));
}

#[test]
fn no_subnet_cuts_the_host_off() {
    let host = Host::start(&[]);
    let refused = |n: u8, words: &str| {
        let error = host
            .call("NetworkDriver.CreateNetwork", &Network::new("one", n).body())
            .expect_err("the network is refused");
        assert!(error.contains(words) && error.contains("--default-addr-pool"), "{error}");
        assert!(!host.run("ip -o link").contains("pntbone"), "its bridge is left");
    };
    host.run("ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip addr add 10.1.0.7/24 dev lan0; ip link set lan0 up");
    refused(1, "10.1.0.7, the address of link lan0");
    host.run("ip link set lan0 down");
    refused(1, "10.1.0.7, the address of link lan0");
    host.run("ip route add default via 10.2.0.1 dev up0 onlink metric 50");
    refused(2, "10.2.0.1, a gateway");
    host.run("ip link set lan0 up; ip route add 10.3.0.0/24 dev lan0 proto kernel scope link");
    refused(3, "is that of link lan0");
    host.run("ip addr add fd00:4::9/64 dev lan0 nodad");
    refused(4, "fd00:4::9, the address of link lan0");
    // Working configurations are the user's decision: a part of a wide LAN, a network without an address of the host, a
    // user's bridge.
    host.run("ip route add 10.0.0.0/8 dev lan0 proto kernel scope link");
    host.create(&Network::new("five", 5));
    host.run("ip link add br-lan type bridge; ip addr add 10.6.0.1/24 dev br-lan; ip link set br-lan up");
    let mut own = Network::new("six", 6).option("com.docker.network.bridge.name", "br-lan");
    own.v6 = false;
    host.create(&own);
    let mut aside = Network::new("one", 1).internal().option("com.docker.network.bridge.gateway_mode_ipv4", "isolated");
    aside.v6 = false;
    host.create(&aside);
    // Repeated, as after a crash of the engine: its own bridge is no conflict.
    host.create(&Network::new("five", 5));
}

/// The host's LAN is added after the network: the doctor's remedy must not remove it.
#[test]
fn the_remedy_keeps_the_hosts_routes() {
    let host = Host::start(&[]);
    host.create(&Network::new("one", 1));
    host.run("ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up; ip addr add 10.1.0.7/24 dev lan0");
    let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), host.netns.tid());
    let program = env!("CARGO_BIN_EXE_pontoon");
    let socket = host.daemon().socket.display().to_string();
    let output = std::process::Command::new("nsenter").args([&net, program, "doctor", "--socket", &socket]).output();
    let text = String::from_utf8(output.expect("nsenter").stdout).expect("text");
    assert!(text.contains("takes packets from network") && !text.contains("ip route del"), "{text}");
}
