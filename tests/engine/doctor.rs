//! The operator's commands: each defect is reported with its remedy, and running the printed remedy repairs it.

use std::time::Duration;

use serde_json::Value;

use testkit::{
    Options, Output, Segment, Signal,
    testbed::{SOON, Testbed, binary, on_pontoon_with},
    wait_for, wait_until,
};

/// Runs a script in the node, where `pontoon` is the program under test.
pub fn shell(testbed: &Testbed, script: &str) -> Output {
    testbed.exec(&["bash", "-c", &format!("PATH=/lab:$PATH; {script}")])
}

/// Ends the listeners of a test in the node, whether or not they ended with the command that started them.
fn no_perl(testbed: &Testbed) {
    wait_until(SOON, "perl's end", || {
        shell(testbed, "pkill -x perl");
        !shell(testbed, "pgrep -x perl").success()
    });
}

/// The findings of `pontoon doctor` or `pontoon check`, with the exit code.
pub fn findings(testbed: &Testbed, command: &str) -> (i32, Vec<Value>) {
    let output = shell(testbed, &format!("pontoon {command} --json"));
    let code = output.status.and_then(|status| status.code()).expect("an exit code");
    let findings = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    (code, findings)
}

/// The first finding of a check other than ok.
fn problem(findings: &[Value], check: &str) -> Option<Value> {
    findings.iter().find(|f| f["check"] == check && f["level"] != "ok").cloned()
}

#[track_caller]
pub fn healthy(testbed: &Testbed, command: &str) {
    let mut last = Vec::new();
    let well = (0..50).any(|_| {
        let (code, found) = findings(testbed, command);
        last = found.into_iter().filter(|f| f["level"] != "ok" && f["level"] != "note").collect();
        code == 0 && last.is_empty()
    });
    assert!(well, "{command}: {last:#?}");
}

/// Waits for a finding of a check; verifies its level and the exit code.
#[track_caller]
pub fn found(testbed: &Testbed, command: &str, check: &str, level: &str) -> Value {
    let what = format!("{command} to find {check}");
    let (code, finding) = wait_for(SOON, &what, || {
        let (code, findings) = findings(testbed, command);
        Some((code, problem(&findings, check)?))
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

/// Breaks something, expects the finding, runs the remedy, and expects a healthy state.
#[track_caller]
fn assert_remedy(testbed: &Testbed, breakage: &str, check: &str, level: &str) {
    shell(testbed, breakage).ok();
    let finding = found(testbed, "doctor", check, level);
    let remedy = finding["remedy"].as_str().unwrap_or_else(|| panic!("no remedy: {finding:#}"));
    shell(testbed, remedy).ok();
    healthy(testbed, "doctor");
}

fn on_a_host_with_an_uplink(scenario: fn(&Testbed)) {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), scenario);
}

#[test]
fn defects_are_reported_with_their_remedy() {
    on_a_host_with_an_uplink(ailments);
}

fn ailments(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.131.0.0/24"]);
    testbed.run_container("one", &["--network", "net", "-p", "8080:80"]);
    testbed.ping_soon("one", "192.168.77.254");
    healthy(testbed, "doctor");
    healthy(testbed, "check");
    healthy(testbed, "doctor --docker=/lab/docker.sock");

    // Another firewall: packets are dropped until the remedy is run.
    let firewall = "nft add table inet mine; \
                    nft add chain inet mine onward '{ type filter hook forward priority 10; policy drop; }'";
    shell(testbed, firewall).ok();
    assert!(!testbed.ping("one", "192.168.77.254"), "the policy drops");
    assert_remedy(testbed, "true", "forward_policy", "broken");
    assert!(testbed.ping("one", "192.168.77.254"), "the remedy helps");
    shell(testbed, "nft delete table inet mine").ok();
    let zones = "nft add table inet firewalld; \
                 nft add chain inet firewalld filter_FORWARD '{ type filter hook forward priority 20; }'";
    shell(testbed, zones).ok();
    let finding = found(testbed, "doctor", "firewalld", "degraded");
    assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.starts_with("firewall-cmd ")), "{finding:#}");
    // The rule that this command makes firewalld write.
    shell(testbed, "nft add rule inet firewalld filter_FORWARD iifname '\"pnt*\"' accept").ok();
    healthy(testbed, "doctor");
    shell(testbed, "nft delete table inet firewalld; iptables -N ufw-before-forward").ok();
    found(testbed, "doctor", "ufw", "note");
    healthy(testbed, "doctor");
    shell(testbed, "iptables -X ufw-before-forward").ok();

    // The socket, and files that refer to it.
    assert_remedy(testbed, "chmod 0666 /run/docker/plugins/pontoon.sock", "socket", "degraded");
    let spec = "mkdir -p /etc/docker/plugins; echo unix:///run/other.sock >/etc/docker/plugins/pontoon.spec";
    assert_remedy(testbed, spec, "spec_files", "degraded");
    shell(testbed, "mkdir -p /run/docker/plugins/0123 && touch /run/docker/plugins/0123/pontoon.sock").ok();
    found(testbed, "doctor", "two_pontoons", "degraded");
    shell(testbed, "rm -r /run/docker/plugins/0123").ok();

    // Routes and links of the host.
    shell(testbed, "ip route add 10.131.0.0/25 dev eth0").ok();
    let finding = found(testbed, "doctor", "routes", "broken");
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    assert!(!remedy.contains("ip route"), "the remedy removes a route of the host: {finding:#}");
    shell(testbed, "ip route del 10.131.0.0/25 dev eth0").ok();
    healthy(testbed, "doctor");
    let mtu = "cat /sys/class/net/eth0/mtu";
    let before = shell(testbed, mtu).ok();
    shell(testbed, "ip link set eth0 mtu 1400").ok();
    let finding = found(testbed, "doctor", "mtu", "degraded");
    assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("driver.mtu=1400")), "{finding:#}");
    shell(testbed, &format!("ip link set eth0 mtu {before}")).ok();
    healthy(testbed, "doctor");

    // A bridge of the operator.
    shell(testbed, "ip link add ownbr type bridge && ip link set ownbr up && ip address add 10.132.0.1/24 dev ownbr")
        .ok();
    testbed.network("own", &["--subnet", "10.132.0.0/24", "-o", "com.docker.network.bridge.name=ownbr"]);
    assert_remedy(testbed, "ip link del ownbr", "missing_bridges", "broken");
    testbed.docker(&["network", "rm", "own"]).ok();
    shell(testbed, "ip link del ownbr").ok();

    let text = shell(testbed, "pontoon doctor --verbose").ok();
    assert!(text.lines().last().is_some_and(|line| line.starts_with("healthy: ")), "{text}");
    assert_eq!(shell(testbed, "pontoon doctor").ok().lines().count(), 1, "ok is short");

    // A firewall outside nf_tables; its table stays, and is noted.
    shell(testbed, "iptables-legacy -P FORWARD DROP").ok();
    assert!(!testbed.ping("one", "192.168.77.254"), "the policy drops");
    assert_remedy(testbed, "true", "iptables_legacy", "broken");
    assert!(testbed.ping("one", "192.168.77.254"), "the remedy helps");
    found(testbed, "doctor", "iptables_legacy", "note");
}

#[test]
fn defects_while_the_daemon_is_down_are_reported() {
    on_a_host_with_an_uplink(without_daemon);
}

fn without_daemon(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.133.0.0/24", "--ipv6", "--subnet", "fd33::/64"]);
    testbed.run_container("one", &["--network", "net", "-p", "8080:80", "-p", "80:80/udp"]);
    testbed.ping_soon("one", "192.168.77.254");
    let bridge = shell(testbed, "ip -o link | grep -o 'pntb[0-9a-z]*' | head -1").ok();
    testbed.kill_pontoon(Signal::Kill);

    // The stale socket; `check` works without the daemon.
    found(testbed, "doctor", "daemon", "broken");
    found(testbed, "doctor", "socket", "broken");
    healthy(testbed, "check");
    let ledger = "cat /var/lib/pontoon/ledger | sha256sum; ls -la --time-style=full-iso /var/lib/pontoon";
    let before = shell(testbed, ledger).ok();
    for (breakage, check) in [
        ("sysctl -w net.ipv4.ip_forward=0".to_owned(), "ip_forward"),
        (format!("ip address del 10.133.0.1/24 dev {bridge}"), "drift"),
        ("nft delete element inet pontoon published4 '{ tcp . 8080 }'".to_owned(), "drift"),
        (format!("ip link set {bridge} mtu 1300; ip link set {bridge} down"), "drift"),
        (format!("sysctl -w net.ipv4.conf.{bridge}.route_localnet=0"), "drift"),
        ("iptables -F FORWARD".to_owned(), "drift"),
        (format!("ip link del {bridge}"), "drift"),
    ] {
        shell(testbed, &breakage).ok();
        let level = if check == "drift" { "degraded" } else { "broken" };
        found(testbed, "check", check, level);
        // The plan consists of commands; after running them, nothing is left to do.
        let plan = shell(testbed, "pontoon plan").ok();
        shell(testbed, &format!("set -e\n{plan}")).ok();
        let left = shell(testbed, "pontoon plan").ok();
        assert!(left.starts_with("# nothing to do"), "after {breakage} and\n{plan}\nthere is still\n{left}");
        healthy(testbed, "check");
        testbed.ping_soon("one", "192.168.77.254");
        testbed.ping_soon("one", "10.133.0.1");
    }
    shell(testbed, "nft delete table bridge pontoon").ok();
    found(testbed, "check", "drift", "degraded");
    assert!(
        shell(testbed, "pontoon plan").ok().starts_with("# pontoon repair: recreate tables"),
        "a repair that commands cannot do"
    );
    assert_eq!(shell(testbed, ledger).ok(), before, "check or plan changed the state");

    // A repair without a daemon; with a daemon, the daemon does it.
    let done = shell(testbed, "pontoon repair").ok();
    assert!(done.contains("recreate tables"), "{done}");
    healthy(testbed, "check");
    testbed.ping_soon("one", "192.168.77.254");

    // A port that another process took meanwhile.
    let listen = "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 1) or die; sleep 999";
    let taken = testbed.spawn(&["perl", "-e", listen]);
    wait_until(SOON, "the port to be taken", || shell(testbed, "ss -lnt").ok().contains(":8080"));
    let start = found(testbed, "doctor", "daemon", "broken");
    let start = start["remedy"].as_str().expect("a remedy").trim_end_matches('&').to_owned();
    shell(testbed, &format!("setsid {start} </dev/null >>/lab/pontoon.log 2>&1 &")).ok();
    let finding = found(testbed, "doctor", "ports", "degraded");
    assert!(finding["title"].as_str().is_some_and(|title| title.contains("0.0.0.0:8080/tcp")), "{finding:#}");
    assert!(
        finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("ss -lntp 'sport = :8080'")),
        "{finding:#}"
    );
    drop(taken);
    no_perl(testbed);
    healthy(testbed, "doctor");
    assert!(shell(testbed, "pontoon repair").ok().starts_with("# nothing to do"), "the repair found something");
    assert!(shell(testbed, "pontoon check").success(), "check works beside a daemon");

    // Damage left by an earlier process.
    shell(testbed, "pkill -x pontoon; touch /var/lib/pontoon/ledger.corrupt-1").ok();
    wait_until(SOON, "the end of the daemon", || !shell(testbed, "pgrep -x pontoon").success());
    testbed.start_pontoon(&binary(), &[]);
    let finding = found(testbed, "doctor", "quarantined", "degraded");
    let remedy = finding["remedy"].as_str().and_then(|remedy| remedy.lines().next()).expect("a remedy").to_owned();
    shell(testbed, &remedy).ok();
    testbed.kill_pontoon(Signal::Term);
    testbed.start_pontoon(&binary(), &[]);
    healthy(testbed, "doctor");
}

/// Calls a method of the plugin, as the engine would.
fn call(testbed: &Testbed, method: &str, body: &Value) -> Value {
    let url = format!("http://pontoon/{method}");
    let socket = "/run/docker/plugins/pontoon.sock";
    testbed.exec(&["curl", "-s", "--unix-socket", socket, "-X", "POST", "-d", &body.to_string(), &url]).json()
}

#[test]
fn objects_unknown_to_the_engine_are_collected() {
    on_a_host_with_an_uplink(forgotten);
}

fn forgotten(testbed: &Testbed) {
    testbed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.134.0.0/24"]);
    testbed.create_network("bridge", "plain", &["--ipam-driver", "pontoon", "--subnet", "10.135.0.0/24"]).ok();
    testbed.run_container("one", &["--network", "net"]);
    healthy(testbed, "doctor --docker=/lab/docker.sock");
    let gc = |args: &str| shell(testbed, &format!("pontoon gc --docker=/lab/docker.sock {args}"));
    assert!(gc("--yes").ok().starts_with("# nothing to remove"), "the engine knows everything");

    // A network, a pool and an endpoint whose removal the engine did not request.
    let id = "ab".repeat(32);
    let pool = call(
        testbed,
        "IpamDriver.RequestPool",
        &serde_json::json!({"AddressSpace": "pontoon-local", "Pool": "10.136.0.0/24"}),
    );
    assert_eq!(pool["Pool"], "10.136.0.0/24", "{pool}");
    let network = serde_json::json!({"NetworkID": id, "Options": {}, "IPv4Data": [
        {"AddressSpace": "pontoon-local", "Pool": "10.136.0.0/24", "Gateway": "10.136.0.1/24"}], "IPv6Data": []});
    call(testbed, "NetworkDriver.CreateNetwork", &network);
    // Two leaks: the pool and the network.
    let finding = found(testbed, "doctor --docker=/lab/docker.sock", "engine_leaks", "degraded");
    assert_eq!(finding["evidence"].as_array().map(Vec::len), Some(2), "{finding:#}");
    let shown = gc("").ok();
    assert!(shown.contains(&format!("network {id}")) && shown.contains("pool 10.136.0.0/24"), "{shown}");
    assert!(shell(testbed, "ip -o link").ok().contains("pntbabab"), "a dry run removed it");

    // No answer, an incomplete answer, or that of another engine: nothing is removed.
    shell(testbed, "pontoon gc --docker=/run/nobody.sock --yes").err();
    let liar = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Local => '/run/liar.sock', Listen => 9) or die; \
                while (my $c = $s->accept) { my $l = <$c>; while (<$c>) { last if /^\\s*$/ } \
                my $b = $l =~ /info/ ? '{\"Swarm\":{\"LocalNodeState\":\"inactive\"}}' : $l =~ m{/networks } ? $ARGV[0] : '[]'; \
                print $c 'HTTP/1.0 200 OK', \"\\r\\nContent-Length: \", length $b, \"\\r\\n\\r\\n$b\"; close $c }";
    for (networks, words) in
        [("[{}]", "lacks an Id"), ("[]", "knows none of Pontoon's networks"), ("{", "unexpected answer")]
    {
        shell(testbed, "rm -f /run/liar.sock").ok();
        let _liar = testbed.spawn(&["perl", "-e", liar, networks]);
        wait_until(SOON, "the fake engine", || testbed.exec(&["test", "-S", "/run/liar.sock"]).success());
        let message = shell(testbed, "pontoon gc --docker=/run/liar.sock --yes --wait 0").err();
        assert!(message.contains(words), "{networks}: {message}");
        no_perl(testbed);
    }
    assert!(shell(testbed, "ip -o link").ok().contains("pntbabab"), "the network was removed");

    // Even then a network that a sandbox uses is kept.
    shell(testbed, "rm -f /run/liar.sock").ok();
    let _liar = testbed.spawn(&["perl", "-e", liar, "[]"]);
    wait_until(SOON, "the fake engine", || testbed.exec(&["test", "-S", "/run/liar.sock"]).success());
    let kept = shell(testbed, "pontoon gc --docker=/run/liar.sock").ok();
    assert!(kept.contains("is in a sandbox"), "{kept}");
    no_perl(testbed);

    gc("--yes --wait 1").ok();
    assert!(!shell(testbed, "ip -o link").ok().contains("pntbabab"), "the network is left");
    healthy(testbed, "doctor --docker=/lab/docker.sock");
    testbed.docker(&["inspect", "one"]).ok();
    testbed.ping_soon("one", "10.134.0.1");

    // The same without a daemon.
    call(
        testbed,
        "IpamDriver.RequestPool",
        &serde_json::json!({"AddressSpace": "pontoon-local", "Pool": "10.136.0.0/24"}),
    );
    call(testbed, "NetworkDriver.CreateNetwork", &network);
    testbed.kill_pontoon(Signal::Kill);
    let removed = gc("--yes --wait 1");
    assert!(removed.stderr.contains("removed pool 10.136.0.0/24"), "{removed}");
    removed.ok();
    assert!(!shell(testbed, "ip -o link").ok().contains("pntbabab"), "the network is left");
    testbed.start_pontoon(&binary(), &[]);
    healthy(testbed, "doctor --docker=/lab/docker.sock");

    // The reverse: the state is lost, and the engine still has the networks.
    testbed.kill_pontoon(Signal::Term);
    shell(testbed, "mkdir /var/lib/lost && mv /var/lib/pontoon/ledger* /var/lib/lost").ok();
    testbed.start_pontoon(&binary(), &[]);
    let finding = found(testbed, "doctor --docker=/lab/docker.sock", "engine", "broken");
    assert!(
        finding["remedy"].as_str().is_some_and(|remedy| remedy.starts_with("docker network rm net")),
        "{finding:#}"
    );
    testbed.kill_pontoon(Signal::Term);
    shell(testbed, "rm -f /var/lib/pontoon/ledger* && mv /var/lib/lost/* /var/lib/pontoon").ok();
    testbed.start_pontoon(&binary(), &[]);
    wait_until(Duration::from_secs(5), "the state to be restored", || {
        findings(testbed, "doctor --docker=/lab/docker.sock").0 == 0
    });
}
