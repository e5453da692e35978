//! The stopped process: its registers, its memory, and the objects of its descriptors.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::ptrace;
use nix::unistd::Pid;

/// The object of a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A file below the state directory, by its name there; empty for the directory itself.
    State(String),
    /// A setting below /proc/sys/net.
    Setting(String),
    /// The file of the plugin socket, or its temporary file.
    SocketFile,
    /// A netlink socket.
    Netlink,
    /// A connection of the engine.
    Client,
}

/// A traced system call, at its entry.
#[derive(Debug, Clone)]
pub struct Call {
    pub tid: Pid,
    pub number: i64,
    pub args: [u64; 6],
    pub object: Object,
    /// Readable name: call, object, and the message types.
    pub label: String,
}

/// A traced process.
pub struct Tracee {
    pid: Pid,
    memory: File,
    state_dir: PathBuf,
    socket_dir: PathBuf,
    sockets: HashMap<u64, Object>,
}

impl Tracee {
    pub fn new(pid: Pid, state_dir: PathBuf, socket_dir: PathBuf) -> Self {
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        Self { pid, memory, state_dir, socket_dir, sockets: HashMap::new() }
    }

    /// After an exec the memory is another one.
    pub fn renewed(&mut self) {
        self.memory = File::options().read(true).write(true).open(format!("/proc/{}/mem", self.pid)).unwrap();
    }

    /// Whether this is one of its threads, and not a process that it started.
    pub fn has_thread(&self, tid: Pid) -> bool {
        fs::exists(format!("/proc/{}/task/{tid}", self.pid)).unwrap_or(false)
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.memory.read_at(&mut bytes, at).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    pub fn poke(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at).expect("the tracee's memory can be written");
    }

    fn text(&self, at: u64) -> String {
        let bytes = self.bytes(at, 512);
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    /// The call at whose entry `tid` is stopped, if it is traced.
    pub fn call(&self, tid: Pid) -> Option<Call> {
        let registers = ptrace::getregs(tid).ok()?;
        let number = registers.orig_rax as i64;
        let args = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let object = self.object(number, &args)?;
        let label = self.label(number, &args, &object);
        Some(Call { tid, number, args, object, label })
    }

    fn object(&self, number: i64, args: &[u64; 6]) -> Option<Object> {
        match number {
            libc::SYS_openat | libc::SYS_mkdirat | libc::SYS_unlinkat => self.path(&self.text(args[1])),
            libc::SYS_open | libc::SYS_mkdir | libc::SYS_unlink | libc::SYS_rename | libc::SYS_link => {
                self.path(&self.text(args[0]))
            }
            libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => self.path(&self.text(args[1])),
            libc::SYS_socket | libc::SYS_accept | libc::SYS_accept4 | libc::SYS_socketpair | libc::SYS_bind => None,
            _ => self.descriptor(args[0]),
        }
    }

    fn path(&self, path: &str) -> Option<Object> {
        if let Some(name) = path.strip_prefix(self.state_dir.to_str()?) {
            return Some(Object::State(name.trim_start_matches('/').to_owned()));
        }
        if let Some(name) = path.strip_prefix("/proc/sys/net/") {
            return Some(Object::Setting(name.to_owned()));
        }
        path.starts_with(self.socket_dir.to_str()?).then_some(Object::SocketFile)
    }

    fn descriptor(&self, fd: u64) -> Option<Object> {
        let target = fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).ok()?;
        let target = target.to_str()?;
        if target.starts_with("socket:") {
            return self.sockets.get(&fd).cloned();
        }
        self.path(target.trim_end_matches(" (deleted)"))
    }

    /// Records a new socket: the result of a call that creates one.
    pub fn opened(&mut self, tid: Pid) {
        let Ok(registers) = ptrace::getregs(tid) else { return };
        let fd = registers.rax;
        if (registers.rax as i64) < 0 {
            return;
        }
        match registers.orig_rax as i64 {
            libc::SYS_socket if registers.rdi == libc::AF_NETLINK as u64 => {
                self.sockets.insert(fd, Object::Netlink);
            }
            libc::SYS_accept | libc::SYS_accept4 => {
                self.sockets.insert(fd, Object::Client);
            }
            libc::SYS_socket => {
                self.sockets.remove(&fd);
            }
            libc::SYS_socketpair => {
                let pair = self.bytes(registers.r10, 8);
                for half in pair.chunks_exact(4) {
                    self.sockets.remove(&u64::from(u32::from_ne_bytes(half.try_into().unwrap())));
                }
            }
            _ => {}
        }
    }

    fn label(&self, number: i64, args: &[u64; 6], object: &Object) -> String {
        let what = match object {
            Object::State(name) => format!("state/{name}"),
            Object::Setting(name) => format!("sysctl {name}"),
            Object::SocketFile => "socket file".to_owned(),
            Object::Client => "client".to_owned(),
            Object::Netlink if number == libc::SYS_sendto => self.request(args[1], args[2]),
            Object::Netlink => "netlink".to_owned(),
        };
        format!("{} {what}", name(number))
    }

    /// The types of the messages in a netlink datagram.
    fn request(&self, at: u64, len: u64) -> String {
        let bytes = self.bytes(at, len as usize);
        let mut types = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= 16 && types.len() < 4 {
            let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            types.push(format!("{:#x}", u16::from_ne_bytes([rest[4], rest[5]])));
            rest = rest.get(len.next_multiple_of(4).max(16)..).unwrap_or_default();
        }
        format!("netlink {}", types.join("+"))
    }

    /// Suppresses the call at whose entry `tid` is stopped; its result is set at its exit.
    pub fn skip(&self, tid: Pid) {
        let mut registers = ptrace::getregs(tid).expect("a stopped thread");
        registers.orig_rax = u64::MAX;
        ptrace::setregs(tid, registers).expect("a stopped thread");
    }

    /// Changes the length, the third argument, of the call at whose entry `tid` is stopped.
    pub fn shorten(&self, tid: Pid, len: u64) {
        let mut registers = ptrace::getregs(tid).expect("a stopped thread");
        registers.rdx = len;
        ptrace::setregs(tid, registers).expect("a stopped thread");
    }

    /// The result of the call at whose exit `tid` is stopped; negative is an error number.
    pub fn result(&self, tid: Pid) -> i64 {
        ptrace::getregs(tid).map_or(0, |registers| registers.rax as i64)
    }

    pub fn set_result(&self, tid: Pid, result: i64) {
        let mut registers = ptrace::getregs(tid).expect("a stopped thread");
        registers.rax = result as u64;
        ptrace::setregs(tid, registers).expect("a stopped thread");
    }
}

fn name(number: i64) -> &'static str {
    match number {
        libc::SYS_openat | libc::SYS_open => "open",
        libc::SYS_read => "read",
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 => "write",
        libc::SYS_fsync | libc::SYS_fdatasync => "sync",
        libc::SYS_ftruncate => "truncate",
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_link | libc::SYS_linkat => "link",
        libc::SYS_unlink | libc::SYS_unlinkat => "unlink",
        libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir",
        libc::SYS_flock => "lock",
        libc::SYS_sendto | libc::SYS_sendmsg => "send",
        libc::SYS_recvfrom | libc::SYS_recvmsg => "receive",
        _ => "call",
    }
}
