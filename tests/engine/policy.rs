//! Groups, and lists that are set while containers run, as typed in docs/access.md.

use testkit::testbed::{SOON, Testbed, on_pontoon};
use testkit::wait_until;

/// A server that answers on this port as long as the container runs.
fn serve(testbed: &Testbed, name: &str, network: &str, port: u16) {
    testbed.run_container(name, &["--network", network]);
    testbed.serve(name, port);
}

#[test]
fn members_of_a_group_reach_the_database_and_no_other_container() {
    on_pontoon(groups);
}

fn groups(testbed: &Testbed) {
    testbed.network("shop", &["--subnet", "10.98.0.0/24"]);
    testbed.run_container("web", &["--network", "name=shop,driver-opt=pontoon.group=App"]);
    serve(testbed, "db", "name=shop,driver-opt=pontoon.ingress.allow=tcp:5432@group:app", 5432);
    testbed.run_container("late", &["--network", "name=shop,driver-opt=pontoon.group=app"]);
    testbed.run_container("other", &["--network", "shop"]);
    for member in ["web", "late"] {
        testbed.gets(member, "10.98.0.3:5432");
    }
    assert!(!testbed.fetches("other", "10.98.0.3:5432"));
    testbed.docker(&["rm", "-f", "web"]).ok();
    testbed.run_container("next", &["--ip", "10.98.0.2", "--network", "shop"]);
    assert!(!testbed.fetches("next", "10.98.0.3:5432"), "the address of a former member");
    testbed.gets("late", "10.98.0.3:5432");
}

#[test]
fn a_policy_that_is_set_ends_connections_within_seconds_and_no_others() {
    on_pontoon(changes);
}

fn changes(testbed: &Testbed) {
    let pontoon =
        |args: &[&str]| testbed.exec(&[&["/lab/pontoon", "policy"][..], args, &["--docker=/lab/docker.sock"]].concat());
    testbed.network("box", &["--subnet", "10.98.0.0/24"]);
    testbed.run_container("agent", &["--network", "box"]);
    testbed.run_container("server", &["--network", "box"]);
    // Each line that a client sends comes back.
    for port in ["5000", "5001"] {
        testbed.docker(&["exec", "-d", "server", "nc", "-ll", "-p", port, "-e", "cat"]).ok();
        let script = format!("while sleep 0.2; do date +%s%N; done | nc 10.98.0.3 {port} > /tmp/{port}");
        testbed.docker(&["exec", "-d", "agent", "sh", "-c", &script]).ok();
    }
    let lines = |port: u16| {
        let count = testbed.exec_in("agent", &["sh", "-c", &format!("wc -l < /tmp/{port}")]);
        count.ok().trim().parse::<usize>().unwrap_or_default()
    };
    let grows = |port: u16| {
        let before = lines(port);
        wait_until(SOON, "answers", || lines(port) > before + 2);
    };
    grows(5000);
    grows(5001);
    pontoon(&["set", "agent", "--egress-allow", "tcp:5000@net"]).ok();
    assert!(pontoon(&["show", "agent"]).ok().contains("tcp:5000@net"));
    wait_until(SOON, "the other connection to end", || {
        let before = lines(5001);
        grows(5000);
        lines(5001) == before
    });
    pontoon(&["rm", "agent"]).ok();
    assert!(testbed.ping("agent", "10.98.0.3"));
}
