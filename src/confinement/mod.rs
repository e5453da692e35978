//! Confines the daemon permanently before it serves: drops capabilities, prevents new privileges, and denies
//! files outside its own directories and system calls that it never makes.
//!
//! Everything here applies to the calling thread and those it starts later, so `app` calls it before it starts
//! any. Never prevents the start: if a kernel lacks a part, this is logged, because for containers a running
//! daemon matters more than its confinement. docs/security.md describes how to check from outside what is in
//! force.

mod capabilities;
mod landlock;
mod seccomp;

pub use landlock::{AllowedPaths, Pins};

/// The parts that are in force. Must be kept as long as the process lives.
#[derive(Debug)]
pub struct Confinement {
    /// Only the capabilities in [`KEPT`](privileges) are left.
    pub capabilities: bool,
    /// Landlock restricts files and more, with this ABI version; 0 if not in force.
    pub landlock: u8,
    /// System calls that are not listed are refused.
    pub seccomp: bool,
    _pins: Pins,
}

/// Confines the calling thread and every thread that it starts from now on.
pub fn enter(reach: &AllowedPaths) -> Confinement {
    let capabilities = drop_all_except(&capabilities::KEPT);
    // Landlock and seccomp both require it, and without it a set-user-id program would regain everything.
    let no_new_privs = set_no_new_privs();
    let (landlock, pins) = match landlock::restrict(reach) {
        Ok(guarded) => guarded,
        Err(error) => {
            tracing::warn!(%error, "cannot restrict file access; continuing without Landlock");
            (0, Pins::default())
        }
    };
    let seccomp = no_new_privs && held("cannot restrict system calls; continuing without seccomp", seccomp::restrict());
    tracing::info!(capabilities, no_new_privs, landlock_abi = landlock, seccomp, "confined");
    Confinement { capabilities, landlock, seccomp, _pins: pins }
}

/// Confines `pontoon vip`: drops every capability except those to enter a container's network namespace and to
/// change its firewall, and prevents new privileges. It needs the engine's socket, which gives control of the
/// host: further restrictions would have no effect.
pub fn keep_for_sandboxes() {
    let capabilities = drop_all_except(&capabilities::SANDBOXES);
    let no_new_privs = set_no_new_privs();
    tracing::info!(capabilities, no_new_privs, "confined");
}

/// Confines the process that opens packet sockets for the daemon: drops every capability except that one, prevents new
/// privileges, and refuses every system call that it does not make. Errors are only logged, as for the daemon.
pub fn keep_for_packets() {
    drop_all_except(&capabilities::PACKETS);
    if set_no_new_privs() {
        held("cannot restrict system calls; continuing without seccomp", seccomp::restrict_to_packets());
    }
}

fn drop_all_except(keep: &[caps::Capability]) -> bool {
    held("cannot drop capabilities; continuing with all of them", capabilities::drop_all_except(keep))
}

fn set_no_new_privs() -> bool {
    held("cannot set no_new_privs; continuing without it", capabilities::set_no_new_privs())
}

fn held(without: &str, result: Result<(), String>) -> bool {
    if let Err(error) = &result {
        tracing::warn!(%error, "{without}");
    }
    result.is_ok()
}
