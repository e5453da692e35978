//! Ports in use: a clear error without leftovers.

use crate::{
    probe::{
        Expect::{By, Closed},
        From::{Host, Outside},
    },
    topology::{Scenario, on_both, on_pontoon},
};
use testkit::testbed::traces;

/// Tries to start a container that must be refused, and checks for leftovers.
#[track_caller]
fn refused(scenario: &Scenario, network: &str, publish: &[&str], port: &str) -> String {
    let before = traces(scenario);
    let mut args = vec!["--network", network];
    args.extend(publish.iter().flat_map(|publish| ["-p", *publish]));
    let said = scenario.try_serve("late", &["tcp:80", "udp:80"], &args).err();
    assert!(said.contains(port), "the error names the port: {said}");
    println!("{}: {}", scenario.driver, said.lines().next().unwrap_or_default());
    assert_ne!(scenario.inspect("late")["State"]["Running"], true);
    scenario.expect_traces(&before);
    scenario.docker(&["rm", "-f", "late"]).ok();
    said
}

/// Starts a container that must not be refused.
#[track_caller]
fn starts(scenario: &Scenario, network: &str, publish: &str, port: &str) {
    scenario.serve("late", &["tcp:80", "udp:80"], &["--network", network, "-p", publish]);
    let protocol = if publish.ends_with("udp") { "udp" } else { "tcp" };
    scenario.expect(&[(Outside, &format!("{protocol},192.168.77.1,{port}"), By("late:80"))]);
    scenario.docker(&["rm", "-f", "late"]).ok();
}

#[test]
fn a_port_of_another_process_is_refused() {
    on_both(process);
}

fn process(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.124.1.0/24", "--ipv6", "--subnet", "fd24:1::/64"]);
    let any = scenario.take("tcp", "0.0.0.0", "8100");
    refused(scenario, "net", &["8100:80"], "8100");
    // All or nothing.
    refused(scenario, "net", &["8101:80", "8100:80", "8102:80/udp"], "8100");
    for (protocol, port) in [("tcp", "8101"), ("udp", "8102")] {
        assert!(scenario.free(protocol, "0.0.0.0", port) && scenario.free(protocol, "::", port), "{port} is released");
    }
    starts(scenario, "net", "8101:80", "8101");
    // The same number with another protocol does not conflict.
    starts(scenario, "net", "8100:80/udp", "8100");
    drop(any);
    starts(scenario, "net", "8100:80", "8100");
    let one = scenario.take("udp", "127.0.0.1", "8103");
    refused(scenario, "net", &["8103:80/udp"], "8103");
    drop(one);
    starts(scenario, "net", "8103:80/udp", "8103");
    let six = scenario.take("tcp", "::1", "8104");
    refused(scenario, "net", &["8104:80"], "8104");
    drop(six);
    starts(scenario, "net", "8104:80", "8104");
    // In the other direction.
    scenario.serve("web", &["tcp:80"], &["--network", "net", "-p", "8105:80", "-p", "127.0.0.1:8106:80"]);
    assert!(!scenario.free("tcp", "0.0.0.0", "8105") && !scenario.free("tcp", "::", "8105"));
    assert!(!scenario.free("tcp", "127.0.0.1", "8106") && scenario.free("tcp", "192.168.77.1", "8106"));
}

#[test]
fn a_port_of_another_endpoint_is_refused() {
    on_both(endpoint);
}

fn endpoint(scenario: &Scenario) {
    scenario.network("net", &["--subnet", "10.125.1.0/24"]);
    scenario.network("other", &["--subnet", "10.125.2.0/24"]);
    let holder = ["--network", "net", "-p", "8110:80", "-p", "127.0.0.1:8111:80", "-p", "192.168.77.1:8112:80"];
    scenario.serve("web", &["tcp:80"], &holder);
    for network in ["net", "other"] {
        refused(scenario, network, &["8110:80"], "8110");
        refused(scenario, network, &["127.0.0.1:8110:80"], "8110");
        refused(scenario, network, &["8111:80"], "8111");
        refused(scenario, network, &["8113:80", "192.168.77.1:8112:80"], "8112");
        assert!(scenario.free("tcp", "0.0.0.0", "8113"));
        starts(scenario, network, "192.168.77.1:8111:80", "8111");
    }
    scenario.expect(&[
        (Outside, "tcp,192.168.77.1,8110", By("web:80")),
        (Outside, "tcp,192.168.77.1,8112", By("web:80")),
        (Host, "tcp,127.0.0.1,8111", By("web:80")),
        (Outside, "tcp,192.168.77.1,8111", Closed),
    ]);
    scenario.docker(&["stop", "-t", "5", "web"]).ok();
    starts(scenario, "other", "8110:80", "8110");
    scenario.serve("thief", &["tcp:80"], &["--network", "other", "-p", "8110:80"]);
    let said = scenario.docker(&["start", "web"]).err();
    assert!(said.contains("8110"), "{said}");
    scenario.docker(&["rm", "-f", "thief"]).ok();
    scenario.not_ready("web");
    scenario.docker(&["start", "web"]).ok();
    scenario.listens("web");
    // Newer engines start it without calling any driver, including their own.
    if scenario.engine < 29 {
        scenario.expect(&[(Outside, "tcp,192.168.77.1,8110", By("web:80"))]);
    }
}

#[test]
fn the_engine_and_pontoon_respect_each_other() {
    on_pontoon(both_drivers);
}

fn both_drivers(scenario: &Scenario) {
    scenario.network("ours", &["--subnet", "10.126.1.0/24"]);
    scenario.create_network("bridge", "theirs", &["--subnet", "10.126.2.0/24"]).ok();
    for (holder, late) in [("theirs", "ours"), ("ours", "theirs")] {
        scenario.serve("web", &["tcp:80", "udp:80"], &["--network", holder, "-p", "8114:80", "-p", "8115:80/udp"]);
        refused(scenario, late, &["8114:80"], "8114");
        refused(scenario, late, &["8116:80", "8115:80/udp"], "8115");
        starts(scenario, late, "8116:80", "8116");
        scenario.expect(&[
            (Outside, "tcp,192.168.77.1,8114", By("web:80")),
            (Outside, "udp,192.168.77.1,8115", By("web:80")),
        ]);
        scenario.docker(&["rm", "-f", "web"]).ok();
        starts(scenario, late, "8114:80", "8114");
        starts(scenario, late, "8115:80/udp", "8115");
    }
    // Both drivers at once.
    scenario.serve("one", &["tcp:80"], &["--network", "ours", "-p", "8117:80"]);
    scenario.serve("two", &["tcp:80"], &["--network", "theirs", "-p", "8118:80"]);
    scenario
        .expect(&[(Outside, "tcp,192.168.77.1,8117", By("one:80")), (Outside, "tcp,192.168.77.1,8118", By("two:80"))]);
}
