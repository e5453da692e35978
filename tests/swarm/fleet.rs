//! The fleet: three nodes with the managed plugin, made a Swarm by the commands of docs/swarm.md.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Node, Options, Output, Segment, wait_until};

/// For what a Swarm does by itself.
const SOON: Duration = Duration::from_secs(40);

const NAMES: [&str; 3] = ["one", "two", "three"];

pub struct Fleet {
    nodes: Vec<Node>,
    page: String,
    _segment: Segment,
}

/// A running task: on which node, and where it is reached.
#[derive(Debug)]
pub struct Task {
    node: usize,
    container: String,
    address: String,
}

impl Fleet {
    /// Three nodes, the plugin on each, and a Swarm of them.
    pub fn up() -> Self {
        let segment = Segment::up();
        let nodes: Vec<Node> = (11..14).map(|n| Options::new().uplink(&segment, n).up()).collect();
        let plugin = built("plugin");
        nodes.iter().for_each(|node| node.copy_in(&plugin, "plugin"));
        let fleet = Self { nodes, page: page("swarm.md"), _segment: segment };
        fleet.carry_out("Install the plugin");
        fleet.carry_out("Make them a Swarm");
        fleet.ready(3);
        fleet
    }

    /// Plain engines, with Pontoon as a program.
    pub fn plain(count: u8) -> Self {
        let segment = Segment::up();
        let nodes: Vec<Node> = (11..11 + count).map(|n| Options::new().uplink(&segment, n).up()).collect();
        for node in &nodes {
            node.start_pontoon(&built("pontoon"), &[]);
        }
        Self { nodes, page: page("swarm.md"), _segment: segment }
    }

    pub fn node(&self, name: &str) -> &Node {
        let at = NAMES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no machine {name}"));
        &self.nodes[at]
    }

    #[track_caller]
    pub fn manager(&self, args: &[&str]) -> String {
        self.nodes[0].docker(args).ok()
    }

    /// Carries out the commands of the page that follow a text, up to the end of their block.
    #[track_caller]
    pub fn carry_out(&self, after: &str) {
        self.carry_out_of(&self.page, after);
    }

    /// The same with another page.
    #[track_caller]
    pub fn carry_out_of(&self, page: &str, after: &str) {
        let (_, rest) = page.split_once(&format!("\n{after}")).unwrap_or_else(|| panic!("no {after:?} on the page"));
        let block = rest.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
        for line in block.lines() {
            let (machine, command) = line.split_once("$ ").unwrap_or_else(|| panic!("{line:?} has no prompt"));
            let node = self.node(machine);
            let command = self.as_typed(command);
            let run = || node.exec(&["sh", "-c", &format!("cd /lab && {command}")]);
            // What looks at a service waits until that has started.
            if command.starts_with("docker exec ") {
                wait_until(SOON, line, || run().success());
            } else {
                run().ok();
            }
        }
    }

    /// The reader puts in the token; and machines are called by their names there.
    fn as_typed(&self, command: &str) -> String {
        let mut command = command.to_owned();
        if command.contains("TOKEN") {
            command = command.replace("TOKEN", &self.manager(&["swarm", "join-token", "-q", "worker"]));
        }
        if let Some(of_node) = command.strip_prefix("docker node update ") {
            let name = of_node.split_whitespace().last().expect("a machine");
            let id = self.node(name).docker(&["info", "--format", "{{.Swarm.NodeID}}"]).ok();
            command = command.replace(&format!(" {name}"), &format!(" {id}"));
        }
        command
    }

    /// Waits until so many nodes are ready.
    #[track_caller]
    pub fn ready(&self, count: usize) {
        let ready = || {
            let listed = self.nodes[0].docker(&["node", "ls", "--format", "{{.Status}}"]);
            listed.success() && listed.ok().lines().filter(|line| *line == "Ready").count() == count
        };
        wait_until(SOON, "all nodes to be ready", ready);
    }

    /// Waits until an update is over.
    #[track_caller]
    pub fn settled(&self, service: &str, deadline: Duration) {
        let state = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
        wait_until(deadline, "the update to complete", || {
            let state = self.nodes[0].docker(&["service", "inspect", "--format", state, service]);
            state.success() && state.ok() == "completed"
        });
    }

    fn tasks(&self, service: &str, network: &str) -> Vec<Task> {
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

    /// Waits until so many tasks run and no other, then has each fetch something from every other:
    /// once, because what is only slow to be found was remembered wrongly.
    #[track_caller]
    pub fn all_reach_all(&self, service: &str, network: &str, count: usize) {
        let mut tasks = Vec::new();
        wait_until(SOON, &format!("{count} tasks to run"), || {
            tasks = self.tasks(service, network);
            tasks.len() == count && self.is_steady(service, count)
        });
        for task in &tasks {
            let mut script = String::new();
            for other in &tasks {
                let get = format!("wget -q -T 3 -O - http://{}/hostname >/dev/null 2>&1", other.address);
                script += &format!("( {get} || echo {} ) & ", other.address);
            }
            let failed = self.nodes[task.node].exec_in(&task.container, &["sh", "-c", &format!("{script} wait")]).ok();
            assert_eq!(failed, "", "{task:?} does not reach these of {tasks:#?}");
        }
    }

    /// Whether the manager sees what should be: a task that is about to be replaced is none.
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

    /// Tunnels of a machine.
    pub fn tunnels(&self, name: &str) -> Vec<String> {
        links(self.node(name)).into_iter().filter(|link| link.starts_with("pntx")).collect()
    }

    /// No link and no element of a network is left on any node.
    #[track_caller]
    pub fn nothing_left(&self) {
        for (node, name) in self.nodes.iter().zip(NAMES) {
            for log in ["dockerd.log", "pontoon.log"] {
                let log = std::fs::read(node.shared().join(log)).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&log).contains("was not announced"), "{name} cannot announce");
            }
            wait_until(SOON, &format!("nothing to be left on {name}"), || {
                let tunnels = node.exec(&["nft", "list", "set", "inet", "pontoon", "vnis"]);
                links(node).is_empty() && !tunnels.ok().contains("elements")
            });
        }
    }
}

pub fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// Names of Pontoon's links.
fn links(node: &Node) -> Vec<String> {
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
