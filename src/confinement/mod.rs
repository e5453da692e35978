//! Owns what the daemon gives up for good before it serves: capabilities, the way to new ones,
//! files outside its own directories, and system calls that it never makes.
//!
//! Everything here holds for the calling thread and those it starts later, so `app` calls it
//! before it starts any. Never refuses to start: a kernel that lacks a part gets a line in the
//! log, for containers depend on the daemon more than on the daemon's cage. docs/security.md
//! tells how to see from outside what is in force.

mod calls;
mod files;
mod privileges;

pub use files::{Pins, Reach};

/// The parts that are in force. Keep it as long as the process lives.
#[derive(Debug)]
pub struct Confinement {
    /// Capabilities are [`KEPT`](privileges) and no more.
    pub capabilities: bool,
    /// Files, and what else Landlock guards, by this version of its interface; 0 for none.
    pub landlock: u8,
    /// System calls other than those listed are refused.
    pub seccomp: bool,
    _pins: Pins,
}

/// Confines the calling thread and every thread it starts from now on.
pub fn enter(reach: &Reach) -> Confinement {
    let capabilities = held("capabilities stay as they are", privileges::shed(&privileges::KEPT));
    // Landlock and seccomp both ask for it, and without it a set-user-id program gave it all back.
    let sealed = held("new privileges stay possible", privileges::seal());
    let (landlock, pins) = match files::restrict(reach) {
        Ok(guarded) => guarded,
        Err(error) => {
            tracing::warn!(%error, "not confined to its own files");
            (0, Pins::default())
        }
    };
    let seccomp = sealed && held("not confined to its own system calls", calls::restrict());
    tracing::info!(capabilities, no_new_privs = sealed, landlock_abi = landlock, seccomp, "confined");
    Confinement { capabilities, landlock, seccomp, _pins: pins }
}

/// What `pontoon vip` gives up: every capability but those to enter a container's network and to
/// change its firewall, and new ones. It needs the engine's socket, and whoever has that has the
/// host: the rest would be for show.
pub fn keep_for_sandboxes() {
    let capabilities = held("capabilities stay as they are", privileges::shed(&privileges::SANDBOXES));
    let sealed = held("new privileges stay possible", privileges::seal());
    tracing::info!(capabilities, no_new_privs = sealed, "confined");
}

fn held(without: &str, result: Result<(), String>) -> bool {
    if let Err(error) = &result {
        tracing::warn!(%error, "{without}");
    }
    result.is_ok()
}
