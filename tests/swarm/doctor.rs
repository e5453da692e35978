//! The findings of `pontoon doctor` about tunnels and a Swarm, and `plan` and `repair` of tunnels without a daemon.

use std::path::Path;

use serde_json::Value;

use crate::cluster::{Cluster, SOON, built};
use testkit::{Node, Output, Signal, wait_for, wait_until};

/// Runs a script in the node, where `pontoon` is the program under test.
fn shell(node: &Node, script: &str) -> Output {
    node.exec(&["bash", "-c", &format!("PATH=/lab:$PATH; {script}")])
}

/// The findings of a check, once one of them has this level.
#[track_caller]
fn finds(node: &Node, command: &str, check: &str, level: &str) -> Vec<Value> {
    wait_for(SOON, &format!("{command} to find {check} {level}"), || {
        let output = shell(node, &format!("pontoon {command} --json"));
        let all: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
        let of: Vec<Value> = all.into_iter().filter(|finding| finding["check"] == check).collect();
        of.iter().any(|finding| finding["level"] == level).then_some(of)
    })
}

fn text(findings: &[Value]) -> String {
    findings.iter().map(Value::to_string).collect()
}

/// A UDP datagram from one container to another with a wrong checksum, as a broken link would produce.
const DAMAGED: &str = "use Socket; my ($to) = @ARGV; socket(my $s, PF_INET, SOCK_RAW, 17) or die; \
                       send $s, pack('nnnn', 999, 999, 12, 0x1234) . 'abcd', 0, pack_sockaddr_in(0, inet_aton($to)) or die";

/// With plain engines, on a non-default port.
#[test]
fn tunnel_defects_are_reported_and_repaired_without_a_daemon() {
    let cluster = Cluster::plain(2);
    let port = ["--vxlan-port", "4790"];
    for (name, peer, range) in [("one", "192.168.77.12", "32"), ("two", "192.168.77.11", "64")] {
        let node = cluster.node(name);
        node.kill_pontoon(Signal::Term);
        node.start_pontoon(&built("pontoon"), &port);
        let (peer, range) = (format!("pontoon.peers={peer}"), format!("10.46.0.{range}/27"));
        let subnet = ["--subnet", "10.46.0.0/24", "--ip-range", &range, "-o", "pontoon.vni=4646", "-o", &peer];
        node.docker(&[&["network", "create", "-d", "pontoon"], &subnet[..], &["net"]].concat()).ok();
        node.run_container(name, &["--network", "net"]);
    }
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    let address = |node: &Node, name: &str| node.container_addr(name, "net").v4.expect("an address").to_string();
    one.ping_soon("one", &address(two, "two"));
    let sound = |command: &str| {
        assert!(text(&finds(one, command, "tunnel_mtu", "ok")).contains("reach 1 peers"), "{command}");
        for check in ["peers", "tunnel_port", "offload", "announcing", "drift"] {
            finds(one, command, check, "ok");
        }
    };
    sound("doctor");
    sound("check");

    ailments(one, two, &address(two, "two"), &port);

    // The daemon is down, and the tunnel is removed.
    one.kill_pontoon(Signal::Kill);
    let tunnel = cluster.tunnels("one").remove(0);
    let break_all = format!("ip link del {tunnel}; nft delete element inet pontoon vnis '{{ 0x{:08x} }}'", 4646 << 8);
    for repair in ["script", "repair"] {
        shell(one, &break_all).ok();
        finds(one, "check", "drift", "degraded");
        let plan = shell(one, "pontoon plan").ok();
        assert!(plan.contains("type vxlan id 4646") && plan.contains("dstport 4790"), "{plan}");
        match repair {
            "script" => shell(one, &format!("set -e\n{plan}\n{plan}")).ok(),
            _ => shell(one, "pontoon repair").ok(),
        };
        let left = shell(one, "pontoon plan").ok();
        assert!(left.starts_with("# nothing to do"), "after {plan} there is {left}");
        one.ping_soon("one", &address(two, "two"));
    }
    // Another program takes the port meanwhile.
    shell(one, &format!("ip link del {tunnel}")).ok();
    let listen = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Proto => 'udp', LocalPort => 4790) or die; \
                  $SIG{ALRM} = sub { exit }; alarm 120; sleep 1 while 1";
    let _taken = one.spawn(&["perl", "-e", listen]);
    let held = text(&finds(one, "check", "tunnel_port", "broken"));
    assert!(held.contains("4790") && held.contains("ss -lnup"), "{held}");
}

/// Breaks one thing after the other, and expects the finding.
fn ailments(one: &Node, two: &Node, far: &str, port: &[&str]) {
    // The link of the data path.
    shell(one, "ip link set eth0 mtu 1400").ok();
    let narrow = text(&finds(one, "doctor", "tunnel_mtu", "degraded"));
    assert!(narrow.contains("driver.mtu=1350"), "{narrow}");
    shell(one, "ip link set eth0 mtu 1500").ok();
    finds(one, "doctor", "tunnel_mtu", "ok");
    // The path to a peer.
    shell(one, "ip route add unreachable 192.168.77.12").ok();
    assert!(text(&finds(one, "doctor", "peers", "degraded")).contains("ip route get 192.168.77.12"));
    shell(one, "ip route del unreachable 192.168.77.12").ok();
    // A foreign tunnel.
    shell(one, "ip link add theirs type vxlan external dstport 4790").ok();
    assert!(text(&finds(one, "doctor", "tunnel_port", "broken")).contains("theirs"));
    shell(one, "ip link del theirs").ok();
    // Checksums.
    let pid = one.docker(&["inspect", "--format", "{{.State.Pid}}", "one"]).ok();
    one.exec(&["nsenter", "-t", &pid, "-n", "perl", "-e", DAMAGED, far]).ok();
    let damaged = text(&finds(two, "doctor", "offload", "degraded"));
    assert!(damaged.contains(far) && damaged.contains("ethtool -K eth0"), "{damaged}");
    // A capability.
    one.kill_pontoon(Signal::Term);
    let serve = format!(
        "mkdir -p /run/docker/plugins; setsid setpriv --bounding-set -net_raw /lab/pontoon serve \
         --state-dir /var/lib/pontoon --socket /run/docker/plugins/pontoon.sock {} </dev/null >>/lab/pontoon.log 2>&1 &",
        port.join(" ")
    );
    shell(one, &serve).ok();
    finds(one, "doctor", "announcing", "degraded");
    shell(one, "kill $(pgrep -x pontoon)").ok();
    wait_until(SOON, "the end of the daemon", || !shell(one, "pgrep -x pontoon").success());
    one.start_pontoon(&built("pontoon"), port);
    finds(one, "doctor", "announcing", "ok");
}

/// On a manager: Swarm features that containers cannot use.
pub fn in_a_swarm(cluster: &Cluster) {
    let one = cluster.node("one");
    one.copy_in(Path::new(&built("pontoon")), "pontoon");
    let id = one.docker(&["plugin", "inspect", "-f", "{{.Id}}", "pontoon"]).ok();
    let doctor = format!(
        "doctor --docker=/lab/docker.sock --socket /run/docker/plugins/{id}/pontoon.sock \
         --state-dir /var/lib/docker/plugins/{id}/propagated-mount"
    );
    for check in ["daemon", "socket", "state", "drift", "service_vips", "tunnel_port", "announcing"] {
        finds(one, &doctor, check, "ok");
    }
    let vip =
        ["service", "create", "--detach", "--name", "vip", "--replicas", "0", "--network", "fleet", "busybox", "true"];
    cluster.manager(&vip);
    let found = finds(one, &doctor, "service_vips", "degraded");
    let remedy = found[0]["remedy"].as_str().expect("a remedy").to_owned();
    assert_eq!(remedy, "docker service update --endpoint-mode dnsrr vip");
    let words: Vec<&str> = remedy.split(' ').skip(1).chain(["--detach"]).collect();
    cluster.manager(&words);
    finds(one, &doctor, "service_vips", "ok");
    cluster.manager(&["service", "rm", "vip"]);
}
