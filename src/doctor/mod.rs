//! Diagnoses Pontoon and its environment: a table of checks, each a small function from facts to findings, and
//! the text for the operator.
//!
//! Pure: all facts are passed as [`Facts`]. Never changes anything, never queries the engine or the kernel
//! itself. Called by the app, for `pontoon doctor` and `pontoon check`.

mod audit;
pub mod collect;
mod daemon;
mod drift;
pub mod drops;
mod firewall;
mod host;
mod kernel;
mod lan;
mod lease;
mod names;
mod operators;
pub mod path;
mod peer;
pub mod report;
mod state;
pub mod tunnels;
mod vlan;
mod wiring;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::admin::status::Status;
use crate::datapath::host::{Host, PeerPaths};
use crate::engine::Engine;
use collect::{Disk, Process, Settings, Wiring};
use path::{Arrival, Damaged};

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// In order.
    Ok,
    /// Worth knowing; nothing is wrong.
    Note,
    /// Something does not work, or will not.
    Degraded,
    /// Containers have no network, or none can be created.
    Broken,
}

impl Level {
    /// The word, and the program's exit code when nothing is worse.
    pub fn verdict(self) -> (&'static str, u8) {
        match self {
            Level::Ok | Level::Note => ("healthy", 0),
            Level::Degraded => ("degraded", 1),
            Level::Broken => ("broken", 2),
        }
    }
}

/// One result of a check. The keys of its JSON are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that it belongs to.
    pub check: &'static str,
    /// Its severity.
    pub level: Level,
    /// The finding in one line.
    pub title: String,
    /// The observations that it is based on.
    pub evidence: Vec<String>,
    /// The command that fixes it.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(level: Level, title: impl Into<String>) -> Self {
        Self { check: "", level, title: title.into(), evidence: Vec::new(), remedy: None }
    }

    fn ok(title: impl Into<String>) -> Self {
        Self::new(Level::Ok, title)
    }

    fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    fn mended_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The source of the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The running daemon.
    Daemon,
    /// Its ledger; and why not the daemon, if it was asked.
    Ledger(Option<String>),
    /// None: neither answered.
    Nowhere(String),
}

/// Facts about overlay networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// The paths to other hosts.
    pub paths: PeerPaths,
    /// Size of the largest packet that is sent to them, in bytes.
    pub largest: u32,
    /// The result of sending one of that size, by peer.
    pub arrivals: BTreeMap<IpAddr, Arrival>,
    /// Processes that have bound the tunnels' UDP port.
    pub holders: Vec<String>,
    /// The driver of the link through which packets leave.
    pub driver: Option<String>,
    /// Containers that dropped packets with wrong checksums.
    pub damaged: Vec<Damaged>,
}

/// All facts.
#[derive(Debug)]
pub struct Facts {
    /// The source of the status.
    pub source: Source,
    /// The objects of Pontoon.
    pub status: Status,
    /// The socket and its files.
    pub wiring: Wiring,
    /// The daemon's process, or this one if there is none.
    pub process: Option<Process>,
    /// The host, or why it cannot be read.
    pub host: Result<Host, String>,
    /// Settings of the kernel.
    pub settings: Settings,
    /// The disk with the state.
    pub disk: Option<Disk>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Facts about overlay networks, if there are any.
    pub tunnels: Option<Tunnels>,
    /// The time of reading, in seconds of the host's monotonic clock.
    pub now: u64,
    /// Whether `pontoon vip` runs here.
    pub serves_vips: bool,
    /// The engine's state, if it was asked.
    pub engine: Option<Result<Engine, String>>,
}

/// A check: its name as in `--json`, what it examines, and its function.
type Check = (&'static str, &'static str, fn(&Facts) -> Vec<Finding>);

/// All checks, in the order in which they are reported: a test compares docs/doctor.md with it.
pub const CHECKS: &[Check] = &[
    ("daemon", "the daemon answers", daemon::answers),
    ("version", "daemon and command have the same version", daemon::version),
    ("settings", "invalid settings of the daemon, and what is refused because of them", daemon::settings),
    ("capabilities", "CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE for ports below 1024", daemon::capabilities),
    ("descriptors", "file descriptors, one for each published port", daemon::descriptors),
    ("socket", "the plugin socket: exists, not stale, mode 0600, answers `Plugin.Activate`", wiring::socket),
    ("status_socket", "the status socket: exists, and other users than its group's cannot use it", operators::socket),
    (
        "spec_files",
        "files in `/etc/docker/plugins` that direct Docker to another plugin of this name",
        wiring::spec_files,
    ),
    ("two_pontoons", "a managed plugin and a socket plugin on one host", wiring::two),
    ("state", "the ledger: loaded, absent, torn, corrupt, too new", state::ledger),
    ("quarantined", "quarantined copies of damaged ledgers", state::quarantined),
    ("unknown_links", "links of Pontoon that are not in the ledger: it is missing or outdated", state::unknown),
    ("disk", "free space for the state, and whether it is writable", state::disk),
    ("drift", "differences between the kernel and the state", drift::plan),
    ("missing_bridges", "your own bridges that networks use", drift::missing),
    (
        "vlans",
        "your own bridges of networks with `pontoon.vlan`: they filter VLANs, and a port besides the containers carries each",
        vlan::bridges,
    ),
    ("dead_endpoints", "endpoints whose link is missing", drift::dead),
    ("leaked_endpoints", "endpoints that no sandbox uses", drift::leaked_endpoints),
    ("leaked_addresses", "addresses that no endpoint uses", drift::leaked_addresses),
    ("ports", "published ports that another process bound while Pontoon was not running", drift::ports),
    ("overruns", "lost kernel notifications", drift::overruns),
    ("kernel_release", "Linux 5.10 or newer", kernel::release),
    ("kernel_features", "kernel features that Pontoon uses, see kernels.md", kernel::features),
    ("conntrack", "usage of the conntrack table", kernel::conntrack),
    ("neighbours", "usage of the neighbour tables, which all containers share", kernel::neighbours),
    ("ip_forward", "forwarding for each address family that a network needs", host::ip_forward),
    ("accept_ra", "an IPv6 default route that the uplink ignores because the host forwards", host::accept_ra),
    ("rp_filter", "strict reverse path filtering with several default routes", host::rp_filter),
    ("bridge_netfilter", "bridge-nf-call-iptables with networks that have `enable_icc=false`", host::bridge_netfilter),
    ("mtu", "networks with a larger MTU than the uplink", host::mtu),
    (
        "tunnel_mtu",
        "overlay networks: MTU of the data path's link, and whether full-size packets reach every peer unfragmented",
        tunnels::mtu,
    ),
    ("peers", "other hosts of overlay networks: route, last packet received, doubted peers", tunnels::peers),
    ("subnets", "overlay networks with different subnets on another host", tunnels::subnets),
    ("moved", "the address that the Swarm uses for this host", drops::moved),
    (
        "drops",
        "packets dropped by Pontoon's rules, and hosts that send to overlay networks without being peers",
        drops::own,
    ),
    (
        "tunnel_port",
        "the UDP port of overlay networks: used by a process, or by a link of another program",
        tunnels::port,
    ),
    (
        "offload",
        "packets with wrong checksums in containers of overlay networks, and links known to cause them",
        tunnels::offload,
    ),
    ("announcing", "whether endpoints of overlay networks are announced (CAP_NET_RAW)", tunnels::announcing),
    (
        "conflicts",
        "addresses that a container and another host on a local network have, and whether such conflicts are found (CAP_NET_RAW)",
        lan::conflicts,
    ),
    (
        "names",
        "containers with DNS names in their egress list whose queries are not answered, or not seen",
        names::names,
    ),
    ("audit", "containers whose allow lists refuse nothing, because they are only audited", audit::audited),
    ("leases", "containers whose address a DHCP server or router took away or no longer confirms", lease::leases),
    (
        "parents",
        "parents of macvlan and ipvlan networks: missing, down, wireless, or not answering their containers",
        lan::parents,
    ),
    ("routes", "routes of the host that overlap a network", host::routes),
    (
        "forward_policy",
        "chains of other programs that drop by default, by their policy or a final rule",
        firewall::policies,
    ),
    ("firewalld", "firewalld without Pontoon's bridges in a zone", firewall::firewalld),
    ("ufw", "ufw, whose rules do not apply to published ports", firewall::ufw),
    ("iptables_legacy", "iptables-legacy together with nftables, and the policy of its FORWARD", firewall::legacy),
    ("engine", "with `--docker`: networks of Docker that Pontoon does not know", peer::unknown_here),
    ("engine_leaks", "with `--docker`: objects of Pontoon that Docker does not know", peer::unknown_there),
    ("service_vips", "with `--docker`, on a manager: services whose virtual address does not respond", peer::vips),
    ("allocation", "with `--docker`, on a manager: networks that the Swarm could not allocate", peer::unallocated),
];

/// Runs every check.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let run = |(name, _, look): &Check| {
        let mut found = look(facts);
        found.iter_mut().for_each(|finding| finding.check = name);
        found
    };
    CHECKS.iter().flat_map(run).collect()
}

/// The worst severity.
pub fn verdict(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

#[cfg(test)]
mod tests;
