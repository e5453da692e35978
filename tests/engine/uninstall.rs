//! Uninstalling with `plugin/setup.sh`, as `make uninstall` does: no object of Pontoon is left in the kernel, and no
//! object of the user or the engine changes.

use std::{fs, path::Path};

use testkit::{
    Node, Options, Segment,
    testbed::{SOON, Testbed, binary, plugin},
    wait_until,
};

const DRIVER: &str = "pontoon:latest";

/// The user's own bridge, with a port and a rule for it.
const OWN_BRIDGE: &str = "ip link add mine0 address 02:00:00:00:00:33 type bridge && ip link set mine0 up && \
    ip addr add 10.138.3.1/24 dev mine0 && ip link add port0 type veth peer name port1 && ip link set port0 master mine0 up && \
    iptables -A FORWARD -i mine0 -o lo -m comment --comment mine -j ACCEPT";

/// Links with their bridges and addresses, tables, rules and forwarding, without counters.
const SEEN: &str = "ip -o link | sed 's/^[0-9]*: //' && ip -o -4 addr | sed 's/^[0-9]*: //' && nft list tables && \
    iptables-save | sed '/^[#:]/d' && ip6tables-save | sed '/^[#:]/d' && \
    sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding";

fn shell(node: &Node, script: &str) -> String {
    node.exec(&["sh", "-c", script]).ok()
}

/// The files that `setup.sh` finds beside itself in a checkout.
fn copy_checkout(node: &Node) {
    let checkout = node.shared().join("checkout");
    fs::create_dir_all(checkout.join("target")).expect("a directory");
    node.copy_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin"), "checkout/plugin");
    node.copy_in(&plugin(), "checkout/target/plugin");
    node.copy_in(&binary(), "checkout/target/pontoon");
}

/// Every kind of network that leaves its own objects in the kernel, and a container on each.
fn populate(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.138.1.0/24", "--ipv6", "--subnet", "fd38:1::/64"]);
    testbed.network("inside", &["--subnet", "10.138.2.0/24", "--internal"]);
    testbed.network("own", &["--subnet", "10.138.3.0/24", "-o", "com.docker.network.bridge.name=mine0"]);
    testbed
        .network("fleet", &["--subnet", "10.138.4.0/24", "-o", "pontoon.vni=4242", "-o", "pontoon.peers=192.168.77.9"]);
    testbed.run_container("web", &["--network", "net", "-p", "8380:80"]);
    testbed.run_container("two", &["--network", "net"]);
    testbed.serve("web", 80);
    testbed.host_gets("127.0.0.1:8380");
    for network in ["inside", "own", "fleet"] {
        testbed.run_container(&format!("at-{network}"), &["--network", network]);
    }
    testbed.names("two", "-4", "web");
    testbed.ping_soon("at-own", "10.138.3.1");
    let tables = shell(testbed.node, "nft list tables");
    for family in ["inet", "bridge", "netdev"] {
        assert!(tables.contains(&format!("table {family} pontoon")), "nothing to remove in {family}: {tables}");
    }
    let rules = shell(testbed.node, "iptables -S FORWARD");
    for link in ["mine0", "pnt+"] {
        let rule = format!("-A FORWARD -i {link} -m comment --comment pontoon -j ACCEPT");
        assert!(rules.contains(&rule), "nothing to remove in FORWARD: {rules}");
    }
}

/// Waits until the host is in its previous state; a user's bridge loses its carrier a moment after its last port.
#[track_caller]
fn expect_as_before(node: &Node, before: &str) {
    let mut after = String::new();
    let same = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until(SOON, "the host to be in its previous state", || {
            after = shell(node, SEEN);
            after == before
        });
    }));
    let other = |of: &str, than: &str| -> Vec<String> {
        of.lines().filter(|line| !than.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    assert!(same.is_ok(), "left: {:#?}\nlost: {:#?}", other(&after, before), other(before, &after));
}

#[test]
fn an_uninstalled_plugin_leaves_nothing_behind() {
    let segment = Segment::up();
    let node = Options::new().uplink(&segment, 1).up();
    copy_checkout(&node);
    shell(&node, OWN_BRIDGE);
    let before = shell(&node, SEEN);
    let setup = |what: &str| node.exec(&["sh", "-c", &format!("{what} 2>&1")]);
    setup("/lab/checkout/plugin/setup.sh install").ok();
    let testbed = Testbed::new(&node, DRIVER);

    // Refused while networks exist, with their names.
    populate(&testbed);
    let refused = setup("/lab/checkout/plugin/setup.sh uninstall");
    assert!(!refused.success(), "{refused}");
    for network in ["net", "inside", "own", "fleet"] {
        assert!(refused.stdout.contains(network), "{network} is not named: {refused}");
    }
    assert!(testbed.host_fetches("127.0.0.1:8380"), "the refusal changed something");

    // With its networks removed, as the refusal demands.
    let members = ["web", "two", "at-inside", "at-own", "at-fleet"];
    testbed.sweep_names(&members, &["net", "inside", "own", "fleet"]);
    let said = setup("/lab/checkout/plugin/setup.sh uninstall").ok();
    assert!(said.contains("and its state are removed"), "{said}");
    expect_as_before(&node, &before);

    // And by force, with networks and running containers.
    setup("/lab/checkout/plugin/setup.sh install").ok();
    populate(&testbed);
    let said = setup("FORCE=1 /lab/checkout/plugin/setup.sh uninstall").ok();
    assert!(said.contains("and its state are removed"), "{said}");
    expect_as_before(&node, &before);
    shell(&node, "ip link show master mine0 | grep -q port0");
}
