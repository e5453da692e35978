//! The status that the daemon reports to operator commands: its objects, the condition of its state, and the
//! plan of a repair. `GET /status` on the plugin socket; without a daemon a command derives the same from the
//! ledger (`offline`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::UnusableSetting;
use super::conflict::ConflictStatus;
use super::lease::LeaseStatus;
use super::names::{self, NamesStatus};
use super::objects::Objects;
use super::overlay::{OverlayNetworkStatus, OverlayStatus};
use super::policy::PolicyStatus;
use crate::datapath::{Plan, Step};
use crate::driver::{Driver, Health};
use crate::model::options::GatewayMode;
use crate::model::{
    Attachment, EndpointId, HostPort, IfName, Mac, Network, NetworkId, NetworkKind, Phase, Published, Vid,
};
use crate::state::Outcome;
use crate::state::record::{Holder, Record};
use crate::state::table::Held;

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the same words as in the model")]
pub struct EndpointStatus {
    pub id: EndpointId,
    pub attachment: Attachment,
    pub phase: Phase,
    /// Seconds in this phase.
    pub age: u64,
    pub addresses: Vec<IpNetwork>,
    pub published: Vec<HostPort>,
    #[serde(default)]
    pub detail: EndpointDetail,
}

/// More about an endpoint; daemons of release 0.1.0 do not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointDetail {
    /// The MAC address of its link in the container.
    pub mac: Option<Mac>,
    /// The engine's file of the container's network namespace, or empty.
    pub sandbox: String,
    /// Where its published ports lead to.
    pub forwards: Vec<Published>,
    /// Its allow lists.
    #[serde(skip_serializing_if = "PolicyStatus::is_empty")]
    pub policy: PolicyStatus,
}

impl EndpointStatus {
    /// The link that represents it on the host: the end that stays there, else the one for the sandbox.
    pub fn link(&self) -> &IfName {
        self.attachment.host().unwrap_or(self.attachment.sandbox_link())
    }
}

/// A network with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the same words as in the model")]
pub struct NetworkStatus {
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
    /// The VLAN of its containers on a bridge of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// Set if the network is an overlay.
    pub overlay: Option<OverlayNetworkStatus>,
    pub endpoints: Vec<EndpointStatus>,
    #[serde(default)]
    pub detail: NetworkDetail,
}

/// More about a network; daemons of release 0.1.0 do not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkDetail {
    /// Gateway mode of IPv4.
    pub mode4: GatewayMode,
    /// Gateway mode of IPv6.
    pub mode6: GatewayMode,
    /// Addresses of its gateways.
    pub gateways: Vec<IpAddr>,
    /// Which other children of the parent its containers reach: the mode of macvlan, the flag of ipvlan.
    pub children: Option<String>,
    /// The link by which the host reaches containers on a parent.
    pub host_link: Option<IfName>,
    /// What keeps frames between its containers on the bridge, with `pontoon.shortcut=auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opposed_by: Option<String>,
    /// The allow lists of all its endpoints.
    #[serde(skip_serializing_if = "PolicyStatus::is_empty")]
    pub policy: PolicyStatus,
}

impl NetworkDetail {
    fn of(network: &Network) -> Self {
        let children = match &network.kind {
            NetworkKind::Macvlan { mode, .. } => Some(mode.to_string()),
            NetworkKind::Ipvlan { flag, .. } => Some(flag.to_string()),
            _ => None,
        };
        Self {
            mode4: network.spec.options.mode4,
            mode6: network.spec.options.mode6,
            gateways: network.spec.subnets().filter_map(|subnet| subnet.gateway).collect(),
            children,
            host_link: network.kind.host_link().cloned(),
            opposed_by: None,
            policy: PolicyStatus::of_network(network),
        }
    }
}

/// An address pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
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
pub struct PlanStatus {
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

impl PlanStatus {
    /// Describes a plan.
    pub fn new(plan: &Plan, commands: impl Fn(&Step) -> Vec<String>) -> Self {
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
pub struct LedgerStatus {
    /// `absent`, `loaded`, `torn`, `corrupt` or `too new` (docs/state.md).
    pub outcome: String,
    /// The same as a sentence.
    pub words: String,
    /// Whether facts may be missing.
    pub degraded: bool,
    /// Copies of damaged ledgers. Daemons of release 0.1.0 call them `kept_aside`.
    #[serde(alias = "kept_aside")]
    pub quarantined: Vec<PathBuf>,
}

impl LedgerStatus {
    /// Describes the condition of a ledger.
    pub fn new(health: &Health, degraded: bool) -> Self {
        let word = match health.outcome {
            Outcome::Absent => "absent",
            Outcome::Loaded => "loaded",
            Outcome::Torn { .. } => "torn",
            Outcome::Corrupt { .. } => "corrupt",
            Outcome::TooNew { .. } => "too new",
        };
        let quarantined = health.quarantined.clone();
        Self { outcome: word.to_owned(), words: health.outcome.to_string(), degraded, quarantined }
    }
}

/// The socket for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusSocket {
    /// Its path, as the daemon sees it.
    pub path: PathBuf,
    /// The group whose members may use it, besides root.
    pub group: Option<String>,
    /// Why it is not served.
    pub problem: Option<String>,
}

/// The complete status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The release that reports it.
    pub version: String,
    /// The daemon's process id in its own namespace; 0 when there is no daemon.
    pub pid: u32,
    /// The condition of the state.
    pub state: LedgerStatus,
    /// Networks.
    pub networks: Vec<NetworkStatus>,
    /// Pools.
    pub pools: Vec<PoolStatus>,
    /// The status of the overlay, if there are overlay networks.
    pub reach: Option<OverlayStatus>,
    /// Address conflicts with other hosts, if a network has such.
    #[serde(default)]
    pub conflicts: Option<ConflictStatus>,
    /// Leases from DHCP servers.
    #[serde(default)]
    pub leases: Vec<LeaseStatus>,
    /// Lookups of DNS names, if a container has names in its egress list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<NamesStatus>,
    /// What a repair would do.
    pub plan: PlanStatus,
    /// Why the plan could not be computed.
    pub blind: Option<String>,
    /// Published ports that could not be reserved on the host, and why.
    pub unreserved: Vec<(HostPort, String)>,
    /// The daemon's status socket, if it has one; releases before 0.2.0 do not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_socket: Option<StatusSocket>,
    /// Settings that cannot be used.
    #[serde(default)]
    pub settings: Vec<UnusableSetting>,
    /// How often kernel notifications were lost.
    pub overruns: u64,
    /// Reconciliations that failed.
    pub failures: u64,
}

/// The state of this daemon. Observes the kernel and waits for verbs under way, one network at a time.
pub fn of_daemon(driver: &Driver) -> Status {
    let objects = Objects::of_daemon(driver);
    let endpoints = objects.networks.iter().flat_map(|network| &network.endpoints);
    let unreserved = driver.unreserved(endpoints.flat_map(|endpoint| endpoint.published.iter().copied()));
    let kernel = driver.reconciler().kernel();
    let (plan, blind) = match driver.reconciler().plan() {
        Ok(plan) => (PlanStatus::new(&plan, |step| kernel.commands(step)), None),
        Err(error) => (PlanStatus::default(), Some(error.to_string())),
    };
    Status {
        unreserved,
        settings: driver.unusable_settings(),
        names: names::of_daemon(driver),
        plan,
        blind,
        overruns: driver.counts.overruns.load(Ordering::Relaxed),
        failures: driver.reconciler().counts.failures.load(Ordering::Relaxed),
        ..objects.into()
    }
}

pub(super) fn network_lines(held: &[Held], now: u64) -> Vec<NetworkStatus> {
    let line = |held: &Held| {
        let Held { network, endpoints } = held;
        let endpoints = endpoints.values().map(|endpoint| EndpointStatus {
            id: endpoint.spec.id.clone(),
            attachment: endpoint.attachment.clone(),
            phase: endpoint.phase,
            age: now.saturating_sub(endpoint.since),
            addresses: endpoint.spec.v4.into_iter().chain(endpoint.spec.v6).collect(),
            published: endpoint.published.iter().map(|published| published.host).collect(),
            detail: EndpointDetail {
                mac: Some(endpoint.mac),
                sandbox: endpoint.sandbox.clone(),
                forwards: endpoint.published.clone(),
                policy: PolicyStatus::of_endpoint(network, endpoint),
            },
        });
        NetworkStatus {
            id: network.spec.id.clone(),
            kind: network.kind.word().to_owned(),
            link: network.kind.link().clone(),
            mtu: network.mtu,
            internal: network.spec.internal,
            icc: network.spec.options.icc,
            subnets: network.spec.subnets().map(|subnet| subnet.pool).collect(),
            vlan: network.spec.options.vlan,
            overlay: network.kind.overlay().map(|held| OverlayNetworkStatus { vni: held.vni, link: held.link.clone() }),
            endpoints: endpoints.collect(),
            detail: NetworkDetail::of(network),
        }
    };
    let mut lines: Vec<_> = held.iter().map(line).collect();
    lines.sort_by(|a, b| a.id.cmp(&b.id));
    lines
}

pub(super) fn pool_lines(records: &[Record], now: u64) -> Vec<PoolStatus> {
    let mut lines: BTreeMap<&str, PoolStatus> = BTreeMap::new();
    for record in records {
        match record {
            Record::Pool(pool) => {
                let (id, space) = (pool.id.clone(), pool.space.clone());
                let line = PoolStatus { id, space, subnet: pool.subnet, taken: 0, unclaimed: Vec::new() };
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
