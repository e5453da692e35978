//! Owns what the kernel does for overlay networks beyond one request: a VXLAN link whose name or
//! number may still be held by one that is going, shortcuts where the kernel has them, and the
//! announcing of an endpoint.
//!
//! Part of `LinuxKernel`; the steps come from `apply`.

use std::sync::atomic::Ordering;

use super::apply::{PATIENCE, TRIES, foreign, with_master};
use super::link::LinkRecord;
use super::netlink::Failure;
use super::nft::shortcut;
use super::{LinuxKernel, announce, link, neighbour, vxlan};
use crate::datapath::{Announcement, Shortcut, Vxlan};
use crate::model::IfName;

impl LinuxKernel {
    pub(super) fn create_vxlan(&self, name: &IfName, wanted: &Vxlan) -> Result<(), Failure> {
        for _ in 0..TRIES {
            self.await_gone(name)?;
            let mut route = self.route();
            let bridge = wanted.bridge.as_ref();
            let made = with_master(&mut route, bridge, |route, at| vxlan::create(&mut route.socket, name, wanted, at));
            let failure = match made {
                Err(failure) if failure.errno() == Some(libc::EEXIST) => failure,
                result => return result,
            };
            match link::find(&mut route.socket, name.as_str())? {
                // The name is free, so somebody has the number: perhaps one of ours that is going.
                None => {
                    drop(route);
                    if !self.reaper.settle(PATIENCE) || self.is_number_taken(wanted)? {
                        return Err(Failure::refused(libc::EEXIST, failure_words(&failure)));
                    }
                }
                Some(found) if found.kind == "vxlan" && found.dead() => self.reaper.retire(name),
                Some(found) if found.kind == "vxlan" && found.live() => {
                    let same = found.vxlan.is_some_and(|is| {
                        (is.vni, is.port, is.local, is.low_ports)
                            == (wanted.vni, wanted.port, wanted.local, wanted.low_ports)
                            && found.mac == Some(wanted.mac)
                    });
                    if same {
                        return with_master(&mut route, bridge, |route, at| {
                            vxlan::complete(&mut route.socket, &found, name, wanted, at)
                        });
                    }
                    // Ours, and of another form that no change mends.
                    self.reaper.retire(name);
                }
                Some(found) => return Err(foreign(name, &found.kind)),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name come and go"))
    }

    /// Where the kernel has no shortcuts to offer, all goes by the bridges.
    pub(super) fn change_shortcuts(&self, add: &[Shortcut], remove: &[Shortcut]) -> Result<(), Failure> {
        if self.has_no_shortcuts.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut at = shortcut::Indexes::new();
        for name in add.iter().filter_map(Shortcut::link) {
            let found = link::find(&mut self.route().socket, name.as_str())?;
            at.extend(found.filter(LinkRecord::live).map(|link| (name.clone(), link.index)));
        }
        let Err(failure) = shortcut::change(&mut self.nft(), &at, add, remove) else { return Ok(()) };
        let Err(lacking) = shortcut::offered(&mut self.nft()) else { return Err(failure) };
        self.has_no_shortcuts.store(true, Ordering::Relaxed);
        tracing::info!(
            ?lacking,
            "no shortcuts in this kernel (nft_fwd_netdev): overlay frames go by the bridges, and bridges of the user's hear frames to 01:80:c2:00:00:0x"
        );
        Ok(())
    }

    /// Whether a link that is not going has this number at this port.
    fn is_number_taken(&self, wanted: &Vxlan) -> Result<bool, Failure> {
        let links = link::list(&mut self.route().socket)?;
        let same =
            |link: &link::LinkRecord| link.vxlan.is_some_and(|is| (is.vni, is.port) == (wanted.vni, wanted.port));
        Ok(links.iter().any(|link| !link.dead() && same(link)))
    }

    /// What this host remembers is corrected first, then everybody else is told.
    pub(super) fn announce_endpoint(&self, endpoint: &Announcement) -> Result<(), Failure> {
        let (bridge, port) = {
            let mut route = self.route();
            let bridge = route.bridge(&endpoint.bridge)?.index;
            let port = link::find(&mut route.socket, endpoint.host.as_str())?;
            (bridge, port.ok_or_else(|| Failure::refused(libc::ENODEV, "its sandbox is gone"))?.index)
        };
        for address in &endpoint.addresses {
            neighbour::correct(&mut self.route().socket, bridge, *address, endpoint.mac)?;
        }
        match neighbour::place(&mut self.route().socket, port, endpoint.mac) {
            // Not up yet, or gone meanwhile: then nothing stale is there either.
            Err(failure) if matches!(failure.errno(), Some(libc::EPERM | libc::ENODEV | libc::EINVAL)) => {}
            result => result?,
        }
        let refused = || Failure::refused(libc::EPERM, "Pontoon was started without CAP_NET_RAW");
        let sender = self.sender.as_ref().ok_or_else(refused)?;
        let frames = endpoint.addresses.iter().map(|address| announce::frame(endpoint.mac, *address));
        frames.into_iter().try_for_each(|frame| sender.send(bridge, &frame))
    }
}

fn failure_words(failure: &Failure) -> &str {
    match failure {
        Failure::Refused(verdict) if !verdict.message.is_empty() => &verdict.message,
        _ => "another VXLAN link of this host has this number, choose another pontoon.vni",
    }
}
