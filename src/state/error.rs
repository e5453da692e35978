//! Errors of the ledger. Each message is one line with a remedy.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why the ledger could not be opened, or a transaction could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An I/O error.
    #[error("{operation} {}: {cause}; {}", .path.display(), remedy(.cause))]
    Io {
        /// The operation, as a participle: `reading`, `appending to`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// Another process holds the state directory.
    #[error("locking {}: another Pontoon{} uses this directory; stop it, or give this one another --state-dir", .dir.display(), whose(.pid))]
    Busy {
        /// The state directory.
        dir: PathBuf,
        /// The holder's process id, if its lock file contains it.
        pid: Option<u32>,
    },
    /// A newer release wrote the ledger; it was left unchanged.
    #[error(
        "writing {}: its format is {found} and this release knows up to {known}; install the newer release again, or move the file away to start empty", .path.display()
    )]
    TooNew {
        /// The ledger.
        path: PathBuf,
        /// Format version of the file.
        found: u32,
        /// The newest version that this release reads.
        known: u32,
    },
    /// An earlier write failed half way and cannot be truncated; the facts before it are safe.
    #[error("appending to {}: an incomplete line of an earlier failed write cannot be cut off ({cause}); {}", .path.display(), remedy(.cause))]
    Ragged {
        /// The ledger.
        path: PathBuf,
        /// Why it cannot be truncated.
        cause: io::Error,
    },
    /// The file was changed by another program since it was opened; it is left unchanged for the next start.
    #[error("compacting {}: line {line} is damaged ({what}); restart Pontoon, which salvages the intact lines", .path.display())]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The first bad line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A record cannot be serialised; a defect of Pontoon.
    #[error("encoding a record for {}: {cause}; please report this", .path.display())]
    Encode {
        /// The ledger.
        path: PathBuf,
        /// The encoder's error.
        cause: String,
    },
}

impl StoreError {
    /// For `map_err`: names the operation and the object of an I/O error.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |cause| StoreError::Io { operation, path, cause }
    }
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::PermissionDenied => "give Pontoon read and write access to it",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::WriteZero => "free some space there",
        ErrorKind::ReadOnlyFilesystem => "mount that file system writable, or use another --state-dir",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "make it a directory, or use another --state-dir",
        ErrorKind::IsADirectory => "move that directory away",
        _ => "check that file system",
    }
}

fn whose(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
