//! Service addresses: the commands of docs/vip.md as they stand there, and after each thing that may
//! happen to a service, who answers at its address.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, SOON};
use crate::support::wait_until;

/// Connections in a row: with six backends, to miss one of them is one in ten thousand.
const DRAWS: usize = 60;

#[test]
fn a_service_address_leads_to_the_tasks_that_serve() {
    let mut cluster = Cluster::up();
    cluster.turn_to("vip");
    cluster.carry_out("On each machine of the Swarm make an image");
    cluster.carry_out("From now on service names work");
    leads_to_all(&cluster, 6);
    a_client_that_is_a_backend(&cluster);

    let mut conversation = Conversation::begin(&cluster);
    cluster.manager(&["service", "scale", "--detach", "web=9"]);
    leads_to_all(&cluster, 9);
    while_they_are_being_stopped(&cluster);
    without_the_agent(&cluster);
    conversation.goes_on();

    new_containers(&cluster);
    a_machine_dies(&cluster);

    cluster.carry_out("Remove the service. Containers keep");
    let probe = cluster.node("one").inspect("probe");
    let key = probe["NetworkSettings"]["SandboxKey"].as_str().expect("a sandbox");
    let tables = cluster.node("one").exec(&["nsenter", &format!("--net={key}"), "nft", "list", "tables"]).ok();
    assert!(!tables.contains("pontoon_vip"), "{tables}");
    assert_eq!(drawn(&cluster, "one", "probe", 1), BTreeSet::from(["failed".to_owned()]));
}

/// A task asks for its own service: itself is drawn as well.
fn a_client_that_is_a_backend(cluster: &Cluster) {
    for machine in ["two", "three"] {
        let listed = cluster.node(machine).docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=web"]);
        let task = listed.ok().lines().next().map(str::to_owned).expect("a task");
        leads(cluster, machine, &task, 6);
    }
}

/// A server that goes on serving to the end of its grace, as these do, gets nothing new from the
/// beginning of it.
fn while_they_are_being_stopped(cluster: &Cluster) {
    cluster.manager(&["service", "scale", "--detach", "web=2"]);
    leads_to_all(cluster, 2);
    let running: usize = ["one", "two", "three"].map(|machine| cluster.tasks_on(machine, "web")).iter().sum();
    assert!(running > 2, "all were gone before anything could be seen");
}

/// Killed on a machine: what is there stays, and the next one finds out what it missed.
fn without_the_agent(cluster: &Cluster) {
    let one = cluster.node("one");
    let agent = || one.docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=vips"]).ok();
    let before = agent();
    one.docker(&["kill", &before]).ok();
    cluster.manager(&["service", "scale", "--detach", "web=5"]);
    wait_until(SOON, "the agent to come back", || {
        let now = agent();
        !now.is_empty() && now != before
    });
    leads_to_all(cluster, 5);
}

/// Fresh ones, and one that starts again.
fn new_containers(cluster: &Cluster) {
    let two = cluster.node("two");
    for _ in 0..3 {
        let fetch = ["run", "--rm", "--network", "fleet", "busybox", "wget", "-q", "-T", "40", "-O", "-"];
        let said = two.docker(&[&fetch[..], &["http://web/hostname"]].concat());
        assert_eq!(said.ok().len(), 12);
    }
    cluster.node("one").docker(&["restart", "-t", "1", "probe"]).ok();
    leads_to_all(cluster, 5);
}

/// Its tasks are backends until the Swarm notices, and no longer.
fn a_machine_dies(cluster: &Cluster) {
    cluster.node("three").reboot_bare();
    wait_until(SOON, "nobody to be led to the dead machine", || {
        let alive = containers(cluster, &["one", "two"], None);
        let drawn = drawn(cluster, "one", "probe", DRAWS / 2);
        !drawn.is_empty() && drawn.is_subset(&alive)
    });
    cluster.revive("three", 3);
    cluster.manager(&["service", "scale", "--detach", "web=6"]);
    leads_to_all(cluster, 6);
}

/// One connection, over all that happens to others.
struct Conversation<'a> {
    cluster: &'a Cluster,
    said: String,
}

impl<'a> Conversation<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        let create = ["service", "create", "--detach", "--name", "echo", "--network", "fleet", "--replicas", "3"];
        cluster.manager(&[&create[..], &["busybox", "nc", "-ll", "-p", "7", "-e", "cat"]].concat());
        let mut conversation = Self { cluster, said: String::new() };
        wait_until(SOON, "a connection to stand", || {
            let talk = "rm -f /in; mkfifo /in && exec 3<>/in && exec nc echo 7 <&3 >/out";
            let probe = cluster.node("one");
            probe.docker(&["exec", "-d", "probe", "sh", "-c", talk]).ok();
            probe.exec_in("probe", &["sh", "-c", "sleep 0.5; netstat -tn | grep ':7 .*ESTABLISHED'"]).success()
        });
        conversation.goes_on();
        conversation
    }

    #[track_caller]
    fn goes_on(&mut self) {
        let word = format!("word{}", self.said.len());
        let probe = self.cluster.node("one");
        probe.exec_in("probe", &["sh", "-c", &format!("echo {word} >/in")]).ok();
        self.said += &format!("{word}\n");
        wait_until(SOON, "an answer on the old connection", || {
            probe.exec_in("probe", &["cat", "/out"]).ok() == self.said.trim_end()
        });
    }
}

/// From the container `probe`.
#[track_caller]
fn leads_to_all(cluster: &Cluster, count: usize) {
    leads(cluster, "one", "probe", count);
}

/// Waits until a container is led to all tasks of `web` that should run, and to no other.
#[track_caller]
fn leads(cluster: &Cluster, machine: &str, container: &str, count: usize) {
    let (mut wanted, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let complete = || {
        let list = ["service", "ps", "-q", "--no-trunc", "--filter", "desired-state=running", "web"];
        let tasks = cluster.manager(&list).lines().map(str::to_owned).collect();
        wanted = containers(cluster, &["one", "two", "three"], Some(&tasks));
        seen = drawn(cluster, machine, container, DRAWS);
        wanted.len() == count && seen == wanted
    };
    wait_until(SOON, &format!("{container} on {machine} to be led to all of {count} tasks"), complete);
    // That was the moment; and so it stays.
    let again = drawn(cluster, machine, container, DRAWS);
    assert!(again.is_subset(&wanted), "{container} on {machine} is led to {again:?}, which should be {wanted:?}");
}

/// Containers of `web` on these machines, of these tasks or of all.
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

/// Who answers at `web`, connection after connection; a container's hostname is its id.
fn drawn(cluster: &Cluster, machine: &str, container: &str, count: usize) -> BTreeSet<String> {
    let get = "wget -q -T 2 -O - http://web/hostname 2>/dev/null || echo failed";
    // After three failures there is no more to learn.
    let script = format!(
        "n=0; for i in $(seq {count}); do a=$({get}); echo $a; [ $a != failed ] || n=$((n + 1)); [ $n -lt 3 ] || break; done"
    );
    let output = cluster.node(machine).exec_in(container, &["sh", "-c", &script]);
    if output.success() { output.ok().lines().map(str::to_owned).collect() } else { BTreeSet::new() }
}
