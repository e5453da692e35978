//! The task pages of docs/: every ```` ```sh ```` block runs unmodified on a real engine.
//!
//! The pages assume the source tree as working directory. A node has it at `/lab/source`, already built: `make TARGET`
//! runs the script of the Makefile's target with that name.

use std::path::Path;

use testkit::{
    Node, Options, Segment, Signal,
    testbed::{SOON, binary, plugin, traces},
    wait_until,
};

/// `make` in a node: the targets of the pages, without a build.
const MAKE: &str = r#"#!/bin/sh
for word; do
    case $word in
    *=*) export "$word" ;;
    *) target=$word ;;
    esac
done
exec plugin/setup.sh "$target"
"#;

/// A plugin's /proc has the machine's boot id, a node's has that of the lab. On a real host they are equal.
const PONTOON: &str = r#"#!/bin/sh
exec unshare -m sh -c 'umount /proc/sys/kernel/random/boot_id; exec /lab/source/pontoon.program "$@"' pontoon "$@"
"#;

struct Reader {
    node: Node,
    page: String,
}

impl Reader {
    /// A node with the source tree, and the text of a page.
    fn of(page: &str, options: Options) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let node = options.up();
        let tree = node.shared().join("source");
        std::fs::create_dir_all(tree.join("target")).expect("a directory");
        node.copy_in(&plugin(), "source/target/plugin");
        node.copy_in(&binary(), "source/pontoon.program");
        node.copy_in(&root.join("plugin"), "source/plugin");
        node.copy_in(&root.join("examples"), "source/examples");
        for (path, text) in [("/lab/source/target/pontoon", PONTOON), ("/usr/local/bin/make", MAKE)] {
            node.exec(&["sh", "-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh", path, text]).ok();
        }
        let page = std::fs::read_to_string(root.join(format!("docs/{page}.md"))).expect("a page");
        Self { node, page }
    }

    /// Runs the blocks of a section in order. Commands that reach a server are retried until it has started.
    #[track_caller]
    fn section(&self, heading: &str) {
        let (_, rest) =
            self.page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading:?}"));
        let section = rest.split("\n## ").next().unwrap_or_default();
        let mut commands = 0;
        for block in section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
                self.line(line);
                commands += 1;
            }
        }
        assert!(commands > 0, "no commands in {heading:?}");
    }

    #[track_caller]
    fn line(&self, line: &str) {
        let mut command = line.replace("REGISTRY", "127.0.0.1:5000");
        if command.starts_with("docker compose ") && !self.node.docker(&["compose", "version"]).success() {
            command = command.replacen("docker compose", "docker-compose", 1);
        }
        let run = || self.node.exec(&["bash", "-c", &format!("cd /lab/source; {command}")]);
        if ["curl ", "docker exec ", "docker compose -f examples/compose.yml exec "].iter().any(|w| line.starts_with(w))
        {
            wait_until(SOON, line, || run().success());
        } else {
            run().ok();
        }
    }

    fn run(&self, script: &str) -> String {
        self.node.exec(&["bash", "-c", script]).ok()
    }

    /// Nothing of Pontoon is left in the node.
    #[track_caller]
    fn nothing_left(&self) {
        let seen = self.run("ip -o link show; nft list tables; iptables-save; ip6tables-save");
        assert!(!seen.contains(": pnt") && !seen.contains("pontoon"), "{seen}");
    }

    /// Two containers on a network, as on the pages: a server with a published port, and a client.
    #[track_caller]
    fn web_and_client(&self, network: &str, web: &str) {
        self.run(&format!("docker run -d --name web --network {network} {web} busybox httpd -f -h /etc"));
        self.node.run_container("client", &["--network", network]);
    }
}

/// A LAN with the page's host, the segment's own address as router, and another machine.
fn on_a_lan(page: &str) -> (Reader, Node, Segment) {
    let segment = Segment::up();
    let reader = Reader::of(page, Options::new().full().uplink(&segment, 11));
    let other = Options::new().bare().uplink(&segment, 12).up();
    (reader, other, segment)
}

/// The container of the page and another machine reach each other; the host's address is on the bridge.
#[track_caller]
fn part_of_the_lan(reader: &Reader, other: &Node) {
    let url = "http://192.168.77.200/hostname";
    wait_until(SOON, "the container from the LAN", || other.exec(&["curl", "-sf", "--max-time", "1", url]).success());
    reader.node.ping_soon("web", "192.168.77.12");
    reader.node.ping_soon("web", "192.168.77.254");
    assert_eq!(
        reader.node.exec_in("web", &["ip", "route", "show", "default"]).ok().split(' ').nth(2),
        Some("192.168.77.254")
    );
    let routes =
        reader.run("ip route show default; ip -br address show dev br-lan; pgrep -f 'sleep 12[0]; ip link' || true");
    assert!(routes.contains("via 192.168.77.254 dev br-lan") && routes.contains("192.168.77.11/24"), "{routes}");
    assert_eq!(routes.lines().count(), 2, "the fallback timer is not off: {routes}");
}

#[test]
fn quick_start() {
    let (reader, other, _segment) = on_a_lan("quick-start");
    reader.section("Install");
    reader.section("One host");
    reader.section("Compose");
    reader.section("A bridge on your home LAN");
    part_of_the_lan(&reader, &other);
    let before = reader.run("ip -br address show dev br-lan");
    reader.run("docker rm -f web; docker network rm lan");
    assert_eq!(reader.run("ip -br address show dev br-lan"), before, "the user's bridge changed");
}

#[test]
fn home_lan() {
    let (reader, other, _segment) = on_a_lan("lan");
    let uplink =
        || reader.run("ip -o address show dev eth0; ip route; ip -6 route show dev eth0").replace(" tentative", "");
    reader.section("Install");
    reader.section("Look at your LAN");
    let before = uplink();
    let learned = || {
        other.exec(&["ping", "-c1", "-W1", "192.168.77.11"]).ok();
        other.exec(&["ip", "neigh", "show", "192.168.77.11"]).ok().split(' ').nth(4).map(str::to_owned)
    };
    let mac = learned();
    reader.section("Create the network");
    reader.section("Check it");
    for url in ["http://192.168.77.200/hostname", "http://192.168.77.11:8080/hostname"] {
        wait_until(SOON, url, || other.exec(&["curl", "-sf", "--max-time", "1", url]).success());
    }
    other.exec(&["ip", "neigh", "flush", "all"]);
    assert_eq!(learned(), mac, "for the LAN the host has the hardware address that it had");
    let text =
        reader.node.docker(&["run", "--rm", "--network", "lan", "--ip", "192.168.77.12", "busybox", "true"]).err();
    assert!(text.contains("192.168.77.12"), "another machine has the address: {text}");
    reader.section("Undo it");
    assert_eq!(uplink(), before, "the host's network is as it was");
    wait_until(SOON, "no link to be left", || !reader.run("ip -o link show").contains(": pnt"));
}

#[test]
fn migrate() {
    let (reader, other, _segment) = on_a_lan("migrate");
    reader.run("cd /lab/source && make install");
    reader.run("docker network create -d bridge --subnet 10.20.0.0/24 shop");
    reader.web_and_client("shop", "-p 8080:80");
    let id = reader.node.inspect("web")["State"]["StartedAt"].clone();
    reader.section("From the built-in bridge, without restarting containers");
    assert_eq!(reader.node.inspect("web")["State"]["StartedAt"], id, "the container was restarted");
    let reached = || other.exec(&["curl", "-sf", "--max-time", "1", "http://192.168.77.11:8080/hostname"]).success();
    wait_until(SOON, "the published port", reached);
    assert!(reader.run("cd /lab/source && target/pontoon ports --docker").contains("shop-new"));
    reader.run("docker rm -f web client; docker network rm shop-new");

    reader.run("docker network create -d bridge --subnet 10.20.0.0/24 shop");
    reader.web_and_client("shop", "--ip 10.20.0.10 -p 8080:80");
    reader.section("From the built-in bridge, with the same name and addresses");
    wait_until(SOON, "the published port", reached);
    assert_eq!(reader.node.container_addr("web", "shop").v4.expect("an address").to_string(), "10.20.0.10");
    assert_eq!(reader.node.inspect("shop")["Driver"], "pontoon:latest");
    reader.run("docker rm -f web client; docker network rm shop");

    reader.run("docker network create -d macvlan -o parent=eth0 --subnet 192.168.77.0/24 --gateway 192.168.77.254 lan");
    reader.run("docker run -d --name web --network lan --ip 192.168.77.200 busybox httpd -f -h /etc");
    reader.section("From macvlan");
    part_of_the_lan(&reader, &other);
}

#[test]
fn upgrade() {
    let reader = Reader::of("upgrade", Options::new());
    reader.node.start_registry();
    reader.run("cd /lab/source && make install && docker network create -d pontoon:latest --subnet 10.22.0.0/24 net");
    reader.web_and_client("net", "-p 8080:80");
    let running = traces(&reader.node);
    reader.section("Managed plugin, from the source tree");
    reader.section("Verify");
    assert_eq!(traces(&reader.node), running);
    // A release is installed from a registry and upgraded from there.
    reader.run("docker rm -f web client; docker network rm net; cd /lab/source && make uninstall");
    let first = "127.0.0.1:5000/pontoon:0.1.0";
    reader.run(&format!("cd /lab/source && docker plugin create {first} target/plugin && docker plugin push {first}"));
    reader.run(&format!("docker plugin rm {first}"));
    reader.run(&format!("docker plugin install --grant-all-permissions --alias pontoon {first}"));
    reader.run("docker network create -d pontoon:latest --subnet 10.22.0.0/24 net");
    reader.web_and_client("net", "-p 8080:80");
    let running = traces(&reader.node);
    reader.run("echo 0.2.0 >/lab/source/target/plugin/rootfs/version");
    reader.section("Managed plugin, from a registry");
    reader.section("Verify");
    assert_eq!(traces(&reader.node), running);
    assert_eq!(reader.node.inspect("pontoon")["PluginReference"], "127.0.0.1:5000/pontoon:0.2.0");
    reader.run("docker rm -f web client; docker network rm net; cd /lab/source && make uninstall");
    reader.section("Socket plugin");
    assert!(reader.run("/usr/local/bin/pontoon --version").starts_with("pontoon "));
}

#[test]
fn uninstall() {
    let reader = Reader::of("uninstall", Options::new());
    let blue = |driver: &str| {
        reader.run(&format!("docker network create -d {driver} blue; docker run -d --name web --network blue busybox"))
    };
    reader.run("cd /lab/source && make install");
    blue("pontoon:latest");
    reader.section("Managed plugin");
    reader.section("Verify that nothing is left");
    reader.nothing_left();

    reader.run("cd /lab/source && make install");
    blue("pontoon:latest");
    reader.run("docker rm -f web; docker network rm blue");
    reader.section("Without the source tree");
    reader.nothing_left();

    // Without systemd, the program is started and stopped here. The state directory of a node is a mount, on a real
    // host it is not.
    reader.run("umount /var/lib/pontoon");
    reader.run("cp /lab/source/pontoon.program /lab/source/target/pontoon; cd /lab/source && make install-socket");
    let help = "cd /usr/local/share; ls man/man8/pontoon.8 bash-completion/completions/pontoon zsh/site-functions/_pontoon \
                fish/vendor_completions.d/pontoon.fish";
    let installed = reader.run(&format!("{help} && bash -n bash-completion/completions/pontoon"));
    assert_eq!(installed.lines().count(), 4, "{installed}");
    reader.node.start_pontoon(&binary(), &[]);
    blue("pontoon");
    reader.run("docker rm -f web; docker network rm blue");
    reader.node.kill_pontoon(Signal::Term);
    reader.section("Socket plugin");
    reader.section("Verify that nothing is left");
    reader.nothing_left();
    assert_eq!(reader.run("ls -d /var/lib/pontoon /usr/local/bin/pontoon 2>/dev/null || true"), "");
    assert_eq!(reader.run(&format!("({help}) 2>/dev/null || true")), "");
}

/// Members of the group use the status socket of a managed plugin after the page's commands, other users do not.
#[test]
fn operations() {
    let reader = Reader::of("operations", Options::new());
    reader.run("cd /lab/source && make install && docker network create -d pontoon:latest --subnet 10.23.0.0/24 net");
    reader.web_and_client("net", "-p 8080:80");
    let dir = "/run/docker/plugins/$(docker plugin inspect -f '{{.Id}}' pontoon)";
    // Root finds it without arguments, while Docker's plugin directories are its own.
    assert!(reader.run(&format!("stat -c '%a %g' {dir}/status.sock")).contains("600 0"));
    assert!(reader.run("/lab/source/pontoon.program ls --docker /lab/docker.sock").contains("web"));
    assert!(reader.run("/lab/source/pontoon.program events --docker /lab/docker.sock").contains("CreateEndpoint"));
    reader.section("The status socket");
    reader.run("install -m 755 /lab/source/pontoon.program /usr/local/bin/operator");
    let member = |groups: &str| {
        let user = format!("setpriv --reuid 65534 --regid 65534 {groups} --bounding-set=-all --inh-caps=-all");
        reader.node.exec(&["bash", "-c", &format!("{user} operator status --status-socket {dir}/status.sock")])
    };
    let (inside, outside) = (member("--groups $(getent group pontoon | cut -d: -f3)"), member("--clear-groups"));
    let modes = reader.run(&format!("stat -c '%a %g %n' /run/docker /run/docker/plugins {dir} {dir}/status.sock"));
    assert!(inside.success() && inside.stdout.contains("healthy"), "{inside}\n{modes}");
    assert!(!outside.success() && outside.stderr.contains("as root"), "{outside}");
    let plugin = reader.node.exec(&["bash", "-c", &format!("stat -c '%a %g' {dir}/pontoon.sock")]).ok();
    assert_eq!(plugin.trim(), "600 0", "the plugin socket stays root's");
}

#[test]
fn monitoring() {
    let reader = Reader::of("monitoring", Options::new());
    reader.run("cd /lab/source && make install && docker network create -d pontoon:latest net");
    reader.section("Metrics");
    let metrics = reader.run("cat /var/lib/node_exporter/pontoon.prom");
    assert!(metrics.lines().any(|line| line == "pontoon_networks 1"), "{metrics}");
    reader.section("Checks");
    reader.run("docker network rm net");
}

/// The services of docs/sandbox.md: a container with a name server and a web server, reached by the host.
const SERVICES: &str = "set -e
    docker run -d --name services --network none busybox httpd -f -h /etc
    ip netns attach services $(docker inspect -f '{{.State.Pid}}' services)
    ip link add up0 type veth peer name eth0 netns services
    ip address add 192.0.2.1/24 dev up0; ip link set up0 up
    ip -n services link set eth0 up
    for last in 53 10 12; do ip -n services address add 192.0.2.$last/24 dev eth0; done
    ip -n services route add default via 192.0.2.1
    ip netns exec services dnsmasq --conf-file=/dev/null --user=root --no-resolv --no-hosts --pid-file=/tmp/services.pid \
        --address=/api.example.com/192.0.2.10 --address=/other.example.com/192.0.2.12";

#[test]
fn sandbox() {
    let reader = Reader::of("sandbox", Options::new().full());
    reader.run("cd /lab/source && make install");
    reader.run(SERVICES);
    let pontoon = |args: &str| reader.run(&format!("cd /lab/source; target/pontoon {args}"));
    let reaches = |from: &str, to: &str| {
        reader
            .node
            .exec_in(from, &["wget", "-q", "-T", "2", "-O", "/dev/null", &format!("http://{to}/hostname")])
            .success()
    };
    reader.section("Start it audited");
    assert!(pontoon("policy show agent").contains("refuse nothing"));
    assert!(pontoon("doctor --docker || true").contains("only audited"));
    assert!(reaches("agent", "192.0.2.12"), "everything passes");
    reader.run("docker restart -t 0 agent");
    reader.run("docker exec agent wget -q -O /dev/null http://api.example.com/hostname");
    reader.section("Read what it did");
    let text = pontoon("policy audit agent");
    assert!(text.contains("--egress-allow 'tcp:80@api.example.com' --audit off"), "{text}");
    let drops = || pontoon("drops -o json | jq '[.drops[].packets] | add // 0'");
    let before = drops();
    reader.section("Enforce it");
    assert_eq!(drops(), before, "what the container did before is not refused");
    for from in ["agent", "next"] {
        assert!(!reaches(from, "192.0.2.12") && !reaches(from, "other.example.com"), "{from}");
    }
    assert_ne!(drops(), before);
    assert!(!pontoon("doctor --docker || true").contains("1 containers are only audited"));
    reader.section("Change it while it runs");
    assert!(reaches("agent", "api.example.com") && !reaches("agent", "other.example.com"));
    reader.section("See what was refused");
    assert!(pontoon("drops").contains("not in the egress list"));
    reader.section("Undo it");
}
