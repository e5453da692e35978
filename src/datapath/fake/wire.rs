//! Other hosts on the networks of the fake's links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use dhcp::wire::{Incoming, Outgoing};
use dhcp::{Advertisement, Message};

use super::FakeKernel;
use crate::datapath::wire::{DhcpWatcher, Watcher};
use crate::datapath::{Announcement, KernelError, Sighting, Wire};
use crate::model::{IfName, Mac};

/// The other hosts, and what was sent to them.
#[derive(Default)]
pub(super) struct Stations {
    /// Whether the fake can send probes.
    can_probe: bool,
    addresses: BTreeMap<(IfName, IpAddr), Mac>,
    announced: Vec<Announcement>,
    probed: Vec<(IfName, IpAddr)>,
    listens: BTreeSet<IfName>,
    dhcp: DhcpNetwork,
    watcher: Option<Arc<Watcher>>,
}

/// The DHCP servers and routers, and what was sent to them.
#[derive(Default)]
struct DhcpNetwork {
    listens: BTreeSet<IfName>,
    watcher: Option<Arc<DhcpWatcher>>,
    servers: Vec<Arc<DhcpServer>>,
    sent: Vec<(IfName, Message)>,
    routers: Vec<Arc<Router>>,
    solicited: Vec<IfName>,
}

/// What a DHCP server answers to a message that is sent on a link.
pub type DhcpServer = dyn Fn(&IfName, &Message) -> Option<Message> + Send + Sync;

/// What a router answers to a solicitation on a link.
pub type Router = dyn Fn(&IfName) -> Option<Advertisement> + Send + Sync;

impl FakeKernel {
    /// Adds a DHCP server to the networks of all links. It answers before the message counts as sent.
    pub fn add_dhcp_server(&self, server: Arc<DhcpServer>) {
        self.world().stations.dhcp.servers.push(server);
    }

    /// Removes all DHCP servers.
    pub fn remove_dhcp_servers(&self) {
        self.world().stations.dhcp.servers.clear();
    }

    /// Returns and clears the messages sent to DHCP servers so far.
    pub fn take_dhcp(&self) -> Vec<(IfName, Message)> {
        std::mem::take(&mut self.world().stations.dhcp.sent)
    }

    /// Adds a router to the networks of all links. It answers before the solicitation counts as sent.
    pub fn add_router(&self, router: Arc<Router>) {
        self.world().stations.dhcp.routers.push(router);
    }

    /// Removes all routers.
    pub fn remove_routers(&self) {
        self.world().stations.dhcp.routers.clear();
    }

    /// Returns and clears the links on which routers were asked so far.
    pub fn take_solicited(&self) -> Vec<IfName> {
        std::mem::take(&mut self.world().stations.dhcp.solicited)
    }

    /// Receives an advertisement that no solicitation asked for.
    pub fn advertise(&self, link: &IfName, said: Advertisement) {
        self.pass_on(link, vec![Incoming::Router(Box::new(said))]);
    }

    /// Servers and routers send in any case; what they send needs a listener.
    fn pass_on(&self, link: &IfName, messages: Vec<Incoming>) {
        let watcher = {
            let dhcp = &self.world().stations.dhcp;
            dhcp.watcher.clone().filter(|_| dhcp.listens.contains(link))
        };
        if let Some(watcher) = watcher {
            messages.into_iter().for_each(|message| watcher(link, message));
        }
    }

    /// Makes probes possible; a new fake has no packet sockets.
    pub fn allow_probes(&self) {
        self.world().stations.can_probe = true;
    }

    /// Gives an address on the network of a link to another host, or takes it away.
    pub fn set_station(&self, link: &IfName, address: IpAddr, mac: Option<Mac>) {
        let addresses = &mut self.world().stations.addresses;
        match mac {
            Some(mac) => addresses.insert((link.clone(), address), mac),
            None => addresses.remove(&(link.clone(), address)),
        };
    }

    /// Receives a frame of another host.
    pub fn sight(&self, sighting: Sighting) {
        let watcher = self.world().stations.watcher.clone();
        if let Some(watcher) = watcher {
            watcher(sighting);
        }
    }

    /// Returns and clears the announcements sent so far.
    pub fn take_announced(&self) -> Vec<Announcement> {
        std::mem::take(&mut self.world().stations.announced)
    }

    /// Returns and clears the probes sent so far.
    pub fn take_probed(&self) -> Vec<(IfName, IpAddr)> {
        std::mem::take(&mut self.world().stations.probed)
    }

    /// The links on which it listens.
    pub fn listens(&self) -> BTreeSet<IfName> {
        self.world().stations.listens.clone()
    }
}

impl Wire for FakeKernel {
    fn announce(&self, endpoint: &Announcement) -> Result<(), KernelError> {
        self.world().stations.announced.push(endpoint.clone());
        Ok(())
    }

    fn probes(&self) -> bool {
        self.world().stations.can_probe
    }

    fn probe(&self, link: &IfName, addresses: &[IpAddr]) -> Result<(), KernelError> {
        let mut answers = Vec::new();
        {
            let stations = &mut self.world().stations;
            stations.listens.insert(link.clone());
            for address in addresses {
                let asked = (link.clone(), *address);
                let mac = stations.addresses.get(&asked);
                answers.extend(mac.map(|mac| Sighting { link: link.clone(), address: *address, mac: *mac }));
                stations.probed.push(asked);
            }
        }
        answers.into_iter().for_each(|answer| self.sight(answer));
        Ok(())
    }

    fn listen(&self, links: &BTreeSet<IfName>) -> Result<(), KernelError> {
        self.world().stations.listens = links.clone();
        Ok(())
    }

    fn send_dhcp(&self, link: &IfName, message: &Outgoing) -> Result<(), KernelError> {
        let answers: Vec<_> = match message {
            Outgoing::Dhcp4(message, _) => {
                let servers = {
                    let dhcp = &mut self.world().stations.dhcp;
                    dhcp.sent.push((link.clone(), (**message).clone()));
                    dhcp.servers.clone()
                };
                let answers = servers.iter().filter_map(|server| server(link, message));
                answers.map(|answer| Incoming::Dhcp4(Box::new(answer), [6, 0, 0, 0, 0, 1])).collect()
            }
            Outgoing::Solicitation => {
                let routers = {
                    let dhcp = &mut self.world().stations.dhcp;
                    dhcp.solicited.push(link.clone());
                    dhcp.routers.clone()
                };
                let answers = routers.iter().filter_map(|router| router(link));
                answers.map(|said| Incoming::Router(Box::new(said))).collect()
            }
        };
        self.pass_on(link, answers);
        Ok(())
    }

    fn listen_dhcp(&self, links: &BTreeSet<IfName>) -> Result<(), KernelError> {
        self.world().stations.dhcp.listens = links.clone();
        Ok(())
    }

    fn watch_dhcp(&self, watcher: DhcpWatcher) {
        self.world().stations.dhcp.watcher = Some(Arc::new(watcher));
    }

    fn watch_addresses(&self, watcher: Watcher) {
        self.world().stations.watcher = Some(Arc::new(watcher));
    }
}
