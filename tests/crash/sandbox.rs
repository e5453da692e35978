//! Sandboxes: the network namespaces of containers, and the engine's work on the container ends of pairs: it moves them
//! in, configures them, and moves them back. It uses netlink, because it happens a hundred thousand times.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::host::Netns;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;

/// The index of a link in the calling thread's namespace.
pub fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).unwrap();
    // SAFETY: the pointer is to a NUL-terminated string.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|index| *index > 0)
}

fn request(kind: u16, flags: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> io::Result<()> {
    let socket: OwnedFd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut message = vec![0; 16];
    message.extend_from_slice(header);
    for (kind, value) in attributes {
        message.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    // NLM_F_REQUEST and NLM_F_ACK
    message[6..8].copy_from_slice(&(flags | 5).to_ne_bytes());
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match i32::from_ne_bytes(answer[16..20].try_into().unwrap()) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn link_header(index: u32, up: bool) -> Vec<u8> {
    let mut header = vec![0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        header[8..12].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
        header[12..16].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    }
    header
}

fn move_link(index: u32, to: &Netns, name: &str) -> io::Result<()> {
    let fd = to.fd().as_raw_fd().to_ne_bytes();
    let name = CString::new(name).unwrap();
    let attributes: [(u16, &[u8]); 2] = [(IFLA_NET_NS_FD, &fd), (IFLA_IFNAME, name.as_bytes_with_nul())];
    request(libc::RTM_SETLINK, 0, &link_header(index, false), &attributes)
}

fn add_address(index: u32, address: &str) -> io::Result<()> {
    let (address, prefix) = address.split_once('/').expect("an address with a prefix length");
    let (address, prefix): (IpAddr, u8) = (address.parse().unwrap(), prefix.parse().unwrap());
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let mut header = vec![family as u8, prefix, IFA_F_NODAD, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    // NLM_F_CREATE
    request(libc::RTM_NEWADDR, 0x400, &header, &[(IFA_LOCAL, &octets), (IFA_ADDRESS, &octets)])
}

/// What the engine does after Join: moves the link into the sandbox, renames it, adds addresses, sets it up.
pub fn plug(
    host: &Netns,
    sandbox: &Netns,
    source: &str,
    name: &str,
    addresses: impl IntoIterator<Item = impl AsRef<str>>,
) -> io::Result<()> {
    host.enter(|| {
        let index = index(source).ok_or(io::Error::from_raw_os_error(libc::ENODEV))?;
        move_link(index, sandbox, name)
    })?;
    let addresses: Vec<String> = addresses.into_iter().map(|address| address.as_ref().to_owned()).collect();
    sandbox.enter(|| {
        let index = index(name).ok_or(io::Error::from_raw_os_error(libc::ENODEV))?;
        if addresses.iter().any(|address| address.contains(':')) {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        }
        addresses.iter().try_for_each(|address| add_address(index, address))?;
        request(libc::RTM_SETLINK, 0, &link_header(index, true), &[])
    })
}

/// What the engine does after Leave: moves the link back to the host under its old name. A missing link is no error.
pub fn unplug(host: &Netns, sandbox: &Netns, source: &str, name: &str) {
    sandbox.enter(|| {
        if let Some(index) = index(name) {
            // Old kernels cannot rename a link that is up.
            let mut down = link_header(index, false);
            down[12..16].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
            let _ = request(libc::RTM_SETLINK, 0, &down, &[]);
            let _ = move_link(index, host, source);
        }
    });
}
