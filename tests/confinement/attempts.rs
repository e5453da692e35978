//! A confined process, tested from inside: each operation is tried by a confined and by an unconfined process, so that
//! a refusal is known to be due to the confinement.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use pontoon::confinement::{self, AllowedPaths};

use testkit::harness::Dir;

/// Tells a child of this test which role and which directory it has.
const PLACE: &str = "PONTOON_TEST_PLACE";
const DIR: &str = "PONTOON_TEST_DIR";

/// Converts a result of -1 to the error in errno.
fn checked(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A system call that has no effect even where it is allowed, because its arguments are invalid.
fn invalid_call(call: libc::c_long, arguments: [libc::c_long; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: every pointer among the arguments is null and every descriptor -1, which the kernel rejects before any
    // effect.
    checked(unsafe { libc::syscall(call, a, b, c, d, e) })
}

fn open_socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<()> {
    // SAFETY: a system call without pointers; the descriptor ends with the process.
    checked(unsafe { libc::socket(family, kind, protocol) })
}

fn map(protection: libc::c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory of the kernel's choice, which is not used.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An operation to try, and the errno that a confined process gets; 0 if it must work. EACCES is returned by Landlock
/// and for file modes, EPERM by seccomp, for capabilities and by Landlock's scopes.
type Attempt = (&'static str, i32, fn(&Path) -> io::Result<()>);

const FREE: i32 = 0;
const A: i32 = libc::EACCES;
const P: i32 = libc::EPERM;
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

const ATTEMPTS: &[Attempt] = &[
    // Its own directories.
    ("state: write", FREE, |dir| std::fs::write(dir.join("state/ledger"), "x")),
    ("state: link", FREE, |dir| std::fs::hard_link(dir.join("state/ledger"), dir.join("state/second"))),
    ("state: rename", FREE, |dir| std::fs::rename(dir.join("state/second"), dir.join("state/third"))),
    ("state: list", FREE, |dir| std::fs::read_dir(dir.join("state")).map(drop)),
    ("state: remove", FREE, |dir| std::fs::remove_file(dir.join("state/third"))),
    ("state: sync", FREE, |dir| std::fs::File::open(dir.join("state"))?.sync_all()),
    ("socket: bind", FREE, |dir| UnixListener::bind(dir.join("sockets/a.new")).map(drop)),
    ("socket: rename", FREE, |dir| std::fs::rename(dir.join("sockets/a.new"), dir.join("sockets/a"))),
    ("settings: read", FREE, |_| std::fs::read(FORWARD).map(drop)),
    ("settings: write", FREE, |_| std::fs::write(FORWARD, "1")),
    ("name servers", FREE, |_| std::fs::read("/etc/resolv.conf").map(drop)),
    ("itself", FREE, |_| std::fs::read("/proc/self/status").map(drop)),
    ("boot id", FREE, |_| std::fs::read("/proc/sys/kernel/random/boot_id").map(drop)),
    // Threads, memory, sockets.
    ("thread", FREE, |_| std::thread::Builder::new().name("named".into()).spawn(|| ()).map(|t| t.join().unwrap())),
    ("memory", FREE, |_| map(libc::PROT_READ | libc::PROT_WRITE)),
    ("TCP below 1024", FREE, |_| std::net::TcpListener::bind("127.0.0.1:79").map(drop)),
    ("UDP below 1024", FREE, |_| std::net::UdpSocket::bind("127.0.0.1:79").map(drop)),
    ("netlink: route", FREE, |_| open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)),
    ("netlink: netfilter", FREE, |_| open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)),
    ("packet socket: options", P, |_| invalid_call(libc::SYS_setsockopt, [-1, libc::SOL_PACKET.into(), 1, 0, 0])),
    // Foreign files.
    ("read /etc/passwd", A, |_| std::fs::read("/etc/passwd").map(drop)),
    ("list /", A, |_| std::fs::read_dir("/").map(drop)),
    ("read another process", A, |_| std::fs::read("/proc/1/status").map(drop)),
    ("read /proc/sys/kernel", A, |_| std::fs::read("/proc/sys/kernel/core_pattern").map(drop)),
    ("write outside", A, |dir| std::fs::write(dir.join("outside"), "x")),
    ("symlink in state", P, |dir| std::os::unix::fs::symlink("/etc", dir.join("state/symlink"))),
    ("file among sockets", A, |dir| std::fs::write(dir.join("sockets/file"), "x")),
    ("another user's file", A, |dir| std::fs::read(dir.join("state/theirs")).map(drop)),
    // The network.
    ("connect by TCP", A, |dir| {
        let port = std::fs::read_to_string(dir.join("state/port"))?;
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).map(drop)
    }),
    ("connect by TCP to a name server", FREE, |_| std::net::TcpStream::connect("127.0.0.1:53").map(drop)),
    ("another's abstract socket", P, |dir| UnixStream::connect_addr(&abstract_name(dir)).map(drop)),
    ("packet socket", P, |_| open_socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("raw socket", P, |_| open_socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    ("netlink: xfrm", P, |_| open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_XFRM)),
    ("netlink: audit", P, |_| open_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)),
    // Programs and memory.
    ("run a program", P, |_| Command::new("/bin/true").status().map(drop)),
    ("execve", P, |_| invalid_call(libc::SYS_execve, [0; 5])),
    ("execveat", P, |_| invalid_call(libc::SYS_execveat, [-1, 0, 0, 0, 0])),
    ("memory to run", P, |_| map(libc::PROT_READ | libc::PROT_EXEC)),
    ("memfd", P, |_| invalid_call(libc::SYS_memfd_create, [0; 5])),
    // The rest of the machine.
    ("a new namespace", P, |_| Ok(unshare(CloneFlags::CLONE_NEWUTS)?)),
    ("another namespace", P, |_| invalid_call(libc::SYS_setns, [-1, 0, 0, 0, 0])),
    ("mount", P, |_| invalid_call(libc::SYS_mount, [0; 5])),
    ("unmount", P, |_| invalid_call(libc::SYS_umount2, [0; 5])),
    ("chroot", P, |_| invalid_call(libc::SYS_chroot, [0; 5])),
    ("ptrace", P, |_| invalid_call(libc::SYS_ptrace, [0x7fff, 0, 0, 0, 0])),
    ("another's memory", P, |_| invalid_call(libc::SYS_process_vm_readv, [0; 5])),
    ("bpf", P, |_| invalid_call(libc::SYS_bpf, [0x7fff, 0, 0, 0, 0])),
    ("a module", P, |_| invalid_call(libc::SYS_init_module, [0; 5])),
    ("open by handle", P, |_| invalid_call(libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0])),
    ("io_uring", P, |_| invalid_call(libc::SYS_io_uring_setup, [0; 5])),
    ("a signal", P, |_| Ok(nix::sys::signal::kill(nix::unistd::getppid(), None)?)),
    ("another user", P, |_| Ok(nix::unistd::setuid(nix::unistd::Uid::from_raw(1))?)),
];

/// The name of a socket that was created before the process was confined.
fn abstract_name(dir: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(dir.as_os_str().as_encoded_bytes()).unwrap()
}

/// In the child: tries everything and prints `name|errno`, 0 for success.
fn try_all(place: &str, dir: &Path) {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
    Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip is installed");
    // Created before the confinement, so that the socket is foreign: the kernel checks the creator of a socket.
    let _strange = UnixListener::bind_addr(&abstract_name(dir)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _name_server = std::net::TcpListener::bind("127.0.0.1:53").unwrap();
    std::fs::write(dir.join("state/port"), listener.local_addr().unwrap().port().to_string()).unwrap();
    let _confined = (place == "inside").then(|| {
        let confined = confinement::enter(&AllowedPaths {
            state: dir.join("state"),
            sockets: vec![dir.join("sockets")],
            settings: "/proc/sys/net".into(),
            read: ["/etc/resolv.conf", "/proc/self", "/proc/sys/kernel/random"].map(Into::into).into(),
        });
        assert!(confined.capabilities && confined.landlock >= 6 && confined.seccomp, "{confined:?}");
        confined
    });
    for (name, _, attempt) in ATTEMPTS {
        println!("\n{name}|{}", attempt(dir).map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| FREE));
    }
}

/// The results of a child with this role.
fn results(place: &str) -> BTreeMap<String, i32> {
    let dir = Dir::new();
    for name in ["state", "sockets"] {
        std::fs::create_dir(dir.0.join(name)).unwrap();
    }
    let theirs = dir.0.join("state/theirs");
    std::fs::write(&theirs, "x").unwrap();
    std::fs::set_permissions(&theirs, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1), Some(1)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1", "attempts::only_required_operations_work"])
        .envs([(PLACE, place), (DIR, dir.0.to_str().unwrap())])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{place}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    let pairs = text.lines().filter_map(|line| line.rsplit_once('|'));
    pairs.map(|(name, errno)| (name.to_owned(), errno.parse().unwrap())).collect()
}

#[test]
fn only_required_operations_work() {
    if let (Ok(place), Ok(dir)) = (std::env::var(PLACE), std::env::var(DIR)) {
        return try_all(&place, Path::new(&dir));
    }
    let (outside, inside) = (results("outside"), results("inside"));
    let mut wrong = Vec::new();
    for (name, errno, _) in ATTEMPTS {
        let (free, confined) = (outside[*name], inside[*name]);
        if (free == *errno) != (*errno == FREE) {
            wrong.push(format!("{name}: {free} outside, so the test proves nothing"));
        }
        if confined != *errno {
            wrong.push(format!("{name}: {confined} inside, not {errno}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
