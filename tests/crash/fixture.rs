//! The fixture of a test: foreign objects on the host, two containers with continuous traffic, and the comparison of
//! all views.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::engine::Engine;
use super::host::Host;
use super::kernel_view::{self, Surroundings};
use super::sandbox;
use testkit::ledger;

/// Foreign objects, some of which resemble Pontoon's.
pub fn add_foreign_objects(host: &Host) -> Surroundings {
    host.netns.ip("link add docker0 type bridge
         addr add 172.17.0.1/16 dev docker0
         link set docker0 up
         link add br-mine type bridge
         link set br-mine up
         addr add 192.0.2.1/24 dev br-mine
         link add mine0 type veth peer name mine1
         link set mine0 master br-mine
         link set mine0 up group 4711
         link set mine1 up
         link add wire0 type veth peer name wire1
         addr add 198.51.100.1/24 dev wire0
         link set wire0 up
         link add lone7 type bridge
         link set lone7 up group 7");
    sandbox::plug(&host.netns, &host.outside, "wire1", "eth0", ["198.51.100.2/24"]).unwrap();
    host.netns.run(&[
        "nft",
        "add table inet mine; add chain inet mine input { type filter hook input priority 0; }; \
         add rule inet mine input tcp dport 4 drop; add set inet mine some { type ipv4_addr; elements = { 192.0.2.9 }; }; \
         add table ip pontoonish; add set ip pontoonish bridges { type ifname; elements = { \"pntbmine\" }; }",
    ]);
    // An entry must not expire while a test waits for its removal.
    host.netns.enter(|| std::fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "600")).expect("root may");
    host.start();
    kernel_view::read_kernel(host).surroundings
}

/// Runs `act` on a new host while the bystanders exchange packets: they must not lose one. The engine has `sandboxes`
/// sandboxes, of which the first two are theirs.
pub fn run_on_host<T>(name: &str, sandboxes: usize, act: impl FnOnce(&mut Engine<'_>, &Surroundings) -> T) -> T {
    let host = Host::new();
    let around = add_foreign_objects(&host);
    let mut engine = Engine::new(&host, name, sandboxes);
    bystanders(&mut engine);
    let stream = Stream::start(&engine);
    let done = act(&mut engine, &around);
    stream.lost_nothing();
    done
}

/// The same on `count` hosts in parallel, each with its number.
pub fn side_by_side(count: usize, name: &str, act: impl Fn(usize, &mut Engine<'_>, &Surroundings) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..count {
            let act = &act;
            scope.spawn(move || run_on_host(name, 3, |engine, around| act(number, engine, around)));
        }
    });
}

/// A network `10.70.0.0/24` with two containers, in the first two sandboxes.
pub fn bystanders(engine: &mut Engine<'_>) {
    let network = engine.create_network_with_retries("10.70.0.0/24");
    for sandbox in 0..2 {
        engine.attach(&network, sandbox, "eth0", &[]).expect("a container");
    }
}

/// Asserts that ledger, kernel, pools, engines and the rest of the host are consistent.
#[track_caller]
pub fn compare(host: &Host, engines: &[&Engine<'_>], around: &Surroundings) -> Duration {
    // The other end of an endpoint that the engines lost track of may be anywhere.
    let inside = |id: &str| engines.iter().find_map(|engine| engine.attached.get(id)).map(|attached| attached.plugged);
    let took = kernel_view::assert_matches_ledger(host, &inside, around);
    kernel_view::assert_matches_engines(&ledger::read(&host.paths.ledger()), engines);
    for attached in engines.iter().flat_map(|engine| engine.attached.values()) {
        let taken =
            engines.iter().find_map(|engine| engine.networks.get(&attached.network)).is_some_and(|n| n.families > 0);
        for (protocol, port) in attached.ports.iter().filter(|_| taken) {
            assert!(!free(host, *protocol, *port), "port {port} is published and not taken on the host");
        }
    }
    took
}

/// After a restart, before the engine calls anything: ledger and kernel match.
#[track_caller]
pub fn after_crash(engine: &Engine<'_>, around: &Surroundings) {
    let inside = |id: &str| engine.attached.contains_key(id).then_some(true);
    kernel_view::assert_matches_ledger(engine.host, &inside, around);
}

/// Sends a datagram to a published port from outside, which leaves a tracked connection.
pub fn send_to_port(host: &Host, port: u16) {
    host.outside.enter(|| {
        let socket = UdpSocket::bind("198.51.100.2:0").unwrap();
        let _ = socket.send_to(b"hello", ("198.51.100.1", port));
    });
}

/// Whether this port of the host is free.
pub fn free(host: &Host, protocol: u8, port: u16) -> bool {
    host.netns.enter(|| match protocol {
        6 => std::net::TcpListener::bind(("0.0.0.0", port)).is_ok(),
        _ => UdpSocket::bind(("0.0.0.0", port)).is_ok(),
    })
}

/// Packets between the two bystanders, a thousand a second, each answered.
pub struct Stream {
    stop: Arc<AtomicBool>,
    hush: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    ask: Option<JoinHandle<u64>>,
}

impl Stream {
    pub fn start(engine: &Engine<'_>) -> Self {
        let mut addresses: Vec<(usize, String)> =
            engine.attached.values().map(|a| (a.sandbox, a.address.split('/').next().unwrap().to_owned())).collect();
        addresses.sort();
        let socket = |(sandbox, address): &(usize, String)| {
            let at: SocketAddr = format!("{address}:7").parse().unwrap();
            let socket =
                engine.sandboxes[*sandbox].enter(|| UdpSocket::bind(at).expect("the container has its address"));
            // A busy machine may not schedule the reader for a while, which must not count as packet loss.
            setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).expect("root may");
            socket
        };
        let (from, to) = (socket(&addresses[0]), socket(&addresses[1]));
        let target = to.local_addr().unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        from.set_nonblocking(true).unwrap();
        let hush = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&hush);
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !over.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = to.recv_from(&mut buffer) {
                    let _ = to.send_to(&buffer[..len], peer);
                }
            }
        });
        let (over, total) = (Arc::clone(&stop), Arc::clone(&sent));
        let ask = std::thread::spawn(move || {
            let (mut buffer, mut answers, mut sent) = ([0; 64], 0u64, 0u64);
            let mut drain = |answers: &mut u64| {
                while from.recv(&mut buffer).is_ok() {
                    *answers += 1;
                }
            };
            while !over.load(Ordering::Relaxed) {
                if from.send_to(&sent.to_ne_bytes(), target).is_ok() {
                    sent += 1;
                    total.store(sent, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
                drain(&mut answers);
            }
            let deadline = Instant::now() + Duration::from_secs(2);
            while answers < sent && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
                drain(&mut answers);
            }
            sent - answers
        });
        let stream = Self { stop, hush, sent, ask: Some(ask) };
        let deadline = Instant::now() + Duration::from_secs(5);
        while stream.sent.load(Ordering::Relaxed) < 10 {
            assert!(Instant::now() < deadline, "the bystanders do not exchange packets");
            std::thread::sleep(Duration::from_millis(1));
        }
        stream
    }

    /// Stops the traffic; returns how many packets were sent and how many were lost.
    pub fn end(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.ask.take().map_or(0, |ask| ask.join().unwrap());
        (self.sent.load(Ordering::Relaxed), lost)
    }

    #[track_caller]
    pub fn lost_nothing(self) {
        let (sent, lost) = self.end();
        assert!(sent > 0);
        assert_eq!(lost, 0, "of {sent} packets between running containers");
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.hush.store(true, Ordering::Relaxed);
    }
}
