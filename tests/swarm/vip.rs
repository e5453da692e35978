//! Service addresses: runs the commands of docs/vip.md unmodified, and after each change of a service checks which
//! containers answer at its address.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, SOON};
use testkit::wait_until;

/// Consecutive connections: with six backends, the probability to miss one of them is 1:10,000.
const DRAWS: usize = 60;

#[test]
fn a_service_address_leads_to_the_running_tasks() {
    let mut cluster = Cluster::up();
    cluster.open_page("vip");
    cluster.carry_out("On each machine of the Swarm make an image");
    cluster.carry_out("From now on service names work");
    assert_reaches_all(&cluster, 6);
    a_client_that_is_a_backend(&cluster);

    let mut conversation = LongConnection::begin(&cluster);
    cluster.manager(&["service", "scale", "--detach", "web=9"]);
    assert_reaches_all(&cluster, 9);
    while_they_are_being_stopped(&cluster);
    without_the_agent(&cluster);
    conversation.assert_continues();

    new_containers(&cluster);
    a_machine_dies(&cluster);

    cluster.carry_out("Remove the service. Containers keep");
    let probe = cluster.node("one").inspect("probe");
    let key = probe["NetworkSettings"]["SandboxKey"].as_str().expect("a sandbox");
    let tables = cluster.node("one").exec(&["nsenter", &format!("--net={key}"), "nft", "list", "tables"]).ok();
    assert!(!tables.contains("pontoon_vip"), "{tables}");
    assert_eq!(backends(&cluster, "one", "probe", 1), BTreeSet::from(["failed".to_owned()]));
}

/// A task connects to its own service: it can be its own backend.
fn a_client_that_is_a_backend(cluster: &Cluster) {
    for machine in ["two", "three"] {
        let listed = cluster.node(machine).docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=web"]);
        let task = listed.ok().lines().next().map(str::to_owned).expect("a task");
        assert_reaches(cluster, machine, &task, 6);
    }
}

/// A server that serves until the end of its grace period gets no new connection after the beginning of it.
fn while_they_are_being_stopped(cluster: &Cluster) {
    cluster.manager(&["service", "scale", "--detach", "web=2"]);
    assert_reaches_all(cluster, 2);
    let running: usize = ["one", "two", "three"].map(|machine| cluster.tasks_on(machine, "web")).iter().sum();
    assert!(running > 2, "all tasks ended before the check");
}

/// The agent is killed on a machine: existing rules stay, and the next agent catches up.
fn without_the_agent(cluster: &Cluster) {
    let one = cluster.node("one");
    let agent = || one.docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=vips"]).ok();
    let before = agent();
    one.docker(&["kill", &before]).ok();
    cluster.manager(&["service", "scale", "--detach", "web=5"]);
    wait_until(SOON, "a new agent", || {
        let now = agent();
        !now.is_empty() && now != before
    });
    assert_reaches_all(cluster, 5);
}

/// New containers, and one that is restarted.
fn new_containers(cluster: &Cluster) {
    let two = cluster.node("two");
    for _ in 0..3 {
        let fetch = ["run", "--rm", "--network", "fleet", "busybox", "wget", "-q", "-T", "40", "-O", "-"];
        let said = two.docker(&[&fetch[..], &["http://web/hostname"]].concat());
        assert_eq!(said.ok().len(), 12);
    }
    cluster.node("one").docker(&["restart", "-t", "1", "probe"]).ok();
    assert_reaches_all(cluster, 5);
}

/// The tasks of a crashed machine are backends until the Swarm notices the crash.
fn a_machine_dies(cluster: &Cluster) {
    cluster.node("three").reboot_bare();
    wait_until(SOON, "no connection to the crashed machine", || {
        let alive = containers(cluster, &["one", "two"], None);
        let backends = backends(cluster, "one", "probe", DRAWS / 2);
        !backends.is_empty() && backends.is_subset(&alive)
    });
    cluster.restart_engine("three", 3);
    cluster.manager(&["service", "scale", "--detach", "web=6"]);
    assert_reaches_all(cluster, 6);
}

/// One connection that stays open during the changes.
struct LongConnection<'a> {
    cluster: &'a Cluster,
    said: String,
}

impl<'a> LongConnection<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        let create = ["service", "create", "--detach", "--name", "echo", "--network", "fleet", "--replicas", "3"];
        cluster.manager(&[&create[..], &["busybox", "nc", "-ll", "-p", "7", "-e", "cat"]].concat());
        let mut conversation = Self { cluster, said: String::new() };
        wait_until(SOON, "the connection to be established", || {
            let talk = "rm -f /in; mkfifo /in && exec 3<>/in && exec nc echo 7 <&3 >/out";
            let probe = cluster.node("one");
            probe.docker(&["exec", "-d", "probe", "sh", "-c", talk]).ok();
            probe.exec_in("probe", &["sh", "-c", "sleep 0.5; netstat -tn | grep ':7 .*ESTABLISHED'"]).success()
        });
        conversation.assert_continues();
        conversation
    }

    #[track_caller]
    fn assert_continues(&mut self) {
        let word = format!("word{}", self.said.len());
        let probe = self.cluster.node("one");
        probe.exec_in("probe", &["sh", "-c", &format!("echo {word} >/in")]).ok();
        self.said += &format!("{word}\n");
        wait_until(SOON, "an answer on the old connection", || {
            probe.exec_in("probe", &["cat", "/out"]).ok() == self.said.trim_end()
        });
    }
}

/// Runs in the container `probe`.
#[track_caller]
fn assert_reaches_all(cluster: &Cluster, count: usize) {
    assert_reaches(cluster, "one", "probe", count);
}

/// Waits until a container reaches exactly the tasks of `web` that should run.
#[track_caller]
fn assert_reaches(cluster: &Cluster, machine: &str, container: &str, count: usize) {
    let (mut wanted, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let complete = || {
        let list = ["service", "ps", "-q", "--no-trunc", "--filter", "desired-state=running", "web"];
        let tasks = cluster.manager(&list).lines().map(str::to_owned).collect();
        wanted = containers(cluster, &["one", "two", "three"], Some(&tasks));
        seen = backends(cluster, machine, container, DRAWS);
        wanted.len() == count && seen == wanted
    };
    wait_until(SOON, &format!("{container} on {machine} to reach all of {count} tasks"), complete);
    // From then on it must stay that way.
    let again = backends(cluster, machine, container, DRAWS);
    assert!(again.is_subset(&wanted), "{container} on {machine} reaches {again:?} instead of {wanted:?}");
}

/// The containers of `web` on these machines, optionally of these tasks only.
fn containers(cluster: &Cluster, machines: &[&str], tasks: Option<&BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for machine in machines {
        let format = "{{.ID}} {{.Label \"com.docker.swarm.task.id\"}}";
        let of = ["ps", "--filter", "label=com.docker.swarm.service.name=web", "--format", format];
        let listed = cluster.node(machine).docker(&of).ok();
        let pairs = listed.lines().filter_map(|line| line.split_once(' '));
        found.extend(pairs.filter(|(_, task)| tasks.is_none_or(|t| t.contains(*task))).map(|(id, _)| id.to_owned()));
    }
    found
}

/// The containers that answer at `web`; a container's hostname is its id.
fn backends(cluster: &Cluster, machine: &str, container: &str, count: usize) -> BTreeSet<String> {
    // Generous: a machine that runs six tests at once may take seconds for an answer.
    let get = "wget -q -T 6 -O - http://web/hostname 2>/dev/null || echo failed";
    // After three failures further attempts are pointless.
    let script = format!(
        "n=0; for i in $(seq {count}); do a=$({get}); echo $a; [ $a != failed ] || n=$((n + 1)); [ $n -lt 3 ] || break; done"
    );
    let output = cluster.node(machine).exec_in(container, &["sh", "-c", &script]);
    if output.success() { output.ok().lines().map(str::to_owned).collect() } else { BTreeSet::new() }
}
