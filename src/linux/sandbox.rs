//! Owns stepping into a container's network namespace: for as long as one piece of work takes, on a
//! thread of its own.
//!
//! Nothing of it outlives the work: a descriptor or a thread that stayed would keep the namespace,
//! and with it the container's links, after the container is gone. Takes CAP_SYS_ADMIN, which the
//! daemon has not. Called by the app for `pontoon vip`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use nix::sched::{CloneFlags, setns};

use super::balance::Backends;
use super::netlink::{Explain as _, Failure, OwnPorts, Protocol, Socket};
use super::{addr, balance, conntrack, neighbour};
use crate::datapath::KernelError;

/// A namespace as long as it lives: its file's name, and its number, which tells one from another
/// that has the name after it.
pub type SandboxId = (OsString, u64);

/// The namespaces that the engine keeps files of. One that is being made, and is no namespace yet,
/// has another number than what it becomes.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<SandboxId>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // It may be gone again. Not the entry's own metadata, which is of what is mounted over.
        if let Ok(file) = std::fs::metadata(entry.path()) {
            found.push((entry.file_name(), file.ino()));
        }
    }
    found.sort();
    Ok(found)
}

/// Carries out `work` in the namespace of a file.
///
/// # Errors
/// The file is gone or no namespace, or this process may not enter it; the work is not begun then.
pub fn within<T: Send>(file: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = move || {
        let namespace = File::open(file)?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        drop(namespace);
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sandbox".to_owned()).spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the work in the sandbox panicked")))
    })
}

/// The IPv4 addresses in the calling thread's namespace.
///
/// # Errors
/// What the kernel says.
pub fn addresses() -> Result<Vec<IpNetwork>, KernelError> {
    let listed = open(Protocol::Route).and_then(|mut socket| addr::list(&mut socket));
    let listed = listed.map_err(|failure| failure.of("list the addresses of", "a sandbox"))?;
    Ok(listed.into_iter().map(|record| record.address).filter(IpNetwork::is_ipv4).collect())
}

/// Makes the calling thread's namespace lead each service address to its backends, and none else:
/// new connections follow at once, established ones stay where they are, and UDP flows to what is a
/// backend no more begin anew. `before` is what was so until now, as far as it is known.
///
/// # Errors
/// What the kernel says; then all is as it was.
pub fn balance(before: &Backends, after: &Backends) -> Result<(), KernelError> {
    let of = |failure: Failure| failure.of("balance service addresses in", "a sandbox");
    let mut socket = open(Protocol::Netfilter).map_err(of)?;
    balance::write(&mut socket, after).map_err(of)?;
    let mut leads: Backends = before.keys().map(|vip| (*vip, BTreeSet::new())).collect();
    leads.extend(after.clone());
    conntrack::forget_astray(&mut socket, &leads).map_err(of)?;
    let new: Vec<Ipv4Addr> = after.keys().filter(|vip| !before.contains_key(vip)).copied().collect();
    if new.is_empty() { Ok(()) } else { let_go(&new).map_err(of) }
}

/// A connection that was begun before its address led anywhere waits for somebody to have that
/// address, and TCP repeats nothing that still waits.
fn let_go(addresses: &[Ipv4Addr]) -> Result<(), Failure> {
    let mut socket = open(Protocol::Route)?;
    let links = addr::list(&mut socket)?;
    for address in addresses {
        for link in links.iter().filter(|link| link.address.contains((*address).into())) {
            neighbour::let_go(&mut socket, link.index, *address)?;
        }
    }
    Ok(())
}

fn open(protocol: Protocol) -> Result<Socket, Failure> {
    Socket::open(protocol, Arc::new(OwnPorts::default()))
}
