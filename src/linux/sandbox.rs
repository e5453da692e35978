//! Runs work in a container's network namespace, on a thread of its own.
//!
//! Invariant: nothing outlives the work. A remaining descriptor or thread would keep the namespace, and with
//! it the container's links, after the container is gone. Needs CAP_SYS_ADMIN, which the daemon does not
//! have. Called by the app for `pontoon vip`.

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

/// Identity of a namespace: the name of its file, and its number, which distinguishes it from a later
/// namespace with the same name.
pub type SandboxId = (OsString, u64);

/// The namespaces for which the engine keeps files. While one is being created, its file is not a namespace
/// yet and has another number than later.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<SandboxId>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // It may be gone again. The entry's own metadata would describe the file below the mount.
        if let Ok(file) = std::fs::metadata(entry.path()) {
            found.push((entry.file_name(), file.ino()));
        }
    }
    found.sort();
    Ok(found)
}

/// Runs `work` in the namespace of a file.
///
/// # Errors
/// The file is missing or no namespace, or this process may not enter it; `work` is not started then.
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
/// The kernel's error.
pub fn addresses() -> Result<Vec<IpNetwork>, KernelError> {
    let listed = open(Protocol::Route).and_then(|mut socket| addr::list(&mut socket));
    let listed = listed.map_err(|failure| failure.of("list the addresses of", "a sandbox"))?;
    Ok(listed.into_iter().map(|record| record.address).filter(IpNetwork::is_ipv4).collect())
}

/// Balances each service address to its backends in the calling thread's namespace, and no other addresses:
/// new connections follow immediately, established ones are unchanged, and UDP flows to a removed backend
/// start again. `before` is the previous configuration, as far as it is known.
///
/// # Errors
/// The kernel's error; then nothing is changed.
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

/// A connection that began before its address was balanced waits for the address to be resolved, and TCP does
/// not retransmit a packet that is still queued.
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
