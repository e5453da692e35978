//! Rules of other programs that could decide about frames between containers of one bridge, and those that could not.

use std::collections::BTreeMap;

use pontoon::datapath::Kernel;
use pontoon::linux::LinuxKernel;

use testkit::netns::*;
use testkit::topology::{Topology, basics};

/// The rule that could decide about frames on the topology's first network.
fn opposition(kernel: &LinuxKernel) -> Option<String> {
    let bridges = BTreeMap::from([(name("pntbone"), vec![net("10.1.0.0/24"), net("fd00:1::/64")])]);
    kernel.opposition(&bridges).unwrap().remove(&name("pntbone"))
}

const FORWARD: &str = "type filter hook forward priority 0; policy accept;";

/// A table of its own with one chain with these rules.
fn ruled(family: &str, head: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("add rule {family} theirs f {rule}\n")).collect();
    format!(
        "add table {family} theirs\nadd set {family} theirs s {{ type ipv4_addr; flags interval; }}\n\
         add chain {family} theirs other\nadd chain {family} theirs f {{ {head} }}\n{rules}"
    )
}

fn judge(kernel: &LinuxKernel, script: &str) -> Option<String> {
    run(&format!("nft -f - <<'EOF'\n{script}\nEOF"));
    let found = opposition(kernel);
    run("nft list tables | grep ' theirs$' | while read table; do nft delete $table; done");
    found
}

#[test]
fn rules_that_could_decide_are_found() {
    in_netns(|kernel| {
        let _topology = Topology::new(kernel, basics());
        assert_eq!(opposition(kernel), None, "Pontoon's own tables");
        for rule in [
            "drop",
            "counter drop",
            "reject",
            "tcp dport 80 drop",
            "udp dport 53 counter reject",
            "ip saddr 10.1.0.2 drop",
            "ip saddr 10.1.0.0/25 drop",
            "ip saddr 10.0.0.0/8 drop",
            "ip daddr != 10.1.0.2 drop",
            "ip saddr 10.1.0.2-10.1.0.9 drop",
            "ip saddr { 10.1.0.2, 192.0.2.1 } drop",
            "ip saddr @s drop",
            "ip saddr != @s drop",
            "ip saddr vmap { 10.1.0.2 : drop }",
            "tcp dport vmap { 80 : drop }",
            "meta l4proto vmap { tcp : jump other }; add rule FAMILY theirs other drop",
            "iifname pntbone drop",
            "iifname \"pnt*\" drop",
            "iifname != eth0 drop",
            "oifname pntbone ct state new drop",
            "iifname vmap { pntbone : drop }",
            "ct state invalid drop",
            "ct state established accept; add rule FAMILY theirs f drop",
            "ip6 saddr fd00:1::/64 drop",
            "ip6 nexthdr tcp drop",
            "meta mark 1 drop",
            "meta nfproto ipv4 drop",
            "fib daddr type unicast drop",
            "limit rate 10/second accept; add rule FAMILY theirs f drop",
            "tcp dport 80 return; add rule FAMILY theirs f drop",
            "jump other; add rule FAMILY theirs other tcp dport 80 drop",
            "goto other; add rule FAMILY theirs other drop",
            "tcp dport 80 jump other; add rule FAMILY theirs other drop",
            "log prefix \"seen\" accept",
            "log prefix \"seen\" ip saddr 192.0.2.1 accept",
            "meta mark set 1",
            "tcp flags syn tcp option maxseg size set 1200",
            "meta length > 1000 drop",
            "ip ttl 1 drop",
            "ip protocol icmp drop",
            "@nh,64,8 17 drop",
            "meta iifgroup 0x706e7401 drop",
            "meta iifkind \"bridge\" drop",
        ] {
            let script = ruled("inet", FORWARD, &[&rule.replace("FAMILY", "inet")]);
            assert!(judge(kernel, &script).is_some_and(|text| text.contains("inet theirs")), "{rule}");
        }
        for (family, head) in [
            ("inet", "type filter hook forward priority 0; policy drop;"),
            ("ip", "type filter hook prerouting priority raw; policy drop;"),
            ("ip6", "type filter hook postrouting priority 0; policy drop;"),
            ("bridge", "type filter hook forward priority 0; policy drop;"),
            ("netdev", "type filter hook ingress device pntha priority 5; policy drop;"),
        ] {
            let script = format!("add table {family} theirs\nadd chain {family} theirs f {{ {head} }}");
            assert!(judge(kernel, &script).is_some(), "{family} {head}");
        }
        for (family, head, rule) in [
            ("bridge", "type filter hook prerouting priority 0;", "ether type ip drop"),
            ("bridge", "type filter hook forward priority 0;", "iifname pntha drop"),
            ("bridge", "type filter hook forward priority 0;", "iifname \"pnth*\" drop"),
            ("bridge", "type filter hook postrouting priority 0;", "oifname pnthb drop"),
            ("bridge", "type filter hook forward priority 0;", "iifname != eth0 drop"),
            ("ip", "type nat hook postrouting priority srcnat;", "masquerade"),
            ("ip", "type nat hook postrouting priority srcnat;", "iifname != docker0 masquerade"),
            ("ip", "type nat hook postrouting priority srcnat;", "ip saddr 10.0.0.0/8 snat to 192.0.2.1"),
            ("ip", "type nat hook prerouting priority dstnat;", "ip daddr 192.0.2.80 dnat to 10.1.0.3"),
            ("inet", "type nat hook prerouting priority dstnat;", "tcp dport 80 dnat ip to 10.1.0.3:80"),
            ("ip", "type nat hook prerouting priority dstnat;", "dnat to ip daddr map { 192.0.2.80 : 10.1.0.3 }"),
            ("ip", "type nat hook prerouting priority dstnat;", "tcp dport 80 dnat to :8080"),
            ("ip", "type filter hook prerouting priority raw;", "notrack"),
            ("ip", "type filter hook prerouting priority raw;", "oifname != eth0 drop"),
            ("netdev", "type filter hook ingress device pntha priority -500;", "counter"),
        ] {
            let script = ruled(family, head, &[rule]).replace("add set netdev", "# ");
            assert!(judge(kernel, &script).is_some(), "{family} {head} {rule}");
        }
    });
}

/// What engines, firewalls and people usually have.
#[test]
fn rules_that_could_not_decide_are_none() {
    in_netns(|kernel| {
        let _topology = Topology::new(kernel, basics());
        for rule in [
            "accept",
            "counter",
            "counter accept",
            "ip saddr 10.2.0.0/16 drop",
            "ip daddr 192.0.2.1 drop",
            "ip6 saddr 2001:db8::/32 drop",
            "ip6 daddr fd00:2::/64 drop",
            "iifname eth0 drop",
            "iifname docker0 oifname != docker0 drop",
            "oifname \"br-*\" drop",
            "iifname vmap { eth0 : drop }",
            "iifname { eth0, eth1 } drop",
            "fib daddr type local drop",
            "jump other; add rule FAMILY theirs other return",
            "iifname pntbone accept; add rule FAMILY theirs f drop",
            "oifname \"pnt*\" return; add rule FAMILY theirs f drop",
            "iifname eth0 goto other; add rule FAMILY theirs other drop",
            "ct state established,related accept",
            "tcp dport 80 accept",
        ] {
            let script = ruled("inet", FORWARD, &[&rule.replace("FAMILY", "inet")]);
            assert_eq!(judge(kernel, &script), None, "{rule}");
        }
        for (family, head, rule) in [
            ("inet", "type filter hook input priority 0; policy drop;", "drop"),
            ("inet", "type filter hook output priority 0; policy drop;", "drop"),
            ("bridge", "type filter hook input priority 0; policy drop;", "drop"),
            ("bridge", "type filter hook forward priority 0;", "iifname \"vnet*\" drop"),
            ("netdev", "type filter hook ingress device up0 priority 0;", "drop"),
            ("ip", "type nat hook postrouting priority srcnat;", "oifname eth0 masquerade"),
            (
                "ip",
                "type nat hook postrouting priority srcnat;",
                "ip saddr 172.17.0.0/16 oifname != docker0 masquerade",
            ),
            (
                "ip",
                "type nat hook prerouting priority dstnat;",
                "fib daddr type local tcp dport 80 dnat to 172.17.0.2:80",
            ),
            ("ip", "type nat hook prerouting priority dstnat;", "fib daddr type local tcp dport 80 redirect to :8080"),
        ] {
            let script = ruled(family, head, &[rule]).replace("add set netdev", "# ");
            assert_eq!(judge(kernel, &script), None, "{family} {head} {rule}");
        }
    });
}

/// Rules as iptables writes them, those of an engine among them.
#[test]
fn rules_of_iptables_are_judged() {
    in_netns(|kernel| {
        let _topology = Topology::new(kernel, basics());
        run("iptables-nft -P FORWARD DROP");
        assert!(opposition(kernel).unwrap().contains("FORWARD"), "nothing accepts them");
        run("iptables-nft -A FORWARD -i pnt+ -j ACCEPT");
        assert_eq!(opposition(kernel), None);
        run("iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -I FORWARD -j DOCKER-USER;
             iptables-nft -N STAGE; iptables-nft -A STAGE -i docker0 ! -o docker0 -j DROP; iptables-nft -A STAGE -j RETURN;
             iptables-nft -I FORWARD 2 -j STAGE;
             iptables-nft -I FORWARD 3 -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;
             iptables-nft -t raw -A PREROUTING -d 172.17.0.2 ! -i docker0 -j DROP;
             iptables-nft -t nat -N DOCKER;
             iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER;
             iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80;
             iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE");
        assert_eq!(opposition(kernel), None, "Docker's own rules");
        for rule in [
            "-p tcp --dport 80 -j DROP",
            "-p tcp -m tcp --dport 80 -j REJECT",
            "-p udp --sport 53 -j DROP",
            "-p icmp -j DROP",
            "-p icmp --icmp-type echo-request -j DROP",
            "-p tcp -m multiport --dports 80,443 -j DROP",
            "-s 10.1.0.2 -d 10.1.0.3 -j DROP",
            "-m conntrack --ctstate INVALID -j DROP",
            "-m physdev --physdev-is-bridged -j DROP",
            "-m mark --mark 1 -j DROP",
            "-m limit --limit 1/s -j LOG",
            "-j LOG",
            "-j MARK --set-mark 1",
            "-m addrtype --dst-type UNICAST -j DROP",
            "-p 50 -m esp --espspi 1 -j DROP",
            "-m pkttype --pkt-type unicast -j DROP",
            "-i pnt+ -j DROP",
            "! -i eth0 -j DROP",
            "-m iprange --src-range 10.1.0.2-10.1.0.9 -j DROP",
            "-m ttl --ttl-eq 1 -j DROP",
        ] {
            // Some matches may be missing here.
            let mangles = rule.contains("MARK");
            let (table, chain) = if mangles { ("mangle", "FORWARD") } else { ("filter", "DOCKER-USER") };
            if !succeeds(&format!("iptables-nft -t {table} -I {chain} {rule}")) {
                eprintln!("not here: {rule}");
                continue;
            }
            assert!(opposition(kernel).unwrap_or_default().contains(chain), "{rule}");
            run(&format!("iptables-nft -t {table} -D {chain} {rule}"));
            assert_eq!(opposition(kernel), None, "without {rule}");
        }
        for rule in
            ["-d 10.1.0.9 -j DNAT --to-destination 192.0.2.7", "-p tcp --dport 90 -j DNAT --to-destination 10.1.0.3:80"]
        {
            run(&format!("iptables-nft -t nat -A DOCKER {rule}"));
            assert!(opposition(kernel).is_some() == rule.contains("10.1.0.3"), "{rule}");
            run(&format!("iptables-nft -t nat -D DOCKER {rule}"));
        }
    });
}
