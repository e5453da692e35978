//! Other hosts on the networks of the fake's links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use dhcp::Message;
use dhcp::frame::Destination;

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

/// The DHCP servers, and what was sent to them.
#[derive(Default)]
struct DhcpNetwork {
    listens: BTreeSet<IfName>,
    watcher: Option<Arc<DhcpWatcher>>,
    servers: Vec<Arc<DhcpServer>>,
    sent: Vec<(IfName, Message)>,
}

/// What a DHCP server answers to a message that is sent on a link.
pub type DhcpServer = dyn Fn(&IfName, &Message) -> Option<Message> + Send + Sync;

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

    fn send_dhcp(&self, link: &IfName, message: &[u8], _: Destination) -> Result<(), KernelError> {
        let Some(message) = Message::decode(message) else { return Ok(()) };
        let (servers, watcher) = {
            let dhcp = &mut self.world().stations.dhcp;
            dhcp.sent.push((link.clone(), message.clone()));
            (dhcp.servers.clone(), dhcp.watcher.clone().filter(|_| dhcp.listens.contains(link)))
        };
        // Servers receive it in any case; their answers need a listener.
        for answer in servers.iter().filter_map(|server| server(link, &message)) {
            if let Some(watcher) = &watcher {
                watcher(link, [6, 0, 0, 0, 0, 1], &answer.encode());
            }
        }
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
