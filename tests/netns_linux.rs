//! `LinuxKernel` on the real kernel: every test in a network namespace of its own, as root.

mod netns_support;

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use netns_support::*;
use pontoon::datapath::{Element, ForwardRule, GROUP_DEAD, GROUP_LIVE, Kernel, KernelError, LinkMatch, Step};
use pontoon::linux::watch::Event;
use pontoon::model::Mac;

#[test]
fn a_bridge_is_made_as_wanted_and_reads_back() {
    in_netns(|kernel| {
        let br = name("pntbone");
        let wanted = bridge("one", &["10.1.0.1/24", "fd00:1::1/64"]);
        twice(kernel, &[Step::CreateBridge(br.clone(), wanted.clone())]);
        let plain = bridge("two", &["10.2.0.1/24"]);
        twice(kernel, &[Step::CreateBridge(name("custom0"), plain.clone())]);
        let seen = observe(kernel);
        assert_eq!(seen.bridges.get(&br), Some(&wanted));
        assert_eq!(seen.bridges.get(&name("custom0")), Some(&plain));
        assert!(!run("ip -6 addr show dev pntbone").contains("tentative"));
        assert!(run("ip -6 addr show dev custom0").is_empty(), "IPv6 is off where it is not wanted");
        let info = kernel.link(&br).unwrap().unwrap();
        assert_eq!((info.kind.as_str(), info.mtu, info.group, info.mac), ("bridge", 1500, GROUP_LIVE, wanted.mac));
        assert_eq!(kernel.link(&name("nothere")).unwrap(), None);

        // Its MTU does not follow that of its ports, neither the default one nor another.
        let (host, mut pair) = veth("small", "pntbone");
        pair.mtu = 1280;
        kernel.apply(&[Step::CreateVeth(host.clone(), pair)]).unwrap();
        assert_eq!(kernel.link(&br).unwrap().unwrap().mtu, 1500);
        twice(kernel, &[Step::SetMtu(br.clone(), 9000), Step::SetMtu(host, 1400)]);
        assert_eq!(kernel.link(&br).unwrap().unwrap().mtu, 9000);

        // What drifted is repaired by the same step.
        run(
            "ip link set pntbone down mtu 1600 alias other; ip addr flush dev pntbone; ip link set pntbone address 02:00:00:00:00:01",
        );
        twice(kernel, &[Step::CreateBridge(br.clone(), wanted.clone())]);
        assert_eq!(observe(kernel).bridges.get(&br), Some(&wanted));
    });
}

#[test]
fn addresses_and_settings_are_idempotent() {
    in_netns(|kernel| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let br = name("pntbone");
        kernel.apply(&[Step::CreateBridge(br.clone(), bridge("one", &[]))]).unwrap();
        let seen = observe(kernel);
        assert!(!seen.forwarding.v4 && !seen.forwarding.v6 && !seen.bridges[&br].ipv6);
        twice(
            kernel,
            &[
                Step::Forward { v6: false },
                Step::Forward { v6: true },
                Step::EnableIpv6(br.clone()),
                Step::AddAddress(br.clone(), net("fd00:1::1/64")),
                Step::AddAddress(br.clone(), net("10.1.0.1/24")),
                Step::AddAddress(br.clone(), net("fe80::1/64")),
                Step::SetUp(br.clone()),
            ],
        );
        let seen = observe(kernel);
        assert!(seen.forwarding.v4 && seen.forwarding.v6 && seen.bridges[&br].ipv6);
        let expected: BTreeSet<_> = ["10.1.0.1/24", "fd00:1::1/64", "fe80::1/64"].map(net).into();
        assert_eq!(seen.bridges[&br].addresses, expected, "without the one that the kernel made");
        // The same address with another prefix length.
        twice(kernel, &[Step::AddAddress(br.clone(), net("fd00:1::1/80"))]);
        twice(
            kernel,
            &[Step::RemoveAddress(br.clone(), net("fe80::1/64")), Step::RemoveAddress(name("gone"), net("10.0.0.1/8"))],
        );
        let expected: BTreeSet<_> = ["10.1.0.1/24", "fd00:1::1/80"].map(net).into();
        assert_eq!(observe(kernel).bridges[&br].addresses, expected);
    });
}

#[test]
fn a_veth_is_made_as_wanted_and_reads_back() {
    in_netns(|kernel| {
        let br = name("pntbone");
        kernel.apply(&[Step::CreateBridge(br.clone(), bridge("one", &[]))]).unwrap();
        let (host, mut pair) = veth("abc", "pntbone");
        pair.mtu = 1400;
        twice(kernel, &[Step::CreateVeth(host.clone(), pair.clone())]);
        assert_eq!(observe(kernel).veths.get(&host), Some(&read_back(&pair)));
        assert!(run("ip -d link show pntcabc").contains(&pair.peer_mac.unwrap().to_string()));
        assert!(run("ip -d link show pntcabc").contains("mtu 1400"));
        assert!(run("ip -d link show pntcabc").contains("numtxqueues 1 numrxqueues 1"));

        let (isolated, mut other) = veth("def", "pntbone");
        other.isolated = true;
        twice(kernel, &[Step::CreateVeth(isolated.clone(), other.clone())]);
        assert_eq!(observe(kernel).veths.get(&isolated), Some(&read_back(&other)));
        twice(kernel, &[Step::Isolate(isolated.clone(), false), Step::Isolate(host.clone(), true)]);
        let seen = observe(kernel);
        assert!(seen.veths[&host].isolated && !seen.veths[&isolated].isolated);

        // What drifted is repaired by the same step, on both ends.
        run("ip link set pnthabc down nomaster mtu 1300; ip link set pntcabc mtu 1200");
        twice(kernel, &[Step::CreateVeth(host.clone(), pair.clone())]);
        assert_eq!(observe(kernel).veths.get(&host), Some(&read_back(&pair)));
        run("ip link set pnthabc nomaster down");
        twice(kernel, &[Step::SetMaster(host.clone(), br.clone()), Step::SetUp(host.clone())]);
        assert_eq!(observe(kernel).veths.get(&host), Some(&read_back(&pair)));

        // A peer out of sight has the name that it was given.
        let sandbox = Netns::new();
        sandbox.take("pntcabc", "10.1.0.2/24", "");
        assert_eq!(observe(kernel).veths.get(&host), Some(&read_back(&pair)));

        // The bridge was made anew by somebody: its index is another.
        run("ip link del pntbone");
        kernel.apply(&[Step::CreateBridge(name("pntbtwo"), bridge("two", &[]))]).unwrap();
        run(&format!("ip link add pntbone group {GROUP_LIVE} type bridge"));
        twice(kernel, &[Step::SetMaster(host.clone(), br.clone())]);
        assert_eq!(observe(kernel).veths[&host].bridge, Some(br));
    });
}

#[test]
fn a_foreign_link_is_never_taken_for_ours() {
    in_netns(|kernel| {
        run(
            "ip link add pntbone type bridge; ip link add pnthabc type veth peer name x1; ip link add x2 type veth peer name pntcdef",
        );
        let error = kernel.apply(&[Step::CreateBridge(name("pntbone"), bridge("one", &[]))]).unwrap_err().to_string();
        assert!(error.contains("create bridge pntbone") && error.contains("not Pontoon's"), "{error}");
        kernel.apply(&[Step::CreateBridge(name("pntbtwo"), bridge("two", &[]))]).unwrap();
        for (id, taken) in [("abc", "pnthabc"), ("def", "pntcdef")] {
            let (host, pair) = veth(id, "pntbtwo");
            let error = kernel.apply(&[Step::CreateVeth(host.clone(), pair)]).unwrap_err().to_string();
            assert!(error.contains(&format!("{taken} is a veth that is not Pontoon's")), "{error}");
            kernel.apply(&[Step::RetireVeth(host)]).unwrap();
        }
        twice(kernel, &[Step::RetireBridge(name("pntbone"))]);
        settle(kernel);
        assert!(kernel.link(&name("pntbone")).unwrap().is_some() && kernel.link(&name("pnthabc")).unwrap().is_some());
        let seen = observe(kernel);
        assert_eq!(seen.bridges.keys().collect::<Vec<_>>(), [&name("pntbtwo")]);
        assert!(seen.veths.is_empty());
        let named = kernel.observe(&[name("pntbone")].into()).unwrap();
        assert!(!named.bridges[&name("pntbone")].owned);

        // Ports of a foreign bridge are fine, a missing bridge is named, the kernel's words are passed on.
        let (host, mut pair) = veth("ghi", "pntbone");
        twice(kernel, &[Step::CreateVeth(host.clone(), pair.clone())]);
        assert_eq!(observe(kernel).veths[&host].bridge, Some(name("pntbone")));
        pair.bridge = Some(name("nothere"));
        let error = kernel.apply(&[Step::CreateVeth(name("pnthx"), pair)]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert!(error.to_string().contains("there is no bridge nothere"), "{error}");
        let error = kernel.apply(&[Step::SetMtu(host, 70_000)]).unwrap_err();
        let KernelError::Refused { message, .. } = &error else { panic!("{error}") };
        assert!(message.contains("mtu greater than device maximum"), "{error}");
    });
}

#[test]
fn retired_links_go_in_batches_and_names_are_free_again() {
    in_netns(|kernel| {
        let br = name("pntbone");
        kernel.apply(&[Step::CreateBridge(br.clone(), bridge("one", &["10.1.0.1/24"]))]).unwrap();
        let pairs: Vec<_> = (0..100).map(|n| veth(&format!("v{n}"), "pntbone")).collect();
        let make: Vec<_> = pairs.iter().map(|(host, pair)| Step::CreateVeth(host.clone(), pair.clone())).collect();
        kernel.apply(&make).unwrap();
        assert_eq!(observe(kernel).veths.len(), 100);
        let retire: Vec<_> = pairs.iter().map(|(host, _)| Step::RetireVeth(host.clone())).collect();
        let begun = Instant::now();
        twice(kernel, &retire);
        let queued = begun.elapsed();
        settle(kernel);
        let gone = begun.elapsed();
        eprintln!("100 veths retired twice in {queued:?}, gone after {gone:?}");
        assert!(queued < Duration::from_millis(100) && gone < Duration::from_secs(2));
        assert!(observe(kernel).veths.is_empty());
        assert!(!run("ip link").contains("pntc"));

        // At once again under the same name, and it stays.
        let (host, pair) = &pairs[0];
        for _ in 0..3 {
            kernel.apply(&[Step::CreateVeth(host.clone(), pair.clone()), Step::RetireVeth(host.clone())]).unwrap();
        }
        kernel.apply(&[Step::CreateVeth(host.clone(), pair.clone())]).unwrap();
        settle(kernel);
        assert_eq!(observe(kernel).veths.get(host), Some(&read_back(pair)));
        twice(kernel, &[Step::RetireBridge(br.clone())]);
        let wanted = bridge("one", &["10.1.0.1/24"]);
        kernel.apply(&[Step::CreateBridge(br.clone(), wanted.clone())]).unwrap();
        settle(kernel);
        assert_eq!(observe(kernel).bridges.get(&br), Some(&wanted));
        // Routes vanish with the call, not with the deletion.
        kernel.apply(&[Step::RetireBridge(br.clone())]).unwrap();
        assert!(!run("ip route").contains("10.1.0.0/24"));
        assert!(observe(kernel).bridges.is_empty());
        settle(kernel);
        assert_eq!(kernel.link(&br).unwrap(), None);
    });
}

#[test]
fn a_foreign_link_in_the_group_for_deletion_survives() {
    in_netns(|kernel| {
        settle(kernel);
        run(&format!("ip link add stranger group {GROUP_DEAD} type veth peer name other"));
        run(&format!("ip link add pntbold group {GROUP_DEAD} type bridge"));
        kernel.apply(&[Step::CreateBridge(name("custom0"), bridge("one", &[]))]).unwrap();
        let (host, pair) = veth("abc", "custom0");
        kernel.apply(&[Step::CreateVeth(host.clone(), pair)]).unwrap();
        kernel.apply(&[Step::RetireVeth(host.clone()), Step::RetireBridge(name("custom0"))]).unwrap();
        settle(kernel);
        for gone in [&host, &name("custom0"), &name("pntbold")] {
            assert_eq!(kernel.link(gone).unwrap(), None, "{gone}");
        }
        assert!(kernel.link(&name("stranger")).unwrap().is_some());
    });
}

fn elements(kernel: &impl Kernel) -> Option<BTreeSet<Element>> {
    kernel.observe_firewall().unwrap().elements
}

fn masquerade(text: &str) -> Element {
    Element::Masquerade(net(text))
}

#[test]
fn the_table_reads_back_and_every_damage_is_noticed() {
    in_netns(|kernel| {
        assert_eq!(elements(kernel), None);
        let error =
            kernel.apply(&[Step::Elements { add: vec![masquerade("10.0.0.0/24")], remove: vec![] }]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let all = vec![
            Element::Bridge(name("pntbone")),
            Element::Bridge(name("pntbtwo")),
            Element::Internal(name("pntbtwo")),
            Element::Intra(name("pntbone")),
            Element::Engine(name("docker0")),
            masquerade("10.0.0.0/24"),
            masquerade("10.0.1.0/24"),
            masquerade("0.0.0.0/8"),
            masquerade("255.0.0.0/8"),
            masquerade("fd00::/64"),
        ];
        let wanted: BTreeSet<_> = all.iter().cloned().collect();
        twice(kernel, &[Step::CreateTable(all.clone())]);
        assert_eq!(elements(kernel), Some(wanted.clone()));
        let text = run("nft list table inet pontoon");
        eprintln!("{text}");
        for line in [
            "iifname . oifname @intra accept",
            "ct state established,related accept",
            "oifname @bridges counter",
            "ip saddr @masq4 oifname != @bridges masquerade",
            "elements = { \"pntbone\" . \"pntbone\" }",
            "10.0.0.0/24",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        for damage in [
            "delete rule inet pontoon forward_filter handle $(nft -a list chain inet pontoon forward_filter | sed -n 's/.*answers.*handle //p')",
            "flush chain inet pontoon postrouting_nat",
            "flush table inet pontoon",
            "delete table inet pontoon",
            "flush ruleset",
            "add rule inet pontoon forward_filter accept",
            "add chain inet pontoon other",
            "'add chain inet pontoon forward_filter { policy drop; }'",
            "'add set inet pontoon extra { type ipv4_addr; }'",
            "'add table inet pontoon { flags dormant; }'",
        ] {
            run(&format!("nft {damage}"));
            assert_eq!(elements(kernel), None, "{damage}");
            twice(kernel, &[Step::CreateTable(all.clone())]);
            assert_eq!(elements(kernel), Some(wanted.clone()), "{damage}");
        }
        run("nft delete element inet pontoon bridges '{ \"pntbone\" }'");
        assert!(!elements(kernel).unwrap().contains(&Element::Bridge(name("pntbone"))));
        run("nft add element inet pontoon masq4 '{ 172.16.0.1-172.16.0.9 }'");
        assert_eq!(elements(kernel), None, "an element that Pontoon would never write");
    });
}

#[test]
fn elements_are_changed_idempotently_and_in_any_number() {
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateTable(vec![])]).unwrap();
        assert_eq!(elements(kernel), Some(BTreeSet::new()));
        let add = |list: &[Element]| Step::Elements { add: list.to_vec(), remove: vec![] };
        let remove = |list: &[Element]| Step::Elements { add: vec![], remove: list.to_vec() };
        let one = [Element::Bridge(name("pntbone")), Element::Intra(name("pntbone")), masquerade("10.0.0.0/24")];
        twice(kernel, &[add(&one)]);
        assert_eq!(elements(kernel), Some(one.iter().cloned().collect()));
        // One that is there and one that is not, both ways.
        let two = [one[0].clone(), Element::Bridge(name("pntbtwo")), masquerade("10.0.1.0/24")];
        twice(kernel, &[add(&two)]);
        twice(kernel, &[remove(&two)]);
        assert_eq!(elements(kernel), Some([one[1].clone(), one[2].clone()].into()));
        // A subnet around another one, which is then part of it, and back.
        twice(kernel, &[add(&[masquerade("10.0.0.0/16")]), add(&[masquerade("10.0.0.0/24")])]);
        assert_eq!(elements(kernel), Some([one[1].clone(), masquerade("10.0.0.0/16")].into()));
        twice(kernel, &[remove(&[masquerade("10.0.0.0/24")]), remove(&[masquerade("10.0.0.0/16")])]);
        twice(
            kernel,
            &[Step::Elements { add: vec![masquerade("0.0.0.0/0"), masquerade("::/0")], remove: one.to_vec() }],
        );
        assert_eq!(elements(kernel), Some([masquerade("0.0.0.0/0"), masquerade("::/0")].into()));

        let many: Vec<_> = (0..1000u32)
            .flat_map(|n| {
                let link = name(&format!("pntb{n}"));
                let subnet = format!("10.{}.{}.0/24", n / 250, n % 250);
                [
                    Element::Bridge(link.clone()),
                    Element::Intra(link),
                    masquerade(&subnet),
                    masquerade(&format!("fd00:{n:x}::/64")),
                ]
            })
            .collect();
        let begun = Instant::now();
        kernel.apply(&[Step::CreateTable(many.clone())]).unwrap();
        let made = begun.elapsed();
        assert_eq!(elements(kernel), Some(many.iter().cloned().collect()));
        eprintln!("table of 1000 networks made in {made:?}, read in {:?}", begun.elapsed() - made);
        kernel.apply(&[remove(&many)]).unwrap();
        assert_eq!(elements(kernel), Some(BTreeSet::new()));
        twice(kernel, &[add(&many)]);
    });
}

#[test]
fn accepting_rules_are_ordinary_ones_to_iptables() {
    in_netns(|kernel| {
        let seen = kernel.observe_firewall().unwrap();
        assert_eq!((seen.forward4, seen.forward6), (None, None));
        let prefix = || LinkMatch::Prefix("pnt".to_owned());
        let rules = vec![
            ForwardRule::From(prefix()),
            ForwardRule::To(prefix()),
            ForwardRule::From(LinkMatch::Name(name("br0"))),
        ];
        twice(kernel, &[Step::ForwardRules { v6: false, rules: rules.clone() }]);
        assert_eq!(kernel.observe_firewall().unwrap().forward4, None, "the chain is not ours to make");
        for (v6, iptables) in [(false, "iptables-nft"), (true, "ip6tables-nft")] {
            run(&format!("{iptables} -P FORWARD DROP; {iptables} -A FORWARD -i eth0 -j ACCEPT"));
            twice(kernel, &[Step::ForwardRules { v6, rules: rules.clone() }]);
            let text = run(&format!("{iptables} -S FORWARD"));
            eprintln!("{text}");
            assert_eq!(
                text.lines().collect::<Vec<_>>(),
                [
                    "-P FORWARD DROP",
                    "-A FORWARD -i eth0 -j ACCEPT",
                    "-A FORWARD -i pnt+ -j ACCEPT",
                    "-A FORWARD -o pnt+ -j ACCEPT",
                    "-A FORWARD -i br0 -j ACCEPT"
                ]
            );
            let read = |kernel: &pontoon::linux::LinuxKernel| {
                let seen = kernel.observe_firewall().unwrap();
                if v6 { seen.forward6 } else { seen.forward4 }
            };
            assert_eq!(read(kernel), Some(rules.iter().cloned().collect()));
            // A flush is noticed; a rule too many goes; the user's stay.
            run(&format!("{iptables} -D FORWARD -i pnt+ -j ACCEPT; {iptables} -A FORWARD -o other -j DROP"));
            assert_eq!(read(kernel), Some(rules[1..].iter().cloned().collect()));
            twice(kernel, &[Step::ForwardRules { v6, rules: rules[..2].to_vec() }]);
            let text = run(&format!("{iptables} -S FORWARD"));
            assert_eq!(
                text.lines().skip(1).collect::<Vec<_>>(),
                [
                    "-A FORWARD -i eth0 -j ACCEPT",
                    "-A FORWARD -o pnt+ -j ACCEPT",
                    "-A FORWARD -o other -j DROP",
                    "-A FORWARD -i pnt+ -j ACCEPT"
                ]
            );
            twice(kernel, &[Step::ForwardRules { v6, rules: vec![] }]);
            assert_eq!(read(kernel), Some(BTreeSet::new()));
            run(&format!("{iptables} -F FORWARD"));
            assert_eq!(read(kernel), Some(BTreeSet::new()));
        }
    });
}

#[test]
fn packets_pass_and_are_dropped_as_the_rules_say() {
    in_netns(|kernel| {
        // Two networks, an internal one, one of the engine's, and a host outside.
        let outside = Netns::new();
        run("ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
        outside.take("up1", "192.0.2.2/24", "");
        let mut steps = vec![Step::Forward { v6: false }];
        let mut hosts = Vec::new();
        for (id, subnet) in [("one", "10.1.0"), ("two", "10.2.0"), ("inside", "10.3.0")] {
            let br = format!("pntb{id}");
            steps.push(Step::CreateBridge(name(&br), bridge(id, &[&format!("{subnet}.1/24")])));
            for n in [2, 3] {
                let (host, pair) = veth(&format!("{id}{n}"), &br);
                hosts.push((pair.peer.clone(), format!("{subnet}.{n}/24"), format!("{subnet}.1")));
                steps.push(Step::CreateVeth(host, pair));
            }
        }
        steps.push(Step::CreateTable(vec![
            Element::Bridge(name("pntbone")),
            Element::Bridge(name("pntbtwo")),
            Element::Intra(name("pntbone")),
            Element::Intra(name("pntbtwo")),
            Element::Intra(name("pntbinside")),
            Element::Bridge(name("pntbinside")),
            Element::Internal(name("pntbinside")),
            Element::Engine(name("docker0")),
            masquerade("10.1.0.0/24"),
        ]));
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
        assert!(one.pings("10.1.0.1"), "its gateway");
        // Outside has no route back: only a masqueraded source is answered.
        assert!(one.pings("192.0.2.2"), "masqueraded");
        assert!(!two.pings("192.0.2.2"), "not masqueraded");
        outside.run("ip route add 10.0.0.0/8 via 192.0.2.1");
        assert!(two.pings("192.0.2.2"), "answers come back");
        assert!(!outside.pings("10.2.0.2"), "nobody enters from outside");
        assert!(!two.pings("10.1.0.2") && !one.pings("10.2.0.2"), "nor from another network");
        assert!(inside.pings("10.3.0.3") && inside.pings("10.3.0.1"), "an internal network within");
        assert!(!inside.pings("192.0.2.2"), "but nothing leaves it");
        assert!(!one.pings("10.9.0.2"), "nothing unpublished of the engine's is reached");
        assert!(!engine.pings("10.1.0.2"), "nor the reverse");
        let drops = run("nft list chain inet pontoon forward_filter");
        assert!(!drops.contains("counter packets 0 bytes 0 drop comment \"nothing else enters a network\""), "{drops}");
    });
}

#[test]
fn isolated_ports_reach_the_bridge_and_not_each_other() {
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateBridge(name("pntbone"), bridge("one", &["10.1.0.1/24"]))]).unwrap();
        let sandboxes: Vec<_> = [2, 3]
            .map(|n| {
                let (host, mut pair) = veth(&format!("v{n}"), "pntbone");
                pair.isolated = true;
                kernel.apply(&[Step::CreateVeth(host, pair.clone())]).unwrap();
                let sandbox = Netns::new();
                sandbox.take(pair.peer.as_str(), &format!("10.1.0.{n}/24"), "10.1.0.1");
                sandbox
            })
            .into();
        assert!(sandboxes[0].pings("10.1.0.1") && sandboxes[1].pings("10.1.0.1"));
        assert!(!sandboxes[0].pings("10.1.0.3"));
        kernel.apply(&[Step::Isolate(name("pnthv2"), false)]).unwrap();
        assert!(sandboxes[0].pings("10.1.0.3"));
    });
}

#[test]
fn a_watcher_reports_others_and_not_ourselves() {
    in_netns(|kernel| {
        let (send, events) = mpsc::channel();
        let watch = kernel.watch(Box::new(move |event| drop(send.send(event)))).unwrap();
        let br = name("pntbone");
        let (host, mut pair) = veth("abc", "pntbone");
        pair.isolated = true;
        let make = [
            Step::CreateTable(vec![]),
            Step::CreateBridge(br.clone(), bridge("one", &["10.1.0.1/24", "fd00:1::1/64"])),
            Step::CreateVeth(host.clone(), pair.clone()),
            Step::Elements { add: vec![Element::Bridge(br.clone())], remove: vec![] },
        ];
        twice(kernel, &make);
        let own = [
            Step::SetMtu(br.clone(), 1400),
            Step::SetMtu(host.clone(), 1400),
            Step::RemoveAddress(br.clone(), net("10.1.0.1/24")),
            Step::RetireVeth(host.clone()),
            Step::RetireBridge(br.clone()),
        ];
        kernel.apply(&own).unwrap();
        settle(kernel);
        assert_eq!(events.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));

        kernel.apply(&make).unwrap();
        // By now a change of this link is nobody's echo.
        thread::sleep(Duration::from_millis(1100));
        let expect = |what: &str, wanted: Event| {
            run(what);
            let mut seen = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(5);
            while !seen.contains(&wanted) {
                let left = deadline.saturating_duration_since(Instant::now());
                seen.push(events.recv_timeout(left).unwrap_or_else(|_| panic!("{what}: no {wanted:?} in {seen:?}")));
            }
        };
        expect("nft flush ruleset", Event::Firewall);
        expect("iptables-nft -P FORWARD DROP", Event::Firewall);
        expect("ip link set pnthabc down", Event::LinkChanged(host.clone()));
        expect("ip link set pnthabc nomaster", Event::LinkChanged(host.clone()));
        expect("ip link set pntbone mtu 1300", Event::LinkChanged(br.clone()));
        expect("ip addr del 10.1.0.1/24 dev pntbone", Event::AddressGone(br.clone()));
        expect("ip link add br-0123456789ab type bridge", Event::LinkNew(name("br-0123456789ab")));
        expect("ip link del br-0123456789ab", Event::LinkGone(name("br-0123456789ab")));
        expect("ip link set pntbone down; ip link set pntbone name other", Event::LinkGone(br.clone()));
        expect("ip link del pnthabc", Event::LinkGone(host.clone()));
        run("ip link del other");
        drop(watch);
        while events.recv_timeout(Duration::from_secs(5)).is_ok() {}
        assert_eq!(events.recv(), Err(mpsc::RecvError), "the thread has ended");
    });
}

#[test]
fn a_flood_of_notifications_is_an_overrun_and_watching_goes_on() {
    in_netns(|kernel| {
        let (send, events) = mpsc::channel();
        // As long as the callback does not return, notifications pile up.
        let (open, gate) = mpsc::channel::<()>();
        let deliver = move |event| {
            let _ = send.send(event);
            let _ = gate.recv();
        };
        let _watch = kernel.watch(Box::new(deliver)).unwrap();
        run("ip link add b0 type bridge");
        events.recv_timeout(Duration::from_secs(5)).unwrap();
        run(
            "for i in $(seq 1 200); do for j in $(seq 1 40); do echo link set b0 mtu $((1000 + i + j)); done; done | ip -batch -",
        );
        drop(open);
        wait_for("an overrun", || events.try_iter().any(|event| event == Event::Overrun));
        run("ip link add b1 type bridge");
        wait_for("the next event", || events.try_iter().any(|event| event == Event::LinkNew(name("b1"))));
    });
}

#[test]
fn looks_at_the_hosts_own_links_and_routes() {
    in_netns(|kernel| {
        assert_eq!(kernel.uplink_mtu().unwrap(), None);
        assert!(kernel.routes().unwrap().is_empty());
        run("ip link add up0 mtu 1380 type veth peer name up1; ip link set up1 up; ip link set up0 up");
        run("ip -6 addr add 2001:db8:1::2/64 dev up0 nodad; ip -6 route add default via 2001:db8:1::1");
        assert_eq!(kernel.uplink_mtu().unwrap(), Some(1380), "IPv6 alone");
        run("ip link add up2 mtu 1420 type veth peer name up3; ip link set up3 up; ip link set up2 up");
        run(
            "ip addr add 192.0.3.2/24 dev up2; ip route add default via 192.0.3.1; ip route add 10.7.0.0/16 via 192.0.3.1",
        );
        assert_eq!(kernel.uplink_mtu().unwrap(), Some(1420), "IPv4 first");
        let expected = ["10.7.0.0/16", "192.0.3.0/24", "2001:db8:1::/64"].map(net);
        assert_eq!(kernel.routes().unwrap(), expected);
        run("ip link add docker0 type bridge; ip link add br-0123456789ab type bridge; ip link add br-lan type bridge");
        assert_eq!(kernel.engine_bridges().unwrap(), ["br-0123456789ab", "docker0"].map(name).into());
    });
}

#[test]
fn without_the_privilege_the_error_names_it() {
    let unprivileged = thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test needs root");
        // SAFETY: a raw system call that changes the user of this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        pontoon::linux::LinuxKernel::new(pontoon::linux::Options::default()).map(drop)
    });
    let error = unprivileged.join().unwrap().unwrap_err();
    assert_eq!(error.errno(), Some(libc::EPERM));
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn a_former_lifes_leftovers_are_deleted_at_start() {
    in_netns(|_| {
        run(&format!("ip link add pnthold group {GROUP_DEAD} type veth peer name pntcold"));
        let kernel = pontoon::linux::LinuxKernel::new(pontoon::linux::Options::default()).unwrap();
        settle(&kernel);
        assert_eq!(kernel.link(&name("pnthold")).unwrap(), None);
        let (host, mut pair) = veth("last", "none");
        pair.bridge = None;
        kernel.apply(&[Step::CreateVeth(host.clone(), pair), Step::RetireVeth(host.clone())]).unwrap();
        drop(kernel);
        assert!(!succeeds(&format!("ip link show {host}")), "the queue is drained before the end");
    });
}

/// Not a test: how far the typed builders and our socket are from the bare system calls.
#[test]
#[ignore = "a measurement: cargo test --test netns_linux -- --ignored --nocapture"]
fn measure_the_creation_of_a_pair() {
    use pontoon::linux::netlink::{CREATE, EXCLUSIVE, OwnPorts, Protocol, Socket};
    use pontoon::linux::tlv::Writer;
    in_netns(|kernel| {
        kernel.apply(&[Step::CreateBridge(name("pntbone"), bridge("one", &[]))]).unwrap();
        let master: u32 = run("cat /sys/class/net/pntbone/ifindex || true")
            .trim()
            .parse()
            .unwrap_or_else(|_| run("ip -o link show pntbone").split(':').next().unwrap().parse().unwrap());
        let mut raw = Socket::open(Protocol::Route, OwnPorts::default().into()).unwrap();
        let mut times: [Vec<u128>; 2] = [vec![], vec![]];
        for round in 0..300 {
            let (host, pair) = veth(&format!("m{round}"), "pntbone");
            let begun = Instant::now();
            if round % 2 == 0 {
                kernel.apply(&[Step::CreateVeth(host.clone(), pair)]).unwrap();
            } else {
                let end = |body: &mut Writer, link: &str, mac: Mac| {
                    body.text(3, link).native(4, 1500).bytes(1, &mac.bytes()).native(31, 1).native(32, 1);
                };
                let mut body = Writer::with_header(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
                end(&mut body, host.as_str(), pair.host_mac);
                body.native(27, GROUP_LIVE).native(10, master).nest(18, |info| {
                    info.text(1, "veth").nest(2, |data| {
                        let mut peer = Writer::with_header(&[0; 16]);
                        end(&mut peer, pair.peer.as_str(), pair.peer_mac.unwrap());
                        data.bytes(1, &peer.finish());
                    });
                });
                raw.execute(16, CREATE | EXCLUSIVE, &body.finish()).unwrap();
            }
            times[round % 2].push(begun.elapsed().as_micros());
            kernel.apply(&[Step::RetireVeth(host)]).unwrap();
            if round % 50 == 0 {
                settle(kernel);
            }
        }
        for (what, times) in ["CreateVeth through apply", "hand-encoded message"].iter().zip(&mut times) {
            times.sort_unstable();
            eprintln!("{what}: median {} us, p10 {} us", times[times.len() / 2], times[times.len() / 10]);
        }
    });
}
