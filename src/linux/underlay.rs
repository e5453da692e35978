//! Operations for overlay networks that take more than one request: creating a VXLAN link whose name or VNI
//! may still belong to a link that is being deleted, changing fast path entries where the kernel supports them, and
//! announcing an endpoint.
//!
//! Part of `LinuxKernel`; `apply` calls it for steps.

use std::sync::atomic::Ordering;

use super::firewall::fastpath;
use super::link::LinkRecord;
use super::netlink::Failure;
use super::{LinuxKernel, announcement, link, neighbour};
use crate::datapath::{Announcement, FastPath};

impl LinuxKernel {
    /// Without support for fast path entries, all frames pass the bridges.
    pub(super) fn change_fastpath(&self, add: &[FastPath], remove: &[FastPath]) -> Result<(), Failure> {
        if self.has_no_fastpath.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut at = fastpath::Indexes::new();
        for name in add.iter().filter_map(FastPath::link) {
            let found = link::find(&mut self.route().socket, name.as_str())?;
            at.extend(found.filter(LinkRecord::live).map(|link| (name.clone(), link.index)));
        }
        let Err(failure) = fastpath::change(&mut self.nft(), &at, add, remove) else { return Ok(()) };
        let Err(lacking) = fastpath::offered(&mut self.nft()) else { return Err(failure) };
        self.has_no_fastpath.store(true, Ordering::Relaxed);
        tracing::info!(
            ?lacking,
            "kernel does not support the fast path (nft_fwd_netdev); overlay frames pass the bridges, and user bridges receive frames to 01:80:c2:00:00:0x"
        );
        Ok(())
    }

    /// Corrects this host's own entries first, then announces the endpoint to the others.
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
            // Not up yet, or deleted meanwhile: then no stale entry exists either.
            Err(failure) if matches!(failure.errno(), Some(libc::EPERM | libc::ENODEV | libc::EINVAL)) => {}
            result => result?,
        }
        let refused = || Failure::refused(libc::EPERM, "Pontoon was started without CAP_NET_RAW");
        let sender = self.sender.as_ref().ok_or_else(refused)?;
        let frames = endpoint.addresses.iter().map(|address| announcement::frame(endpoint.mac, *address));
        frames.into_iter().try_for_each(|frame| sender.send(bridge, &frame))
    }
}
