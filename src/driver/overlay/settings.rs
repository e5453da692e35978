//! The operator's settings for overlay networks.

use std::net::IpAddr;

use crate::model::{DataPath, Scope, overlay};
use crate::state::record::{ReachRecord, Record};

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct OverlaySettings {
    /// The scope of networks.
    pub scope: Scope,
    /// The scope of service discovery as configured; [`OverlaySettings::effective_connectivity`] is what the engine
    /// is told.
    pub connectivity: Scope,
    /// UDP port.
    pub port: u16,
    /// The data path to other hosts; `None` uses that of the Swarm, or else the default route.
    pub data_path: Option<DataPath>,
    /// Other hosts besides those that the Swarm names.
    pub peers: Vec<IpAddr>,
}

impl Default for OverlaySettings {
    fn default() -> Self {
        let (scope, connectivity) = (Scope::Local, Scope::Local);
        Self { scope, connectivity, port: overlay::VXLAN_PORT, data_path: None, peers: Vec::new() }
    }
}

impl OverlaySettings {
    /// Whether the engine distributes discovery of nodes and names of containers: always for networks of the
    /// Swarm, for local networks when configured.
    pub fn effective_connectivity(&self) -> Scope {
        if self.scope == Scope::Global { Scope::Global } else { self.connectivity }
    }

    /// The settings of the daemon that wrote these records.
    pub fn of_records(records: &[Record]) -> Self {
        let last = records.iter().rev().find_map(|record| match record {
            Record::Reach(reach) => Some(reach.clone()),
            _ => None,
        });
        let Some(ReachRecord { port, data_path, peers }) = last else { return Self::default() };
        Self { port, data_path, peers, ..Self::default() }
    }

    pub(super) fn record(&self) -> ReachRecord {
        ReachRecord { port: self.port, data_path: self.data_path.clone(), peers: self.peers.clone() }
    }
}
