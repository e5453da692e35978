//! Every setting of the managed plugin has its documented effect.

use serde_json::Value;

use crate::cluster::Cluster;
use testkit::{Node, Options};

#[test]
fn every_setting_has_its_effect() {
    let mut cluster = Cluster::machines(2, &Options::new());
    for (_, node) in cluster.named() {
        node.docker(&["plugin", "create", "pontoon", "/lab/plugin"]).ok();
        node.docker(&["plugin", "enable", "pontoon"]).ok();
    }
    data_path_port_and_peers(&mut cluster);
    log_and_pools(&mut cluster);
    let one = cluster.node("one");
    scope(one);
    confinement(one);
    a_wrong_value(one);
}

/// Changes settings of the plugin with the commands of the pages.
fn set(node: &Node, settings: &[&str]) {
    node.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    node.docker(&[&["plugin", "set", "pontoon"], settings].concat()).ok();
    node.docker(&["plugin", "enable", "pontoon"]).ok();
}

fn data_path_port_and_peers(cluster: &mut Cluster) {
    cluster.carry_out("Here two plain hosts");
    for (name, own, peer) in [("one", "fd77::11", "fd77::12"), ("two", "fd77::12", "fd77::11")] {
        let made = tunnel(cluster, name);
        assert_eq!((&made["port"], &made["local6"]), (&8472.into(), &own.into()), "{name}: {made}");
        assert_eq!(floods(cluster, name), [peer]);
    }
    // The network exists, and its containers run: it is changed to the new settings. A link means its first address.
    set(cluster.node("one"), &["PONTOON_VXLAN_PORT=4789", "PONTOON_DATA_PATH=eth0", "PONTOON_PEERS=192.168.77.12"]);
    set(cluster.node("two"), &["PONTOON_VXLAN_PORT=4789", "PONTOON_DATA_PATH=", "PONTOON_PEERS=192.168.77.11"]);
    cluster.node("one").ping_soon("probe", "10.9.0.80");
    for (name, own, peer) in [("one", "192.168.77.11", "192.168.77.12"), ("two", "192.168.77.12", "192.168.77.11")] {
        let made = tunnel(cluster, name);
        assert_eq!((&made["port"], &made["local"]), (&4789.into(), &own.into()), "{name}: {made}");
        assert_eq!(floods(cluster, name), [peer]);
    }
}

/// The kernel's attributes of the only tunnel of a machine.
fn tunnel(cluster: &Cluster, name: &str) -> Value {
    let links = cluster.node(name).exec(&["ip", "-d", "-json", "link", "show", "type", "vxlan"]).json();
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{links}");
    links[0]["linkinfo"]["info_data"].clone()
}

/// The addresses that the only tunnel of a machine floods to.
fn floods(cluster: &Cluster, name: &str) -> Vec<String> {
    let listed = cluster.node(name).exec(&["bridge", "fdb", "show", "dev", &cluster.tunnels(name)[0]]).ok();
    let floods = listed.lines().filter(|line| line.starts_with("00:00:00:00:00:00 "));
    floods.filter_map(|line| line.split("dst ").nth(1)?.split(' ').next()).map(str::to_owned).collect()
}

fn log_and_pools(cluster: &mut Cluster) {
    let of_pontoon = |node: &Node| {
        let log = std::fs::read(node.shared().join("dockerd.log")).expect("a log");
        let log = String::from_utf8_lossy(&log).into_owned();
        log.lines().filter(|line| line.contains(" plugin=")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = of_pontoon(cluster.node("one"));
    assert!(before.iter().any(|line| line.contains("INFO")), "{before:#?}");
    assert!(!before.iter().any(|line| line.contains("DEBUG") || line.contains("{")), "{before:#?}");
    cluster.carry_out("The log, and the pools");
    let node = cluster.node("one");
    let after = &of_pontoon(node)[before.len()..];
    let debug = |line: &String| line.contains(r#"\"level\":\"DEBUG\""#);
    assert!(after.iter().any(debug), "{after:#?}");
    let subnet = &node.inspect("small")["IPAM"]["Config"][0]["Subnet"];
    assert!(subnet.as_str().is_some_and(|s| s.starts_with("10.96.") && s.ends_with("/26")), "{subnet}");
}

/// The setting at the time of the creation determines the scope of a network.
fn scope(node: &Node) {
    node.docker(&["swarm", "init", "--advertise-addr", "192.168.77.11"]).ok();
    for (setting, scope) in [("global", "swarm"), ("local", "local")] {
        set(node, &[&format!("PONTOON_SCOPE={setting}")]);
        node.docker(&["network", "create", "-d", "pontoon:latest", setting]).ok();
        assert_eq!(node.inspect(setting)["Scope"], scope);
    }
}

fn confinement(node: &Node) {
    for (setting, locked) in [("off", "0"), ("on", "1")] {
        set(node, &[&format!("PONTOON_CONFINE={setting}")]);
        let pid = node.exec(&["pgrep", "-x", "pontoon"]).ok();
        let status = node.exec(&["cat", &format!("/proc/{pid}/status")]).ok();
        assert!(status.contains(&format!("NoNewPrivs:\t{locked}")), "{setting}: {status}");
    }
}

/// Docker accepts any value; Pontoon reports an invalid one where Docker logs it.
fn a_wrong_value(node: &Node) {
    node.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    node.docker(&["plugin", "set", "pontoon", "PONTOON_SCOPE=galactic"]).ok();
    node.docker(&["plugin", "enable", "pontoon"]).ok();
    // The plugin serves, and a request that needs the setting gets the reason through Docker.
    let refused = node.docker(&["network", "create", "-d", "pontoon:latest", "again"]).err();
    assert!(refused.contains("PONTOON_SCOPE") && refused.contains("galactic"), "{refused}");
    node.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    node.docker(&["plugin", "set", "pontoon", "PONTOON_SCOPE=local"]).ok();
    node.docker(&["plugin", "enable", "pontoon"]).ok();
    node.docker(&["network", "create", "-d", "pontoon:latest", "again"]).ok();
}
