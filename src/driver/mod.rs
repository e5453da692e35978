//! The verbs of the plugin protocol, one function for each method. A verb parses the request, changes the state
//! and the desired state of the kernel, and answers; it knows no HTTP, no JSON and no netlink.
//!
//! Every verb is idempotent, because the engine repeats, reorders and omits calls (protocol.md 1.6, 3.3, 3.5).
//! Verbs block (ledger, kernel), so they are called on blocking threads. The server calls them; the app calls
//! start and upkeep.

mod announce;
mod claim;
mod clock;
mod companion;
mod discovery;
mod endpoint;
pub mod error;
pub mod events;
mod external;
mod flows;
mod ipam;
pub mod listing;
mod network;
mod overlay;
mod promise;
mod publish;
pub mod reach;
mod sandbox;
mod sanity;
pub mod spec;
pub mod status;
mod swarm;
pub mod unknown;
pub mod unread;
mod upkeep;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use clock::now;
use companion::Sandboxes;
pub use error::Error;
pub use events::{Event, Events};
use flows::Flows;
pub use ipam::address_spaces;
use overlay::Mesh;
pub use overlay::OverlaySettings;
use unread::SettingLine;

use crate::datapath::{Datapath, Kernel, KernelError, Reconciler};
use crate::ipam::{DefaultPools, Ipam, IpamError};
use crate::model::{HostPort, IfName, Network, NetworkId};
use crate::state::ports::Ports;
use crate::state::record::Record;
use crate::state::table::{Held, LinkOwner, Slot, Table, lock};
use crate::state::{Ledger, Opened, Outcome};

/// How long an address may be allocated without appearing in an endpoint, in seconds. CreateEndpoint follows
/// RequestAddress at once; only a lost reply separates them.
const ADDRESS_GRACE: u64 = 60;

/// The operator's settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Pools for networks without `--subnet`.
    pub pools: DefaultPools,
    /// Seed for the IPv6 prefix of this host, used once in the lifetime of a ledger.
    pub ula_seed: [u8; 5],
    /// How networks span hosts.
    pub overlay: OverlaySettings,
    /// Settings that cannot be read.
    pub unread: Vec<SettingLine>,
    /// Never turn on forwarding; that is left to the operator.
    pub leave_forwarding: bool,
}

/// Counters for the operator.
#[derive(Debug, Default)]
pub struct Counts {
    /// Addresses reclaimed after a lost reply.
    pub addresses_reclaimed: AtomicU64,
    /// Endpoints reaped because their sandbox was gone and DeleteEndpoint never came.
    pub endpoints_buried: AtomicU64,
    /// How often kernel notifications were lost.
    pub overruns: AtomicU64,
}

/// See the module documentation.
pub struct Driver {
    table: Table,
    ledger: Ledger,
    /// Deletions that could not be written to the ledger; see `promise`.
    owed: Mutex<Vec<Record>>,
    flows: Flows,
    /// Whether compaction of the ledger was requested and has not run yet.
    outgrown: AtomicBool,
    ipam: Mutex<Ipam>,
    ports: Mutex<Ports>,
    sandboxes: Sandboxes,
    reconciler: Reconciler,
    ula_seed: [u8; 5],
    overlay: OverlaySettings,
    unread: Vec<SettingLine>,
    mesh: Mutex<Mesh>,
    outcome: Outcome,
    kept_aside: Vec<PathBuf>,
    /// Bridges that were last seen missing: logged once, not at every reconciliation.
    missing: Mutex<Vec<IfName>>,
    /// When the engine last asked for each network, in this process.
    asked: Mutex<HashMap<NetworkId, Instant>>,
    /// Whether the ledger is known to lack facts.
    lacks_facts: bool,
    /// Host ports that containers unknown to the ledger use; reserved for them.
    unknown_ports: Mutex<Vec<HostPort>>,
    resolvers: Box<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
    events: Events,
    /// Whether the failure to announce was logged.
    announce_failure_logged: AtomicBool,
    /// Counters since the start.
    pub counts: Counts,
}

impl Driver {
    /// Restores the state of the previous process: everything in the ledger becomes desired. Does not change the
    /// kernel; [`Driver::start`] does.
    pub fn load(
        mut opened: Opened,
        kernel: Arc<dyn Kernel>,
        settings: Settings,
        events: Events,
        resolvers: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        clock::count_anew(&mut opened.records, now(), opened.rebooted);
        let lacks_facts = opened.lacks_facts();
        let driver = Self {
            table: Table::default(),
            ledger: opened.ledger,
            owed: Mutex::default(),
            flows: Flows::new(events.clone()),
            outgrown: AtomicBool::new(false),
            ipam: Mutex::new(Ipam::load(settings.pools, &opened.records)),
            ports: Mutex::default(),
            sandboxes: Sandboxes::default(),
            reconciler: Reconciler::new(kernel, !settings.leave_forwarding),
            ula_seed: settings.ula_seed,
            mesh: Mutex::new(Mesh::new(&settings.overlay)),
            overlay: settings.overlay,
            unread: settings.unread,
            lacks_facts,
            unknown_ports: Mutex::default(),
            outcome: opened.outcome,
            kept_aside: opened.kept_aside,
            missing: Mutex::default(),
            asked: Mutex::default(),
            resolvers: Box::new(resolvers),
            events,
            announce_failure_logged: AtomicBool::new(false),
            counts: Counts::default(),
        };
        driver.reconciler.remember(unknown::ended(&opened.records, &opened.former), driver.lacks_facts);
        for record in &opened.records {
            driver.take_up(record);
        }
        driver
    }

    fn take_up(&self, record: &Record) {
        self.mesh().apply(record);
        match record {
            Record::Network(network) => {
                let id = &network.spec.id;
                // Both were checked when the network was made; a ledger edited by hand may differ.
                for link in network.kind.bridge().into_iter().chain(network.kind.overlay().map(|overlay| &overlay.link))
                {
                    if let Err(other) = self.table.claim_named_link(link, LinkOwner::Network(id.clone())) {
                        tracing::warn!(network = %id, %link, ?other, "two networks of the ledger have one link");
                    }
                }
                let pools: Vec<_> = network.spec.subnets().map(|subnet| subnet.pool).collect();
                if let Err((subnet, held, owner)) = self.table.claim_subnets(id, &pools) {
                    tracing::warn!(network = %id, %subnet, %held, %owner, "two networks of the ledger overlap");
                }
                self.reconciler.desire(&Datapath::default(), &crate::datapath::kind::network(network));
                let held = Held { network: (**network).clone(), endpoints: Default::default() };
                *lock(&self.table.slot(id)) = Some(held);
            }
            Record::Endpoint(endpoint) => {
                let (network, id) = (&endpoint.spec.network, &endpoint.spec.id);
                let slot = self.table.slot(network);
                let mut held = lock(&slot);
                let Some(held) = held.as_mut() else { return };
                for name in endpoint.attachment.links() {
                    let owner = LinkOwner::Endpoint(network.clone(), id.clone());
                    if let Err(other) = self.table.claim_named_link(name, owner) {
                        tracing::warn!(endpoint = %id, link = %name, ?other, "two endpoints of the ledger have one link");
                    }
                }
                let desired = crate::datapath::kind::endpoint(&held.network, endpoint);
                self.reconciler.desire(&Datapath::default(), &desired);
                self.accompany_at_load(&held.network, endpoint);
                held.endpoints.insert(id.clone(), (**endpoint).clone());
            }
            Record::Flows { addresses } => drop(self.flows.owe(addresses.iter().copied())),
            // Pools and addresses belong to the address index.
            _ => {}
        }
    }

    /// Whether facts are missing from the ledger: it lacks some ([`Opened::lacks_facts`]), or the kernel has
    /// links that it does not know.
    pub fn is_degraded(&self) -> bool {
        self.lacks_facts || !self.reconciler.kept().is_empty()
    }

    /// The condition of the ledger when it was opened.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Adapts an error to the condition of the ledger. When the ledger cannot be read, everything is unknown,
    /// and the usual remedies would have the user remove objects that are merely unread.
    pub fn explain(&self, error: Error) -> Error {
        let Outcome::TooNew { found, known } = self.outcome else { return error };
        let object = match &error {
            Error::UnknownNetwork { network } => format!("network {network}"),
            Error::UnknownEndpoint { network, endpoint } => format!("endpoint {endpoint} of network {network}"),
            Error::Ipam(IpamError::UnknownPool { id }) => format!("pool {id}"),
            _ => return error,
        };
        Error::Unread { object, found, known }
    }

    /// The numbers of networks and endpoints. A network with a verb under way counts without its endpoints:
    /// reading counters must not wait for the kernel.
    pub fn sizes(&self) -> (usize, usize) {
        let ids = self.table.ids();
        let endpoints = ids
            .iter()
            .filter_map(|id| self.table.find(id))
            .filter_map(|slot| slot.try_lock().ok().and_then(|held| held.as_ref().map(|held| held.endpoints.len())));
        (ids.len(), endpoints.sum())
    }

    /// The reconciler, for its counters.
    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    fn kernel(&self) -> &dyn Kernel {
        self.reconciler.kernel()
    }

    /// A network that must exist.
    fn known(&self, id: &NetworkId) -> Result<Arc<Slot>, Error> {
        let slot = self.table.find(id).ok_or_else(|| Error::UnknownNetwork { network: id.clone() })?;
        if lock(&slot).is_none() {
            return Err(Error::UnknownNetwork { network: id.clone() });
        }
        Ok(slot)
    }

    /// Changes the kernel from `before` to `after`. On failure, reconciles everything with the observed kernel
    /// (often an object vanished) and tries once more.
    fn realise(&self, before: &Datapath, after: &Datapath) -> Result<(), KernelError> {
        let Err(first) = self.reconciler.replace(before, after) else { return Ok(()) };
        tracing::warn!(error = %first, "a change failed, comparing with the kernel and trying again");
        if first.errno() == Some(libc::EXFULL) {
            // Ports of endpoints that are already deleted may not be closed yet.
            self.kernel().settle(Duration::from_secs(2));
        }
        // The second attempt reports what is still wrong.
        let _ = self.reconciler.reconcile();
        self.schedule_maintenance();
        self.reconciler.replace(before, after).map_err(|_| first)
    }

    /// Asks for a comparison with the kernel before the next tick.
    fn schedule_maintenance(&self) {
        self.events.send(Event::Maintenance);
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// The subnets of a network, for messages.
fn subnets_of(network: &Network) -> String {
    network.spec.subnets().map(|subnet| subnet.pool.to_string()).collect::<Vec<_>>().join(" and ")
}
