//! The compose file: one machine, and another one as client.

use serde_json::Value;

use crate::{cluster::Cluster, install::example};
use testkit::{Node, Options};

#[test]
fn a_compose_file_on_one_host() {
    let mut cluster = Cluster::machines(2, &Options::new().full());
    cluster.open_page("compose");
    for (_, node) in cluster.named() {
        node.docker(&["plugin", "create", "pontoon", "/lab/plugin"]).ok();
        node.docker(&["plugin", "enable", "pontoon"]).ok();
    }
    cluster.node("one").copy_in(&example("compose.yml"), "compose.yml");
    cluster.carry_out("A test runs these");
    assert_options_applied(cluster.node("one"));
    assert_published_as_specified(&cluster);
    cluster.carry_out("Take it down");
    cluster.nothing_left();
}

/// Verifies that every line of the file has its effect.
fn assert_options_applied(node: &Node) {
    let network = node.inspect("lab_lan");
    assert_eq!((&network["Driver"], &network["IPAM"]["Driver"]), (&"pontoon:latest".into(), &"pontoon:latest".into()));
    let (web, client) = (of_service(node, "web"), of_service(node, "client"));
    let at = |container: &Value| container["NetworkSettings"]["Networks"]["lab_lan"]["IPAddress"].clone();
    assert_eq!(at(&web), "10.66.0.10");
    assert!(at(&client).as_str().is_some_and(|address| address.starts_with("10.66.0.")), "{}", at(&client));
    let id = client["Id"].as_str().expect("an id");
    assert_eq!(node.exec_in(id, &["cat", "/sys/class/net/eth0/mtu"]).ok(), "1400");
}

fn of_service(node: &Node, service: &str) -> Value {
    let label = format!("label=com.docker.compose.service={service}");
    node.inspect(&node.docker(&["ps", "-q", "--filter", &label]).ok())
}

/// The published port is open only to the subnet in the file.
fn assert_published_as_specified(cluster: &Cluster) {
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    let url = "http://192.168.77.11:8080/hostname";
    two.exec(&["curl", "-sf", "--max-time", "20", url]).ok();
    two.exec(&["ip", "address", "add", "192.0.2.2/32", "dev", "eth0"]).ok();
    one.exec(&["ip", "route", "add", "192.0.2.2/32", "via", "192.168.77.12"]).ok();
    one.exec(&["ping", "-c", "1", "-W", "20", "192.0.2.2"]).ok();
    two.exec(&["curl", "-sf", "--max-time", "3", "--interface", "192.0.2.2", url]).err();
}
