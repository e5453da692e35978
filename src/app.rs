//! Composes the daemon: its parts and their start order. State first, then the kernel, and the socket last: a
//! client that can connect is served.

mod alone;
mod begin;
pub mod complete;
pub mod events;
pub mod explain;
pub mod gc;
pub mod health;
pub mod inspect;
mod look;
mod operators;
pub mod policy;
mod refresh;
mod settings;
pub mod show;
mod standby;
pub mod top;
pub mod uninstall;
pub mod vip;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use libnetwork_plugin::{PluginSocket, SocketError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use self::begin::{Begin, Ready};
use crate::cli::Serve;
use crate::datapath::KernelError;
use crate::driver::history::Happening;
use crate::driver::{self, Driver, Events};
use crate::linux::singleton::SingletonError;
use crate::linux::{LinuxKernel, watch::Event};
use crate::metrics::Metrics;
use crate::resolvers::Resolvers;
use crate::server::{self, Operators, Service};
use crate::state::StoreError;
use crate::upkeep::{self, Cause};
use crate::{announcer, malloc, resolver, rounds, telemetry};

/// Longest time from SIGTERM to the end of the process: requests under way get this long.
const GRACE: Duration = Duration::from_millis(900);

/// Why the daemon ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An error of the state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An error of the plugin socket.
    #[error("{0} (--socket)")]
    Socket(#[from] SocketError),
    /// Another Pontoon runs.
    #[error(transparent)]
    Singleton(#[from] SingletonError),
    /// An error of the kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An error of threads, signals or the runtime.
    #[error("cannot {operation}: {source}")]
    System {
        /// The operation.
        operation: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

fn system(operation: &'static str) -> impl Fn(std::io::Error) -> AppError {
    move |source| AppError::System { operation, source }
}

/// Serves until a signal ends it.
pub fn serve(options: Serve) -> Result<(), AppError> {
    let began = Instant::now();
    telemetry::start(options.log, options.log_format, options.managed);
    malloc::limit_arenas();
    settings::report(&options.unreadable);
    let (mut begin, resolvers) = (Begin::new(&options), Resolvers::of_host());
    let mut socket = None;
    let ready = match begin.attempt(&options) {
        Err(error) if standby::waits(&options, &error) => {
            let opened = socket.insert(PluginSocket::open(&options.socket)?);
            standby::wait(&options, &mut begin, opened, error)?
        }
        attempt => Some(attempt?),
    };
    let Some(Ready { opened, kernel }) = ready else {
        if let Some(socket) = socket {
            socket.remove();
        }
        begin.operators.remove();
        return Ok(());
    };
    let settings = settings::of_driver(&options, &opened.records, begin.seed);
    let (causes, for_upkeep) = channel();
    let (arrivals, for_announcer) = channel();
    let (probes, for_prober) = channel();
    let (leases, for_leaser) = channel();
    let (names, for_resolver) = unbounded_channel();
    let events = events(causes.clone(), arrivals, probes, leases, names);
    let for_driver = Arc::<LinuxKernel>::clone(&kernel);
    let driver = Arc::new(Driver::load(opened, for_driver, settings, events, move || resolvers.now()));
    if let Err(error) = driver.start() {
        // Serving with errors is better than not serving: the engine would wait 15 s for every call.
        tracing::error!(%error, "initial repair failed; serving anyway, repair continues in the background");
    }
    upkeep::start(Arc::clone(&driver), for_upkeep).map_err(system("start the upkeep thread"))?;
    announcer::start(Arc::clone(&driver), announcer::ROUND, for_announcer)
        .map_err(system("start the announcer's thread"))?;
    rounds::start("prober", Arc::clone(&driver), for_prober, Driver::probe_ahead)
        .map_err(system("start the prober's thread"))?;
    rounds::start("leaser", Arc::clone(&driver), for_leaser, |driver| Some(driver.serve_leases()))
        .map_err(system("start the thread of leases"))?;
    resolver::start(Arc::clone(&driver), for_resolver).map_err(system("start the resolver's thread"))?;
    let _watch = kernel.watch(Box::new(move |event| drop(causes.send(cause(event)))))?;

    let socket = socket.map_or_else(|| PluginSocket::open(&options.socket), Ok)?;
    let listener = socket.listener.try_clone().map_err(system("listen"))?;
    let metrics = Arc::new(Metrics::default());
    let service = Arc::new(Service { driver: Arc::clone(&driver), metrics, deadline: server::DEADLINE });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let done = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
        let (stop, stopped) = watch::channel(false);
        let (networks, endpoints) = driver.sizes();
        driver.history().record(Happening::Started);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %options.socket.display(), networks, endpoints,
            start_ms = began.elapsed().as_millis() as u64, "listening");
        let shown = Operators::new(Arc::clone(&driver), Arc::clone(&service.metrics), begin.operators.status());
        let showing = begin.operators.serve(shown, stopped.clone());
        let serving = tokio::spawn(server::serve(listener, service, stopped));
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let _ = stop.send(true);
        driver.history().close();
        let ended = async { drop((serving.await, showing.await)) };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("stopping with requests in progress");
        }
        Ok(())
    });
    socket.remove();
    begin.operators.remove();
    tracing::info!("stopped; links and firewall rules are kept");
    // Verbs that no client waits for any more: their ledger records make them repeatable.
    runtime.shutdown_timeout(Duration::from_millis(50));
    done
}

/// Passes the driver's events to the thread that does the work. The channels exist before the threads, so that no
/// event of the start is lost.
fn events(
    causes: Sender<Cause>,
    arrivals: Sender<announcer::Arrival>,
    probes: Sender<()>,
    leases: Sender<()>,
    names: UnboundedSender<()>,
) -> Events {
    Events::new(move |event| match event {
        driver::Event::Maintenance => drop(causes.send(Cause::Everything)),
        driver::Event::LedgerBacklog => drop(causes.send(Cause::Backlog)),
        driver::Event::ProbesDue => drop(probes.send(())),
        driver::Event::LeasesDue => drop(leases.send(())),
        driver::Event::NamesDue => drop(names.send(())),
        driver::Event::Arrival(network, endpoint) => drop(arrivals.send((network, endpoint))),
    })
}

fn cause(event: Event) -> Cause {
    match event {
        Event::LinkGone(name) | Event::LinkChanged(name) | Event::AddressGone(name) => Cause::Link(name),
        Event::LinkNew(name) => Cause::Bridge(name),
        Event::LinkAppeared(name) => Cause::Parent(name),
        Event::HostAddress => Cause::Address,
        Event::Forwarding => Cause::Forwarding,
        Event::Firewall => Cause::Firewall,
        Event::Rules => Cause::Rules,
        Event::Overrun => Cause::Overrun,
    }
}
