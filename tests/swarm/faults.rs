//! Faults: nodes, engines, plugins and cables that fail while a service runs. After each the nodes
//! come together by themselves: all tasks reach all, nothing is remembered wrongly, and nothing is
//! left of what was.

use std::time::Duration;

use crate::cluster::{Cluster, SOON};
use crate::support::{wait_for, wait_until};

const TASKS: usize = 6;

/// How the engine tells a plugin's log to its own.
const LATE: &str = "Swarm reports that a peer left";

impl Cluster {
    /// A service on a network of its own. A node counts as down sooner than by default.
    fn serve(&self) {
        self.manager(&["swarm", "update", "--dispatcher-heartbeat", "2s"]);
        self.manager(&["network", "create", "-d", "pontoon:latest", "--attachable", "fleet"]);
        let on = ["--network", "fleet", "--replicas", "6", "--endpoint-mode", "dnsrr", "--restart-delay", "0s"];
        let what = ["service", "create", "--detach", "--name", "web", "--stop-grace-period", "1s"];
        self.manager(&[&what[..], &on, &["busybox"]].concat());
        self.converges("after the start");
    }

    /// Everything anew, half at a time, so that each node has its share again.
    fn redeploy(&self) {
        let how = ["--update-parallelism", "3", "--update-monitor", "1s"];
        self.manager(&[&["service", "update", "--detach", "--force"], &how[..], &["web"]].concat());
        self.settled("web", Duration::from_secs(90));
    }

    /// The same while the Swarm is not whole. Whether it gets that far is its own matter.
    fn redeploy_if_it_can(&self) {
        let redeploy = || self.redeploy();
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(redeploy)).is_err() {
            eprintln!("the Swarm did not redeploy everything meanwhile");
        }
    }

    #[track_caller]
    fn converges(&self, when: &str) {
        self.all_answer_all("web", "fleet", TASKS, when);
        self.settle("fleet", &format!("what is remembered to be true {when}"));
    }

    fn end(&self) {
        self.manager(&["service", "rm", "web"]);
        self.remove_network("fleet");
        self.nothing_left();
    }

    #[track_caller]
    fn availability(&self, name: &str, availability: &str) {
        self.manager(&["node", "update", "--availability", availability, &self.node_id(name)]);
    }

    /// Waits until the manager `asked` sees this node so.
    #[track_caller]
    fn seen(&self, asked: &str, id: &str, status: &str) {
        let format = ["node", "ls", "--format", "{{.ID}} {{.Status}}"];
        wait_until(Duration::from_secs(90), &format!("{id} to be {status}"), || {
            let listed = self.node(asked).docker(&format);
            listed.success() && listed.ok().lines().any(|line| line == format!("{id} {status}"))
        });
    }
}

/// Workers: drained, gone and back, their engine killed, their plugin switched off, the power cut.
#[test]
fn workers_come_and_go() {
    let cluster = Cluster::up();
    cluster.serve();
    let three = cluster.node("three");

    cluster.availability("three", "drain");
    wait_until(SOON, "nothing of the network on a drained node", || cluster.tunnels("three").is_empty());
    cluster.converges("without a drained node");
    cluster.availability("three", "active");
    cluster.redeploy();
    cluster.converges("with the node back");

    // It leaves, and joins as another node with the same address.
    let id = cluster.node_id("three");
    three.docker(&["swarm", "leave"]).ok();
    cluster.seen("one", &id, "Down");
    cluster.manager(&["node", "rm", "--force", &id]);
    cluster.converges("after a node left");
    let token = cluster.manager(&["swarm", "join-token", "-q", "worker"]);
    let own = cluster.address(2);
    three.docker(&["swarm", "join", "--advertise-addr", &own, "--token", &token, "192.168.77.11:2377"]).ok();
    cluster.ready(3);
    cluster.redeploy();
    cluster.converges("after it joined again");

    // Back so quickly that its end is told after its return.
    three.kill_dockerd();
    cluster.revive("three", 3);
    cluster.redeploy();
    cluster.converges("after an engine was killed");

    // What runs keeps its network while there is no plugin.
    let two = cluster.node("two");
    two.docker(&["plugin", "disable", "-f", "pontoon"]).ok();
    cluster.all_answer_all("web", "fleet", TASKS, "without the plugin on a node");
    two.docker(&["plugin", "enable", "pontoon"]).ok();
    cluster.settle("fleet", "the plugin to take up what it had");
    cluster.redeploy();
    cluster.converges("with the plugin back");

    three.reboot();
    cluster.ready(3);
    cluster.redeploy();
    cluster.converges("after the power was cut");

    // The engine said of a node that it left, at least once, and no tunnel was cut for it.
    let told = ["one", "two"].iter().any(|name| cluster.log(name).contains(LATE));
    assert!(told, "no engine told of a node that left: nothing was tried");
    cluster.end();
}

/// Managers: the leader's engine killed, a node cut off for longer than it may be silent, and a
/// segment that loses a quarter of all packets between hosts, or brings them out of order.
#[test]
fn managers_and_cables_fail() {
    let cluster = Cluster::up();
    cluster.serve();
    for name in ["two", "three"] {
        cluster.manager(&["node", "promote", &cluster.node_id(name)]);
    }
    let reachable = ["node", "ls", "--format", "{{.ManagerStatus}}"];
    wait_until(SOON, "three managers", || {
        let listed = cluster.node("one").docker(&reachable);
        listed.success() && listed.ok().lines().filter(|line| ["Leader", "Reachable"].contains(line)).count() == 3
    });
    let number = |asked: &str, network: &str| {
        let format = "{{index .Options \"pontoon.vni\"}} {{index .Options \"pontoon.allocated\"}}";
        let seen = cluster.node(asked).docker(&["network", "inspect", "--format", format, network]);
        seen.success()
            .then(|| seen.ok())
            .and_then(|text| text.split_once(' ').map(|(n, id)| (n.to_owned(), id.to_owned())))
    };
    let (vni, _) = number("one", "fleet").expect("it has a number");

    let one = cluster.node("one");
    one.kill_dockerd();
    let leader = wait_for(Duration::from_secs(120), "another leader", || {
        let leads = |name: &&&str| {
            let listed = cluster.node(name).docker(&["node", "ls", "--format", "{{.Self}} {{.ManagerStatus}}"]);
            listed.success() && listed.ok().lines().any(|line| line == "true Leader")
        };
        ["two", "three"].iter().find(leads).copied()
    });
    // It knows the numbers that the one before it gave: one that is taken is refused, and said so.
    let of_new = |args: &[&str]| {
        let create = [&["network", "create", "-d", "pontoon:latest"], args].concat();
        wait_until(SOON, "a network of the new leader's", || cluster.node(leader).docker(&create).success());
    };
    of_new(&["-o", &format!("pontoon.vni={vni}"), "clash"]);
    of_new(&["--attachable", "after"]);
    let (other, _) = wait_for(SOON, "a number for the new network", || {
        number(leader, "after").filter(|(_, allocated)| !allocated.is_empty() && allocated != "<no value>")
    });
    assert_ne!(other, vni);
    wait_until(SOON, "the refusal of a number", || cluster.log(leader).contains(&format!("VNI {vni} belongs to")));
    let clash = number(leader, "clash").map(|(_, allocated)| allocated).unwrap_or_default();
    assert!(clash.is_empty() || clash == "<no value>", "two networks of one number: {clash}");
    let from = cluster.node(leader);
    from.run_container("here", &["--network", "after"]);
    cluster.revive("one", 3);
    wait_until(SOON, "a container of the old leader's", || {
        one.docker(&["rm", "-f", "there"]);
        one.docker(&["run", "-d", "--name", "there", "--network", "after", "busybox"]).success()
    });
    let there = one.container_addr("there", "after").v4.expect("an address").to_string();
    from.ping_soon("here", &there);
    from.docker(&["rm", "-f", "here"]).ok();
    one.docker(&["rm", "-f", "there"]).ok();
    cluster.remove_network("after");
    cluster.remove_network("clash");
    cluster.redeploy();
    cluster.converges("after the leader was killed");

    // The others take its tasks over; it goes on with its own, until it hears of that. Not the leader:
    // engines that lose theirs may stand still until the cable is back.
    let cut = if leader == "two" { "three" } else { "two" };
    let port = if cut == "two" { "port12" } else { "port13" };
    cluster.cable(port, "down");
    cluster.seen("one", &cluster.node_id(cut), "Down");
    cluster.redeploy_if_it_can();
    cluster.cable(port, "up");
    cluster.ready(3);
    cluster.converges("after a node was cut off");
    cluster.redeploy();
    cluster.converges("after everything was redeployed on all three");

    cluster.lose(25);
    cluster.redeploy();
    cluster.converges("while a quarter of the packets is lost");
    cluster.lose(0);
    cluster.converges("once nothing is lost any more");

    let shuffle = cluster.shuffle();
    cluster.redeploy();
    cluster.converges("while packets overtake each other");
    let overtaken = shuffle.end();
    assert!(overtaken > 50, "{overtaken} packets were overtaken: hardly anything was tried");
    cluster.converges("once they are in order again");
    cluster.end();
}
