//! Endpoints whose egress list has DNS names: what each may look up, and which addresses were admitted for it.
//!
//! The rules of the kernel redirect their queries to this host, and their source address is proven. The thread that
//! answers (`crate::resolver`) asks for the endpoint of the address, asks a name server that the container did not choose,
//! and lets the addresses into the kernel before it passes the answer on.

mod learned;
mod standing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dns::Name;

use self::standing::Admitted;
use super::{Driver, Event, Events};
use crate::datapath::access::Way;
use crate::datapath::{Admission, Kernel, KernelError, kind};
use crate::model::access::NameRules;
use crate::model::access::expand::{Expanded, Transport, expand};
use crate::model::{Endpoint, EndpointId, Network, NetworkId};
use crate::state::table::lock;

/// Most queries of one endpoint that wait for an answer, and of its connections.
const MOST_QUERIES: usize = 128;

/// Most queries of one endpoint in a second.
const MOST_IN_A_SECOND: u32 = 2000;

/// Most addresses that are reachable for one endpoint by names at the same time.
const MOST_ADDRESSES: usize = 1024;

/// Most refused names of one endpoint that are logged.
const MOST_LOGGED: usize = 100;

/// Longest time for which an address is valid whatever the answer says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How long addresses of names stay reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTimes {
    /// Least validity of an address, whatever the answer says: many programs connect a little later.
    pub least: Duration,
    /// How long an address stays reachable when it is not valid any more: programs keep addresses longer than they should.
    pub grace: Duration,
}

impl Default for NameTimes {
    fn default() -> Self {
        Self { least: Duration::from_secs(60), grace: Duration::from_secs(300) }
    }
}

/// Counters for the operator.
#[derive(Debug, Default)]
pub struct NameCounts {
    /// Queries that were answered.
    pub answered: AtomicU64,
    /// Queries for names that the list does not have.
    pub refused: AtomicU64,
    /// Queries that no name server answered in time, or whose addresses could not be admitted.
    pub failed: AtomicU64,
    /// Queries beyond what is answered at the same time.
    pub limited: AtomicU64,
    /// Messages that are no queries.
    pub malformed: AtomicU64,
}

/// Why addresses of a name were not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The endpoint was removed in the meantime.
    #[error("the container is gone")]
    Gone,
    /// The endpoint looked up too many addresses.
    #[error("the container may reach {MOST_ADDRESSES} addresses of names already: use subnets in its list")]
    Full,
    /// The kernel's error.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// An endpoint whose egress list has names.
#[derive(Debug)]
pub struct Named {
    /// Its network.
    pub network: NetworkId,
    /// Its id.
    pub endpoint: EndpointId,
    addresses: Vec<IpAddr>,
    /// What its list says about names, if it does.
    rules: Option<NameRules>,
    /// Whether it is only audited: every name is answered.
    pub audited: bool,
    egress: Expanded,
    /// Name servers that the engine was told to use for the container.
    servers: Vec<IpAddr>,
    /// What was admitted, and until when; `None` once the endpoint is gone.
    admitted: Mutex<Option<Admitted>>,
    queries: AtomicUsize,
    /// The queries since the beginning of a second.
    rate: Mutex<(Instant, u32)>,
    logged: Mutex<BTreeSet<Name>>,
}

/// A query of an endpoint that waits for its answer.
#[derive(Debug)]
pub struct Pending(Arc<Named>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.queries.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Named {
    fn new(network: &Network, endpoint: &Endpoint) -> Option<Self> {
        let spec = &endpoint.spec;
        let list = kind::access::list(network, endpoint, Way::Egress)?;
        let (rules, audited) = (NameRules::of(&list), kind::access::is_audited(network, endpoint));
        if rules.is_none() && !audited {
            return None;
        }
        let here = |server: &IpAddr| network.spec.subnets().any(|subnet| subnet.gateway == Some(*server));
        let elsewhere = |server: &&IpAddr| !server.is_loopback() && !server.is_unspecified() && !here(server);
        Some(Self {
            network: network.spec.id.clone(),
            endpoint: spec.id.clone(),
            addresses: spec.addresses().collect(),
            rules,
            audited,
            egress: expand(&list, &network.spec),
            servers: spec.options.name_servers.iter().filter(elsewhere).copied().collect(),
            admitted: Mutex::new(Some(HashMap::new())),
            queries: AtomicUsize::new(0),
            rate: Mutex::new((Instant::now(), 0)),
            logged: Mutex::default(),
        })
    }

    /// What may be sent to the addresses of a name; `None` if the list does not have the name.
    pub fn transports(&self, name: &Name) -> Option<Vec<Transport>> {
        self.rules.as_ref()?.transports(name)
    }

    /// Whether any query may be sent to this name server: because the list allows it, or refuses nothing.
    pub fn may_ask(&self, server: IpAddr) -> bool {
        if self.audited {
            return true;
        }
        let udp = libc::IPPROTO_UDP as u8;
        match server.is_loopback() {
            true => self.egress.allows_host(udp, dns::PORT),
            false => self.egress.allows(udp, dns::PORT, server),
        }
    }

    /// Counts a query; false if there were too many within a second.
    pub fn is_in_time(&self) -> bool {
        let mut rate = lock(&self.rate);
        if rate.0.elapsed() >= Duration::from_secs(1) {
            *rate = (Instant::now(), 0);
        }
        rate.1 = rate.1.saturating_add(1);
        rate.1 <= MOST_IN_A_SECOND
    }

    /// Begins a query, unless too many wait.
    pub fn begin(self: &Arc<Self>) -> Option<Pending> {
        let one_more = |waiting: usize| (waiting < MOST_QUERIES).then_some(waiting + 1);
        self.queries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Pending(Arc::clone(self)))
    }

    /// Whether a refusal of this name is to be logged: the first one.
    pub fn is_news(&self, name: &Name) -> bool {
        let mut logged = lock(&self.logged);
        logged.len() < MOST_LOGGED && logged.insert(name.clone())
    }
}

/// Whether containers may be sent there because a name server says so: never to this host, and to no group of hosts.
fn is_admissible(address: &IpAddr) -> bool {
    let common = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !common
        && match address {
            IpAddr::V4(four) => !four.is_link_local() && !four.is_broadcast() && four.octets()[0] != 0,
            IpAddr::V6(six) => !six.is_unicast_link_local() && six.to_ipv4_mapped().is_none(),
        }
}

/// See the module documentation.
pub(super) struct Names {
    kernel: Arc<dyn Kernel>,
    events: Events,
    times: NameTimes,
    by_address: Mutex<HashMap<IpAddr, Arc<Named>>>,
    /// Why queries are not answered.
    failure: Mutex<Option<String>>,
    pub counts: NameCounts,
}

impl Names {
    pub fn new(kernel: Arc<dyn Kernel>, events: Events, times: NameTimes) -> Self {
        let (by_address, failure, counts) = Default::default();
        Self { kernel, events, times, by_address, failure, counts }
    }

    /// Answers queries of an endpoint from now on, if its list has names.
    pub fn add(&self, network: &Network, endpoint: &Endpoint) {
        self.answer(Named::new(network, endpoint));
    }

    fn answer(&self, named: Option<Named>) {
        let Some(named) = named else { return };
        let named = Arc::new(named);
        let mut by_address = lock(&self.by_address);
        for address in &named.addresses {
            by_address.insert(*address, Arc::clone(&named));
        }
        drop(by_address);
        self.events.send(Event::NamesDue);
    }

    /// Ends it. When this returns, nothing more is admitted for the endpoint.
    pub fn remove(&self, endpoint: &Endpoint) {
        for address in endpoint.spec.addresses() {
            let mut by_address = lock(&self.by_address);
            let theirs = by_address.get(&address).is_some_and(|named| named.endpoint == endpoint.spec.id);
            let named = if theirs { by_address.remove(&address) } else { None };
            drop(by_address);
            if let Some(named) = named {
                *lock(&named.admitted) = None;
            }
        }
    }

    fn admit(
        &self,
        named: &Named,
        name: &Name,
        found: &[(IpAddr, u32)],
        transports: &[Transport],
    ) -> Result<(), AdmitError> {
        // Held until the kernel has them: see `remove`.
        let mut admitted = lock(&named.admitted);
        let admitted = admitted.as_mut().ok_or(AdmitError::Gone)?;
        let now = Instant::now();
        admitted.retain(|_, standing| standing.is_valid(now));
        let mut admissions = Vec::new();
        for (peer, ttl) in found.iter().filter(|(peer, _)| is_admissible(peer)) {
            let valid = Duration::from_secs((*ttl).into()).clamp(self.times.least, LONGEST);
            let lifetime = valid + self.times.grace;
            if !admitted.contains_key(peer) && admitted.len() >= MOST_ADDRESSES {
                return Err(AdmitError::Full);
            }
            admitted.entry(*peer).or_default().prolong(now + lifetime, name);
            admissions.push(Admission { peer: *peer, needed: valid + self.times.grace / 2, lifetime });
        }
        for own in &named.addresses {
            self.kernel.admit(*own, &admissions, transports)?;
        }
        Ok(())
    }
}

impl Driver {
    /// The endpoint with this address, if its list has names.
    pub fn named(&self, address: IpAddr) -> Option<Arc<Named>> {
        lock(&self.names.by_address).get(&address).cloned()
    }

    /// The name servers to ask for an endpoint: those that the engine was told, or those of the host.
    pub fn name_servers(&self, named: &Named) -> Vec<IpAddr> {
        if named.servers.is_empty() { self.host_name_servers() } else { named.servers.clone() }
    }

    /// Makes the addresses of a name reachable for an endpoint; each has its validity in seconds.
    ///
    /// # Errors
    /// The answer must not reach the endpoint then.
    pub fn admit(
        &self,
        named: &Named,
        name: &Name,
        found: &[(IpAddr, u32)],
        transports: &[Transport],
    ) -> Result<(), AdmitError> {
        self.names.admit(named, name, found, transports)
    }

    /// The number of endpoints whose list has names, and of those of them that use the host's name servers.
    pub fn named_endpoints(&self) -> (usize, usize) {
        let by_address = lock(&self.names.by_address);
        let all: BTreeMap<_, _> = by_address.values().map(|named| (&named.endpoint, named)).collect();
        (all.len(), all.values().filter(|named| named.servers.is_empty()).count())
    }

    /// The host's name servers.
    pub fn host_name_servers(&self) -> Vec<IpAddr> {
        (self.resolvers)()
    }

    /// Why queries are not answered, if they are not.
    pub fn names_failure(&self) -> Option<String> {
        lock(&self.names.failure).clone()
    }

    /// Records that queries are not answered, and why, or that they are.
    pub fn set_names_failure(&self, failure: Option<String>) {
        *lock(&self.names.failure) = failure;
    }

    /// Counters of queries.
    pub fn name_counts(&self) -> &NameCounts {
        &self.names.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Arc<Named> {
        let rules = NameRules::of(&"tcp:443@api.example.com".parse().unwrap()).unwrap();
        let (addresses, host) = Default::default();
        Arc::new(Named {
            network: NetworkId::parse("n1").unwrap(),
            endpoint: EndpointId::parse("e1").unwrap(),
            addresses: Vec::new(),
            rules: Some(rules),
            audited: false,
            egress: Expanded { addresses, host },
            servers: Vec::new(),
            admitted: Mutex::default(),
            queries: AtomicUsize::new(0),
            rate: Mutex::new((Instant::now(), 0)),
            logged: Mutex::default(),
        })
    }

    #[test]
    fn queries_of_a_container_are_limited_at_a_time_and_in_a_second() {
        let named = named();
        let mut pending: Vec<_> = (0..MOST_QUERIES).map(|_| named.begin().unwrap()).collect();
        assert!(named.begin().is_none());
        pending.pop();
        assert!(named.begin().is_some());
        lock(&named.rate).0 = Instant::now() + Duration::from_secs(60);
        assert!((0..MOST_IN_A_SECOND).all(|_| named.is_in_time()) && !named.is_in_time());
        lock(&named.rate).0 = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        assert!(named.is_in_time(), "in the next second");
    }

    #[test]
    fn a_refused_name_is_news_once() {
        let named = named();
        let name = |number: usize| Name::parse(&format!("n{number}.example.com")).unwrap();
        assert!((0..MOST_LOGGED).all(|number| named.is_news(&name(number)) && !named.is_news(&name(number))));
        assert!(!named.is_news(&name(MOST_LOGGED)), "a flood of names does not flood the log");
    }

    #[test]
    fn a_name_leads_neither_to_this_host_nor_to_a_group_of_hosts() {
        for bad in [
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.169.254",
            "::1",
            "::",
            "ff02::1",
            "fe80::1",
            "::ffff:192.0.2.1",
        ] {
            assert!(!is_admissible(&bad.parse().unwrap()), "{bad}");
        }
        for good in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(is_admissible(&good.parse().unwrap()), "{good}");
        }
    }
}
