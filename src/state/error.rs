//! Owns the ways in which the ledger can fail. Each message is one line with a remedy.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why the ledger could not be opened, or did not take a transaction.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{operation} {}: {cause}; {}", .path.display(), remedy(.cause))]
    Io {
        /// What was tried, as a participle: `reading`, `appending to`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Another process has the state directory.
    #[error("locking {}: another Pontoon{} uses this directory; stop it, or give this one another --state-dir", .dir.display(), whose(.pid))]
    Busy {
        /// The state directory.
        dir: PathBuf,
        /// The holder's process id, when its lock file tells.
        pid: Option<u32>,
    },
    /// A newer release wrote the ledger; it was left as it is.
    #[error(
        "writing {}: its format is {found} and this release knows up to {known}; install the newer release again, or move the file away to start empty", .path.display()
    )]
    TooNew {
        /// The ledger.
        path: PathBuf,
        /// Format version of the file.
        found: u32,
        /// The newest that this release reads.
        known: u32,
    },
    /// An earlier write failed half way and cannot be taken back; the facts before it are safe.
    #[error("appending to {}: an incomplete line of an earlier failure cannot be cut off ({cause}); {}", .path.display(), remedy(.cause))]
    Ragged {
        /// The ledger.
        path: PathBuf,
        /// Why it cannot be cut off.
        cause: io::Error,
    },
    /// The file changed under us since it was opened; it is left as it is for the next start.
    #[error("compacting {}: line {line} is damaged ({what}); restart Pontoon, it will salvage what is whole", .path.display())]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The first bad line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A record does not serialise; a defect of Pontoon's.
    #[error("encoding a record for {}: {cause}; please report this", .path.display())]
    Encode {
        /// The ledger.
        path: PathBuf,
        /// What the encoder said.
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
