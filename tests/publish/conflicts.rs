//! Ports that somebody has: a clear error, and nothing is left.

use crate::{
    bed::traces,
    probe::{
        Expect::{By, Closed},
        From::{Host, Outside},
    },
    stage::{Scene, on_both, on_pontoon},
};

/// Tries to start a container that must not start, and looks for what it left.
#[track_caller]
fn refused(scene: &Scene, network: &str, publish: &[&str], port: &str) -> String {
    let before = traces(scene);
    let mut args = vec!["--network", network];
    args.extend(publish.iter().flat_map(|publish| ["-p", *publish]));
    let said = scene.try_serve("late", &["tcp:80", "udp:80"], &args).err();
    assert!(said.contains(port), "the error names the port: {said}");
    println!("{}: {}", scene.driver, said.lines().next().unwrap_or_default());
    assert_ne!(scene.inspect("late")["State"]["Running"], true);
    scene.expect_traces(&before);
    scene.docker(&["rm", "-f", "late"]).ok();
    said
}

/// And what starts.
#[track_caller]
fn starts(scene: &Scene, network: &str, publish: &str, port: &str) {
    scene.serve("late", &["tcp:80", "udp:80"], &["--network", network, "-p", publish]);
    let protocol = if publish.ends_with("udp") { "udp" } else { "tcp" };
    scene.expect(&[(Outside, &format!("{protocol},192.168.77.1,{port}"), By("late:80"))]);
    scene.docker(&["rm", "-f", "late"]).ok();
}

#[test]
fn a_port_of_another_process_is_refused() {
    on_both(process);
}

fn process(scene: &Scene) {
    scene.network("net", &["--subnet", "10.124.1.0/24", "--ipv6", "--subnet", "fd24:1::/64"]);
    let any = scene.take("tcp", "0.0.0.0", "8100");
    refused(scene, "net", &["8100:80"], "8100");
    // all or nothing
    refused(scene, "net", &["8101:80", "8100:80", "8102:80/udp"], "8100");
    for (protocol, port) in [("tcp", "8101"), ("udp", "8102")] {
        assert!(scene.free(protocol, "0.0.0.0", port) && scene.free(protocol, "::", port), "{port} is given back");
    }
    starts(scene, "net", "8101:80", "8101");
    // another protocol is another port
    starts(scene, "net", "8100:80/udp", "8100");
    drop(any);
    starts(scene, "net", "8100:80", "8100");
    let one = scene.take("udp", "127.0.0.1", "8103");
    refused(scene, "net", &["8103:80/udp"], "8103");
    drop(one);
    starts(scene, "net", "8103:80/udp", "8103");
    let six = scene.take("tcp", "::1", "8104");
    refused(scene, "net", &["8104:80"], "8104");
    drop(six);
    starts(scene, "net", "8104:80", "8104");
    // and the other way round
    scene.serve("web", &["tcp:80"], &["--network", "net", "-p", "8105:80", "-p", "127.0.0.1:8106:80"]);
    assert!(!scene.free("tcp", "0.0.0.0", "8105") && !scene.free("tcp", "::", "8105"));
    assert!(!scene.free("tcp", "127.0.0.1", "8106") && scene.free("tcp", "192.168.77.1", "8106"));
}

#[test]
fn a_port_of_another_endpoint_is_refused() {
    on_both(endpoint);
}

fn endpoint(scene: &Scene) {
    scene.network("net", &["--subnet", "10.125.1.0/24"]);
    scene.network("other", &["--subnet", "10.125.2.0/24"]);
    let holder = ["--network", "net", "-p", "8110:80", "-p", "127.0.0.1:8111:80", "-p", "192.168.77.1:8112:80"];
    scene.serve("web", &["tcp:80"], &holder);
    for network in ["net", "other"] {
        refused(scene, network, &["8110:80"], "8110");
        refused(scene, network, &["127.0.0.1:8110:80"], "8110");
        refused(scene, network, &["8111:80"], "8111");
        refused(scene, network, &["8113:80", "192.168.77.1:8112:80"], "8112");
        assert!(scene.free("tcp", "0.0.0.0", "8113"));
        starts(scene, network, "192.168.77.1:8111:80", "8111");
    }
    scene.expect(&[
        (Outside, "tcp,192.168.77.1,8110", By("web:80")),
        (Outside, "tcp,192.168.77.1,8112", By("web:80")),
        (Host, "tcp,127.0.0.1,8111", By("web:80")),
        (Outside, "tcp,192.168.77.1,8111", Closed),
    ]);
    scene.docker(&["stop", "-t", "5", "web"]).ok();
    starts(scene, "other", "8110:80", "8110");
    scene.serve("thief", &["tcp:80"], &["--network", "other", "-p", "8110:80"]);
    let said = scene.docker(&["start", "web"]).err();
    assert!(said.contains("8110"), "{said}");
    scene.docker(&["rm", "-f", "thief"]).ok();
    scene.not_ready("web");
    scene.docker(&["start", "web"]).ok();
    scene.listens("web");
    // newer engines start it without asking any driver for anything, their own as little as ours
    if scene.engine < 29 {
        scene.expect(&[(Outside, "tcp,192.168.77.1,8110", By("web:80"))]);
    }
}

#[test]
fn the_engine_and_pontoon_respect_each_other() {
    on_pontoon(both_drivers);
}

fn both_drivers(scene: &Scene) {
    scene.network("ours", &["--subnet", "10.126.1.0/24"]);
    scene.create_network("bridge", "theirs", &["--subnet", "10.126.2.0/24"]).ok();
    for (holder, late) in [("theirs", "ours"), ("ours", "theirs")] {
        scene.serve("web", &["tcp:80", "udp:80"], &["--network", holder, "-p", "8114:80", "-p", "8115:80/udp"]);
        refused(scene, late, &["8114:80"], "8114");
        refused(scene, late, &["8116:80", "8115:80/udp"], "8115");
        starts(scene, late, "8116:80", "8116");
        scene.expect(&[
            (Outside, "tcp,192.168.77.1,8114", By("web:80")),
            (Outside, "udp,192.168.77.1,8115", By("web:80")),
        ]);
        scene.docker(&["rm", "-f", "web"]).ok();
        starts(scene, late, "8114:80", "8114");
        starts(scene, late, "8115:80/udp", "8115");
    }
    // side by side
    scene.serve("one", &["tcp:80"], &["--network", "ours", "-p", "8117:80"]);
    scene.serve("two", &["tcp:80"], &["--network", "theirs", "-p", "8118:80"]);
    scene.expect(&[(Outside, "tcp,192.168.77.1,8117", By("one:80")), (Outside, "tcp,192.168.77.1,8118", By("two:80"))]);
}
