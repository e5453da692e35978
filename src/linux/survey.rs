//! Observes Pontoon's own objects and the host around them from a process that is not the daemon, without
//! changing anything.
//!
//! Sends dump requests only, starts no thread and deletes nothing. Used by the operator's commands, through
//! the app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::firewall::counters;
use super::link::{self, LinkRecord};
use super::netlink::{Explain as _, Failure, OwnPorts, Protocol, Socket};
use super::sysctl::Sysctls;
use super::{Options, addr, chains, feature, iptables_legacy, observe, opposition, paths, port_vlans, route};
use crate::datapath::host::{Host, HostBridge, HostLink, HostRoute, PeerPaths};
use crate::datapath::{Datapath, EngineBridges, KernelError, ObjectKind, Policy, Underlay};
use crate::model::{DataPath, Family, IfName};

/// Reads in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Survey {
    route: Socket,
    nft: Socket,
    generic: Socket,
    sysctls: Sysctls,
}

impl Survey {
    /// Opens the sockets.
    ///
    /// # Errors
    /// The system's error for a socket. Without CAP_NET_ADMIN, reading the firewall fails later.
    pub fn open(options: Options) -> Result<Self, KernelError> {
        let ports = std::sync::Arc::new(OwnPorts::default());
        let open = |protocol| Socket::open(protocol, ports.clone()).map_err(|f| f.of("open the kernel's", "sockets"));
        let (route, nft, generic) = (open(Protocol::Route)?, open(Protocol::Netfilter)?, open(Protocol::Generic)?);
        Ok(Self { route, nft, generic, sysctls: Sysctls::new(options.sysctl_root) })
    }

    /// All addresses of the host.
    ///
    /// # Errors
    /// Errors of the dump.
    pub fn addresses(&mut self) -> Result<BTreeSet<IpAddr>, KernelError> {
        addr::own(&mut self.route).map_err(|f| f.of("list", "addresses"))
    }

    /// Everything of Pontoon, as `Kernel::observe` reads it.
    ///
    /// # Errors
    /// The same.
    pub fn observe(&mut self, foreign: &BTreeSet<IfName>) -> Result<Datapath, KernelError> {
        let read = observe::links(&mut self.route, &self.sysctls, foreign);
        let (mut datapath, links) = read.map_err(|f| f.of("observe", "links"))?;
        observe::firewall(&mut self.nft, &self.sysctls, Some(links), || link::list(&mut self.route), &mut datapath)
            .map_err(|f| f.of("observe", "the firewall"))?;
        // A tunnel or a bridge without fast path entries may mean that the kernel does not support them.
        let may_have = |kind| matches!(kind, ObjectKind::Vxlan | ObjectKind::Bridge);
        let none = datapath.fastpath.as_ref().is_some_and(BTreeSet::is_empty)
            && datapath.objects.values().any(|object| may_have(object.kind()));
        if none && !feature::offers_fastpath() {
            datapath.fastpath = None;
        }
        Ok(datapath)
    }

    /// Bridges of the engine's built-in driver, as `Kernel::engine_bridges` reads them.
    ///
    /// # Errors
    /// The same.
    pub fn engine_bridges(&mut self) -> Result<EngineBridges, KernelError> {
        observe::engine_bridges(&mut self.nft, &mut self.route)
    }

    /// Rules of other programs that could decide about frames on the fast path, as `Kernel::opposition` reads them.
    ///
    /// # Errors
    /// The same.
    pub fn opposition(
        &self,
        bridges: &BTreeMap<IfName, Vec<IpNetwork>>,
    ) -> Result<BTreeMap<IfName, String>, KernelError> {
        if bridges.is_empty() {
            return Ok(BTreeMap::new());
        }
        opposition::find(Arc::default(), &self.sysctls, bridges)
    }

    /// Where the host accepts broadcasts, as `Kernel::broadcasts` reads it.
    ///
    /// # Errors
    /// The same.
    pub fn broadcasts(&mut self) -> Result<BTreeSet<Policy>, KernelError> {
        observe::broadcasts(&mut self.route, &self.sysctls)
    }

    /// The underlay of the overlay networks, as `Kernel::underlay` finds it.
    ///
    /// # Errors
    /// The same.
    pub fn underlay(&mut self, path: &DataPath) -> Result<Option<Underlay>, KernelError> {
        route::underlay(&mut self.route, path).map_err(|f| f.of("look up", "the way to other hosts"))
    }

    /// The paths from an address of this host to other hosts.
    ///
    /// # Errors
    /// Errors of a dump.
    pub fn paths(&mut self, local: IpAddr, peers: &[IpAddr]) -> Result<PeerPaths, KernelError> {
        let found = paths::read(&mut self.route, &mut self.generic, local, peers);
        found.map_err(|f| f.of("look up", "the ways to other hosts"))
    }

    /// Names of all links of the namespace.
    ///
    /// # Errors
    /// Errors of the dump.
    pub fn links(&mut self) -> Result<BTreeSet<String>, KernelError> {
        let links = link::list(&mut self.route).map_err(|f| f.of("list", "links"))?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }

    /// The host around Pontoon, and the features of its kernel.
    ///
    /// # Errors
    /// Errors of a dump; missing features are no error.
    pub fn host(&mut self) -> Result<Host, KernelError> {
        let links = link::list(&mut self.route).map_err(|f| f.of("list", "links"))?;
        let names: BTreeMap<u32, String> = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let named = |index: Option<u32>| index.and_then(|index| names.get(&index)).cloned();
        let routes = route::all(&mut self.route).map_err(|f| f.of("list", "routes"))?;
        let uplink = route::uplink(&mut self.route).map_err(|f| f.of("look up", "the default route"))?;
        let routes = routes.into_iter();
        let (features, untried) = match feature::try_all() {
            Ok(features) => (features, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Ok(Host {
            uplink: named(uplink),
            routes: routes
                .map(|r| HostRoute { destination: r.destination, link: named(r.link).unwrap_or_default() })
                .collect(),
            bridges: bridges(&mut self.route, &links).map_err(|f| f.of("list", "VLANs of bridges"))?,
            links: links.iter().map(seen).collect(),
            chains: chains::list(&mut self.nft).map_err(|f| f.of("list", "chains of the firewall"))?,
            legacy: Family::ALL.into_iter().filter_map(iptables_legacy::forward).collect(),
            dropped: counters::dropped(&mut self.nft).map_err(|f| f.of("list", "what was dropped"))?,
            unknown_senders: counters::unknown_senders(&mut self.nft).map_err(|f| f.of("list", "who is no peer"))?,
            heard: counters::announced(&mut self.nft).map_err(|f| f.of("list", "who is on other hosts"))?,
            features,
            untried,
        })
    }
}

fn bridges(socket: &mut Socket, links: &[LinkRecord]) -> Result<Vec<HostBridge>, Failure> {
    let vlans = match port_vlans::list(socket, None) {
        Err(failure) if failure.errno() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        result => result?,
    };
    let bridge = |link: &LinkRecord| {
        let ports = observe::ports(links, link.index, &vlans);
        Some(HostBridge { name: link.ifname()?, filters_vlans: link.filters_vlans, ports })
    };
    Ok(links.iter().filter(|link| link.kind == "bridge").filter_map(bridge).collect())
}

fn seen(link: &LinkRecord) -> HostLink {
    let (name, kind) = (link.name.clone(), link.kind.clone());
    HostLink { name, kind, mtu: link.mtu, ours: link.live() || link.dead(), down: !link.up, tunnel: link.tunnel }
}
