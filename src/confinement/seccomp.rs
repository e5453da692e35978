//! The seccomp allow list of the daemon: every other system call fails with EPERM, in all threads and
//! permanently.
//!
//! A refused call fails instead of ending the process: if a library makes a new call, one request fails, and the
//! containers of the host keep their driver. What matters is what is *not* listed: running programs, mounts,
//! namespaces, modules, bpf, tracing, opening by handle, key rings, io_uring. Some calls are allowed for certain
//! arguments only: see [`narrow`].

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Calls that are allowed whatever their arguments.
const PLAIN: &[libc::c_long] = &[
    // files
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sync_file_range,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // sockets and waiting
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // memory, threads, signals
    libc::SYS_brk,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // time, identity, resources
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
];

/// The legacy forms of these calls, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// Refuses every call that is not listed.
///
/// # Errors
/// The kernel has no seccomp filters, or refuses this one.
pub fn restrict() -> Result<(), String> {
    let told = |error: BackendError| format!("seccomp: {error}");
    let [hidden, listed] = programs().map_err(told)?;
    for program in [hidden, listed] {
        apply_filter_all_threads(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(())
}

/// Refuses every call that the process that opens packet sockets does not make (`linux::packet::opener`).
///
/// # Errors
/// As [`restrict`].
pub fn restrict_to_packets() -> Result<(), String> {
    let told = |error: BackendError| format!("seccomp: {error}");
    let program = || -> Result<BpfProgram, BackendError> {
        let packet = rule([condition(0, SeccompCmpOp::Eq, libc::AF_PACKET as u64)])?;
        let plain = [
            libc::SYS_close,
            libc::SYS_exit_group,
            libc::SYS_recvfrom,
            libc::SYS_sendmsg,
            libc::SYS_setsockopt,
            // memory of the C library
            libc::SYS_brk,
            libc::SYS_munmap,
        ];
        let mut calls: BTreeMap<_, _> = plain.into_iter().map(|call| (call, Vec::new())).collect();
        calls.insert(libc::SYS_mmap, vec![rule([condition(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)])?]);
        calls.insert(libc::SYS_socket, vec![packet]);
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(calls, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?.try_into()
    };
    apply_filter_all_threads(&program().map_err(told)?).map_err(|error| format!("seccomp: {error}"))
}

/// Two filters, of which the stricter verdict applies. The first hides clone3, whose flags a filter cannot read;
/// the C library then falls back to clone, whose flags are checked.
fn programs() -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let hidden = SeccompFilter::new(hidden, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    let mut listed = narrow()?;
    listed.extend(PLAIN.iter().chain(OLD).map(|call| (*call, Vec::new())));
    let listed = SeccompFilter::new(listed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?;
    Ok([hidden.try_into()?, listed.try_into()?])
}

/// Calls that are allowed for some arguments: each rule is a list of conditions that must all hold.
fn narrow() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let is = |argument, value: libc::c_int| condition(argument, SeccompCmpOp::Eq, value as u64);
    let flags = |argument, mask: libc::c_int, value: libc::c_int| {
        condition(argument, SeccompCmpOp::MaskedEq(mask as u32 as u64), value as u32 as u64)
    };
    let each = |argument, values: &[libc::c_int]| values.iter().map(|value| rule([is(argument, *value)])).collect();
    // No new executable memory besides the program itself.
    let no_code = || rule([flags(2, libc::PROT_EXEC, 0)]);
    // Threads, but neither processes nor namespaces.
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let thread =
        rule([flags(0, libc::CLONE_THREAD | libc::CLONE_VM | namespaces, libc::CLONE_THREAD | libc::CLONE_VM)]);
    // Only this process itself.
    let own = |argument, pid: u32| is(argument, pid as libc::c_int);
    // No raw sockets and no packet sockets; only the netlink families that the datapath uses.
    let kind = |value| flags(1, 0xf, value);
    let netlink = |protocol| rule([is(0, libc::AF_NETLINK), is(2, protocol)]);
    let ip = |family, value| rule([is(0, family), kind(value)]);
    let sockets: Result<Vec<SeccompRule>, BackendError> = [
        rule([is(0, libc::AF_UNIX)]),
        netlink(libc::NETLINK_ROUTE),
        netlink(libc::NETLINK_NETFILTER),
        ip(libc::AF_INET, libc::SOCK_STREAM),
        ip(libc::AF_INET, libc::SOCK_DGRAM),
        ip(libc::AF_INET6, libc::SOCK_STREAM),
        ip(libc::AF_INET6, libc::SOCK_DGRAM),
    ]
    .into_iter()
    .collect();
    let control = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS].map(|request| request as libc::c_int);
    let named: Result<Vec<SeccompRule>, BackendError> = each(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, PR_SET_VMA]);
    let control: Result<Vec<SeccompRule>, BackendError> = each(1, &control);
    Ok(BTreeMap::from([
        (libc::SYS_mmap, vec![no_code()?]),
        (libc::SYS_mprotect, vec![no_code()?]),
        (libc::SYS_clone, vec![thread?]),
        (libc::SYS_socket, sockets?),
        // The packet sockets stay as they were opened: no promiscuous mode, no ring buffers, no other groups.
        (libc::SYS_setsockopt, vec![rule([condition(1, SeccompCmpOp::Ne, libc::SOL_PACKET as u64)])?]),
        (libc::SYS_socketpair, vec![rule([is(0, libc::AF_UNIX)])?]),
        (libc::SYS_ioctl, control?),
        (libc::SYS_prctl, named?),
        (libc::SYS_prlimit64, vec![rule([is(0, 0)])?, rule([own(0, std::process::id())])?]),
        (libc::SYS_tgkill, vec![rule([own(0, std::process::id())])?]),
    ]))
}

/// Names of anonymous memory, which the C library sets (include/uapi/linux/prctl.h).
const PR_SET_VMA: libc::c_int = 0x5356_4d41;

fn condition(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)
}

fn rule<const N: usize>(conditions: [Result<SeccompCondition, BackendError>; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_and_fit_into_the_kernels_limit() {
        // BPF_MAXINSNS (include/uapi/linux/bpf_common.h)
        for program in programs().unwrap() {
            assert!(program.len() < 4096, "{}", program.len());
        }
    }

    #[test]
    fn nothing_that_leads_out_is_listed() {
        let narrow = narrow().unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_open_by_handle_at,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_userfaultfd,
            libc::SYS_memfd_create,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_capset,
            libc::SYS_setuid,
        ] {
            assert!(!PLAIN.contains(&call) && !OLD.contains(&call) && !narrow.contains_key(&call), "call {call}");
        }
    }
}
