//! Ends and new lives with published ports: the container's, Pontoon's, the engine's.

use crate::{
    bed::traces,
    probe::{
        Expect::{By, Closed},
        From::{Host, Outside},
    },
    stage::{NODE4, SOON, Scene, on_both, on_both_with, on_pontoon},
    support::{Options, Signal, wait_until},
};

#[test]
fn a_container_that_starts_again_has_its_ports() {
    on_both(container);
}

fn container(scene: &Scene) {
    scene.network("net", &["--subnet", "10.130.1.0/24", "--ipv6", "--subnet", "fd30:1::/64"]);
    let publish = ["-p", "8200:80", "-p", "8201:53/udp", "-p", "127.0.0.1:8202:80", "-p", "81"];
    scene.serve("web", &["tcp:80-81", "udp:53"], &[&["--network", "net"][..], &publish].concat());
    let before = traces(scene);
    let open = |scene: &Scene| {
        scene.listens("web");
        scene.expect(&[
            (Outside, "tcp,192.168.77.1,8200", By("web:80")),
            (Outside, "tcp,fd77::1,8200", By("web:80")),
            (Outside, "udp,192.168.77.1,8201", By("web:53")),
            (Host, "tcp,127.0.0.1,8202", By("web:80")),
        ]);
        let (_, port) = scene.published("web", "81/tcp").remove(0);
        scene.expect(&[(Outside, &format!("tcp,{NODE4},{port}"), By("web:81"))]);
    };
    open(scene);
    scene.docker(&["stop", "-t", "5", "web"]).ok();
    scene.expect(&[(Outside, "tcp,192.168.77.1,8200", Closed), (Outside, "udp,192.168.77.1,8201", Closed)]);
    assert!(scene.free("tcp", "0.0.0.0", "8200"), "a stopped container has no ports");
    scene.not_ready("web");
    scene.docker(&["start", "web"]).ok();
    open(scene);
    scene.not_ready("web");
    scene.docker(&["restart", "-t", "5", "web"]).ok();
    open(scene);
    scene.not_ready("web");
    scene.docker(&["kill", "web"]).ok();
    wait_until(SOON, "a killed container to give its ports back", || scene.free("tcp", "0.0.0.0", "8200"));
    scene.docker(&["start", "web"]).ok();
    open(scene);
    wait_until(SOON, "nothing to pile up", || traces(scene).len() == before.len());
}

#[test]
fn published_ports_outlive_pontoon() {
    on_pontoon(crash);
}

fn crash(scene: &Scene) {
    scene.network("net", &["--subnet", "10.131.1.0/24", "--ipv6", "--subnet", "fd31:1::/64"]);
    let publish = ["-p", "8210:80", "-p", "8211:53/udp", "-p", "127.0.0.1:8212:80", "-p", "81"];
    scene.serve("web", &["tcp:80-81", "udp:53"], &[&["--network", "net"][..], &publish].concat());
    let chosen = scene.published("web", "81/tcp");
    let four = scene.hold(scene.outside, "192.168.77.1", 8210);
    let six = scene.hold(scene.outside, "fd77::1", 8210);
    let local = scene.hold(scene, "127.0.0.1", 8212);
    let number = chosen[0].1;
    let open = || {
        scene.expect(&[
            (Outside, "tcp,192.168.77.1,8210", By("web:80")),
            (Outside, "tcp,fd77::1,8210", By("web:80")),
            (Outside, "udp,192.168.77.1,8211", By("web:53")),
            (Outside, &format!("tcp,{NODE4},{number}"), By("web:81")),
            (Outside, "tcp,192.168.77.1,8212", Closed),
            (Host, "tcp,127.0.0.1,8212", By("web:80")),
        ]);
        for held in [&four, &six, &local] {
            held.goes_on();
        }
    };
    for signal in [Signal::Kill, Signal::Term, Signal::Kill] {
        scene.kill_pontoon(signal);
        open();
        scene.start_pontoon(&crate::bed::binary(), &[]);
        open();
        for (protocol, port) in [("tcp", "8210"), ("udp", "8211"), ("tcp", &*number.to_string())] {
            assert!(!scene.free(protocol, "0.0.0.0", port), "{port}/{protocol} is reserved again");
            assert!(!scene.free(protocol, "::", port), "{port}/{protocol} is reserved again");
        }
        assert!(!scene.free("tcp", "127.0.0.1", "8212"));
        assert_eq!(scene.published("web", "81/tcp"), chosen);
    }
    let said = scene.try_serve("late", &["tcp:80"], &["--network", "net", "-p", "8210:80"]).err();
    assert!(said.contains("8210"), "{said}");
    drop((four, six, local));
    scene.docker(&["rm", "-f", "late", "web"]).ok();
    scene.serve("late", &["tcp:80"], &["--network", "net", "-p", "8210:80"]);
    scene.expect(&[(Outside, "tcp,192.168.77.1,8210", By("late:80"))]);
    a_thief_in_the_meantime(scene);
}

/// Somebody takes the port while nobody holds it: the rules are in force and Pontoon starts.
fn a_thief_in_the_meantime(scene: &Scene) {
    scene.kill_pontoon(Signal::Kill);
    let thief = scene.take("tcp", "0.0.0.0", "8210");
    scene.start_pontoon(&crate::bed::binary(), &[]);
    scene.expect(&[(Outside, "tcp,192.168.77.1,8210", By("late:80"))]);
    drop(thief);
    scene.docker(&["rm", "-f", "late"]).ok();
    scene.expect(&[(Outside, "tcp,192.168.77.1,8210", Closed)]);
}

#[test]
fn published_ports_come_back_with_the_engine() {
    on_both(engine);
}

fn engine(scene: &Scene) {
    scene.network("net", &["--subnet", "10.132.1.0/24", "--ipv6", "--subnet", "fd32:1::/64"]);
    let always = ["--network", "net", "--restart", "always", "-p", "8220:80", "-p", "8221:53/udp"];
    scene.serve("web", &["tcp:80", "udp:53"], &always);
    scene.serve("never", &["tcp:80"], &["--network", "net", "-p", "8222:80"]);
    for signal in [Signal::Term, Signal::Kill] {
        scene.not_ready("web");
        scene.restart_dockerd(signal);
        scene.listens("web");
        scene.expect(&[
            (Outside, "tcp,192.168.77.1,8220", By("web:80")),
            (Outside, "tcp,fd77::1,8220", By("web:80")),
            (Outside, "udp,192.168.77.1,8221", By("web:53")),
        ]);
        wait_until(SOON, "the port of a container that stays down", || scene.free("tcp", "0.0.0.0", "8222"));
        assert!(!scene.free("tcp", "0.0.0.0", "8220"));
        scene.not_ready("never");
        scene.docker(&["start", "never"]).ok();
        scene.listens("never");
        scene.expect(&[(Outside, "tcp,192.168.77.1,8222", By("never:80"))]);
    }
}

#[test]
fn live_restored_ports_feel_nothing() {
    on_both_with(Options::new().flag("--live-restore"), live_restore);
}

fn live_restore(scene: &Scene) {
    scene.network("net", &["--subnet", "10.133.1.0/24"]);
    let publish = ["--network", "net", "-p", "8230:80", "-p", "8231:53/udp"];
    scene.serve("web", &["tcp:80", "udp:53"], &publish);
    let held = scene.hold(scene.outside, "192.168.77.1", 8230);
    for signal in [Signal::Term, Signal::Kill] {
        scene.stop_dockerd(signal);
        if scene.is_pontoon() {
            scene.expect(&[(Outside, "tcp,192.168.77.1,8230", By("web:80"))]);
        }
        scene.start_dockerd();
        held.goes_on();
        scene.expect(&[
            (Outside, "tcp,192.168.77.1,8230", By("web:80")),
            (Outside, "udp,192.168.77.1,8231", By("web:53")),
        ]);
        assert!(!scene.free("tcp", "0.0.0.0", "8230"));
    }
    drop(held);
    scene.docker(&["rm", "-f", "web"]).ok();
    scene.expect(&[(Outside, "tcp,192.168.77.1,8230", Closed)]);
}
