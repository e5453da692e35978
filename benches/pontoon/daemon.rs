//! A Pontoon process in the caller's network namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;

pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
    /// From the start of the process to the first accepted connection.
    pub listening_after: Duration,
}

impl Daemon {
    /// The state directory outlives the process: a second start restores it.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with more arguments.
    pub fn start_with(dir: &Path, args: &[&str]) -> Self {
        std::fs::create_dir_all(dir).expect("a directory");
        let socket = dir.join("pontoon.sock");
        let _ = std::fs::remove_file(&socket);
        let log = std::fs::File::create(dir.join("log")).expect("a log");
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_pontoon"))
            .args(["serve", "--log", "warn", "--socket"])
            .arg(&socket)
            .arg("--state-dir")
            .arg(dir.join("state"))
            .args(args)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        let mut daemon = Self { child, socket, listening_after: Duration::ZERO };
        while Client::connect(&daemon.socket).is_err() {
            let ended = daemon.child.try_wait().expect("a child").is_some();
            if ended || began.elapsed() > Duration::from_secs(30) {
                panic!("no daemon: {}", std::fs::read_to_string(dir.join("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        daemon.listening_after = began.elapsed();
        daemon
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket).expect("the daemon listens")
    }

    /// Resident memory in kilobytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Kills the process, as in a crash, without any cleanup. Returns how long its end took: the kernel closes its
    /// files and sockets.
    pub fn kill(mut self) -> Duration {
        let began = Instant::now();
        let _ = self.child.kill();
        let _ = self.child.wait();
        began.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for one benchmark, removed at its end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pontoon-bench-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
