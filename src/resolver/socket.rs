//! The sockets that receive queries: of both families in one, whatever the host's setting for new sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, socket, sockopt,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket for datagrams.
pub(super) fn udp(port: u16) -> io::Result<UdpSocket> {
    open(SockType::Datagram, port).map(UdpSocket::from)
}

/// A socket for connections.
pub(super) fn tcp(port: u16) -> io::Result<TcpListener> {
    let socket = open(SockType::Stream, port)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

fn open(kind: SockType, port: u16) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let prepared = |socket: OwnedFd| -> nix::Result<OwnedFd> {
        if kind == SockType::Stream {
            // Connections of a process that ended may still be closing.
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        }
        Ok(socket)
    };
    match socket(AddressFamily::Inet6, kind, flags, None) {
        Ok(socket) => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
            let socket = prepared(socket)?;
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
            bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
            Ok(socket)
        }
        // A kernel without IPv6.
        Err(nix::errno::Errno::EAFNOSUPPORT) => {
            let socket = prepared(socket(AddressFamily::Inet, kind, flags, None)?)?;
            let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            bind(socket.as_raw_fd(), &SockaddrIn::from(any))?;
            Ok(socket)
        }
        Err(error) => Err(error.into()),
    }
}
