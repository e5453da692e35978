//! The operator's commands besides `serve`. Each reads from the daemon or, when none answers, from the ledger
//! and the kernel.
//!
//! `doctor`, `check` and `plan` change nothing. `repair` and `gc --yes` have the daemon make the changes; only
//! when no daemon runs do they make them themselves, and hold the state directory's lock meanwhile.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::json;

use super::AppError;
use super::alone::Alone;
use super::begin::boot_id;
use crate::admin::offline;
use crate::admin::overlay::OverlayStatus;
use crate::admin::status::{LedgerStatus, PlanStatus, Status};
use crate::cli::{Asked, Doctor, Repair};
use crate::client::{Client, ClientError};
use crate::datapath::unknown::Judge;
use crate::datapath::{KernelError, Plan, Protected, diff, fastpath, kind, limited_forwarding, tunnel};
use crate::doctor::collect::{self, Disk, Process, Settings, Wiring};
use crate::doctor::{Facts, Source, Tunnels, examine, path, report, tunnels, verdict};
use crate::driver::settings::UnusableSetting;
use crate::driver::{Health, OverlaySettings, unknown};
use crate::engine::{Engine, EngineError};
use crate::installation::{LocateError, Roots};
use crate::linux;
use crate::linux::survey::Survey;
use crate::names::Names;
use crate::state::peers::Standing;
use crate::state::record::Record;
use crate::state::{Ledger, Outcome, Seen};
use crate::{driver, output};

/// Exit code of a command that could not read the state: there is no verdict.
pub const BLIND: u8 = 3;

/// Why a command ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The daemon or the engine did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The engine's answer cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The installation cannot be determined.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The kernel state to compare with cannot be read.
    #[error("{0}")]
    Blind(String),
    /// An error of the state or the kernel, or another Pontoon runs.
    #[error(transparent)]
    App(#[from] AppError),
    /// An object could not be removed.
    #[error("{leak}: {what}")]
    Leak {
        /// The object.
        leak: String,
        /// The reason.
        what: String,
    },
    /// Nothing is removed, because the comparison is in doubt.
    #[error("removed nothing: {0}")]
    Doubt(String),
}

impl InspectError {
    /// The program's exit code.
    pub fn code(&self) -> u8 {
        match self {
            InspectError::Locate(_) | InspectError::Blind(_) => BLIND,
            InspectError::App(AppError::Store(_) | AppError::Kernel(_)) if !geteuid().is_root() => BLIND,
            _ => 1,
        }
    }
}

impl From<KernelError> for InspectError {
    fn from(error: KernelError) -> Self {
        InspectError::App(error.into())
    }
}

/// Says why a command could not look. Returns its exit code.
pub(super) fn blind(why: &impl std::fmt::Display) -> u8 {
    output::note(&format!("pontoon: {why}"));
    BLIND
}

/// `pontoon doctor` and, with `daemon` false, `pontoon check`. Returns the exit code.
pub fn doctor(options: &Doctor, daemon: bool) -> u8 {
    let mut options = options.clone();
    if let Err(error) = Roots::of_host().fill_in(&mut options.asked) {
        return blind(&error);
    }
    let options = &options;
    let facts = facts(options, daemon);
    let findings = examine(&facts);
    if options.asked.json {
        output::line(&report::json(&findings));
    } else {
        output::print(&report::text(&findings, options.verbose));
    }
    let code = verdict(&findings).verdict().1;
    match unseen(&facts, code) {
        Some(why) => blind(&why),
        None => code,
    }
}

/// Why there is no verdict: the facts could not be read.
fn unseen(facts: &Facts, code: u8) -> Option<String> {
    if facts.source == Source::Daemon {
        return None;
    }
    let blind = facts.status.blind.clone().or(facts.host.as_ref().err().cloned());
    let blind = blind.or(if let Source::Nowhere(why) = &facts.source { Some(why.clone()) } else { None });
    match blind {
        Some(why) if !geteuid().is_root() => Some(format!("{why}; run this as root")),
        _ if code == 0 && facts.status.state.outcome == "absent" => {
            Some(format!("cannot compare: there is no ledger in {}", facts.state_dir.display()))
        }
        _ => None,
    }
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
    let wiring = Wiring::read(&asked.socket);
    let wiring = match &status.status_socket {
        Some(socket) => wiring.with_status_socket(&socket.path),
        None => wiring,
    };
    Facts {
        engine: options.docker.as_ref().map(|docker| Engine::ask(docker, &held).map_err(|error| error.to_string())),
        wiring,
        serves_vips: collect::serves_vips(),
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

/// Facts about overlay networks, and the result of sending packets to their peers.
fn tunnels(survey: &mut Survey, status: &Status) -> Option<Tunnels> {
    let reach = status.reach.as_ref()?;
    let overlays = status.networks.iter().filter(|network| network.overlay.is_some());
    let addresses = overlays.flat_map(|network| &network.endpoints).flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|net| if let IpAddr::V4(ip) = net.ip() { Some(ip) } else { None }).collect();
    let mut tunnels =
        Tunnels { holders: path::holders(reach.port), damaged: path::damaged(&addresses), ..Tunnels::default() };
    let Some(local) = reach.local else { return Some(tunnels) };
    let peers: Vec<_> = reach.peers.iter().map(|peer| peer.address).collect();
    match survey.paths(local, &peers) {
        Ok(paths) => tunnels.paths = paths,
        Err(error) => tracing::debug!(%error, "cannot read the paths to other hosts; skipping their checks"),
    }
    tunnels.driver = tunnels.paths.link.as_deref().and_then(path::driver);
    tunnels.largest = tunnels::largest(&status.networks, local.is_ipv6());
    let there: Vec<_> =
        reach.peers.iter().filter(|peer| peer.standing == Standing::Present).map(|p| p.address).collect();
    tunnels.arrivals = path::probe(local, &there, tunnels.largest);
    Some(tunnels)
}

pub(super) fn ids(status: &Status) -> BTreeSet<String> {
    status.networks.iter().map(|network| network.id.as_str().to_owned()).collect()
}

pub(super) fn ask(asked: &Asked) -> Result<Status, ClientError> {
    Client::new(&asked.socket, "socket")?.get("/status")
}

/// [`status_of`] the daemon that runs on this host, where the options do not name one.
///
/// # Errors
/// None is found, several are, or nothing can be read.
pub(super) fn found_status(asked: &Asked) -> Result<(Status, Option<String>), String> {
    let mut asked = asked.clone();
    Roots::of_host().fill_in(&mut asked).map_err(|error| error.to_string())?;
    status_of(&asked)
}

/// The engine's names, with a note on standard error if it does not answer.
pub(super) fn known_names(docker: &Path) -> Names {
    let names = Names::ask(docker);
    if let Some(missing) = &names.missing {
        output::note_once(&format!("pontoon: {missing}"));
    }
    names
}

/// The status of the daemon, else the one of its ledger.
///
/// # Errors
/// Neither can be read.
fn status_of(asked: &Asked) -> Result<(Status, Option<String>), String> {
    match ask(asked) {
        Ok(status) => Ok((status, None)),
        Err(refused) => ledger_status(asked, refused),
    }
}

/// The status of a ledger without the plan of a repair, and why the daemon did not answer.
///
/// # Errors
/// It cannot be read.
pub(super) fn ledger_status(asked: &Asked, refused: ClientError) -> Result<(Status, Option<String>), String> {
    match Ledger::open_read_only(&asked.state_dir, &boot_id()) {
        Ok(seen) if matches!(seen.outcome, Outcome::Absent) => Err(no_ledger(asked).to_string()),
        Ok(seen) => {
            let health = Health::of_seen(&seen);
            let state = LedgerStatus::new(&health, health.is_degraded(&Protected::default()));
            Ok((offline::status_of(&seen.records, state), Some(refused.to_string())))
        }
        Err(error) => Err(format!("{refused}; {error}")),
    }
}

/// The status without a daemon: the facts of the ledger, and the difference to the kernel.
fn from_ledger(asked: &Asked, why: Option<String>) -> (Status, Source) {
    match Ledger::open_read_only(&asked.state_dir, &boot_id()) {
        Ok(seen) => (compared(&seen), Source::Ledger(why)),
        Err(error) => {
            (Status::default(), Source::Nowhere(why.map_or(error.to_string(), |why| format!("{why}; {error}"))))
        }
    }
}

fn compared(seen: &Seen) -> Status {
    let health = Health::of_seen(seen);
    let compared = plan(seen);
    let none = Protected::default();
    let unknown = compared.as_ref().map_or(&none, |(.., unknown)| unknown);
    let state = LedgerStatus::new(&health, health.is_degraded(unknown));
    let mut status = offline::status_of(&seen.records, state);
    match compared {
        Ok((plan, reach, _)) => (status.plan, status.reach) = (plan, reach),
        Err(error) => status.blind = Some(error.to_string()),
    }
    status.settings = unusable(&seen.records).into_iter().collect();
    status
}

/// The difference between a ledger and the kernel, computed as at a start of the daemon. Also the objects that are
/// kept although the ledger does not know them.
fn plan(seen: &Seen) -> Result<(PlanStatus, Option<OverlayStatus>, Protected), KernelError> {
    let mut survey = Survey::open(linux::Options::default())?;
    let mut want = offline::desired_of(&seen.records, &survey.engine_bridges()?, survey.broadcasts()?);
    let (tunnels, reach) = offline::tunnels_of(&seen.records, survey.addresses()?, |path| survey.underlay(path))?;
    kind::add(&mut want, tunnels);
    let opposed = survey.opposition(&want.contestable)?.into_keys().collect();
    want.fastpath = want.fastpath.map(|entries| fastpath::whole(fastpath::without(entries, &opposed)));
    let have = survey.observe(&want.foreign())?;
    let closed = limited_forwarding::policy(&have, &want);
    want.policy.get_or_insert_default().extend(closed);
    let mut judge = Judge::default();
    (judge.ended, judge.incomplete) = (unknown::ended(&seen.records, &seen.former), seen.lacks_facts());
    let mut protected = judge.judge(&have, &want);
    let kept = protected.clone();
    let unknown: Vec<_> = protected.links.iter().cloned().collect();
    if seen.records.is_empty() && matches!(seen.outcome, Outcome::Absent) {
        // What Pontoon would create at its first start is not drift.
        return Ok((PlanStatus { unknown, ..PlanStatus::default() }, None, kept));
    }
    if reach.as_ref().is_some_and(|reach| reach.local.is_none()) {
        // The daemon decides about tunnels without an underlay address.
        let there = tunnel::present(&have);
        protected.links.extend(there.links);
        protected.policy.extend(there.policy);
    }
    let plan = Plan { unknown, ..diff(&have, &want, &protected) };
    Ok((PlanStatus::new(&plan, linux::commands), reach, kept))
}

/// The daemon's data path, if it does not exist on this host.
fn unusable(records: &[Record]) -> Option<UnusableSetting> {
    let path = OverlaySettings::of_records(records).data_path?;
    let found = Survey::open(linux::Options::default()).and_then(|mut survey| survey.underlay(&path)).ok()?;
    found.is_none().then(|| UnusableSetting::no_data_path(&path))
}

/// `pontoon plan`.
pub fn show_plan(asked: &Asked) -> Result<(), InspectError> {
    let asked = &filled_in(asked)?;
    let status = match ask(asked) {
        Ok(status) => status,
        Err(_) => {
            let seen = Ledger::open_read_only(&asked.state_dir, &boot_id()).map_err(AppError::from)?;
            let status = compared(&seen);
            if status.state.outcome == "absent" && status.plan.is_empty() && status.blind.is_none() {
                return Err(no_ledger(asked));
            }
            status
        }
    };
    if let Some(why) = status.blind {
        return Err(InspectError::Blind(format!("cannot compare the kernel with the state: {why}")));
    }
    print_plan(&status.plan, asked.json);
    Ok(())
}

pub(super) fn filled_in(asked: &Asked) -> Result<Asked, LocateError> {
    let mut asked = asked.clone();
    Roots::of_host().fill_in(&mut asked)?;
    Ok(asked)
}

pub(super) fn no_ledger(asked: &Asked) -> InspectError {
    let (dir, socket) = (asked.state_dir.display(), asked.socket.display());
    InspectError::Blind(format!("cannot compare: no daemon answers on {socket}, and there is no ledger in {dir}"))
}

fn print_plan(plan: &PlanStatus, as_json: bool) {
    if as_json {
        return output::line(&json!(plan));
    }
    for command in &plan.commands {
        output::line(command);
    }
    for host in &plan.dead {
        output::line(&format!("# link {host} is missing, its sandbox ended: the endpoint will be removed"));
    }
    for bridge in &plan.missing {
        output::line(&format!("# your bridge {bridge} is missing: ip link add name {bridge} type bridge"));
    }
    for bridge in &plan.withheld {
        output::line(&format!("# bridge {bridge} is not created: a link that is not in the ledger uses its subnet"));
    }
    for link in &plan.unknown {
        output::line(&format!("# link {link} is Pontoon's but not in the ledger: it is kept (pontoon doctor)"));
    }
    if plan.is_empty() {
        output::line(&"# nothing to do: the kernel matches the state");
    }
}

/// `pontoon repair`.
pub fn repair(options: &Repair) -> Result<(), InspectError> {
    let asked = &filled_in(&options.asked)?;
    let remove = &options.remove;
    let client = Client::new(&asked.socket, "socket")?;
    let done: PlanStatus = match client.get::<Status>("/status") {
        Ok(_) => client.post("/repair", &json!({ "remove": remove }))?,
        Err(_) => {
            let alone = Alone::begin(&asked.state_dir)?;
            let before = alone.driver.remove_unknown(remove).and_then(|()| alone.driver.repair_all());
            alone.end();
            let plan = before.map_err(|error| InspectError::Doubt(error.to_string()))?;
            PlanStatus::new(&plan, linux::commands)
        }
    };
    print_plan(&done, asked.json);
    Ok(())
}
