//! A real engine on that kernel, which the scenarios share in turn: see [`on_host`].

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use testkit::{KERNEL, Node, Options, Segment, Signal, in_guest, wait_until};

const DRIVER: &str = "pontoon:latest";
/// Deadline for changes in the background, on a slow machine.
pub const SOON: Duration = Duration::from_secs(90);

/// Runs a scenario in the guest on a host with an engine and an uplink `eth0`, 192.168.77.11, on a segment. Starting an
/// engine takes longer than most scenarios, so all use the same one in turn, and leave it as they found it: no
/// containers, no networks, no Pontoon. After a failed scenario the next one gets a new host.
pub fn on_host(scenario: impl FnOnce(&Segment, &Node)) {
    static HOST: Mutex<Option<(Segment, Node)>> = Mutex::new(None);
    in_guest(KERNEL, || {
        let mut host = HOST.lock().unwrap_or_else(|failed| {
            let mut host = failed.into_inner();
            *host = None;
            HOST.clear_poison();
            host
        });
        let (segment, node) = host.get_or_insert_with(|| {
            let segment = Segment::up();
            let node = Options::new().uplink(&segment, 11).up();
            (segment, node)
        });
        scenario(segment, node);
        let left = node.docker(&["ps", "-aq"]).ok() + &node.docker(&["network", "ls", "-q", "-f", "type=custom"]).ok();
        assert_eq!(left, "", "the scenario left something behind");
        assert!(!node.pontoon_runs(), "Pontoon still runs");
    });
}

fn plugin() -> PathBuf {
    built("plugin", "make plugin")
}

pub fn binary() -> PathBuf {
    built("pontoon", "make build")
}

fn built(name: &str, remedy: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    assert!(path.exists(), "{} is missing: run {remedy}", path.display());
    path
}

/// Starts a web server in a container.
fn serve(node: &Node, container: &str) {
    node.exec_in(container, &["httpd", "-p", "80", "-h", "/etc"]).ok();
}

fn fetches(node: &Node, at: &str) -> bool {
    node.exec(&["curl", "-sf", "--max-time", "3", "-o", "/dev/null", &format!("http://{at}/hosts")]).success()
}

/// The main function: addresses, names, a published port from outside the host, and all of it again after a restart.
#[test]
fn an_engine_runs_containers_on_the_managed_plugin() {
    on_host(|segment, node| {
        node.install_plugin(&plugin());
        node.docker(&["network", "create", "-d", DRIVER, "--ipam-driver", DRIVER, "net"]).ok();
        node.run_container("server", &["--network", "net", "-p", "8080:80"]);
        node.run_container("client", &["--network", "net"]);
        node.ping_soon("client", "server");
        serve(node, "server");
        wait_until(SOON, "the published port on the host", || fetches(node, "127.0.0.1:8080"));
        let outside = ["curl", "-sf", "--max-time", "3", "http://192.168.77.11:8080/hosts"];
        wait_until(SOON, "the published port from outside", || segment.exec(&outside).success());
        node.docker(&["restart", "-t", "1", "server"]).ok();
        serve(node, "server");
        node.ping_soon("client", "server");
        wait_until(SOON, "the published port after a restart", || segment.exec(&outside).success());
        node.docker(&["rm", "-f", "server", "client"]).ok();
        node.docker(&["network", "rm", "net"]).ok();
        assert_eq!(node.exec(&["sh", "-c", "ip -o link | grep -c pnt || true"]).ok(), "0");
        node.docker(&["plugin", "disable", "pontoon"]).ok();
        node.docker(&["plugin", "rm", "pontoon"]).ok();
    });
}

/// Containers on VLAN 40 of the uplink through a parent that the driver creates, and as ipvlan children of the uplink:
/// equal to the built-in drivers.
#[test]
fn containers_are_on_a_vlan_of_the_parent_and_share_its_address_with_ipvlan() {
    on_host(|segment, node| {
        let on_segment = |script: &str| segment.exec(&["sh", "-c", script]).ok();
        on_segment("ip link add link br0 name lan40 up type vlan id 40; ip address add 10.40.0.254/24 dev lan40");
        let uplink = || node.exec(&["sh", "-c", "ip -d link show eth0; ip address show eth0"]).ok();
        let before = uplink();
        for pontoon in [false, true] {
            if pontoon {
                node.start_pontoon(&binary(), &[]);
            }
            on_a_vlan(node, if pontoon { "pontoon" } else { "macvlan" });
            with_ipvlan(node, segment, if pontoon { "pontoon" } else { "ipvlan" });
            assert_eq!(uplink(), before, "the parent changed");
        }
        node.kill_pontoon(Signal::Term);
        on_segment("ip link del lan40");
    });
}

fn on_a_vlan(node: &Node, driver: &str) {
    let create = |name: &str, subnet: &str, gateway: &str| {
        let args =
            ["network", "create", "-d", driver, "-o", "parent=eth0.40", "--subnet", subnet, "--gateway", gateway];
        node.docker(&[&args[..], &[name]].concat()).ok();
    };
    let vlan = || node.exec(&["ip", "-d", "link", "show", "eth0.40"]);
    create("v40", "10.40.0.0/24", "10.40.0.254");
    // The built-in driver of 20.10 allows only one network for each parent.
    if driver == "pontoon" {
        create("side", "10.41.0.0/24", "10.41.0.254");
    }
    assert!(vlan().ok().contains("vlan protocol 802.1Q id 40"), "{driver}");
    node.run_container("one", &["--network", "v40"]);
    node.ping_soon("one", "10.40.0.254");
    if driver == "pontoon" {
        node.docker(&["network", "rm", "side"]).ok();
        node.ping_soon("one", "10.40.0.254");
    }
    if driver == "pontoon" {
        // A container's link is removed with the parent; the parent is created again before the socket answers.
        node.kill_pontoon(Signal::Kill);
        node.docker(&["rm", "-f", "one"]);
        node.exec(&["ip", "link", "del", "eth0.40"]).ok();
        node.start_pontoon(&binary(), &[]);
        assert!(vlan().success(), "the parent is missing");
        node.docker(&["rm", "-f", "one"]);
        node.run_container("two", &["--network", "v40"]);
        node.ping_soon("two", "10.40.0.254");
        node.docker(&["rm", "-f", "two"]).ok();
    }
    node.docker(&["rm", "-f", "one"]);
    node.docker(&["network", "rm", "v40"]).ok();
    wait_until(SOON, "the parent to be deleted with the last network", || !vlan().success());
}

fn with_ipvlan(node: &Node, segment: &Segment, driver: &str) {
    let create = |options: &[&str], subnet: &str, name: &str| {
        let options = options.iter().flat_map(|option| ["-o", option]);
        let args = ["network", "create", "-d", driver, "--subnet", subnet].into_iter().chain(options);
        node.docker(&args.chain([name]).collect::<Vec<_>>())
    };
    let lan = ["--gateway", "192.168.77.254", "--ip-range", "192.168.77.64/26"];
    let args = ["network", "create", "-d", driver, "-o", "parent=eth0", "-o", "ipvlan_mode=l2"];
    node.docker(&[&args[..], &["--subnet", "192.168.77.0/24"], &lan, &["l2"]].concat()).ok();
    node.run_container("one", &["--network", "l2"]);
    node.ping_soon("one", "192.168.77.254");
    let address = |of: &str| node.exec_in(of, &["cat", "/sys/class/net/eth0/address"]).ok();
    assert_eq!(address("one"), node.exec(&["cat", "/sys/class/net/eth0/address"]).ok(), "{driver}");
    if driver == "pontoon" {
        let text = create(&["parent=eth0", "ipvlan_mode=l3"], "10.60.0.0/24", "l3").err();
        assert!(text.contains("ipvlan_mode=l2"), "{text}");
        let mac = ["create", "--name", "mac", "--mac-address", "02:00:00:00:00:09", "--network", "l2", "busybox"];
        node.docker(&mac).ok();
        let text = node.docker(&["start", "mac"]).err();
        assert!(text.contains("--mac-address"), "{text}");
        node.docker(&["rm", "-f", "mac"]).ok();
    }
    node.docker(&["rm", "-f", "one"]).ok();
    node.docker(&["network", "rm", "l2"]).ok();
    // Layer 3: the segment needs a route via this host.
    segment.exec(&["ip", "route", "replace", "10.60.0.0/24", "via", "192.168.77.11"]).ok();
    create(&["parent=eth0", "ipvlan_mode=l3"], "10.60.0.0/24", "l3").ok();
    node.run_container("three", &["--network", "l3"]);
    node.ping_soon("three", "192.168.77.254");
    node.docker(&["rm", "-f", "three"]).ok();
    node.docker(&["network", "rm", "l3"]).ok();
}
