//! Runs Pontoon under ptrace and lets a script interfere with its system calls: kill the process before or after one,
//! make one fail, shorten one. The program is the shipped one.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::filter;
use super::host::Paths;
use super::tracee::{Call, Tracee};

/// What a script does at the entry of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Pass,
    /// kill -9; the call is not carried out.
    Kill,
    /// Not carried out; this is its result (a negative error number, or a fake success).
    Instead(i64),
    /// Carried out with this length only.
    Shorten(u64),
}

/// What a script does at the exit of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Pass,
    /// kill -9; the call was carried out.
    Kill,
    /// The caller sees this result.
    Instead(i64),
}

/// Decides about every traced call, on the tracer's thread.
pub trait Script: Send {
    fn before(&mut self, call: &Call, tracee: &Tracee) -> Entry {
        let _ = (call, tracee);
        Entry::Pass
    }
    fn after(&mut self, call: &Call, result: i64, tracee: &Tracee) -> Exit {
        let _ = (call, result, tracee);
        Exit::Pass
    }
}

/// A running Pontoon, traced or not. It ends with the test process at the latest.
pub struct Process {
    pub pid: Pid,
    thread: JoinHandle<WaitStatus>,
}

impl Process {
    /// Starts `command` in the network namespace `netns`.
    pub fn begin(mut command: Command, netns: RawFd, paths: Paths, script: Option<Box<dyn Script>>) -> Self {
        let (send, receive) = mpsc::channel();
        // ptrace is bound to a thread: the thread that starts the process traces it.
        let thread = std::thread::spawn(move || {
            let traced = script.is_some();
            let ready = move || {
                // SAFETY: the descriptor is open in the parent and so in this child.
                setns(unsafe { std::os::fd::BorrowedFd::borrow_raw(netns) }, CloneFlags::CLONE_NEWNET)?;
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                if traced {
                    ptrace::traceme()?;
                    filter::install()?;
                }
                Ok(())
            };
            // SAFETY: between fork and exec only system calls are made, nothing is allocated.
            unsafe { command.pre_exec(ready) };
            #[expect(clippy::zombie_processes, reason = "it is waited for below, with its threads")]
            let child = command.spawn().expect("Pontoon starts");
            let pid = Pid::from_raw(child.id() as i32);
            send.send(pid).unwrap();
            match script {
                Some(script) => trace(pid, &paths, script),
                None => waitpid(pid, None).expect("a child"),
            }
        });
        Self { pid: receive.recv().expect("Pontoon starts"), thread }
    }

    /// kill -9, then waits for its end.
    pub fn kill(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        self.end();
    }

    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end, whatever the cause.
    pub fn end(self) -> WaitStatus {
        self.thread.join().expect("the tracer does not panic")
    }
}

/// Handles the stops of all threads until the process has ended.
fn trace(pid: Pid, paths: &Paths, mut script: Box<dyn Script>) -> WaitStatus {
    // The first stop is the exec's.
    waitpid(pid, None).expect("a child");
    // The process that opens packet sockets inherits the filter of traced calls, which fail without a tracer.
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACESECCOMP
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(pid, options).expect("a traced child");
    let mut tracee = Tracee::new(pid, paths.state.clone(), paths.sockets.clone());
    tracee.renewed();
    let _ = ptrace::cont(pid, None);
    let mut entered: HashMap<Pid, (Option<Call>, Option<i64>)> = HashMap::new();
    loop {
        // Only processes of this thread: tests run in parallel.
        let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(status) => status,
            Err(Errno::EINTR) => continue,
            Err(errno) => panic!("waiting for the tracee: {errno}"),
        };
        match status {
            WaitStatus::PtraceEvent(tid, _, event)
                if event == ptrace::Event::PTRACE_EVENT_SECCOMP as i32 && tracee.has_thread(tid) =>
            {
                let call = tracee.call(tid);
                let mut instead = None;
                if let Some(call) = &call {
                    match script.before(call, &tracee) {
                        Entry::Pass => {}
                        Entry::Kill => {
                            let _ = kill(pid, Signal::SIGKILL);
                        }
                        Entry::Instead(result) => {
                            tracee.skip(tid);
                            instead = Some(result);
                        }
                        Entry::Shorten(len) => tracee.shorten(tid, len),
                    }
                }
                entered.insert(tid, (call, instead));
                let _ = ptrace::syscall(tid, None);
            }
            WaitStatus::PtraceSyscall(tid) => {
                match entered.remove(&tid) {
                    Some((Some(call), instead)) => {
                        if let Some(result) = instead {
                            tracee.set_result(tid, result);
                        }
                        let result = instead.unwrap_or_else(|| tracee.result(tid));
                        match script.after(&call, result, &tracee) {
                            Exit::Pass => {}
                            Exit::Kill => {
                                let _ = kill(pid, Signal::SIGKILL);
                            }
                            Exit::Instead(result) => tracee.set_result(tid, result),
                        }
                    }
                    Some((None, _)) => tracee.opened(tid),
                    None => {}
                }
                let _ = ptrace::cont(tid, None);
            }
            WaitStatus::PtraceEvent(tid, ..) => {
                let _ = ptrace::cont(tid, None);
            }
            // A new thread starts with this signal; it is for the tracer, not for the program.
            WaitStatus::Stopped(tid, Signal::SIGSTOP) => {
                let _ = ptrace::cont(tid, None);
            }
            WaitStatus::Stopped(tid, signal) => {
                let _ = ptrace::cont(tid, signal);
            }
            WaitStatus::Exited(tid, _) | WaitStatus::Signaled(tid, ..) if tid == pid => return status,
            _ => {}
        }
    }
}
