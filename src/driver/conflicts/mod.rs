//! No address twice: on a network with other hosts, an address is asked for on the wire before an endpoint gets it.
//!
//! Asking takes time, because no host answers for a free address. So the next addresses of each pool are asked for in
//! advance ([`super::Driver::probe_ahead`], on a thread of its own), and a start only waits for an address that was not. No
//! other lock is held during the wait. Later conflicts are seen as well, because hosts repeat what they claim.

mod choice;
mod error;
mod lan;
mod register;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use error::ConflictError;
pub use lan::Lan;
pub use register::{Conflict, Defended};
use register::{Known, Place, Register};

use super::history::{Happening, History, ShortId};
use super::{Event, Events};
use crate::datapath::{Kernel, Sighting};
use crate::model::conflict::ConflictAction;
use crate::model::{Endpoint, EndpointId, EndpointSpec, IfName, Mac, Network, NetworkId};
use crate::state::table::lock;

/// The part that the receiving thread uses as well.
#[derive(Default)]
struct Shared {
    register: Mutex<Register>,
    answered: Condvar,
    count: AtomicU64,
    history: Arc<History>,
}

impl Shared {
    fn register(&self) -> MutexGuard<'_, Register> {
        lock(&self.register)
    }

    fn sight(&self, sighting: &Sighting) {
        let (now, mut register) = (Instant::now(), self.register());
        let (conflict, changed) = register.sight(sighting, now);
        if let Some(conflict) = conflict {
            self.report(&mut register, &conflict, now);
        }
        if changed {
            self.answered.notify_all();
        }
    }

    fn report(&self, register: &mut Register, conflict: &Conflict, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if register.may_log(now) {
            let Conflict { of, link, address, other } = conflict;
            let (network, endpoint) = (ShortId::of(of.network.as_str()), ShortId::of(of.endpoint.as_str()));
            self.history.record(Happening::Conflict { network, endpoint, address: *address, other: *other });
            let own = of.mac.map_or_else(|| format!("that of {link}"), |mac| mac.to_string());
            tracing::warn!(network = %of.network, endpoint = %of.endpoint, %address, %link, mac = %own, %other, "address conflict: another host has the address of a container; give one of them another address");
        }
    }
}

/// See the module documentation.
pub(super) struct Conflicts {
    kernel: Arc<dyn Kernel>,
    shared: Arc<Shared>,
    lans: Mutex<BTreeMap<NetworkId, Lan>>,
    events: Events,
    failure_logged: AtomicBool,
}

impl Conflicts {
    pub fn new(kernel: Arc<dyn Kernel>, events: Events, history: Arc<History>) -> Self {
        let shared = Arc::new(Shared { history, ..Shared::default() });
        // The kernel keeps its watcher as long as it lives, and outlives the driver.
        let receiver = Arc::downgrade(&shared);
        kernel.watch_addresses(Box::new(move |sighting| {
            if let Some(shared) = receiver.upgrade() {
                shared.sight(&sighting);
            }
        }));
        Self { kernel, shared, lans: Mutex::default(), events, failure_logged: AtomicBool::new(false) }
    }

    fn lans(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Lan>> {
        lock(&self.lans)
    }

    /// Refuses a network whose options cannot be honoured.
    pub fn check_network(&self, network: &Network) -> Result<(), ConflictError> {
        let (id, options) = (&network.spec.id, &network.spec.options.conflict);
        if Lan::link(network).is_none() {
            return match options.given() {
                Some(option) => Err(ConflictError::NoLan { network: id.clone(), option }),
                None => Ok(()),
            };
        }
        if options.action == Some(ConflictAction::Refuse) && !self.kernel.probes() {
            return Err(ConflictError::NoProbes { network: id.clone() });
        }
        self.check_host(network)
    }

    /// Begins to ask for addresses of a network.
    pub fn add_network(&self, network: &Network) {
        let Some(lan) = Lan::of(network) else { return };
        self.lans().insert(network.spec.id.clone(), lan);
        self.events.send(Event::ProbesDue);
    }

    /// Ends it.
    pub fn remove_network(&self, id: &NetworkId) {
        if self.lans().remove(id).is_some() {
            self.events.send(Event::ProbesDue);
        }
    }

    /// Watches for conflicts with an endpoint.
    pub fn add_endpoint(&self, network: &Network, endpoint: &Endpoint) {
        let Some(lan) = Lan::of(network) else { return };
        let mut register = self.shared.register();
        for address in endpoint.spec.addresses() {
            let (network, id) = (network.spec.id.clone(), endpoint.spec.id.clone());
            let mac = endpoint.attachment.has_mac().then_some(endpoint.mac);
            register.defend((lan.link.clone(), address), Defended { network, endpoint: id, mac });
        }
    }

    /// Ends it.
    pub fn remove_endpoint(&self, id: &EndpointId) {
        self.shared.register().forget(id, Instant::now());
    }

    /// Waits until it is known whether other hosts have the addresses of a new endpoint. Call without a lock.
    pub fn check_endpoint(&self, lan: &Lan, spec: &EndpointSpec) -> Result<(), ConflictError> {
        let network = || spec.network.clone();
        match self.holder(lan, spec.addresses()) {
            None => Ok(()),
            Some((address, None)) => Err(ConflictError::OfHost { network: network(), address }),
            Some((address, Some(other))) => {
                Err(ConflictError::Taken { network: network(), address, link: lan.link.clone(), other })
            }
        }
    }

    /// The same for the addresses that this host is to have on a new network.
    fn check_host(&self, network: &Network) -> Result<(), ConflictError> {
        let Some(lan) = Lan::of(network) else { return Ok(()) };
        let id = || network.spec.id.clone();
        match self.holder(&lan, network.kind.host_addresses()) {
            None => Ok(()),
            Some((address, None)) => {
                Err(ConflictError::HostAddress { network: id(), address, holder: "this host".into() })
            }
            Some((address, Some(other))) => {
                let holder = format!("another host on {} (hardware address {other})", lan.link);
                Err(ConflictError::HostAddress { network: id(), address, holder })
            }
        }
    }

    /// The first of these addresses that a host has, with the hardware address of another one. Waits for the answers.
    fn holder(&self, lan: &Lan, addresses: impl IntoIterator<Item = IpAddr>) -> Option<(IpAddr, Option<Mac>)> {
        if lan.action != ConflictAction::Refuse || !self.kernel.probes() {
            return None;
        }
        let places = lan.places(addresses);
        self.ask(lan, &places);
        let is_taken = |known: &Known| matches!(known, Known::Taken(_));
        self.await_known(&places, |known| known.iter().any(is_taken));
        let (now, register) = (Instant::now(), self.shared.register());
        places.iter().find_map(|place| {
            if register.own.contains(&place.1) {
                return Some((place.1, None));
            }
            let Known::Taken(other) = register.known(place, now) else { return None };
            self.shared.count.fetch_add(1, Ordering::Relaxed);
            Some((place.1, Some(other)))
        })
    }

    /// Asks for the addresses of a new endpoint that was created without waiting: an answer is a conflict.
    pub fn ask_late(&self, lan: &Lan, spec: &EndpointSpec) {
        if lan.action == ConflictAction::Report || lan.wait.is_zero() {
            self.send(&lan.link, spec.addresses().collect());
        }
    }

    /// Asks for those of these addresses of which nothing is known.
    fn ask(&self, lan: &Lan, places: &[Place]) {
        if self.ask_where(lan, places, |register, place, now| register.known(place, now) == Known::Nothing) {
            self.update_own();
        }
    }

    /// Asks for those of these addresses of which nothing will be known soon.
    fn renew(&self, lan: &Lan, places: &[Place]) {
        self.ask_where(lan, places, |register, place, now| register.expires(place, now));
    }

    /// Asks for the chosen ones of these addresses; whether there were any.
    fn ask_where(&self, lan: &Lan, places: &[Place], chosen: fn(&Register, &Place, Instant) -> bool) -> bool {
        let now = Instant::now();
        let unknown: Vec<IpAddr> = {
            let mut register = self.shared.register();
            let unknown: Vec<_> = places.iter().filter(|place| chosen(&register, place, now)).collect();
            unknown.iter().for_each(|place| register.ask(place, lan.wait, now));
            unknown.into_iter().map(|(_, address)| *address).collect()
        };
        let any = !unknown.is_empty();
        if any {
            self.send(&lan.link, unknown);
        }
        any
    }

    /// Asks once more for the addresses for which it is time.
    fn repeat(&self) {
        let due = self.shared.register().repeat(Instant::now());
        due.into_iter().for_each(|(link, addresses)| self.send(&link, addresses));
    }

    /// Sends probes. What cannot be asked counts as free: a link that is down has no other hosts.
    fn send(&self, link: &IfName, addresses: Vec<IpAddr>) {
        if let Err(error) = self.kernel.probe(link, &addresses) {
            tracing::debug!(%error, "cannot ask whether other hosts have an address");
        }
    }

    /// Reads the addresses of this host, which it does not answer for itself.
    fn update_own(&self) {
        match self.kernel.addresses() {
            Ok(own) => self.shared.register().own = own,
            Err(error) => tracing::debug!(%error, "cannot read the addresses of this host"),
        }
    }

    /// Waits until everything is known about the addresses, or what is known is `enough`. Asks once more after half of
    /// the time.
    fn await_known(&self, places: &[Place], enough: impl Fn(&[Known]) -> bool) {
        let mut register = self.shared.register();
        loop {
            let now = Instant::now();
            let known: Vec<_> = places.iter().map(|place| register.known(place, now)).collect();
            let pending = known.iter().filter_map(|known| match known {
                Known::Asked(until) => Some(*until),
                _ => None,
            });
            let Some(until) = pending.max().filter(|_| !enough(&known)) else { return };
            let due = register.repeat(now);
            if !due.is_empty() {
                drop(register);
                due.into_iter().for_each(|(link, addresses)| self.send(&link, addresses));
                register = self.shared.register();
                continue;
            }
            let next = register.next_repeat().map_or(until, |repeat| repeat.min(until));
            let waited = self.shared.answered.wait_timeout(register, next.saturating_duration_since(now));
            register = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many conflicts were found.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// The conflicts of the last minutes.
    pub fn present(&self) -> Vec<Conflict> {
        self.shared.register().conflicts(Instant::now())
    }

    /// Whether conflicts can be found; `None` if no network has other hosts.
    pub fn listens(&self) -> Option<bool> {
        let listens = self.lans().values().any(|lan| lan.action != ConflictAction::Off);
        listens.then(|| self.kernel.probes())
    }
}
