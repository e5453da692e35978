//! Commands in the namespaces of a node, and of a container in it.
//!
//! A test runs hundreds of commands. The lab's script costs 13 ms of the processor for each, and `docker exec` more than
//! 100 ms (the client, the engine, containerd, and runc three times); entering the namespaces costs 3 ms.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// The environment of a command in a node, as `lab exec` has it.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
];

const NAMESPACES: [&str; 7] = ["--mount", "--net", "--pid", "--uts", "--ipc", "--root", "--wd"];

/// A command in all namespaces of a process: of a node, or of a container if the process is one of the node that
/// `nsenter` runs in.
fn entering(process: &str) -> Vec<&str> {
    let mut words = vec!["nsenter", "-t", process];
    words.extend(NAMESPACES);
    words.push("--");
    words
}

/// The namespaces of a node, whose directory has its files.
#[derive(Debug)]
pub(super) struct Entrance {
    dir: PathBuf,
    /// The first process of each container that was entered, with the container's identifier, by name.
    containers: Mutex<HashMap<String, (String, String)>>,
}

impl Entrance {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), containers: Mutex::default() }
    }

    /// The node's first process as this machine numbers it. None if the node is off.
    fn holder(&self) -> Option<String> {
        let holder = fs::read_to_string(self.dir.join("holder")).ok()?;
        Some(holder.trim().to_owned()).filter(|holder| !holder.is_empty())
    }

    /// The path on this machine of a path in the node; also for sockets, whatever the length of the path.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.holder().unwrap_or_default()))
    }

    /// A command in the node. None if it is off.
    pub(super) fn command(&self, args: &[&str]) -> Option<Command> {
        let holder = self.holder()?;
        let words = entering(&holder);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args).env_clear().envs(ENVIRONMENT);
        Some(command)
    }

    /// A command in a container that runs. `ask` asks the engine for its identifier and its first process, separated by
    /// a space. None if it does not run: the engine has the words for that.
    pub(super) fn in_container(
        &self,
        name: &str,
        args: &[&str],
        ask: impl FnOnce() -> Option<String>,
    ) -> Option<Command> {
        let known = self.containers.lock().ok()?.get(name).cloned();
        let process = match known.filter(|(id, process)| self.belongs(id, process)) {
            Some((_, process)) => process,
            None => {
                let answer = ask()?;
                let (id, process) = answer.split_once(' ')?;
                if !self.belongs(id, process) {
                    return None;
                }
                self.containers.lock().ok()?.insert(name.to_owned(), (id.to_owned(), process.to_owned()));
                process.to_owned()
            }
        };
        let mut words = entering(&process);
        words.extend(args);
        self.command(&words)
    }

    /// Whether a process of the node runs in this container: its number is another's after a reboot.
    fn belongs(&self, id: &str, process: &str) -> bool {
        let groups = fs::read_to_string(self.path(&format!("/proc/{process}/cgroup"))).unwrap_or_default();
        process != "0" && !id.is_empty() && groups.contains(id)
    }
}
