//! Owns the operator's commands besides `serve`: where each gets what it shows, from the daemon or,
//! when none answers, from the ledger and the kernel, and what changes something.
//!
//! `doctor`, `check` and `plan` change nothing. `repair` and `gc --yes` have the daemon do it; only
//! when no daemon runs they do it themselves, and hold the state directory's lock meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::AppError;
use super::begin::{boot_id, random_seed};
use crate::cli::{Asked, Doctor, Gc, LogFormat, LogLevel};
use crate::client::{Client, ClientError};
use crate::datapath::{KernelError, Protected, closed, desired, diff, shortcut, tunnel};
use crate::doctor::look::{self, Disk, Process, Settings, Wiring};
use crate::doctor::{Facts, Source, Tunnels, examine, overlay, path, report, verdict};
use crate::driver::reach::{ReachLine, tunnels_of};
use crate::driver::status::{self, PlanLines, StateLine, Status};
use crate::driver::unread::SettingLine;
use crate::driver::{Driver, OverlaySettings, Settings as DriverSettings};
use crate::engine::{Engine, EngineError};
use crate::gc::{self, Leak, Look};
use crate::linux::claim::Claim;
use crate::linux::survey::Survey;
use crate::linux::{self, LinuxKernel};
use crate::resolvers::Resolvers;
use crate::state::peers::Standing;
use crate::state::record::Record;
use crate::state::{Ledger, Outcome, Seen};
use crate::{api, driver, output, telemetry};

/// How long a repair without a daemon waits for links that go in the background.
const SETTLE: Duration = Duration::from_secs(10);

/// Why a command ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The daemon or the engine.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The engine's word.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state, the kernel, or another Pontoon.
    #[error(transparent)]
    App(#[from] AppError),
    /// Removing it failed.
    #[error("{leak}: {what}")]
    Leak {
        /// What.
        leak: String,
        /// Why not.
        what: String,
    },
    /// Nothing is removed, because there is doubt.
    #[error("nothing is removed: {0}")]
    Doubt(String),
}

impl From<KernelError> for InspectError {
    fn from(error: KernelError) -> Self {
        InspectError::App(error.into())
    }
}

/// `pontoon doctor` and, with `daemon` false, `pontoon check`. Returns the exit code.
pub fn doctor(options: &Doctor, daemon: bool) -> u8 {
    let findings = examine(&facts(options, daemon));
    if options.asked.json {
        output::line(&report::json(&findings));
    } else {
        output::print(&report::text(&findings, options.verbose));
    }
    verdict(&findings).verdict().1
}

fn facts(options: &Doctor, daemon: bool) -> Facts {
    let asked = &options.asked;
    let (status, source) = if daemon {
        match ask(asked) {
            Ok(status) => (status, Source::Daemon),
            Err(why) => from_ledger(asked, Some(why.to_string())),
        }
    } else {
        from_ledger(asked, None)
    };
    let process = match &source {
        Source::Daemon => Process::of_daemon(&asked.socket, status.pid),
        _ => Process::read(std::process::id()),
    };
    let survey = Survey::open(linux::Options::default());
    let (host, tunnels) = match survey {
        Ok(mut survey) => (survey.host(), tunnels(&mut survey, &status)),
        Err(error) => (Err(error), None),
    };
    let host = host.map_err(|error| error.to_string());
    let uplink = host.as_ref().ok().and_then(|host| host.uplink.clone());
    let held = ids(&status);
    Facts {
        engine: options.docker.as_ref().map(|docker| Engine::ask(docker, &held).map_err(|error| error.to_string())),
        wiring: Wiring::read(&asked.socket),
        serves_vips: look::serves_vips(),
        settings: Settings::read(&uplink.into_iter().collect::<Vec<_>>()),
        disk: Disk::read(&asked.state_dir),
        state_dir: asked.state_dir.clone(),
        tunnels,
        now: driver::now(),
        source,
        status,
        process,
        host,
    }
}

/// What is seen of overlay networks, and what becomes of packets that are sent to their peers.
fn tunnels(survey: &mut Survey, status: &Status) -> Option<Tunnels> {
    let reach = status.reach.as_ref()?;
    let overlays = status.networks.iter().filter(|network| network.overlay.is_some());
    let addresses = overlays.flat_map(|network| &network.endpoints).flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|net| if let IpAddr::V4(ip) = net.ip() { Some(ip) } else { None }).collect();
    let mut tunnels =
        Tunnels { holders: path::holders(reach.port), damaged: path::damaged(&addresses), ..Tunnels::default() };
    let Some(local) = reach.local else { return Some(tunnels) };
    let peers: Vec<_> = reach.peers.iter().map(|peer| peer.address).collect();
    match survey.ways(local, &peers) {
        Ok(ways) => tunnels.ways = ways,
        Err(error) => tracing::debug!(%error, "nothing is said of the ways"),
    }
    tunnels.driver = tunnels.ways.link.as_deref().and_then(path::driver);
    tunnels.largest = overlay::largest(&status.networks, local.is_ipv6());
    let there: Vec<_> =
        reach.peers.iter().filter(|peer| peer.standing == Standing::Present).map(|p| p.address).collect();
    tunnels.arrivals = path::try_out(local, &there, tunnels.largest);
    Some(tunnels)
}

fn ids(status: &Status) -> BTreeSet<String> {
    status.networks.iter().map(|network| network.id.as_str().to_owned()).collect()
}

fn ask(asked: &Asked) -> Result<Status, ClientError> {
    Client::new(&asked.socket, "socket")?.get("/status")
}

/// The status without a daemon: the ledger's facts, and the difference to the kernel.
fn from_ledger(asked: &Asked, why: Option<String>) -> (Status, Source) {
    match Ledger::look(&asked.state_dir, &boot_id()) {
        Ok(seen) => (compared(&seen), Source::Ledger(why)),
        Err(error) => {
            (Status::default(), Source::Nowhere(why.map_or(error.to_string(), |why| format!("{why}; {error}"))))
        }
    }
}

fn compared(seen: &Seen) -> Status {
    // As the daemon counts it (driver::Driver::is_degraded).
    let whole = matches!(seen.outcome, Outcome::Loaded | Outcome::Absent | Outcome::Torn { .. });
    let degraded = !whole || !seen.kept_aside.is_empty();
    let mut status =
        status::of_records(&seen.records, StateLine::new(&seen.outcome, degraded, seen.kept_aside.clone()));
    match plan(seen, degraded || !matches!(seen.outcome, Outcome::Loaded)) {
        Ok((plan, reach)) => (status.plan, status.reach) = (plan, reach),
        Err(error) => status.blind = Some(error.to_string()),
    }
    status.settings = unusable(&seen.records).into_iter().collect();
    status
}

/// The difference between a ledger and the kernel. When facts may be missing, nothing that the
/// ledger does not explain is removed, as at a start of the daemon.
fn plan(seen: &Seen, keep: bool) -> Result<(PlanLines, Option<ReachLine>), KernelError> {
    if seen.records.is_empty() && matches!(seen.outcome, Outcome::Absent) {
        // Pontoon never ran here: what it would make at its first start is no drift.
        return Ok((PlanLines::default(), None));
    }
    let mut survey = Survey::open(linux::Options::default())?;
    let mut want = status::desired_of(&seen.records, &survey.engine_bridges()?, survey.broadcasts()?);
    let (tunnels, reach) = tunnels_of(&seen.records, survey.addresses()?, |path| survey.underlay(path))?;
    desired::add(&mut want, tunnels);
    want.shortcuts = want.shortcuts.map(shortcut::whole);
    let foreign = want.bridges.iter().filter(|(_, bridge)| !bridge.owned).map(|(name, _)| name.clone()).collect();
    let have = survey.observe(&foreign)?;
    let closed = closed::elements(&have, &want);
    want.elements.get_or_insert_default().extend(closed);
    let mut protected = Protected::default();
    if keep {
        let links = have.bridges.keys().chain(have.veths.keys()).chain(have.vxlans.keys());
        protected.links = links.cloned().collect();
        protected.elements = have.elements.clone().unwrap_or_default();
    }
    if reach.as_ref().is_some_and(|reach| reach.local.is_none()) {
        // Tunnels without an address to leave from are the daemon's to judge.
        let there = tunnel::present(&have);
        protected.links.extend(there.links);
        protected.elements.extend(there.elements);
    }
    Ok((PlanLines::new(&diff(&have, &want, &protected), linux::commands), reach))
}

/// A data path of the daemon's that this host does not have.
fn unusable(records: &[Record]) -> Option<SettingLine> {
    let path = OverlaySettings::of_records(records).data_path?;
    let found = Survey::open(linux::Options::default()).and_then(|mut survey| survey.underlay(&path)).ok()?;
    found.is_none().then(|| SettingLine::no_data_path(&path))
}

/// `pontoon plan`.
pub fn show_plan(asked: &Asked) -> Result<(), InspectError> {
    let status = match ask(asked) {
        Ok(status) => status,
        Err(_) => {
            let seen = Ledger::look(&asked.state_dir, &boot_id()).map_err(AppError::from)?;
            compared(&seen)
        }
    };
    if let Some(why) = status.blind {
        return Err(InspectError::Doubt(format!("the kernel cannot be compared with the state: {why}")));
    }
    print_plan(&status.plan, asked.json);
    Ok(())
}

fn print_plan(plan: &PlanLines, as_json: bool) {
    if as_json {
        return output::line(&json!(plan));
    }
    for command in &plan.commands {
        output::line(command);
    }
    for host in &plan.dead {
        output::line(&format!("# link {host} is gone with its sandbox: its endpoint is removed"));
    }
    for bridge in &plan.missing {
        output::line(&format!("# bridge {bridge} is yours and missing: ip link add name {bridge} type bridge"));
    }
    if plan.is_empty() {
        output::line(&"# nothing to do: the kernel holds what the state says");
    }
}

/// `pontoon repair`.
pub fn repair(asked: &Asked) -> Result<(), InspectError> {
    let client = Client::new(&asked.socket, "socket")?;
    let done: PlanLines = match client.get::<Status>("/status") {
        Ok(_) => client.post("/repair", &json!({}))?,
        Err(_) => {
            let alone = Alone::begin(&asked.state_dir)?;
            let before = alone.driver.repair_all();
            alone.end();
            before.map_err(|error| InspectError::Doubt(error.to_string()))?
        }
    };
    print_plan(&done, asked.json);
    Ok(())
}

/// A driver without a socket, for when no daemon runs: it has the namespace and the state
/// directory to itself as long as it lives, and refuses to begin when somebody else has them.
struct Alone {
    driver: Driver,
    kernel: Arc<LinuxKernel>,
    _only_one: Claim,
}

impl Alone {
    fn begin(state_dir: &Path) -> Result<Self, AppError> {
        telemetry::start(LogLevel::Warn, LogFormat::Text, false);
        let only_one = Claim::take()?;
        let opened = Ledger::open(state_dir, &boot_id())?;
        let kernel = Arc::new(LinuxKernel::new(linux::Options::default())?);
        let overlay = OverlaySettings::of_records(&opened.records);
        let settings = DriverSettings { ula_seed: random_seed(), overlay, ..DriverSettings::default() };
        let resolvers = Resolvers::of_host();
        let driver = Driver::load(opened, Arc::<LinuxKernel>::clone(&kernel), settings, move || resolvers.now());
        driver.protect()?;
        driver.take_up_tunnels()?;
        Ok(Self { driver, kernel, _only_one: only_one })
    }

    fn end(self) {
        use crate::datapath::Kernel;
        if !self.kernel.settle(SETTLE) {
            tracing::warn!("links are still being deleted");
        }
    }
}

/// `pontoon gc`.
pub fn gc(options: &Gc) -> Result<(), InspectError> {
    let first = compare(options)?;
    show(&first, options.asked.json);
    if !options.yes || first.leaks.is_empty() {
        return Ok(());
    }
    if first.stranger && !options.none_known {
        let why = "this engine knows none of Pontoon's networks: is it the right one? If its data was removed, add --none-known";
        return Err(InspectError::Doubt(why.to_owned()));
    }
    // Whoever is just making a network tells Pontoon of it before the engine shows it.
    std::thread::sleep(Duration::from_secs(options.wait));
    let second = compare(options)?;
    let both: Vec<&Leak> = first.leaks.intersection(&second.leaks).collect();
    match ask(&options.asked) {
        Ok(_) => {
            let client = Client::new(&options.asked.socket, "socket")?;
            both.into_iter().try_for_each(|leak| removed(leak, remove_through(&client, leak)))
        }
        Err(_) => {
            let alone = Alone::begin(&options.asked.state_dir)?;
            let done = both.into_iter().try_for_each(|leak| removed(leak, remove(&alone.driver, leak)));
            alone.end();
            done
        }
    }
}

fn compare(options: &Gc) -> Result<Look, InspectError> {
    // Pontoon first: what it hears of between the two questions is not looked at.
    let status = match ask(&options.asked) {
        Ok(status) => status,
        Err(_) => {
            let seen = Ledger::look(&options.asked.state_dir, &boot_id()).map_err(AppError::from)?;
            status::of_records(&seen.records, StateLine::default())
        }
    };
    let engine = Engine::ask(&options.docker, &ids(&status))?;
    let links = Survey::open(linux::Options::default())?.links()?;
    Ok(gc::look(&status, &engine, &links))
}

fn show(look: &Look, as_json: bool) {
    if as_json {
        return output::line(&json!(look));
    }
    for leak in &look.leaks {
        output::line(leak);
    }
    for kept in &look.kept {
        output::line(&format!("# kept: {kept}"));
    }
    if look.leaks.is_empty() {
        output::line(&"# nothing to remove: the engine knows all that Pontoon holds");
    }
}

fn removed(leak: &Leak, done: Result<(), String>) -> Result<(), InspectError> {
    done.map_err(|what| InspectError::Leak { leak: leak.to_string(), what })?;
    output::note(&format!("removed {leak}"));
    Ok(())
}

/// The verb that the engine should have sent.
fn verb(leak: &Leak) -> (&'static str, Value) {
    match leak {
        Leak::Endpoint { network, id } => {
            ("/NetworkDriver.DeleteEndpoint", json!({ "NetworkID": network, "EndpointID": id }))
        }
        Leak::Network { id, .. } => ("/NetworkDriver.DeleteNetwork", json!({ "NetworkID": id })),
        Leak::Pool { id, .. } => ("/IpamDriver.ReleasePool", json!({ "PoolID": id })),
    }
}

fn remove_through(client: &Client, leak: &Leak) -> Result<(), String> {
    let (path, body) = verb(leak);
    let answer: BTreeMap<String, Value> = client.post(path, &body).map_err(|error| error.to_string())?;
    let error = ["Err", "Error"].iter().find_map(|key| answer.get(*key)?.as_str().filter(|text| !text.is_empty()));
    error.map_or(Ok(()), |error| Err(error.to_owned()))
}

fn remove(driver: &Driver, leak: &Leak) -> Result<(), String> {
    let (_, body) = verb(leak);
    let done = match leak {
        Leak::Endpoint { .. } => {
            read(body).map(|request: api::network::EndpointRequest| driver.delete_endpoint(request))
        }
        Leak::Network { .. } => read(body).map(|request: api::network::NetworkRequest| driver.delete_network(request)),
        Leak::Pool { .. } => read(body).map(|request: api::ipam::ReleasePoolRequest| driver.release_pool(request)),
    };
    done?.map(|_| ()).map_err(|error| error.to_string())
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, String> {
    serde_json::from_value(body).map_err(|error| error.to_string())
}
