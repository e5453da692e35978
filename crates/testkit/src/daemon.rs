//! The program in its own network namespace, over its Unix socket: for properties of the process, and of the real
//! kernel.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::poll::patient;

/// A running `pontoon serve`; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The socket on which it listens.
    pub socket: PathBuf,
    /// Its state directory.
    pub state: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in a new namespace and waits until it listens.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::start_by(dir, args, &["unshare", "--net"])
    }

    /// Starts it through `prefix` (a command that runs another one) and waits until it listens.
    pub fn start_by(dir: &Path, args: &[&str], prefix: &[&str]) -> Self {
        let mut daemon = Self::launch(dir, "pontoon", args, prefix);
        let socket = daemon.socket.clone();
        daemon.until("the daemon to answer", |_| answers(&socket).is_ok_and(|length| length > 0));
        daemon
    }

    /// Starts it through `prefix` (a command that runs another one) with files named after `name`, without waiting.
    pub fn launch(dir: &Path, name: &str, args: &[&str], prefix: &[&str]) -> Self {
        let (socket, state) = (dir.join(format!("{name}.sock")), dir.join(format!("{name}.state")));
        let log = dir.join(format!("{name}.log"));
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(prefix[0])
            .args(&prefix[1..])
            .arg(crate::program())
            .arg("serve")
            // Defaults only for options that `args` does not set.
            .args(if args.contains(&"--socket") { vec![] } else { vec!["--socket", socket.to_str().unwrap()] })
            .args(if args.contains(&"--state-dir") { vec![] } else { vec!["--state-dir", state.to_str().unwrap()] })
            .args(args)
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("unshare and nsenter are installed (util-linux)");
        Self { child, socket, state, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a condition, with a deadline; fails if the process ends first.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + patient(Duration::from_secs(20));
        while !holds(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "pontoon ended ({ended:?}) before {what}:\n{}", self.log());
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the process ends without a signal.
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + patient(Duration::from_secs(20));
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(Instant::now() < deadline, "it still runs:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A field of `/proc/PID/status` of the whole process.
    pub fn status(&self, field: &str) -> String {
        value(&fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap(), field)
    }

    /// A field of the status of every thread, except of threads that end meanwhile.
    pub fn of_threads(&self, field: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let texts = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        texts.map(|text| value(&text, field)).collect()
    }

    /// The number of its open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// A value in kB from its status.
    pub fn kilobytes(&self, field: &str) -> u64 {
        self.status(field).trim_end_matches(" kB").parse().unwrap()
    }

    /// Runs a shell command in its network namespace.
    pub fn shell(&self, script: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.pid());
        let output = Command::new("nsenter").args([&net, "sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a small request; the kernel accepts connections before the daemon does.
fn answers(socket: &Path) -> std::io::Result<usize> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patient(Duration::from_secs(20))))?;
    stream.write_all(b"GET /nothing HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)
}

/// A field of a status file in /proc.
fn value(text: &str, field: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}
