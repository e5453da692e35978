//! Beside the engine's firewall: outgoing connections, and foreign changes of the rules.
//!
//! With the iptables back end only: the nftables back end exists since engine 29, which no Debian suite has yet.

use std::{fs, time::Duration};

use testkit::{
    Node, Options, Segment, Signal,
    testbed::{SOON, Testbed, fetches, on_both_with, on_pontoon_with},
    wait_until,
};

/// Deadline for a repair.
const BRIEF: Duration = Duration::from_secs(2);

/// Answers each request with the client's address.
const WHO: &str = r#"
use IO::Socket::IP;
my $socket = IO::Socket::IP->new(LocalHost => "::", V6Only => 0, LocalPort => 8000, Listen => 9, ReuseAddr => 1) or die $@;
print "ready\n";
while (my $client = $socket->accept) {
    while (<$client>) { last if /^\s*$/ }
    print $client "HTTP/1.0 200 OK\r\n\r\n" . $client->peerhost . "\n";
    close $client;
}
"#;

/// A host on the segment, at 192.168.77.2 and fd77::2.
fn outside(segment: &Segment) -> (Node, testkit::Process) {
    let node = Options::new().uplink(segment, 2).bare().up();
    fs::write(node.shared().join("who.pl"), WHO).expect("a file");
    let server = node.spawn(&["perl", "-e", "$| = 1; do '/lab/who.pl'; die $@ if $@"]);
    wait_until(SOON, "the server outside", || fetches(&node, "127.0.0.1:8000"));
    (node, server)
}

/// The client address that an outside server sees.
fn who(testbed: &Testbed, from: &str, server: &str) -> Option<String> {
    let answer = testbed.exec_in(from, &["wget", "-q", "-T", "3", "-O", "-", &format!("http://{server}:8000/")]);
    answer.success().then(|| answer.ok().trim_start_matches("::ffff:").to_owned())
}

#[test]
fn containers_reach_each_other_behind_the_engines_firewall() {
    on_both_with(Options::new(), policy);
}

fn policy(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.92.0.0/24", "--ipv6", "--subnet", "fd92::/64"]);
    // The difficult case; an engine with its own tables has no policy on other links.
    let policy = testbed.exec(&["iptables", "-S", "FORWARD"]).ok().contains("-P FORWARD DROP");
    assert!(policy || testbed.exec(&["nft", "list", "table", "ip", "docker-bridges"]).success());
    assert_eq!(testbed.exec(&["cat", "/proc/sys/net/bridge/bridge-nf-call-iptables"]).ok(), "1");
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.names("one", "-4", "two");
    testbed.names("one", "-6", "two");
    testbed.serve("two", 8080);
    testbed.gets("one", "two:8080");
    let two = testbed.container_addr("two", "net");
    let (v4, v6) = (two.v4.expect("an address"), two.v6.expect("an address"));
    testbed.gets("one", &format!("[{v6}]:8080"));
    testbed.host_gets(&format!("{v4}:8080"));
    testbed.host_gets(&format!("[{v6}]:8080"));
    if testbed.is_pontoon() {
        readable(testbed);
    }
}

/// iptables reads Pontoon's rules as ordinary ones.
fn readable(testbed: &Testbed) {
    for iptables in filters(testbed) {
        let rules = testbed.exec(&[iptables, "-S", "FORWARD"]).ok();
        for direction in ["-i", "-o"] {
            let rule = format!("-A FORWARD {direction} pnt+ -m comment --comment pontoon -j ACCEPT");
            assert!(rules.contains(&rule), "{iptables}: {rules}");
        }
    }
    if filters(testbed).is_empty() {
        return;
    }
    // They survive a save and restore.
    testbed.exec(&["sh", "-c", "iptables-save >/tmp/saved && iptables-restore </tmp/saved"]).ok();
    wait_until(SOON, "the rules", || {
        testbed.exec(&["iptables", "-S", "FORWARD"]).ok().matches("-i pnt+ ").count() == 1
    });
    testbed.names("one", "-4", "two");
}

/// The engine's filters: the oldest one has none for IPv6 by default.
fn filters(testbed: &Testbed) -> Vec<&'static str> {
    let families = [("ip", "iptables"), ("ip6", "ip6tables")];
    let there = families
        .into_iter()
        .filter(|(family, _)| testbed.exec(&["nft", "list", "chain", family, "filter", "FORWARD"]).success());
    there.map(|(_, iptables)| iptables).collect()
}

#[test]
fn the_outside_sees_the_hosts_address() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    let (outside, _server) = outside(&segment);
    testkit::testbed::try_on(&node, "bridge", masquerade);
    direct(&Testbed::new(&node, "bridge"), &outside);
    node.start_pontoon(&testkit::testbed::binary(), &[]);
    testkit::testbed::try_on(&node, "pontoon", masquerade);
    direct(&Testbed::new(&node, "pontoon"), &outside);
}

fn masquerade(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.93.0.0/24", "--ipv6", "--subnet", "fd93::/64"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.ping_soon("one", "192.168.77.2");
    assert_eq!(who(testbed, "one", "192.168.77.2").as_deref(), Some("192.168.77.1"));
    // Before 27 the built-in driver does not masquerade IPv6 by default.
    if testbed.is_pontoon() || testbed.engine >= 27 {
        testbed.ping_soon("one", "fd77::2");
        assert_eq!(who(testbed, "one", "[fd77::2]").as_deref(), Some("fd77::1"));
    }
    testbed
        .network("plain", &["--subnet", "10.94.0.0/24", "-o", "com.docker.network.bridge.enable_ip_masquerade=false"]);
    testbed.run_container("bare", &["--network", "plain"]);
    assert_eq!(who(testbed, "bare", "192.168.77.2"), None, "an outside host has a route back");
}

/// A neighbour with its own route to the container's subnet.
fn direct(testbed: &Testbed, outside: &Node) {
    testbed.network("net", &["--subnet", "10.93.0.0/24", "--ipv6", "--subnet", "fd93::/64"]);
    testbed.run_container("one", &["--network", "net", "--ip", "10.93.0.10", "--ip6", "fd93::10"]);
    testbed.serve("one", 8080);
    testbed.ping_soon("one", "192.168.77.2");
    outside.exec(&["ip", "route", "replace", "10.93.0.0/24", "via", "192.168.77.1"]).ok();
    outside.exec(&["ip", "route", "replace", "fd93::/64", "via", "fd77::1"]).ok();
    testbed.host_gets("10.93.0.10:8080");
    testbed.host_gets("[fd93::10]:8080");
    for at in ["10.93.0.10:8080", "[fd93::10]:8080"] {
        // Before 27 the built-in driver leaves IPv6 to the host's own firewall.
        if testbed.is_pontoon() || testbed.engine >= 27 || !at.starts_with('[') {
            assert!(!fetches(outside, at), "{at} is not published, driver {}", testbed.driver);
        }
    }
    // Outgoing connections still work.
    assert!(who(testbed, "one", "192.168.77.2").is_some());
    testbed.sweep_names(&["one"], &["net"]);
}

#[test]
fn foreign_changes_of_the_rules_are_repaired() {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), repairs);
}

fn repairs(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.95.0.0/24", "--ipv6", "--subnet", "fd95::/64"]);
    testbed.run_container("one", &["--network", "net", "--restart", "always"]);
    testbed.run_container("two", &["--network", "net", "--restart", "always"]);
    let works = || {
        testbed.names("one", "-4", "two");
        testbed.names("one", "-6", "two");
        testbed.ping_soon("one", "192.168.77.254");
        testbed.ping_soon("one", "fd77::ffff");
    };
    works();
    let rules = |iptables: &str| testbed.exec(&[iptables, "-S", "FORWARD"]).ok().matches(" pnt+ ").count();
    let repaired = |what: &str| {
        wait_until(BRIEF, what, || filters(testbed).into_iter().all(|iptables| rules(iptables) == 2));
    };

    for iptables in filters(testbed) {
        testbed.exec(&[iptables, "-F", "FORWARD"]).ok();
        repaired("the flushed chain");
        assert!(testbed.exec(&["iptables", "-S", "FORWARD"]).ok().contains("-P FORWARD DROP"));
        works();
        let comment = ["-m", "comment", "--comment", "pontoon"];
        testbed.exec(&[&[iptables, "-D", "FORWARD", "-i", "pnt+"][..], &comment, &["-j", "ACCEPT"]].concat()).ok();
        repaired("the deleted rule");
    }
    let table = || testbed.exec(&["nft", "list", "table", "inet", "pontoon"]).success();
    testbed.exec(&["nft", "delete", "table", "inet", "pontoon"]).ok();
    wait_until(BRIEF, "the deleted table", table);
    works();
    testbed.exec(&["nft", "flush", "ruleset"]).ok();
    wait_until(BRIEF, "the flushed ruleset", table);
    works();
    for signal in [Signal::Term, Signal::Kill] {
        testbed.restart_dockerd(signal);
        repaired("the restarted engine");
        works();
    }
    // An administrator's own rules.
    let drops = ["-s", "10.95.0.0/24", "-d", "192.168.77.254", "-j", "DROP"];
    // An engine with its own tables has no DOCKER-USER.
    let chain = if testbed.exec(&["iptables", "-S", "DOCKER-USER"]).success() { "DOCKER-USER" } else { "FORWARD" };
    testbed.exec(&[&["iptables", "-I", chain][..], &drops].concat()).ok();
    assert!(!testbed.ping("one", "192.168.77.254"), "the administrator's rules have no effect");
}
