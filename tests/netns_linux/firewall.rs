//! The table, the accept rules, and their effect on packets.

use std::collections::BTreeSet;
use std::time::Instant;

use pontoon::datapath::{Change, ForwardRule, Kernel, LinkMatch, LinkProperty, Policy, Step};
use pontoon::model::Family;

use testkit::netns::*;
use testkit::topology::{TCP, ip, port};

fn elements(kernel: &impl Kernel) -> Option<BTreeSet<Policy>> {
    kernel.observe_firewall().unwrap().policy
}

fn masquerade(text: &str) -> Policy {
    Policy::Masquerade(net(text))
}

#[test]
fn the_table_reads_back_and_every_damage_is_detected() {
    in_netns(|kernel| {
        assert_eq!(elements(kernel), None);
        let error =
            kernel.apply(&[Step::ChangeFirewall { add: vec![masquerade("10.0.0.0/24")], remove: vec![] }]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let all = vec![
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbone")),
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbtwo")),
            Policy::Link(LinkProperty::Internal, name("pntbtwo")),
            Policy::IntraNetwork(name("pntbone")),
            Policy::Link(LinkProperty::EngineBridge, name("docker0")),
            masquerade("10.0.0.0/24"),
            masquerade("10.0.1.0/24"),
            masquerade("0.0.0.0/8"),
            masquerade("255.0.0.0/8"),
            masquerade("fd00::/64"),
        ];
        let wanted: BTreeSet<_> = all.iter().cloned().collect();
        twice(kernel, &[Step::CreateFirewall(all.clone())]);
        assert_eq!(elements(kernel), Some(wanted.clone()));
        let text = run("nft list table inet pontoon");
        eprintln!("{text}");
        for line in [
            "iifname . oifname @intra_network accept",
            "ct state established,related accept",
            "oifname @bridges counter",
            "oifname != @bridges ip saddr @masquerade4 masquerade",
            "elements = { \"pntbone\" . \"pntbone\" }",
            "10.0.0.0/24",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        for damage in [
            "delete rule inet pontoon forward_filter handle $(nft -a list chain inet pontoon forward_filter | sed -n 's/.*established,related.*handle //p')",
            "flush chain inet pontoon postrouting_nat",
            "flush chain bridge pontoon prerouting_source",
            "delete table bridge pontoon",
            "'add map inet pontoon other { type ipv4_addr : ipv4_addr; }'",
            "flush table inet pontoon",
            "delete table inet pontoon",
            "flush ruleset",
            "add rule inet pontoon forward_filter accept",
            "add chain inet pontoon other",
            "'add chain inet pontoon forward_filter { policy drop; }'",
            "'add set inet pontoon extra { type ipv4_addr; }'",
            "flush chain inet pontoon forward_internal",
            "'flush chain inet pontoon forward_internal; delete chain inet pontoon forward_internal'",
            "'add table inet pontoon { flags dormant; }'",
        ] {
            run(&format!("nft {damage}"));
            assert_eq!(elements(kernel), None, "{damage}");
            twice(kernel, &[Step::CreateFirewall(all.clone())]);
            assert_eq!(elements(kernel), Some(wanted.clone()), "{damage}");
        }
        run("nft delete element inet pontoon bridges '{ \"pntbone\" }'");
        assert!(!elements(kernel).unwrap().contains(&Policy::Link(LinkProperty::ProtectedBridge, name("pntbone"))));
        run("nft add element inet pontoon masquerade4 '{ 172.16.0.1-172.16.0.9 }'");
        assert_eq!(elements(kernel), None, "an element that Pontoon never writes");
    });
}

#[test]
fn a_ruleset_of_an_earlier_release_is_read_and_replaced() {
    in_netns(|kernel| {
        run("nft -f - <<'EOF'
            table inet pontoon {
                comment \"pontoon ruleset 6\"
                set apart { type ifname . ifname; elements = { \"lan0\" . \"lan0\" } }
                set own4 { type ipv4_addr; elements = { 10.0.0.1 } }
                set masq4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/24 } }
                map port4 { type inet_proto . inet_service : ipv4_addr . inet_service
                    elements = { tcp . 8080 : 10.0.0.2 . 80 } }
            }
            table bridge pontoon { set checked { type ifname; elements = { \"pnth1\" } }; }\nEOF");
        let seen = kernel.observe_firewall().unwrap();
        let before = BTreeSet::from([
            Policy::Isolated(name("lan0")),
            Policy::BridgeAddress(ip("10.0.0.1")),
            masquerade("10.0.0.0/24"),
            port(TCP, "0.0.0.0", 8080, "10.0.0.2"),
            Policy::Link(LinkProperty::SpoofChecked, name("pnth1")),
        ]);
        assert_eq!((seen.policy, seen.former_policy), (None, before.clone()));
        kernel.apply(&[Step::CreateFirewall(before.iter().cloned().collect())]).unwrap();
        assert_eq!(elements(kernel), Some(before));
        assert!(!run("nft list table inet pontoon").contains("set own4"));
    });
}

#[test]
fn a_kernel_without_reject_has_all_other_rules() {
    in_netns(|kernel| {
        let all = BTreeSet::from([masquerade("10.0.0.0/24")]);
        let ports = pontoon::linux::netlink::OwnPorts::default().into();
        let mut socket =
            pontoon::linux::netlink::Socket::open(pontoon::linux::netlink::Protocol::Netfilter, ports).unwrap();
        pontoon::linux::firewall::tables::create_with(&mut socket, &all, false).unwrap();
        let text = run("nft list table inet pontoon");
        assert!(text.contains("without reject") && !text.contains("reject with"), "{text}");
        assert_eq!(elements(kernel), Some(all.clone()));
        run("nft add rule inet pontoon input_reject accept");
        assert_eq!(elements(kernel), None);
        kernel.apply(&[Step::CreateFirewall(all.iter().cloned().collect())]).unwrap();
        assert!(run("nft list table inet pontoon").contains("reject with tcp reset"));
        assert_eq!(elements(kernel), Some(all));
    });
}

#[test]
fn element_changes_are_idempotent_and_of_any_number() {
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateFirewall(vec![])]).unwrap();
        assert_eq!(elements(kernel), Some(BTreeSet::new()));
        let add = |list: &[Policy]| Step::ChangeFirewall { add: list.to_vec(), remove: vec![] };
        let remove = |list: &[Policy]| Step::ChangeFirewall { add: vec![], remove: list.to_vec() };
        let one = [
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbone")),
            Policy::IntraNetwork(name("pntbone")),
            masquerade("10.0.0.0/24"),
        ];
        twice(kernel, &[add(&one)]);
        assert_eq!(elements(kernel), Some(one.iter().cloned().collect()));
        // An existing one and a missing one, in both directions.
        let two =
            [one[0].clone(), Policy::Link(LinkProperty::ProtectedBridge, name("pntbtwo")), masquerade("10.0.1.0/24")];
        twice(kernel, &[add(&two)]);
        twice(kernel, &[remove(&two)]);
        assert_eq!(elements(kernel), Some([one[1].clone(), one[2].clone()].into()));
        // A subnet that contains another one, and back.
        twice(kernel, &[add(&[masquerade("10.0.0.0/16")]), add(&[masquerade("10.0.0.0/24")])]);
        assert_eq!(elements(kernel), Some([one[1].clone(), masquerade("10.0.0.0/16")].into()));
        twice(kernel, &[remove(&[masquerade("10.0.0.0/24")]), remove(&[masquerade("10.0.0.0/16")])]);
        twice(
            kernel,
            &[Step::ChangeFirewall { add: vec![masquerade("0.0.0.0/0"), masquerade("::/0")], remove: one.to_vec() }],
        );
        assert_eq!(elements(kernel), Some([masquerade("0.0.0.0/0"), masquerade("::/0")].into()));

        let many: Vec<_> = (0..1000u32)
            .flat_map(|n| {
                let link = name(&format!("pntb{n}"));
                let subnet = format!("10.{}.{}.0/24", n / 250, n % 250);
                [
                    Policy::Link(LinkProperty::ProtectedBridge, link.clone()),
                    Policy::IntraNetwork(link),
                    masquerade(&subnet),
                    masquerade(&format!("fd00:{n:x}::/64")),
                ]
            })
            .collect();
        let begun = Instant::now();
        kernel.apply(&[Step::CreateFirewall(many.clone())]).unwrap();
        let made = begun.elapsed();
        assert_eq!(elements(kernel), Some(many.iter().cloned().collect()));
        eprintln!("table of 1000 networks created in {made:?}, read in {:?}", begun.elapsed() - made);
        kernel.apply(&[remove(&many)]).unwrap();
        assert_eq!(elements(kernel), Some(BTreeSet::new()));
        twice(kernel, &[add(&many)]);
    });
}

#[test]
fn iptables_reads_the_accept_rules_as_ordinary_ones() {
    in_netns(|kernel| {
        let seen = kernel.observe_firewall().unwrap();
        assert_eq!((seen.forward4, seen.forward6), (None, None));
        let prefix = || LinkMatch::Prefix("pnt".to_owned());
        let rules = vec![
            ForwardRule::From(prefix()),
            ForwardRule::To(prefix()),
            ForwardRule::From(LinkMatch::Name(name("br0"))),
        ];
        twice(kernel, &[Step::ForwardRules { family: Family::V4, rules: rules.clone() }]);
        assert_eq!(kernel.observe_firewall().unwrap().forward4, None, "the chain belongs to iptables");
        for (family, iptables) in [(Family::V4, "iptables-nft"), (Family::V6, "ip6tables-nft")] {
            run(&format!("{iptables} -P FORWARD DROP; {iptables} -A FORWARD -i eth0 -j ACCEPT"));
            twice(kernel, &[Step::ForwardRules { family, rules: rules.clone() }]);
            let text = run(&format!("{iptables} -S FORWARD"));
            eprintln!("{text}");
            assert_eq!(
                text.lines().collect::<Vec<_>>(),
                [
                    "-P FORWARD DROP",
                    "-A FORWARD -i eth0 -j ACCEPT",
                    "-A FORWARD -i pnt+ -m comment --comment pontoon -j ACCEPT",
                    "-A FORWARD -o pnt+ -m comment --comment pontoon -j ACCEPT",
                    "-A FORWARD -i br0 -m comment --comment pontoon -j ACCEPT"
                ]
            );
            let read = |kernel: &pontoon::linux::LinuxKernel| {
                let seen = kernel.observe_firewall().unwrap();
                family.choose(seen.forward4, seen.forward6)
            };
            assert_eq!(read(kernel), Some(rules.iter().cloned().collect()));
            // After a save and restore by iptables they are still recognised, without duplicates.
            run(&format!("{iptables}-save | {iptables}-restore"));
            twice(kernel, &[Step::ForwardRules { family, rules: rules.clone() }]);
            assert_eq!(run(&format!("{iptables} -S FORWARD")), text);
            // A flush is detected; a duplicate is removed; the user's rules are kept.
            run(&format!(
                "{iptables} -D FORWARD -i pnt+ -m comment --comment pontoon -j ACCEPT; {iptables} -A FORWARD -o other -j DROP"
            ));
            // Accept rules in front of a later foreign rule would accept what it drops: they count as missing, and are
            // moved behind it.
            assert_eq!(read(kernel), Some(BTreeSet::new()));
            twice(kernel, &[Step::ForwardRules { family, rules: rules[..2].to_vec() }]);
            let text = run(&format!("{iptables} -S FORWARD"));
            assert_eq!(
                text.lines().skip(1).collect::<Vec<_>>(),
                [
                    "-A FORWARD -i eth0 -j ACCEPT",
                    "-A FORWARD -o other -j DROP",
                    "-A FORWARD -i pnt+ -m comment --comment pontoon -j ACCEPT",
                    "-A FORWARD -o pnt+ -m comment --comment pontoon -j ACCEPT"
                ]
            );
            twice(kernel, &[Step::ForwardRules { family, rules: vec![] }]);
            assert_eq!(read(kernel), Some(BTreeSet::new()));
            run(&format!("{iptables} -F FORWARD"));
            assert_eq!(read(kernel), Some(BTreeSet::new()));
        }
    });
}

#[test]
fn packets_are_accepted_and_dropped_by_the_rules() {
    in_netns(|kernel| {
        // Two networks, an internal one, one of the engine, and a host outside.
        let outside = Netns::new();
        run("ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
        outside.take("up1", "192.0.2.2/24", "");
        let mut steps = Vec::new();
        let mut hosts = Vec::new();
        for (id, subnet) in [("one", "10.1.0"), ("two", "10.2.0"), ("inside", "10.3.0")] {
            let br = format!("pntb{id}");
            steps.push(Step::create(name(&br), bridge(id, &[&format!("{subnet}.1/24")])));
            for n in [2, 3] {
                let (host, pair) = veth(&format!("{id}{n}"), &br);
                hosts.push((pair.peer.clone(), format!("{subnet}.{n}/24"), format!("{subnet}.1")));
                steps.push(Step::create(host, pair));
            }
        }
        steps.push(Step::CreateFirewall(vec![
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbone")),
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbtwo")),
            Policy::IntraNetwork(name("pntbone")),
            Policy::IntraNetwork(name("pntbtwo")),
            Policy::IntraNetwork(name("pntbinside")),
            Policy::Link(LinkProperty::ProtectedBridge, name("pntbinside")),
            Policy::Link(LinkProperty::Internal, name("pntbinside")),
            Policy::Link(LinkProperty::EngineBridge, name("docker0")),
            masquerade("10.1.0.0/24"),
        ]));
        // No engine rules exist here: forwarding for its bridge is not Pontoon's decision.
        run("sysctl -qw net.ipv4.ip_forward=1");
        kernel.apply(&steps).unwrap();
        run("ip link add docker0 type bridge; ip addr add 10.9.0.1/24 dev docker0; ip link set docker0 up");
        run("ip link add d0 type veth peer name d1; ip link set d0 master docker0 up");
        let engine = Netns::new();
        engine.take("d1", "10.9.0.2/24", "10.9.0.1");
        let sandboxes: Vec<_> = hosts
            .iter()
            .map(|(peer, address, gateway)| {
                let sandbox = Netns::new();
                sandbox.take(peer.as_str(), address, gateway);
                sandbox
            })
            .collect();
        let [one, _one_b, two, _two_b, inside, _inside_b] = &sandboxes[..] else { panic!() };
        assert!(one.pings("10.1.0.3"), "within a network");
        assert!(one.pings("10.1.0.1"), "the gateway");
        // The outside host has no route back: only a masqueraded source is answered.
        assert!(one.pings("192.0.2.2"), "masqueraded");
        assert!(!two.pings("192.0.2.2"), "not masqueraded");
        outside.run("ip route add 10.0.0.0/8 via 192.0.2.1");
        assert!(two.pings("192.0.2.2"), "answers to outgoing requests");
        assert!(!outside.pings("10.2.0.2"), "from outside");
        assert!(!two.pings("10.1.0.2") && !one.pings("10.2.0.2"), "from another network");
        assert!(inside.pings("10.3.0.3") && inside.pings("10.3.0.1"), "within an internal network");
        assert!(!inside.pings("192.0.2.2"), "out of an internal network");
        assert!(!one.pings("10.9.0.2"), "to an unpublished port of the engine's network");
        assert!(!engine.pings("10.1.0.2"), "from the engine's network");
        let drops = run("nft list chain inet pontoon forward_filter");
        assert!(
            !drops.contains("counter packets 0 bytes 0 drop comment \"all other traffic into a network\""),
            "{drops}"
        );
    });
}

#[test]
fn isolated_ports_reach_only_the_bridge() {
    in_netns(|kernel| {
        kernel.apply(&[Step::create(name("pntbone"), bridge("one", &["10.1.0.1/24"]))]).unwrap();
        let sandboxes: Vec<_> = [2, 3]
            .map(|n| {
                let (host, mut pair) = veth(&format!("v{n}"), "pntbone");
                pair.isolated = true;
                kernel.apply(&[Step::create(host, pair.clone())]).unwrap();
                let sandbox = Netns::new();
                sandbox.take(pair.peer.as_str(), &format!("10.1.0.{n}/24"), "10.1.0.1");
                sandbox
            })
            .into();
        assert!(sandboxes[0].pings("10.1.0.1") && sandboxes[1].pings("10.1.0.1"));
        assert!(!sandboxes[0].pings("10.1.0.3"));
        kernel.apply(&[Step::Change(name("pnthv2"), Change::Isolate(false))]).unwrap();
        assert!(sandboxes[0].pings("10.1.0.3"));
    });
}

/// Chains that not every host needs are created with the first statement that needs them, whatever it is.
#[test]
fn chains_are_added_with_the_first_statement_that_needs_them() {
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateFirewall(vec![])]).unwrap();
        let chains = || -> BTreeSet<String> {
            let tables = run("nft list table inet pontoon; nft list table bridge pontoon");
            let lines = tables.lines().map(str::trim).filter_map(|line| line.strip_prefix("chain "));
            lines.map(|line| line.trim_end_matches(" {").to_owned()).collect()
        };
        let always = chains();
        assert_eq!(always.len(), 9, "{always:?}");
        let link = || name("pntbone");
        for (statement, needed) in [
            (Policy::Isolated(link()), &["forward_isolated"][..]),
            (Policy::Link(LinkProperty::Internal, link()), &["forward_internal"]),
            (Policy::LimitedForwarding(Family::V6), &["forward_others", "prerouting_bridges"]),
            (Policy::Peer(ip("192.0.2.2")), &["forward_tunnel", "input_filter", "output_tunnel", "prerouting_tunnel"]),
            (Policy::Link(LinkProperty::NoMulticast, link()), &["postrouting_tunnel"]),
            (Policy::Link(LinkProperty::NoRouterAdvertisements, link()), &["postrouting_tunnel"]),
        ] {
            let wanted: BTreeSet<String> = always.iter().cloned().chain(needed.iter().map(|n| n.to_string())).collect();
            let change = |add: &[Policy], remove: &[Policy]| {
                kernel.apply(&[Step::ChangeFirewall { add: add.to_vec(), remove: remove.to_vec() }]).unwrap();
            };
            let only = std::slice::from_ref(&statement);
            change(only, &[]);
            assert_eq!(chains(), wanted, "{statement:?}");
            assert_eq!(elements(kernel), Some(only.iter().cloned().collect()));
            // Again, and after they are no longer needed.
            change(only, &[]);
            change(&[], only);
            change(only, &[]);
            assert_eq!((chains(), elements(kernel)), (wanted.clone(), Some(only.iter().cloned().collect())));
            kernel.apply(&[Step::CreateFirewall(only.to_vec())]).unwrap();
            assert_eq!(chains(), wanted, "{statement:?}, tables created");
            let family = if needed[0].starts_with("postrouting") { "bridge" } else { "inet" };
            run(&format!("nft 'flush chain {family} pontoon {0}; delete chain {family} pontoon {0}'", needed[0]));
            assert_eq!(elements(kernel), None, "{statement:?} without chain {}", needed[0]);
            kernel.apply(&[Step::CreateFirewall(vec![])]).unwrap();
            assert_eq!(chains(), always);
        }
    });
}
