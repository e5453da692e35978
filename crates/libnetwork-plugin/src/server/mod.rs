//! HTTP on a Unix socket: connections, bodies, deadlines, shutdown and status codes.
//!
//! The server closes an idle connection only to admit another one: otherwise the engine's next request could
//! race with the close, fail half way and be repeated without its body.

mod body;
mod connections;
mod deadline;
mod descriptors;
mod respond;

pub use body::{MAX_BODY, MAX_PORTS_BODY};

use std::io;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::body::BodyBudget;
use self::connections::{Connection, Connections};
use self::deadline::Deadline;
use self::descriptors::DescriptorReserve;
use self::respond::Handlers;
use crate::driver::{IpamDriver, NetworkDriver};
use crate::observer::Observer;
use crate::routes::Routes;
use crate::socket::PluginSocket;

/// Connections served at once, unless [`Server::max_connections`] says otherwise.
pub const MAX_CONNECTIONS: u32 = 1024;

/// How long a request may take before it is answered with an error, unless [`Server::deadline`]
/// says otherwise. The engine holds locks while it waits, and may give up after 30 seconds.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long [`Server::run`] waits for requests under way when it is told to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Stack of a connection's thread, in bytes; unused parts take no memory.
const STACK: usize = 1 << 20;

/// Pause before a failed system call is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

pub(crate) const PLUGIN_JSON: &str = "application/vnd.docker.plugins.v1.2+json";

/// Serves drivers on a plugin socket.
///
/// Each connection has its own thread, on which the drivers' methods run: the engine keeps few connections, and
/// a thread switch costs a considerable part of a request.
#[derive(Clone)]
pub struct Server {
    handlers: Handlers,
    deadline: Duration,
    max_connections: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self { handlers: Handlers::default(), deadline: DEADLINE, max_connections: MAX_CONNECTIONS }
    }
}

impl Server {
    /// A server without drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a network driver.
    #[must_use]
    pub fn network(mut self, driver: Arc<dyn NetworkDriver>) -> Self {
        self.handlers.network = Some(driver);
        self
    }

    /// Serves an address management driver. It may be the same value as the network driver.
    #[must_use]
    pub fn ipam(mut self, driver: Arc<dyn IpamDriver>) -> Self {
        self.handlers.ipam = Some(driver);
        self
    }

    /// Notifies `observer` of every request.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.handlers.observer = Some(observer);
        self
    }

    /// Answers paths outside the protocol.
    #[must_use]
    pub fn routes(mut self, routes: Arc<dyn Routes>) -> Self {
        self.handlers.routes = Some(routes);
        self
    }

    /// Serves the routes alone, and nothing but GET: for a second socket of operators. The paths of the protocol do not
    /// exist there.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.handlers.read_only = true;
        self
    }

    /// How long a request may take before it is answered with an error: [`DEADLINE`] by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many connections are served at once, at least 1: [`MAX_CONNECTIONS`] by default. A further connection
    /// replaces an idle one, or waits.
    #[must_use]
    pub fn max_connections(mut self, limit: u32) -> Self {
        self.max_connections = limit.max(1);
        self
    }

    /// Serves until SIGTERM or SIGINT, answers the requests under way for [`DRAIN_TIMEOUT`] at
    /// most, and removes the socket.
    ///
    /// # Errors
    /// The event loop or the signals cannot be set up.
    pub fn run(self, socket: PluginSocket) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = socket.listener.try_clone()?;
        let served = runtime.block_on(async {
            let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let (stop, mut stopped) = watch::channel(false);
            let serving = self.serve(listener, async move { drop(stopped.changed().await) });
            tokio::pin!(serving);
            tokio::select! {
                served = serving.as_mut() => return served,
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            let _ = stop.send(true);
            match tokio::time::timeout(DRAIN_TIMEOUT, serving).await {
                Ok(served) => served,
                Err(_) => {
                    tracing::warn!("requests were still under way at the end");
                    Ok(())
                }
            }
        });
        socket.remove();
        served
    }

    /// Serves until `stop` is ready, and then until the requests under way are answered.
    ///
    /// Needs a tokio runtime with I/O and time, on whose threads no driver's method runs.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub async fn serve(self, listener: StdListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let connections = Connections::new(self.max_connections);
        let (stopping, stopped) = watch::channel(false);
        // Stopping drops a connection that is accepted but waits for a slot: it is not served.
        tokio::select! {
            never = self.accept(&listener, &connections, stopped) => match never {},
            () = stop => {}
        }
        let _ = stopping.send(true);
        drop(listener);
        connections.closed().await;
        Ok(())
    }

    async fn accept(
        &self,
        listener: &UnixListener,
        connections: &Arc<Connections>,
        stopped: watch::Receiver<bool>,
    ) -> std::convert::Infallible {
        let (budget, mut number, mut reserve) = (BodyBudget::default(), 0, DescriptorReserve::default());
        loop {
            if !reserve.fill(listener) {
                // The process is at its limit of open files.
                connections.evict_idle();
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            // Another thread may use it first. Then accepting fails, and the reserve has to be filled again.
            reserve.spare();
            let begun = match listener.accept().await {
                Ok((stream, _)) => {
                    number += 1;
                    reserve.release();
                    let connection = connections.open(number).await;
                    let shared = Shared {
                        handlers: self.handlers.clone(),
                        deadline: self.deadline,
                        budget: budget.clone(),
                        stopped: stopped.clone(),
                    };
                    connection.map_or(Ok(()), |connection| begin(stream, connection, shared))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = begun {
                // The server continues to listen.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// The state that a connection shares with the others.
struct Shared {
    handlers: Handlers,
    deadline: Duration,
    budget: BodyBudget,
    stopped: watch::Receiver<bool>,
}

/// Starts the thread of a connection.
fn begin(stream: UnixStream, connection: Connection, shared: Shared) -> io::Result<()> {
    // All descriptors are opened here, where they were reserved, and not on the new thread.
    let stream = stream.into_std()?;
    let events = EventLoop::new()?;
    let deadline = Arc::new(Deadline::new(stream.try_clone()?, shared.deadline));
    let watched = Arc::clone(&deadline);
    let watcher = tokio::spawn(async move { watched.watch().await }).abort_handle();
    let ended = watcher.clone();
    let work = move || {
        if let Err(error) = events.run(serve(stream, connection, shared, deadline)) {
            tracing::warn!(%error, "connection not served");
        }
        ended.abort();
    };
    let thread = std::thread::Builder::new().name("connection".to_owned()).stack_size(STACK).spawn(work);
    thread.map(drop).inspect_err(|_| watcher.abort())
}

/// The event loop of a connection, which may be dropped on any thread: a tokio runtime by itself
/// panics when it is dropped on a thread of another runtime.
struct EventLoop(Option<tokio::runtime::Runtime>);

impl EventLoop {
    fn new() -> io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    fn run(&self, connection: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |runtime| runtime.block_on(connection))
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(stream: StdStream, connection: Connection, shared: Shared, deadline: Arc<Deadline>) -> io::Result<()> {
    let stream = UnixStream::from_std(stream)?;
    let Shared { handlers, budget, mut stopped, .. } = shared;
    let (connection, handlers) = (Arc::new(connection), Arc::new(handlers));
    let served = Arc::clone(&connection);
    let answer = service_fn(move |request| {
        let (handlers, budget) = (Arc::clone(&handlers), budget.clone());
        let (connection, deadline) = (Arc::clone(&served), Arc::clone(&deadline));
        async move { Ok::<_, std::convert::Infallible>(handlers.respond(&budget, &connection, &deadline, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // Clients may half-close, and a disconnect must not cancel the driver's method.
    http.max_buf_size(64 * 1024).half_close(true);
    let served = http.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(served);
    let mut stopping = false;
    loop {
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "connection ended with an error");
                }
                return Ok(());
            }
            idle = connection.evicted() => {
                if idle {
                    return Ok(());
                }
                served.as_mut().graceful_shutdown();
            }
            // The request under way is answered, then the connection ends.
            _ = stopped.changed(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}
