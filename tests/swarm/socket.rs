//! Raw sockets of this process, in the network namespaces of others.

use std::{
    fs::File,
    io::Error,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
};

/// Does something in a network namespace; `None` when that is gone. A socket stays where it was opened.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> Option<T> {
    let file = File::open(netns).ok()?;
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
            Some(work())
        });
        entered.join().expect("the work in the namespace ends")
    })
}

/// One that never waits.
pub fn raw(family: libc::c_int, protocol: libc::c_int) -> OwnedFd {
    // SAFETY: socket(2) takes three numbers; its result is checked before it is owned.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    assert!(fd >= 0, "a raw socket: {}", Error::last_os_error());
    // SAFETY: the descriptor is new, valid and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sets an option, whose value has the layout that the kernel has for it.
pub fn set<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) {
    // SAFETY: the pointer is to a live value of the given length, which the kernel only reads.
    let set = unsafe {
        let len = size_of::<T>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len)
    };
    assert_eq!(set, 0, "option {name} of a raw socket: {}", Error::last_os_error());
}
