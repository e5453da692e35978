//! Operations for overlay networks that take more than one request: creating a VXLAN link whose name or VNI
//! may still belong to a link that is being deleted, and changing fast path entries where the kernel supports them.
//!
//! Part of `LinuxKernel`; `apply` calls it for steps.

use std::sync::atomic::Ordering;

use super::firewall::fastpath;
use super::link::LinkRecord;
use super::netlink::Failure;
use super::{LinuxKernel, feature, link};
use crate::datapath::FastPath;

impl LinuxKernel {
    /// Without support for fast path entries, all frames pass the bridges, and limits of what containers send are refused.
    pub(super) fn change_fastpath(&self, add: &[FastPath], remove: &[FastPath]) -> Result<(), Failure> {
        let needed = add.iter().any(FastPath::is_needed);
        let lacking = || if needed { Err(feature::lacking(feature::FAST_PATH)) } else { Ok(()) };
        if self.has_no_fastpath.load(Ordering::Relaxed) {
            return lacking();
        }
        let mut at = fastpath::Indexes::new();
        for name in add.iter().flat_map(FastPath::links) {
            let found = link::find(&mut self.route().socket, name.as_str())?;
            at.extend(found.filter(LinkRecord::live).map(|link| (name.clone(), link.index)));
        }
        let Err(failure) = fastpath::change(&mut self.nft(), &at, add, remove) else { return Ok(()) };
        let Err(reason) = fastpath::offered(&mut self.nft()) else { return Err(failure) };
        self.has_no_fastpath.store(true, Ordering::Relaxed);
        tracing::info!(
            ?reason,
            "kernel does not support the fast path (nft_fwd_netdev); overlay frames pass the bridges, and user bridges receive frames to 01:80:c2:00:00:0x"
        );
        lacking()
    }
}
