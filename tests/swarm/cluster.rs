//! The cluster: three nodes with the managed plugin, made a Swarm with the commands of docs/swarm.md.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::consistency;
use crate::place::Places;
use crate::probe::Probes;
use crate::shuffle::Shuffle;
use testkit::{Node, Options, Output, Segment, Signal, wait_for, wait_until};

/// Deadline for what a Swarm does in the background.
pub const SOON: Duration = Duration::from_secs(120);

/// The registry's address on each machine.
pub const REGISTRY: &str = "127.0.0.1:5000";

const NAMES: [&str; 3] = ["one", "two", "three"];

pub struct Cluster {
    nodes: Vec<Node>,
    page: String,
    segment: Segment,
}

/// A running task: its node and address.
#[derive(Debug)]
pub struct Task {
    pub node: usize,
    pub container: String,
    pub address: String,
}

impl Cluster {
    /// Three nodes with the plugin, and a Swarm of them.
    pub fn up() -> Self {
        let cluster = Self::machines(3, &Options::new());
        cluster.carry_out("Install the plugin");
        cluster.carry_out("Make them a Swarm");
        cluster.ready(3);
        cluster
    }

    /// Plain engines, with Pontoon as a program.
    pub fn plain(count: u8) -> Self {
        let cluster = Self::machines(count, &Options::new());
        for node in &cluster.nodes {
            node.start_pontoon(&built("pontoon"), &[]);
        }
        cluster
    }

    /// Machines in the state that a page assumes: the plugin's directory exists, nothing else.
    pub fn machines(count: u8, options: &Options) -> Self {
        let segment = Segment::up();
        let nodes: Vec<Node> = (11..11 + count).map(|n| options.clone().uplink(&segment, n).up()).collect();
        let plugin = built("plugin");
        nodes.iter().for_each(|node| node.copy_in(&plugin, "plugin"));
        Self { nodes, page: page("swarm"), segment }
    }

    /// Continues with another page.
    pub fn open_page(&mut self, name: &str) {
        self.page = page(name);
    }

    /// The machines with their names on the pages.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Node)> {
        NAMES.into_iter().zip(&self.nodes)
    }

    pub fn node(&self, name: &str) -> &Node {
        let at = NAMES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no machine {name}"));
        &self.nodes[at]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The address at which the other nodes reach a node.
    pub fn address(&self, at: usize) -> String {
        format!("192.168.77.{}", 11 + at)
    }

    #[track_caller]
    pub fn node_id(&self, name: &str) -> String {
        self.node(name).docker(&["info", "--format", "{{.Swarm.NodeID}}"]).ok()
    }

    /// The log of a node's engine, which contains that of the plugin.
    pub fn log(&self, name: &str) -> String {
        let log = std::fs::read(self.node(name).shared().join("dockerd.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    #[track_caller]
    pub fn manager(&self, args: &[&str]) -> String {
        self.nodes[0].docker(args).ok()
    }

    /// Runs the commands of the page that follow a text, up to the end of their block.
    #[track_caller]
    pub fn carry_out(&self, after: &str) {
        let (_, rest) =
            self.page.split_once(&format!("\n{after}")).unwrap_or_else(|| panic!("no {after:?} on the page"));
        let block = rest.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
        for line in block.lines() {
            let (machine, command) = line.split_once("$ ").unwrap_or_else(|| panic!("{line:?} has no prompt"));
            let node = self.node(machine);
            let command = self.as_typed(node, command);
            let run = || node.exec(&["sh", "-c", &format!("cd /lab && {command}")]);
            // Commands that access a service are retried until it has started.
            if ["docker exec ", "docker compose exec ", "docker-compose exec ", "curl "]
                .iter()
                .any(|w| command.starts_with(w))
            {
                wait_until(SOON, line, || run().success());
            } else {
                run().ok();
            }
        }
    }

    /// Replaces the placeholders for token and registry, and the machine names of the page.
    fn as_typed(&self, node: &Node, command: &str) -> String {
        let mut command = command.replace("REGISTRY", REGISTRY);
        if command.starts_with("docker compose ") && !node.docker(&["compose", "version"]).success() {
            command = command.replacen("docker compose", "docker-compose", 1);
        }
        if command.contains("TOKEN") {
            command = command.replace("TOKEN", &self.manager(&["swarm", "join-token", "-q", "worker"]));
        }
        if let Some(of_node) = command.strip_prefix("docker node update ") {
            let name = of_node.split_whitespace().last().expect("a machine");
            command = command.replace(&format!(" {name}"), &format!(" {}", self.node_id(name)));
        }
        command
    }

    /// Waits until this number of nodes is ready.
    #[track_caller]
    pub fn ready(&self, count: usize) {
        // Managers that were partitioned may elect a leader several times.
        wait_until(SOON * 4, "all nodes to be ready", || self.are_ready(count));
    }

    fn are_ready(&self, count: usize) -> bool {
        let listed = self.nodes[0].docker(&["node", "ls", "--format", "{{.Status}}"]);
        listed.success() && listed.ok().lines().filter(|line| *line == "Ready").count() == count
    }

    /// Starts the engine of a node after a crash, and waits until all nodes are ready again.
    ///
    /// A manager may keep listing such a node as down after its registration: the end of the session from before the
    /// crash is processed later and wins. That happens between engines, without any plugin. Users then restart the
    /// engine, and so does this.
    #[track_caller]
    pub fn restart_engine(&self, name: &str, count: usize) {
        let node = self.node(name);
        node.revive_dockerd();
        let deadline = Instant::now() + SOON;
        while !self.are_ready(count) {
            if Instant::now() > deadline {
                // The engine considers itself active: only the manager's state is wrong.
                let state = node.docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]).ok();
                assert_eq!(state, "active", "the engine of {name}");
                eprintln!("{name} registered and is listed as down, its engine starts once more");
                node.stop_dockerd(Signal::Term);
                node.revive_dockerd();
                return self.ready(count);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until an update is complete.
    #[track_caller]
    pub fn wait_for_update(&self, service: &str, deadline: Duration) {
        let state = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
        wait_until(deadline, "the update to complete", || {
            let state = self.nodes[0].docker(&["service", "inspect", "--format", state, service]);
            state.success() && state.ok() == "completed"
        });
    }

    pub fn tasks(&self, service: &str, network: &str) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let filter = format!("label=com.docker.swarm.service.name={service}");
            let listed = node.docker(&["ps", "-q", "--filter", &filter]);
            if !listed.success() {
                continue;
            }
            for id in listed.ok().lines() {
                let format = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}} {{{{.State.Running}}}}");
                let seen = node.docker(&["inspect", "--format", &format, id]);
                if seen.success()
                    && let Some((address, "true")) = seen.ok().split_once(' ')
                {
                    tasks.push(Task { node: at, container: id.to_owned(), address: address.to_owned() });
                }
            }
        }
        tasks
    }

    pub fn tasks_on(&self, name: &str, service: &str) -> usize {
        self.tasks(service, "fleet").iter().filter(|task| NAMES[task.node] == name).count()
    }

    /// Whether a name resolves to all of these tasks for a task; otherwise, the answer.
    pub fn resolves(&self, asker: &Task, name: &str, tasks: &[Task]) -> Result<(), String> {
        let answer = self.nodes[asker.node].exec_in(&asker.container, &["nslookup", name]);
        let all = tasks.iter().all(|task| answer.stdout.contains(&task.address));
        if all { Ok(()) } else { Err(format!("{tasks:?}: {answer}")) }
    }

    /// Waits until exactly this number of tasks runs, and each container of the network got an answer from every other.
    #[track_caller]
    pub fn wait_until_all_reach_all(&self, service: &str, network: &str, count: usize, when: &str) {
        let (mut places, mut probes) = (Places::of(self, network), Probes::default());
        let mut seen = (0, Vec::new());
        let mut answered = || {
            let now = places.look();
            let tasks = now.iter().filter(|place| place.service.as_deref() == Some(service)).count();
            probes.follow(&now);
            probes.ask();
            seen = (tasks, probes.missing());
            let steady = seen.1.is_empty() && self.is_steady(service, count);
            if steady && tasks < count {
                self.replace_lost(&self.tasks(service, network));
            }
            steady && tasks == count
        };
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(SOON * 2, &format!("{count} tasks to reach each other {when}"), &mut answered);
        }));
        assert!(held.is_ok(), "{when}: {} tasks; not reached: {:#?}\n{}", seen.0, seen.1, self.forwarding());
    }

    /// Waits until all learned state about the containers of the only network is correct.
    #[track_caller]
    pub fn wait_for_consistency(&self, network: &str, what: &str) {
        let mut wrong = Vec::new();
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(SOON * 2, what, || {
                wrong = consistency::errors(self, &Places::of(self, network).look());
                wrong.is_empty()
            });
        }));
        assert!(held.is_ok(), "{what}: {wrong:#?}\n{}", self.forwarding());
    }

    /// Removes a network as soon as it is unused.
    #[track_caller]
    pub fn remove_network(&self, network: &str) {
        wait_until(SOON, &format!("{network} to be removed"), || {
            self.nodes[0].docker(&["network", "rm", network]).success()
        });
    }

    /// The value of a metric of the plugin on a node.
    pub fn metric(&self, at: usize, name: &str) -> Option<usize> {
        let ask = "curl -sf --unix-socket /run/docker/plugins/*/pontoon.sock http://pontoon/metrics";
        let answer = self.nodes[at].exec(&["sh", "-c", ask]);
        let line = answer.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }

    /// Sets a switch port `up` or `down`.
    #[track_caller]
    pub fn cable(&self, port: &str, way: &str) {
        self.segment.exec(&["ip", "link", "set", port, way]).ok();
    }

    /// Makes the switch drop this percentage of the packets between tunnels.
    #[track_caller]
    pub fn lose(&self, percent: u32) {
        let rules = format!(
            "add table bridge loss; delete table bridge loss; add table bridge loss; \
             add chain bridge loss forward {{ type filter hook forward priority 0; }}; \
             add rule bridge loss forward ip protocol udp udp dport 4789 numgen random mod 100 < {percent} drop"
        );
        self.segment.exec(&["nft", &rules]).ok();
    }

    /// Makes the switch reorder packets until the returned value is dropped.
    #[track_caller]
    pub fn shuffle(&self) -> Shuffle<'_> {
        Shuffle::begin(&self.segment, &[11, 12, 13])
    }

    /// Waits until exactly this number of tasks runs, then lets each fetch something from every other: only once, since
    /// a delay would mean that learned state was wrong.
    #[track_caller]
    pub fn all_reach_all(&self, service: &str, network: &str, count: usize) {
        let mut tasks = Vec::new();
        wait_until(SOON, &format!("{count} tasks to run"), || {
            tasks = self.tasks(service, network);
            let steady = tasks.len() == count && self.is_steady(service, count);
            if steady {
                self.replace_lost(&tasks);
            }
            steady && tasks.iter().all(|task| !task.address.is_empty())
        });
        for task in &tasks {
            let mut script = String::new();
            for other in &tasks {
                let get = format!("wget -T 3 -O /dev/null http://{}/hostname 2>&1", other.address);
                script += &format!("( said=$({get}) || echo {}: $said ) & ", other.address);
            }
            let failed = self.nodes[task.node].exec_in(&task.container, &["sh", "-c", &format!("{script} wait")]).ok();
            if !failed.is_empty() {
                let remembered = self.nodes[task.node].exec_in(&task.container, &["ip", "neigh"]);
                panic!("{task:?} does not reach {failed}\nof {tasks:#?}\n{remembered}\n{}", self.forwarding());
            }
        }
    }

    /// If an engine removes a network with the last task on its node while it starts the next task there, it retries
    /// that start (moby#25550), and may then run the container without the network, without calling any driver. Remove
    /// such a task, so that the Swarm replaces it.
    fn replace_lost(&self, tasks: &[Task]) {
        for task in tasks.iter().filter(|task| task.address.is_empty()) {
            eprintln!("the engine runs {} without its network", task.container);
            self.nodes[task.node].docker(&["rm", "-f", &task.container]).ok();
        }
    }

    /// Whether the manager sees the expected number of tasks, not counting a task that is about to be replaced.
    fn is_steady(&self, service: &str, count: usize) -> bool {
        let format = ["service", "ps", "--filter", "desired-state=running", "--format", "{{.CurrentState}}", service];
        let listed = self.nodes[0].docker(&format);
        let states = if listed.success() { listed.ok() } else { String::new() };
        states.lines().filter(|line| line.starts_with("Running")).count() == count && states.lines().count() == count
    }

    /// Waits until no task of a service runs.
    #[track_caller]
    pub fn gone(&self, service: &str) {
        wait_until(SOON, &format!("the tasks of {service} to end"), || self.tasks(service, "own").is_empty());
    }

    /// The forwarding tables of all machines, for a failure message.
    fn forwarding(&self) -> String {
        let show = "ip -br link | grep pnt; bridge fdb show | grep 'pnt.* \\(self\\|master\\)'; nft list set inet pontoon peers4; \
                    nft list chain inet pontoon input_filter; iptables -vnL FORWARD";
        let shown =
            self.nodes.iter().zip(NAMES).map(|(node, name)| format!("{name}: {}", node.exec(&["sh", "-c", show])));
        shown.collect::<Vec<_>>().join("\n")
    }

    /// The tunnels of a machine.
    pub fn tunnels(&self, name: &str) -> Vec<String> {
        links(self.node(name)).into_iter().filter(|link| link.starts_with("pntx")).collect()
    }

    /// Asserts that no link and no element of a network is left on any node.
    #[track_caller]
    pub fn nothing_left(&self) {
        for (node, name) in self.nodes.iter().zip(NAMES) {
            for log in ["dockerd.log", "pontoon.log"] {
                let log = std::fs::read(node.shared().join(log)).unwrap_or_default();
                assert!(
                    !String::from_utf8_lossy(&log).contains("cannot announce an endpoint:"),
                    "{name} cannot announce"
                );
            }
            let began = Instant::now();
            let left = wait_for(2 * SOON, "leftovers to be removed", || {
                let tunnels = node.exec(&["nft", "list", "set", "inet", "pontoon", "vnis"]).ok();
                let mut left = links(node);
                left.extend(tunnels.lines().filter(|line| line.contains("elements")).map(str::to_owned));
                (left.is_empty() || began.elapsed() > SOON).then_some(left)
            });
            assert_eq!(left, Vec::<String>::new(), "left on {name}");
        }
    }
}

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.md"))).unwrap()
}

/// The names of Pontoon's links.
pub fn links(node: &Node) -> Vec<String> {
    let listed: Output = node.exec(&["ip", "-o", "link", "show"]);
    let names = listed.ok();
    let names = names.lines().filter_map(|line| line.split(": ").nth(1));
    names.filter(|name| name.starts_with("pnt")).map(|name| name.split('@').next().unwrap().to_owned()).collect()
}

pub fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    assert!(path.exists(), "{} is missing: run make plugin", path.display());
    path
}
