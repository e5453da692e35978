//! Prepares the daemon before it serves, in order: exclusive use of the namespace, dropped privileges, the
//! ledger, the kernel. A failed step may be retried.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AppError;
use super::operators::{self, StatusListener};
use crate::cli::{Confine, Serve};
use crate::confinement::{self, AllowedPaths, Confinement};
use crate::linux::packet::Packets;
use crate::linux::singleton::Singleton;
use crate::linux::{self, LinuxKernel};
use crate::resolvers::Resolvers;
use crate::state::{self, Ledger, Opened, Outcome};

/// The steps done so far, and values that had to be read before privileges were dropped.
pub(super) struct Begin {
    pub seed: [u8; 5],
    boot: String,
    claim: Option<Singleton>,
    packets: Option<Arc<Packets>>,
    confined: Option<Option<Confinement>>,
    /// The status socket, opened as long as a privilege is left to give it to its group.
    pub operators: StatusListener,
}

/// What the daemon needs to serve.
pub(super) struct Ready {
    pub opened: Opened,
    pub kernel: Arc<LinuxKernel>,
}

impl Begin {
    /// Must be called before the process starts threads.
    pub fn new(options: &Serve) -> Self {
        // The only part that needs CAP_NET_RAW, which is dropped later.
        let packets = match options.confine {
            Confine::Off => Packets::open(),
            _ => Packets::open_apart(confinement::keep_for_packets),
        };
        Self {
            seed: random_seed(),
            boot: boot_id(),
            claim: None,
            packets: packets.map(Arc::new),
            confined: None,
            operators: StatusListener::default(),
        }
    }

    /// Resumes at the step that failed last.
    pub fn attempt(&mut self, options: &Serve) -> Result<Ready, AppError> {
        if self.claim.is_none() {
            self.claim = Some(Singleton::acquire()?);
        }
        // Confinement precedes everything else that is opened, so that what it forbids fails now and not later;
        // and it precedes every permanent thread, because it applies to threads started after it.
        if self.confined.is_none() {
            self.operators = StatusListener::open(options);
            self.confined = Some(confine(options)?);
        }
        let opened = Ledger::open(&options.state_dir, &self.boot)?;
        let packets = self.packets.clone();
        let kernel = Arc::new(LinuxKernel::new(linux::Options { sysctl_root: options.sysctl_root.clone(), packets })?);
        report(&opened, options);
        Ok(Ready { opened, kernel })
    }
}

/// Drops privileges that serving does not need. First creates the directories that stay accessible.
fn confine(options: &Serve) -> Result<Option<Confinement>, AppError> {
    if options.confine == Confine::Off {
        tracing::warn!("confinement is disabled (PONTOON_CONFINE=off)");
        return Ok(None);
    }
    state::make_directory(&options.state_dir)?;
    // A failure here is harmless: binding the socket tries again and reports the error.
    let sockets = options.socket.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = std::fs::create_dir_all(sockets);
    Ok(Some(confinement::enter(&AllowedPaths {
        state: options.state_dir.clone(),
        sockets: [Some(sockets.to_owned()), operators::directory(options)].into_iter().flatten().collect(),
        settings: options.sysctl_root.clone(),
        read: vec![Resolvers::reach(), "/proc/self".into(), "/proc/sys/kernel/random".into()],
    })))
}

/// At start, logs the condition of the ledger and its consequences.
fn report(opened: &Opened, options: &Serve) {
    let file = options.state_dir.join("ledger");
    if options.managed
        && let Some(outside) = on_host(&options.state_dir)
    {
        let dir = options.state_dir.display();
        tracing::info!("path {dir} in this log is {} on the host", outside.display());
    }
    let file = file.display();
    match &opened.outcome {
        Outcome::Absent => tracing::info!("{file}: not found, created"),
        Outcome::Loaded => {}
        outcome @ Outcome::Torn { .. } => tracing::warn!("{file}: {outcome}"),
        outcome => tracing::error!("{file}: {outcome}"),
    }
    for kept in &opened.quarantined {
        tracing::warn!(
            "{}: quarantined copy of a damaged ledger; links without a record are kept until you delete it. Delete it when all networks are present",
            kept.display()
        );
    }
    if let Some(error) = &opened.unwritten {
        tracing::error!(%error, "cannot rewrite the ledger; retrying with the next change");
    }
    if opened.rebooted {
        tracing::info!("host was rebooted; endpoints of the previous boot are discarded");
    }
}

/// Identifies the host's boot; empty if the kernel does not provide it, which then counts as one endless boot
/// (endpoints are verified against the kernel in any case).
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(super) fn random_seed() -> [u8; 5] {
    let mut seed = [0; 5];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    if let Err(error) = read {
        tracing::warn!(%error, "cannot read /dev/urandom; deriving IPv6 pools from the clock");
        #[allow(clippy::disallowed_methods, reason = "any number will do")]
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_nanos());
        seed.copy_from_slice(&time.to_le_bytes()[..5]);
    }
    seed
}

/// The host path of a directory that is mounted into this process's root file system: messages of a plugin would
/// otherwise name paths that do not exist on the host. `None` if it is not a mount.
fn on_host(dir: &Path) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| root_of(line, dir))
}

/// Fields four and five of a line of mountinfo: the mounted directory and the mount point (proc(5)).
fn root_of(line: &str, dir: &Path) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(3);
    let (root, at) = (words.next()?, words.next()?);
    (Path::new(at) == dir && root != "/").then(|| PathBuf::from(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_tells_what_the_host_calls_it() {
        let line = "77 60 8:1 /var/lib/docker/plugins/ab/propagated-mount /var/lib/pontoon rw - ext4 /dev/sda1 rw";
        let outside = Some(PathBuf::from("/var/lib/docker/plugins/ab/propagated-mount"));
        assert_eq!(root_of(line, Path::new("/var/lib/pontoon")), outside);
        assert_eq!(root_of(line, Path::new("/var/lib")), None);
        assert_eq!(root_of("77 60 8:1 / /var/lib/pontoon rw", Path::new("/var/lib/pontoon")), None);
        assert_eq!(root_of("", Path::new("/")), None);
    }
}
