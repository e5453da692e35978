//! Published ports across restarts of the container, of Pontoon and of the engine.

use crate::{
    probe::{
        Expect::{By, Closed},
        From::{Host, Outside},
    },
    topology::{NODE4, SOON, Scenario, on_both, on_both_with, on_pontoon},
};
use testkit::{Options, Signal, testbed::traces, wait_until};

#[test]
fn a_restarted_container_has_its_ports() {
    on_both(container);
}

fn container(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.130.1.0/24", "--ipv6", "--subnet", "fd30:1::/64"]);
    let publish = ["-p", "8200:80", "-p", "8201:53/udp", "-p", "127.0.0.1:8202:80", "-p", "81"];
    scenario.serve("web", &["tcp:80-81", "udp:53"], &[&["--network", "net"][..], &publish].concat());
    let before = traces(scenario);
    let open = |scenario: &Scenario| {
        scenario.listens("web");
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8200", By("web:80")),
            (Outside, "tcp,fd77::1,8200", By("web:80")),
            (Outside, "udp,192.168.77.1,8201", By("web:53")),
            (Host, "tcp,127.0.0.1,8202", By("web:80")),
        ]);
        let (_, port) = scenario.published("web", "81/tcp").remove(0);
        scenario.expect(&[(Outside, &format!("tcp,{NODE4},{port}"), By("web:81"))]);
    };
    open(scenario);
    scenario.docker(&["stop", "-t", "5", "web"]).ok();
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8200", Closed), (Outside, "udp,192.168.77.1,8201", Closed)]);
    assert!(scenario.free("tcp", "0.0.0.0", "8200"), "the port of a stopped container is still reserved");
    scenario.not_ready("web");
    scenario.docker(&["start", "web"]).ok();
    open(scenario);
    scenario.not_ready("web");
    scenario.docker(&["restart", "-t", "5", "web"]).ok();
    open(scenario);
    scenario.not_ready("web");
    scenario.docker(&["kill", "web"]).ok();
    wait_until(SOON, "a killed container to release its ports", || scenario.free("tcp", "0.0.0.0", "8200"));
    scenario.docker(&["start", "web"]).ok();
    open(scenario);
    wait_until(SOON, "leftovers to be removed", || traces(scenario).len() == before.len());
}

#[test]
fn published_ports_survive_a_crash_of_pontoon() {
    on_pontoon(crash);
}

fn crash(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.131.1.0/24", "--ipv6", "--subnet", "fd31:1::/64"]);
    let publish = ["-p", "8210:80", "-p", "8211:53/udp", "-p", "127.0.0.1:8212:80", "-p", "81"];
    scenario.serve("web", &["tcp:80-81", "udp:53"], &[&["--network", "net"][..], &publish].concat());
    let chosen = scenario.published("web", "81/tcp");
    let four = scenario.hold(scenario.outside, "192.168.77.1", 8210);
    let six = scenario.hold(scenario.outside, "fd77::1", 8210);
    let local = scenario.hold(scenario, "127.0.0.1", 8212);
    let number = chosen[0].1;
    let open = || {
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8210", By("web:80")),
            (Outside, "tcp,fd77::1,8210", By("web:80")),
            (Outside, "udp,192.168.77.1,8211", By("web:53")),
            (Outside, &format!("tcp,{NODE4},{number}"), By("web:81")),
            (Outside, "tcp,192.168.77.1,8212", Closed),
            (Host, "tcp,127.0.0.1,8212", By("web:80")),
        ]);
        for held in [&four, &six, &local] {
            held.assert_continues();
        }
    };
    for signal in [Signal::Kill, Signal::Term, Signal::Kill] {
        scenario.kill_pontoon(signal);
        open();
        scenario.start_pontoon(&testkit::testbed::binary(), &[]);
        open();
        for (protocol, port) in [("tcp", "8210"), ("udp", "8211"), ("tcp", &*number.to_string())] {
            assert!(!scenario.free(protocol, "0.0.0.0", port), "{port}/{protocol} is reserved again");
            assert!(!scenario.free(protocol, "::", port), "{port}/{protocol} is reserved again");
        }
        assert!(!scenario.free("tcp", "127.0.0.1", "8212"));
        assert_eq!(scenario.published("web", "81/tcp"), chosen);
    }
    let said = scenario.try_serve("late", &["tcp:80"], &["--network", "net", "-p", "8210:80"]).err();
    assert!(said.contains("8210"), "{said}");
    drop((four, six, local));
    scenario.docker(&["rm", "-f", "late", "web"]).ok();
    scenario.serve("late", &["tcp:80"], &["--network", "net", "-p", "8210:80"]);
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8210", By("late:80"))]);
    port_taken_while_pontoon_is_down(scenario);
}

/// Another process takes the port while it is not reserved: the rules still apply, and Pontoon starts.
fn port_taken_while_pontoon_is_down(scenario: &Scenario) {
    scenario.kill_pontoon(Signal::Kill);
    let thief = scenario.take("tcp", "0.0.0.0", "8210");
    scenario.start_pontoon(&testkit::testbed::binary(), &[]);
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8210", By("late:80"))]);
    drop(thief);
    scenario.docker(&["rm", "-f", "late"]).ok();
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8210", Closed)]);
}

#[test]
fn published_ports_survive_a_restart_of_the_engine() {
    on_both(engine);
}

fn engine(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.132.1.0/24", "--ipv6", "--subnet", "fd32:1::/64"]);
    let always = ["--network", "net", "--restart", "always", "-p", "8220:80", "-p", "8221:53/udp"];
    scenario.serve("web", &["tcp:80", "udp:53"], &always);
    scenario.serve("never", &["tcp:80"], &["--network", "net", "-p", "8222:80"]);
    for signal in [Signal::Term, Signal::Kill] {
        scenario.not_ready("web");
        scenario.restart_dockerd(signal);
        scenario.listens("web");
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8220", By("web:80")),
            (Outside, "tcp,fd77::1,8220", By("web:80")),
            (Outside, "udp,192.168.77.1,8221", By("web:53")),
        ]);
        wait_until(SOON, "the release of the port of a container that stays down", || {
            scenario.free("tcp", "0.0.0.0", "8222")
        });
        assert!(!scenario.free("tcp", "0.0.0.0", "8220"));
        scenario.not_ready("never");
        scenario.docker(&["start", "never"]).ok();
        scenario.listens("never");
        scenario.expect(&[(Outside, "tcp,192.168.77.1,8222", By("never:80"))]);
    }
}

#[test]
fn live_restore_does_not_interrupt_ports() {
    on_both_with(Options::new().flag("--live-restore"), live_restore);
}

fn live_restore(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.133.1.0/24"]);
    let publish = ["--network", "net", "-p", "8230:80", "-p", "8231:53/udp"];
    scenario.serve("web", &["tcp:80", "udp:53"], &publish);
    let held = scenario.hold(scenario.outside, "192.168.77.1", 8230);
    for signal in [Signal::Term, Signal::Kill] {
        scenario.stop_dockerd(signal);
        if scenario.is_pontoon() {
            scenario.expect(&[(Outside, "tcp,192.168.77.1,8230", By("web:80"))]);
        }
        scenario.start_dockerd();
        held.assert_continues();
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8230", By("web:80")),
            (Outside, "udp,192.168.77.1,8231", By("web:53")),
        ]);
        assert!(!scenario.free("tcp", "0.0.0.0", "8230"));
    }
    drop(held);
    scenario.docker(&["rm", "-f", "web"]).ok();
    scenario.expect(&[(Outside, "tcp,192.168.77.1,8230", Closed)]);
}
