//! Real engines on that kernel, with Pontoon as a managed plugin.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Guest, KERNEL, Node, Options, Segment, wait_until};

const DRIVER: &str = "pontoon:latest";
/// For what should happen by itself, on a slow machine.
const SOON: Duration = Duration::from_secs(90);

/// A guest that has room for engines.
fn guest() -> Guest {
    Guest::new(KERNEL).memory("6G").deadline(Duration::from_secs(600))
}

fn plugin() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugin");
    assert!(path.exists(), "{} is missing: run make plugin", path.display());
    path
}

/// Starts a web server in a container.
fn serve(node: &Node, container: &str) {
    node.exec_in(container, &["httpd", "-p", "80", "-h", "/etc"]).ok();
}

fn fetches(node: &Node, at: &str) -> bool {
    node.exec(&["curl", "-sf", "--max-time", "3", "-o", "/dev/null", &format!("http://{at}/hosts")]).success()
}

/// The main job: addresses, names, a published port from outside the host, and all of it again after a restart.
#[test]
fn an_engine_runs_containers_on_the_managed_plugin() {
    guest().run(|| {
        let segment = Segment::up();
        let node = Options::new().uplink(&segment, 11).up();
        node.install_plugin(&plugin());
        node.docker(&["network", "create", "-d", DRIVER, "--ipam-driver", DRIVER, "net"]).ok();
        node.run_container("server", &["--network", "net", "-p", "8080:80"]);
        node.run_container("client", &["--network", "net"]);
        node.ping_soon("client", "server");
        serve(&node, "server");
        wait_until(SOON, "the published port on the host", || fetches(&node, "127.0.0.1:8080"));
        let outside = ["curl", "-sf", "--max-time", "3", "http://192.168.77.11:8080/hosts"];
        wait_until(SOON, "the published port from outside", || segment.exec(&outside).success());
        node.docker(&["restart", "-t", "1", "server"]).ok();
        serve(&node, "server");
        node.ping_soon("client", "server");
        wait_until(SOON, "the published port after a restart", || segment.exec(&outside).success());
        node.docker(&["rm", "-f", "server", "client"]).ok();
        node.docker(&["network", "rm", "net"]).ok();
        assert_eq!(node.exec(&["sh", "-c", "ip -o link | grep -c pnt || true"]).ok(), "0");
    });
}

/// Three hosts, a network of all of them, a task on each.
#[test]
fn a_swarm_of_three_has_an_overlay_network() {
    guest().run(|| {
        let segment = Segment::up();
        let nodes: Vec<Node> = (11..14).map(|n| Options::new().uplink(&segment, n).up()).collect();
        nodes.iter().for_each(|node| drop(node.install_plugin(&plugin())));
        nodes[0].docker(&["swarm", "init", "--advertise-addr", "192.168.77.11"]).ok();
        let token = nodes[0].docker(&["swarm", "join-token", "-q", "worker"]).ok();
        for node in &nodes[1..] {
            node.docker(&["swarm", "join", "--token", &token, "192.168.77.11:2377"]).ok();
        }
        nodes[0].docker(&["network", "create", "-d", DRIVER, "--ipam-driver", DRIVER, "net"]).ok();
        let service = ["service", "create", "-d", "--no-resolve-image", "--name", "task", "--mode", "global"];
        nodes[0].docker(&[&service[..], &["--network", "net", "--endpoint-mode", "dnsrr", "busybox"]].concat()).ok();
        let task =
            |node: &Node| node.docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=task"]).ok();
        wait_until(SOON, "a task on each host", || nodes.iter().all(|node| !task(node).is_empty()));
        let containers: Vec<_> = nodes.iter().map(|node| (node, task(node))).collect();
        let address = |(node, container): &(&Node, String)| {
            let script = "ip -4 -o address show scope global | awk '{ sub(\"/.*\", \"\", $4); print $4 }'";
            node.exec_in(container, &["sh", "-c", script]).ok().lines().next().map(str::to_owned).unwrap_or_default()
        };
        for (from, container) in &containers {
            for to in containers.iter().map(address) {
                wait_until(SOON, &format!("{} to reach {to}", from.name()), || from.ping(container, &to));
            }
            let names = || from.exec_in(container, &["nslookup", "tasks.task"]).stdout.matches("Address").count() > 3;
            wait_until(SOON, "the names of all tasks", names);
        }
    });
}
