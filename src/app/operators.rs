//! The status socket of the daemon: opened before privileges are dropped, because it belongs to a group. Whatever is
//! wrong with it never keeps the daemon from serving Docker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libnetwork_plugin::PluginSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::status::StatusSocket;
use crate::cli::Serve;
use crate::server::{self, Operators};
use crate::{client, group};

/// The value of the setting that means no status socket.
const NONE: &str = "none";

/// The socket, if there is one, and what the daemon reports about it.
#[derive(Debug, Default)]
pub(super) struct StatusListener {
    socket: Option<PluginSocket>,
    status: Option<StatusSocket>,
}

/// The path that the settings ask for: another Pontoon may use the default, unless this one has the default socket.
fn path(options: &Serve) -> Option<PathBuf> {
    let usual = || (options.socket == Path::new(client::SOCKET)).then(|| PathBuf::from(client::STATUS_SOCKET));
    options.status_socket.clone().or_else(usual).filter(|path| path != Path::new(NONE))
}

/// The directory of the socket.
pub(super) fn directory(options: &Serve) -> Option<PathBuf> {
    path(options)?.parent().filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_owned)
}

/// Creates the directory so that members of the group reach the socket. Binding it reports errors.
fn make_directory(socket: &Path) {
    if let Some(dir) = socket.parent().filter(|dir| !dir.exists())
        && fs::create_dir_all(dir).is_ok()
    {
        let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    }
}

impl StatusListener {
    /// Opens the socket. Problems are logged and reported.
    pub fn open(options: &Serve) -> Self {
        let Some(path) = path(options) else { return Self::default() };
        make_directory(&path);
        let number = group::number(&options.status_group);
        let mut status = StatusSocket { path, group: None, problem: None };
        let mut opened = PluginSocket::bind(&status.path, number);
        match &opened {
            Ok(_) => status.group = number.map(|_| options.status_group.clone()),
            // A socket for root alone is better than none.
            Err(error) if number.is_some() => {
                status.problem = Some(format!("only root can use it: {error}"));
                opened = PluginSocket::bind(&status.path, None);
            }
            Err(_) => {}
        }
        match opened {
            Ok(socket) => {
                if let Some(problem) = &status.problem {
                    tracing::warn!("status socket: {problem}");
                }
                Self { socket: Some(socket), status: Some(status) }
            }
            Err(error) => {
                tracing::warn!("cannot open the status socket, continuing without it: {error} (--status-socket)");
                status.problem = Some(error.to_string());
                Self { socket: None, status: Some(status) }
            }
        }
    }

    /// What the daemon reports about it.
    pub fn status(&self) -> Option<StatusSocket> {
        self.status.clone()
    }

    /// Serves until `stopped` turns true. Needs a runtime.
    pub fn serve(&self, shown: Operators, stopped: watch::Receiver<bool>) -> JoinHandle<()> {
        let listener = self.socket.as_ref().and_then(|socket| {
            let cloned = socket.listener.try_clone();
            cloned.inspect_err(|error| tracing::warn!(%error, "cannot serve the status socket")).ok()
        });
        tokio::spawn(async move {
            if let Some(listener) = listener {
                server::serve_operators(listener, shown, stopped).await;
            }
        })
    }

    /// Removes the socket. For a clean stop.
    pub fn remove(self) {
        if let Some(socket) = self.socket {
            socket.remove();
        }
    }
}
