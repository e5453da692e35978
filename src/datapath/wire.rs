//! What other hosts on the network of a link say and hear, in frames of ARP and neighbour discovery: part of the
//! kernel's interface.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dhcp::wire::{Incoming, Outgoing};

use super::KernelError;
use crate::model::{IfName, Mac};

/// The location of an endpoint, for hosts and containers that have stale entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The link through which the others are reached: the bridge of its network, or the parent of its link.
    pub link: IfName,
    /// Its port, if the link is a bridge.
    pub port: Option<IfName>,
    /// Its hardware address; `None` if it has that of the link.
    pub mac: Option<Mac>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A frame on the network of a link whose sender says that it has an address. Never sent by the link itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The link.
    pub link: IfName,
    /// The address.
    pub address: IpAddr,
    /// The hardware address that has it.
    pub mac: Mac,
}

/// What receives sightings; called from any thread, must return at once.
pub type Watcher = Box<dyn Fn(Sighting) + Send + Sync>;

/// What receives messages of DHCP servers and routers, each with its link. Called from any thread, must return at once.
pub type DhcpWatcher = Box<dyn Fn(&IfName, Incoming) + Send + Sync>;

/// The frames of the kernel's interface.
pub trait Wire: Send + Sync {
    /// Announces where an endpoint is to all hosts and containers on its network, here and on other hosts.
    fn announce(&self, endpoint: &Announcement) -> Result<(), KernelError>;

    /// Whether this process has the privilege that [`Wire::announce`] needs.
    fn announces(&self) -> bool {
        true
    }

    /// Whether this process has the privilege that [`Wire::probe`] needs.
    fn probes(&self) -> bool;

    /// Whether it can listen on further links: no longer after the process that opens packet sockets for it has ended.
    fn opens_sockets(&self) -> bool {
        self.probes()
    }

    /// Asks on the network of a link who has these addresses, in a way from which no host learns anything. Does not wait
    /// for answers: they are sightings. Listens on the link from now on, if it did not.
    fn probe(&self, link: &IfName, addresses: &[IpAddr]) -> Result<(), KernelError>;

    /// Listens on these links and no others. Links that do not exist are skipped; the caller repeats the call from
    /// time to time, so that a link is heard again after it was replaced.
    fn listen(&self, links: &BTreeSet<IfName>) -> Result<(), KernelError>;

    /// Sends the message of a client to DHCP servers or routers on the network of a link, from the link's own hardware
    /// address: so the answer comes to the link, and no bridge or switch learns a wrong location of the client. Needs the
    /// same privilege as [`Wire::probe`]. Listens on the link from now on, if it did not: it may have been replaced.
    fn send_dhcp(&self, link: &IfName, message: &Outgoing) -> Result<(), KernelError>;

    /// Receives messages of DHCP servers and routers on these links and no others; see [`Wire::listen`].
    fn listen_dhcp(&self, links: &BTreeSet<IfName>) -> Result<(), KernelError>;

    /// Passes every message of a DHCP server or router to `watcher`. Called once, before the other methods.
    fn watch_dhcp(&self, watcher: DhcpWatcher);

    /// Passes every sighting to `watcher`. Called once, before the other methods.
    fn watch_addresses(&self, watcher: Watcher);
}
