//! A guest: another kernel, for tests of features that this machine's kernel does not have.
//!
//! The kernels are user-mode Linux, built by `make kernel`; the scripts are in `kernel` in this crate's directory.
//!
//! Tests of a binary share one boot ([`in_guest`]): the first one runs all of them in a guest, and each takes its own
//! result. cargo test runs them in one process, cargo-nextest each in its own: there the results are in a file beside
//! the binary.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};

use super::command;

/// The kernel with all features: see `kernel/kernel.config`.
pub const KERNEL: &str = "7.3";

/// Set if a test already runs on its kernel, to the beginning of the kernel's release.
const INSIDE: &str = "PONTOON_GUEST";

/// One guest at a time: guests that share the processors are many times slower.
static TURN: Mutex<()> = Mutex::new(());

/// The configuration of a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    kernel: String,
    cpus: u32,
    memory: &'static str,
    deadline: Duration,
}

/// The module of tests that boot guests themselves, which a shared boot skips.
const BOOTING: &str = "boot::";

/// Enough for the engines and all tests of a binary.
const SHARED_MEMORY: &str = "6G";
const SHARED_DEADLINE: Duration = Duration::from_secs(1200);

/// Runs a test on another kernel, in a guest that it shares with the other tests of its binary: they run in parallel
/// there, so each needs its own namespaces. A test that needs its own guest calls [`Guest::run`], in a module `boot`.
/// With a filter (`cargo test --test kernels filter::`) only the selected tests run. Panics if the test fails there, or
/// if the kernel is missing. The body of a test is written as if it ran here:
///
/// ```no_run
/// use testkit::{KERNEL, in_guest};
///
/// in_guest(KERNEL, || {
///     let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
///     assert!(release.starts_with(KERNEL));
/// });
/// ```
#[track_caller]
pub fn in_guest(kernel: &str, test: impl FnOnce()) {
    if is_inside() {
        return test();
    }
    // nextest runs a failed test again: by itself, for the report would be the same.
    if env::var("NEXTEST_ATTEMPT").is_ok_and(|attempt| attempt != "1") {
        return Guest::new(kernel).memory(SHARED_MEMORY).deadline(SHARED_DEADLINE).run(test);
    }
    let name = test_name();
    let report = match env::var("NEXTEST_RUN_ID") {
        Ok(run) => shared_by_processes(kernel, &run),
        Err(_) => shared_in_process(kernel).to_owned(),
    };
    let lines = |end: &str| report.lines().any(|line| line == format!("test {name} ... {end}"));
    if lines("ok") {
        return;
    }
    let heading = format!("---- {name} stdout ----");
    let own = report.split_once(&heading).map(|(_, after)| after.split("\n---- ").next().unwrap_or_default());
    eprintln!("{}", own.unwrap_or(&report));
    assert!(lines("FAILED"), "{name} did not run to its end on kernel {kernel}");
    panic!("{name} failed on kernel {kernel}");
}

/// The report of the shared boot with the tests that this process was asked to run.
fn shared_in_process(kernel: &str) -> &'static str {
    static REPORT: OnceLock<String> = OnceLock::new();
    REPORT.get_or_init(|| shared_boot(kernel, env::args().skip(1)))
}

/// The report of the shared boot in a run of cargo-nextest, which does not tell a test the other selected ones: it
/// contains all.
fn shared_by_processes(kernel: &str, run: &str) -> String {
    let path = PathBuf::from(format!("{}.guest", env::current_exe().expect("the test's binary").display()));
    let file = File::options().create(true).append(true).open(&path).expect("a file beside the test's binary");
    let _lock = Flock::lock(file, FlockArg::LockExclusive).expect("a lock on the report");
    let written = fs::read_to_string(&path).unwrap_or_default();
    if let Some((_, report)) = written.split_once('\n').filter(|(first, _)| *first == format!("{run} {kernel}")) {
        return report.to_owned();
    }
    let report = shared_boot(kernel, std::iter::empty());
    fs::write(&path, format!("{run} {kernel}\n{report}")).expect("the report is written");
    report
}

fn shared_boot(kernel: &str, args: impl Iterator<Item = String>) -> String {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let guest = Guest::new(kernel).memory(SHARED_MEMORY).deadline(SHARED_DEADLINE);
    let mut boot = guest.boot();
    // Output within a line of the report would make it unreadable.
    let args = args.filter(|arg| arg != "--nocapture");
    boot.arg("--").arg(env::current_exe().expect("the test's binary")).args(args).args(["--skip", BOOTING]);
    // Tests that share an engine wait for each other.
    boot.env(INSIDE, kernel).env("RUST_TEST_THREADS", "4").env_remove("NEXTEST_RUN_ID");
    let output = command::run(boot, guest.deadline + Duration::from_secs(60));
    format!("{}\n{}", output.stdout, output.stderr)
}

/// Whether this process runs on the kernel of a guest. Panics if it should, but runs on another one.
fn is_inside() -> bool {
    let Ok(kernel) = env::var(INSIDE) else { return false };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    assert!(!kernel.is_empty() && release.starts_with(&kernel), "{INSIDE}={kernel}, on {release}");
    true
}

/// The name of the calling test, taken from its thread.
fn test_name() -> String {
    let thread = thread::current();
    thread.name().filter(|name| *name != "main").expect("the thread of a test has its name").to_owned()
}

impl Guest {
    /// A guest with this kernel: 2 processors, 2 GiB of memory, 300 seconds.
    pub fn new(kernel: &str) -> Self {
        Self { kernel: kernel.to_owned(), cpus: 2, memory: "2G", deadline: Duration::from_secs(300) }
    }

    /// The number of processors; 2 by default.
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// Memory, such as `4G`; the host provides only what is used.
    pub fn memory(self, memory: &'static str) -> Self {
        Self { memory, ..self }
    }

    /// The time after which the guest is ended, and the test fails.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs a test in its own guest: outside, only this test is run again by its own binary in a guest, and passes or
    /// fails with it; inside, `test` is called. Panics if the kernel is missing.
    #[track_caller]
    pub fn run(&self, test: impl FnOnce()) {
        if is_inside() {
            return test();
        }
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &test_name();
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

    /// The script that boots it; append ` -- COMMAND`.
    pub fn boot(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel/boot");
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
