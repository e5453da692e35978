//! Raw sockets of this process in other network namespaces.

use std::{
    fs::File,
    io::Error,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
};

/// Runs a closure in a network namespace; `None` if it no longer exists. A socket stays in the namespace where it was
/// opened.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> Option<T> {
    let file = File::open(netns).ok()?;
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).ok()?;
            Some(work())
        });
        entered.join().expect("the work in the namespace ends")
    })
}

/// A non-blocking raw socket.
pub fn raw(family: AddressFamily, protocol: Option<SockProtocol>) -> OwnedFd {
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol).expect("a raw socket")
}

/// Sets an option; `T` must have the kernel's layout of the value.
pub fn set<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) {
    // SAFETY: the pointer is to a live value of the given length, which the kernel only reads.
    let set = unsafe {
        let len = size_of::<T>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len)
    };
    assert_eq!(set, 0, "option {name} of a raw socket: {}", Error::last_os_error());
}
