//! Owns what a daemon does that cannot serve yet: it answers every request with the reason, and
//! tries again until it can.
//!
//! For a daemon that somebody starts who does not look: Docker, systemd, or a file of settings.
//! Whoever types `pontoon serve` sees the reason, and it ends.

use std::time::Duration;

use libnetwork_plugin::{PluginSocket, is_socket_activated};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::begin::{Begin, Ready};
use super::{AppError, GRACE, settings, system};
use crate::cli::Serve;
use crate::server;

/// Time between two tries.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether a daemon that cannot begin for this reason waits until it can.
pub(super) fn waits(options: &Serve, error: &AppError) -> bool {
    let unseen = options.managed || is_socket_activated();
    match error {
        AppError::Store(_) => unseen || !options.state_dir_typed && std::env::var_os("PONTOON_STATE_DIR").is_some(),
        AppError::Claim(_) | AppError::Kernel(_) => unseen,
        AppError::Socket(_) | AppError::System { .. } => false,
    }
}

/// Answers with the reason until the daemon can begin; `None` when a signal ends it before.
pub(super) fn wait(
    options: &Serve,
    begin: &mut Begin,
    socket: &PluginSocket,
    mut error: AppError,
) -> Result<Option<Ready>, AppError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let capabilities = settings::overlay(options).capabilities();
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
        loop {
            let reason = error.to_string();
            tracing::error!(error = %reason, "nothing is served: every request is answered with this");
            let listener = socket.listener.try_clone().map_err(system("listen"))?;
            let (stop, stopped) = watch::channel(false);
            let serving = tokio::spawn(server::refuse_all(listener, reason.clone(), capabilities, stopped));
            let next = loop {
                tokio::select! {
                    _ = term.recv() => break None,
                    _ = int.recv() => break None,
                    () = tokio::time::sleep(AGAIN) => {}
                }
                match begin.attempt(options) {
                    Err(again) if again.to_string() == reason => {}
                    other => break Some(other),
                }
            };
            let _ = stop.send(true);
            let _ = tokio::time::timeout(GRACE, serving).await;
            match next {
                None => return Ok(None),
                Some(Ok(ready)) => return Ok(Some(ready)),
                Some(Err(another)) => error = another,
            }
        }
    })
}
