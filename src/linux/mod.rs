//! The Linux implementation of the datapath's kernel: [`LinuxKernel`] carries out steps and observes, over
//! netlink and `/proc/sys/net`, without any child process.
//!
//! This is the only code of Pontoon that speaks netlink; only the app and tests use it. Modules: `netlink` is
//! the crate of that name, with `tlv` and `frame`; `link`, `addr`, `route`, `firewall`, `conntrack`, `neighbour`
//! and `forward` access the kernel's objects; `object` creates and reads Pontoon's links; `observe` reads the
//! whole datapath; `reaper` deletes links, `conntrack_worker` flushes flows, `watch` reports changes by other
//! programs; `reserve` reserves ports of the host; `port_vlans` has the VLANs of bridges' ports, `shaper` the queues of
//! links; `underlay` has what
//! tunnels need; `apply` carries out steps, `shell` prints them as commands for people; `wire` sends and receives frames
//! of ARP and neighbour discovery, with the sockets of `packet` and the thread of `listener`;
//! `survey` observes from another process (with `paths`, `offload` and `iptables_legacy`); `singleton` ensures a single
//! Pontoon per namespace; `feature` probes this kernel; `sandbox` and `balance` serve `pontoon vip` only.

pub mod addr;
mod apply;
pub mod balance;
mod chains;
pub mod conntrack;
mod conntrack_worker;
mod echo_filter;
pub mod feature;
pub mod firewall;
pub mod forward;
pub mod host_view;
mod iptables_legacy;
pub mod link;
mod listener;
mod monitor;
pub mod neighbour;
pub mod netlink;
pub mod object;
mod observe;
mod offload;
mod opposition;
pub mod packet;
mod paths;
mod port_vlans;
mod reaper;
mod reserve;
pub mod route;
mod rule_events;
pub mod ruleset;
pub mod sandbox;
mod shaper;
mod shell;
pub mod singleton;
mod station;
pub mod survey;
mod sysctl;
mod underlay;
pub mod uninstall;
pub mod watch;
mod wire;

pub use ::netlink::{frame, tlv};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use rtnetlink::LinkUnspec;

use crate::datapath::host::Dropped;
use crate::datapath::{
    Admission, BridgePort, Datapath, EngineBridges, Forwarding, Kernel, KernelError, LinkInfo, Policy, Record,
    ReserveError, Step, Surroundings, Underlay, Verdicts,
};
use crate::model::access::Transport;
use crate::model::{DataPath, HostPort, IfName};
use conntrack_worker::ConntrackWorker;
use echo_filter::EchoFilter;
use listener::{Listener, Subject};
use netlink::{Explain as _, Failure, OwnPorts, Protocol, Socket};
use packet::Packets;
use reaper::Reaper;
use reserve::Reservations;
use sysctl::Sysctls;
use watch::{Event, Watch};

/// Index of the loopback link, the same in every namespace (`LOOPBACK_IFINDEX`, include/net/flow.h).
const LOOPBACK: u32 = 1;

/// Options for opening a kernel.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the settings `net.*`. The managed plugin sees the host's at another path.
    pub sysctl_root: PathBuf,
    /// The packet sockets, if they were opened while the process still had CAP_NET_RAW.
    pub packets: Option<Arc<Packets>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { sysctl_root: PathBuf::from("/proc/sys/net"), packets: None }
    }
}

/// The kernel of this machine, in one network namespace.
///
/// Opened in the namespace of the calling thread; all later calls must come from threads of the
/// same namespace (sockets remember theirs, `/proc/sys/net` follows the thread). Verbs share one
/// socket for links and one for the firewall: the kernel serialises both kinds of change anyway.
#[derive(Debug)]
pub struct LinuxKernel {
    route: Mutex<Route>,
    nft: Mutex<Socket>,
    /// For addresses of names: they do not wait for verbs, nor verbs for them.
    names: Mutex<Socket>,
    reaper: Reaper,
    conntrack_worker: ConntrackWorker,
    sysctls: Sysctls,
    reservations: Reservations,
    ports: Arc<OwnPorts>,
    echoes: Arc<EchoFilter>,
    has_no_fastpath: AtomicBool,
    has_no_fair_queues: AtomicBool,
    /// Absent if the process never had the privilege to open its sockets.
    listener: Option<Listener>,
    dhcp: Option<Listener>,
}

/// The socket for links, and cached indexes of bridges, which every new port needs.
#[derive(Debug)]
struct Route {
    socket: Socket,
    bridges: HashMap<IfName, Master>,
}

/// A bridge that gets ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Master {
    index: u32,
    /// Created by Pontoon: no setting of it needs to be preserved for another program.
    ours: bool,
}

impl LinuxKernel {
    /// Opens the sockets and starts the reaper and the conntrack_worker.
    ///
    /// # Errors
    /// `EPERM` naming `CAP_NET_ADMIN` when this process does not have it in its namespace; the system's error
    /// when a socket or the thread cannot be created.
    pub fn new(options: Options) -> Result<Self, KernelError> {
        const OPERATION: &str = "open the kernel's";
        let ports = Arc::new(OwnPorts::default());
        let echoes = Arc::new(EchoFilter::default());
        let open = |protocol| Socket::open(protocol, ports.clone());
        let mut socket = open(Protocol::Route).map_err(|f| f.of(OPERATION, "link socket"))?;
        // Changes nothing, but fails without the privilege (rtnetlink_rcv_msg).
        link::change(&mut socket, LinkUnspec::new_with_index(LOOPBACK))
            .map_err(|f| f.of("change links", "in this network namespace"))?;
        let nft = open(Protocol::Netfilter).map_err(|f| f.of(OPERATION, "nf_tables socket"))?;
        let names = open(Protocol::Netfilter).map_err(|f| f.of(OPERATION, "nf_tables socket"))?;
        let spare = || open(Protocol::Route).map_err(|f| f.of(OPERATION, "link socket"));
        let unstarted = |error: std::io::Error, thread: &str| {
            let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
            Failure::refused(errno, "").of("start", thread)
        };
        let reaper = Reaper::start(spare()?, echoes.clone())
            .map_err(|error| unstarted(error, "the thread that deletes links"))?;
        let flows = open(Protocol::Netfilter).map_err(|f| f.of(OPERATION, "conntrack socket"))?;
        let packets = options.packets.or_else(|| Packets::open().map(Arc::new));
        let listen = |subject| packets.clone().map(|packets| Listener::new(packets, subject));
        let conntrack_worker = ConntrackWorker::start(flows, spare()?)
            .map_err(|error| unstarted(error, "the thread that removes tracked connections"))?;
        Ok(Self {
            route: Mutex::new(Route { socket, bridges: HashMap::new() }),
            nft: Mutex::new(nft),
            names: Mutex::new(names),
            reaper,
            conntrack_worker,
            sysctls: Sysctls::new(options.sysctl_root),
            reservations: Reservations::new(),
            ports,
            echoes,
            has_no_fastpath: AtomicBool::new(false),
            has_no_fair_queues: AtomicBool::new(false),
            listener: listen(Subject::Neighbours),
            dhcp: listen(Subject::Dhcp),
        })
    }

    /// Watches this namespace for changes by other programs; `deliver` is called on a thread of the watcher,
    /// one event at a time, until the watcher is dropped.
    ///
    /// # Errors
    /// The system's error when a socket or the thread cannot be created.
    pub fn watch(&self, deliver: Box<dyn Fn(Event) + Send>) -> Result<Watch, KernelError> {
        Watch::start(self.ports.clone(), self.echoes.clone(), deliver)
            .map_err(|failure| failure.of("watch", "links and firewall"))
    }

    fn observe_rules(&self, known: Option<Vec<link::LinkRecord>>, datapath: &mut Datapath) -> Result<(), KernelError> {
        let list = || link::list(&mut self.route().socket);
        observe::firewall(&mut self.nft(), &self.sysctls, known, list, datapath)
            .map_err(|f| f.of("observe", "the firewall"))?;
        if self.has_no_fastpath.load(Ordering::Relaxed) {
            datapath.fastpath = None;
        }
        Ok(())
    }

    fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nft(&self) -> MutexGuard<'_, Socket> {
        self.nft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    /// A bridge, from the cache if possible.
    fn bridge(&mut self, name: &IfName) -> Result<Master, Failure> {
        if let Some(master) = self.bridges.get(name) {
            return Ok(*master);
        }
        let found = link::find(&mut self.socket, name.as_str())?;
        let missing = || Failure::refused(libc::ENODEV, &format!("there is no bridge {name}"));
        let found = found.filter(|link| link.kind == "bridge").ok_or_else(missing)?;
        let master = Master { index: found.index, ours: found.live() };
        self.bridges.insert(name.clone(), master);
        Ok(master)
    }
}

impl Kernel for LinuxKernel {
    fn observe(&self, foreign: &BTreeSet<IfName>) -> Result<Datapath, KernelError> {
        let read = observe::links(&mut self.route().socket, &self.sysctls, foreign);
        let (mut datapath, links) = read.map_err(|f| f.of("observe", "links"))?;
        self.observe_rules(Some(links), &mut datapath)?;
        Ok(datapath)
    }

    fn observe_firewall(&self) -> Result<Datapath, KernelError> {
        let mut datapath = Datapath::default();
        self.observe_rules(None, &mut datapath)?;
        Ok(datapath)
    }

    fn apply(&self, steps: &[Step]) -> Result<(), KernelError> {
        steps.iter().try_for_each(|step| self.carry_out(step))
    }

    fn dropped(&self) -> Result<Vec<Dropped>, KernelError> {
        host_view::dropped()
    }

    fn link(&self, name: &IfName) -> Result<Option<LinkInfo>, KernelError> {
        let found = link::find(&mut self.route().socket, name.as_str());
        Ok(found.map_err(|f| f.of("look up link", name.as_str()))?.map(link::LinkRecord::info))
    }

    fn bridge_ports(&self, bridge: &IfName) -> Result<Vec<BridgePort>, KernelError> {
        let read = observe::bridge_ports(&mut self.route().socket, bridge);
        read.map_err(|f| feature::unfiltered(f).of("list the VLANs of bridge", bridge.as_str()))
    }

    fn uplink_mtu(&self) -> Result<Option<u32>, KernelError> {
        let socket = &mut self.route().socket;
        let mut look = || match route::uplink(socket)? {
            Some(index) => Ok(link::find_index(socket, index)?.map(|link| link.mtu)),
            None => Ok(None),
        };
        look().map_err(|f: Failure| f.of("look up", "the default route"))
    }

    fn underlay(&self, path: &DataPath) -> Result<Option<Underlay>, KernelError> {
        route::underlay(&mut self.route().socket, path).map_err(|f| f.of("look up", "the way to other hosts"))
    }

    fn heard(&self) -> Result<BTreeMap<IpAddr, Duration>, KernelError> {
        observe::heard(&mut self.route().socket).map_err(|f| f.of("list", "what tunnels learned"))
    }

    fn forwarding(&self) -> (Forwarding, Forwarding) {
        observe::forwarding(&self.sysctls)
    }

    fn surroundings(&self) -> Result<Surroundings, KernelError> {
        route::surroundings(&mut self.route().socket).map_err(|f| f.of("list", "routes"))
    }

    fn addresses(&self) -> Result<BTreeSet<IpAddr>, KernelError> {
        addr::own(&mut self.route().socket).map_err(|f| f.of("list", "addresses"))
    }

    fn engine_bridges(&self) -> Result<EngineBridges, KernelError> {
        observe::engine_bridges(&mut self.nft(), &mut self.route().socket)
    }

    fn broadcasts(&self) -> Result<BTreeSet<Policy>, KernelError> {
        observe::broadcasts(&mut self.route().socket, &self.sysctls)
    }

    fn opposition(&self, bridges: &BTreeMap<IfName, Vec<IpNetwork>>) -> Result<BTreeMap<IfName, String>, KernelError> {
        opposition::find(self.ports.clone(), &self.sysctls, bridges)
    }

    fn unannounced(&self) -> Vec<String> {
        opposition::unannounced(&self.sysctls)
    }

    fn admit(&self, own: IpAddr, admissions: &[Admission], transports: &[Transport]) -> Result<(), KernelError> {
        let mut socket = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = firewall::names::admit(&mut socket, own, admissions, transports);
        admitted.map_err(|f| f.of("admit addresses of names for", &own.to_string()))
    }

    fn forget_names(&self, owners: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
        let mut socket = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        firewall::names::forget(&mut socket, owners).map_err(|f| f.of("forget addresses of names for", "endpoints"))
    }

    fn records(&self) -> Result<Vec<Record>, KernelError> {
        let mut socket = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        firewall::records::all(&mut socket).map_err(|f| f.of("list", "what audited containers did"))
    }

    fn cut(&self, verdicts: Verdicts) {
        self.conntrack_worker.cut(verdicts);
    }

    fn reserve(&self, ports: &[HostPort]) -> Result<(), ReserveError> {
        self.reservations.reserve(ports)
    }

    fn release(&self, ports: &[HostPort]) {
        self.reservations.release(ports);
    }

    fn ephemeral_ports(&self) -> Result<(RangeInclusive<u16>, Vec<RangeInclusive<u16>>), KernelError> {
        self.sysctls.ephemeral_ports().map_err(|f| f.of("read", "the host's range of ports"))
    }

    fn settle(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        self.reaper.settle(patience) && self.conntrack_worker.settle(patience.saturating_sub(begun.elapsed()))
    }

    fn when_flushed(&self, done: Box<dyn FnOnce() + Send>) {
        self.conntrack_worker.when_done(done);
    }

    fn commands(&self, step: &Step) -> Vec<String> {
        shell::commands(step)
    }
}

/// The shell commands that correspond to a step; see [`Kernel::commands`].
pub fn commands(step: &Step) -> Vec<String> {
    shell::commands(step)
}
