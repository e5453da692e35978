//! Ensures that only one Pontoon runs in a network namespace. The claim ends with the process, however it
//! ends.
//!
//! The claimed resource must be out of reach of processes that must not block Pontoon: a user without
//! privileges, and a container in the host's network that is root there without CAP_NET_ADMIN. Those can bind
//! any abstract socket or port and take file locks of their own. A group of the kernel's packet log requires
//! CAP_NET_ADMIN, belongs to one socket of one namespace, and no rule logs to this one.
//!
//! Earlier releases claimed the abstract socket `pontoon`. It is still bound where possible, so that such a
//! release does not start later; one that already runs is recognised by its privileges.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket, sockopt,
};
use nix::unistd::geteuid;

use super::netlink::{Failure, OwnPorts, Protocol, Socket};
use super::tlv::{Attributes, Writer, native32};

/// The packet log group that Pontoon claims.
const GROUP: u16 = 0x706e;
/// Another group, to distinguish a taken group from a missing privilege: both fail with EPERM.
const PROBE: u16 = GROUP + 1;
/// `NFNL_SUBSYS_ULOG` and `NFULNL_MSG_CONFIG`, as encoded in a message type.
const CONFIGURE: u16 = (4 << 8) | 1;
/// `NFULA_CFG_CMD` and `NFULNL_CFG_CMD_BIND` (include/uapi/linux/netfilter/nfnetlink_log.h).
const COMMAND: u16 = 1;
const BIND: u8 = 1;

/// The abstract socket of earlier releases.
const NAME: &str = "pontoon";

/// `SOCK_DIAG_BY_FAMILY` (include/uapi/linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `UDIAG_SHOW_NAME` and `UDIAG_SHOW_UID`, the attributes that they request, and the length of `struct
/// unix_diag_msg` before the attributes (include/uapi/linux/unix_diag.h).
const SHOW_NAME_AND_UID: u32 = 0x41;
const DIAG_NAME: u16 = 0;
const DIAG_UID: u16 = 7;
const DIAG_HEADER: usize = 16;
/// `TCP_LISTEN`, the state of listening sockets of any family (include/net/tcp_states.h).
const LISTENING: u32 = 10;

/// `NETLINK_NETFILTER`, and the bit of `NFNLGRP_NFTABLES` among a socket's groups: only a process with
/// CAP_NET_ADMIN can be a member, and each Pontoon is.
const NETFILTER: &str = "12";
const NFTABLES: u32 = 1 << 6;

/// Why the namespace cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum SingletonError {
    /// Two Pontoons would treat each other's links as orphans.
    #[error(
        "another Pontoon already serves this network namespace (a managed plugin and a socket plugin?): stop one of them"
    )]
    Taken,
    /// The system refused.
    #[error("cannot claim this network namespace for Pontoon: {0}")]
    System(#[from] io::Error),
}

/// The claim; dropping it releases the namespace.
#[derive(Debug)]
pub struct Singleton {
    _group: Option<Socket>,
    _name: Option<UnixListener>,
}

impl Singleton {
    /// Claims the network namespace of the calling thread. Opens sockets that confinement forbids, so it must
    /// be called before.
    ///
    /// # Errors
    /// [`SingletonError::Taken`] when another Pontoon has claimed it. No other program can cause that error.
    pub fn acquire() -> Result<Self, SingletonError> {
        let group = take_group()?;
        let name = take_name(group.is_some())?;
        Ok(Self { _group: group, _name: name })
    }
}

/// `None` when this kernel has no packet log, or this process lacks CAP_NET_ADMIN; opening the kernel's
/// sockets reports the latter more clearly.
fn take_group() -> Result<Option<Socket>, SingletonError> {
    let system = |failure: Failure| io::Error::from_raw_os_error(failure.errno().unwrap_or(libc::EIO));
    let mut socket = Socket::open(Protocol::Netfilter, Arc::new(OwnPorts::default())).map_err(system)?;
    let Err(failure) = bind(&mut socket, GROUP) else { return Ok(Some(socket)) };
    let forbidden = |failure: &Failure| failure.errno() == Some(libc::EPERM);
    if failure.errno() == Some(libc::EBUSY) || forbidden(&failure) && bind(&mut socket, PROBE).is_ok() {
        return Err(SingletonError::Taken);
    }
    if !forbidden(&failure) {
        tracing::debug!(
            ?failure,
            "kernel does not support nfnetlink_log; claiming the namespace with an abstract socket only"
        );
    }
    Ok(None)
}

fn bind(socket: &mut Socket, group: u16) -> Result<(), Failure> {
    // struct nfgenmsg: no family, version 0, the group.
    let [high, low] = group.to_be_bytes();
    let mut body = Writer::with_header(&[0, 0, high, low]);
    body.bytes(COMMAND, &[BIND]);
    socket.execute(CONFIGURE, 0, &body.finish())
}

/// Binds the abstract socket. If another process has it, that counts only if the process may be an earlier
/// release; otherwise returns `None`.
fn take_name(claimed: bool) -> Result<Option<UnixListener>, SingletonError> {
    let address = SocketAddr::from_abstract_name(NAME)?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error.into()),
        Err(_) => {}
    }
    let holder = holder();
    let privileged = |uid: u32| uid == 0 || uid == geteuid().as_raw();
    let trusted = match &holder {
        Holder::Listens(peer) => privileged(peer.uid()),
        // Its queue stays full because the process does not accept. The kernel may not tell the owner.
        Holder::Busy => owner().is_none_or(privileged),
        Holder::Silent => false,
    };
    if trusted && (!claimed || is_firewall_watched()) {
        return Err(SingletonError::Taken);
    }
    tracing::warn!(?holder, "ignoring a process that is not Pontoon and owns the abstract socket @pontoon");
    Ok(None)
}

/// The process that has the abstract socket.
#[derive(Debug)]
#[allow(dead_code, reason = "only logged")]
enum Holder {
    /// A process that listens.
    Listens(UnixCredentials),
    /// A process whose queue of connections is full.
    Busy,
    /// A process that does not listen, or that has exited.
    Silent,
}

fn holder() -> Holder {
    let ask = || -> Result<UnixCredentials, Errno> {
        // The process that has it may never accept.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new_abstract(NAME.as_bytes())?)?;
        getsockopt(&fd, sockopt::PeerCredentials)
    };
    match ask() {
        Ok(peer) => Holder::Listens(peer),
        Err(Errno::EAGAIN) => Holder::Busy,
        Err(_) => Holder::Silent,
    }
}

/// The user that created the abstract socket; `None` when the kernel does not tell (before Linux 5.3, or
/// without `unix_diag`).
fn owner() -> Option<u32> {
    let mut socket = Socket::open(Protocol::Diagnosis, Arc::new(OwnPorts::default())).ok()?;
    let family = u8::try_from(libc::AF_UNIX).ok()?;
    // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie. Connections to
    // the socket have its name too, but do not listen.
    let mut request = vec![family, 0, 0, 0];
    for word in [1 << LISTENING, 0, SHOW_NAME_AND_UID, 0, 0] {
        request.extend(word.to_ne_bytes());
    }
    let name: Vec<u8> = [&[0], NAME.as_bytes()].concat();
    let of_ours = |_, payload: &[u8]| {
        let attributes = Attributes::after(payload, DIAG_HEADER);
        let named = attributes.find(DIAG_NAME) == Some(&name);
        attributes.find(DIAG_UID).filter(|_| named).and_then(native32)
    };
    socket.list(BY_FAMILY, &request, of_ours).ok()?.first().copied()
}

/// Whether a process with CAP_NET_ADMIN is subscribed to firewall changes in this namespace.
fn is_firewall_watched() -> bool {
    let Ok(table) = fs::read_to_string("/proc/thread-self/net/netlink") else { return true };
    table.lines().any(watches)
}

/// Parses a line of `/proc/net/netlink`: address, protocol, port, groups in hexadecimal, and more.
fn watches(line: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (protocol, groups) = (words.next(), words.nth(1));
    let groups = groups.and_then(|groups| u32::from_str_radix(groups, 16).ok());
    protocol == Some(NETFILTER) && groups.is_some_and(|groups| groups & NFTABLES != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_firewalls_group_are_found() {
        let head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode";
        let watcher = "0000000000000000 12  -1234567   00000040 0        0        0     2        0        4711";
        let other = "0000000000000000 12  4711       00000000 0        0        0     2        0        4712";
        let route = "0000000000000000 0   4711       00000040 0        0        0     2        0        4713";
        assert_eq!([head, watcher, other, route, ""].map(watches), [false, true, false, false, false]);
    }
}
