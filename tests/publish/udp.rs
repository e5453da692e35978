//! UDP from one source port, while the server behind a published port is replaced.

use crate::topology::{SOON, Scenario, on_both};
use testkit::wait_until;

#[test]
fn a_udp_client_reaches_the_replacement_of_a_container() {
    on_both(replaced);
}

fn replaced(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.140.1.0/24", "--ipv6", "--subnet", "fd40:1::/64"]);
    let publish = ["--network", "net", "-p", "8300:53/udp"];
    // Each later container has another address.
    scenario.serve("first", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.11", "--ip6", "fd40:1::11"]].concat());
    let stick = |addr, port| scenario.outside.spawn(&["perl", "/lab/tool.pl", "stick", addr, "8300", port]);
    let four = stick("192.168.77.1", "5300");
    let six = stick("fd77::1", "5306");
    let inside = scenario.spawn(&["perl", "/lab/tool.pl", "stick", "192.168.77.1", "8300", "5301"]);
    let mut clients = vec![("IPv4 from outside", &four), ("from the host", &inside)];
    if scenario.has_six() {
        clients.push(("IPv6 from outside", &six));
    }
    let answers = |name: &str| {
        for (what, client) in &clients {
            wait_until(SOON, &format!("{name} to answer {what} with {}", scenario.driver), || {
                client.log().lines().last().is_some_and(|line| line.starts_with(&format!("{name}:53 ")))
            });
        }
    };
    answers("first");
    // Replaced by another container.
    scenario.docker(&["rm", "-f", "first"]).ok();
    scenario.serve("second", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.12", "--ip6", "fd40:1::12"]].concat());
    answers("second");
    // A crash of the server, which is started again at another address.
    scenario.docker(&["kill", "second"]).ok();
    scenario.serve("filler", &["udp:53"], &["--network", "net", "--ip", "10.140.1.13"]);
    scenario.docker(&["rm", "second"]).ok();
    scenario.serve("third", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.14", "--ip6", "fd40:1::14"]].concat());
    answers("third");
    // The reverse: the clients first reach the host, and the port is published afterwards.
    scenario.docker(&["rm", "-f", "third"]).ok();
    for (what, source) in [("IPv4 from outside", "5300"), ("IPv6 from outside", "5306"), ("from the host", "5301")] {
        if what.contains('6') && !scenario.has_six() {
            continue;
        }
        wait_until(SOON, &format!("{what} to be tracked as a client of the host"), || {
            let flows = scenario.exec(&["cat", "/proc/net/nf_conntrack"]).ok();
            flows.lines().any(|flow| {
                flow.contains(&format!("sport={source} "))
                    && !flow.contains("src=10.140.1.14")
                    && !flow.contains(":0014")
            })
        });
    }
    scenario.serve("fourth", &["udp:53"], &[&publish[..], &["--ip", "10.140.1.15", "--ip6", "fd40:1::15"]].concat());
    answers("fourth");
}
