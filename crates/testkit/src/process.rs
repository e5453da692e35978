//! A process that runs in a node in the background.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{command, poll};

/// A running command. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("the log can be made");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .expect("the lab's script starts");
        Self { child, log }
    }

    /// Its output so far, standard output and standard error.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; whether it succeeded.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> bool {
        poll::wait_for(deadline, "the end of a process", || self.child.try_wait().expect("a child")).success()
    }

    /// Kills it and all processes of its process group.
    pub fn kill(&mut self) {
        command::kill_group(self.child.id());
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running() {
            self.kill();
        }
    }
}
