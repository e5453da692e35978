//! The operator's commands: what is broken is named with its remedy, the remedy is typed as it stands, and all is well
//! again.

use std::time::Duration;

use serde_json::Value;

use crate::{
    bed::{Bed, SOON, binary, on_pontoon_with},
    support::{Options, Output, Segment, Signal, wait_for, wait_until},
};

/// Runs in the node, where `pontoon` is the program under test.
pub fn shell(bed: &Bed, script: &str) -> Output {
    bed.exec(&["bash", "-c", &format!("PATH=/lab:$PATH; {script}")])
}

/// Ends what a test has listening in the node, whether or not it ended with the command that began it.
fn no_perl(bed: &Bed) {
    wait_until(SOON, "perl's end", || {
        shell(bed, "pkill -x perl");
        !shell(bed, "pgrep -x perl").success()
    });
}

/// What `pontoon doctor` or `pontoon check` finds, with its exit code.
pub fn findings(bed: &Bed, command: &str) -> (i32, Vec<Value>) {
    let output = shell(bed, &format!("pontoon {command} --json"));
    let code = output.status.and_then(|status| status.code()).expect("an exit code");
    let findings = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    (code, findings)
}

/// The first finding of a check that is not well.
fn ill(findings: &[Value], check: &str) -> Option<Value> {
    findings.iter().find(|f| f["check"] == check && f["level"] != "ok").cloned()
}

#[track_caller]
pub fn healthy(bed: &Bed, command: &str) {
    let mut last = Vec::new();
    let well = (0..50).any(|_| {
        let (code, found) = findings(bed, command);
        last = found.into_iter().filter(|f| f["level"] != "ok" && f["level"] != "note").collect();
        code == 0 && last.is_empty()
    });
    assert!(well, "{command}: {last:#?}");
}

/// The finding of a check, at its level, and with the exit code that goes with it.
#[track_caller]
pub fn found(bed: &Bed, command: &str, check: &str, level: &str) -> Value {
    let what = format!("{command} to find {check}");
    let (code, finding) = wait_for(SOON, &what, || {
        let (code, findings) = findings(bed, command);
        Some((code, ill(&findings, check)?))
    });
    assert_eq!(finding["level"], level, "{finding:#}");
    let least = match level {
        "broken" => 2,
        "degraded" => 1,
        _ => 0,
    };
    assert!(code >= least, "exit code {code} for {finding:#}");
    finding
}

/// Breaks something, sees it found, types the remedy, sees all well.
#[track_caller]
fn mends(bed: &Bed, breakage: &str, check: &str, level: &str) {
    shell(bed, breakage).ok();
    let finding = found(bed, "doctor", check, level);
    let remedy = finding["remedy"].as_str().unwrap_or_else(|| panic!("no remedy: {finding:#}"));
    shell(bed, remedy).ok();
    healthy(bed, "doctor");
}

fn on_a_host_with_a_way_out(scenario: fn(&Bed)) {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), scenario);
}

#[test]
fn what_others_break_is_named_with_its_remedy() {
    on_a_host_with_a_way_out(ailments);
}

fn ailments(bed: &Bed) {
    bed.network("net", &["--subnet", "10.131.0.0/24"]);
    bed.run_container("one", &["--network", "net", "-p", "8080:80"]);
    bed.ping_soon("one", "192.168.77.254");
    healthy(bed, "doctor");
    healthy(bed, "check");
    healthy(bed, "doctor --docker=/lab/docker.sock");

    // another firewall: packets stop, and go on when the remedy is typed
    let firewall = "nft add table inet mine; \
                    nft add chain inet mine onward '{ type filter hook forward priority 10; policy drop; }'";
    shell(bed, firewall).ok();
    assert!(!bed.ping("one", "192.168.77.254"), "the policy drops");
    mends(bed, "true", "forward_policy", "broken");
    assert!(bed.ping("one", "192.168.77.254"), "the remedy helps");
    shell(bed, "nft delete table inet mine").ok();
    let zones = "nft add table inet firewalld; \
                 nft add chain inet firewalld filter_FORWARD '{ type filter hook forward priority 20; }'";
    shell(bed, zones).ok();
    let finding = found(bed, "doctor", "firewalld", "degraded");
    assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.starts_with("firewall-cmd ")), "{finding:#}");
    // what that command makes firewalld write
    shell(bed, "nft add rule inet firewalld filter_FORWARD iifname '\"pnt*\"' accept").ok();
    healthy(bed, "doctor");
    shell(bed, "nft delete table inet firewalld; iptables -N ufw-before-forward").ok();
    found(bed, "doctor", "ufw", "note");
    healthy(bed, "doctor");
    shell(bed, "iptables -X ufw-before-forward").ok();

    // the socket, and files that name it
    mends(bed, "chmod 0666 /run/docker/plugins/pontoon.sock", "socket", "degraded");
    let spec = "mkdir -p /etc/docker/plugins; echo unix:///run/other.sock >/etc/docker/plugins/pontoon.spec";
    mends(bed, spec, "spec_files", "degraded");
    shell(bed, "mkdir -p /run/docker/plugins/0123 && touch /run/docker/plugins/0123/pontoon.sock").ok();
    found(bed, "doctor", "two_pontoons", "degraded");
    shell(bed, "rm -r /run/docker/plugins/0123").ok();

    // routes and links of the host
    shell(bed, "ip route add 10.131.0.0/25 dev eth0").ok();
    let finding = found(bed, "doctor", "routes", "broken");
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    assert!(!remedy.contains("ip route"), "a route of the host is not Pontoon's to remove: {finding:#}");
    shell(bed, "ip route del 10.131.0.0/25 dev eth0").ok();
    healthy(bed, "doctor");
    let mtu = "cat /sys/class/net/eth0/mtu";
    let before = shell(bed, mtu).ok();
    shell(bed, "ip link set eth0 mtu 1400").ok();
    let finding = found(bed, "doctor", "mtu", "degraded");
    assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("driver.mtu=1400")), "{finding:#}");
    shell(bed, &format!("ip link set eth0 mtu {before}")).ok();
    healthy(bed, "doctor");

    // a bridge of the operator's own
    shell(bed, "ip link add ownbr type bridge && ip link set ownbr up && ip address add 10.132.0.1/24 dev ownbr").ok();
    bed.network("own", &["--subnet", "10.132.0.0/24", "-o", "com.docker.network.bridge.name=ownbr"]);
    mends(bed, "ip link del ownbr", "missing_bridges", "broken");
    bed.docker(&["network", "rm", "own"]).ok();
    shell(bed, "ip link del ownbr").ok();

    let text = shell(bed, "pontoon doctor --verbose").ok();
    assert!(text.lines().last().is_some_and(|line| line.starts_with("healthy: ")), "{text}");
    assert_eq!(shell(bed, "pontoon doctor").ok().lines().count(), 1, "ok is short");

    // a firewall that nf_tables knows nothing of; its table stays, and is noted
    shell(bed, "iptables-legacy -P FORWARD DROP").ok();
    assert!(!bed.ping("one", "192.168.77.254"), "the policy drops");
    mends(bed, "true", "iptables_legacy", "broken");
    assert!(bed.ping("one", "192.168.77.254"), "the remedy helps");
    found(bed, "doctor", "iptables_legacy", "note");
}

#[test]
fn a_daemon_that_is_gone_and_what_happens_meanwhile() {
    on_a_host_with_a_way_out(without_daemon);
}

fn without_daemon(bed: &Bed) {
    bed.network("net", &["--subnet", "10.133.0.0/24", "--ipv6", "--subnet", "fd33::/64"]);
    bed.run_container("one", &["--network", "net", "-p", "8080:80", "-p", "80:80/udp"]);
    bed.ping_soon("one", "192.168.77.254");
    let bridge = shell(bed, "ip -o link | grep -o 'pntb[0-9a-z]*' | head -1").ok();
    bed.kill_pontoon(Signal::Kill);

    // the stale socket; and `check` does without the daemon
    found(bed, "doctor", "daemon", "broken");
    found(bed, "doctor", "socket", "broken");
    healthy(bed, "check");
    let ledger = "cat /var/lib/pontoon/ledger | sha256sum; ls -la --time-style=full-iso /var/lib/pontoon";
    let before = shell(bed, ledger).ok();
    for (breakage, check) in [
        ("sysctl -w net.ipv4.ip_forward=0".to_owned(), "ip_forward"),
        (format!("ip address del 10.133.0.1/24 dev {bridge}"), "drift"),
        ("nft delete element inet pontoon published4 '{ tcp . 8080 }'".to_owned(), "drift"),
        (format!("ip link set {bridge} mtu 1300; ip link set {bridge} down"), "drift"),
        (format!("sysctl -w net.ipv4.conf.{bridge}.route_localnet=0"), "drift"),
        ("iptables -F FORWARD".to_owned(), "drift"),
        (format!("ip link del {bridge}"), "drift"),
    ] {
        shell(bed, &breakage).ok();
        let level = if check == "drift" { "degraded" } else { "broken" };
        found(bed, "check", check, level);
        // the plan is commands, and when they are typed nothing is left of it
        let plan = shell(bed, "pontoon plan").ok();
        shell(bed, &format!("set -e\n{plan}")).ok();
        let left = shell(bed, "pontoon plan").ok();
        assert!(left.starts_with("# nothing to do"), "after {breakage} and\n{plan}\nthere is still\n{left}");
        healthy(bed, "check");
        bed.ping_soon("one", "192.168.77.254");
        bed.ping_soon("one", "10.133.0.1");
    }
    shell(bed, "nft delete table bridge pontoon").ok();
    found(bed, "check", "drift", "degraded");
    assert!(shell(bed, "pontoon plan").ok().starts_with("# pontoon repair: make tables"), "what no command does");
    assert_eq!(shell(bed, ledger).ok(), before, "neither check nor plan touched the state");

    // a repair without a daemon; with one it is the daemon's
    let done = shell(bed, "pontoon repair").ok();
    assert!(done.contains("make tables"), "{done}");
    healthy(bed, "check");
    bed.ping_soon("one", "192.168.77.254");

    // the port that somebody took meanwhile
    let listen = "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 1) or die; sleep 999";
    let taken = bed.spawn(&["perl", "-e", listen]);
    wait_until(SOON, "the port to be taken", || shell(bed, "ss -lnt").ok().contains(":8080"));
    let start = found(bed, "doctor", "daemon", "broken");
    let start = start["remedy"].as_str().expect("a remedy").trim_end_matches('&').to_owned();
    shell(bed, &format!("setsid {start} </dev/null >>/lab/pontoon.log 2>&1 &")).ok();
    let finding = found(bed, "doctor", "ports", "degraded");
    assert!(finding["title"].as_str().is_some_and(|title| title.contains("0.0.0.0:8080/tcp")), "{finding:#}");
    assert!(
        finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("ss -lntp 'sport = :8080'")),
        "{finding:#}"
    );
    drop(taken);
    no_perl(bed);
    healthy(bed, "doctor");
    assert!(shell(bed, "pontoon repair").ok().starts_with("# nothing to do"), "nothing is left");
    assert!(shell(bed, "pontoon check").success(), "beside a daemon it works too");

    // damage that an earlier life has left
    shell(bed, "pkill -x pontoon; touch /var/lib/pontoon/ledger.corrupt-1").ok();
    wait_until(SOON, "its end", || !shell(bed, "pgrep -x pontoon").success());
    bed.start_pontoon(&binary(), &[]);
    let finding = found(bed, "doctor", "kept_aside", "degraded");
    let remedy = finding["remedy"].as_str().and_then(|remedy| remedy.lines().next()).expect("a remedy").to_owned();
    shell(bed, &remedy).ok();
    bed.kill_pontoon(Signal::Term);
    bed.start_pontoon(&binary(), &[]);
    healthy(bed, "doctor");
}

/// Calls a method of the plugin's, as the engine would.
fn call(bed: &Bed, method: &str, body: &Value) -> Value {
    let url = format!("http://pontoon/{method}");
    let socket = "/run/docker/plugins/pontoon.sock";
    bed.exec(&["curl", "-s", "--unix-socket", socket, "-X", "POST", "-d", &body.to_string(), &url]).json()
}

#[test]
fn what_the_engine_forgot_is_collected() {
    on_a_host_with_a_way_out(forgotten);
}

fn forgotten(bed: &Bed) {
    bed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.134.0.0/24"]);
    bed.create_network("bridge", "plain", &["--ipam-driver", "pontoon", "--subnet", "10.135.0.0/24"]).ok();
    bed.run_container("one", &["--network", "net"]);
    healthy(bed, "doctor --docker=/lab/docker.sock");
    let gc = |args: &str| shell(bed, &format!("pontoon gc --docker=/lab/docker.sock {args}"));
    assert!(gc("--yes").ok().starts_with("# nothing to remove"), "the engine knows all");

    // a network, a pool and an endpoint whose ends the engine never told
    let id = "ab".repeat(32);
    let pool = call(
        bed,
        "IpamDriver.RequestPool",
        &serde_json::json!({"AddressSpace": "pontoon-local", "Pool": "10.136.0.0/24"}),
    );
    assert_eq!(pool["Pool"], "10.136.0.0/24", "{pool}");
    let network = serde_json::json!({"NetworkID": id, "Options": {}, "IPv4Data": [
        {"AddressSpace": "pontoon-local", "Pool": "10.136.0.0/24", "Gateway": "10.136.0.1/24"}], "IPv6Data": []});
    call(bed, "NetworkDriver.CreateNetwork", &network);
    // a Swarm's network, of a node that is in none any more, and one of a stranger
    let finding = found(bed, "doctor --docker=/lab/docker.sock", "engine_leaks", "degraded");
    assert_eq!(finding["evidence"].as_array().map(Vec::len), Some(2), "{finding:#}");
    let shown = gc("").ok();
    assert!(shown.contains(&format!("network {id}")) && shown.contains("pool 10.136.0.0/24"), "{shown}");
    assert!(shell(bed, "ip -o link").ok().contains("pntbabab"), "it is only shown");

    // no word, half a word, or the word of another engine: nothing is removed
    shell(bed, "pontoon gc --docker=/run/nobody.sock --yes").err();
    let liar = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Local => '/run/liar.sock', Listen => 9) or die; \
                while (my $c = $s->accept) { my $l = <$c>; while (<$c>) { last if /^\\s*$/ } \
                my $b = $l =~ /info/ ? '{\"Swarm\":{\"LocalNodeState\":\"inactive\"}}' : $l =~ m{/networks } ? $ARGV[0] : '[]'; \
                print $c 'HTTP/1.0 200 OK', \"\\r\\nContent-Length: \", length $b, \"\\r\\n\\r\\n$b\"; close $c }";
    for (networks, words) in
        [("[{}]", "lacks an Id"), ("[]", "knows none of Pontoon's networks"), ("{", "unexpected answer")]
    {
        shell(bed, "rm -f /run/liar.sock").ok();
        let _liar = bed.spawn(&["perl", "-e", liar, networks]);
        wait_until(SOON, "the liar", || bed.exec(&["test", "-S", "/run/liar.sock"]).success());
        let message = shell(bed, "pontoon gc --docker=/run/liar.sock --yes --wait 0").err();
        assert!(message.contains(words), "{networks}: {message}");
        no_perl(bed);
    }
    assert!(shell(bed, "ip -o link").ok().contains("pntbabab"), "nothing was removed");

    // even then a network that a sandbox uses stays
    shell(bed, "rm -f /run/liar.sock").ok();
    let _liar = bed.spawn(&["perl", "-e", liar, "[]"]);
    wait_until(SOON, "the liar", || bed.exec(&["test", "-S", "/run/liar.sock"]).success());
    let kept = shell(bed, "pontoon gc --docker=/run/liar.sock").ok();
    assert!(kept.contains("is in a sandbox"), "{kept}");
    no_perl(bed);

    gc("--yes --wait 1").ok();
    assert!(!shell(bed, "ip -o link").ok().contains("pntbabab"), "it is gone");
    healthy(bed, "doctor --docker=/lab/docker.sock");
    bed.docker(&["inspect", "one"]).ok();
    bed.ping_soon("one", "10.134.0.1");

    // the same without a daemon
    call(bed, "IpamDriver.RequestPool", &serde_json::json!({"AddressSpace": "pontoon-local", "Pool": "10.136.0.0/24"}));
    call(bed, "NetworkDriver.CreateNetwork", &network);
    bed.kill_pontoon(Signal::Kill);
    let removed = gc("--yes --wait 1");
    assert!(removed.stderr.contains("removed pool 10.136.0.0/24"), "{removed}");
    removed.ok();
    assert!(!shell(bed, "ip -o link").ok().contains("pntbabab"), "it is gone");
    bed.start_pontoon(&binary(), &[]);
    healthy(bed, "doctor --docker=/lab/docker.sock");

    // the other way round: the state is lost, the engine still has the networks
    bed.kill_pontoon(Signal::Term);
    shell(bed, "mkdir /var/lib/lost && mv /var/lib/pontoon/ledger* /var/lib/lost").ok();
    bed.start_pontoon(&binary(), &[]);
    let finding = found(bed, "doctor --docker=/lab/docker.sock", "engine", "broken");
    assert!(
        finding["remedy"].as_str().is_some_and(|remedy| remedy.starts_with("docker network rm net")),
        "{finding:#}"
    );
    bed.kill_pontoon(Signal::Term);
    shell(bed, "rm -f /var/lib/pontoon/ledger* && mv /var/lib/lost/* /var/lib/pontoon").ok();
    bed.start_pontoon(&binary(), &[]);
    wait_until(Duration::from_secs(5), "the state", || findings(bed, "doctor --docker=/lab/docker.sock").0 == 0);
}
