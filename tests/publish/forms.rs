//! The forms of `-p`, and the sources from which a published port is reached.

use crate::{
    probe::{
        Expect::{By, Closed, Is},
        From::{Host, In, Outside},
    },
    topology::{NODE4, NODE6, OUTSIDE4, OUTSIDE6, Scenario, on_both},
};
use testkit::Output;

#[test]
fn every_form_is_reached_from_every_expected_source() {
    on_both(forms);
}

fn forms(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.120.1.0/24", "--ipv6", "--subnet", "fd20:1::/64"]);
    scenario.network("other", &["--subnet", "10.120.2.0/24", "--ipv6", "--subnet", "fd20:2::/64"]);
    let specs = ["tcp:80", "tcp:9000-9002", "udp:53"];
    let given = [
        "8080:80",
        "127.0.0.1:8081:80",
        "192.168.77.1:8082:80",
        "9000-9002:9000-9002",
        "8090-8095:80",
        "8053:53/udp",
        "[::]:8084:80",
        "[::1]:8085:80",
    ];
    let mut args = vec!["--network", "net"];
    args.extend(given.iter().flat_map(|publish| ["-p", *publish]));
    scenario.serve("web", &specs, &args);
    scenario.serve("peer", &["tcp:80"], &["--network", "net"]);
    scenario.serve("away", &["tcp:80"], &["--network", "other"]);
    from_outside(scenario);
    from_the_host(scenario);
    from_containers(scenario);
    the_same_range_again(scenario);
    from_the_loopback_of_six(scenario);
    // A removed port is closed, and free for another container.
    scenario.docker(&["rm", "-f", "web"]).ok();
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8080", Closed),
        (Outside, "udp,192.168.77.1,8053", Closed),
        (Host, "tcp,127.0.0.1,8081", Closed),
        (Host, "tcp,::1,8085", Closed),
    ]);
    for (protocol, port) in [("tcp", "8080"), ("tcp", "9001"), ("udp", "8053")] {
        assert!(
            scenario.free(protocol, "0.0.0.0", port) && scenario.free(protocol, "::", port),
            "{port}/{protocol} is free"
        );
    }
}

fn from_outside(scenario: &Scenario) {
    let web4 = format!("web:80 {OUTSIDE4}");
    let udp4 = format!("web:53 {OUTSIDE4}");
    let (web6, udp6) = (format!("web:80 {OUTSIDE6}"), format!("web:53 {OUTSIDE6}"));
    // A proxy hides the client's address.
    let six = |text| if scenario.has_six() { Is(text) } else { By(&text[..6]) };
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8080", Is(&web4)),
        (Outside, "tcp,fd77::1,8080", six(&web6)),
        (Outside, "tcp,192.168.77.1,8081", Closed),
        (Outside, "tcp,fd77::1,8081", Closed),
        (Outside, "tcp,192.168.77.1,8082", Is(&web4)),
        (Outside, "tcp,fd77::1,8082", Closed),
        (Outside, "tcp,192.168.77.1,9000", By("web:9000")),
        (Outside, "tcp,192.168.77.1,9002", By("web:9002")),
        (Outside, "tcp,fd77::1,9001", By("web:9001")),
        (Outside, "tcp,192.168.77.1,9003", Closed),
        (Outside, "tcp,192.168.77.1,8090", Is(&web4)),
        (Outside, "tcp,192.168.77.1,8091", Closed),
        (Outside, "udp,192.168.77.1,8053", Is(&udp4)),
        (Outside, "udp,fd77::1,8053", six(&udp6)),
        (Outside, "tcp,192.168.77.1,8084", Closed),
        (Outside, "tcp,fd77::1,8084", six(&web6)),
        (Outside, "tcp,fd77::1,8085", Closed),
        // Only published ports are open.
        (Outside, "tcp,192.168.77.1,80", Closed),
        (Outside, "udp,192.168.77.1,53", Closed),
        (Outside, "tcp,192.168.77.1,8053", Closed),
    ]);
}

fn from_the_host(scenario: &Scenario) {
    let (own4, own6) = (format!("web:80 {NODE4}"), format!("web:80 {NODE6}"));
    let six = |text| if scenario.has_six() { Is(text) } else { By("web:80") };
    scenario.expect(&[
        (Host, "tcp,192.168.77.1,8080", Is(&own4)),
        (Host, "tcp,fd77::1,8080", six(&own6)),
        (Host, "tcp,127.0.0.1,8080", By("web:80")),
        (Host, "tcp,127.3.2.1,8080", By("web:80")),
        (Host, "tcp,10.120.1.1,8080", By("web:80")),
        (Host, "tcp,fd20:2::1,8080", By("web:80")),
        (Host, "tcp,127.0.0.1,8081", By("web:80")),
        (Host, "tcp,192.168.77.1,8081", Closed),
        (Host, "tcp,::1,8081", Closed),
        (Host, "tcp,192.168.77.1,8082", Is(&own4)),
        (Host, "tcp,127.0.0.1,8082", Closed),
        (Host, "tcp,127.0.0.1,9001", By("web:9001")),
        (Host, "tcp,127.0.0.1,8090", By("web:80")),
        (Host, "udp,192.168.77.1,8053", By("web:53")),
        (Host, "udp,127.0.0.1,8053", By("web:53")),
        (Host, "udp,fd77::1,8053", By("web:53")),
        (Host, "tcp,127.0.0.1,8084", Closed),
        (Host, "tcp,fd77::1,8085", Closed),
    ]);
}

fn from_the_loopback_of_six(scenario: &Scenario) {
    scenario.expect(&[
        (Host, "tcp,::1,8080", By("web:80")),
        (Host, "tcp,::1,9001", By("web:9001")),
        (Host, "udp,::1,8053", By("web:53")),
        (Host, "tcp,::1,8084", By("web:80")),
        (Host, "tcp,::1,8085", By("web:80")),
    ]);
}

fn from_containers(scenario: &Scenario) {
    let mut rows = Vec::new();
    for from in ["away", "peer", "web"] {
        rows.extend([
            (In(from), "tcp,192.168.77.1,8080", By("web:80")),
            (In(from), "tcp,192.168.77.1,8082", By("web:80")),
            (In(from), "tcp,192.168.77.1,9001", By("web:9001")),
            (In(from), "tcp,192.168.77.1,8081", Closed),
            (In(from), "tcp,fd77::1,8080", By("web:80")),
            (In(from), "tcp,fd77::1,8084", By("web:80")),
            (In(from), "tcp,fd77::1,8085", Closed),
            // Via the gateway, which is the host.
            (In(from), "tcp,10.120.1.1,8080", By("web:80")),
            (In(from), "tcp,10.120.2.1,8080", By("web:80")),
            (In(from), "tcp,fd20:1::1,8080", By("web:80")),
            (In(from), "tcp,127.0.0.1,8080", Closed),
        ]);
        // The engine's proxy answers these from another address.
        if scenario.is_pontoon() {
            rows.push((In(from), "udp,192.168.77.1,8053", By("web:53")));
            rows.push((In(from), "udp,fd77::1,8053", By("web:53")));
        }
    }
    scenario.expect(&rows);
}

/// Two containers with the same range: each gets a port of it.
fn the_same_range_again(scenario: &Scenario) {
    scenario.serve("second", &["tcp:80"], &["--network", "net", "-p", "8090-8091:80"]);
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8091", By("second:80")),
        (Outside, "tcp,192.168.77.1,8090", By("web:80")),
    ]);
    let full = scenario.try_serve("third", &["tcp:80"], &["--network", "net", "-p", "8090-8091:80"]).err();
    assert!(full.contains("8091") || full.contains("all ports are allocated"), "{full}");
    scenario.docker(&["rm", "-f", "second", "third"]).ok();
}

#[test]
fn chosen_ports_are_ephemeral_and_kept() {
    on_both(ephemeral);
}

fn ephemeral(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.121.1.0/24", "--ipv6", "--subnet", "fd21:1::/64"]);
    // Reserved ports are never chosen; the engine reads this setting once, at its start.
    if scenario.is_pontoon() {
        scenario.exec(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=41000 41020"]).ok();
        scenario.exec(&["sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=41000-41008"]).ok();
    }
    let taken = scenario.take("tcp", "0.0.0.0", "41009");
    let publish = ["--network", "net", "-p", "80", "-p", "53/udp", "-p", "127.0.0.1::82"];
    scenario.serve("web", &["tcp:80", "tcp:82", "udp:53"], &publish);
    scenario.serve("all", &["tcp:80"], &["--network", "net", "--expose", "80", "--expose", "81", "-P"]);
    let mut seen = Vec::new();
    for (name, port, by) in [
        ("web", "80/tcp", "web:80"),
        ("web", "53/udp", "web:53"),
        ("web", "82/tcp", "web:82"),
        ("all", "80/tcp", "all:80"),
        ("all", "81/tcp", ""),
    ] {
        let answers = if by.is_empty() { Closed } else { By(by) };
        let ways = scenario.published(name, port);
        let local = by == "web:82";
        let wanted: &[&str] = if local { &["127.0.0.1"] } else { &["0.0.0.0", "::"] };
        let mut addrs: Vec<_> = ways.iter().map(|(addr, _)| addr.as_str()).collect();
        addrs.sort_unstable();
        assert_eq!(addrs, wanted, "{name} {port}");
        if scenario.is_pontoon() || scenario.engine >= 28 {
            assert!(ways.iter().all(|(_, number)| *number == ways[0].1), "both families have the same port: {ways:?}");
        }
        for (addr, number) in &ways {
            if scenario.is_pontoon() {
                assert!((41010..=41020).contains(number), "{name} {port}: {number} is reserved");
            }
            let probe = |at: &str| format!("{},{at},{number}", &port[3..]);
            match addr.as_str() {
                "127.0.0.1" => {
                    scenario.expect(&[(Host, &probe(addr), answers.clone()), (Outside, &probe(NODE4), Closed)]);
                }
                "::" => scenario.expect(&[(Outside, &probe(NODE6), answers.clone())]),
                _ => scenario.expect(&[(Outside, &probe(NODE4), answers.clone())]),
            }
        }
        seen.push((port[3..].to_owned(), ways[0].1));
    }
    drop(taken);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "no port twice: {seen:?}");
}

#[test]
fn the_default_address_is_set_by_the_network() {
    on_both(default_address);
}

fn default_address(scenario: &Scenario) {
    let option = "com.docker.network.bridge.host_binding_ipv4";
    scenario.network("lo", &["-o", &format!("{option}=127.0.0.1")]);
    scenario.network("one", &["-o", &format!("{option}=192.168.77.1"), "--ipv6", "--subnet", "fd22:1::/64"]);
    scenario.serve("lo", &["tcp:80"], &["--network", "lo", "-p", "8120:80", "-p", "192.168.77.1:8121:80"]);
    scenario.serve("one", &["tcp:80"], &["--network", "one", "-p", "8122:80"]);
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8120", Closed),
        (Host, "tcp,127.0.0.1,8120", By("lo:80")),
        (Host, "tcp,192.168.77.1,8120", Closed),
        (Outside, "tcp,192.168.77.1,8121", By("lo:80")),
        (Outside, "tcp,192.168.77.1,8122", By("one:80")),
        (Outside, "tcp,fd77::1,8122", Closed),
        (Host, "tcp,127.0.0.1,8122", Closed),
    ]);
}

#[test]
fn a_host_address_has_to_exist() {
    on_both(foreign_address);
}

fn foreign_address(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.122.1.0/24"]);
    let refused = |output: Output| {
        let said = output.err();
        assert!(said.contains("192.168.99.9"), "{said}");
    };
    refused(scenario.try_serve("web", &["tcp:80"], &["--network", "net", "-p", "192.168.99.9:8123:80"]));
    scenario.docker(&["rm", "-f", "web"]).ok();
    scenario.serve("web", &["tcp:80"], &["--network", "net", "-p", "8123:80"]);
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8123", By("web:80"))]);
}
