//! Pontoon in a node: as a program on the host, or as a managed plugin.

use std::{fs, os::unix::net::UnixStream, path::Path, time::Duration};

use super::{
    node::{Node, Signal},
    poll,
};

/// The program's socket: the engine's name of the driver is `pontoon`.
pub const SOCKET: &str = "/run/docker/plugins/pontoon.sock";
/// The program's state directory, on the node's disk.
pub const STATE: &str = "/var/lib/pontoon";

const PID: &str = "/run/pontoon.pid";
const DEADLINE: Duration = Duration::from_secs(20);

impl Node {
    /// Starts `pontoon serve` in the node, and returns once it listens. Its log is `log_tail("pontoon")`.
    #[track_caller]
    pub fn start_pontoon(&self, binary: &Path, args: &[&str]) -> u32 {
        self.copy_in(binary, "pontoon");
        let script = format!(
            "mkdir -p /run/docker/plugins; setsid /lab/pontoon serve --socket {SOCKET} --state-dir {STATE} \"$@\" \
             </dev/null >>/lab/pontoon.log 2>&1 & echo $! >{PID}"
        );
        let mut shell = vec!["bash", "-c", &script, "pontoon"];
        shell.extend(args);
        self.exec(&shell).ok();
        poll::wait_until(DEADLINE, "pontoon to listen", || {
            assert!(self.pontoon_runs(), "pontoon ended:\n{}", self.log_tail("pontoon"));
            UnixStream::connect(self.path(SOCKET)).is_ok()
        });
        self.pontoon_pid().expect("it was just started")
    }

    /// Its process id in the node, while it runs.
    pub fn pontoon_pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.path(PID)).ok()?.trim().parse().ok()?;
        self.path(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// Whether the program runs in the node.
    pub fn pontoon_runs(&self) -> bool {
        self.pontoon_pid().is_some()
    }

    /// Ends the program and waits for its end; its socket file may stay, as after a crash.
    #[track_caller]
    pub fn kill_pontoon(&self, signal: Signal) {
        let pid = self.pontoon_pid().expect("pontoon runs").to_string();
        self.exec(&["kill", "-s", signal.name(), &pid]).ok();
        poll::wait_until(DEADLINE, "the end of pontoon", || !self.pontoon_runs());
    }

    /// Installs and enables a managed plugin from its directory (`config.json` and `rootfs/`); returns the driver's
    /// name. The engine gives a plugin about ten seconds to listen. In an emulated machine the first start takes longer
    /// than that, because it loads the kernel's modules: there the plugin is enabled once more, which finds them loaded.
    #[track_caller]
    pub fn install_plugin(&self, dir: &Path) -> String {
        self.create_plugin(dir);
        let enable = || self.docker(&["plugin", "enable", "pontoon"]);
        let mut enabled = enable();
        if !enabled.success() && poll::is_patient() {
            eprintln!("enabled once more: {enabled}");
            enabled = enable();
        }
        enabled.ok();
        "pontoon:latest".to_owned()
    }

    /// The first half of [`Node::install_plugin`]: the plugin can be configured before it is enabled.
    #[track_caller]
    pub fn create_plugin(&self, dir: &Path) {
        self.copy_in(dir, "plugin");
        self.docker(&["plugin", "create", "pontoon", "/lab/plugin"]).ok();
    }
}
