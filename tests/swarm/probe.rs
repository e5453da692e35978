//! Probes: echo requests from inside containers, sent by this process through sockets that it
//! opens in their network namespaces. So every pair can be asked many times a second, and the
//! same way whoever's network it is.

use std::{
    collections::BTreeMap,
    fs::File,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, SystemTime},
};

use crate::place::Place;

/// Who asks whom.
type Pair = (String, String);

/// `ICMP_FILTER` (include/uapi/linux/icmp.h).
const ICMP_FILTER: libc::c_int = 1;

struct End {
    place: Place,
    socket: OwnedFd,
}

/// The ends between which it is asked, and what came of it.
#[derive(Default)]
pub struct Probes {
    ends: BTreeMap<String, End>,
    /// For each pair that was reached, how long after both ran.
    reached: BTreeMap<Pair, Duration>,
}

impl Probes {
    /// Takes new containers in and lets those go that are there no longer. One whose namespace
    /// has gone meanwhile is left out.
    pub fn follow(&mut self, places: &[Place]) {
        self.ends.retain(|id, _| places.iter().any(|place| place.id == *id));
        let ends = &self.ends;
        self.reached.retain(|(from, to), _| ends.contains_key(from) && ends.contains_key(to));
        for place in places {
            if !self.ends.contains_key(&place.id)
                && let Some(socket) = open(place)
            {
                self.ends.insert(place.id.clone(), End { place: place.clone(), socket });
            }
        }
    }

    /// Asks for every pair that was not reached yet, and takes the answers that are there.
    pub fn ask(&mut self) {
        let by_address: BTreeMap<Ipv4Addr, &Place> =
            self.ends.values().map(|end| (end.place.address, &end.place)).collect();
        for end in self.ends.values() {
            for to in self.ends.values().filter(|to| Self::asks(&end.place, &to.place)) {
                if !self.reached.contains_key(&(end.place.id.clone(), to.place.id.clone())) {
                    send(&end.socket, to.place.address);
                }
            }
        }
        for end in self.ends.values() {
            while let Some(from) = receive(&end.socket) {
                let Some(to) = by_address.get(&from) else { continue };
                let both = end.place.started.max(to.started);
                let took = SystemTime::now().duration_since(both).unwrap_or_default();
                self.reached.entry((end.place.id.clone(), to.id.clone())).or_insert(took);
            }
        }
    }

    /// Whether the first is to ask the second. What was there before is asked by nobody who came
    /// after: the question would tell it what it should know already.
    fn asks(from: &Place, to: &Place) -> bool {
        from.id != to.id && (from.service.is_none() || to.service.is_some())
    }

    pub fn missing(&self) -> Vec<String> {
        let all = self.ends.values().flat_map(|from| self.ends.values().map(move |to| (&from.place, &to.place)));
        all.filter(|(from, to)| Self::asks(from, to) && !self.reached.contains_key(&(from.id.clone(), to.id.clone())))
            .map(|(from, to)| format!("{} on {} to {} on {}", from.address, from.node, to.address, to.node))
            .collect()
    }

    /// How long after it ran each container that `counts` was reached from all others: its slowest
    /// pair in which it is the younger.
    pub fn arrivals(&self, counts: impl Fn(&Place) -> bool) -> Vec<Duration> {
        let mut slowest: BTreeMap<&str, Duration> = BTreeMap::new();
        for ((from, to), took) in &self.reached {
            let (from, to) = (&self.ends[from].place, &self.ends[to].place);
            let younger = if from.started > to.started { from } else { to };
            if counts(younger) {
                let slowest = slowest.entry(&younger.id).or_default();
                *slowest = (*slowest).max(*took);
            }
        }
        let mut times: Vec<_> = slowest.into_values().collect();
        times.sort();
        times
    }
}

/// Does something in a network namespace; `None` when that is gone.
pub fn inside<T: Send>(place: &Place, work: impl FnOnce() -> T + Send) -> Option<T> {
    let file = File::open(&place.netns).ok()?;
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
            Some(work())
        });
        entered.join().expect("the work in the namespace ends")
    })
}

/// A raw socket that hears echo replies only.
fn open(place: &Place) -> Option<OwnedFd> {
    inside(place, || {
        // SAFETY: socket(2) takes three numbers; its result is checked before it is owned.
        let fd = unsafe {
            libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, libc::IPPROTO_ICMP)
        };
        assert!(fd >= 0, "a raw socket: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new, valid and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let others: u32 = !1;
        // SAFETY: the pointer is to a live value of the given length.
        let set = unsafe {
            let value = std::ptr::from_ref(&others).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_RAW, ICMP_FILTER, value, 4)
        };
        assert_eq!(set, 0, "the filter of a raw socket");
        socket
    })
}

/// What cannot be sent now is sent again anyway.
fn send(socket: &OwnedFd, to: Ipv4Addr) {
    let mut packet = [8, 0, 0, 0, b'p', b'n', 0, 1];
    let words = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    packet[2..4].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(to).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both pointers are to live values of the given lengths, which the kernel only reads.
    unsafe {
        let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let address = std::ptr::from_ref(&address).cast();
        libc::sendto(socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, address, len);
    }
}

/// Who answered; `None` when there is no more.
fn receive(socket: &OwnedFd) -> Option<Ipv4Addr> {
    let mut packet = [0u8; 128];
    // SAFETY: the pointer is to a live buffer of the given length.
    let len = unsafe { libc::recv(socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
    (len >= 28).then(|| Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]))
}
