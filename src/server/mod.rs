//! Serves Pontoon on its plugin socket: the server of `libnetwork-plugin` with the driver's methods, metrics,
//! and the paths of the operator's commands. A second socket shows without changing anything (`operators`).

mod admin;
pub mod decode;
pub mod encode;
mod operators;
mod protocol;

pub use libnetwork_plugin::server::{DEADLINE, MAX_BODY, MAX_CONNECTIONS, MAX_PORTS_BODY};
pub use operators::{Operators, SCHEMA};
pub use protocol::call_directly;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use libnetwork_plugin::{Outcome, Server, Unavailable};
use tokio::sync::watch;

use self::admin::Admin;
use crate::api::network::CapabilitiesResponse;
use crate::api::{Method, ipam};
use crate::driver::Driver;
use crate::metrics::Metrics;

/// The parts of the service.
pub struct Service {
    /// The methods of the protocol.
    pub driver: Arc<Driver>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// How long a request may take: [`DEADLINE`], and less in tests.
    pub deadline: Duration,
}

/// Serves until `stopped` turns true, then waits for the requests under way.
pub async fn serve(listener: UnixListener, service: Arc<Service>, stopped: watch::Receiver<bool>) {
    let Service { driver, metrics, deadline } = &*service;
    let counts = Arc::clone(metrics);
    let observer =
        move |method: Method, duration, outcome: Outcome| counts.request(method, outcome.is_error(), duration);
    let admin = Admin { driver: Arc::clone(driver), metrics: Arc::clone(metrics) };
    let server = Server::new()
        .network(Arc::<Driver>::clone(driver))
        .ipam(Arc::<Driver>::clone(driver))
        .observer(Arc::new(observer))
        .routes(Arc::new(admin))
        .deadline(*deadline);
    run(server, listener, stopped).await;
}

/// Serves the status socket until `stopped` turns true.
pub async fn serve_operators(listener: UnixListener, shown: Operators, stopped: watch::Receiver<bool>) {
    let server = Server::new().read_only().routes(Arc::new(shown)).max_connections(operators::MAX_CONNECTIONS);
    run(server, listener, stopped).await;
}

/// The same as [`serve`] for a daemon that cannot serve yet: each request is answered with the reason.
pub async fn refuse_all(
    listener: UnixListener,
    reason: String,
    network: CapabilitiesResponse,
    stopped: watch::Receiver<bool>,
) {
    let ipam = ipam::CapabilitiesResponse::default();
    let refusing = Arc::new(Unavailable { reason, network, ipam, address_spaces: encode::address_spaces() });
    let server = Server::new()
        .network(Arc::<Unavailable>::clone(&refusing))
        .ipam(Arc::<Unavailable>::clone(&refusing))
        .routes(refusing);
    run(server, listener, stopped).await;
}

async fn run(server: Server, listener: UnixListener, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = server.serve(listener, async move { drop(stopped.changed().await) }).await {
        tracing::error!(%error, "cannot listen on a socket");
    }
}
