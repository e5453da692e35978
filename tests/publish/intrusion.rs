//! Forged packets, and the destinations that they must not reach.
//!
//! Each is also sent to an unprotected network in mode `nat-unprotected` beside the protected one: it arrives there, so
//! the attack is effective.

use crate::{
    probe::{
        Expect::{By, Closed, Is},
        From::{Host, In, Outside},
    },
    topology::{SOON, Scenario, on_pontoon},
};
use testkit::{Node, wait_until};

const WEB: &str = "10.164.1.10";
const BARE: &str = "10.164.2.10";
const UNPROTECTED: &str = "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected";

/// `web` is protected, with 8550 published for its UDP port 53, `bare` is not; both have ports 53 and 54.
fn deploy(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.164.1.0/24", "--ipv6", "--subnet", "fd64:1::/64"]);
    scenario.network("open", &["--subnet", "10.164.2.0/24", "-o", UNPROTECTED]);
    let publish = ["-p", "8550:53/udp", "-p", "8550:80/tcp"];
    let ports = ["udp:53-54", "tcp:80-81"];
    scenario.serve("web", &ports, &[&["--network", "net", "--ip", WEB][..], &publish].concat());
    scenario.serve("bare", &ports, &["--network", "open", "--ip", BARE]);
    scenario.route_from_outside(&["10.164.1.0/24", "10.164.2.0/24", "fd64:1::/64"]);
    // Resolves the neighbours before the first packet.
    scenario.expect(&[
        (Outside, "udp,192.168.77.1,8550", Is("web:53 192.168.77.2")),
        (Outside, "udp,10.164.2.10,54", Is("bare:54 192.168.77.2")),
    ]);
}

/// Whether a server received a datagram with this text.
fn got(scenario: &Scenario, name: &str, text: &str) -> bool {
    scenario.docker(&["logs", name]).ok().lines().any(|line| line.starts_with("got") && line.ends_with(text))
}

#[track_caller]
fn send(from: &Node, args: &[&str]) {
    from.exec(&[&["perl", "/lab/tool.pl", "send"][..], args].concat()).ok();
}

#[test]
fn fragments_open_no_port() {
    on_pontoon(fragments);
}

fn fragments(scenario: &Scenario) {
    deploy(scenario);
    for kind in ["plain", "tiny", "late"] {
        send(scenario.outside, &[kind, "192.168.77.2", WEB, "54", kind]);
        send(scenario.outside, &[kind, "192.168.77.2", BARE, "54", kind]);
        wait_until(SOON, &format!("{kind} to arrive at the unprotected network"), || got(scenario, "bare", kind));
        assert!(!got(scenario, "web", kind), "{kind} arrived");
        // The published port is reached, however the packet is fragmented.
        let published = format!("{kind}-published");
        send(scenario.outside, &[kind, "192.168.77.2", "192.168.77.1", "8550", &published]);
        wait_until(SOON, &format!("{kind} to arrive at the published port"), || got(scenario, "web", &published));
    }
    // Two first fragments with different ports: both are dropped.
    for (at, port) in [(WEB, "54"), (BARE, "54"), ("192.168.77.1", "8550")] {
        send(scenario.outside, &["overlap", "192.168.77.2", at, port, "overlap"]);
    }
    send(scenario.outside, &["plain", "192.168.77.2", "192.168.77.1", "8550", "after"]);
    wait_until(SOON, "a later datagram", || got(scenario, "web", "after"));
    assert!(!got(scenario, "web", "overlap"));
}

#[test]
fn sources_of_the_inside_are_dropped_from_outside() {
    on_pontoon(sources);
}

/// Sources that an outside host cannot have, to the published port and to ports that the host itself could reach.
fn sources(scenario: &Scenario) {
    deploy(scenario);
    // The most permissive settings of an administrator.
    for key in ["all.route_localnet", "eth0.route_localnet", "all.accept_source_route", "eth0.accept_source_route"] {
        scenario.exec(&["sysctl", "-qw", &format!("net.ipv4.conf.{key}=1")]).ok();
    }
    scenario.exec(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0"]).ok();
    for name in ["web", "bare"] {
        let keys = ["net.ipv4.conf.all.accept_source_route=1", "net.ipv4.conf.eth0.accept_source_route=1"];
        scenario.exec_beside(name, &["sysctl", "-qw", keys[0], keys[1]]).ok();
    }
    let own = ["192.168.77.1", "10.164.1.1", "127.0.0.1", "127.0.0.8", "10.164.2.1"];
    for (at, source) in own.into_iter().enumerate() {
        let text = format!("own-{at}");
        send(scenario.outside, &["plain", source, "192.168.77.1", "8550", &text]);
        send(scenario.outside, &["plain", source, WEB, "54", &text]);
        send(scenario.outside, &["plain", source, WEB, "53", &text]);
    }
    // Through the host by source routing: at the hook, the destination is still the host.
    send(scenario.outside, &["steered", "192.168.77.2", "192.168.77.1", "54", "steered", WEB]);
    send(scenario.outside, &["steered", "192.168.77.2", "192.168.77.1", "54", "steered", BARE]);
    wait_until(SOON, "a steered datagram to arrive at the unprotected network", || got(scenario, "bare", "steered"));
    send(scenario.outside, &["plain", "192.168.77.2", "192.168.77.1", "8550", "regular"]);
    wait_until(SOON, "a regular datagram", || got(scenario, "web", "regular"));
    for (at, source) in own.into_iter().enumerate() {
        assert!(!got(scenario, "web", &format!("own-{at}")), "from {source} outside");
    }
    assert!(!got(scenario, "web", "steered"));
}

#[test]
fn redirects_from_outside_change_no_route() {
    on_pontoon(redirects);
}

/// An ICMP redirect for a flow of the container belongs to that flow, and passes. Its gateway could send one as well.
fn redirects(scenario: &Scenario) {
    deploy(scenario);
    scenario.serve("peer", &["tcp:80"], &["--network", "net", "--ip", "10.164.1.66"]);
    let _remote = scenario.serve_outside("remote", &["udp:53"]);
    let stick = ["bash", "-c", "exec nsenter -t $(docker inspect -f '{{.State.Pid}}' web) -n perl /lab/tool.pl \"$@\""];
    let flow = scenario.spawn(&[&stick[..], &["web", "stick", "192.168.77.2", "53", "5555"]].concat());
    wait_until(SOON, "answers from outside", || flow.log().contains("remote:53 192.168.77.1"));
    scenario.exec_beside("web", &["ping", "-c1", "-W2", "10.164.1.66"]).ok();
    scenario.exec_beside("web", &["sysctl", "-qw", "net.ipv4.conf.all.accept_redirects=1"]).ok();
    scenario.exec_beside("web", &["sysctl", "-qw", "net.ipv4.conf.eth0.accept_redirects=1"]).ok();
    let turned = || {
        let route = scenario.exec_beside("web", &["ip", "route", "get", "192.168.77.2"]).ok();
        route.contains("via 10.164.1.66")
    };
    let redirect = |from: &Node, args: [&str; 4]| {
        let inner = ["192.168.77.2", "5555", "53"];
        let args = [&["perl", "/lab/tool.pl", "redirect"][..], &args, &inner].concat();
        from.exec(&args).ok();
    };
    for from in ["192.168.77.2", "10.164.1.1", "192.168.77.1"] {
        redirect(scenario.outside, [from, "192.168.77.1", "10.164.1.66", "192.168.77.1"]);
        redirect(scenario.outside, [from, WEB, "10.164.1.66", WEB]);
    }
    scenario.expect(&[(Outside, "udp,192.168.77.1,8550", By("web:53"))]);
    assert!(!turned(), "an outside host changed the container's route");
    redirect(scenario, ["10.164.1.1", WEB, "10.164.1.66", WEB]);
    wait_until(SOON, "the gateway's own redirect to be accepted", turned);
}

#[test]
fn link_local_sources_reach_no_published_port() {
    on_pontoon(link_local);
}

/// Pontoon does not translate them; after a translation, the kernel would not forward them.
fn link_local(scenario: &Scenario) {
    deploy(scenario);
    let fe80 = |node: &Node| {
        let text = node.exec(&["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).ok();
        let address = text.split_whitespace().skip_while(|word| *word != "inet6").nth(1).map(str::to_owned);
        address.and_then(|address| Some(address.split('/').next()?.to_owned())).expect("a link-local address")
    };
    let (node, outside) = (fe80(scenario), fe80(scenario.outside));
    scenario.not_ready("host");
    let _host = scenario.spawn(&["perl", "/lab/tool.pl", "serve", "host", "tcp:7070"]);
    scenario.listens("host");
    scenario.expect(&[
        // The path works.
        (Outside, &format!("tcp,{node}%eth0,7070"), By("host:7070")),
        (Outside, &format!("tcp,fd77::1,7070,{outside}%eth0"), By("host:7070")),
        (Outside, "tcp,fd77::1,8550", By("web:80")),
        (Outside, &format!("tcp,{node}%eth0,8550"), Closed),
        (Outside, &format!("udp,{node}%eth0,8550"), Closed),
        (Outside, &format!("tcp,fd77::1,8550,{outside}%eth0"), Closed),
        (Outside, &format!("udp,fd77::1,8550,{outside}%eth0"), Closed),
        (Outside, &format!("tcp,fd64:1::2,80,{outside}%eth0"), Closed),
        (Outside, &format!("udp,fd64:1::2,54,{outside}%eth0"), Closed),
    ]);
}

#[test]
fn dockers_and_pontoons_networks_reach_each_other_only_at_published_ports() {
    on_pontoon(both_kinds);
}

fn both_kinds(scenario: &Scenario) {
    deploy(scenario);
    scenario.create_network("bridge", "theirs", &["--subnet", "10.164.3.0/24"]).ok();
    let ports = ["udp:53-54", "tcp:80-81"];
    let publish = ["-p", "8551:80", "-p", "8551:53/udp"];
    scenario.serve("their", &ports, &[&["--network", "theirs", "--ip", "10.164.3.10"][..], &publish].concat());
    scenario.serve("default", &ports, &["-p", "8552:80"]);
    let default = scenario.container_addr("default", "bridge").v4.expect("an address");
    scenario.route_from_outside(&["10.164.3.0/24"]);
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8551", By("their:80")),
        (Host, "tcp,10.164.3.10,81", By("their:81")),
        (Host, "tcp,10.164.1.10,81", By("web:81")),
        // At published ports.
        (In("their"), "tcp,192.168.77.1,8550", By("web:80")),
        (In("their"), "udp,192.168.77.1,8550", By("web:53")),
        (In("default"), "tcp,192.168.77.1,8550", By("web:80")),
        (In("web"), "tcp,192.168.77.1,8551", By("their:80")),
        (In("web"), "udp,192.168.77.1,8551", By("their:53")),
        (In("web"), "tcp,192.168.77.1,8552", By("default:80")),
        // Nowhere else.
        (In("their"), "tcp,10.164.1.10,80", Closed),
        (In("their"), "tcp,10.164.1.10,81", Closed),
        (In("their"), "udp,10.164.1.10,53", Closed),
        (In("their"), "icmp,10.164.1.10,56", Closed),
        (In("default"), "tcp,10.164.1.10,81", Closed),
        (In("web"), "tcp,10.164.3.10,80", Closed),
        (In("web"), "tcp,10.164.3.10,81", Closed),
        (In("web"), "udp,10.164.3.10,53", Closed),
        (In("web"), "icmp,10.164.3.10,56", Closed),
        (In("web"), &format!("tcp,{default},80"), Closed),
        (In("web"), &format!("tcp,{default},81"), Closed),
    ]);
}
