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
