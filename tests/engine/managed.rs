//! Pontoon as a managed plugin, `pontoon:latest`.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::{Value, json};

use crate::{restarts, stream};
use testkit::{
    Node, Options, Signal, ledger,
    testbed::{SOON, Testbed, plugin, text, traces},
    wait_until,
};

const DRIVER: &str = "pontoon:latest";

fn try_on(options: Options, scenario: fn(&Testbed)) {
    let node = options.up();
    node.install_plugin(&plugin());
    testkit::testbed::try_on(&node, DRIVER, scenario);
}

#[test]
fn a_managed_plugin_provides_networks() {
    try_on(Options::new(), |testbed| {
        named(testbed);
        crate::basics::dual_stack(testbed);
        crate::plug::hot_plug(testbed);
        testbed.sweep();
        crate::options::publish(testbed);
        testbed.sweep();
        privileges(testbed);
    });
}

/// The driver's name is the plugin's, with its tag; `docker network create -d pontoon` means another driver.
fn named(testbed: &Testbed) {
    let message = testbed.create_network("pontoon", "net", &[]).err();
    assert!(message.contains("pontoon"), "{message}");
    testbed.network("net", &["--ipam-driver", DRIVER]);
    testbed.docker(&["network", "rm", "net"]).ok();
}

/// Only the requested privileges, which are few.
fn privileges(testbed: &Testbed) {
    let config = &testbed.inspect(DRIVER)["Config"];
    assert_eq!(config["Network"]["Type"], "host");
    assert_eq!(config["Linux"]["Capabilities"], json!(["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]));
    assert_eq!(config["Linux"]["AllowAllDevices"], false);
    assert!(config["Linux"]["Devices"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(config["PidHost"], false);
    assert_eq!(config["IpcHost"], false);
    let sources: Vec<_> =
        config["Mounts"].as_array().into_iter().flatten().map(|mount| text(&mount["Source"])).collect();
    assert_eq!(sources, ["/proc/sys/net"]);
    confined(testbed);
}

/// All other privileges from Docker were dropped, in every thread: CAP_NET_ADMIN and CAP_NET_BIND_SERVICE are 0x1400.
fn confined(testbed: &Testbed) {
    // A thread may end between the list and its file.
    let script = format!("cat /proc/{}/task/*/status 2>/dev/null; true", process(testbed).expect("a process"));
    let status = testbed.exec(&["sh", "-c", &script]).ok();
    let values = |field: &str| -> BTreeSet<String> {
        let lines = status.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        lines.map(str::to_owned).collect()
    };
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(values(field), ["0000000000001400".to_owned()].into(), "{field}");
    }
    for field in ["CapInh", "CapAmb"] {
        assert_eq!(values(field), ["0000000000000000".to_owned()].into(), "{field}");
    }
    assert_eq!((values("NoNewPrivs"), values("Seccomp")), (["1".to_owned()].into(), ["2".to_owned()].into()));
    let socket = testbed.exec(&["sh", "-c", "stat -c '%a %u %g' /run/docker/plugins/*/pontoon.sock"]).ok();
    assert_eq!(socket, "600 0 0");
}

#[test]
fn doctor_works_on_a_managed_plugin() {
    try_on(Options::new(), doctored);
}

/// Doctor as in docs, from outside the plugin: healthy at first, and defects are repaired by the printed command.
fn doctored(testbed: &Testbed) {
    // A plugin's /proc has the machine's boot id, the node's has that of the lab; on a real host they are equal.
    testbed.copy_in(&testkit::testbed::binary(), "pontoon.program");
    let see = "umount /proc/sys/kernel/random/boot_id; exec /lab/pontoon.program \"$@\"";
    let script = format!("#!/bin/sh\nexec unshare -m sh -c '{see}' pontoon \"$@\"\n");
    std::fs::write(testbed.shared().join("pontoon"), script).expect("a script");
    testbed.exec(&["chmod", "0755", "/lab/pontoon"]).ok();
    testbed.network("net", &["--subnet", "10.137.0.0/24", "--ipam-driver", DRIVER]);
    testbed.run_container("one", &["--network", "net", "-p", "8080:80"]);
    let id = testbed.docker(&["plugin", "inspect", "-f", "{{.Id}}", "pontoon"]).ok();
    let at = format!(
        "--socket /run/docker/plugins/{id}/pontoon.sock --state-dir /var/lib/docker/plugins/{id}/propagated-mount"
    );
    for command in [format!("doctor --docker=/lab/docker.sock {at}"), format!("check {at}")] {
        crate::doctor::healthy(testbed, &command);
        let (_, findings) = crate::doctor::findings(testbed, &command);
        assert!(findings.iter().all(|finding| finding["level"] != "note"), "{command}: {findings:#?}");
    }
    // Without arguments the commands find the plugin.
    for command in ["doctor", "check"] {
        crate::doctor::healthy(testbed, command);
    }
    // The plugin is disabled: its ledger is read, a defect is planned and repaired, and the plugin is enabled again.
    testbed.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    let gone = crate::doctor::found(testbed, &format!("doctor {at}"), "daemon", "broken");
    let start = gone["remedy"].as_str().expect("a remedy").to_owned();
    crate::doctor::shell(testbed, "nft delete element inet pontoon published4 '{ tcp . 8080 }'").ok();
    let drift = crate::doctor::found(testbed, &format!("check {at}"), "drift", "degraded");
    let repair = drift["remedy"].as_str().expect("a remedy").to_owned();
    crate::doctor::shell(testbed, &repair).ok();
    crate::doctor::healthy(testbed, &format!("check {at}"));
    let words: Vec<&str> = start.split("; ").last().expect("a command").split(' ').skip(1).collect();
    testbed.docker(&words).ok();
    crate::doctor::healthy(testbed, &format!("doctor --docker=/lab/docker.sock {at}"));
    testbed.docker(&["rm", "-f", "one"]).ok();
    testbed.docker(&["network", "rm", "net"]).ok();
}

/// The id of the process in the node, if there is one.
fn process(node: &Node) -> Option<String> {
    node.exec(&["pgrep", "-x", "pontoon"]).answer()
}

#[test]
fn a_killed_plugin_is_restarted() {
    try_on(Options::new(), |testbed| {
        testbed.network("net", &["--ipam-driver", DRIVER]);
        testbed.run_container("one", &["--network", "net"]);
        testbed.run_container("two", &["--network", "net"]);
        let two = testbed.container_addr("two", "net").v4.expect("an address").to_string();
        let stream = stream::Stream::start(testbed, "one", &two);
        let before = traces(testbed);
        let old = process(testbed).expect("a process");
        testbed.exec(&["kill", "-KILL", &old]).ok();
        wait_until(SOON, "another process", || process(testbed).is_some_and(|new| new != old));
        stream.assert_continues(testbed);
        wait_until(SOON, "the plugin to work", || testbed.try_network("second", &["--ipam-driver", DRIVER]).success());
        testbed.docker(&["network", "rm", "second"]).ok();
        testbed.expect_traces(&before);
        stream.lost_nothing(testbed);
        testbed.docker(&["restart", "-t", "5", "two"]).ok();
        testbed.run_container("three", &["--network", "net"]);
        testbed.names("one", "-4", "two");
        testbed.names("three", "-4", "two");
        off_and_on(testbed);
    });
}

/// Disabled and enabled again, with running containers.
fn off_and_on(testbed: &Testbed) {
    let two = testbed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = stream::Stream::start(testbed, "one", &two);
    testbed.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    wait_until(SOON, "its process to end", || process(testbed).is_none());
    stream.assert_continues(testbed);
    testbed.docker(&["plugin", "enable", "pontoon"]).ok();
    stream.assert_continues(testbed);
    stream.lost_nothing(testbed);
    testbed.run_container("four", &["--network", "net"]);
    testbed.names("one", "-4", "four");
    testbed.docker(&["plugin", "disable", "pontoon"]).err();
}

#[test]
fn a_managed_plugin_restarts_with_its_engine() {
    try_on(Options::new(), restarts::engine);
}

#[test]
fn a_managed_plugin_survives_a_live_restore() {
    try_on(Options::new().flag("--live-restore"), restarts::live_restore);
}

#[test]
fn a_managed_plugin_rebuilds_after_a_reboot() {
    try_on(Options::new(), |testbed| {
        restarts::before_reboot(testbed);
        testbed.reboot();
        restarts::after_reboot(testbed);
        testbed.stop_dockerd(Signal::Term);
        testbed.reboot_bare();
        testbed.start_dockerd();
        restarts::after_reboot(testbed);
    });
}

/// A node with two builds of the plugin in a registry, of which number `first` is installed; returns the node and their
/// names.
fn with_two_builds(first: usize) -> (Node, [String; 2]) {
    let node = Node::up();
    let registry = node.start_registry();
    node.copy_in(&plugin(), "plugin");
    let builds = ["1", "2"].map(|version| {
        let name = format!("{registry}/pontoon:{version}");
        std::fs::write(node.shared().join("plugin/rootfs/version"), version).expect("a file");
        node.docker(&["plugin", "create", &name, "/lab/plugin"]).ok();
        node.docker(&["plugin", "push", &name]).ok();
        node.docker(&["plugin", "rm", &name]).ok();
        name
    });
    node.docker(&["plugin", "install", "--grant-all-permissions", "--alias", "pontoon", &builds[first]]).ok();
    (node, builds)
}

/// Replaces the running build by another one, while `meanwhile` changes the files.
fn change_build(node: &Node, to: &str, meanwhile: impl FnOnce()) {
    node.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    meanwhile();
    if node.inspect("pontoon")["PluginReference"] != to {
        node.docker(&["plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", "pontoon", to]).ok();
    }
    node.docker(&["plugin", "enable", "pontoon"]).ok();
    assert_eq!(node.inspect("pontoon")["PluginReference"], to);
}

#[test]
fn an_upgrade_keeps_the_state() {
    let (node, [_, second]) = with_two_builds(0);
    testkit::testbed::try_on(&node, DRIVER, |testbed| {
        testbed.network("net", &["--ipam-driver", DRIVER, "--subnet", "10.120.0.0/24"]);
        testbed.run_container("one", &["--network", "net"]);
        testbed.run_container("two", &["--network", "net"]);
    });
    let testbed = Testbed::new(&node, DRIVER);
    testbed.network("net", &["--ipam-driver", DRIVER, "--subnet", "10.120.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net"]);
    let running = traces(&node);
    let two = testbed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = stream::Stream::start(&testbed, "one", &two);
    change_build(&node, &second, || ());
    stream.assert_continues(&testbed);
    stream.lost_nothing(&testbed);
    assert_eq!(traces(&node), running);
    testbed.run_container("three", &["--network", "net"]);
    testbed.names("three", "-4", "one");
    testbed.docker(&["restart", "-t", "5", "two"]).ok();
    testbed.names("one", "-4", "two");
    testbed.sweep();
}

#[test]
fn a_downgrade_keeps_the_state_or_does_not_touch_it() {
    let (node, [older, newer]) = with_two_builds(1);
    let testbed = Testbed::new(&node, DRIVER);
    testbed.network("net", &["--ipam-driver", DRIVER, "--subnet", "10.121.0.0/24"]);
    testbed.network("foreign", &["--subnet", "10.122.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    testbed.run_container("two", &["--network", "net", "-p", "8080:80"]);
    testbed.serve("two", 80);
    testbed.host_gets("127.0.0.1:8080");
    let two = testbed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = stream::Stream::start(&testbed, "one", &two);
    let running = traces(&node);

    // A build that can read the newer format continues with it.
    change_build(&node, &older, || ());
    stream.assert_continues(&testbed);
    assert_eq!(traces(&node), running);
    testbed.host_gets("127.0.0.1:8080");
    testbed.run_container("three", &["--network", "net"]);
    testbed.names("three", "-4", "one");
    testbed.docker(&["rm", "-f", "three"]).ok();
    testbed.expect_traces(&running);
    change_build(&node, &newer, || ());

    // A build that cannot read it changes nothing and reports the reason.
    let mut written = Vec::new();
    change_build(&node, &older, || written = set_format(&node, 99));
    let foreign = std::fs::read(ledger_of(&node)).expect("a ledger");
    for refused in [
        testbed.try_network("fresh", &["--ipam-driver", DRIVER]),
        testbed.try_network("fresh", &[]),
        testbed.docker(&["run", "-d", "--name", "late", "--network", "net", "busybox"]),
        testbed.docker(&["run", "-d", "--name", "later", "--network", "foreign", "busybox"]),
    ] {
        let words = refused.err();
        assert!(words.contains("install the newer release again"), "{words}");
    }
    testbed.docker(&["rm", "-f", "late", "later"]).ok();
    stream.assert_continues(&testbed);
    assert_eq!(traces(&node), running, "a running object changed");
    testbed.host_gets("127.0.0.1:8080");
    assert_eq!(std::fs::read(ledger_of(&node)).expect("a ledger"), foreign, "the ledger changed");

    // After the upgrade, everything is there.
    change_build(&node, &newer, || std::fs::write(ledger_of(&node), &written).expect("the ledger is restored"));
    stream.assert_continues(&testbed);
    stream.lost_nothing(&testbed);
    assert_eq!(traces(&node), running);
    testbed.host_gets("127.0.0.1:8080");
    testbed.run_container("late", &["--network", "net"]);
    testbed.run_container("later", &["--network", "foreign"]);
    testbed.names("late", "-4", "one");
    testbed.ping_soon("later", "10.122.0.1");
    testbed.docker(&["restart", "-t", "5", "two"]).ok();
    testbed.names("one", "-4", "two");
    testbed.sweep();
}

/// The plugin's ledger, at its path on this machine.
fn ledger_of(node: &Node) -> PathBuf {
    let id = node.inspect("pontoon")["Id"].as_str().expect("an id").to_owned();
    node.path(&format!("/var/lib/docker/plugins/{id}/propagated-mount/ledger"))
}

/// Changes the format number of the ledger; returns its previous content.
fn set_format(node: &Node, version: u32) -> Vec<u8> {
    let path = ledger_of(node);
    let written = std::fs::read(&path).expect("a ledger");
    ledger::rewrite(&path, |json| match serde_json::from_str::<Value>(json) {
        Ok(mut header) if header["magic"].is_string() => {
            header["version"] = version.into();
            header.to_string()
        }
        _ => json.to_owned(),
    });
    written
}
