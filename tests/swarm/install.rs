//! Pontoon from a registry, on three machines, and a stack on it.

use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, REGISTRY};
use testkit::Options;

/// The registry's storage. Each machine has a registry on its own loopback, and all share this storage.
struct Storage(PathBuf);

impl Storage {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_registry_serves_a_swarm_and_a_stack_runs_on_it() {
    let storage = Storage::new();
    let mut cluster = Cluster::machines(3, &Options::new().bind(&format!("{}:/var/lib/registry", storage.0.display())));
    for (_, node) in cluster.named() {
        assert_eq!(node.start_registry(), REGISTRY);
    }
    cluster.carry_out("## From a registry");
    for (name, node) in cluster.named() {
        let plugin = node.inspect("pontoon:latest");
        assert_eq!(plugin["PluginReference"], format!("{REGISTRY}/pontoon:latest"), "{name}");
        assert_eq!(plugin["Enabled"], true, "{name}");
        let env = plugin["Settings"]["Env"].to_string();
        assert!(env.contains("PONTOON_SCOPE=global"), "{name}: {env}");
    }
    cluster.carry_out("Make them a Swarm");
    cluster.ready(3);
    stack(&mut cluster);
    with_the_full_reference(&cluster);
}

/// The example runs as described on the page, and matches its file.
fn stack(cluster: &mut Cluster) {
    cluster.node("one").copy_in(&example("stack.yml"), "stack.yml");
    cluster.carry_out("## A stack");
    cluster.all_reach_all("shop_app", "shop_fleet", 6);
    let seen = cluster.node("one").inspect("shop_fleet");
    assert_eq!((seen["Scope"].as_str(), seen["Driver"].as_str()), (Some("swarm"), Some("pontoon:latest")));
    assert_eq!(seen["IPAM"]["Config"][0]["Subnet"], "10.44.0.0/24");
    for task in cluster.tasks("shop_app", "shop_fleet") {
        let (_, node) = cluster.named().nth(task.node).expect("a machine");
        assert!(task.address.starts_with("10.44.0."), "{task:?}");
        assert_eq!(node.exec_in(&task.container, &["cat", "/sys/class/net/eth0/mtu"]).ok(), "1400");
    }
    // The port is open on each machine, and tasks of other machines answer there, too.
    let hosts: std::collections::BTreeSet<String> = (0..30)
        .map(|_| {
            cluster.node("two").exec(&["curl", "-sf", "--max-time", "20", "http://192.168.77.13:8080/cgi-bin/app"]).ok()
        })
        .collect();
    assert!(hosts.len() > 1, "{hosts:?}");
    cluster.carry_out("Remove the stack");
    cluster.nothing_left();
}

/// Without `--alias`, the driver's name is the full image reference.
fn with_the_full_reference(cluster: &Cluster) {
    let node = cluster.node("three");
    node.docker(&["plugin", "rm", "-f", "pontoon"]).ok();
    node.docker(&["plugin", "install", "--grant-all-permissions", &format!("{REGISTRY}/pontoon")]).ok();
    node.docker(&["network", "create", "-d", &format!("{REGISTRY}/pontoon:latest"), "net"]).ok();
    node.run_container("one", &["--network", "net"]);
    node.run_container("two", &["--network", "net"]);
    node.ping_soon("one", "two");
}

pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}
