//! Other programs and firewall rules: what they flush is restored, what they drop stays dropped.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::{
    probe::{
        Expect::{By, Closed},
        From::{Host, In, Outside},
    },
    topology::{Scenario, on_pontoon},
};
use testkit::Signal;

/// Time for a repair, and for a client's first retransmission on a loaded machine.
const REPAIR: Duration = Duration::from_secs(4);

#[test]
fn flushed_rules_are_restored_under_open_connections() {
    on_pontoon(flushed);
}

fn flushed(scenario: &Scenario) {
    scenario.exec(&["bash", "-c", "iptables-save -t filter | grep -v pontoon >/lab/saved"]).ok();
    scenario.network("net", &["--subnet", "10.143.1.0/24", "--ipv6", "--subnet", "fd43:1::/64"]);
    scenario.network("other", &["--subnet", "10.143.2.0/24"]);
    let publish = ["-p", "8320:80", "-p", "8321:53/udp", "-p", "127.0.0.1:8322:80"];
    let restart = ["--network", "net", "--restart", "always"];
    scenario.serve("web", &["tcp:80", "udp:53"], &[&restart[..], &publish].concat());
    scenario.serve("away", &["tcp:80"], &["--network", "other", "--restart", "always"]);
    let four = scenario.hold(scenario.outside, "192.168.77.1", 8320);
    let six = scenario.hold(scenario.outside, "fd77::1", 8320);
    let local = scenario.hold(scenario, "127.0.0.1", 8322);
    let assert_restored = |what: &str| {
        let began = Instant::now();
        scenario.expect_within(
            REPAIR,
            &[
                (Outside, "tcp,192.168.77.1,8320", By("web:80")),
                (Outside, "tcp,fd77::1,8320", By("web:80")),
                (Outside, "udp,192.168.77.1,8321", By("web:53")),
                (Host, "tcp,127.0.0.1,8322", By("web:80")),
                (In("away"), "tcp,192.168.77.1,8320", By("web:80")),
            ],
        );
        println!("after {what}: restored within {:.1?}", began.elapsed());
        scenario.expect(&[(Outside, "tcp,192.168.77.1,8322", Closed), (In("away"), "tcp,10.143.1.2,80", Closed)]);
    };
    assert_restored("the start");
    let mut took = Vec::new();
    let harm: [&[&str]; 6] = [
        &["iptables", "-F"],
        &["iptables", "-t", "nat", "-F"],
        // A dump from before the networks were created.
        &["iptables-restore", "/lab/saved"],
        &["nft", "delete", "table", "inet", "pontoon"],
        &["nft", "flush", "table", "inet", "pontoon"],
        &["nft", "flush", "ruleset"],
    ];
    for command in harm {
        // Without rules there is no translation, so an answer to the masqueraded host would find no socket and be
        // reset. TCP resumes the connections from outside; this one pauses for that moment.
        let pause = scenario.shared().join("pause");
        fs::write(&pause, "").expect("a file");
        thread::sleep(Duration::from_millis(300));
        let before = scenario.repairs();
        took.push(scenario.damage_firewall(command));
        assert_restored(&command.join(" "));
        // With an engine that uses its own tables, no chain contains Pontoon's rules.
        let ours = command[0] == "nft" || scenario.user_chain() == "DOCKER-USER";
        if ours && !command.contains(&"nat") {
            assert!(scenario.repairs() > before, "the repair after {command:?} was not counted");
        }
        fs::remove_file(&pause).expect("the file exists");
        for held in [&four, &six, &local] {
            held.assert_continues();
        }
    }
    println!("from the end of the command to restored rules: {took:?}");
    assert!(took.iter().min() < Some(&Duration::from_secs(1)), "repaired within a second: {took:?}");
    // The engine ends its containers and therefore their connections.
    drop((four, six, local));
    for signal in [Signal::Term, Signal::Kill] {
        for name in ["web", "away"] {
            scenario.not_ready(name);
        }
        scenario.restart_dockerd(signal);
        for name in ["web", "away"] {
            scenario.listens(name);
        }
        assert_restored("a restart of the engine");
    }
}

#[test]
fn the_administrators_drops_are_respected() {
    on_pontoon(drops);
}

fn drops(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.144.1.0/24", "--ipv6", "--subnet", "fd44:1::/64"]);
    scenario.serve("web", &["tcp:80-81"], &["--network", "net", "-p", "8330:80", "-p", "8331:81"]);
    let open = [
        (Outside, "tcp,192.168.77.1,8330", By("web:80")),
        (Outside, "tcp,192.168.77.1,8331", By("web:81")),
        (Outside, "tcp,fd77::1,8330", By("web:80")),
    ];
    scenario.expect(&open);
    // As Docker's documentation describes: by the original port, and by the container's.
    let original = ["-m", "conntrack", "--ctorigdstport", "8330", "--ctdir", "ORIGINAL"];
    for matches in [&original[..], &["--dport", "80"], &["-s", "192.168.77.2", "--dport", "80"]] {
        let rule =
            |verb| [&["iptables", verb, scenario.user_chain(), "-p", "tcp"][..], matches, &["-j", "DROP"]].concat();
        scenario.exec(&rule("-I")).ok();
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8330", Closed),
            (Outside, "tcp,192.168.77.1,8331", By("web:81")),
            (Host, "tcp,192.168.77.1,8330", By("web:80")),
        ]);
        scenario.exec(&rule("-D")).ok();
        scenario.expect(&open);
    }
    // In a separate table, before and after Pontoon's.
    for priority in ["-150", "-10", "0", "10", "150"] {
        let table = format!(
            "table inet mine {{\nchain forward {{\ntype filter hook forward priority {priority};\n\
             ip saddr 192.168.77.2 tcp dport 80 drop\nip6 saddr fd77::2 tcp dport 80 drop\n}}\n}}\n"
        );
        scenario.exec(&["nft", &table]).ok();
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8330", Closed),
            (Outside, "tcp,fd77::1,8330", Closed),
            (Outside, "tcp,192.168.77.1,8331", By("web:81")),
        ]);
        scenario.exec(&["nft", "delete", "table", "inet", "mine"]).ok();
    }
    // By the port that the client requested, as in docs/firewall.md.
    let asked = "table inet mine {\nchain forward {\ntype filter hook forward priority filter - 10; policy accept;\n\
                 oifname \"pnt*\" ct direction original meta l4proto tcp ct original proto-dst 8330 \
                 ip saddr != 192.0.2.0/24 drop\n}\n}\n";
    scenario.exec(&["nft", asked]).ok();
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8330", Closed),
        (Outside, "tcp,192.168.77.1,8331", By("web:81")),
        (Outside, "tcp,fd77::1,8330", By("web:80")),
        (Host, "tcp,192.168.77.1,8330", By("web:80")),
    ]);
    scenario.exec(&["nft", "delete", "table", "inet", "mine"]).ok();
    let raw = "table inet mine {\nchain pre {\ntype filter hook prerouting priority -350;\ntcp dport 8330 drop\n}\n}\n";
    scenario.exec(&["nft", raw]).ok();
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8330", Closed), (Outside, "tcp,192.168.77.1,8331", By("web:81"))]);
    scenario.exec(&["nft", "delete", "table", "inet", "mine"]).ok();
    scenario.expect(&open);
}

#[test]
fn user_rules_added_later_take_precedence() {
    on_pontoon(later);
}

/// The instructions of docs/neighbours.md for a user's own rules.
fn later(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.145.1.0/24"]);
    let publish = ["--network", "net", "--ip", "10.145.1.10", "-p", "8340:80", "-p", "8341:81"];
    scenario.serve("web", &["tcp:80-82"], &publish);
    scenario.run_container("peer", &["--network", "net"]);
    scenario.route_from_outside(&["10.145.1.0/24"]);
    let _remote = scenario.serve_outside("remote", &["tcp:80"]);
    let open = [
        (Outside, "tcp,192.168.77.1,8340", By("web:80")),
        (Outside, "tcp,192.168.77.1,8341", By("web:81")),
        (Outside, "tcp,10.145.1.10,82", Closed),
        (In("peer"), "tcp,10.145.1.10,80", By("web:80")),
        (In("peer"), "tcp,192.168.77.2,80", By("remote:80")),
    ];
    let half = [
        (Outside, "tcp,192.168.77.1,8340", Closed),
        (Outside, "tcp,192.168.77.1,8341", By("web:81")),
        (In("peer"), "tcp,10.145.1.10,80", By("web:80")),
    ];
    scenario.expect(&open);
    // By link, in DOCKER-USER; and appended to FORWARD.
    for (chain, verb) in [(scenario.user_chain(), "-I"), ("FORWARD", "-A")] {
        let rule = |verb| {
            let drop = ["-o", "pnt+", "-s", "192.168.77.2", "-p", "tcp", "--dport", "80", "-j", "DROP"];
            scenario.exec(&[&["iptables", verb, chain][..], &drop].concat()).ok();
        };
        rule(verb);
        scenario.expect(&half);
        rule("-D");
        scenario.expect(&open);
    }
    // All other traffic is rejected, unless it is accepted earlier; unpublished ports stay closed even then.
    let iptables = |rule: &str| scenario.exec(&["bash", "-c", &format!("iptables {rule}")]).ok();
    iptables("-A FORWARD -j REJECT");
    scenario.expect(&open.clone().map(|(from, probe, _)| (from, probe, Closed)));
    let chain = scenario.user_chain();
    let accept = |verb: &str| {
        iptables(&format!("{verb} {chain} -o pnt+ -j ACCEPT"));
        iptables(&format!("{verb} {chain} -i pnt+ -j ACCEPT"));
    };
    accept("-I");
    scenario.expect(&open);
    accept("-D");
    iptables("-D FORWARD -j REJECT");
    // A chain with policy drop.
    let table = |accepts: &str| {
        let chain = "type filter hook forward priority 10; policy drop; ct state established,related accept;";
        scenario.exec(&["nft", &format!("table inet mine {{\nchain forward {{\n{chain}\n{accepts}\n}}\n}}\n")]).ok();
    };
    table("");
    scenario.expect(&open.clone().map(|(from, probe, _)| (from, probe, Closed)));
    scenario.exec(&["nft", "delete", "table", "inet", "mine"]).ok();
    table("ct status dnat accept; iifname \"pnt*\" accept;");
    scenario.expect(&open);
}
