//! Owns the composition of the daemon: which parts there are and in which order they start.
//! State first, then the kernel, and the socket last: whoever can connect is served.

pub mod inspect;
pub mod vip;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{Confine, Serve};
use crate::confinement::{self, Confinement, Reach};
use crate::datapath::KernelError;
use crate::driver::{Driver, OverlaySettings, Settings};
use crate::ipam::DefaultPools;
use crate::linux::{self, LinuxKernel, watch::Event};
use crate::metrics::Metrics;
use crate::resolvers::Resolvers;
use crate::server::{self, Service};
use crate::socket::{PluginSocket, SocketError};
use crate::state::{self, Ledger, Opened, Outcome, StoreError};
use crate::upkeep::{self, Cause};
use crate::{announcer, heap, socket, telemetry};

/// Longest time from SIGTERM to the end of the process: requests under way get this long.
const GRACE: Duration = Duration::from_millis(900);

/// Why the daemon ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plugin socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Threads, signals, the runtime.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

fn system(operation: &'static str) -> impl Fn(std::io::Error) -> AppError {
    move |source| AppError::System { operation, source }
}

/// Serves until a signal ends it.
pub fn serve(options: Serve) -> Result<(), AppError> {
    let began = Instant::now();
    telemetry::start(options.log, options.log_format);
    heap::keep_little();
    let _only_one = socket::claim_namespace()?;
    let (seed, boot, resolvers) = (random_seed(), boot_id(), Resolvers::of_host());
    // The one thing that takes CAP_NET_RAW, which is given up next.
    let sender = linux::announce::Sender::open().map(Arc::new);
    // Before anything else is opened, so that what confinement forbids fails now and not later;
    // before any thread is started, for it holds for threads that come after it.
    let _confined = confine(&options)?;
    let opened = Ledger::open(&options.state_dir, &boot)?;
    report(&opened, &options);
    let kernel = Arc::new(LinuxKernel::new(linux::Options { sysctl_root: options.sysctl_root.clone(), sender })?);
    let pools = match options.default_address_pools.as_slice() {
        [] => DefaultPools::default(),
        pools => DefaultPools::new(pools.to_vec()),
    };
    let overlay = OverlaySettings {
        scope: options.scope.into(),
        connectivity: options.connectivity.into(),
        port: options.vxlan_port,
        data_path: options.data_path.clone(),
        peers: options.peers.clone(),
    };
    let settings = Settings { pools, ula_seed: seed, overlay };
    let driver = Arc::new(Driver::load(opened, Arc::<LinuxKernel>::clone(&kernel), settings, move || resolvers.now()));
    if let Err(error) = driver.start() {
        // Serving with errors beats not serving: the engine would wait 15 s for every call.
        tracing::error!(%error, "the kernel could not be brought to the state, repair goes on in the background");
    }
    let causes = upkeep::start(Arc::clone(&driver)).map_err(system("start the upkeep thread"))?;
    let for_verbs = causes.clone();
    driver.on_attention(move || drop(for_verbs.send(Cause::Everything)));
    let for_ledger = causes.clone();
    driver.on_backlog(move || drop(for_ledger.send(Cause::Backlog)));
    let arrivals =
        announcer::start(Arc::clone(&driver), announcer::ROUND).map_err(system("start the announcer's thread"))?;
    driver.on_arrival(move |network, endpoint| drop(arrivals.send((network, endpoint))));
    let _watch = kernel.watch(Box::new(move |event| drop(causes.send(cause(event)))))?;

    let (listener, path) = PluginSocket::open(&options.socket)?.into_parts();
    let metrics = Arc::new(Metrics::default());
    let service = Arc::new(Service { driver: Arc::clone(&driver), metrics, verb_time: server::VERB_TIME });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let done = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(system("listen"))?;
        let (stop, stopped) = watch::channel(false);
        let (networks, endpoints) = driver.sizes();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %options.socket.display(), networks, endpoints,
            start_ms = began.elapsed().as_millis() as u64, "listening");
        let serving = tokio::spawn(server::serve(listener, service, stopped));
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let _ = stop.send(true);
        if tokio::time::timeout(GRACE, serving).await.is_err() {
            tracing::warn!("requests were still under way at the end");
        }
        Ok(())
    });
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
    tracing::info!("stopped; links and rules stay as they are");
    // Verbs that no client waits for any more: their ledger records make them repeatable.
    runtime.shutdown_timeout(Duration::from_millis(50));
    done
}

/// Gives up what serving does not need. The directories that stay within reach are made first.
fn confine(options: &Serve) -> Result<Option<Confinement>, AppError> {
    if options.confine == Confine::Off {
        tracing::warn!("not confined: PONTOON_CONFINE is off");
        return Ok(None);
    }
    state::make_directory(&options.state_dir)?;
    // Nothing is lost if that fails: binding the socket tries again, and tells.
    let sockets = options.socket.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = std::fs::create_dir_all(sockets);
    Ok(Some(confinement::enter(&Reach {
        state: options.state_dir.clone(),
        sockets: sockets.to_owned(),
        settings: options.sysctl_root.clone(),
        read: vec![Resolvers::reach(), "/proc/self".into(), "/proc/sys/kernel/random".into()],
    })))
}

fn cause(event: Event) -> Cause {
    match event {
        Event::LinkGone(name) | Event::LinkChanged(name) | Event::AddressGone(name) => Cause::Link(name),
        Event::LinkNew(name) => Cause::Bridge(name),
        Event::HostAddress => Cause::Address,
        Event::ForwardingOff => Cause::Forwarding,
        Event::Firewall => Cause::Firewall,
        Event::Overrun => Cause::Overrun,
    }
}

/// Says once, at the start, what the ledger was like and what follows.
fn report(opened: &Opened, options: &Serve) {
    let file = options.state_dir.join("ledger");
    let file = file.display();
    match &opened.outcome {
        Outcome::Absent => tracing::info!("{file}: there was none, a new one is begun"),
        Outcome::Loaded => {}
        outcome @ Outcome::Torn { .. } => tracing::warn!("{file}: {outcome}"),
        outcome => tracing::error!("{file}: {outcome}"),
    }
    for kept in &opened.kept_aside {
        tracing::warn!(
            "{} is kept from an earlier damage: no link is removed for lack of a record; delete the file once all networks are there",
            kept.display()
        );
    }
    if let Some(error) = &opened.unwritten {
        tracing::error!(%error, "the ledger could not be rewritten, the next change tries again");
    }
    if opened.rebooted {
        tracing::info!("the host was rebooted: endpoints of the earlier boot are forgotten");
    }
}

/// Identifies the host's boot; empty when the kernel does not tell, which then counts as one
/// endless boot (endpoints are verified against the kernel anyway).
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn random_seed() -> [u8; 5] {
    let mut seed = [0; 5];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    if let Err(error) = read {
        tracing::warn!(%error, "/dev/urandom cannot be read: IPv6 pools derive from the clock");
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_nanos());
        seed.copy_from_slice(&time.to_le_bytes()[..5]);
    }
    seed
}
