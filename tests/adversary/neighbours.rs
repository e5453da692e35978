//! Rules of other programs decide about frames between containers of one network, although such frames may bypass the
//! bridge while there is no such rule (`pontoon.shortcut=auto`).

use testkit::netns::{succeeds, wait_for};

use crate::host::{Container, Host, Network};

/// Whether frames from the container bypass the bridge.
fn bypasses(host: &Host, container: &Container) -> bool {
    host.run("nft list tables").contains("netdev pontoon")
        && host.run("nft list table netdev pontoon").contains(&format!("chain {}", container.first.port))
}

fn pings(from: &Container, to: &str) -> bool {
    from.enter(|| succeeds(&format!("ping -n -c 1 -W 1 {to}")))
}

#[test]
fn a_rule_that_appears_decides_and_its_end_opens_the_fast_path_again() {
    let mut host = Host::start(&[]);
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1");
    let network = Network::new("near", 1).option("pontoon.shortcut", "auto");
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    wait_for("the fast path", || bypasses(&host, &a) && bypasses(&host, &b));
    assert!(pings(&a, "10.1.0.3") && pings(&b, "10.1.0.2"));
    for (rule, end) in [
        ("iptables-nft -A FORWARD -s 10.1.0.2 -d 10.1.0.3 -j DROP", "iptables-nft -D FORWARD 1"),
        (
            "nft 'add table bridge theirs; add chain bridge theirs f { type filter hook forward priority 0; }; \
             add rule bridge theirs f ip protocol icmp drop'",
            "nft delete table bridge theirs",
        ),
        (
            "nft 'add table inet theirs; add chain inet theirs f { type filter hook prerouting priority 0; }; \
             add set inet theirs s { type ipv4_addr; }; add rule inet theirs f ip saddr @s drop; \
             add element inet theirs s { 10.1.0.2 }'",
            "nft delete table inet theirs",
        ),
    ] {
        host.run(rule);
        wait_for("the rule to decide", || !pings(&a, "10.1.0.3"));
        assert!(!bypasses(&host, &a) && !bypasses(&host, &b), "{rule}");
        host.run(end);
        wait_for("the fast path to return", || bypasses(&host, &a) && bypasses(&host, &b));
        assert!(pings(&a, "10.1.0.3"), "after {rule}");
    }
    // Rules about other traffic do not matter.
    host.run("iptables-nft -A FORWARD -s 192.0.2.0/24 -j DROP; iptables-nft -A INPUT -s 10.1.0.2 -j DROP");
    assert!(bypasses(&host, &a));
    // Without the daemon the fast path stays as it is: a new rule waits for the next start.
    host.end();
    host.run("iptables-nft -I FORWARD -s 10.1.0.2 -d 10.1.0.3 -j DROP");
    assert!(pings(&a, "10.1.0.3"), "the guard is the daemon");
    host.begin();
    wait_for("the rule to decide", || !pings(&a, "10.1.0.3"));
    assert!(!bypasses(&host, &a));
}

/// The kernel does not announce changes of iptables-legacy.
#[test]
fn a_rule_of_iptables_legacy_decides() {
    let host = Host::start(&[]);
    host.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1");
    let network = Network::new("near", 1).option("pontoon.shortcut", "auto");
    host.create(&network);
    let (a, b) = (host.container(&network, 2), host.container(&network, 3));
    wait_for("the fast path", || bypasses(&host, &a) && bypasses(&host, &b));
    assert!(pings(&a, "10.1.0.3"));
    host.run("iptables-legacy -A FORWARD -s 10.1.0.2 -d 10.1.0.3 -j DROP");
    wait_for("the rule to decide", || !pings(&a, "10.1.0.3"));
    assert!(!bypasses(&host, &a) && !bypasses(&host, &b));
}
