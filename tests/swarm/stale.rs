//! Subnets of a Swarm and hosts that do not agree with them: one whose engine was down when a network
//! was replaced, and one whose LAN has the subnet that the Swarm chose.

use std::time::Duration;

use crate::fleet::{Fleet, SOON, links};
use crate::support::wait_until;

impl Fleet {
    /// A service with a task on every node.
    fn everywhere(&self, service: &str, network: &str) {
        let what = ["service", "create", "--detach", "--name", service, "--mode", "global", "--network", network];
        let how = ["--endpoint-mode", "dnsrr", "--restart-delay", "1s", "--stop-grace-period", "1s", "busybox"];
        self.manager(&[&what[..], &how].concat());
    }
}

#[test]
fn a_network_replaced_while_an_engine_was_down() {
    let fleet = Fleet::up();
    fleet.manager(&["swarm", "update", "--dispatcher-heartbeat", "2s"]);
    let create = |name: &str| {
        let options =
            ["--subnet", "10.44.0.0/24", "-o", "com.docker.network.bridge.name=swarm0", "-o", "pontoon.vni=4242"];
        fleet.manager(&[&["network", "create", "-d", "pontoon:latest"][..], &options, &[name]].concat());
    };
    create("before");
    fleet.everywhere("web", "before");
    fleet.all_answer_all("web", "before", 3, "at first");
    let three = fleet.node("three");
    three.kill_dockerd();
    fleet.manager(&["service", "rm", "web"]);
    fleet.remove_network("before");
    create("after");
    fleet.everywhere("web", "after");
    three.revive_dockerd();
    fleet.ready(3);
    fleet.all_answer_all("web", "after", 3, "with the engine back");
    assert_eq!(fleet.tunnels("three").len(), 1, "{:?}", links(three));
    fleet.manager(&["service", "rm", "web"]);
    fleet.remove_network("after");
    fleet.nothing_left();
}

#[test]
fn a_subnet_that_the_swarm_chose_and_a_lan_has() {
    let fleet = Fleet::up();
    let two = fleet.node("two");
    // The Swarm's first is for its own ingress network, the second for the first of the user's.
    let link = two.exec(&["sh", "-c", "ip -o -4 addr show | grep ' 192.168.77.' | awk '{print $2}'"]).ok();
    two.exec(&["ip", "addr", "add", "10.0.1.7/24", "dev", link.trim()]).ok();
    fleet.manager(&["network", "create", "-d", "pontoon:latest", "chosen"]);
    fleet.everywhere("web", "chosen");
    let seen = || fleet.manager(&["service", "ps", "--no-trunc", "--format", "{{.Node}} {{.Error}}", "web"]);
    wait_until(2 * SOON, "the reason to be told", || seen().contains("10.0.1.7, the address of link"));
    assert!(seen().contains("--default-addr-pool"), "{}", seen());
    let routes = two.exec(&["ip", "route", "show", "10.0.1.0/24"]).ok();
    assert!(routes.contains(link.trim()) && !routes.contains("pnt"), "the host's own network stays: {routes}");
    fleet.manager(&["service", "rm", "web"]);
    fleet.remove_network("chosen");
    fleet.manager(&["network", "create", "-d", "pontoon:latest", "--subnet", "10.45.0.0/24", "named"]);
    fleet.everywhere("web", "named");
    fleet.all_answer_all("web", "named", 3, "with another subnet");
    fleet.manager(&["service", "rm", "web"]);
    std::thread::sleep(Duration::from_secs(1));
    fleet.remove_network("named");
    fleet.nothing_left();
}
