//! Owns the verbs: one function for each protocol method. A verb parses, changes the state,
//! changes what is desired of the kernel, and answers; it knows no HTTP, no JSON and no netlink.
//!
//! Every verb is idempotent, because the engine repeats, reorders and forgets calls
//! (protocol.md 1.6, 3.3, 3.5). Verbs block (ledger, kernel) and are called from threads that may.
//! Called by the server, and by the app for start and upkeep.

mod announce;
mod claim;
mod clock;
mod companion;
mod discovery;
mod endpoint;
pub mod error;
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
use flows::Flows;
pub use ipam::address_spaces;
use overlay::Mesh;
pub use overlay::OverlaySettings;
use unread::SettingLine;

use crate::datapath::{Datapath, Kernel, KernelError, Reconciler};
use crate::ipam::{DefaultPools, Ipam, IpamError};
use crate::model::{EndpointId, HostPort, IfName, Network, NetworkId};
use crate::state::ports::Ports;
use crate::state::record::Record;
use crate::state::table::{Held, LinkOwner, Slot, Table, lock};
use crate::state::{Ledger, Opened, Outcome};

/// How long an address may be requested without showing up in an endpoint, in seconds.
/// RequestAddress and CreateEndpoint follow each other at once; only a lost reply parts them.
const ADDRESS_GRACE: u64 = 60;

/// What the operator chose.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Pools for networks without `--subnet`.
    pub pools: DefaultPools,
    /// Seed for the IPv6 prefix of this host, used once in the life of a ledger.
    pub ula_seed: [u8; 5],
    /// How far networks reach, and how.
    pub overlay: OverlaySettings,
    /// Those that cannot be read.
    pub unread: Vec<SettingLine>,
    /// Never to turn on forwarding: the operator does that, or nobody.
    pub leave_forwarding: bool,
}

/// Counts that the operator can read.
#[derive(Debug, Default)]
pub struct Counts {
    /// Addresses reclaimed after a lost reply.
    pub addresses_reclaimed: AtomicU64,
    /// Endpoints removed because their sandbox was gone and DeleteEndpoint never came.
    pub endpoints_buried: AtomicU64,
    /// How often notifications of the kernel's were lost.
    pub overruns: AtomicU64,
}

type Arrival = Box<dyn Fn(NetworkId, EndpointId) + Send>;

/// See the module's text.
pub struct Driver {
    table: Table,
    ledger: Ledger,
    /// Ends that the ledger did not take; see `promise`.
    owed: Mutex<Vec<Record>>,
    flows: Flows,
    /// Whether somebody was asked to rewrite the ledger and has not done so yet.
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
    /// Bridges that were last seen missing: said once, not at every comparison.
    missing: Mutex<Vec<IfName>>,
    /// When the engine last asked for which network, in this life.
    asked: Mutex<HashMap<NetworkId, Instant>>,
    /// Whether the ledger is known to lack facts.
    lacks_facts: bool,
    /// Ports of the host that containers use which the ledger does not know; held for them.
    unknown_ports: Mutex<Vec<HostPort>>,
    resolvers: Box<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
    /// Called when something needs upkeep soon; set by the app.
    attention: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// Called when an endpoint should be announced; set by the app.
    arrival: Mutex<Option<Arrival>>,
    /// Whether it was said that announcing fails.
    mute: AtomicBool,
    /// What happened so far.
    pub counts: Counts,
}

impl Driver {
    /// Takes up where the last life stopped: everything the ledger holds becomes desired. The
    /// kernel is not touched; [`Driver::start`] does that.
    pub fn load(
        mut opened: Opened,
        kernel: Arc<dyn Kernel>,
        settings: Settings,
        resolvers: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        clock::count_anew(&mut opened.records, now(), opened.rebooted);
        let lacks_facts = opened.lacks_facts();
        let driver = Self {
            table: Table::default(),
            ledger: opened.ledger,
            owed: Mutex::default(),
            flows: Flows::default(),
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
            attention: Mutex::new(None),
            arrival: Mutex::new(None),
            mute: AtomicBool::new(false),
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
            // Pools and addresses are the address index's own.
            _ => {}
        }
    }

    /// Whether facts are missing from the ledger: it lacks some ([`Opened::lacks_facts`]), or the
    /// kernel has links that it does not know.
    pub fn is_degraded(&self) -> bool {
        self.lacks_facts || !self.reconciler.kept().is_empty()
    }

    /// What the ledger was like when it was opened.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What an error means in this life. To one that cannot read its ledger everything is unknown,
    /// and the remedies for what is unknown would have the user remove what is only unread.
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

    /// How many networks and endpoints there are. A network whose verb is under way counts
    /// without its endpoints: reading numbers must not wait for the kernel.
    pub fn sizes(&self) -> (usize, usize) {
        let ids = self.table.ids();
        let endpoints = ids
            .iter()
            .filter_map(|id| self.table.find(id))
            .filter_map(|slot| slot.try_lock().ok().and_then(|held| held.as_ref().map(|held| held.endpoints.len())));
        (ids.len(), endpoints.sum())
    }

    /// The reconciler, for counts.
    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// Sets what is called when something needs upkeep before the next tick.
    pub fn on_attention(&self, call: impl Fn() + Send + 'static) {
        *lock(&self.attention) = Some(Box::new(call));
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

    /// Brings the kernel from `before` to `after`. When that fails, everything is compared with
    /// the observed kernel (the cause is often something that vanished) and tried once more.
    fn realise(&self, before: &Datapath, after: &Datapath) -> Result<(), KernelError> {
        let Err(first) = self.reconciler.replace(before, after) else { return Ok(()) };
        tracing::warn!(error = %first, "a change failed, comparing with the kernel and trying again");
        if first.errno() == Some(libc::EXFULL) {
            // Ports of endpoints that are already deleted may still wait for their end.
            self.kernel().settle(Duration::from_secs(2));
        }
        // The second try tells what is still in the way.
        let _ = self.reconciler.reconcile();
        self.call_attention();
        self.reconciler.replace(before, after).map_err(|_| first)
    }

    fn call_attention(&self) {
        if let Some(call) = &*lock(&self.attention) {
            call();
        }
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// A network's address plan as it shows in messages.
fn subnets_of(network: &Network) -> String {
    network.spec.subnets().map(|subnet| subnet.pool.to_string()).collect::<Vec<_>>().join(" and ")
}
