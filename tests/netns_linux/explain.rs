//! What `pontoon explain` reads of the kernel: rules of Pontoon, of nft and of iptables decide about a described packet
//! as they do about real ones.

use std::net::IpAddr;

use pontoon::datapath::passage::{Decision, Hook, Packet, PacketLink, Passage};
use pontoon::datapath::{Kernel, LinkProperty, Policy, Step};
use pontoon::linux::host_view::HostView;
use pontoon::model::{HostPort, Protocol, Published};
use testkit::netns::{in_netns, name, run};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn packet(from: &str, to: &str, port: u16) -> Packet {
    Packet {
        source: ip(from),
        destination: ip(to),
        original: ip(to),
        protocol: 6,
        port,
        link_in: Some(PacketLink { name: "out0".to_owned(), index: 77, kind: String::new() }),
        link_out: None,
        mac: None,
        translated: false,
        reserved: false,
    }
}

fn look() -> HostView {
    HostView::read("/proc/sys/net".into()).expect("the ruleset")
}

/// The passage of a forwarded packet that decides, and what it decides.
fn forward(view: &HostView, port: u16) -> (Option<Passage>, Vec<Decision>) {
    let mut packet = packet("192.0.2.7", "10.9.0.2", port);
    packet.link_out = Some(PacketLink { name: "pntbx".to_owned(), index: 78, kind: "bridge".to_owned() });
    let passages = view.pass(Hook::Forward, &mut packet);
    let all = passages.iter().map(|passage| passage.decision.clone()).collect();
    (passages.into_iter().find(Passage::ends), all)
}

#[test]
fn own_rules_translate_and_drop() {
    in_netns(|kernel| {
        let at = HostPort { protocol: Protocol::Tcp, address: ip("0.0.0.0"), port: 8080 };
        let published = Published { host: at, container: ip("10.9.0.2"), container_port: 80 };
        let policy = [
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbx")),
            Policy::Published(published),
            Policy::SourceFiltered(ip("10.9.0.2")),
            Policy::AllowedSource(ip("10.9.0.2"), "192.0.2.0/29".parse().expect("a subnet")),
        ];
        kernel.apply(&[Step::CreateFirewall(policy.to_vec())]).expect("the tables");
        run("ip address add 198.51.100.1/24 dev lo");
        run("ip link set lo up");
        let view = look();
        assert!(view.has_tables());
        let mut arrives = packet("192.0.2.7", "198.51.100.1", 8080);
        view.pass(Hook::Prerouting, &mut arrives);
        assert_eq!((arrives.destination, arrives.port, arrives.translated), (ip("10.9.0.2"), 80, true));
        // Translated and from an allowed source, from another one, and not translated.
        let decides = |from: &str, translated: bool| {
            let mut forwarded = packet(from, "10.9.0.2", 80);
            forwarded.translated = translated;
            forwarded.link_out = Some(PacketLink { name: "pntbx".to_owned(), index: 78, kind: "bridge".to_owned() });
            let end = view.pass(Hook::Forward, &mut forwarded).into_iter().find(Passage::ends);
            end.and_then(|end| end.rule).map(|rule| rule.comment)
        };
        assert_eq!(decides("192.0.2.7", true), None);
        assert_eq!(decides("192.0.2.9", true).as_deref(), Some("IPv4 source not in the allow list"));
        assert_eq!(decides("192.0.2.7", false).as_deref(), Some("all other traffic into a network"));
    });
}

#[test]
fn rules_of_nft_with_jumps_sets_and_verdict_maps_are_followed() {
    in_netns(|_| {
        run("nft add table inet mine");
        run("nft 'add set inet mine closed { type inet_service; flags interval; elements = { 20-29, 8443 } ; }'");
        run("nft add chain inet mine odd");
        run("nft 'add chain inet mine onward { type filter hook forward priority 5 ; }'");
        run("nft add rule inet mine odd tcp dport @closed counter drop");
        run("nft add rule inet mine onward ct state established accept");
        run("nft 'add rule inet mine onward tcp dport vmap { 81 : drop, 82 : accept, 83 : jump odd }'");
        run("nft add rule inet mine onward ip saddr 192.0.2.0/24 jump odd");
        run("nft add rule inet mine onward tcp dport 84 limit rate 1/second drop");
        run("nft add rule inet mine onward tcp dport 85 meta mark 7 drop");
        let view = look();
        let ends = |port| forward(&view, port).0.and_then(|passage| passage.rule).map(|rule| (rule.chain, rule.place));
        assert_eq!([ends(80), ends(82), ends(85)], [None, None, None]);
        assert_eq!(ends(81), Some(("onward".to_owned(), 2)));
        assert_eq!([ends(25), ends(8443)], [Some(("odd".to_owned(), 1)), Some(("odd".to_owned(), 1))]);
        assert_eq!(ends(30), None);
        let limited = forward(&view, 84).1;
        assert!(
            limited.iter().any(|decision| matches!(decision, Decision::Unknown(what) if what == "limit")),
            "{limited:?}"
        );
    });
}

/// The rules that engines, ufw and people write, by the program of either back end.
fn of_iptables(program: &str) {
    let rules = [
        "-N DOCKER-USER",
        "-P FORWARD DROP",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i out+ -p tcp -m multiport --dports 80,90:99 -j ACCEPT",
        "-A FORWARD ! -s 192.0.2.0/24 -p tcp --dport 70 -j ACCEPT",
        "-A FORWARD -p tcp -m addrtype --dst-type LOCAL -j ACCEPT",
        "-A DOCKER-USER -s 192.0.2.7/32 -p tcp -m tcp --dport 95 -j REJECT",
        "-A DOCKER-USER -p udp -j DROP",
        "-A DOCKER-USER -p tcp --dport 96 -m comment --comment why -j RETURN",
        "-A DOCKER-USER -p tcp --dport 97 -m string --string x --algo bm -j DROP",
    ];
    rules.iter().for_each(|rule| drop(run(&format!("{program} {rule}"))));
    run(&format!("{program} -t nat -A PREROUTING -p tcp --dport 8081 -j DNAT --to-destination 10.9.0.3:81"));
    let view = look();
    let ends = |port| {
        let rule = forward(&view, port).0.map(|passage| passage.rule.map(|rule| (rule.chain, rule.place)));
        rule.map(|rule| rule.map_or_else(|| "policy".to_owned(), |(chain, place)| format!("{chain} {place}")))
    };
    assert_eq!([ends(80), ends(93), ends(96)], [None, None, None], "{program}");
    assert_eq!(ends(81).as_deref(), Some("policy"), "{program}");
    assert_eq!(ends(70).as_deref(), Some("policy"), "{program}");
    assert_eq!(ends(95).as_deref(), Some("DOCKER-USER 1"), "{program}");
    let doubtful = forward(&view, 97).1;
    assert!(doubtful.iter().any(|decision| matches!(decision, Decision::Unknown(_))), "{program}: {doubtful:?}");
    let mut arrives = packet("192.0.2.7", "198.51.100.1", 8081);
    view.pass(Hook::Prerouting, &mut arrives);
    assert_eq!((arrives.destination, arrives.port), (ip("10.9.0.3"), 81), "{program}");
}

#[test]
fn rules_of_iptables_over_nftables_are_followed() {
    in_netns(|_| of_iptables("iptables-nft"));
}

#[test]
fn rules_of_iptables_legacy_are_followed() {
    in_netns(|_| of_iptables("iptables-legacy"));
}
