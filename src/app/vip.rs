//! The command `pontoon vip`: lets the containers of this host reach service addresses (VIPs) on Pontoon's
//! networks, and follows changes of the services. An optional separate process; the daemon does not depend on
//! it.
//!
//! Queries the engine and the containers' name servers, and writes a table into the containers' network
//! namespaces. After a failure the tables stay unchanged: a slow engine must not interrupt a service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tokio::signal::unix::{SignalKind, signal};

use super::{AppError, system};
use crate::cli;
use crate::confinement;
use crate::linux::sandbox::{self, SandboxId};
use crate::telemetry;
use crate::vip::feed::Feed;
use crate::vip::{self, Answers, Backends, Network, resolver};

/// The polling interval of the sandbox directory: a starting container should have its service addresses before
/// its program uses them.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a sandbox or an endpoint that is being created is polled at that interval.
const EXPECTED: Duration = Duration::from_secs(5);

/// Runs until a signal ends it; the tables stay.
///
/// # Errors
/// It could not start, or its thread ended.
pub fn run(options: cli::Vip) -> Result<(), AppError> {
    telemetry::start(options.log, options.log_format, false);
    super::settings::report(&options.unreadable);
    confinement::keep_for_sandboxes();
    if options.clear {
        return clear(&options);
    }
    let mut agent = Agent::new(options)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    let work = move || {
        let _alive = alive;
        agent.follow();
    };
    std::thread::Builder::new().name("services".to_owned()).spawn(work).map_err(system("start a thread"))?;
    runtime.block_on(async {
        // Handled explicitly: as the first process of a container it would otherwise ignore the signal.
        let mut term = signal(SignalKind::terminate()).map_err(system("catch SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("catch SIGINT"))?;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = ended => return Err(system("follow the services")(std::io::Error::other("the thread ended"))),
        }
        tracing::info!("stopped; containers keep their present backends. `pontoon vip --clear` removes them");
        Ok(())
    })
}

/// Removes the tables from all sandboxes.
fn clear(options: &cli::Vip) -> Result<(), AppError> {
    for (name, _) in sandbox::list(&options.netns).map_err(system("list network namespaces"))? {
        let none = Backends::new();
        match sandbox::within(&options.netns.join(&name), || sandbox::balance(&none, &none)) {
            Ok(cleared) => cleared?,
            Err(error) => tracing::warn!(%error, sandbox = %name.display(), "cannot enter network namespace"),
        }
    }
    Ok(())
}

/// An endpoint: the network's id, and the address.
type Endpoint = (String, IpNetwork);

/// A sandbox with endpoints on Pontoon's networks.
#[derive(Debug)]
struct Resident {
    endpoints: BTreeSet<Endpoint>,
    /// The backends in its table; `None` when this process has not written it yet.
    written: Option<Backends>,
    since: Instant,
}

impl Resident {
    fn new() -> Self {
        Self { endpoints: BTreeSet::new(), written: None, since: Instant::now() }
    }

    fn is_on(&self, network: &str) -> bool {
        self.endpoints.iter().any(|(id, _)| id == network)
    }
}

#[derive(Debug)]
struct Agent {
    options: cli::Vip,
    feed: Feed,
    networks: BTreeMap<String, Network>,
    /// When each sandbox was first seen.
    present: BTreeMap<SandboxId, Instant>,
    residents: BTreeMap<SandboxId, Resident>,
    unplaced: BTreeSet<Endpoint>,
    /// When `unplaced` last changed.
    since: Instant,
    turn: usize,
    last_error: String,
}

impl Agent {
    fn new(options: cli::Vip) -> Result<Self, AppError> {
        // Fail early: without the directory no sandbox would ever be found.
        sandbox::list(&options.netns)
            .map_err(system("list network namespaces (is --netns the engine's directory?)"))?;
        Ok(Self {
            feed: Feed::start(&options.docker, &options.driver).map_err(system("ask the engine"))?,
            options,
            networks: BTreeMap::new(),
            present: BTreeMap::new(),
            residents: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            since: Instant::now(),
            turn: 0,
            last_error: String::new(),
        })
    }

    fn follow(&mut self) {
        tracing::info!(docker = %self.options.docker.display(), driver = self.options.driver, "watching services");
        loop {
            let polled = self.poll();
            self.connect_new();
            match (polled, self.feed.heard()) {
                (Err(error), _) | (_, Some(Err(error))) => self.report(Some(error)),
                (Ok(()), Some(Ok(networks))) => {
                    self.networks = networks;
                    let failed = self.reconcile();
                    self.report(failed);
                    self.follow_up();
                }
                (Ok(()), None) => {}
            }
            if !self.unplaced.is_empty() && self.since.elapsed() < EXPECTED {
                self.feed.hurry();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Reads the current list of sandboxes.
    fn poll(&mut self) -> Result<(), String> {
        let listed = sandbox::list(&self.options.netns);
        let listed = listed.map_err(|error| format!("{}: {error}", self.options.netns.display()))?;
        let seen = |id: SandboxId| {
            let since = self.present.get(&id).copied().unwrap_or_else(Instant::now);
            (id, since)
        };
        let present: BTreeMap<SandboxId, Instant> = listed.into_iter().map(seen).collect();
        if present.keys().any(|id| !self.present.contains_key(id)) {
            self.feed.hurry();
        }
        self.residents.retain(|id, _| present.contains_key(id));
        self.present = present;
        Ok(())
    }

    /// A new sandbox gets the known services as soon as it has an address on a known network: before the engine
    /// lists it, and before its program starts.
    fn connect_new(&mut self) {
        let new: Vec<SandboxId> = self
            .present
            .iter()
            .filter(|(id, since)| since.elapsed() < EXPECTED && !self.residents.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in new {
            let within = |address: &IpNetwork| {
                let found = self.networks.values().find(|network| network.subnets.contains(&subnet(address)));
                found.map(|network| (network.id.clone(), *address))
            };
            let endpoints: BTreeSet<Endpoint> = self.addresses(&id).iter().filter_map(within).collect();
            if endpoints.is_empty() {
                continue;
            }
            let mut resident = Resident { endpoints, ..Resident::new() };
            let backends = vip::backends(on(&self.networks, &resident), &Answers::new(), &Backends::new());
            let done =
                sandbox::within(&self.options.netns.join(&id.0), || sandbox::balance(&Backends::new(), &backends));
            if matches!(done, Ok(Ok(()))) {
                tracing::debug!(sandbox = %id.0.display(), ?backends, "entered network namespace");
                resident.written = Some(backends);
            }
            self.residents.insert(id, resident);
        }
    }

    /// Logs a problem once, and its end once.
    fn report(&mut self, error: Option<String>) {
        let error = error.unwrap_or_default();
        if error == self.last_error {
            return;
        }
        match error.is_empty() {
            true => tracing::info!("recovered"),
            false => tracing::warn!("{error}; backends stay unchanged until it succeeds"),
        }
        self.last_error = error;
    }

    /// Finds the sandbox of each endpoint by its address; returns the problem if there is none.
    fn reconcile(&mut self) -> Option<String> {
        let listed = self.networks.values();
        let endpoints: BTreeSet<Endpoint> =
            listed.flat_map(|network| network.endpoints.iter().map(|at| (network.id.clone(), *at))).collect();
        // A sandbox that was just set up may not be listed yet.
        for resident in self.residents.values_mut().filter(|resident| resident.since.elapsed() > EXPECTED) {
            resident.endpoints.retain(|endpoint| endpoints.contains(endpoint));
        }
        let without_sandbox = |residents: &BTreeMap<SandboxId, Resident>| -> BTreeSet<Endpoint> {
            let settled = residents.values().flat_map(|resident| &resident.endpoints).cloned().collect();
            &endpoints - &settled
        };
        let unplaced = without_sandbox(&self.residents);
        if !unplaced.is_empty() {
            for id in self.present.keys().cloned().collect::<Vec<_>>() {
                let addresses = self.addresses(&id);
                let here: Vec<Endpoint> = unplaced.iter().filter(|(_, at)| addresses.contains(at)).cloned().collect();
                if !here.is_empty() {
                    self.residents.entry(id).or_insert_with(Resident::new).endpoints.extend(here);
                }
            }
        }
        let unplaced = without_sandbox(&self.residents);
        if unplaced != self.unplaced {
            (self.unplaced, self.since) = (unplaced, Instant::now());
        }
        let (_, address) = self.unplaced.first().filter(|_| self.since.elapsed() > EXPECTED)?;
        let netns = self.options.netns.display();
        Some(format!(
            "no network namespace in {netns} has the address {address}: mount it here with propagation rslave"
        ))
    }

    /// Its addresses; empty while it is being created or after it is gone.
    fn addresses(&self, id: &SandboxId) -> Vec<IpNetwork> {
        let listed = sandbox::within(&self.options.netns.join(&id.0), sandbox::addresses);
        listed.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Writes the current backends to every sandbox that needs an update.
    fn follow_up(&mut self) {
        let answers = self.query_one_container_each();
        let outdated = |resident: &Resident| match &resident.written {
            Some(written) => *written != vip::backends(on(&self.networks, resident), &answers, written),
            None => !resident.endpoints.is_empty(),
        };
        let outdated: Vec<SandboxId> =
            self.residents.iter().filter(|(_, resident)| outdated(resident)).map(|(id, _)| id.clone()).collect();
        for id in outdated {
            self.visit(&id);
        }
        let has_something = |written: &Backends| !written.is_empty();
        self.residents.retain(|_, resident| {
            !resident.endpoints.is_empty() || resident.written.as_ref().is_some_and(has_something)
        });
    }

    /// Queries one container of each network in turn. An answer is never applied to other containers: it only
    /// causes them to be queried themselves.
    fn query_one_container_each(&mut self) -> Answers {
        self.turn = self.turn.wrapping_add(1);
        let mut answers = Answers::new();
        for network in self.networks.keys().cloned().collect::<Vec<_>>() {
            let on_it = self.residents.iter().filter(|(_, resident)| resident.is_on(&network));
            let on_it: Vec<SandboxId> = on_it.map(|(id, _)| id.clone()).collect();
            if let Some(queried) = self.turn.checked_rem(on_it.len()).and_then(|turn| on_it.get(turn)) {
                answers.extend(self.visit(queried));
            }
        }
        answers
    }

    /// Queries a container, and applies the answer to that container only.
    fn visit(&mut self, id: &SandboxId) -> Answers {
        let Some(resident) = self.residents.get_mut(id) else { return Answers::new() };
        let networks: Vec<&Network> = on(&self.networks, resident).collect();
        let before = resident.written.clone().unwrap_or_default();
        let work = || {
            let names = networks.iter().flat_map(|network| network.services.keys());
            let answers = resolver::ask(names).unwrap_or_default();
            let backends = vip::backends(networks.iter().copied(), &answers, &before);
            let done = match resident.written.as_ref() == Some(&backends) {
                true => Ok(()),
                false => sandbox::balance(&before, &backends),
            };
            (answers, backends, done)
        };
        match sandbox::within(&self.options.netns.join(&id.0), work) {
            Ok((answers, backends, Ok(()))) => {
                if resident.written.as_ref() != Some(&backends) {
                    tracing::debug!(sandbox = %id.0.display(), ?backends, "backends updated");
                    resident.written = Some(backends);
                }
                answers
            }
            Ok((answers, _, Err(error))) => {
                tracing::warn!(%error, sandbox = %id.0.display(), "cannot update backends; they stay unchanged");
                answers
            }
            Err(error) => {
                tracing::debug!(%error, sandbox = %id.0.display(), "cannot enter network namespace");
                Answers::new()
            }
        }
    }
}

/// The network that an address is in.
fn subnet(address: &IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(*address)
}

/// The networks that a resident is on.
fn on<'a>(networks: &'a BTreeMap<String, Network>, resident: &Resident) -> impl Iterator<Item = &'a Network> {
    networks.values().filter(|network| resident.is_on(&network.id))
}
