//! Probes: echo requests from inside containers, sent by this process through sockets opened in their network
//! namespaces. This allows probing every pair many times a second, in the same way for every driver.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSliceMut,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    time::{Duration, SystemTime},
};

use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockProtocol, recvmsg};

use crate::place::Place;
use crate::socket::{self, inside, raw};

/// `ICMP_FILTER` (include/uapi/linux/icmp.h).
const ICMP_FILTER: libc::c_int = 1;

/// Interval of retries without an answer.
const AGAIN: Duration = Duration::from_millis(20);

struct End {
    place: Rc<Place>,
    socket: OwnedFd,
    /// The probed addresses.
    asked: BTreeMap<Ipv4Addr, Question>,
}

struct Question {
    first: SystemTime,
    last: SystemTime,
    answer: Option<Answer>,
}

/// The time until one container reached another.
#[derive(Clone, Copy)]
struct Answer {
    /// Since both were running.
    running: Duration,
    /// Since the first probe, which is sent as soon as the engines list both.
    asked: Duration,
}

/// The time until a container was reached by all others, in its slowest pair.
#[derive(Clone, Copy, Default)]
pub struct Arrival {
    /// Since it was running, including the time until the engine listed it.
    pub running: Duration,
    /// Since the first probe.
    pub asked: Duration,
}

/// The containers between which probes are sent, and the results.
#[derive(Default)]
pub struct Probes {
    ends: BTreeMap<String, End>,
}

impl Probes {
    /// Adds new containers and removes those that ended. Skips one whose namespace is gone.
    pub fn follow(&mut self, places: &[Place]) {
        let ids: BTreeSet<_> = places.iter().map(|place| &place.id).collect();
        self.ends.retain(|id, _| ids.contains(id));
        let left: BTreeSet<_> = self.ends.values().map(|end| end.place.address).collect();
        for end in self.ends.values_mut() {
            end.asked.retain(|address, _| left.contains(address));
        }
        for place in places {
            if !self.ends.contains_key(&place.id)
                && let Some(socket) = open(place)
            {
                let end = End { place: Rc::new(place.clone()), socket, asked: BTreeMap::new() };
                self.ends.insert(place.id.clone(), end);
            }
        }
    }

    /// Sends probes for every pair without an answer yet, and reads the answers.
    pub fn ask(&mut self) {
        let all: Vec<_> = self.ends.values().map(|end| Rc::clone(&end.place)).collect();
        for end in self.ends.values_mut() {
            for to in all.iter().filter(|to| asks(&end.place, to)) {
                let now = SystemTime::now();
                let question = end.asked.entry(to.address).or_insert(Question {
                    first: now,
                    last: SystemTime::UNIX_EPOCH,
                    answer: None,
                });
                let waited = now.duration_since(question.last).unwrap_or_default();
                if question.answer.is_none() && waited >= AGAIN {
                    question.last = now;
                    send(&end.socket, to.address);
                }
            }
        }
        let started: BTreeMap<Ipv4Addr, SystemTime> = all.iter().map(|place| (place.address, place.started)).collect();
        for end in self.ends.values_mut() {
            while let Some((from, at)) = receive(&end.socket) {
                let Some((question, started)) = end.asked.get_mut(&from).zip(started.get(&from)) else { continue };
                let since = |when: SystemTime| at.duration_since(when).unwrap_or_default();
                let answer = Answer { running: since(end.place.started.max(*started)), asked: since(question.first) };
                question.answer.get_or_insert(answer);
            }
        }
    }

    pub fn missing(&self) -> Vec<String> {
        self.pairs()
            .filter(|(.., answer)| answer.is_none())
            .map(|(from, to, _)| format!("{} on {} to {} on {}", from.address, from.node, to.address, to.node))
            .collect()
    }

    /// The arrival of each container that `counts`: the slowest of the pairs in which it is the younger one.
    pub fn arrivals(&self, counts: impl Fn(&Place) -> bool) -> Vec<Arrival> {
        let mut slowest: BTreeMap<&str, Arrival> = BTreeMap::new();
        for (from, to, answer) in self.pairs() {
            let younger = if from.started > to.started { from } else { to };
            if let Some(answer) = answer.filter(|_| counts(younger)) {
                let slowest = slowest.entry(&younger.id).or_default();
                slowest.running = slowest.running.max(answer.running);
                slowest.asked = slowest.asked.max(answer.asked);
            }
        }
        slowest.into_values().collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (&Place, &Place, Option<Answer>)> {
        let all = self.ends.values().flat_map(|from| self.ends.values().map(move |to| (from, &*to.place)));
        all.filter(|(from, to)| asks(&from.place, to)).map(|(from, to)| {
            let answer = from.asked.get(&to.address).and_then(|question| question.answer);
            (&*from.place, to, answer)
        })
    }
}

/// Whether the first probes the second. A younger container does not probe an older one: the probe would inform the
/// older one about the address, which is what is tested.
fn asks(from: &Place, to: &Place) -> bool {
    from.id != to.id && (from.service.is_none() || to.service.is_some())
}

/// A raw socket that receives only echo replies, with timestamps.
fn open(place: &Place) -> Option<OwnedFd> {
    inside(&place.netns, || {
        let socket = raw(AddressFamily::Inet, Some(SockProtocol::Icmp));
        socket::set(&socket, libc::SOL_RAW, ICMP_FILTER, &!1u32);
        socket::set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1);
        socket
    })
}

/// Ignores errors: the probe is repeated.
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

/// The address that answered, and the time at which the kernel received it; `None` if there is no more.
fn receive(socket: &OwnedFd) -> Option<(Ipv4Addr, SystemTime)> {
    let mut packet = [0u8; 128];
    let mut told = nix::cmsg_space!(libc::timespec);
    let mut parts = [IoSliceMut::new(&mut packet)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut told), MsgFlags::empty()).ok()?;
    let at = received.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(SystemTime::UNIX_EPOCH + at.into()),
        _ => None,
    })?;
    let len = received.bytes;
    (len >= 28).then(|| (Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]), at))
}
