use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::model::{Family, NetworkId, NetworkOptions, NetworkSpec, Subnet};

fn list(text: &str) -> AllowList {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn network() -> NetworkSpec {
    let subnet = |pool: &str| Subnet { pool: pool.parse().unwrap(), gateway: None, default_gateway: None, aux: vec![] };
    NetworkSpec {
        id: NetworkId::parse("n").unwrap(),
        v4: Some(subnet("10.1.0.0/24")),
        v6: Some(subnet("fd00:1::/64")),
        internal: false,
        options: NetworkOptions::default(),
    }
}

#[test]
fn every_form_has_one_canonical_text() {
    for (given, printed) in [
        ("", ""),
        (" ", ""),
        ("tcp:443@10.0.0.0/8", "tcp:443@10.0.0.0/8"),
        ("@any", "any"),
        ("any@any", "any"),
        ("ANY", "any"),
        ("group:db", "group:db"),
        ("@group:DB", "group:db"),
        ("tcp:443@10.0.0.0/8!10.2.0.0/16!10.1.0.0/16", "tcp:443@10.0.0.0/8!10.1.0.0/16!10.2.0.0/16"),
        ("tcp:443/80/81/82-90@any", "tcp:80-90/443@any"),
        ("tcp@host", "tcp@host"),
        ("tcp:1-65535@host", "tcp:1-65535@host"),
        ("udp:53@net; dns ,icmp@world", "dns+icmp@world+udp:53@net"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("fd00::/8!fd00::1", "fd00::/8!fd00::1"),
        ("sctp:5@::/0", "sctp:5@::/0"),
        ("tcp:443@API.example.com", "tcp:443@api.example.com"),
        ("*.example.org+any", "any+*.example.org"),
        ("any+any+any", "any"),
    ] {
        assert_eq!(list(given).to_string(), printed, "{given}");
        assert_eq!(list(printed), list(given));
    }
}

#[test]
fn errors_say_what_was_expected_where() {
    for (given, position, found, expected) in [
        ("tcp:443", 1, "tcp:443", "'@' and a peer"),
        ("tcp", 1, "tcp", "'@' and a peer"),
        ("dns+tpc:443@any", 5, "tpc", "protocols"),
        ("dns+tcp:0@any", 9, "0", "from 1 to 65535"),
        ("tcp:80-79@any", 5, "80-79", "from 1 to 65535"),
        ("tcp:+80@any", 1, "tcp:", "'@' and a peer"),
        ("tcp:99999@any", 5, "99999", "from 1 to 65535"),
        ("tcp:@any", 5, "", "from 1 to 65535"),
        ("icmp:8@any", 6, "8", "no ports"),
        ("any:8@any", 5, "8", "no ports"),
        ("dns++any", 5, "", "a rule such as"),
        ("dns+", 5, "", "a rule such as"),
        ("tcp:443@", 9, "", "a peer"),
        ("localhost", 1, "localhost", "a peer"),
        ("10.0.0.300", 1, "10.0.0.300", "a peer"),
        ("10.0.0.1/8", 1, "10.0.0.1/8", "without host bits"),
        ("10.0.0.0/33", 1, "10.0.0.0/33", "a peer"),
        ("10.0.0.0/+8", 1, "10.0.0.0/", "a peer"),
        ("any+10.0.0.0/8!11.0.0.0/16", 16, "11.0.0.0/16", "an exception within"),
        ("10.0.0.0/8!fd00::/16", 12, "fd00::/16", "an exception within"),
        ("10.0.0.0/16!10.0.0.0/8", 13, "10.0.0.0/8", "an exception within"),
        ("é.example", 1, "é.example", "a peer"),
        ("@group:", 8, "", "a name of a group"),
        ("@group:a b", 8, "a b", "a name of a group"),
    ] {
        let error = given.parse::<AllowList>().unwrap_err();
        assert_eq!((error.position, error.found.as_str()), (position, found), "{given}: {error}");
        assert!(error.to_string().contains(expected), "{given}: {error}");
    }
    // "+8" is no number: the separator comes first.
    assert!("any+10.0.0.0/8!10.0.0.0/+9".parse::<AllowList>().is_err());
}

#[test]
fn a_list_is_bounded() {
    let many = |count: usize| (1..=count).map(|port| format!("tcp:{port}@any")).collect::<Vec<_>>().join("+");
    assert_eq!(list(&many(MOST_RULES)).rules().count(), MOST_RULES);
    assert!(many(MOST_RULES + 1).parse::<AllowList>().unwrap_err().to_string().contains("at most 128 rules"));
    let ports = |count: usize| format!("tcp:{}@any", vec!["80"; count].join("/"));
    assert!(ports(MOST_PARTS).parse::<AllowList>().is_ok());
    assert!(ports(MOST_PARTS + 1).parse::<AllowList>().unwrap_err().to_string().contains("at most 32 ranges"));
    let except = |count: usize| format!("10.0.0.0/8{}", "!10.1.0.0/16".repeat(count));
    assert!(except(MOST_PARTS).parse::<AllowList>().is_ok());
    assert!(except(MOST_PARTS + 1).parse::<AllowList>().unwrap_err().to_string().contains("at most 32 exceptions"));
    assert!(" ".repeat(LONGEST + 1).parse::<AllowList>().unwrap_err().to_string().contains("at most 8192"));
    assert!("é".repeat(4000).parse::<AllowList>().unwrap_err().to_string().len() < 300);
}

#[test]
fn ranges_are_cut_where_rules_differ_and_nowhere_else() {
    let expanded = expand::expand(&list("10.0.0.0/8!10.1.0.0/16"), &network());
    let text: Vec<_> =
        expanded.addresses.iter().map(|(t, a, b)| format!("{:?} {:?} {a}-{b}", t.protocols, t.ports)).collect();
    assert_eq!(text, ["(0, 255) (0, 65535) 10.0.0.0-10.0.255.255", "(0, 255) (0, 65535) 10.2.0.0-10.255.255.255"]);
    assert!(expanded.host.is_empty(), "a subnet does not include the host");
    let expanded = expand::expand(&list("tcp:80-90@10.0.0.0/8+tcp:85@any+dns"), &network());
    assert_eq!(expanded.addresses.iter().filter(|(_, first, _)| first.is_ipv4()).count(), 5);
    let host: Vec<_> = expanded.host.iter().map(|t| (t.protocols.0, t.ports)).collect();
    assert_eq!(host, [(6, (53, 53)), (6, (85, 85)), (17, (53, 53))]);
    let any = expand::expand(&list("any"), &network());
    assert_eq!((any.addresses.len(), any.host.len()), (2, 1));
}

#[test]
fn peers_mean_what_their_names_say() {
    let allows = |text: &str, peer: &str| expand::expand(&list(text), &network()).allows(6, 443, peer.parse().unwrap());
    for (text, inside, outside) in [
        ("net", "10.1.0.9", "10.2.0.1"),
        ("net", "fd00:1::9", "fd00:2::1"),
        ("net", "fe80::9", "2001:db8::1"),
        ("world", "8.8.8.8", "10.1.0.9"),
        ("world", "203.0.113.1", "192.168.0.1"),
        ("world", "2606:4700::1", "fd00:1::9"),
        ("world", "1.1.1.1", "169.254.169.254"),
        ("tcp@2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ("tcp:400-500@any", "10.1.0.9", "udp"),
        ("icmp@any+192.0.2.0/24", "192.0.2.1", "10.1.0.9"),
    ] {
        assert!(allows(text, inside), "{text} {inside}");
        assert!(outside == "udp" || !allows(text, outside), "{text} {outside}");
    }
    let group = expand::expand(&list("tcp:5432@group:app"), &network());
    assert!(group.addresses.is_empty() && group.host.is_empty());
}

#[test]
fn what_another_list_allows_is_left_out() {
    let beyond = |own: &str, base: &str| {
        let expanded = expand::expand_beyond(&list(own), &list(base), &network());
        let range =
            |(t, a, b): &(Transport, IpAddr, IpAddr)| format!("{}:{}-{} {a}-{b}", t.protocols.0, t.ports.0, t.ports.1);
        (expanded.addresses.iter().map(range).collect::<Vec<_>>(), expanded.host.len())
    };
    assert_eq!(beyond("tcp:443@10.0.0.0/8", "any"), (vec![], 0));
    assert_eq!(
        beyond("tcp:443@10.0.0.0/8+host", "tcp@10.0.0.0/9"),
        (vec!["6:443-443 10.128.0.0-10.255.255.255".to_owned()], 1)
    );
    let split = ["6:80-84 10.0.0.0-10.255.255.255", "6:86-90 10.0.0.0-10.255.255.255"].map(str::to_owned).to_vec();
    assert_eq!(beyond("tcp:80-90@10.0.0.0/8", "tcp:85@any"), (split, 0));
}

/// Texts of rules, most of them valid.
fn rules() -> impl Strategy<Value = String> {
    let peer = prop_oneof![
        Just("any".to_owned()),
        Just("host".to_owned()),
        Just("net".to_owned()),
        Just("world".to_owned()),
        "[a-c]{1,3}".prop_map(|name| format!("group:{name}")),
        "[a-z]{1,5}\\.example".prop_map(|name| name),
        (any::<u32>(), 0u32..=32).prop_map(|(bits, length)| {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("{}/{length}", Ipv4Addr::from_bits(bits & mask))
        }),
        (any::<u128>(), 0u32..=128).prop_map(|(bits, length)| {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            format!("{}/{length}", Ipv6Addr::from_bits(bits & mask))
        }),
        (0u8..=3, 0u8..=3).prop_map(|(a, b)| format!("10.0.0.0/8!10.{a}.0.0/16!10.{b}.0.0/17")),
    ];
    let port = (1u16..=20, 0u16..=5).prop_map(|(first, more)| format!("{first}-{}", first + more));
    let proto = prop_oneof![
        Just(String::new()),
        Just("icmp@".to_owned()),
        Just("tcp@".to_owned()),
        (prop_oneof!["tcp", "udp", "sctp"], prop::collection::vec(port, 1..4))
            .prop_map(|(protocol, ports)| format!("{protocol}:{}@", ports.join("/"))),
    ];
    let rule = prop_oneof![8 => (proto, peer).prop_map(|(proto, peer)| proto + &peer), 1 => Just("dns".to_owned())];
    prop::collection::vec(rule, 0..8).prop_map(|rules| rules.join("+"))
}

/// Whether one rule alone allows a packet: an evaluation that knows nothing of ranges.
fn plainly(list: &AllowList, protocol: u8, port: u16, peer: IpAddr, network: &NetworkSpec) -> bool {
    list.rules().any(|rule| {
        let (traffic, of) = match rule {
            Rule::Dns => return (protocol == 6 || protocol == 17) && port == 53,
            Rule::Allow(traffic, of) => (traffic, of),
        };
        let transport = match traffic {
            Traffic::Any => true,
            Traffic::Icmp => protocol == if peer.is_ipv4() { 1 } else { 58 },
            Traffic::Ports(wanted, ports) => {
                wanted.number() == protocol && ports.ranges().iter().any(|(a, b)| *a <= port && port <= *b)
            }
        };
        let is_net = |peer| network.subnets().any(|subnet| subnet.pool.contains(peer));
        transport
            && match of {
                Peer::Any => true,
                Peer::Net => is_net(peer) || matches!(peer, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80),
                Peer::Subnet(subnet) => subnet.net.contains(peer) && !subnet.except.iter().any(|e| e.contains(peer)),
                // Its ranges are in a test of their own.
                Peer::World => {
                    expand::expand(&AllowList(BTreeSet::from([rule.clone()])), network).allows(protocol, port, peer)
                }
                Peer::Host | Peer::Group(_) | Peer::Name(_) => false,
            }
    })
}

proptest! {
    #[test]
    fn a_printed_list_reads_back(text in rules()) {
        let parsed = list(&text);
        prop_assert_eq!(list(&parsed.to_string()), parsed.clone());
        let ledger = serde_json::to_string(&parsed).unwrap();
        prop_assert_eq!(serde_json::from_str::<AllowList>(&ledger).unwrap(), parsed);
    }

    #[test]
    fn any_text_is_parsed_or_refused_in_one_bounded_line(text in "\\PC{0,60}") {
        match text.parse::<AllowList>() {
            Ok(parsed) => prop_assert_eq!(list(&parsed.to_string()), parsed),
            Err(error) => {
                let line = error.to_string();
                prop_assert!(line.len() < 700 && !line.contains('\n'), "{}", line);
                prop_assert!((1..=text.chars().count() + 1).contains(&error.position));
            }
        }
    }

    #[test]
    fn ranges_are_disjoint_and_allow_what_the_rules_do(
        text in rules(), base in rules(), protocol in prop_oneof![Just(1u8), Just(6), Just(17), Just(58), Just(132), any::<u8>()],
        port in 1u16..=60, host in any::<u32>(), private in 0u8..=3, six in any::<bool>(),
    ) {
        let (network, list) = (network(), list(&text));
        let base = self::list(&base);
        let expanded = expand::expand_beyond(&list, &base, &network);
        prop_assert!(expanded.ranges() <= expand::MOST_RANGES);
        let overlap = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
        let wide = |a: (u8, u8)| (u16::from(a.0), u16::from(a.1));
        for (at, (t, first, last)) in expanded.addresses.iter().enumerate() {
            prop_assert!(first <= last && first.is_ipv4() == last.is_ipv4());
            for (u, from, to) in &expanded.addresses[..at] {
                let both = overlap(wide(t.protocols), wide(u.protocols)) && overlap(t.ports, u.ports);
                prop_assert!(!(both && Family::of(first) == Family::of(from) && first <= to && from <= last));
            }
        }
        let peers: [IpAddr; 3] = [
            Ipv4Addr::from_bits(host).into(),
            Ipv4Addr::new(10, private, 0, 1).into(),
            Ipv6Addr::from_bits(u128::from(host) << 96 | u128::from(six)).into(),
        ];
        for peer in peers {
            let wanted = plainly(&list, protocol, port, peer, &network) && !plainly(&base, protocol, port, peer, &network);
            prop_assert_eq!(expanded.allows(protocol, port, peer), wanted, "{} without {}: {}", text, base, peer);
        }
    }
}
