use super::*;
use crate::datapath::{Bridge, Change, LinkProperty, ObjectKind, Veth, Vxlan};
use crate::model::{HostPort, Mac, PortVlans, Protocol, Published, Vid, Vni};

fn name(text: &str) -> IfName {
    IfName::parse(text).unwrap()
}

fn lines(step: Step) -> String {
    commands(&step).join("\n")
}

fn bridge(ipv6: bool) -> Bridge {
    Bridge {
        owned: true,
        mac: Some(Mac::from_bytes([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        alias: "pontoon network a'b".to_owned(),
        addresses: ["10.1.0.1/24", "fd00::1/64"]
            .iter()
            .take(1 + usize::from(ipv6))
            .map(|a| a.parse().unwrap())
            .collect(),
        ipv6,
        localnet: true,
        hardened: true,
        filters_vlans: false,
        up: true,
    }
}

#[test]
fn each_step_has_its_command() {
    let link = || name("pntb1");
    let address: ipnetwork::IpNetwork = "10.1.0.1/24".parse().unwrap();
    for (step, text) in [
        (
            Step::Forward { family: Family::V4 },
            "nft add element inet pontoon limited_forwarding '{ ipv4 }'\n\
             # pontoon repair: create the chains of limited forwarding, if they are missing (no nft command)\n\
             sysctl -n net.ipv4.ip_forward | grep -qvx 0 || { nft list chain inet pontoon forward_others >/dev/null && sysctl -w net.ipv4.ip_forward=706; }",
        ),
        (
            Step::Forward { family: Family::V6 },
            "nft add element inet pontoon limited_forwarding '{ ipv6 }'\n\
             # pontoon repair: create the chains of limited forwarding, if they are missing (no nft command)\n\
             sysctl -n net.ipv6.conf.all.forwarding | grep -qvx 0 || { nft list chain inet pontoon forward_others >/dev/null && sysctl -w net.ipv6.conf.all.forwarding=706; }",
        ),
        (Step::Change(link(), Change::Mtu(1400)), "ip link set dev pntb1 mtu 1400"),
        (Step::Change(link(), Change::Up), "ip link set dev pntb1 up"),
        (
            Step::Change(link(), Change::Mac(Mac::from_bytes([2, 0, 0, 0, 0, 1]))),
            "ip link set dev pntb1 address 02:00:00:00:00:01",
        ),
        (Step::Change(name("pnth1"), Change::ArpOff), "ip link set dev pnth1 arp off"),
        (
            Step::Change(name("a.b"), Change::EnableIpv6),
            "sysctl -w net/ipv6/conf/a.b/accept_ra=0\nsysctl -w net/ipv6/conf/a.b/disable_ipv6=0",
        ),
        (Step::Change(link(), Change::AddAddress(address)), "ip address replace 10.1.0.1/24 dev pntb1"),
        (
            Step::Change(link(), Change::AddAddress("fd00::1/64".parse().unwrap())),
            "ip address replace fd00::1/64 dev pntb1 nodad",
        ),
        (
            Step::Rename { from: name("eth;0"), to: name("pnth1") },
            "ip link show dev pnth1 >/dev/null 2>&1 || ip link set dev 'eth;0' name pnth1 || \
             { sysctl -w 'net/ipv6/conf/eth;0/keep_addr_on_down=1'; \
             ip link set dev 'eth;0' down; ip link set dev 'eth;0' name pnth1; ip link set dev pnth1 up; }",
        ),
        (
            Step::Change(link(), Change::RemoveAddress(address)),
            "! ip -o address show dev pntb1 | grep -qF ' 10.1.0.1/24 ' || ip address del 10.1.0.1/24 dev pntb1",
        ),
        (Step::Change(name("pnth1"), Change::Master(link())), "ip link set dev pnth1 master pntb1"),
        (Step::Change(name("pnth1"), Change::Isolate(false)), "bridge link set dev pnth1 isolated off"),
        (Step::Change(name("pnth1"), Change::Hairpin), "bridge link set dev pnth1 hairpin on"),
        (
            Step::FlushConntrack(vec!["10.1.0.2".parse().unwrap()]),
            "conntrack -D -f ipv4 -s 10.1.0.2 || true\nconntrack -D -f ipv4 -r 10.1.0.2 || true",
        ),
        (
            Step::FlushStaleConntrack(vec![Published {
                host: HostPort { protocol: Protocol::Udp, address: "192.0.2.1".parse().unwrap(), port: 53 },
                container: "10.1.0.2".parse().unwrap(),
                container_port: 53,
            }]),
            "conntrack -D -f ipv4 -p udp -d 192.0.2.1 --dport 53 || true",
        ),
        (
            Step::Change(
                name("pntx1"),
                Change::Flood { add: vec!["192.0.2.3".parse().unwrap()], remove: vec!["fd00::2".parse().unwrap()] },
            ),
            "! bridge fdb show dev pntx1 | grep -qF '00:00:00:00:00:00 dst fd00::2 ' || \
             bridge fdb del 00:00:00:00:00:00 dev pntx1 dst fd00::2\n\
             bridge fdb show dev pntx1 | grep -qF '00:00:00:00:00:00 dst 192.0.2.3 ' || \
             bridge fdb append 00:00:00:00:00:00 dev pntx1 dst 192.0.2.3",
        ),
        (
            Step::Delete(name("pntx1"), ObjectKind::Vxlan),
            "! ip link show dev pntx1 >/dev/null 2>&1 || ip link del dev pntx1",
        ),
        (
            Step::Delete(name("pnth1"), ObjectKind::Veth),
            "! ip link show dev pnth1 >/dev/null 2>&1 || ip link del dev pnth1",
        ),
        (
            Step::Delete(name("$(x)"), ObjectKind::Bridge),
            "! ip link show dev '$(x)' >/dev/null 2>&1 || ip link del dev '$(x)'",
        ),
        (
            Step::ForwardRules { family: Family::V6, rules: vec![ForwardRule::From(LinkMatch::Prefix("pnt".into()))] },
            "ip6tables -C FORWARD -i pnt+ -m comment --comment pontoon -j ACCEPT 2>/dev/null || \
             ip6tables -A FORWARD -i pnt+ -m comment --comment pontoon -j ACCEPT",
        ),
        (
            Step::CreateFirewall(vec![Policy::Link(LinkProperty::ProtectedBridge, link())]),
            "# pontoon repair: recreate tables inet pontoon and bridge pontoon with 1 elements (no nft command)",
        ),
    ] {
        assert_eq!(lines(step.clone()), text, "{step:?}");
    }
    assert_eq!(lines(Step::Change(link(), Change::RouteLocalnet)), "sysctl -w net/ipv4/conf/pntb1/route_localnet=1");
}

#[test]
fn links_are_made_as_pontoon_makes_them() {
    let text = lines(Step::create(name("pntb1"), bridge(false)));
    assert_eq!(
        text,
        "ip link show dev pntb1 >/dev/null 2>&1 || ip link add name pntb1 address 02:00:00:00:00:01 group 1886286849 type bridge\n\
         sysctl -w net/ipv6/conf/pntb1/disable_ipv6=1\n\
         ip link set dev pntb1 alias 'pontoon network a'\\''b'\n\
         ip link set dev pntb1 mtu 1501\nip link set dev pntb1 mtu 1500\n\
         ip link set dev pntb1 type bridge no_linklocal_learn 1\n\
         ip link set dev pntb1 type bridge mcast_snooping 0\n\
         ip link set dev pntb1 type bridge fdb_max_learned 65536 2>/dev/null || true\n\
         ip link set dev pntb1 up\n\
         sysctl -w net/ipv4/conf/pntb1/route_localnet=1\nip address replace 10.1.0.1/24 dev pntb1"
    );
    let veth = Veth {
        peer: name("pntc1"),
        host_mac: Mac::from_bytes([2, 0, 0, 0, 0, 2]),
        peer_mac: Some(Mac::from_bytes([2, 0, 0, 0, 0, 3])),
        mtu: 1400,
        peer_mtu: 1300,
        bridge: Some(name("pntb1")),
        isolated: true,
        vlans: None,
        hairpin: false,
        shape: None,
        arp: false,
        up: true,
    };
    assert_eq!(
        lines(Step::create(name("pnth1"), veth)),
        "ip link show dev pnth1 >/dev/null 2>&1 || ip link add name pnth1 mtu 1400 address 02:00:00:00:00:02 group 1886286849 numtxqueues 1 numrxqueues 1 \
         type veth peer name pntc1 mtu 1300 address 02:00:00:00:00:03 numtxqueues 1 numrxqueues 1\n\
         ip link set dev pnth1 master pntb1\nbridge link set dev pnth1 isolated on\n\
         ip link set dev pnth1 arp off\nip link set dev pnth1 up"
    );
}

#[test]
fn tunnels_are_made_as_pontoon_makes_them() {
    let vxlan = |local: &str, bridge: Option<IfName>| Vxlan {
        vni: Vni::new(70000).unwrap(),
        port: 4789,
        local: local.parse().unwrap(),
        mtu: 1450,
        mac: Mac::from_bytes([2, 0, 0, 0, 0, 4]),
        isolated: bridge.is_some(),
        bridge,
        peers: ["192.0.2.2".parse().unwrap()].into(),
        up: true,
        low_ports: true,
    };
    let made = |local, checksum| {
        format!(
            "ip link show dev pntx1 >/dev/null 2>&1 || ip link add name pntx1 mtu 1450 address 02:00:00:00:00:04 group 1886286849 \
             type vxlan id 70000 local {local} srcport 768 1024 dstport 4789{checksum} learning maxaddress 65536\n\
             ip link set dev pntx1 alias 'pontoon overlay 70000'\n"
        )
    };
    let flood = "bridge fdb show dev pntx1 | grep -qF '00:00:00:00:00:00 dst 192.0.2.2 ' || \
                 bridge fdb append 00:00:00:00:00:00 dev pntx1 dst 192.0.2.2\nip link set dev pntx1 up";
    assert_eq!(
        lines(Step::create(name("pntx1"), vxlan("192.0.2.1", Some(name("pntb1"))))),
        made("192.0.2.1", " noudpcsum")
            + "ip link set dev pntx1 master pntb1\nbridge link set dev pntx1 isolated on\n"
            + flood
    );
    assert_eq!(lines(Step::create(name("pntx1"), vxlan("fd00::1", None))), made("fd00::1", "") + flood);
}

#[test]
fn elements_stand_in_their_sets() {
    let link = || name("pnth1");
    let port = |address: &str, container: &str| {
        let host = HostPort { protocol: Protocol::Tcp, address: address.parse().unwrap(), port: 8080 };
        Policy::Published(Published { host, container: container.parse().unwrap(), container_port: 80 })
    };
    let remove = vec![port("0.0.0.0", "10.1.0.2")];
    let add = vec![
        port("0.0.0.0", "10.1.0.3"),
        port("::1", "fd00::3"),
        Policy::IntraNetwork(link()),
        Policy::Isolated(link()),
        Policy::Link(LinkProperty::ContainerBridge, link()),
        Policy::BridgeAddress("10.1.0.1".parse().unwrap()),
        Policy::Masquerade("10.1.0.0/24".parse().unwrap()),
        Policy::SourceNat("10.1.0.0/24".parse().unwrap(), "192.0.2.1".parse().unwrap()),
        Policy::SourceMac(link(), Mac::from_bytes([2, 0, 0, 0, 0, 3])),
        Policy::SourceAddress(link(), "10.1.0.3".parse().unwrap()),
        Policy::Source(link(), Mac::from_bytes([2, 0, 0, 0, 0, 3]), "10.1.0.3".parse().unwrap()),
        Policy::SourceAddress(link(), "::".parse().unwrap()),
        Policy::AllowedSource("10.1.0.3".parse().unwrap(), "192.0.2.0/24".parse().unwrap()),
        Policy::OpenPort(Protocol::Udp, "fd00::3".parse().unwrap(), 53),
        Policy::TunnelPort(4789),
        Policy::Tunnel(Vni::new(70000).unwrap()),
        Policy::Peer("192.0.2.2".parse().unwrap()),
        Policy::Gateway(link(), Mac::from_bytes([2, 0, 0, 0, 0, 3])),
        Policy::GatewayAddress(link(), "fd00::1".parse().unwrap()),
        Policy::Link(LinkProperty::NoMulticast, link()),
        Policy::TrunkVlan(link(), Vid::new(40).unwrap()),
        Policy::LimitedForwarding(Family::V6),
        Policy::ForwardingLink(link(), Family::V4),
        Policy::UserBridgeContainer("fd00::3".parse().unwrap()),
    ];
    assert_eq!(
        lines(Step::ChangeFirewall { add, remove }),
        "! nft get element inet pontoon published4 '{ tcp . 8080 }' >/dev/null 2>&1 || \
         nft delete element inet pontoon published4 '{ tcp . 8080 }'\n\
         nft add element inet pontoon published4 '{ tcp . 8080 : 10.1.0.3 . 80 }'\n\
         nft add element inet pontoon published_at6 '{ ::1 . tcp . 8080 : fd00::3 . 80 }'\n\
         nft add element inet pontoon intra_network '{ \"pnth1\" . \"pnth1\" }'\n\
         nft add element inet pontoon isolated '{ \"pnth1\" . \"pnth1\" }'\n\
         nft add element inet pontoon container_bridges '{ \"pnth1\" }'\n\
         nft add element inet pontoon bridge_address4 '{ 10.1.0.1 }'\n\
         nft add element inet pontoon masquerade4 '{ 10.1.0.0/24 }'\n\
         nft add element inet pontoon snat4 '{ 10.1.0.0/24 : 192.0.2.1 }'\n\
         nft add element bridge pontoon source_macs '{ \"pnth1\" . 02:00:00:00:00:03 }'\n\
         nft add element bridge pontoon source_address4 '{ \"pnth1\" . 10.1.0.3 }'\n\
         nft add element bridge pontoon sources4 '{ \"pnth1\" . 02:00:00:00:00:03 . 10.1.0.3 }'\n\
         nft add element bridge pontoon any_address6 '{ \"pnth1\" }'\n\
         nft add element inet pontoon allowed_source4 '{ 10.1.0.3 . 192.0.2.0/24 }'\n\
         nft add element inet pontoon open_port6 '{ fd00::3 . udp . 53 }'\n\
         nft add element inet pontoon tunnel_ports '{ 4789 }'\n\
         nft add element inet pontoon vnis '{ 0x01117000 }'\n\
         nft add element inet pontoon peers4 '{ 192.0.2.2 }'\n\
         nft add element bridge pontoon gateways '{ \"pnth1\" . 02:00:00:00:00:03 }'\n\
         nft add element bridge pontoon gateway6 '{ \"pnth1\" . fd00::1 }'\n\
         nft add element bridge pontoon no_multicast '{ \"pnth1\" }'\n\
         nft add element bridge pontoon trunk_vlans '{ 40 . \"pnth1\" }'\n\
         nft add element inet pontoon limited_forwarding '{ ipv6 }'\n\
         nft add element inet pontoon forwarding_link4 '{ \"pnth1\" }'\n\
         nft add element inet pontoon user_bridge_container6 '{ fd00::3 }'\n"
            .to_owned()
            + &["isolated containers", "limited forwarding", "tunnels", "broadcasts"]
                .map(|about| format!(
                    "# pontoon repair: create the chains of {about}, if they are missing (no nft command)"
                ))
                .join("\n")
    );
}

#[test]
fn vlans_of_a_port_are_set_while_it_is_down() {
    let vlans = PortVlans::of(Vid::new(40).unwrap(), "50-59,70".parse().unwrap());
    let set = "bridge vlan del dev pnth1 vid 1-4094\n\
               bridge vlan add dev pnth1 vid 40 pvid untagged\n\
               bridge vlan add dev pnth1 vid 50-59\n\
               bridge vlan add dev pnth1 vid 70";
    assert_eq!(lines(Step::Change(name("pnth1"), Change::Vlans(vlans.clone()))), set);
    let join = Change::JoinVlans { bridge: name("br-lan"), vlans };
    let (before, after) =
        ("ip link set dev pnth1 down\nip link set dev pnth1 master br-lan", "ip link set dev pnth1 up");
    assert_eq!(lines(Step::Change(name("pnth1"), join)), format!("{before}\n{set}\n{after}"));
}
