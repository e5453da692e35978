//! A command on this machine, with a deadline.

use std::{
    ffi::OsStr,
    fmt,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::poll::patient;

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// None if it was killed at its deadline.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended without a signal and with status 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Its standard output, without the last line's end. Panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success(), "{self}");
        self.stdout.trim_end().to_owned()
    }

    /// [`Output::ok`], or None if it failed: for polls, where a failure is an answer.
    pub fn answer(self) -> Option<String> {
        self.success().then(|| self.ok())
    }

    /// Its standard error. Panics if it succeeded, or was killed.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(self.status.is_some_and(|status| !status.success()), "should have failed: {self}");
        self.stderr.trim_end().to_owned()
    }

    /// Its standard output as JSON. Panics if it failed or printed something else.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let command = self.command.clone();
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}\n{text}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.command)?;
        match self.status {
            None => write!(f, "killed at its deadline")?,
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit {code}")?,
                (_, signal) => write!(f, "signal {}", signal.unwrap_or_default())?,
            },
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n--- {name}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// The lab's script.
pub fn lab<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lab"));
    command.args(args);
    command
}

/// Runs a command to its end. At the deadline it is killed together with all processes of its process group (the Docker
/// client, for example, ignores TERM).
pub fn run(command: Command, deadline: Duration) -> Output {
    run_on(command, Stdio::null(), deadline).0
}

/// [`run`] for a command whose standard input stays open until the second value is dropped.
pub fn run_tethered(command: Command, deadline: Duration) -> (Output, Option<ChildStdin>) {
    run_on(command, Stdio::piped(), deadline)
}

fn run_on(mut command: Command, stdin: Stdio, deadline: Duration) -> (Output, Option<ChildStdin>) {
    let text = describe(&command);
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    let tether = child.stdin.take();
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let status = wait(child, patient(deadline));
    let output = Output { command: text, status, stdout: collect(&stdout), stderr: collect(&stderr) };
    (output, tether)
}

/// Kills a process group that is led by a child of this process.
pub fn kill_group(leader: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).stderr(Stdio::null()).status();
}

fn wait(mut child: Child, deadline: Duration) -> Option<ExitStatus> {
    let leader = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    if let Ok(status) = ended.recv_timeout(deadline) {
        return status.ok();
    }
    kill_group(leader);
    let _ = ended.recv();
    None
}

fn reader(source: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, text) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            let _ = source.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    text
}

/// The whole text; only a process that left the process group could keep it open after the end of the command.
fn collect(text: &mpsc::Receiver<String>) -> String {
    text.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| "(still open)".to_owned())
}

fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut text = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
