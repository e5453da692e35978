//! Paths that must be closed.

use crate::{
    probe::{
        Expect::{By, Closed, Is},
        From::{Host, In, Outside},
    },
    topology::{SOON, Scenario, on_both, on_pontoon},
};
use testkit::wait_until;

#[test]
fn loopback_bindings_are_not_reached_from_the_wire() {
    on_both(loopback);
}

fn loopback(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.160.1.0/24", "--ipv6", "--subnet", "fd60:1::/64"]);
    let publish = ["-p", "127.0.0.1:8500:80", "-p", "[::1]:8500:80", "-p", "127.0.0.1:8501:53/udp"];
    scenario.serve("web", &["tcp:80", "udp:53"], &[&["--network", "net"][..], &publish].concat());
    scenario.serve("root", &["tcp:80"], &["--network", "net", "--cap-add", "NET_ADMIN"]);
    let _local = scenario.take("tcp", "127.0.0.1", "7777");
    // Both ends route 127.0.0.0/8 to the wire.
    let foreign = |prefix: &str, via: &str| {
        format!(
            "sysctl -qw net.ipv4.conf.all.route_localnet=1 && \
             {prefix} ip route del local 127.0.0.0/8 dev lo table local; \
             {prefix} ip route del local 127.0.0.1 dev lo table local; \
             {prefix} ip address del 127.0.0.1/8 dev lo; {prefix} ip route replace 127.0.0.0/8 via {via} dev eth0 && \
             {prefix} ip route get 127.0.0.1 && {prefix} ip -6 address del ::1/128 dev lo; \
             {prefix} ip -6 route del local ::1 dev lo table local; {prefix} ip -6 route replace ::1/128 via $0 dev eth0"
        )
    };
    scenario.outside.exec(&["bash", "-c", &foreign("", "192.168.77.1"), "fd77::1"]).ok();
    scenario.exec_beside("root", &["bash", "-c", &foreign("", "10.160.1.1"), "fd60:1::1"]).ok();
    for localnet in ["0", "1"] {
        // With 1 the administrator enables the attack, as some load balancers do.
        scenario.exec(&["sysctl", "-qw", &format!("net.ipv4.conf.eth0.route_localnet={localnet}")]).ok();
        println!("{}, route_localnet={localnet} on eth0", scenario.driver);
        // Before 28 the built-in driver does not stop this attack, so it is effective.
        let wire = |by| if scenario.is_pontoon() || scenario.engine >= 28 { Closed } else { By(by) };
        scenario.expect(&[
            (Host, "tcp,127.0.0.1,8500", By("web:80")),
            (Host, "udp,127.0.0.1,8501", By("web:53")),
            (Outside, "tcp,127.0.0.1,8500,192.168.77.2", wire("web:80")),
            (Outside, "udp,127.0.0.1,8501,192.168.77.2", wire("web:53")),
            (Outside, "tcp,::1,8500,fd77::2", Closed),
            (Outside, "tcp,192.168.77.1,8500", Closed),
            (Outside, "tcp,fd77::1,8500", Closed),
        ]);
    }
    scenario.exec(&["sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=0"]).ok();
    // Not from a container either, and no other port on the host's loopback.
    let own = scenario.container_addr("root", "net").v4.expect("an address");
    let probes =
        [format!("tcp,127.0.0.1,8500,{own}"), format!("udp,127.0.0.1,8501,{own}"), format!("tcp,127.0.0.1,7777,{own}")];
    let rows: Vec<_> = probes.iter().map(|probe| (In("root"), probe.as_str(), Closed)).collect();
    scenario.expect(&rows);
    scenario.expect(&[(Host, "tcp,127.0.0.1,8500", By("web:80")), (Host, "tcp,::1,8500", By("web:80"))]);
}

#[test]
fn unpublished_ports_are_not_reached() {
    on_both(direct);
}

/// An outside host with a route to the containers, and with spoofed addresses.
fn direct(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.161.1.0/24", "--ipv6", "--subnet", "fd61:1::/64"]);
    scenario.network("other", &["--subnet", "10.161.2.0/24", "--ipv6", "--subnet", "fd61:2::/64"]);
    let at = ["--network", "net", "--ip", "10.161.1.10", "--ip6", "fd61:1::10"];
    scenario.serve("web", &["tcp:80-81", "udp:53-54"], &[&at[..], &["-p", "8510:80", "-p", "8511:53/udp"]].concat());
    scenario.serve("away", &["tcp:80"], &["--network", "other"]);
    scenario.route_from_outside(&["10.161.1.0/24", "fd61:1::/64"]);
    let mut rows = vec![
        (Outside, "tcp,192.168.77.1,8510", By("web:80")),
        (Outside, "udp,192.168.77.1,8511", By("web:53")),
        (Outside, "tcp,10.161.1.10,81", Closed),
        (Outside, "udp,10.161.1.10,54", Closed),
        (In("away"), "tcp,10.161.1.10,81", Closed),
        (In("away"), "udp,10.161.1.10,54", Closed),
        (In("away"), "icmp,10.161.1.10,56", Closed),
        (Outside, "big,10.161.1.10,54", Closed),
        (Outside, "icmp,10.161.1.10,3000", Closed),
        // Fragments for published ports pass, and the host answers pings to itself.
        (Outside, "big,192.168.77.1,8511", Is("web:53 192.168.77.2")),
        (Outside, "icmp,192.168.77.1,3000", Is("pong")),
        (Outside, "icmp,fd77::1,3000", Is("pong")),
        (Host, "icmp,10.161.1.10,3000", Is("pong")),
        (Host, "big,10.161.1.10,54", By("web:54")),
    ];
    if scenario.has_six() {
        rows.extend([
            (Outside, "tcp,fd61:1::10,81", Closed),
            (Outside, "udp,fd61:1::10,54", Closed),
            (Outside, "icmp,fd61:1::10,3000", Closed),
            (Outside, "big,fd61:1::10,54", Closed),
            (Outside, "big,fd77::1,8511", Is("web:53 fd77::2")),
            (In("away"), "tcp,fd61:1::10,81", Closed),
            (In("away"), "tcp,fd61:1::10,80", Closed),
        ]);
    }
    // Before 28 the built-in driver accepts direct connections to the published port.
    if scenario.is_pontoon() || scenario.engine >= 28 {
        rows.extend([
            (Outside, "tcp,10.161.1.10,80", Closed),
            (Outside, "udp,10.161.1.10,53", Closed),
            (Outside, "icmp,10.161.1.10,56", Closed),
            (Outside, "tcp,fd61:1::10,80", Closed),
        ]);
    }
    scenario.expect(&rows);
    spoofed_from_outside(scenario);
}

/// Inside addresses as sources of packets from outside: there can be no answer, so arrivals count.
fn spoofed_from_outside(scenario: &Scenario) {
    let arrived = || scenario.docker(&["logs", "web"]).ok();
    let before = arrived().len();
    let sources = ["10.161.1.1", "10.161.1.11", "10.161.2.1", "192.168.77.1", "192.168.77.9"];
    let mut probes: Vec<_> = sources.iter().map(|source| format!("udp,10.161.1.10,54,{source}")).collect();
    if scenario.has_six() {
        probes.extend(["fd61:1::1", "fd61:1::11", "fd77::1"].map(|source| format!("udp,fd61:1::10,54,{source}")));
    }
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    let answers = scenario.ask(Outside, &probes);
    assert!(answers.iter().all(|answer| answer == "timeout"), "no answer to spoofed datagrams: {answers:?}");
    let text = arrived();
    assert!(
        !text[before..].contains("got 54"),
        "a spoofed datagram arrived with {}: {}",
        scenario.driver,
        &text[before..]
    );
}

#[test]
fn link_local_addresses_reach_no_other_network() {
    on_both(link_local);
}

fn link_local(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.162.1.0/24", "--ipv6", "--subnet", "fd62:1::/64"]);
    scenario.network("other", &["--subnet", "10.162.2.0/24", "--ipv6", "--subnet", "fd62:2::/64"]);
    scenario.serve("web", &["tcp:80-81"], &["--network", "net", "-p", "8520:80", "-p", "[::1]:8521:80"]);
    scenario.run_container("peer", &["--network", "net"]);
    scenario.run_container("away", &["--network", "other"]);
    let fe80 = |text: String| {
        let address = text.split_whitespace().skip_while(|word| *word != "inet6").nth(1).map(str::to_owned);
        address.and_then(|address| address.split('/').next().map(str::to_owned)).expect("a link-local address")
    };
    let show = ["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"];
    let web = fe80(scenario.exec_in("web", &show).ok());
    let node = fe80(scenario.exec(&show).ok());
    let (here, wire) = (format!("tcp,{web}%eth0,81"), format!("tcp,{node}%eth0,8521"));
    scenario.expect(&[
        (In("peer"), &here, By("web:81")),
        (In("away"), &here, Closed),
        (Outside, &here, Closed),
        (Outside, &wire, Closed),
    ]);
    let published = scenario.answer(Outside, &format!("tcp,{node}%eth0,8520"));
    println!("the published port at the host's link-local address with {}: {published}", scenario.driver);
}

#[test]
fn other_networks_cannot_be_reached_by_detours() {
    on_pontoon(detours);
}

/// A container that may change its routes, links and addresses, and an outside host that sends packets back.
fn detours(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.163.1.0/24", "--ipv6", "--subnet", "fd63:1::/64"]);
    scenario.network("other", &["--subnet", "10.163.2.0/24", "--ipv6", "--subnet", "fd63:2::/64"]);
    scenario.network("inner", &["--internal", "--subnet", "10.163.3.0/24", "--ipv6", "--subnet", "fd63:3::/64"]);
    scenario.create_network("bridge", "theirs", &["--subnet", "10.163.4.0/24"]).ok();
    for (network, name) in [("other", "at-other"), ("inner", "at-inner"), ("theirs", "at-theirs")] {
        scenario.serve(name, &["tcp:80", "udp:53"], &["--network", network]);
    }
    scenario.serve("root", &["tcp:80"], &["--network", "net", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"]);
    scenario.route_from_outside(&["10.163.0.0/16", "fd63::/32"]);
    scenario.outside.exec(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]).ok();
    let mut probes = Vec::new();
    for (name, network) in [("at-other", "other"), ("at-inner", "inner"), ("at-theirs", "theirs")] {
        let at = scenario.container_addr(name, network);
        for address in [at.v4.map(|v4| v4.to_string()), at.v6.map(|v6| v6.to_string())].into_iter().flatten() {
            probes.extend([format!("tcp,{address},80"), format!("udp,{address},53"), format!("icmp,{address},56")]);
        }
    }
    let rows: Vec<_> = probes.iter().map(|probe| (In("root"), probe.as_str(), Closed)).collect();
    scenario.expect(&rows);
    // Through the outside host, to which policy routes send everything back.
    for table in
        [["10.163.2.0/24", "192.168.77.2"], ["10.163.3.0/24", "192.168.77.2"], ["10.163.4.0/24", "192.168.77.2"]]
    {
        scenario.exec(&["ip", "route", "add", table[0], "via", table[1], "table", "77"]).ok();
    }
    scenario.exec(&["ip", "rule", "add", "from", "10.163.1.0/24", "lookup", "77", "priority", "77"]).ok();
    let four: Vec<_> = rows.iter().filter(|(_, probe, _)| !probe.contains("fd63")).cloned().collect();
    scenario.expect(&four);
    scenario.exec(&["ip", "rule", "del", "priority", "77"]).ok();
    // A container of the internal network with a default route that it added.
    scenario.serve("inmate", &["tcp:80"], &["--network", "inner", "--cap-add", "NET_ADMIN"]);
    scenario.exec_in("inmate", &["ip", "route", "replace", "default", "via", "10.163.3.1"]).ok();
    scenario.exec_in("inmate", &["ip", "-6", "route", "replace", "default", "via", "fd63:3::1"]).ok();
    let _server = scenario.serve_outside("remote", &["tcp:80"]);
    scenario.expect(&[
        (In("inmate"), "tcp,192.168.77.2,80", Closed),
        (In("inmate"), "tcp,fd77::2,80", Closed),
        (In("inmate"), "icmp,192.168.77.2,56", Closed),
        (In("root"), "tcp,192.168.77.2,80", Is("remote:80 192.168.77.1")),
        (In("root"), "tcp,fd77::2,80", Is("remote:80 fd77::1")),
    ]);
    wait_until(SOON, "the table", || scenario.exec(&["nft", "list", "table", "inet", "pontoon"]).success());
}
