//! What the program prints for shells and man(1).

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use testkit::harness::Dir;
use testkit::wait_until;

use crate::engine::engine;

fn pontoon(args: &[&str]) -> String {
    let output = Command::new(testkit::program()).args(args).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a script in bash, with the directory of the program in the path.
fn bash(script: &str) -> Output {
    let path = format!("{}:{}", testkit::program().parent().unwrap().display(), std::env::var("PATH").unwrap());
    Command::new("bash").args(["--norc", "-c", script]).env("PATH", path).stdin(Stdio::null()).output().unwrap()
}

/// What bash offers for the last of these words.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let all: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let output = bash(&format!(
        "set -u; source {}; COMP_WORDS=({}) COMP_CWORD={}; _pontoon pontoon; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        all.join(" "),
        words.len() - 1
    ));
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_names() {
    let dir = Dir::new();
    let script = dir.0.join("completion");
    fs::write(&script, pontoon(&["completions", "bash"])).unwrap();
    assert!(bash(&format!("bash -n {}", script.display())).status.success());
    assert_eq!(offered(&script, &["pontoon", "insp"]), ["inspect"]);
    assert_eq!(offered(&script, &["pontoon", "policy", "s"]), ["show", "set"]);
    assert_eq!(offered(&script, &["pontoon", "ls", "--watch", "=", "1", "-o", "y"]), ["yaml"]);

    let docker = dir.0.join("docker.sock");
    engine(&docker, ["web-1", "blue"]);
    let at = |words: &[&'static str]| {
        let socket: &'static str = docker.to_str().unwrap().to_owned().leak();
        let (command, rest) = words.split_first().unwrap();
        offered(&script, &[&["pontoon", *command, "--docker", socket][..], rest].concat())
    };
    assert_eq!(at(&["inspect", "bl"]), ["blue"]);
    assert_eq!(at(&["inspect", ""]), ["blue", "web-1"]);
    assert_eq!(at(&["explain", ""]), ["host", "web-1"]);
    assert_eq!(at(&["explain", "host", "w"]), ["web-1"]);

    // Names that a shell would run are not offered.
    let hostile = dir.0.join("hostile.sock");
    engine(&hostile, ["$(touch x)", "blue;id"]);
    let socket: &'static str = hostile.to_str().unwrap().to_owned().leak();
    assert_eq!(offered(&script, &["pontoon", "inspect", "--docker", socket, ""]), [""]);
}

#[test]
fn bash_completes_at_the_tab_key() {
    let dir = Dir::new();
    let (script, record) = (dir.0.join("completion"), dir.0.join("record"));
    fs::write(&script, pontoon(&["completions", "bash"])).unwrap();
    let path = format!("{}:{}", testkit::program().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("script")
        .args(["-qfec", "bash --norc --noprofile -i", record.to_str().unwrap()])
        .env("PATH", path)
        .env("TERM", "dumb")
        .env("HOME", &dir.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script is installed (bsdutils)");
    let mut input = shell.stdin.take().unwrap();
    let seen = || String::from_utf8_lossy(&fs::read(&record).unwrap_or_default()).into_owned();
    writeln!(input, "source {}; echo rea''dy", script.display()).unwrap();
    wait_until(Duration::from_secs(60), "the prompt", || seen().contains("ready"));
    // Without Enter: what follows is of the completion.
    input.write_all(b"pontoon completions fi\t").unwrap();
    wait_until(Duration::from_secs(60), "the word", || seen().contains("completions fish"));
    input.write_all(b"\x03exit\n").unwrap();
    drop(input);
    wait_until(Duration::from_secs(60), "its end", || shell.try_wait().unwrap().is_some());
}

#[test]
fn other_shells_have_scripts_of_their_own() {
    let [zsh, fish] = ["zsh", "fish"].map(|shell| pontoon(&["completions", shell]));
    assert!(zsh.starts_with("#compdef pontoon\n") && zsh.contains("complete --"), "{zsh}");
    assert!(fish.contains("complete -c pontoon") && fish.contains("complete --"), "{fish}");
}

#[test]
fn the_manual_page_has_every_command_and_flag() {
    let page = pontoon(&["man"]);
    assert!(page.starts_with(".TH PONTOON 8 "), "{page}");
    let help = pontoon(&["--help"]);
    let commands = help.split_once("Commands:\n").unwrap().1.split("\n\n").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names.iter().filter(|name| **name != "help") {
        assert!(page.contains(&format!(".SS pontoon {name}")), "{name}");
        let help = pontoon(&[name, "--help"]);
        for flag in help.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
            let flag: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let known = flag == "help" || flag.is_empty() || page.contains(&flag.replace('-', "\\-"));
            assert!(known, "{name}: --{flag}");
        }
    }
    // Each line that begins with a period is one of these requests.
    for line in page.lines().filter(|line| line.starts_with('.') || line.starts_with('\'')) {
        let request = line.split_whitespace().next().unwrap();
        assert!([".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".BR"].contains(&request), "{line}");
    }
}
