//! Descriptors of netlink sockets: opening, configuring, receiving one datagram.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, recv, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::socket::Failure;

/// Receive timeout of the socket; the deadline is checked at least this often.
const SLICE_SECONDS: i64 = 1;

/// Kernel-side buffers, in bytes: an nf_tables transaction travels as one datagram, and its
/// errors come back all at once.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h), since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The kernel subsystem that a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `NETLINK_ROUTE`: links, addresses, routes.
    Route,
    /// `NETLINK_NETFILTER`: nf_tables.
    Netfilter,
    /// `NETLINK_GENERIC`: families with dynamically assigned numbers.
    Generic,
    /// `NETLINK_SOCK_DIAG`: the sockets of this namespace.
    Diagnosis,
}

/// Opens, configures and binds a socket in the calling thread's namespace, member of `groups`.
///
/// # Errors
/// The first system call that failed.
pub fn open_fd(protocol: Protocol, groups: &[u32]) -> Result<OwnedFd, Failure> {
    let protocol = match protocol {
        Protocol::Route => SockProtocol::NetlinkRoute,
        Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        Protocol::Generic => SockProtocol::NetlinkGeneric,
        Protocol::Diagnosis => SockProtocol::NetlinkSockDiag,
    };
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // Without the privilege for more, the default sizes must suffice.
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &KERNEL_BUFFER);
    let _ = setsockopt(&fd, sockopt::SndBufForce, &KERNEL_BUFFER);
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(SLICE_SECONDS, 0))?;
    // Older kernels lack some of these and then send more, or fewer details; both are handled.
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
        let _ = set_netlink_option(&fd, option, 1);
    }
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    if groups.is_empty() {
        // Connected to port 0, the socket receives only messages of the kernel.
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    }
    for group in groups {
        set_netlink_option(&fd, libc::NETLINK_ADD_MEMBERSHIP, *group)?;
    }
    Ok(fd)
}

/// Grows the send buffer for a datagram of this length: a transaction may have thousands of elements. Without
/// the privilege the kernel refuses what does not fit.
pub fn make_room(fd: &OwnedFd, length: usize) {
    if length > KERNEL_BUFFER {
        let _ = setsockopt(fd, sockopt::SndBufForce, &(length + KERNEL_BUFFER));
    }
}

fn set_netlink_option(fd: &OwnedFd, option: libc::c_int, value: u32) -> Result<(), Errno> {
    let len = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the pointer is to a live u32 of the given length, which the kernel only reads.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, std::ptr::from_ref(&value).cast(), len) };
    Errno::result(result).map(drop)
}

/// A number that is the same for all sockets of one network namespace; `None` before Linux 5.14.
pub fn netns_cookie(fd: &OwnedFd) -> Option<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: both pointers are to live values; the kernel writes at most `len` bytes of the first.
    let result = unsafe {
        let value = std::ptr::from_mut(&mut cookie).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut len)
    };
    (result == 0).then_some(cookie)
}

/// Receives one datagram.
///
/// # Errors
/// [`Failure::Timeout`] after `deadline`; [`Failure::Torn`] when the kernel dropped an answer or it did not fit
/// (the buffer is larger by then); otherwise the error of `recv`.
pub fn receive<'a>(fd: &OwnedFd, buffer: &'a mut Vec<u8>, deadline: Instant) -> Result<&'a [u8], Failure> {
    loop {
        match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Ok(len) if len > buffer.len() => {
                buffer.resize(len.next_power_of_two(), 0);
                return Err(Failure::Torn);
            }
            Ok(len) => return Ok(buffer.get(..len).unwrap_or_default()),
            Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < deadline => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return Err(Failure::Timeout),
            Err(Errno::ENOBUFS) => return Err(Failure::Torn),
            Err(errno) => return Err(errno.into()),
        }
    }
}
