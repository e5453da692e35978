//! Restricts which files are accessible, by directory (Landlock, Linux 5.13 and later).
//!
//! A rule refers to an inode. The kernel creates inodes of `/proc` again after evicting them, so the directories
//! that rules name stay open: [`Pins`].

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

/// The newest ABI whose rights are requested; an older kernel enforces those that it supports.
const NEWEST: ABI = ABI::V9;

/// What the daemon reads and writes after its start.
#[derive(Debug, Clone)]
pub struct AllowedPaths {
    /// The ledger's directory, with full access.
    pub state: PathBuf,
    /// The directories of the sockets on which it listens.
    pub sockets: Vec<PathBuf>,
    /// The `net.*` settings.
    pub settings: PathBuf,
    /// Files and directories with read access.
    pub read: Vec<PathBuf>,
}

/// Open descriptors of the directories that rules name.
#[derive(Debug, Default)]
pub struct Pins(#[allow(dead_code, reason = "may not be opened")] Vec<PathFd>);

/// Restricts the calling thread to `reach`. Besides files it denies outgoing TCP connections, except to name servers,
/// signals to other processes, and abstract sockets of other processes. Returns the ABI version that is used.
///
/// # Errors
/// The kernel has no Landlock, or its error.
pub fn restrict(reach: &AllowedPaths) -> Result<(u8, Pins), String> {
    let told = |error: RulesetError| format!("Landlock: {error}");
    let ruleset = handled().and_then(Ruleset::create).map_err(told)?;
    let mut pins = Pins::default();
    let ruleset = allow(ruleset, &mut pins, reach).map_err(told)?;
    let status = ruleset.restrict_self().map_err(told)?;
    Ok((version(&status)?, pins))
}

/// Handles every access that the kernel supports except TCP ports: they are bound to reserve them.
fn handled() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::from_all(NEWEST))
}

fn allow(mut ruleset: RulesetCreated, pins: &mut Pins, reach: &AllowedPaths) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::Truncate;
    let own =
        write | AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::RemoveFile | AccessFs::RemoveDir | AccessFs::Refer;
    // Testing whether a process listens on a stale socket needs a connection.
    let sockets = AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ResolveUnix;
    let named = [(&reach.state, own), (&reach.settings, write)];
    let sockets = reach.sockets.iter().map(|path| (path, sockets));
    let read = reach.read.iter().map(|path| (path, read));
    for (path, access) in named.into_iter().chain(sockets).chain(read) {
        // A missing path needs no rule; the code that needs it reports it.
        let Ok(pin) = PathFd::new(path) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(&pin, fitting(path, access)))?;
        pins.0.push(pin);
    }
    ruleset.add_rule(NetPort::new(dns::PORT, AccessNet::ConnectTcp))
}

/// The rights that apply to a regular file, if it is one: the kernel refuses the others.
fn fitting(path: &Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) }
}

fn version(status: &RestrictionStatus) -> Result<u8, String> {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi as u8),
        LandlockStatus::NotEnabled => Err("Landlock is not enabled: add it to the kernel's lsm= parameter".to_owned()),
        LandlockStatus::NotImplemented => Err("this kernel has no Landlock, or a seccomp filter hides it".to_owned()),
    }
}
