//! A daemon that cannot serve yet: it answers every request with the reason, and retries until it can serve.
//!
//! Used when the daemon is started unattended: by Docker, by systemd, or with a settings file. When a user runs
//! `pontoon serve`, the reason is printed and the process ends.

use std::time::Duration;

use libnetwork_plugin::{PluginSocket, is_socket_activated};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::begin::{Begin, Ready};
use super::{AppError, GRACE, settings, system};
use crate::cli::Serve;
use crate::server::{self, Operators};

/// Time between two attempts.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether a daemon that fails to start for this reason waits until it can serve.
pub(super) fn waits(options: &Serve, error: &AppError) -> bool {
    let unseen = options.managed || is_socket_activated();
    match error {
        AppError::Store(_) => unseen || !options.state_dir_typed && std::env::var_os("PONTOON_STATE_DIR").is_some(),
        AppError::Singleton(_) | AppError::Kernel(_) => unseen,
        AppError::Socket(_) | AppError::System { .. } => false,
    }
}

/// Answers with the reason until the daemon can serve; `None` when a signal ends it first.
pub(super) fn wait(
    options: &Serve,
    begin: &mut Begin,
    socket: &PluginSocket,
    mut error: AppError,
) -> Result<Option<Ready>, AppError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let capabilities = server::encode::capabilities(&settings::overlay(options));
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
        loop {
            let reason = error.to_string();
            tracing::error!(error = %reason, "cannot serve; answering every request with this error");
            let listener = socket.listener.try_clone().map_err(system("listen"))?;
            let (stop, stopped) = watch::channel(false);
            let showing = begin.operators.serve(Operators::Unready(reason.clone()), stopped.clone());
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
            let _ = tokio::time::timeout(GRACE, async { drop((serving.await, showing.await)) }).await;
            match next {
                None => return Ok(None),
                Some(Ok(ready)) => return Ok(Some(ready)),
                Some(Err(another)) => error = another,
            }
        }
    })
}
