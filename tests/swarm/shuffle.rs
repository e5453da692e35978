//! A switch that reorders packets. Each UDP packet between two nodes is delayed by a different time, so that tunnels
//! and gossip receive later packets first. It is implemented here, since not every kernel has a queueing discipline for
//! it.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::AddressFamily,
};

use crate::socket::{self, inside, raw};
use testkit::Segment;
use testkit::random::Random;

/// Maximum delay of a packet: enough for a hundred later ones.
const LONGEST: Duration = Duration::from_millis(20);

/// Socket options of this family (include/uapi/linux/if_packet.h).
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// The header of those packets, which preserves checksum offload across the switch.
const VNET_HDR: usize = 10;

/// Reorders packets until it is ended.
pub struct Shuffle<'a> {
    segment: &'a Segment,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl<'a> Shuffle<'a> {
    /// Between these hosts of a segment, by the last byte of their addresses.
    #[track_caller]
    pub fn begin(segment: &'a Segment, hosts: &[u8]) -> Self {
        let open = || hosts.iter().map(|host| Port::open(*host)).collect::<Vec<_>>();
        let ports = inside(&segment.netns(), open).expect("the switch is up");
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = thread::spawn(move || shuffle(&ports, &end));
        // The switch itself must not forward these packets.
        let rules = "add table bridge shuffle; \
                     add chain bridge shuffle forward { type filter hook forward priority 0; }; \
                     add rule bridge shuffle forward ether type ip ip protocol udp drop";
        segment.exec(&["nft", rules]).ok();
        Self { segment, ended, thread: Some(thread) }
    }

    /// Ends the reordering; returns how many packets were overtaken by a later one to the same host.
    pub fn end(mut self) -> u64 {
        self.stop().expect("not ended before")
    }

    fn stop(&mut self) -> Option<u64> {
        let thread = self.thread.take()?;
        self.segment.exec(&["nft", "delete table bridge shuffle"]);
        self.ended.store(true, Ordering::Relaxed);
        thread.join().ok()
    }
}

impl Drop for Shuffle<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A host's cable, at the switch's end.
struct Port {
    host: u8,
    socket: OwnedFd,
}

/// The departure time, and the order of arrival.
type Held = Reverse<(Instant, u64, Vec<u8>)>;

fn shuffle(ports: &[Port], ended: &AtomicBool) -> u64 {
    let (mut held, mut chance) = (BinaryHeap::<Held>::new(), Random::new(0));
    let (mut came, mut overtaken, mut newest) = (0, 0, [0; 256]);
    let mut buffer = vec![0; 1 << 17];
    while !(ended.load(Ordering::Relaxed) && held.is_empty()) {
        let mut waiting: Vec<_> =
            ports.iter().map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut waiting, PollTimeout::from(1u8)).expect("sockets to wait for");
        for port in ports {
            while let Some(frame) = port.receive(&mut buffer) {
                came += 1;
                let due = Instant::now() + Duration::from_micros(chance.below(LONGEST.as_micros() as u64));
                held.push(Reverse((due, came, frame)));
            }
        }
        while held.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, order, frame))) = held.pop() else { break };
            // The lab's MAC addresses end with the last byte of the host's address.
            let host = frame[VNET_HDR + 5];
            let newest = &mut newest[usize::from(host)];
            overtaken += u64::from(order < *newest);
            *newest = order.max(*newest);
            if let Some(port) = ports.iter().find(|port| port.host == host) {
                port.send(&frame);
            }
        }
    }
    overtaken
}

impl Port {
    fn open(host: u8) -> Self {
        let socket = raw(AddressFamily::Packet, None);
        socket::set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1);
        socket::set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1);
        // IPv4 and UDP only, whole packets.
        let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 12),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 3, 0x0800),
            step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 23),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::IPPROTO_UDP as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
            step(libc::BPF_RET | libc::BPF_K, 0, 0),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        socket::set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter);
        let link = nix::net::if_::if_nametoindex(format!("port{host}").as_str()).expect("the host's cable");
        // SAFETY: every field of this structure may be zero.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = link as i32;
        // SAFETY: the pointer is to a live value of the given length, which the kernel only reads.
        let bound = unsafe {
            let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len)
        };
        assert_eq!(bound, 0, "a packet socket on port{host}: {}", std::io::Error::last_os_error());
        Self { host, socket }
    }

    /// A packet with its header; `None` if there is no more. Packets that the card would have to segment cannot be
    /// forwarded, and are lost.
    fn receive(&self, buffer: &mut [u8]) -> Option<Vec<u8>> {
        loop {
            // SAFETY: the pointer is to a live buffer of the given length.
            let len = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            match usize::try_from(len) {
                Ok(len) if len > VNET_HDR + 14 => return Some(buffer[..len].to_vec()),
                Err(_) if std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) => return None,
                _ => {}
            }
        }
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the pointer is to a live buffer of the given length, which the kernel only reads.
        unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    }
}
