//! The status that the daemon reports to operator commands: its objects, the condition of its state, and the
//! plan of a repair. `GET /status` on the plugin socket; without a daemon a command derives the same from the
//! ledger.
//!
//! Values and their construction; the doctor judges them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::reach::{OverlayLine, ReachLine};
use super::unread::SettingLine;
use super::{Driver, now};
use crate::datapath::companion::{self, Companion, Companions};
use crate::datapath::{Datapath, EngineBridges, Plan, Policy, kind};
use crate::model::{Attachment, EndpointId, HostPort, IfName, NetworkId, Phase};
use crate::state::Outcome;
use crate::state::record::{Holder, Record};
use crate::state::table::{Held, lock};

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the same words as in the model")]
pub struct EndpointLine {
    pub id: EndpointId,
    pub attachment: Attachment,
    pub phase: Phase,
    /// Seconds in this phase.
    pub age: u64,
    pub addresses: Vec<IpNetwork>,
    pub published: Vec<HostPort>,
}

impl EndpointLine {
    /// The link that represents it on the host: the end that stays there, else the one for the sandbox.
    pub fn link(&self) -> &IfName {
        self.attachment.host().unwrap_or(self.attachment.sandbox_link())
    }
}

/// A network with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the same words as in the model")]
pub struct NetworkLine {
    pub id: NetworkId,
    /// `bridge`, `user_bridge` or `overlay`.
    pub kind: String,
    /// The bridge, or the link that the network is attached to.
    pub link: IfName,
    pub mtu: u32,
    pub internal: bool,
    /// Whether its containers can reach each other.
    pub icc: bool,
    pub subnets: Vec<IpNetwork>,
    /// Set if the network is an overlay.
    pub overlay: Option<OverlayLine>,
    pub endpoints: Vec<EndpointLine>,
}

/// An address pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLine {
    /// The engine's id for it.
    pub id: String,
    /// Its address space.
    pub space: String,
    /// Its subnet.
    pub subnet: IpNetwork,
    /// The number of allocated addresses.
    pub taken: usize,
    /// Allocated addresses that no endpoint has, each with its age in seconds.
    pub unclaimed: Vec<(IpAddr, u64)>,
}

/// What a repair would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLines {
    /// The commands, as an operator would type them.
    pub commands: Vec<String>,
    /// Host ends of endpoints whose sandbox is gone; their endpoints are reaped.
    pub dead: Vec<IfName>,
    /// Missing bridges of the user; only the user can create them.
    pub missing: Vec<IfName>,
    /// Bridges that are not created, or lack their address, because an unknown link has their subnet.
    #[serde(default)]
    pub withheld: Vec<IfName>,
    /// Links of Pontoon that the state does not know; they stay.
    #[serde(default)]
    pub unknown: Vec<IfName>,
}

impl PlanLines {
    /// Describes a plan.
    pub fn new(plan: &Plan, commands: impl Fn(&crate::datapath::Step) -> Vec<String>) -> Self {
        let commands = plan.steps.iter().flat_map(commands).collect();
        let (dead, missing) = (plan.dead.clone(), plan.missing.clone());
        Self { commands, dead, missing, withheld: plan.withheld.clone(), unknown: plan.unknown.clone() }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let named = [&self.dead, &self.missing, &self.withheld, &self.unknown];
        self.commands.is_empty() && named.iter().all(|names| names.is_empty())
    }
}

/// The condition of the state when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLine {
    /// `absent`, `loaded`, `torn`, `corrupt` or `too new` (docs/state.md).
    pub outcome: String,
    /// The same as a sentence.
    pub words: String,
    /// Whether facts may be missing.
    pub degraded: bool,
    /// Quarantined ledgers.
    pub kept_aside: Vec<PathBuf>,
}

impl StateLine {
    /// Describes an outcome.
    pub fn new(outcome: &Outcome, degraded: bool, kept_aside: Vec<PathBuf>) -> Self {
        let word = match outcome {
            Outcome::Absent => "absent",
            Outcome::Loaded => "loaded",
            Outcome::Torn { .. } => "torn",
            Outcome::Corrupt { .. } => "corrupt",
            Outcome::TooNew { .. } => "too new",
        };
        Self { outcome: word.to_owned(), words: outcome.to_string(), degraded, kept_aside }
    }
}

/// The complete status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The release that reports it.
    pub version: String,
    /// The daemon's process id in its own namespace; 0 when there is no daemon.
    pub pid: u32,
    /// The condition of the state.
    pub state: StateLine,
    /// Networks.
    pub networks: Vec<NetworkLine>,
    /// Pools.
    pub pools: Vec<PoolLine>,
    /// The status of the overlay, if there are overlay networks.
    pub reach: Option<ReachLine>,
    /// What a repair would do.
    pub plan: PlanLines,
    /// Why the plan could not be computed.
    pub blind: Option<String>,
    /// Published ports that could not be reserved on the host, and why.
    pub unreserved: Vec<(HostPort, String)>,
    /// Settings that cannot be used.
    #[serde(default)]
    pub settings: Vec<SettingLine>,
    /// How often kernel notifications were lost.
    pub overruns: u64,
    /// Reconciliations that failed.
    pub failures: u64,
}

impl Driver {
    /// Reports the state of this daemon. Observes the kernel and waits for verbs under way, one network at a
    /// time.
    pub fn status(&self) -> Status {
        let mut held = Vec::new();
        for id in self.table.ids() {
            let Some(slot) = self.table.find(&id) else { continue };
            held.extend(lock(&slot).clone());
        }
        let pools = lock(&self.ipam).snapshot();
        let kernel = self.kernel();
        let (plan, blind) = match self.reconciler.plan() {
            Ok(plan) => (PlanLines::new(&plan, |step| kernel.commands(step)), None),
            Err(error) => (PlanLines::default(), Some(error.to_string())),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: StateLine::new(&self.outcome, self.is_degraded(), self.kept_aside.clone()),
            unreserved: self.unreserved(&held),
            settings: self.unusable_settings(),
            networks: network_lines(&held, now()),
            pools: pool_lines(&pools, now()),
            reach: self.reach(),
            plan,
            blind,
            overruns: self.counts.overruns.load(Ordering::Relaxed),
            failures: self.reconciler.counts.failures.load(Ordering::Relaxed),
        }
    }

    /// Tries again to reserve the published ports that could not be reserved. Ports that this process already
    /// holds count as reserved.
    fn unreserved(&self, held: &[Held]) -> Vec<(HostPort, String)> {
        let endpoints = held.iter().flat_map(|held| held.endpoints.values());
        let ports = endpoints.flat_map(|endpoint| &endpoint.published).map(|published| published.host);
        ports.filter_map(|port| Some((port, self.kernel().reserve(&[port]).err()?.to_string()))).collect()
    }
}

/// The status according to the records of a ledger, without a running daemon.
pub fn of_records(records: &[Record], state: StateLine) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state,
        networks: network_lines(&held_of(records), now()),
        pools: pool_lines(records, now()),
        ..Status::default()
    }
}

/// The kernel state that the records of a ledger ask for, given the engine's bridges and the host's broadcast
/// addresses.
pub fn desired_of(records: &[Record], engine: &EngineBridges, broadcasts: BTreeSet<Policy>) -> Datapath {
    let mut want = kind::base();
    let mut sandboxes: BTreeMap<String, Companions> = BTreeMap::new();
    for held in held_of(records) {
        kind::add(&mut want, kind::network(&held.network));
        for endpoint in held.endpoints.values() {
            kind::add(&mut want, kind::endpoint(&held.network, endpoint));
            if let Some(companion) = Companion::of(&held.network, endpoint) {
                let all = sandboxes.entry(endpoint.sandbox.clone()).or_default();
                all.insert(endpoint.spec.id.clone(), companion);
                kind::add(&mut want, companion::between(&endpoint.spec.id, all));
            }
        }
    }
    for elements in [kind::engine_bridges(engine), broadcasts] {
        kind::add(&mut want, Datapath { policy: Some(elements), ..Datapath::default() });
    }
    want
}

fn held_of(records: &[Record]) -> Vec<Held> {
    let mut held: BTreeMap<NetworkId, Held> = BTreeMap::new();
    for record in records {
        match record {
            Record::Network(network) => {
                let new = Held { network: (**network).clone(), endpoints: BTreeMap::new() };
                held.insert(network.spec.id.clone(), new);
            }
            Record::Endpoint(endpoint) => {
                if let Some(held) = held.get_mut(&endpoint.spec.network) {
                    held.endpoints.insert(endpoint.spec.id.clone(), (**endpoint).clone());
                }
            }
            _ => {}
        }
    }
    held.into_values().collect()
}

fn network_lines(held: &[Held], now: u64) -> Vec<NetworkLine> {
    let line = |held: &Held| {
        let Held { network, endpoints } = held;
        let endpoints = endpoints.values().map(|endpoint| EndpointLine {
            id: endpoint.spec.id.clone(),
            attachment: endpoint.attachment.clone(),
            phase: endpoint.phase,
            age: now.saturating_sub(endpoint.since),
            addresses: endpoint.spec.v4.into_iter().chain(endpoint.spec.v6).collect(),
            published: endpoint.published.iter().map(|published| published.host).collect(),
        });
        NetworkLine {
            id: network.spec.id.clone(),
            kind: network.kind.word().to_owned(),
            link: network.kind.link().clone(),
            mtu: network.mtu,
            internal: network.spec.internal,
            icc: network.spec.options.icc,
            subnets: network.spec.subnets().map(|subnet| subnet.pool).collect(),
            overlay: network.kind.overlay().map(|held| OverlayLine { vni: held.vni, link: held.link.clone() }),
            endpoints: endpoints.collect(),
        }
    };
    let mut lines: Vec<_> = held.iter().map(line).collect();
    lines.sort_by(|a, b| a.id.cmp(&b.id));
    lines
}

fn pool_lines(records: &[Record], now: u64) -> Vec<PoolLine> {
    let mut lines: BTreeMap<&str, PoolLine> = BTreeMap::new();
    for record in records {
        match record {
            Record::Pool(pool) => {
                let (id, space) = (pool.id.clone(), pool.space.clone());
                let line = PoolLine { id, space, subnet: pool.subnet, taken: 0, unclaimed: Vec::new() };
                lines.insert(&pool.id, line);
            }
            Record::Address(address) => {
                let Some(line) = lines.get_mut(address.pool.as_str()) else { continue };
                line.taken += 1;
                if let Holder::Unclaimed { since } = address.holder {
                    line.unclaimed.push((address.address, now.saturating_sub(since)));
                }
            }
            _ => {}
        }
    }
    lines.into_values().collect()
}
