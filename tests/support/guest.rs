//! A guest: another kernel, for tests of what this machine's kernel does not have.
//!
//! The kernels are user-mode Linux, made by `make kernel`; the scripts are in `kernel` beside this file. A test that runs
//! in a guest reads as if it ran here:
//!
//! ```no_run
//! #[test]
//! fn a_bridge_filters_vlans() {
//!     in_guest(KERNEL, || { ... });
//! }
//! ```

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::command;

/// The kernel that has everything: see `kernel/kernel.config`.
pub const KERNEL: &str = "7.3";

/// Set where a test is on its kernel already, to the beginning of the kernel's release.
const INSIDE: &str = "PONTOON_GUEST";

/// How a guest is made.
#[derive(Clone, Debug)]
pub struct Guest {
    kernel: String,
    cpus: u32,
    memory: &'static str,
    deadline: Duration,
}

/// Runs a test on another kernel: see [`Guest::run`].
#[track_caller]
pub fn in_guest(kernel: &str, test: impl FnOnce()) {
    Guest::new(kernel).run(test);
}

impl Guest {
    pub fn new(kernel: &str) -> Self {
        Self { kernel: kernel.to_owned(), cpus: 2, memory: "2G", deadline: Duration::from_secs(300) }
    }

    /// Processors: 2 if nothing is said.
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// Memory, such as `4G`; the host pays for what is used.
    pub fn memory(self, memory: &'static str) -> Self {
        Self { memory, ..self }
    }

    /// When the guest is ended, and the test with it.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs a test on the guest's kernel: outside, this test alone is run again by its own binary in a guest, and passes
    /// or fails with it; inside, `test` is called. Panics if there is no such kernel.
    #[track_caller]
    pub fn run(&self, test: impl FnOnce()) {
        if let Ok(kernel) = env::var(INSIDE) {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
            assert!(!kernel.is_empty() && release.starts_with(&kernel), "{INSIDE}={kernel}, on {release}");
            return test();
        }
        // One after the other: guests that share the processors are many times slower.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = thread::current();
        let name = thread.name().filter(|name| *name != "main").expect("the thread of a test has its name");
        let test = env::current_exe().expect("the test's binary");
        let words = ["--exact", name, "--nocapture", "--include-ignored", "--test-threads=1"];
        let mut boot = self.boot();
        boot.arg("--").arg(test).args(words).env(INSIDE, &self.kernel);
        let output = command::run(boot, self.deadline + Duration::from_secs(60));
        print!("{}", output.stdout);
        eprint!("{}", output.stderr);
        assert!(output.success(), "{name} failed on kernel {}", self.kernel);
        assert!(output.stdout.contains("1 passed"), "{name} did not run on kernel {}", self.kernel);
    }

    /// The script that boots it; ` -- COMMAND` is to be added.
    pub fn boot(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kernel/boot");
        let mut boot = Command::new(script);
        boot.args([&self.kernel, "--memory", self.memory, "--cpus", &self.cpus.to_string()]);
        boot.args(["--timeout", &self.deadline.as_secs().to_string()]);
        boot
    }
}

/// Runs a command in a guest to its end.
pub fn run_in(guest: &Guest, words: &[&str]) -> command::Output {
    let mut boot = guest.boot();
    boot.arg("--").args(words);
    command::run(boot, guest.deadline + Duration::from_secs(60))
}
