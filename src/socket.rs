//! Owns how the plugin socket comes to be: handed over by systemd, or bound by us.

use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// First descriptor that systemd hands over (sd_listen_fds(3)).
const SD_LISTEN_FDS_START: i32 = 3;

/// Why there is no socket to serve.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Someone answers on that path.
    #[error("{}: another process listens on this socket; stop it, or choose another --socket", path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// Something that is not a socket has the name.
    #[error("{} exists and is not a socket; remove it, or choose another --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: cannot {operation}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A listening socket.
#[derive(Debug)]
pub struct PluginSocket {
    /// Non-blocking.
    pub listener: UnixListener,
    /// The path to unlink at the end, when we bound it.
    path: Option<PathBuf>,
}

impl PluginSocket {
    /// Takes systemd's socket if there is one, else binds `path` (mode 0600), replacing the stale
    /// socket of a dead process: the engine only looks whether the file exists, so a stale one
    /// would make it wait 15 s for every call (protocol.md 1.2).
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |operation| move |source| SocketError::Io { operation, path: path.to_owned(), source };
        let (listener, path_bound) = match inherited() {
            Some(listener) => (listener, None),
            None => (bind(path)?, Some(path.to_owned())),
        };
        listener.set_nonblocking(true).map_err(failed("make it non-blocking"))?;
        Ok(Self { listener, path: path_bound })
    }

    /// Removes the path that was bound, at a clean stop.
    pub fn remove(self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether systemd has a socket for this process.
pub fn is_handed_over() -> bool {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_PID") == Some(std::process::id()) && number("LISTEN_FDS").is_some_and(|count| count > 0)
}

fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |operation| move |source| SocketError::Io { operation, path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("make its directory"))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Busy { path: path.to_owned() }),
        Ok(_) => std::fs::remove_file(path).map_err(failed("remove the stale socket"))?,
        Err(_) => {}
    }
    // Bound under another name first: the engine must not see a socket that it may not use yet.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(failed("bind"))?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600)).map_err(failed("set its mode"))?;
    std::fs::rename(&draft, path).map_err(failed("put it in place"))?;
    Ok(listener)
}

/// The one socket of `LISTEN_FDS`, if it is meant for this process.
fn inherited() -> Option<UnixListener> {
    if !is_handed_over() {
        return None;
    }
    // SAFETY: systemd passes ownership of descriptors 3 .. 3+LISTEN_FDS to the process that
    // LISTEN_PID names, which is this one; nothing else in the program uses descriptor 3 before.
    Some(unsafe { UnixListener::from_raw_fd(SD_LISTEN_FDS_START) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pontoon-socket-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = dir("stale");
        let path = dir.join("sub/pontoon.sock");
        drop(PluginSocket::open(&path).unwrap());
        let live = PluginSocket::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(PluginSocket::open(&path), Err(SocketError::Busy { .. })));
        drop(live);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let dir = dir("file");
        let path = dir.join("pontoon.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(PluginSocket::open(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
