//! Reserves ports on the host: one bound socket per port, so that the second of two programs detects the
//! conflict. No packet is ever delivered to these sockets.
//!
//! Sockets belong to the network namespace of the calling thread. Called by `LinuxKernel`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, sockopt,
};

use crate::datapath::ReserveError;
use crate::model::{HostPort, Protocol};

/// Mark of the sockets, by which the firewall recognises packets that would end at one of them. "PNT" and a
/// zero byte.
pub const MARK: u32 = 0x504e_5400;

/// Descriptors that are not available for ports; half of the limit if the limit is low.
const RESERVE: u64 = 512;

/// The reserved ports. A port of a protocol that this kernel does not support has no socket: no other process
/// can bind it either.
#[derive(Debug)]
pub struct Reservations(Mutex<HashMap<HostPort, Option<OwnedFd>>>);

impl Reservations {
    /// Starts without ports, and raises the limit of descriptors as far as the system allows: each port needs
    /// one.
    pub fn new() -> Self {
        raise_limit();
        Self(Mutex::default())
    }

    /// Takes all of these ports, or none.
    pub fn reserve(&self, ports: &[HostPort]) -> Result<(), ReserveError> {
        let mut held = self.held();
        // Dropped with its sockets when one fails.
        let mut taken: HashMap<HostPort, Option<OwnedFd>> = HashMap::new();
        for port in ports {
            if held.contains_key(port) || taken.contains_key(port) {
                continue;
            }
            if full(held.len() + taken.len()) {
                return Err(no_descriptor(*port));
            }
            let socket = match take(port) {
                // Without kernel support for the protocol, conflicts are detected here.
                Ok(None) if held.keys().chain(taken.keys()).any(|other| meet(other, port)) => {
                    return Err(ReserveError::Taken { port: *port });
                }
                Ok(socket) => socket,
                Err(Errno::EADDRINUSE) => return Err(ReserveError::Taken { port: *port }),
                Err(Errno::EADDRNOTAVAIL) => return Err(ReserveError::NoAddress { port: *port }),
                Err(Errno::EMFILE | Errno::ENFILE) => return Err(no_descriptor(*port)),
                Err(errno) => return Err(ReserveError::Refused { port: *port, errno: errno as i32 }),
            };
            taken.insert(*port, socket);
        }
        held.extend(taken);
        Ok(())
    }

    /// Releases these ports.
    pub fn release(&self, ports: &[HostPort]) {
        let mut held = self.held();
        for port in ports {
            held.remove(port);
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<HostPort, Option<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this many ports leave too few descriptors for everything else: connections, netlink, the ledger.
/// The limit is read each time, because an operator may raise it for a running process.
fn full(ports: usize) -> bool {
    let limit = limit();
    ports as u64 >= limit.saturating_sub(RESERVE.min(limit / 2))
}

fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

fn no_descriptor(port: HostPort) -> ReserveError {
    ReserveError::NoDescriptor { port, limit: limit() }
}

/// Whether two ports exclude each other.
fn meet(a: &HostPort, b: &HostPort) -> bool {
    (a.protocol, a.port, a.address.is_ipv4()) == (b.protocol, b.port, b.address.is_ipv4())
        && (a.address == b.address || a.address.is_unspecified() || b.address.is_unspecified())
}

/// A socket that reserves the port; `None` when the kernel does not support the protocol.
fn take(port: &HostPort) -> Result<Option<OwnedFd>, Errno> {
    let Some(socket) = open(port)? else { return Ok(None) };
    let socket = match bound(&socket, port) {
        // Remaining connections of a process that exited hold the port for a minute. They yield to a socket
        // that allows sharing; no other program can share one that listens.
        Err(Errno::EADDRINUSE) if port.protocol != Protocol::Udp => {
            let Some(socket) = open(port)? else { return Ok(None) };
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bound(&socket, port)?;
            socket
        }
        result => result.map(|()| socket)?,
    };
    if port.protocol != Protocol::Udp {
        // The filter applies only to listening sockets. Without one the kernel would reset connections whose
        // packets arrive here untranslated while a flushed table is being repaired.
        listen(&socket, Backlog::new(1)?)?;
    }
    Ok(Some(socket))
}

fn open(port: &HostPort) -> Result<Option<OwnedFd>, Errno> {
    let family = if port.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if port.protocol == Protocol::Udp { SockType::Datagram } else { SockType::Stream };
    let kind = kind as libc::c_int | SockFlag::SOCK_CLOEXEC.bits();
    // SAFETY: a system call without pointers; nix does not know the number of SCTP.
    let fd = unsafe { libc::socket(family as libc::c_int, kind, libc::c_int::from(port.protocol.number())) };
    let socket = match Errno::result(fd) {
        // SAFETY: the descriptor is new and owned by no other value.
        Ok(fd) => unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) },
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) => {
            tracing::debug!(%port, "kernel does not support the protocol; the port is reserved in memory only");
            return Ok(None);
        }
        Err(errno) => return Err(errno),
    };
    drop_everything(&socket)?;
    // Without the mark, packets are dropped silently at the socket, but the port is reserved.
    if let Err(errno) = setsockopt(&socket, sockopt::Mark, &MARK) {
        tracing::debug!(%errno, "cannot mark the socket that reserves a port");
    }
    if port.protocol == Protocol::Udp {
        // The smallest possible buffer; an error is ignored. A listening socket has no such buffer.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &1);
    }
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(Some(socket))
}

fn bound(socket: &OwnedFd, port: &HostPort) -> Result<(), Errno> {
    match SocketAddr::new(port.address, port.port) {
        SocketAddr::V4(address) => bind(socket.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => bind(socket.as_raw_fd(), &SockaddrIn6::from(address)),
    }
}

/// Attaches a filter of one instruction: keep zero bytes of every packet.
fn drop_everything(socket: &OwnedFd) -> Result<(), Errno> {
    // BPF_RET | BPF_K
    let mut program = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the pointer is to a live structure of the given length, whose own pointer is to one
    // live instruction; the kernel copies both.
    let result = unsafe {
        let value = std::ptr::from_ref(&filter).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, len)
    };
    Errno::result(result).map(drop)
}

/// Raises the soft limit of open files to the hard limit. Failure does not prevent the start.
fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(errno) = raised {
        tracing::debug!(%errno, "cannot raise the limit of open files");
    }
}
