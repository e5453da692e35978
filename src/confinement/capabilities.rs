//! Drops capabilities, and prevents regaining them.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;

/// What the datapath needs of the given capabilities: links, addresses, routes, rules and `net.*` settings; and
/// published ports below 1024.
pub const KEPT: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_BIND_SERVICE];

/// What entering a sandbox and changing its firewall needs; only `pontoon vip` does this.
pub const SANDBOXES: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN];

/// What opening packet sockets needs; only the process that opens them for the daemon does this.
pub const PACKETS: [Capability; 1] = [Capability::CAP_NET_RAW];

/// Drops every capability except these, from all five sets of the calling thread.
///
/// # Errors
/// What could not be dropped and why. The bounding set needs CAP_SETPCAP: without it, the bounding set stays as systemd
/// or another manager has chosen it. It matters only if a program is executed, which seccomp refuses.
pub fn drop_all_except(keep: &[Capability]) -> Result<(), String> {
    let kept: CapsHashSet = keep.iter().copied().collect();
    let failed = |set: &'static str| move |error| format!("the {set} set: {error}");
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    let kept: CapsHashSet = permitted.intersection(&kept).copied().collect();
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    // While CAP_SETPCAP is still available.
    let bounded = if permitted.contains(&Capability::CAP_SETPCAP) { bound(keep) } else { Ok(()) };
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("permitted"))?;
    bounded
}

/// Drops all others from the bounding set. Tests each capability in turn, because the file that lists those of
/// the running kernel may be inaccessible.
fn bound(keep: &[Capability]) -> Result<(), String> {
    for capability in caps::all() {
        let held = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if held && !keep.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(|error| format!("the bounding set: {error}"))?;
        }
    }
    Ok(())
}

/// Prevents programs that this process might run from gaining privileges (`PR_SET_NO_NEW_PRIVS`).
pub fn set_no_new_privs() -> Result<(), String> {
    prctl::set_no_new_privs().map_err(|errno| format!("PR_SET_NO_NEW_PRIVS: {errno}"))
}
