//! `pontoon.publish.allow`: the sources that may reach published ports.

use crate::{
    probe::{
        Expect::{By, Closed},
        From::{Host, In, Outside},
    },
    topology::{Scenario, on_pontoon},
};

const ALLOW: &str = "pontoon.publish.allow";

#[test]
fn only_allowed_sources_reach_published_ports() {
    on_pontoon(allow);
}

fn allow(scenario: &Scenario) {
    scenario.outside.exec(&["ip", "address", "add", "192.168.77.3/24", "dev", "eth0"]).ok();
    scenario.outside.exec(&["ip", "address", "add", "fd77::3/64", "dev", "eth0", "nodad"]).ok();
    let subnets = ["--ipv6", "--subnet", "10.142.1.0/24", "--subnet", "fd42:1::/64"];
    let option = format!("{ALLOW}=192.168.77.2/32,fd77::2/128");
    scenario.network("net", &[&subnets[..], &["-o", &option]].concat());
    scenario.network("open", &["--subnet", "10.142.2.0/24"]);
    scenario.serve("web", &["tcp:80", "udp:53"], &["--network", "net", "-p", "8310:80", "-p", "8311:53/udp"]);
    scenario.serve("peer", &["tcp:80"], &["--network", "net"]);
    scenario.serve("away", &["tcp:80"], &["--network", "open"]);
    let rows = [
        (Outside, "tcp,192.168.77.1,8310", By("web:80")),
        (Outside, "tcp,192.168.77.1,8310,192.168.77.2", By("web:80")),
        (Outside, "tcp,192.168.77.1,8310,192.168.77.3", Closed),
        (Outside, "udp,192.168.77.1,8311,192.168.77.2", By("web:53")),
        (Outside, "udp,192.168.77.1,8311,192.168.77.3", Closed),
        (Outside, "tcp,fd77::1,8310,fd77::2", By("web:80")),
        (Outside, "tcp,fd77::1,8310,fd77::3", Closed),
        // The list does not apply within its own network.
        (In("peer"), "tcp,10.142.1.2,80", By("web:80")),
        (In("away"), "tcp,192.168.77.1,8310", Closed),
    ];
    scenario.expect(&rows);
    scenario.explained(&rows);
    println!("the host itself, not among the allowed: {}", scenario.answer(Host, "tcp,192.168.77.1,8310"));
    // An endpoint's own list replaces the network's.
    let own = format!("name=net,driver-opt={ALLOW}=192.168.77.3/32");
    scenario.serve("own", &["tcp:80"], &["--network", &own, "-p", "8312:80"]);
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8312,192.168.77.2", Closed),
        (Outside, "tcp,192.168.77.1,8312,192.168.77.3", By("own:80")),
        // A list without addresses of a family accepts no source of that family.
        (Outside, "tcp,fd77::1,8312,fd77::3", Closed),
        (Outside, "tcp,192.168.77.1,8310,192.168.77.2", By("web:80")),
        (Outside, "tcp,192.168.77.1,8310,192.168.77.3", Closed),
    ]);
    let wrong = scenario.try_network("bad", &["-o", &format!("{ALLOW}=192.168.77.0/33")]).err();
    assert!(wrong.contains(ALLOW), "{wrong}");
    // The old list is removed: the next container at that port has its own list.
    scenario.docker(&["rm", "-f", "own"]).ok();
    scenario.serve("next", &["tcp:80"], &["--network", "open", "-p", "8312:80"]);
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8312,192.168.77.2", By("next:80"))]);
}
