//! The state directory: its lock, its file names, and the atomic replacement of files.
//!
//! ```text
//! lock              held (flock) while the process runs, contains the process id
//! ledger            the ledger
//! ledger.prev       the one before the last compaction
//! ledger.corrupt-N  a damaged one, quarantined until an operator removes it
//! ledger.new        half-written, only after a crash
//! ```
//! At every moment a file named `ledger` exists: the old file is linked to its second name before the new file
//! is renamed over it. Hence a missing ledger beside a `ledger.prev` is damage.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::StoreError;

const KEPT: &str = "ledger.corrupt-";

/// A state directory that this process uses exclusively until this value is dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    dir: PathBuf,
    /// `None` if opened read-only.
    _lock: Option<Flock<File>>,
}

impl StateDir {
    /// Creates the directory if needed, and locks it.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        make(dir)?;
        let path = dir.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(StoreError::io("opening", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // The process id only serves the error message of a second process.
                let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
                Ok(Self { dir: dir.to_owned(), _lock: Some(lock) })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                Err(StoreError::Busy { dir: dir.to_owned(), pid: text.trim().parse().ok() })
            }
            Err((_, errno)) => Err(StoreError::io("locking", &path)(errno.into())),
        }
    }

    /// The file names in a directory that another process may be using; for reading only.
    pub fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None }
    }

    /// The process that holds the directory, without trying to lock it: `/proc/locks` lists the locked files.
    /// `None` also when that cannot be read.
    pub fn holder(&self) -> Option<u32> {
        let inode = fs::metadata(self.dir.join("lock")).ok()?.ino().to_string();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
            (file.rsplit(':').next() == Some(inode.as_str())).then(|| pid.parse().ok())?
        })
    }

    /// The path of the ledger.
    pub fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// The path of its predecessor.
    pub fn prev(&self) -> PathBuf {
        self.dir.join("ledger.prev")
    }

    /// The contents of a file; `None` when it does not exist.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("reading", path)(error)),
        }
    }

    /// Writes `bytes` to a new file beside the ledger, syncs it, and links the current ledger to its second
    /// name. Returns the new file, open for appending; the ledger is still the old one.
    pub fn prepare(&self, bytes: &[u8]) -> Result<File, StoreError> {
        let (ledger, new) = (self.ledger(), self.new_ledger());
        let written = self.write(&new, bytes).inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })?;
        if ledger.exists() {
            let kept = self.dir.join("ledger.prev.new");
            unlink(&kept)?;
            link(&ledger, &kept)?;
            fs::rename(&kept, self.prev()).map_err(StoreError::io("renaming", &kept))?;
        }
        Ok(written)
    }

    /// Renames the prepared file over the ledger and syncs the directory. After an error the ledger may be
    /// either file.
    pub fn replace(&self) -> Result<(), StoreError> {
        let new = self.new_ledger();
        fs::rename(&new, self.ledger()).map_err(StoreError::io("renaming", &new))?;
        sync(&self.dir)
    }

    fn new_ledger(&self) -> PathBuf {
        self.dir.join("ledger.new")
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
        unlink(path)?;
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(StoreError::io("creating", path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(StoreError::io("writing", path))?;
        Ok(file)
    }

    /// Links the damaged file `path` to a second name that nothing here writes to.
    pub fn keep_aside(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let mut number = 1;
        loop {
            let kept = self.dir.join(format!("{KEPT}{number}"));
            match link(path, &kept) {
                Ok(()) => {
                    sync(&self.dir)?;
                    return Ok(kept);
                }
                Err(StoreError::Io { cause, .. }) if cause.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Every quarantined file that still exists, sorted by name.
    pub fn quarantined(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io("listing", &self.dir))? {
            let entry = entry.map_err(StoreError::io("listing", &self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(KEPT) {
                kept.push(entry.path());
            }
        }
        kept.sort();
        Ok(kept)
    }
}

/// Creates the state directory `dir` (mode 0700, parents too) and syncs its name to disk; does nothing if it
/// exists.
///
/// # Errors
/// The system's error, with the directory.
pub fn make(dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("creating", dir))?;
    for path in missing {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync(parent)?,
            _ => sync(Path::new("."))?,
        }
    }
    Ok(())
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("syncing", dir))
}

fn unlink(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Creates a second name for `from`; a copy where the file system has no hard links.
fn link(from: &Path, to: &Path) -> Result<(), StoreError> {
    let made = match fs::hard_link(from, to) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => copy(from, to),
        other => other,
    };
    made.map_err(StoreError::io("keeping", to))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}
