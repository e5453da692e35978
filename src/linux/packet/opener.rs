//! Opens packet sockets for the daemon after it dropped CAP_NET_RAW: a process of its own, which keeps that capability,
//! nothing else, and does nothing else.
//!
//! Sockets that are opened in advance, for links that may never exist, would be simpler and make every restart slower:
//! whenever a packet socket is closed, also by the end of its process, the kernel waits about 10 ms for a grace
//! period of RCU (`packet_release`, net/packet/af_packet.c).
//!
//! The daemon asks for a socket with one of the locked filters; an attacker who controls the daemon gets no other
//! socket. The process ends with the daemon, when the channel is closed. If it ends earlier, for example for lack of
//! memory, the daemon cannot start another one, and `pontoon doctor` asks for a restart.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send, sendmsg,
    setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::{ForkResult, fork};

use super::PacketSocket;
use super::filter::Filter;

/// The deadline for an answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The name of the process, of at most 15 bytes (`TASK_COMM_LEN`, include/linux/sched.h).
const NAME: &std::ffi::CStr = c"pontoon-packets";

/// The daemon's end of the channel: messages of 8 bytes, a number and a value, both in the byte order of the machine.
/// The value is the position of a filter in [`Filter::ALL`] in a request, and an error number in the answer; 0 comes
/// with a socket. An answer to another number is to a request whose deadline has passed.
#[derive(Debug)]
pub(super) struct Opener(Mutex<Channel>);

#[derive(Debug)]
struct Channel {
    socket: OwnedFd,
    number: u32,
}

impl Opener {
    /// Starts the process. `confine` runs in it, first.
    ///
    /// Must be called before the calling process starts threads, because the new one has only the calling thread: what
    /// others had locked would stay locked. The caller ignores SIGCHLD from now on, so that the process leaves no
    /// zombie.
    ///
    /// # Errors
    /// The system's, when there is no memory or no process for it.
    pub fn start(confine: impl FnOnce()) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(io::Error::from)?;
        setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER.as_secs() as i64, 0))?;
        setsockopt(&ours, sockopt::SendTimeout, &TimeVal::new(ANSWER.as_secs() as i64, 0))?;
        // SAFETY: no handler is installed.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
        // SAFETY: there is one thread, as documented.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => Ok(Self(Mutex::new(Channel { socket: ours, number: 0 }))),
            ForkResult::Child => run(&theirs, confine),
        }
    }

    /// Asks for a socket with this filter.
    ///
    /// # Errors
    /// That of opening it, EPIPE if the process has ended, and EAGAIN after a second without an answer.
    pub fn open(&self, filter: Filter) -> io::Result<PacketSocket> {
        self.ask(filter).map_err(|error| match error.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => Errno::EPIPE.into(),
            _ => error,
        })
    }

    /// Whether the process exists. Does not wait.
    pub fn is_alive(&self) -> bool {
        let channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fds = [PollFd::new(channel.socket.as_fd(), PollFlags::empty())];
        // POLLHUP needs not be asked for: the other end is closed (unix_poll, net/unix/af_unix.c).
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    fn ask(&self, filter: Filter) -> io::Result<PacketSocket> {
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channel.number = channel.number.wrapping_add(1);
        let at = Filter::ALL.iter().position(|known| *known == filter).unwrap_or_default();
        let fd = channel.socket.as_raw_fd();
        send(fd, &message(channel.number, at as i32), MsgFlags::MSG_NOSIGNAL)?;
        loop {
            let (number, error, socket) = receive(fd)?;
            match socket {
                _ if number != channel.number => {}
                Some(socket) => return Ok(PacketSocket(socket)),
                None => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

fn message(number: u32, value: i32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

fn parsed(bytes: [u8; 8]) -> (u32, i32) {
    let [a, b, c, d, e, f, g, h] = bytes;
    (u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]))
}

/// Receives one answer: the number of its request, an error number, and the socket.
fn receive(fd: RawFd) -> io::Result<(u32, i32, Option<OwnedFd>)> {
    let mut bytes = [0; 8];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = cmsg_space!(RawFd);
    let answer = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut socket = None;
    for attached in answer.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = attached {
            // SAFETY: the kernel has just created these descriptors for this process.
            socket = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
        }
    }
    if answer.bytes == 0 {
        return Err(Errno::EPIPE.into());
    }
    let (number, error) = parsed(bytes);
    Ok((number, error, socket))
}

/// The life of the process.
fn run(channel: &OwnedFd, confine: impl FnOnce()) -> ! {
    let fd = alone_with(channel);
    confine();
    while let Some(fd) = fd
        && let Ok(true) = answer(fd)
    {}
    // SAFETY: ends this process without what the daemon registered for its own end.
    unsafe { libc::_exit(0) }
}

/// Closes every other descriptor, except the standard ones; the daemon's listening sockets and locks are its own.
fn alone_with(channel: &OwnedFd) -> Option<RawFd> {
    const FIRST: RawFd = libc::STDERR_FILENO + 1;
    // SAFETY: the calls take numbers and a string that lives for ever. The descriptors that they close are not used
    // again in this process, which leaves only through `_exit`.
    let alone = unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        // Ends of terminals and of units reach the daemon, which may need sockets until it has ended.
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        let moved = libc::dup2(channel.as_raw_fd(), FIRST) == FIRST;
        // Older service managers do not know the call and refuse it; the daemon has opened only a few files so far.
        if libc::syscall(libc::SYS_close_range, FIRST + 1, libc::c_uint::MAX, 0) != 0 {
            for fd in FIRST + 1..1024 {
                libc::close(fd);
            }
        }
        moved
    };
    alone.then_some(FIRST)
}

/// Answers one request; false after the last one.
fn answer(fd: RawFd) -> nix::Result<bool> {
    let mut bytes = [0; 8];
    if recv(fd, &mut bytes, MsgFlags::empty())? == 0 {
        return Ok(false);
    }
    let (number, at) = parsed(bytes);
    let filter = usize::try_from(at).ok().and_then(|at| Filter::ALL.get(at));
    let opened = filter.map_or_else(|| Err(Errno::EINVAL.into()), |filter| PacketSocket::open(*filter));
    let (error, fds) = match &opened {
        Ok(socket) => (0, vec![socket.0.as_raw_fd()]),
        Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
    };
    let bytes = message(number, error);
    let attached = ControlMessage::ScmRights(&fds);
    let attached = if fds.is_empty() { &[][..] } else { std::slice::from_ref(&attached) };
    sendmsg::<()>(fd, &[IoSlice::new(&bytes)], attached, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(true)
}
