//! Listens to other hosts on links of which they are neighbours, to what they say about addresses or to DHCP servers and
//! routers: a thread that reads packet sockets of `packet`.
//!
//! Anybody on those networks may send as much as the network carries. The filter keeps everything else away, queues are
//! bounded, and after a full batch the thread pauses: a flood costs a bounded share of one processor, and answers that
//! are lost in it are missed.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::netlink::Failure;
use super::packet::filter::{DHCP_SNAP, Filter};
use super::packet::{self, PacketSocket, Packets, frame};
use crate::model::{IfName, Mac};

/// Frames that are read from one socket before the thread pauses.
const BATCH: usize = 256;

/// Sockets that are read in one round. The kernel returns those that are ready in turn.
const ROUND: usize = 64;

/// The pause after a full batch.
const PAUSE: Duration = Duration::from_millis(10);

/// A link, as far as the listener needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// Its index.
    pub index: u32,
    /// Its hardware address: frames that it sent itself come back from some networks.
    pub mac: Option<Mac>,
}

/// What is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// ARP and neighbour discovery.
    Neighbours,
    /// DHCP servers and routers.
    Dhcp,
}

impl Subject {
    /// The types of its frames, one for each socket of a link.
    fn kinds(self) -> &'static [u16] {
        match self {
            Self::Neighbours => &[frame::ETHERTYPE_ARP, frame::ETHERTYPE_IPV6],
            Self::Dhcp => &[frame::ETHERTYPE_IPV4, frame::ETHERTYPE_IPV6],
        }
    }

    fn filter(self) -> Filter {
        match self {
            Self::Neighbours => Filter::Neighbours,
            Self::Dhcp => Filter::Dhcp,
        }
    }

    fn thread(self) -> &'static str {
        match self {
            Self::Neighbours => "listener",
            Self::Dhcp => "dhcp listener",
        }
    }
}

/// Receives each frame with the link on which it arrived.
pub(super) type Receiver = Box<dyn Fn(&IfName, Heard, &[u8]) + Send + Sync>;

/// What the thread and the callers share.
struct Place {
    packets: Arc<Packets>,
    subject: Subject,
    /// By index.
    links: Mutex<BTreeMap<u32, Bound>>,
    receiver: OnceLock<Receiver>,
}

#[derive(Clone)]
struct Bound {
    name: IfName,
    heard: Heard,
    sockets: Arc<[PacketSocket]>,
}

/// The thread, from the first link on.
struct Running {
    /// What the thread waits for: each socket with the index of its link as data, and the end with [`STOP`].
    ready: Arc<Epoll>,
    /// Dropping it ends the thread.
    stop: UnixStream,
    thread: JoinHandle<()>,
}

/// No link has this index.
const STOP: u64 = u64::MAX;

/// See the module documentation. Dropping it ends its thread.
pub(super) struct Listener {
    place: Arc<Place>,
    running: Mutex<Option<Running>>,
}

impl Listener {
    pub fn new(packets: Arc<Packets>, subject: Subject) -> Self {
        let place = Place { packets, subject, links: Mutex::default(), receiver: OnceLock::new() };
        Self { place: Arc::new(place), running: Mutex::default() }
    }

    /// The socket that only sends.
    pub fn sender(&self) -> &PacketSocket {
        &self.place.packets.sender
    }

    /// Whether it can listen on further links.
    pub fn opens_sockets(&self) -> bool {
        self.place.packets.has_receivers()
    }

    /// Passes frames to `receiver`, on the thread; a second receiver is ignored.
    pub fn watch(&self, receiver: Receiver) {
        let _ = self.place.receiver.set(receiver);
    }

    /// Listens on these links and no others.
    ///
    /// # Errors
    /// Of the links that cannot be heard, the first.
    pub fn listen(&self, links: &BTreeMap<IfName, Heard>) -> Result<(), Failure> {
        let mut gone = Vec::new();
        self.place.links().retain(|index, bound| {
            let stays = links.get(&bound.name).is_some_and(|heard| heard.index == *index);
            if !stays {
                gone.push(bound.clone());
            }
            stays
        });
        // Without the lock, because closing sockets takes the kernel some milliseconds.
        drop(gone);
        let mut done = Ok(());
        for (name, heard) in links {
            done = done.and(self.add(name, *heard));
        }
        done
    }

    /// Listens on this link too.
    pub fn add(&self, name: &IfName, heard: Heard) -> Result<(), Failure> {
        let former = {
            let mut links = self.place.links();
            if let Some(bound) = links.get_mut(&heard.index) {
                (bound.name, bound.heard) = (name.clone(), heard);
                return Ok(());
            }
            // A link with this name may have been replaced.
            let former = links.iter().find(|(_, bound)| bound.name == *name).map(|(index, _)| *index);
            let former = former.and_then(|index| links.remove(&index));
            let most = packet::most_links();
            if links.len() >= most {
                let text = format!("Pontoon listens on {most} links at most; raise its limit of open files");
                return Err(Failure::refused(libc::ENOBUFS, &text));
            }
            former
        };
        drop(former);
        let ready = self.start()?;
        let os = |error: std::io::Error| Failure::refused(error.raw_os_error().unwrap_or(libc::EIO), "listening on it");
        let open = |kind: &u16| {
            let socket = self.place.packets.receiver(self.place.subject.filter())?;
            socket.bind(heard.index, *kind)?;
            Ok(socket)
        };
        let sockets: Arc<[_]> = self.place.subject.kinds().iter().map(open).collect::<Result<_, _>>().map_err(os)?;
        // Before they are recorded: a link counts as heard only if all of its sockets are. Until then the thread finds no
        // link for their frames, and asks again.
        for socket in sockets.iter() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, heard.index.into());
            ready.add(socket, event).map_err(|errno| os(errno.into()))?;
        }
        let other = self.place.links().insert(heard.index, Bound { name: name.clone(), heard, sockets });
        drop(other);
        Ok(())
    }

    /// Starts the thread, with the first link.
    fn start(&self) -> Result<Arc<Epoll>, Failure> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_ref() {
            return Ok(Arc::clone(&running.ready));
        }
        let start = || -> std::io::Result<Running> {
            let ready = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
            let (stop, theirs) = UnixStream::pair()?;
            ready.add(&theirs, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
            let (place, waited) = (Arc::clone(&self.place), Arc::clone(&ready));
            let thread = std::thread::Builder::new().name(place.subject.thread().to_owned());
            let thread = thread.spawn(move || {
                place.run(&waited);
                drop(theirs);
            })?;
            Ok(Running { ready, stop, thread })
        };
        let started = start().map_err(|error| Failure::refused(error.raw_os_error().unwrap_or(libc::EAGAIN), ""))?;
        let ready = Arc::clone(&started.ready);
        *running = Some(started);
        Ok(ready)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread, .. }) = running {
            drop(stop);
            // The watcher may drop the last owner; a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("links", &self.place.links().values().map(|bound| &bound.name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Place {
    fn links(&self) -> MutexGuard<'_, BTreeMap<u32, Bound>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, ready: &Epoll) {
        let mut events = [EpollEvent::empty(); ROUND];
        loop {
            let count = match ready.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return tracing::error!(%errno, "stopped listening to other hosts"),
            };
            let mut full = false;
            // Each of them, whatever another one holds: a flood on one network must not hide the others.
            for event in events.iter().take(count) {
                if event.data() == STOP {
                    return;
                }
                // A link that is no longer listened to has none.
                let bound = u32::try_from(event.data()).ok().and_then(|index| self.links().get(&index).cloned());
                if let Some(bound) = bound {
                    full |= bound.sockets.iter().fold(false, |full, socket| full | self.read(&bound, socket));
                }
            }
            if full {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Reads what a socket has received; true if there may be more. An error is that of a link that is gone or down,
    /// and reading it clears it.
    fn read(&self, bound: &Bound, socket: &PacketSocket) -> bool {
        let mut buffer = [0; DHCP_SNAP as usize];
        for _ in 0..BATCH {
            match socket.receive(&mut buffer) {
                Ok(frame) => {
                    if let Some(receiver) = self.receiver.get() {
                        receiver(&bound.name, bound.heard, frame);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}
