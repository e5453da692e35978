//! Selects the system calls of Pontoon that stop for the tracer: those on the disk, netlink or a client. A seccomp
//! filter selects them, so that all others run at full speed.

use std::io;

/// The calls that stop.
const STOPPING: [i64; 29] = [
    libc::SYS_openat,
    libc::SYS_open,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_flock,
    libc::SYS_copy_file_range,
    libc::SYS_socket,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_socketpair,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
];

/// Installs the filter in the calling process; call it between fork and exec.
pub fn install() -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW); STOPPING.len() + 3];
    // The number of the call is the first field of `struct seccomp_data`.
    program[0] = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    for (at, number) in STOPPING.iter().enumerate() {
        let jump = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let to_trace = (STOPPING.len() - at) as u8;
        program[at + 1] = libc::sock_filter { code: jump as u16, jt: to_trace, jf: 0, k: *number as u32 };
    }
    program[STOPPING.len() + 2] = statement(libc::BPF_RET, libc::SECCOMP_RET_TRACE);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the calls; no other memory is touched.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
