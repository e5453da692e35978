//! Docker's networks, endpoints and addresses on this host. [`Driver`] is put together from parts, each of which
//! guards its own state:
//!
//! | part | what it is for |
//! |---|---|
//! | `journal` | persists records before the kernel is changed, and retries deletions that could not be persisted |
//! | `applier` | changes the kernel from one desired state to the next |
//! | `networks` | the networks with their endpoints, and the link names and subnets that they hold |
//! | `addresses` | the pools and addresses |
//! | `ports` | host ports and their reservation |
//! | `flows` | removals of conntrack entries in the background |
//! | `containers` | which endpoints share a container |
//! | `conflicts` | whether other hosts have the addresses of endpoints |
//! | `leases` | addresses from DHCP servers and routers of the local network |
//! | `names` | endpoints whose egress list has DNS names, and the addresses that were admitted for them |
//! | `groups` | the groups of endpoints, and whose allow lists name them |
//! | `overlay` | networks that span hosts: peers, VNIs, tunnels |
//! | `health` | the definition of *degraded* |
//! | `settings` | the operator's settings, and which requests are refused because of an unusable one |
//! | `events` | requests for work in the background |
//! | `history` | what happened lately, for operators |
//!
//! `verbs` has the methods of the protocol, one file for each method or pair, and `service` what happens without a
//! request: start, upkeep, announcements. Both work on the parts.
//!
//! Every verb is idempotent, because the engine repeats, reorders and omits calls (protocol.md 1.6, 3.3, 3.5).
//! Verbs block (ledger, kernel), so they are called on blocking threads.
//!
//! # Lock order
//!
//! A thread that holds a lock takes only locks further down in this list, and at most one of each line:
//!
//! 1. the slot of one network (`networks`). Another network's slot is only tried, never waited for.
//! 2. `containers`
//! 3. `addresses`, or `overlay`
//! 4. `ports`
//! 5. `flows`
//! 6. the book of `leases`, or one endpoint of `names`
//! 7. the pending records of `journal`, then the ledger
//! 8. locks that are held for a look-up only: the table's register, what `networks` observed, the reconciler's, those
//!    of `conflicts` and `groups`
//! 9. the ring of `history`
//!
//! The kernel is called with any of 1 to 5 held. Events may be sent with any lock held. No thread waits for other
//! hosts with a lock held.

mod addresses;
mod applier;
mod clock;
pub mod conflicts;
mod containers;
pub mod error;
pub mod events;
mod flows;
mod groups;
pub mod health;
pub mod history;
mod inspect;
mod journal;
pub mod leases;
pub mod names;
mod networks;
pub mod overlay;
mod policies;
mod ports;
mod sanity;
mod service;
pub mod settings;
mod verbs;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use addresses::Addresses;
use applier::Applier;
pub use clock::now;
use conflicts::Conflicts;
pub use conflicts::{Conflict, ConflictError};
use containers::Containers;
pub use error::{Error, PortMapError};
pub use events::{Event, Events};
use flows::Flows;
use groups::Groups;
pub use health::Health;
use history::History;
use journal::Journal;
use leases::Leases;
pub use leases::{LeaseError, LeaseState, Slot as LeaseSlot};
use names::Names;
use networks::Networks;
pub use overlay::OverlaySettings;
use overlay::Overlays;
pub use policies::PolicyChange;
use ports::HostPorts;
use service::announce::Announcements;
pub use service::announce::Audience;
pub use service::unknown;
pub use settings::Settings;
use settings::UnusableSettings;
pub use verbs::{Allocation, Created, JoinSpec, Joined, Node, Pool, Publication, without_gateway};

use crate::datapath::{Datapath, Kernel, Reconciler, kind};
use crate::ipam::{Ipam, IpamError};
use crate::model::Network;
use crate::state::record::Record;
use crate::state::{Opened, Outcome};

/// How long an address may be allocated without appearing in an endpoint, in seconds. CreateEndpoint follows
/// RequestAddress at once; only a lost reply separates them.
const ADDRESS_GRACE: u64 = 60;

/// Counters for the operator.
#[derive(Debug, Default)]
pub struct Counts {
    /// Addresses reclaimed after a lost reply.
    pub addresses_reclaimed: AtomicU64,
    /// Endpoints reaped because their sandbox was gone and DeleteEndpoint never came.
    pub endpoints_reaped: AtomicU64,
    /// How often kernel notifications were lost.
    pub overruns: AtomicU64,
}

/// See the module documentation.
pub struct Driver {
    journal: Arc<Journal>,
    applier: Arc<Applier>,
    networks: Networks,
    addresses: Addresses,
    ports: HostPorts,
    flows: Flows,
    containers: Containers,
    conflicts: Conflicts,
    leases: Leases,
    names: Names,
    groups: Groups,
    overlays: Overlays,
    health: Health,
    history: Arc<History>,
    unusable: UnusableSettings,
    announcements: Announcements,
    events: Events,
    ula_seed: [u8; 5],
    resolvers: Box<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
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
        clock::restart_periods(&mut opened.records, now(), opened.rebooted);
        let health = Health::of_opened(&opened);
        let journal = Arc::new(Journal::new(opened.ledger, events.clone()));
        let history = Arc::new(History::default());
        let reconciler = Reconciler::new(Arc::clone(&kernel), !settings.leave_forwarding);
        reconciler.remember(unknown::ended(&opened.records, &opened.former), health.lacks_facts());
        let applier = Arc::new(Applier::new(reconciler, events.clone()));
        let driver = Self {
            networks: Networks::default(),
            addresses: Addresses::new(Ipam::load(settings.pools, &opened.records), Arc::clone(&journal)),
            ports: HostPorts::new(Arc::clone(&kernel)),
            conflicts: Conflicts::new(Arc::clone(&kernel), events.clone(), Arc::clone(&history)),
            leases: Leases::new(Arc::clone(&kernel), Arc::clone(&journal), events.clone(), Arc::clone(&history)),
            names: Names::new(Arc::clone(&kernel), events.clone(), settings.names),
            groups: Groups::default(),
            flows: Flows::new(kernel, Arc::clone(&journal), events.clone()),
            containers: Containers::new(Arc::clone(&applier)),
            overlays: Overlays::new(settings.overlay, Arc::clone(&journal), Arc::clone(&applier), Arc::clone(&history)),
            unusable: UnusableSettings::new(settings.unusable),
            announcements: Announcements::default(),
            ula_seed: settings.ula_seed,
            resolvers: Box::new(resolvers),
            counts: Counts::default(),
            journal,
            applier,
            health,
            history,
            events,
        };
        for record in &opened.records {
            driver.restore(record);
        }
        driver
    }

    fn restore(&self, record: &Record) {
        self.overlays.lock().apply(record);
        match record {
            Record::Network(network) => {
                self.applier.reconciler.desire(&Datapath::default(), &kind::network(network));
                self.networks.restore_network(network);
                self.conflicts.add_network(network);
            }
            Record::Endpoint(endpoint) => {
                let Some(network) = self.networks.restore_endpoint(endpoint) else { return };
                let mut desired = kind::endpoint(&network, endpoint);
                kind::add(&mut desired, self.groups.add(&network, endpoint));
                self.applier.reconciler.desire(&Datapath::default(), &desired);
                self.containers.restore(&network, endpoint);
                self.conflicts.add_endpoint(&network, endpoint);
                self.names.add(&network, endpoint);
            }
            Record::Lease(lease) => self.leases.restore(lease),
            Record::Flows { addresses } => drop(self.flows.begin(addresses.iter().copied())),
            // Pools and addresses belong to the address index.
            _ => {}
        }
    }

    /// Whether facts may be missing: see [`Health::is_degraded`].
    pub fn is_degraded(&self) -> bool {
        self.health.is_degraded(&self.applier.reconciler.kept())
    }

    /// What happened lately.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The condition of the ledger when it was opened.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Adapts an error to the condition of the ledger. When the ledger cannot be read, everything is unknown,
    /// and the usual remedies would have the user remove objects that are merely unread.
    pub fn explain(&self, error: Error) -> Error {
        let Outcome::TooNew { found, known } = self.health.outcome else { return error };
        let object = match &error {
            Error::UnknownNetwork { network } => format!("network {network}"),
            Error::UnknownEndpoint { network, endpoint } => format!("endpoint {endpoint} of network {network}"),
            Error::Ipam(IpamError::UnknownPool { id }) => format!("pool {id}"),
            _ => return error,
        };
        Error::Unread { object, found, known }
    }

    /// The numbers of networks and endpoints; does not wait for verbs under way.
    pub fn sizes(&self) -> (usize, usize) {
        self.networks.sizes()
    }

    /// The reconciler, for its counters.
    pub fn reconciler(&self) -> &Reconciler {
        &self.applier.reconciler
    }

    fn kernel(&self) -> &dyn Kernel {
        self.applier.kernel()
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// The subnets of a network, for messages.
fn subnets_of(network: &Network) -> String {
    network.spec.subnets().map(|subnet| subnet.pool.to_string()).collect::<Vec<_>>().join(" and ")
}
