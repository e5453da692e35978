//! Links of the host as the driver looks them up: any link by its name, and the ports of a bridge.

use super::{GROUP_DEAD, GROUP_LIVE};
use crate::model::{IfName, Mac, PortVlans};

/// One link, looked up by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Kind as the kernel names it: `bridge`, `veth`, ... ; empty for physical links.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Interface group.
    pub group: u32,
    /// Hardware address, when it is an Ethernet link.
    pub mac: Option<Mac>,
    /// Whether it is one end of a pair whose other end is in another network namespace.
    pub away: bool,
    /// Whether it is a bridge that filters VLANs.
    pub filters_vlans: bool,
}

/// A port of a bridge, or the bridge itself, with its VLANs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// The link.
    pub link: IfName,
    /// Whether Pontoon created it.
    pub ours: bool,
    /// Its VLANs.
    pub vlans: PortVlans,
}

impl LinkInfo {
    /// Whether Pontoon created it, in this or an earlier life.
    pub fn is_ours(&self) -> bool {
        matches!(self.group, GROUP_LIVE | GROUP_DEAD)
    }
}
