//! Packet sockets: they send and receive whole frames on one link.
//!
//! Opening one needs CAP_NET_RAW, using it does not. The daemon drops the capability at start; a process of its own
//! ([`opener`]) opens sockets for it, and a locked [`Filter`] decides for ever what each receives. `announcement` and
//! `probe` in [`frame`] make the frames; `wire` receives.

pub mod filter;
pub mod frame;
mod opener;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{MsgFlags, recv};

use self::filter::Filter;
use self::opener::Opener;
use super::netlink::Failure;

/// Bytes that the kernel queues for a socket; what does not fit is dropped.
const QUEUE: libc::c_int = 64 * 1024;

/// Open files that the process may have for each link on which sockets receive: with a low limit, published ports and
/// connections need them more.
const FILES_PER_LINK: u64 = 128;

/// On how many links sockets may receive. The soft limit is raised to the hard one at start.
pub fn most_links() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
    usize::try_from(limit / FILES_PER_LINK).unwrap_or(usize::MAX)
}

/// A packet socket with a locked filter.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket that receives nothing until it is bound.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW in the network namespace of the calling thread, and EAFNOSUPPORT in a kernel without
    /// packet sockets.
    pub fn open(filter: Filter) -> io::Result<Self> {
        // SAFETY: socket(2) takes three numbers; its result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        let fd = Errno::result(fd)?;
        // SAFETY: the descriptor is new, valid and owned by no other value.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut program = filter.program();
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        socket.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        socket.set(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &QUEUE)?;
        // Only since Linux 4.20. Without it, frames of this host are recognised by their hardware address.
        let _ = socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1);
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the pointer is to a live value of the given length, and a filter program lives until the call ends.
        let set = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), len) };
        Errno::result(set)?;
        Ok(())
    }

    /// Receives the frames of this type (an Ethernet type) that arrive on the link with this index.
    pub fn bind(&self, link: u32, kind: u16) -> io::Result<()> {
        let at = link_address(link, kind);
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer is to a live address of the given length, which the kernel only reads.
        let bound = unsafe { libc::bind(self.0.as_raw_fd(), std::ptr::from_ref(&at).cast(), len) };
        Errno::result(bound)?;
        Ok(())
    }

    /// Sends one frame out of the link with this index.
    pub fn send(&self, link: u32, frame: &[u8]) -> Result<(), Failure> {
        let mut to = link_address(link, 0);
        to.sll_halen = 6;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: both pointers are to live values of the given lengths, which the kernel only reads.
        let sent = unsafe {
            let to = std::ptr::from_ref(&to).cast();
            libc::sendto(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, len)
        };
        if sent >= 0 {
            return Ok(());
        }
        Err(Failure::refused(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO), ""))
    }

    /// The next frame, without waiting for one.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
        let len = recv(self.0.as_raw_fd(), buffer, MsgFlags::empty())?;
        Ok(buffer.get(..len).unwrap_or_default())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn link_address(link: u32, kind: u16) -> libc::sockaddr_ll {
    // SAFETY: every field of this structure may be zero.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = kind.to_be();
    address.sll_ifindex = link as i32;
    address
}

/// The packet sockets of a process.
#[derive(Debug)]
pub struct Packets {
    /// Sends on any link, and receives nothing.
    pub sender: PacketSocket,
    /// Opens further sockets; without it this process does, which must have kept the capability.
    opener: Option<Opener>,
}

impl Packets {
    /// Opens the one that sends in the network namespace of the calling thread; others are opened when they are needed.
    /// `None` without CAP_NET_RAW, or in a kernel without packet sockets: networks of a single host do not need them.
    pub fn open() -> Option<Self> {
        let sender = PacketSocket::open(Filter::Nothing);
        let sender = sender.inspect_err(|error| tracing::debug!(%error, "cannot open packet sockets")).ok()?;
        Some(Self { sender, opener: None })
    }

    /// [`Packets::open`] for a process that drops its privileges later: another process, in which `confine` runs first,
    /// keeps the capability. Must be called before this process starts threads.
    pub fn open_apart(confine: impl FnOnce()) -> Option<Self> {
        let mut packets = Self::open()?;
        match Opener::start(confine) {
            Ok(opener) => packets.opener = Some(opener),
            Err(error) => tracing::warn!(%error, "cannot start the process that opens packet sockets"),
        }
        Some(packets)
    }

    /// Opens a socket that receives nothing until it is bound.
    ///
    /// # Errors
    /// The system's. EPIPE if the process that opens them has ended, and EAGAIN if it did not answer within a second.
    pub fn receiver(&self, filter: Filter) -> io::Result<PacketSocket> {
        self.opener.as_ref().map_or_else(|| PacketSocket::open(filter), |opener| opener.open(filter))
    }

    /// Whether there is still a process that opens them.
    pub fn has_receivers(&self) -> bool {
        self.opener.as_ref().is_none_or(Opener::is_alive)
    }
}
