//! The traffic: a small server and its clients, each in the network namespace of a container or host, so that both
//! drivers are measured with the same code on both ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::verbs::time;
use testkit::Node;

/// Port of the server in its namespace.
pub const PORT: u16 = 80;

/// Whether servers and clients share one processor, at real-time priority.
static PINNED: AtomicBool = AtomicBool::new(false);

/// From now on, servers and clients share one processor, at real-time priority.
pub fn pin() {
    PINNED.store(true, Ordering::Relaxed);
}

/// Pins the calling thread, and those that it starts, if that is wanted: to the last processor.
fn hold_still() {
    if !PINNED.load(Ordering::Relaxed) {
        return;
    }
    let here = nix::unistd::Pid::from_raw(0);
    let last = std::thread::available_parallelism().map_or(0, |count| count.get() - 1);
    let mut processors = nix::sched::CpuSet::new();
    processors.set(last).expect("a processor");
    nix::sched::sched_setaffinity(here, &processors).expect("a thread can be pinned");
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure outlives the call; 0 is the calling thread.
    assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) }, 0, "real-time priority");
}

/// The first byte of a connection: one answer and the end; an echo of each byte; no answer.
const ONCE: u8 = b'o';
const ECHO: u8 = b'e';
const SINK: u8 = b's';

/// The network namespace of a node.
pub fn of_node(node: &Node) -> PathBuf {
    node.path("").parent().expect("a process").join("ns/net")
}

/// The network namespace of a container.
pub fn of_container(node: &Node, container: &str) -> PathBuf {
    let pid = node.inspect(container)["State"]["Pid"].as_u64().expect("a running container");
    node.path(&format!("/proc/{pid}/ns/net"))
}

/// A namespace for the container ends of endpoints without a container.
pub fn sandbox() -> std::fs::File {
    crate::in_namespace(|| std::fs::File::open("/proc/thread-self/ns/net").expect("a namespace"))
}

/// Moves the container ends of endpoints of the node `at` there, as the engine would.
pub fn give_away(at: &Path, endpoints: impl Iterator<Item = usize> + Send, sandbox: &std::fs::File) {
    inside(at, || {
        let mut raw = crate::raw::Raw::open();
        for n in endpoints {
            raw.give_away(&format!("pntc{}", &crate::client::endpoint_id(n)[..11]), sandbox);
        }
    });
}

fn enter(namespace: &Path) {
    let file = std::fs::File::open(namespace).expect("the namespace exists");
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
}

/// Runs a closure in a namespace.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            hold_still();
            work()
        });
        thread.join().expect("the measurement completed")
    })
}

/// Serves in a namespace until the process ends.
pub fn serve(namespace: &Path) {
    let listener = inside(namespace, || TcpListener::bind(("0.0.0.0", PORT)).expect("the server's port is free"));
    std::thread::spawn(move || {
        hold_still();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut first = [0];
            match stream.read(&mut first) {
                Ok(1) if first[0] == ONCE => drop(stream.write_all(&first)),
                Ok(1) => drop(std::thread::spawn(move || hold(stream, first[0]))),
                _ => {}
            }
        }
    });
}

fn hold(mut stream: TcpStream, kind: u8) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0u64;
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        total += n as u64;
        if kind == ECHO && stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
    if kind == SINK {
        let _ = stream.write_all(&total.to_be_bytes());
    }
}

fn connect(to: SocketAddr, first: u8) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    stream.set_nodelay(true).expect("an option");
    stream.write_all(&[first]).expect("the server takes it");
    stream
}

/// Consecutive connections, each from its first packet to the first answer.
pub fn connections(from: &Path, to: SocketAddr, count: usize) -> Vec<Duration> {
    inside(from, || (0..count).map(|_| once(to)).collect())
}

fn once(to: SocketAddr) -> Duration {
    time(|| {
        let mut stream = connect(to, ONCE);
        stream.read_exact(&mut [0]).expect("an answer");
        // Reset instead of closed, so that no client port stays in TIME-WAIT.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).expect("an option");
    })
}

/// Connections per second of concurrent clients.
pub fn rate(from: &Path, to: SocketAddr, clients: usize, span: Duration) -> f64 {
    let stop = AtomicBool::new(false);
    inside(from, || {
        std::thread::scope(|scope| {
            let client = || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    once(to);
                    count += 1;
                }
                count
            };
            // A thread inherits the namespace of the thread that starts it.
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            let began = Instant::now();
            std::thread::sleep(span);
            stop.store(true, Ordering::Relaxed);
            let count: u32 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
            f64::from(count) / began.elapsed().as_secs_f64()
        })
    })
}

/// Round trips of one byte on one connection.
pub fn round_trips(from: &Path, to: SocketAddr, count: usize) -> Vec<Duration> {
    inside(from, || {
        let mut stream = connect(to, ECHO);
        let mut byte = [0];
        (0..count)
            .map(|_| {
                time(|| {
                    stream.write_all(&byte).expect("the server takes it");
                    stream.read_exact(&mut byte).expect("an answer");
                })
            })
            .collect()
    })
}

/// Gigabits per second of one connection, measured at the receiver.
pub fn throughput(from: &Path, to: SocketAddr, span: Duration) -> f64 {
    inside(from, || {
        let mut stream = connect(to, SINK);
        let chunk = vec![0; 128 * 1024];
        let began = Instant::now();
        while began.elapsed() < span {
            stream.write_all(&chunk).expect("the server takes it");
        }
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut total = [0; 8];
        stream.read_exact(&mut total).expect("a sum");
        u64::from_be_bytes(total) as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9
    })
}
