//! Owns which files stay within reach (Landlock, Linux 5.13 and later), by directory.
//!
//! A rule is about an inode. Those of `/proc` are made anew when the kernel forgot the old one, so
//! the directories that rules name stay open: [`Pins`].

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

/// The newest interface whose rights are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V9;

/// What the daemon reads and writes after its start.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The ledger's directory: everything in it is the daemon's own.
    pub state: PathBuf,
    /// The directory of the plugin socket.
    pub sockets: PathBuf,
    /// The settings `net.*`.
    pub settings: PathBuf,
    /// Files and directories that are read.
    pub read: Vec<PathBuf>,
}

/// Descriptors of the directories that rules name.
#[derive(Debug, Default)]
pub struct Pins(#[allow(dead_code, reason = "only kept open")] Vec<PathFd>);

/// Restricts the calling thread to `reach`: besides files also no TCP connection to anywhere, no
/// signal to another process, no abstract socket of another's. Returns the version of the
/// kernel's interface that is used.
///
/// # Errors
/// That the kernel has no Landlock, or what it says.
pub fn restrict(reach: &Reach) -> Result<(u8, Pins), String> {
    let told = |error: RulesetError| format!("Landlock: {error}");
    let ruleset = handled().and_then(Ruleset::create).map_err(told)?;
    let mut pins = Pins::default();
    let ruleset = allow(ruleset, &mut pins, reach).map_err(told)?;
    let status = ruleset.restrict_self().map_err(told)?;
    Ok((version(&status)?, pins))
}

/// Everything that the kernel can guard is guarded, except TCP ports: they are bound to hold them.
fn handled() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::from_all(NEWEST))
}

fn allow(mut ruleset: RulesetCreated, pins: &mut Pins, reach: &Reach) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::Truncate;
    let own =
        write | AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::RemoveFile | AccessFs::RemoveDir | AccessFs::Refer;
    // Asking whether somebody answers on a stale socket is a connection.
    let sockets = AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ResolveUnix;
    let named = [(&reach.state, own), (&reach.sockets, sockets), (&reach.settings, write)];
    let read = reach.read.iter().map(|path| (path, read));
    for (path, access) in named.into_iter().chain(read) {
        // What is not there needs no rule; whoever wants it says so when it is missing.
        let Ok(pin) = PathFd::new(path) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(&pin, fitting(path, access)))?;
        pins.0.push(pin);
    }
    Ok(ruleset)
}

/// The rights that mean anything for a file, if it is one: the kernel refuses the others.
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
