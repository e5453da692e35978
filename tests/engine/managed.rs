//! Pontoon as a managed plugin, `pontoon:latest`.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    bed::{Bed, SOON, plugin, text, traces},
    ledger, restarts, stream,
    support::{Node, Options, Signal, wait_until},
};

const DRIVER: &str = "pontoon:latest";

fn try_on(options: Options, scenario: fn(&Bed)) {
    let node = options.up();
    node.install_plugin(&plugin());
    crate::bed::try_on(&node, DRIVER, scenario);
}

#[test]
fn a_managed_plugin_does_the_job() {
    try_on(Options::new(), |bed| {
        named(bed);
        crate::basics::dual_stack(bed);
        crate::plug::hot_plug(bed);
        bed.sweep();
        crate::options::publish(bed);
        bed.sweep();
        privileges(bed);
    });
}

/// The driver's name is the plugin's, with its tag; `docker network create -d pontoon` is another.
fn named(bed: &Bed) {
    let message = bed.create_network("pontoon", "net", &[]).err();
    assert!(message.contains("pontoon"), "{message}");
    bed.network("net", &["--ipam-driver", DRIVER]);
    bed.docker(&["network", "rm", "net"]).ok();
}

/// No more than was asked for, and that is little.
fn privileges(bed: &Bed) {
    let config = &bed.inspect(DRIVER)["Config"];
    assert_eq!(config["Network"]["Type"], "host");
    assert_eq!(config["Linux"]["Capabilities"], json!(["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]));
    assert_eq!(config["Linux"]["AllowAllDevices"], false);
    assert!(config["Linux"]["Devices"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(config["PidHost"], false);
    assert_eq!(config["IpcHost"], false);
    let sources: Vec<_> =
        config["Mounts"].as_array().into_iter().flatten().map(|mount| text(&mount["Source"])).collect();
    assert_eq!(sources, ["/proc/sys/net"]);
    confined(bed);
}

/// What Docker gave beyond that was dropped, in every thread: CAP_NET_ADMIN and CAP_NET_BIND_SERVICE are 0x1400.
fn confined(bed: &Bed) {
    let script = format!("cat /proc/{}/task/*/status", process(bed));
    let status = bed.exec(&["sh", "-c", &script]).ok();
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
    let socket = bed.exec(&["sh", "-c", "stat -c '%a %u %g' /run/docker/plugins/*/pontoon.sock"]).ok();
    assert_eq!(socket, "600 0 0");
}

#[test]
fn a_managed_plugin_has_its_doctor() {
    try_on(Options::new(), doctored);
}

/// The doctor of the page, from outside the plugin: all is well, and what is not is mended by the command that it says.
fn doctored(bed: &Bed) {
    // A plugin's /proc shows the machine's boot id, the node's shows the lab's: on a host they are the same.
    bed.copy_in(&crate::bed::binary(), "pontoon.program");
    let see = "umount /proc/sys/kernel/random/boot_id; exec /lab/pontoon.program \"$@\"";
    let script = format!("#!/bin/sh\nexec unshare -m sh -c '{see}' pontoon \"$@\"\n");
    std::fs::write(bed.shared().join("pontoon"), script).expect("a script");
    bed.exec(&["chmod", "0755", "/lab/pontoon"]).ok();
    bed.network("net", &["--subnet", "10.137.0.0/24", "--ipam-driver", DRIVER]);
    bed.run_container("one", &["--network", "net", "-p", "8080:80"]);
    let id = bed.docker(&["plugin", "inspect", "-f", "{{.Id}}", "pontoon"]).ok();
    let at = format!(
        "--socket /run/docker/plugins/{id}/pontoon.sock --state-dir /var/lib/docker/plugins/{id}/propagated-mount"
    );
    for command in [format!("doctor --docker=/lab/docker.sock {at}"), format!("check {at}")] {
        crate::doctor::healthy(bed, &command);
        let (_, findings) = crate::doctor::findings(bed, &command);
        assert!(findings.iter().all(|finding| finding["level"] != "note"), "{command}: {findings:#?}");
    }
    // Without words the commands find the plugin by themselves.
    for command in ["doctor", "check"] {
        crate::doctor::healthy(bed, command);
    }
    // The plugin is off: looked at by its ledger, broken, planned, mended, and on again.
    bed.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    let gone = crate::doctor::found(bed, &format!("doctor {at}"), "daemon", "broken");
    let start = gone["remedy"].as_str().expect("a remedy").to_owned();
    crate::doctor::shell(bed, "nft delete element inet pontoon published4 '{ tcp . 8080 }'").ok();
    let drift = crate::doctor::found(bed, &format!("check {at}"), "drift", "degraded");
    let repair = drift["remedy"].as_str().expect("a remedy").to_owned();
    crate::doctor::shell(bed, &repair).ok();
    crate::doctor::healthy(bed, &format!("check {at}"));
    let words: Vec<&str> = start.split("; ").last().expect("a command").split(' ').skip(1).collect();
    bed.docker(&words).ok();
    crate::doctor::healthy(bed, &format!("doctor --docker=/lab/docker.sock {at}"));
    bed.docker(&["rm", "-f", "one"]).ok();
    bed.docker(&["network", "rm", "net"]).ok();
}

/// The id of the process in the node.
fn process(node: &Node) -> String {
    node.exec(&["pgrep", "-x", "pontoon"]).ok()
}

#[test]
fn a_killed_plugin_comes_back() {
    try_on(Options::new(), |bed| {
        bed.network("net", &["--ipam-driver", DRIVER]);
        bed.run_container("one", &["--network", "net"]);
        bed.run_container("two", &["--network", "net"]);
        let two = bed.container_addr("two", "net").v4.expect("an address").to_string();
        let stream = stream::Stream::start(bed, "one", &two);
        let before = traces(bed);
        let old = process(bed);
        bed.exec(&["kill", "-KILL", &old]).ok();
        wait_until(SOON, "another process", || bed.exec(&["pgrep", "-x", "pontoon"]).success() && process(bed) != old);
        stream.goes_on(bed);
        wait_until(SOON, "the plugin to work", || bed.try_network("second", &["--ipam-driver", DRIVER]).success());
        bed.docker(&["network", "rm", "second"]).ok();
        bed.expect_traces(&before);
        stream.lost_nothing(bed);
        bed.docker(&["restart", "-t", "5", "two"]).ok();
        bed.run_container("three", &["--network", "net"]);
        bed.names("one", "-4", "two");
        bed.names("three", "-4", "two");
        off_and_on(bed);
    });
}

/// Disabled, and enabled again, under running containers.
fn off_and_on(bed: &Bed) {
    let two = bed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = stream::Stream::start(bed, "one", &two);
    bed.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    bed.exec(&["pgrep", "-x", "pontoon"]).err();
    stream.goes_on(bed);
    bed.docker(&["plugin", "enable", "pontoon"]).ok();
    stream.goes_on(bed);
    stream.lost_nothing(bed);
    bed.run_container("four", &["--network", "net"]);
    bed.names("one", "-4", "four");
    bed.docker(&["plugin", "disable", "pontoon"]).err();
}

#[test]
fn a_managed_plugin_restarts_with_its_engine() {
    try_on(Options::new(), restarts::engine);
}

#[test]
fn a_managed_plugin_lives_through_a_live_restore() {
    try_on(Options::new().flag("--live-restore"), restarts::live_restore);
}

#[test]
fn a_managed_plugin_rebuilds_after_a_reboot() {
    try_on(Options::new(), |bed| {
        restarts::before_reboot(bed);
        bed.reboot();
        restarts::after_reboot(bed);
        bed.stop_dockerd(Signal::Term);
        bed.reboot_bare();
        bed.start_dockerd();
        restarts::after_reboot(bed);
    });
}

/// A node with two builds of the plugin in a registry, the one numbered `first` installed; and their names.
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

/// Another build in place of the one that runs, while `meanwhile` happens to the files.
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
    crate::bed::try_on(&node, DRIVER, |bed| {
        bed.network("net", &["--ipam-driver", DRIVER, "--subnet", "10.120.0.0/24"]);
        bed.run_container("one", &["--network", "net"]);
        bed.run_container("two", &["--network", "net"]);
    });
    let bed = Bed::new(&node, DRIVER);
    bed.network("net", &["--ipam-driver", DRIVER, "--subnet", "10.120.0.0/24"]);
    bed.run_container("one", &["--network", "net"]);
    bed.run_container("two", &["--network", "net"]);
    let running = traces(&node);
    let two = bed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = stream::Stream::start(&bed, "one", &two);
    change_build(&node, &second, || ());
    stream.goes_on(&bed);
    stream.lost_nothing(&bed);
    assert_eq!(traces(&node), running);
    bed.run_container("three", &["--network", "net"]);
    bed.names("three", "-4", "one");
    bed.docker(&["restart", "-t", "5", "two"]).ok();
    bed.names("one", "-4", "two");
    bed.sweep();
}

#[test]
fn a_downgrade_keeps_the_state_or_leaves_it_alone() {
    let (node, [older, newer]) = with_two_builds(1);
    let bed = Bed::new(&node, DRIVER);
    bed.network("net", &["--ipam-driver", DRIVER, "--subnet", "10.121.0.0/24"]);
    bed.network("foreign", &["--subnet", "10.122.0.0/24"]);
    bed.run_container("one", &["--network", "net"]);
    bed.run_container("two", &["--network", "net", "-p", "8080:80"]);
    bed.serve("two", 80);
    bed.host_gets("127.0.0.1:8080");
    let two = bed.container_addr("two", "net").v4.expect("an address").to_string();
    let stream = stream::Stream::start(&bed, "one", &two);
    let running = traces(&node);

    // A build that reads what the newer one wrote goes on with it.
    change_build(&node, &older, || ());
    stream.goes_on(&bed);
    assert_eq!(traces(&node), running);
    bed.host_gets("127.0.0.1:8080");
    bed.run_container("three", &["--network", "net"]);
    bed.names("three", "-4", "one");
    bed.docker(&["rm", "-f", "three"]).ok();
    bed.expect_traces(&running);
    change_build(&node, &newer, || ());

    // One that cannot read it touches nothing and says why.
    let mut written = Vec::new();
    change_build(&node, &older, || written = set_format(&node, 99));
    let foreign = std::fs::read(ledger_of(&node)).expect("a ledger");
    for refused in [
        bed.try_network("fresh", &["--ipam-driver", DRIVER]),
        bed.try_network("fresh", &[]),
        bed.docker(&["run", "-d", "--name", "late", "--network", "net", "busybox"]),
        bed.docker(&["run", "-d", "--name", "later", "--network", "foreign", "busybox"]),
    ] {
        let words = refused.err();
        assert!(words.contains("install the newer release again"), "{words}");
    }
    bed.docker(&["rm", "-f", "late", "later"]).ok();
    stream.goes_on(&bed);
    assert_eq!(traces(&node), running, "nothing of what runs is touched");
    bed.host_gets("127.0.0.1:8080");
    assert_eq!(std::fs::read(ledger_of(&node)).expect("a ledger"), foreign, "nor is the ledger");

    // And the way back finds everything.
    change_build(&node, &newer, || std::fs::write(ledger_of(&node), &written).expect("the ledger is restored"));
    stream.goes_on(&bed);
    stream.lost_nothing(&bed);
    assert_eq!(traces(&node), running);
    bed.host_gets("127.0.0.1:8080");
    bed.run_container("late", &["--network", "net"]);
    bed.run_container("later", &["--network", "foreign"]);
    bed.names("late", "-4", "one");
    bed.ping_soon("later", "10.122.0.1");
    bed.docker(&["restart", "-t", "5", "two"]).ok();
    bed.names("one", "-4", "two");
    bed.sweep();
}

/// The plugin's ledger, as this machine reaches it.
fn ledger_of(node: &Node) -> PathBuf {
    let id = node.inspect("pontoon")["Id"].as_str().expect("an id").to_owned();
    node.path(&format!("/var/lib/docker/plugins/{id}/propagated-mount/ledger"))
}

/// Makes the ledger one of another format; returns what it was.
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
