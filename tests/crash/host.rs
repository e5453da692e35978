//! A host: a network namespace, a state directory, a plugin socket, and Pontoon.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

use super::tracer::{Process, Script};

/// Longest time from the start of Pontoon until it serves.
const START: Duration = Duration::from_secs(60);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A network namespace; it is removed with the last link or process in it.
pub struct Netns(File);

impl Netns {
    pub fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
            let netns = Self(File::open("/proc/thread-self/ns/net").unwrap());
            netns.run(&["ip", "link", "set", "lo", "up"]);
            netns
        });
        made.join().expect("a network namespace")
    }

    /// A namespace for a container on an IPv4 network: with IPv6 off, as the engine does. A thousand links that
    /// announce themselves would overflow the kernel's queues.
    pub fn sandbox() -> Self {
        let netns = Self::new();
        for which in ["all", "default"] {
            let setting = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            netns.enter(|| fs::write(setting, "1")).expect("root may");
        }
        netns
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Runs a closure in the namespace, on its own thread.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.fd(), CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn output(&self, command: &[&str]) -> Output {
        let fd = self.0.as_raw_fd();
        let mut run = Command::new(command[0]);
        run.args(&command[1..]).stdin(Stdio::null());
        // SAFETY: one system call between fork and exec; the descriptor is open.
        unsafe {
            run.pre_exec(move || Ok(setns(BorrowedFd::borrow_raw(fd), CloneFlags::CLONE_NEWNET)?));
        }
        run.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs a command that must succeed and returns what it printed.
    pub fn run(&self, command: &[&str]) -> String {
        let output = self.output(command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs several `ip` commands, one a line.
    pub fn ip(&self, lines: &str) {
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
            self.run(&words);
        }
    }
}

/// The paths of a host's Pontoon.
#[derive(Debug, Clone)]
pub struct Paths {
    pub root: PathBuf,
    pub state: PathBuf,
    pub sockets: PathBuf,
}

impl Paths {
    pub fn socket(&self) -> PathBuf {
        self.sockets.join("pontoon.sock")
    }
    pub fn ledger(&self) -> PathBuf {
        self.state.join("ledger")
    }
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }
}

/// See the module documentation.
pub struct Host {
    pub netns: Netns,
    /// Another host, on the same wire.
    pub outside: Netns,
    pub paths: Paths,
    life: Mutex<Option<Process>>,
}

impl Host {
    pub fn new() -> Self {
        let name = format!("pontoon-crash-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        // Not on a disk: the tests are about kernel state, and a sync is free here.
        let base = if fs::metadata("/dev/shm").is_ok() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let root = base.join(name);
        let paths = Paths { state: root.join("state"), sockets: root.join("run"), root };
        fs::create_dir_all(&paths.root).unwrap();
        Self { netns: Netns::new(), outside: Netns::new(), paths, life: Mutex::new(None) }
    }

    /// The same disk after a power cut: the kernel state is empty.
    pub fn cut_power(&mut self) {
        self.kill();
        self.netns = Netns::new();
    }

    /// Starts Pontoon; `None` runs untraced. Does not wait.
    pub fn begin(&self, script: Option<Box<dyn Script>>) {
        let mut life = self.life.lock().unwrap();
        assert!(life.as_ref().is_none_or(Process::has_ended), "it runs already");
        *life = Some(Process::begin(self.command(), self.netns.0.as_raw_fd(), self.paths.clone(), script));
    }

    /// The command line of Pontoon on this host.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        let log = File::options().create(true).append(true).open(self.paths.log()).unwrap();
        command.arg("serve").arg("--socket").arg(self.paths.socket()).arg("--state-dir").arg(&self.paths.state);
        // The link to other hosts, where there is a wire.
        command.env("PONTOON_DATA_PATH", "wire0");
        command.env("PONTOON_LOG", std::env::var("CRASH_LOG").unwrap_or("warn".to_owned()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Waits until it serves; false if it ended before.
    pub fn serves(&self) -> bool {
        let deadline = Instant::now() + START;
        loop {
            if UnixStream::connect(self.paths.socket()).is_ok() {
                return true;
            }
            if self.has_ended() {
                return false;
            }
            assert!(Instant::now() < deadline, "Pontoon does not serve:\n{}", self.log());
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Starts it untraced and waits until it serves.
    #[track_caller]
    pub fn start(&self) {
        self.begin(None);
        assert!(self.serves(), "Pontoon ended:\n{}", self.log());
    }

    pub fn has_ended(&self) -> bool {
        self.life.lock().unwrap().as_ref().is_none_or(Process::has_ended)
    }

    /// Waits for the end of a process that the tracer killed.
    pub fn reap(&self) {
        let life = self.life.lock().unwrap().take();
        if let Some(life) = life {
            life.end();
        }
    }

    /// kill -9, then waits for its end.
    pub fn kill(&self) {
        let life = self.life.lock().unwrap().take();
        if let Some(life) = life {
            life.kill();
        }
    }

    pub fn pid(&self) -> Option<i32> {
        self.life.lock().unwrap().as_ref().map(|life| life.pid.as_raw())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.paths.log()).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.paths.root);
        }
    }
}

/// The program under test: that of this build, or `PONTOON_BINARY`.
pub fn binary() -> PathBuf {
    std::env::var_os("PONTOON_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_pontoon").into(), PathBuf::from)
}
