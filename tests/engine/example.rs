//! The example driver of crates/libnetwork-plugin, which does not depend on Pontoon, with a real engine.

use testkit::{
    Options,
    testbed::{SOON, built},
    wait_until,
};

#[test]
fn containers_of_the_example_driver_reach_each_other() {
    let node = Options::new().up();
    node.copy_in(&built("bridge-example", "make example"), "bridge-example");
    let mut driver = node.spawn(&["/lab/bridge-example"]);
    wait_until(SOON, "the example driver to listen", || {
        assert!(driver.running(), "{}", driver.log());
        node.path("/run/docker/plugins/bridge-example.sock").exists()
    });
    node.docker(&["network", "create", "-d", "bridge-example", "--subnet", "10.77.0.0/24", "net"]).ok();
    for (name, address) in [("one", "10.77.0.11"), ("two", "10.77.0.12")] {
        node.run_container(name, &["--network", "net", "--ip", address]);
    }
    node.ping_soon("one", "10.77.0.12");
    // By the engine's name service, and from the host, which has the gateway's address.
    wait_until(SOON, "a container to reach the other by its name", || {
        node.exec_in("two", &["ping", "-c1", "-W1", "one"]).success()
    });
    assert!(node.exec(&["ping", "-c1", "-W1", "10.77.0.11"]).success(), "{}", driver.log());
    // The links are moved into the container and back.
    node.docker(&["restart", "-t", "0", "one"]).ok();
    node.ping_soon("two", "10.77.0.11");
    node.docker(&["rm", "-f", "one", "two"]).ok();
    node.docker(&["network", "rm", "net"]).ok();
    let links = node.exec(&["ls", "/sys/class/net"]).ok();
    assert!(!links.contains("exb") && !links.contains("exh") && !links.contains("exc"), "{links}\n{}", driver.log());
}
