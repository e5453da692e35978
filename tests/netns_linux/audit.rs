//! Containers that are only audited: what packets make of it and what is recorded, for both families, routed and within a
//! bridge, with br_netfilter on and off.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use pontoon::datapath::access::{Access, Record, Way};
use pontoon::datapath::{Kernel, Policy, Step};
use pontoon::model::access::AccessOptions;

use testkit::netns::*;
use testkit::topology::*;

use crate::access::*;

fn audited(egress: Option<&str>, ingress: Option<&str>) -> AccessOptions {
    AccessOptions { audit: Some(true), ..lists(egress, ingress) }
}

fn none() -> AccessOptions {
    lists(None, None)
}

/// The records of a container, in words: direction, protocol, port, and the peer or `host`.
fn records(lists: &Lists<'_>, own: [&str; 2]) -> BTreeSet<String> {
    let own = own.map(ip);
    lists.kernel.records().unwrap().iter().filter(|record| own.contains(&record.own)).map(words).collect()
}

fn words(record: &Record) -> String {
    let way = record.way.choose("out", "in");
    let Some(what) = &record.what else { return format!("{way} lost") };
    let peer = what.peer.map_or_else(|| "host".to_owned(), |peer| peer.to_string());
    format!("{way} {} {} {peer}", what.protocol, what.port)
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const OF_A: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
const OF_B: [&str; 2] = ["10.1.0.3", "fd00:1::3"];

#[test]
fn what_an_audited_container_sends_passes_and_is_recorded_unless_it_is_allowed() {
    scene(|lists, t| {
        let allowed = "tcp:80@192.0.2.2+tcp:80@2001:db8::2";
        lists.set(none(), audited(Some(allowed), None), none());
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (BOTH, BOTH, true));
        assert!(pings(&t.a, B) && pings(&t.a, HOST) && tcp(&t.a, PUBLISHED));
        let all = [
            "out 17 80 192.0.2.2",
            "out 17 80 2001:db8::2",
            "out 6 80 10.1.0.3",
            "out 17 80 10.1.0.3",
            "out 6 80 fd00:1::3",
            "out 17 80 fd00:1::3",
            "out 1 0 10.1.0.3",
            "out 58 0 fd00:1::3",
            "out 6 80 host",
            "out 1 0 host",
            "out 58 0 host",
        ];
        assert_eq!(records(lists, OF_A), set(&all));
        assert_eq!(records(lists, OF_B), set(&[]), "of no other container");
        // What the lists say is in force once they are not audited, and the records are gone.
        lists.set(none(), self::lists(Some(allowed), None), none());
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), ((true, false), NONE, false));
        assert_eq!(records(lists, OF_A), set(&[]));
    });
}

#[test]
fn what_is_sent_to_an_audited_container_passes_and_is_recorded_unless_it_is_allowed() {
    scene(|lists, t| {
        lists.set(none(), none(), audited(None, Some("tcp:80@10.1.0.2+tcp:80@fd00:1::2")));
        assert_eq!((answered(&t.a, B), tcp(&t.outside, PUBLISHED), pings(&t.a, B)), (BOTH, true, true));
        assert!(ask(TCP, B[0]).is_some() && ask(TCP, B[1]).is_some(), "from the host");
        assert_eq!((answered(&t.b, OUT), answered(&t.b, A)), (BOTH, BOTH), "replies are not recorded");
        let all = [
            "in 17 80 10.1.0.2",
            "in 17 80 fd00:1::2",
            "in 1 0 10.1.0.2",
            "in 58 0 fd00:1::2",
            "in 6 80 192.0.2.2",
            "in 6 80 2001:db8::2",
            "in 6 80 host",
        ];
        assert_eq!(records(lists, OF_B), set(&all));
    });
}

/// Isolation and the other end's list are not audited.
#[test]
fn an_audited_container_opens_nothing_but_its_own_list() {
    scene(|lists, t| {
        lists.set(none(), audited(Some(""), Some("")), self::lists(None, Some("")));
        assert_eq!((answered(&t.a, B), pings(&t.a, B)), (NONE, false), "the list of the other end");
        assert!(!tcp(&t.a, ["10.2.0.4:80", "[fd00:2::4]:80"]), "another network");
        assert!(
            records(lists, OF_A)
                .iter()
                .all(|record| record.starts_with("out 6 80 10.2.0.4") || record.contains("fd00:2::4"))
        );
        assert_eq!(answered(&t.a, OUT), BOTH);
    });
}

/// Another program adds a container with a list to the sets of audited ones, and removes an audited one.
#[test]
fn damage_to_what_is_audited_opens_no_list() {
    scene(|lists, t| {
        lists.set(none(), self::lists(Some(""), None), audited(Some(""), None));
        assert_eq!((answered(&t.a, OUT), answered(&t.b, OUT)), (NONE, BOTH));
        run("nft add element inet pontoon egress_audited4 { 10.1.0.2 }");
        run("nft add element inet pontoon egress_audited6 { fd00:1::2 }");
        let (_, end) = (0, t.ends[0].as_str());
        run(&format!("nft add element bridge pontoon egress_audited_ports '{{ {end} }}'"));
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (NONE, NONE, false));
        for chain in ["forward_audit_egress", "input_audit"] {
            run(&format!("nft flush chain inet pontoon {chain}"));
        }
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (NONE, NONE, false));
        assert_eq!(lists.kernel.observe_firewall().unwrap().policy, None, "and it is noticed");
    });
}

/// One container sends to more peers than it may have records; another one's are complete.
#[test]
fn a_flood_fills_the_records_of_its_container_alone() {
    in_netns(|kernel| {
        let topology = Topology::new(kernel, basics());
        // Packets that wait for the hardware address of the host may be lost.
        for from in [&topology.a, &topology.b] {
            wait_for("the host", || from.pings("10.1.0.1"));
        }
        let audited = |own: &str| Policy::Access(Access::Audited(Way::Egress, ip(own)));
        kernel
            .apply(&[Step::ChangeFirewall { add: vec![audited("10.1.0.2"), audited("10.1.0.3")], remove: vec![] }])
            .unwrap();
        let send = |from: &Netns, ports: std::ops::Range<u16>| {
            from.enter(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                // No faster than the queues of a machine with much to do.
                for port in ports {
                    socket.send_to(b"?", ("192.0.2.2", port)).unwrap();
                    if port % 50 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        };
        send(&topology.a, 1000..2000);
        send(&topology.b, 1000..1400);
        let of = |own: &str| -> (usize, u64) {
            let (own, all): (IpAddr, _) = (ip(own), kernel.records().unwrap());
            let own = all.iter().filter(|record| record.own == own);
            let (kept, lost): (Vec<_>, Vec<_>) = own.partition(|record| record.what.is_some());
            (kept.len(), lost.iter().map(|record| record.packets).sum())
        };
        let (kept, lost) = of("10.1.0.2");
        assert!((512..600).contains(&kept), "{kept}");
        assert_eq!(kept as u64 + lost, 1000);
        assert_eq!(of("10.1.0.3"), (400, 0));
        // Echo requests that differ in their checksums are alike.
        topology.b.enter(|| succeeds("ping -n -c 20 -i 0.01 -W 1 192.0.2.77"));
        let recorded = run("nft list set inet pontoon egress_records4");
        assert_eq!(recorded.matches("10.1.0.3 . icmp").count(), 1, "{recorded}");
        kernel.apply(&[Step::ChangeFirewall { add: vec![], remove: vec![audited("10.1.0.3")] }]).unwrap();
        kernel.apply(&[Step::ChangeFirewall { add: vec![audited("10.1.0.3")], remove: vec![] }]).unwrap();
        send(&topology.b, 1000..1400);
        // The next container with the address begins with nothing.
        kernel.apply(&[Step::ChangeFirewall { add: vec![], remove: vec![audited("10.1.0.2")] }]).unwrap();
        assert_eq!((of("10.1.0.2"), of("10.1.0.3")), ((0, 0), (400, 0)));
        kernel.apply(&[Step::ChangeFirewall { add: vec![audited("10.1.0.2")], remove: vec![] }]).unwrap();
        send(&topology.a, 1000..1400);
        assert_eq!(of("10.1.0.2"), (400, 0));
    });
}
