//! The plugin socket: received from systemd, or bound by the plugin.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where engines look for sockets of plugins.
const PLUGINS: &str = "/run/docker/plugins";

/// First descriptor that systemd hands over (sd_listen_fds(3)).
const SD_LISTEN_FDS_START: i32 = 3;

/// Why there is no socket to serve.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A process accepts connections on that path.
    #[error("{}: another process listens on this socket; stop it, or choose another path", path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The path is not a socket.
    #[error("{} exists and is not a socket; remove it, or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{}: cannot {operation}: {source}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A listening socket.
#[derive(Debug)]
pub struct PluginSocket {
    /// The listener, in non-blocking mode.
    pub listener: UnixListener,
    /// The path to remove at the end, if this process bound it.
    path: Option<PathBuf>,
}

impl PluginSocket {
    /// The socket of the plugin `name`, where engines find it: `/run/docker/plugins/NAME.sock`.
    /// Users then say `docker network create -d NAME`.
    ///
    /// # Errors
    /// As [`PluginSocket::open`]; also a name that is empty or has a slash.
    pub fn for_plugin(name: &str) -> Result<Self, SocketError> {
        let path = Path::new(PLUGINS).join(format!("{name}.sock"));
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a plugin's name");
            return Err(SocketError::Io { operation: "bind", path, source });
        }
        Self::open(&path)
    }

    /// Takes the socket that systemd passes to this process if there is one, else binds `path` with mode 0600.
    ///
    /// A stale socket of a dead process is replaced: the engine only checks that the file exists, and would wait
    /// 15 seconds for every call.
    ///
    /// # Errors
    /// Another process listens there, the path is not a socket, or a system call failed.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |operation| move |source| SocketError::Io { operation, path: path.to_owned(), source };
        let (listener, bound) = match inherited() {
            Some(listener) => (listener, None),
            None => (bind(path, None)?, Some(path.to_owned())),
        };
        listener.set_nonblocking(true).map_err(failed("make it non-blocking"))?;
        Ok(Self { listener, path: bound })
    }

    /// Binds `path` regardless of what systemd passes: for a second socket, which members of the group with this number
    /// may use too (mode 0660), or no other user (mode 0600).
    ///
    /// # Errors
    /// As [`PluginSocket::open`]; also a group that this process may not give the socket to. A directory of that group
    /// with the setgid bit makes this possible without a privilege.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, SocketError> {
        let listener = bind(path, group)?;
        let failed = |source| SocketError::Io { operation: "make it non-blocking", path: path.to_owned(), source };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: Some(path.to_owned()) })
    }

    /// Removes the path, if this process bound it. For a clean stop.
    pub fn remove(self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether systemd passes a socket to this process.
pub fn is_socket_activated() -> bool {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_PID") == Some(std::process::id()) && number("LISTEN_FDS").is_some_and(|count| count > 0)
}

/// The content of `/etc/docker/plugins/NAME.spec`, by which engines find the socket of the plugin
/// NAME if it is not in their own directory. The path must be absolute.
pub fn spec(socket: &Path) -> String {
    format!("unix://{}\n", socket.display())
}

fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, SocketError> {
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
    // Bound under a temporary name first: the engine must not see a socket before it can connect to it.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(failed("bind"))?;
    let placed = || {
        restrict(&draft, group).map_err(failed("set its mode and group"))?;
        std::fs::rename(&draft, path).map_err(failed("put it in place"))
    };
    placed().inspect_err(|_| drop(std::fs::remove_file(&draft)))?;
    Ok(listener)
}

/// Restricts a socket to its owner, or to its owner and a group.
fn restrict(path: &Path, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group
        && std::fs::symlink_metadata(path)?.gid() != group
    {
        chown(path, None, Some(group))?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// The first socket of `LISTEN_FDS`, if it is meant for this process.
fn inherited() -> Option<UnixListener> {
    if !is_socket_activated() {
        return None;
    }
    // SAFETY: systemd passes ownership of descriptors 3 .. 3+LISTEN_FDS to the process that
    // LISTEN_PID names, which is this one; nothing else in the process uses descriptor 3 before.
    let descriptor = unsafe { OwnedFd::from_raw_fd(SD_LISTEN_FDS_START) };
    Some(UnixListener::from(descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("libnetwork-plugin-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = dir("stale");
        let path = dir.join("sub/plugin.sock");
        drop(PluginSocket::open(&path).unwrap());
        let live = PluginSocket::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(PluginSocket::open(&path), Err(SocketError::Busy { .. })));
        drop(live);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_second_socket_is_for_its_owner_or_for_a_group() {
        let dir = dir("group");
        let path = dir.join("status.sock");
        let is = || {
            let found = std::fs::metadata(&path).unwrap();
            (found.permissions().mode() & 0o777, found.gid())
        };
        let own = std::fs::metadata(&dir).unwrap().gid();
        PluginSocket::bind(&path, None).unwrap().remove();
        assert!(!path.exists());
        let _private = PluginSocket::bind(&path, None).unwrap();
        assert_eq!(is(), (0o600, own));
        assert!(matches!(PluginSocket::bind(&path, Some(own)), Err(SocketError::Busy { .. })));
        drop(_private);
        let _shared = PluginSocket::bind(&path, Some(own)).unwrap();
        assert_eq!(is(), (0o660, own));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_existing_file_is_not_replaced() {
        let dir = dir("file");
        let path = dir.join("plugin.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(PluginSocket::open(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_name_is_not_a_path() {
        for name in ["", "a/b", "../x", ".hidden"] {
            assert!(PluginSocket::for_plugin(name).unwrap_err().to_string().contains("not a plugin's name"), "{name}");
        }
        assert_eq!(spec(Path::new("/run/a.sock")), "unix:///run/a.sock\n");
    }
}
