//! A segment: a switch that connects nodes.

use std::{
    fs,
    path::PathBuf,
    process::{self, ChildStdin},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::command;

/// A switch. It has addresses itself: 192.168.77.254 and fd77::ffff.
#[derive(Debug)]
pub struct Segment {
    name: String,
    _tether: ChildStdin,
}

impl Segment {
    /// A new switch.
    #[track_caller]
    pub fn up() -> Self {
        let name = unique("s");
        let (output, tether) =
            command::run_tethered(command::lab(["switch", "up", &name, "--tether"]), Duration::from_secs(30));
        output.ok();
        Self { name, _tether: tether.expect("standard input is piped") }
    }

    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The switch's network namespace.
    pub fn netns(&self) -> PathBuf {
        let dir = command::run(command::lab(["path", &self.name]), Duration::from_secs(30)).ok();
        let keeper = fs::read_to_string(PathBuf::from(dir).join("keeper")).expect("the switch is up");
        PathBuf::from(format!("/proc/{}/ns/net", keeper.trim()))
    }

    /// Runs a command of this machine in the switch's network namespace, where a node's cable is `portN`.
    pub fn exec(&self, command: &[&str]) -> command::Output {
        let mut exec = command::lab(["exec", &self.name]);
        exec.args(command);
        command::run(exec, Duration::from_secs(30))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        command::run(command::lab(["switch", "down", &self.name]), Duration::from_secs(30));
    }
}

/// A name that is unique across tests, in this process and in others.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
