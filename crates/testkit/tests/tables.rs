//! The scripts that run suites for hours, `kernel/matrix` and `kernel/night`, on stand-ins for cargo and make: what
//! fails is seen and does not end the run, and what passed is not repeated.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::harness::Dir;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A script in the directory.
fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs a script of `kernel/`; returns whether it succeeded, its output and its errors.
fn run(name: &str, args: &[&str], environment: &[(&str, &str)]) -> (bool, String, String) {
    let mut command = Command::new(root().join("crates/testkit/kernel").join(name));
    for inherited in ["PONTOON_RESUME", "PONTOON_SUITES", "PONTOON_STEPS", "PONTOON_DOCKERD", "KERNELS", "SUITES"] {
        command.env_remove(inherited);
    }
    let output = command.args(args).envs(environment.iter().copied()).output().expect("bash");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Test binaries of two suites, and a cargo that has built them.
struct Suites(Dir);

impl Suites {
    fn new() -> Self {
        let dir = Dir::new();
        let built = |kind: &str, name: &str| {
            format!(
                r#"echo '{{"executable":"{}/{name}","target":{{"kind":["{kind}"],"name":"{name}"}}}}'"#,
                dir.0.display()
            )
        };
        let lines = [built("test", "contract"), built("test", "netns_linux"), built("bin", "pontoon")];
        script(&dir.0, "cargo", &lines.join("\n"));
        script(&dir.0, "pontoon", "exit 0");
        let suites = Self(dir);
        suites.set("contract", "test one ... ok\ntest two ... ok", 0);
        suites.set("netns_linux", "test three ... ok", 0);
        suites
    }

    /// What a binary prints before the summary, and its exit status.
    fn set(&self, name: &str, tests: &str, status: i32) {
        let body = format!("echo run >>{0}/{name}.runs\ncat <<END\n{tests}\ntest result: some\nEND\nexit {status}", {
            self.0.0.display()
        });
        script(&self.0.0, name, &body);
    }

    /// How often it ran.
    fn runs(&self, name: &str) -> usize {
        fs::read_to_string(self.0.0.join(format!("{name}.runs"))).map_or(0, |text| text.lines().count())
    }

    /// Runs the table of both suites on this kernel.
    fn table(&self, more: &[(&str, &str)]) -> (bool, String) {
        let (cargo, logs) = (self.0.0.join("cargo"), self.0.0.join("logs"));
        let mut environment = vec![
            ("CARGO", cargo.to_str().unwrap()),
            ("PONTOON_MATRIX_LOGS", logs.to_str().unwrap()),
            ("PONTOON_SUITES", "contract overlay"),
        ];
        environment.extend(more);
        let (success, output, errors) = run("matrix", &["native"], &environment);
        assert!(output.starts_with("kernel"), "no table: {output}{errors}");
        (success, output)
    }

    fn results(&self) -> String {
        run("matrix", &["--results"], &[("PONTOON_MATRIX_LOGS", self.0.0.join("logs").to_str().unwrap())]).1
    }
}

#[test]
fn a_failed_cell_fails_the_table_and_the_others_are_filled() {
    let suites = Suites::new();
    let (success, table) = suites.table(&[]);
    assert!(success && table.contains("2 ok ") && table.contains("1 ok "), "{table}");
    suites.set("contract", "test one ... ok\ntest two ... FAILED", 101);
    let (success, table) = suites.table(&[]);
    assert!(!success && table.contains("1 ok, 1 FAILED ") && table.contains("1 ok "), "{table}");
    suites.set("contract", "test one ... FAILED", 101);
    let (success, table) = suites.table(&[]);
    assert!(!success && table.contains("0 ok, 1 FAILED "), "{table}");
    // A filter that selects no test, and a program that does not start its tests, are failures.
    suites.set("contract", "", 0);
    let (success, table) = suites.table(&[]);
    assert!(!success && table.contains("none ran"), "{table}");
    script(&suites.0.0, "contract", "exit 127");
    let (success, table) = suites.table(&[]);
    assert!(!success && table.contains("broken(127)"), "{table}");
    let results = suites.results();
    assert!(results.contains("| contract | overlay |") && results.contains("broken(127) | 1 ok "), "{results}");
}

#[test]
fn a_cell_that_does_not_end_is_ended_and_says_how_far_it_came() {
    let suites = Suites::new();
    script(&suites.0.0, "contract", "echo 'test one ... ok'\nexec sleep 1000");
    let (success, table) = suites.table(&[("PONTOON_CELL_SECONDS", "1")]);
    assert!(!success && table.contains("1 ok, not ended after ") && table.lines().count() == 2, "{table}");
    assert_eq!(suites.runs("netns_linux"), 1, "the next cell");
}

#[test]
fn a_resumed_table_repeats_what_failed_and_what_changed() {
    let suites = Suites::new();
    suites.set("contract", "test one ... ok\ntest two ... FAILED", 101);
    let resume = [("PONTOON_RESUME", "1")];
    assert!(!suites.table(&resume).0);
    assert!(!suites.table(&resume).0);
    assert_eq!((suites.runs("contract"), suites.runs("netns_linux")), (2, 1));
    // Mended: another program.
    suites.set("contract", "test one ... ok\ntest two ... ok", 0);
    let (success, table) = suites.table(&resume);
    assert!(success && table.contains("2 ok ") && table.contains("1 ok "), "{table}");
    assert!(suites.table(&resume).0);
    assert_eq!((suites.runs("contract"), suites.runs("netns_linux")), (3, 1));
    // A program that passed and was changed since is run again.
    suites.set("contract", "test one ... FAILED", 101);
    assert!(!suites.table(&resume).0);
    assert_eq!((suites.runs("contract"), suites.runs("netns_linux")), (4, 1));
    suites.set("contract", "test one ... ok", 0);
    // Without the request everything runs.
    assert!(suites.table(&[]).0);
    assert_eq!((suites.runs("contract"), suites.runs("netns_linux")), (5, 2));
}

#[test]
fn a_kernel_that_cannot_be_made_fails_the_table_and_the_next_one_runs() {
    let suites = Suites::new();
    let (cargo, logs) = (suites.0.0.join("cargo"), suites.0.0.join("logs"));
    let environment = [
        ("CARGO", cargo.to_str().unwrap()),
        ("PONTOON_MATRIX_LOGS", logs.to_str().unwrap()),
        ("PONTOON_SUITES", "contract"),
    ];
    let (success, table, errors) = run("matrix", &["amiga:1.3", "native"], &environment);
    assert!(!success && table.contains("no kernel") && table.contains("2 ok "), "{table}{errors}");
    assert!(errors.contains("no such kernel: amiga:1.3"), "{errors}");
    let (success, _, errors) =
        run("matrix", &["native"], &[&environment[..2], &[("PONTOON_SUITES", "wrong")]].concat());
    assert!(!success && errors.contains("no suite wrong"), "{errors}");
}

/// Runs the steps `test`, `engines` and `crash` of the night with a make that fails in the targets of the second argument.
fn night(dir: &Dir, fail: &str, more: &[(&str, &str)]) -> (bool, String) {
    let body = format!("echo $1 >>{}/made\ncase ' {fail} ' in *\" $1 \"*) exit 2 ;; esac", dir.0.display());
    script(&dir.0, "make", &body);
    let path = format!("{}:{}", dir.0.display(), std::env::var("PATH").unwrap());
    let logs = dir.0.join("night");
    let mut environment = vec![
        ("PATH", path.as_str()),
        ("PONTOON_NIGHT_LOGS", logs.to_str().unwrap()),
        ("PONTOON_STEPS", "test engines nftables crash"),
    ];
    environment.extend(more);
    let (success, output, _) = run("night", &[], &environment);
    (success, output)
}

#[test]
fn a_failed_step_fails_the_night_and_the_others_run() {
    let dir = Dir::new();
    let (success, output) = night(&dir, "test", &[]);
    let made = || fs::read_to_string(dir.0.join("made")).unwrap();
    assert_eq!(made(), "test\ntest-engines\ncrash\n");
    assert!(!success && output.contains("FAILED, see") && output.contains("not run: set PONTOON_DOCKERD"), "{output}");
    assert_eq!(output.lines().filter(|line| line.ends_with(" s  ok")).count(), 2, "{output}");

    // Resumed, only what failed runs again; without a failure it succeeds.
    let (success, output) = night(&dir, "", &[("PONTOON_RESUME", "1")]);
    assert_eq!(made(), "test\ntest-engines\ncrash\ntest\n");
    assert!(success, "{output}");
    assert_eq!(output.matches("ok in an earlier run").count(), 2, "{output}");
    // All of it, if it is not resumed.
    assert!(night(&dir, "", &[]).0);
    assert_eq!(made().lines().count(), 7);
}

#[test]
fn an_unknown_step_is_refused() {
    let dir = Dir::new();
    let (success, _, errors) =
        run("night", &[], &[("PONTOON_STEPS", "tset"), ("PONTOON_NIGHT_LOGS", dir.0.to_str().unwrap())]);
    assert!(!success && errors.contains("no step tset"), "{errors}");
}
