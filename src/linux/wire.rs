//! Frames to and from other hosts: announcements of endpoints, probes of addresses, and what others say about them.
//!
//! Part of `LinuxKernel`; `packet` has the sockets, `listener` the thread that receives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dhcp::wire::{Incoming, Outgoing};

use super::listener::{Heard, Listener};
use super::netlink::{Explain as _, Failure};
use super::packet::frame::{self, Probe};
use super::{LinuxKernel, link, neighbour};
use crate::datapath::wire::Watcher;
use crate::datapath::{Announcement, DhcpWatcher, KernelError, Sighting, Wire};
use crate::model::IfName;

fn no_sockets() -> Failure {
    Failure::refused(libc::EPERM, "Pontoon was started without CAP_NET_RAW")
}

impl LinuxKernel {
    fn listener(&self) -> Result<&Listener, Failure> {
        self.listener.as_ref().ok_or_else(no_sockets)
    }

    fn find_heard(&self, name: &IfName) -> Result<Option<Heard>, Failure> {
        let found = link::find(&mut self.route().socket, name.as_str())?;
        Ok(found.map(|link| Heard { index: link.index, mac: link.mac }))
    }

    /// Corrects this host's own entries first, then announces the endpoint to the others.
    fn announce_endpoint(&self, endpoint: &Announcement) -> Result<(), Failure> {
        let gone = || Failure::refused(libc::ENODEV, "its sandbox or its link is gone");
        let link = self.find_heard(&endpoint.link)?.ok_or_else(gone)?;
        let mac = endpoint.mac.or(link.mac).ok_or_else(gone)?;
        if let Some(port) = &endpoint.port {
            let port = self.find_heard(port)?.ok_or_else(gone)?;
            for address in &endpoint.addresses {
                neighbour::correct(&mut self.route().socket, link.index, *address, mac)?;
            }
            match neighbour::place(&mut self.route().socket, port.index, mac) {
                // Not up yet, or deleted since: then no stale entry exists either.
                Err(failure) if matches!(failure.errno(), Some(libc::EPERM | libc::ENODEV | libc::EINVAL)) => {}
                result => result?,
            }
        }
        let sender = self.listener()?.sender();
        endpoint.addresses.iter().try_for_each(|address| sender.send(link.index, &frame::announcement(mac, *address)))
    }

    /// Brings up a link of Pontoon's own that stays on the host, a service port. It gets no address, answers nothing and
    /// sends nothing by itself.
    fn raise_own(&self, name: &IfName) -> Result<(), Failure> {
        let own = |found: &link::LinkRecord| found.kind == "veth" && !found.up;
        let found = link::find(&mut self.route().socket, name.as_str())?;
        if !name.has_prefix() || !found.as_ref().is_some_and(own) {
            return Ok(());
        }
        // Before it is up: otherwise it would announce a link-local address, and follow advertisements of routers.
        self.sysctls.disable_ipv6(name);
        link::change(&mut self.route().socket, link::named(name).arp(false).up())
    }

    fn send_to_server(&self, name: &IfName, message: &Outgoing) -> Result<(), Failure> {
        let gone = || Failure::refused(libc::ENODEV, "");
        let heard = self.find_heard(name)?.ok_or_else(gone)?;
        let frame = message.frame(heard.mac.ok_or_else(gone)?.bytes());
        let listener = self.dhcp.as_ref().ok_or_else(no_sockets)?;
        // The link may have been replaced since `listen_dhcp`: the answer must not be missed.
        listener.add(name, heard)?;
        listener.sender().send(heard.index, &frame)
    }

    fn send_probes(&self, name: &IfName, addresses: &[IpAddr]) -> Result<(), Failure> {
        let listener = self.listener()?;
        let gone = || Failure::refused(libc::ENODEV, "");
        let heard = self.find_heard(name)?.ok_or_else(gone)?;
        let mac = heard.mac.ok_or_else(gone)?;
        listener.add(name, heard)?;
        addresses.iter().try_for_each(|address| {
            listener.sender().send(heard.index, &frame::probe(Probe { mac, address: *address }))
        })
    }
}

fn find_all(kernel: &LinuxKernel, links: &BTreeSet<IfName>) -> Result<BTreeMap<IfName, Heard>, KernelError> {
    let mut heard = BTreeMap::new();
    for name in links {
        let found = kernel.find_heard(name).map_err(|f| f.of("look up link", name.as_str()))?;
        heard.extend(found.map(|found| (name.clone(), found)));
    }
    Ok(heard)
}

impl Wire for LinuxKernel {
    fn announce(&self, endpoint: &Announcement) -> Result<(), KernelError> {
        let object = endpoint.port.as_ref().unwrap_or(&endpoint.link);
        self.announce_endpoint(endpoint).map_err(|f| f.of("announce the endpoint of", object.as_str()))
    }

    fn announces(&self) -> bool {
        self.listener.is_some()
    }

    fn probes(&self) -> bool {
        self.listener.is_some()
    }

    fn opens_sockets(&self) -> bool {
        self.listener.as_ref().is_some_and(Listener::opens_sockets)
    }

    fn probe(&self, link: &IfName, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.send_probes(link, addresses).map_err(|f| f.of("send probes on", link.as_str()))
    }

    fn listen(&self, links: &BTreeSet<IfName>) -> Result<(), KernelError> {
        let Some(listener) = &self.listener else { return Ok(()) };
        listener.listen(&find_all(self, links)?).map_err(|f| f.of("listen on", "links with other hosts"))
    }

    fn watch_addresses(&self, watcher: Watcher) {
        if let Some(listener) = &self.listener {
            listener.watch(Box::new(move |link, heard, frame| {
                if let Some((address, mac)) = frame::claim(frame).filter(|(_, mac)| heard.mac != Some(*mac)) {
                    watcher(Sighting { link: link.clone(), address, mac });
                }
            }));
        }
    }

    fn send_dhcp(&self, link: &IfName, message: &Outgoing) -> Result<(), KernelError> {
        self.send_to_server(link, message).map_err(|f| f.of("send to DHCP servers and routers on", link.as_str()))
    }

    fn listen_dhcp(&self, links: &BTreeSet<IfName>) -> Result<(), KernelError> {
        let Some(listener) = &self.dhcp else { return Ok(()) };
        for name in links {
            self.raise_own(name).map_err(|f| f.of("bring up", name.as_str()))?;
        }
        listener.listen(&find_all(self, links)?).map_err(|f| f.of("listen on", "links with DHCP servers and routers"))
    }

    fn watch_dhcp(&self, watcher: DhcpWatcher) {
        if let Some(listener) = &self.dhcp {
            listener.watch(Box::new(move |link, _, frame| {
                if let Some(message) = Incoming::of_frame(frame) {
                    watcher(link, message);
                }
            }));
        }
    }
}
