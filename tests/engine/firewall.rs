//! Beside the engine's firewall: the way out, and what others do to the rules.
//!
//! With the iptables back end, that is: the other one begins with engine 29, which no Debian suite has yet.

use std::{fs, time::Duration};

use crate::{
    bed::{Bed, SOON, fetches, on_both_with, on_pontoon_with},
    support::{Node, Options, Segment, Signal, wait_until},
};

/// For a repair.
const BRIEF: Duration = Duration::from_secs(2);

/// Answers each request with the address it came from.
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
fn outside(segment: &Segment) -> (Node, crate::support::Process) {
    let node = Options::new().uplink(segment, 2).bare().up();
    fs::write(node.shared().join("who.pl"), WHO).expect("a file");
    let server = node.spawn(&["perl", "-e", "$| = 1; do '/lab/who.pl'; die $@ if $@"]);
    wait_until(SOON, "the server outside", || fetches(&node, "127.0.0.1:8000"));
    (node, server)
}

/// Asks a server outside whom it sees.
fn who(bed: &Bed, from: &str, server: &str) -> Option<String> {
    let answer = bed.exec_in(from, &["wget", "-q", "-T", "3", "-O", "-", &format!("http://{server}:8000/")]);
    answer.success().then(|| answer.ok().trim_start_matches("::ffff:").to_owned())
}

#[test]
fn containers_talk_behind_the_engines_firewall() {
    on_both_with(Options::new(), policy);
}

fn policy(bed: &Bed) {
    bed.network("net", &["--subnet", "10.92.0.0/24", "--ipv6", "--subnet", "fd92::/64"]);
    // what makes this hard; with its own tables the engine has no policy on other links
    let policy = bed.exec(&["iptables", "-S", "FORWARD"]).ok().contains("-P FORWARD DROP");
    assert!(policy || bed.exec(&["nft", "list", "table", "ip", "docker-bridges"]).success());
    assert_eq!(bed.exec(&["cat", "/proc/sys/net/bridge/bridge-nf-call-iptables"]).ok(), "1");
    bed.run_container("one", &["--network", "net"]);
    bed.run_container("two", &["--network", "net"]);
    bed.names("one", "-4", "two");
    bed.names("one", "-6", "two");
    bed.serve("two", 8080);
    bed.gets("one", "two:8080");
    let two = bed.container_addr("two", "net");
    let (v4, v6) = (two.v4.expect("an address"), two.v6.expect("an address"));
    bed.gets("one", &format!("[{v6}]:8080"));
    bed.host_gets(&format!("{v4}:8080"));
    bed.host_gets(&format!("[{v6}]:8080"));
    if bed.is_pontoon() {
        readable(bed);
    }
}

/// To iptables our rules are ordinary ones.
fn readable(bed: &Bed) {
    for iptables in filters(bed) {
        let rules = bed.exec(&[iptables, "-S", "FORWARD"]).ok();
        for direction in ["-i", "-o"] {
            let rule = format!("-A FORWARD {direction} pnt+ -m comment --comment pontoon -j ACCEPT");
            assert!(rules.contains(&rule), "{iptables}: {rules}");
        }
    }
    if filters(bed).is_empty() {
        return;
    }
    // and survive its taking the table apart and putting it back
    bed.exec(&["sh", "-c", "iptables-save >/tmp/saved && iptables-restore </tmp/saved"]).ok();
    wait_until(SOON, "the rules", || bed.exec(&["iptables", "-S", "FORWARD"]).ok().matches("-i pnt+ ").count() == 1);
    bed.names("one", "-4", "two");
}

/// The engine's filters: the oldest one has none for IPv6 of its own accord.
fn filters(bed: &Bed) -> Vec<&'static str> {
    let families = [("ip", "iptables"), ("ip6", "ip6tables")];
    let there = families
        .into_iter()
        .filter(|(family, _)| bed.exec(&["nft", "list", "chain", family, "filter", "FORWARD"]).success());
    there.map(|(_, iptables)| iptables).collect()
}

#[test]
fn the_outside_sees_the_hosts_address() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    let (outside, _server) = outside(&segment);
    crate::bed::try_on(&node, "bridge", masquerade);
    direct(&Bed::new(&node, "bridge"), &outside);
    node.start_pontoon(&crate::bed::binary(), &[]);
    crate::bed::try_on(&node, "pontoon", masquerade);
    direct(&Bed::new(&node, "pontoon"), &outside);
}

fn masquerade(bed: &Bed) {
    bed.network("net", &["--subnet", "10.93.0.0/24", "--ipv6", "--subnet", "fd93::/64"]);
    bed.run_container("one", &["--network", "net"]);
    bed.ping_soon("one", "192.168.77.2");
    assert_eq!(who(bed, "one", "192.168.77.2").as_deref(), Some("192.168.77.1"));
    // before 27 the built-in driver translates IPv6 only when told to
    if bed.is_pontoon() || bed.engine >= 27 {
        bed.ping_soon("one", "fd77::2");
        assert_eq!(who(bed, "one", "[fd77::2]").as_deref(), Some("fd77::1"));
    }
    bed.network("plain", &["--subnet", "10.94.0.0/24", "-o", "com.docker.network.bridge.enable_ip_masquerade=false"]);
    bed.run_container("bare", &["--network", "plain"]);
    assert_eq!(who(bed, "bare", "192.168.77.2"), None, "nobody out there knows the way back");
}

/// A neighbour who routes to the container's subnet himself.
fn direct(bed: &Bed, outside: &Node) {
    bed.network("net", &["--subnet", "10.93.0.0/24", "--ipv6", "--subnet", "fd93::/64"]);
    bed.run_container("one", &["--network", "net", "--ip", "10.93.0.10", "--ip6", "fd93::10"]);
    bed.serve("one", 8080);
    bed.ping_soon("one", "192.168.77.2");
    outside.exec(&["ip", "route", "replace", "10.93.0.0/24", "via", "192.168.77.1"]).ok();
    outside.exec(&["ip", "route", "replace", "fd93::/64", "via", "fd77::1"]).ok();
    bed.host_gets("10.93.0.10:8080");
    bed.host_gets("[fd93::10]:8080");
    for at in ["10.93.0.10:8080", "[fd93::10]:8080"] {
        // before 27 the built-in driver leaves IPv6 to the host's own firewall
        if bed.is_pontoon() || bed.engine >= 27 || !at.starts_with('[') {
            assert!(!fetches(outside, at), "{at} is not published, driver {}", bed.driver);
        }
    }
    // the way out is open all the same
    assert!(who(bed, "one", "192.168.77.2").is_some());
    bed.sweep_names(&["one"], &["net"]);
}

#[test]
fn what_others_do_to_the_rules_is_repaired() {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), repairs);
}

fn repairs(bed: &Bed) {
    bed.network("net", &["--subnet", "10.95.0.0/24", "--ipv6", "--subnet", "fd95::/64"]);
    bed.run_container("one", &["--network", "net", "--restart", "always"]);
    bed.run_container("two", &["--network", "net", "--restart", "always"]);
    let works = || {
        bed.names("one", "-4", "two");
        bed.names("one", "-6", "two");
        bed.ping_soon("one", "192.168.77.254");
        bed.ping_soon("one", "fd77::ffff");
    };
    works();
    let rules = |iptables: &str| bed.exec(&[iptables, "-S", "FORWARD"]).ok().matches(" pnt+ ").count();
    let repaired = |what: &str| {
        wait_until(BRIEF, what, || filters(bed).into_iter().all(|iptables| rules(iptables) == 2));
    };

    for iptables in filters(bed) {
        bed.exec(&[iptables, "-F", "FORWARD"]).ok();
        repaired("the flushed chain");
        assert!(bed.exec(&["iptables", "-S", "FORWARD"]).ok().contains("-P FORWARD DROP"));
        works();
        let comment = ["-m", "comment", "--comment", "pontoon"];
        bed.exec(&[&[iptables, "-D", "FORWARD", "-i", "pnt+"][..], &comment, &["-j", "ACCEPT"]].concat()).ok();
        repaired("the deleted rule");
    }
    let table = || bed.exec(&["nft", "list", "table", "inet", "pontoon"]).success();
    bed.exec(&["nft", "delete", "table", "inet", "pontoon"]).ok();
    wait_until(BRIEF, "the deleted table", table);
    works();
    bed.exec(&["nft", "flush", "ruleset"]).ok();
    wait_until(BRIEF, "the flushed ruleset", table);
    works();
    for signal in [Signal::Term, Signal::Kill] {
        bed.restart_dockerd(signal);
        repaired("the restarted engine");
        works();
    }
    // a firewall of the administrator's own, in the way of nothing
    let drops = ["-s", "10.95.0.0/24", "-d", "192.168.77.254", "-j", "DROP"];
    // an engine that keeps its own tables has no DOCKER-USER
    let chain = if bed.exec(&["iptables", "-S", "DOCKER-USER"]).success() { "DOCKER-USER" } else { "FORWARD" };
    bed.exec(&[&["iptables", "-I", chain][..], &drops].concat()).ok();
    assert!(!bed.ping("one", "192.168.77.254"), "the administrator's rules come before ours");
}
