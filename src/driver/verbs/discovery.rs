//! The verbs about nodes: discover_new and discover_delete. With local connectivity they succeed without effect.

use std::net::IpAddr;

use crate::driver::{Driver, Error, now};
use crate::model::Scope;
use crate::state::record::Record;

/// A node of the Swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// An address that a host can have.
    pub address: IpAddr,
    /// Whether it is this one.
    pub own: bool,
}

impl Driver {
    /// Whether the engine reports other nodes to this driver. If not, their reports have no effect.
    pub fn has_connectivity(&self) -> bool {
        self.overlays.settings.effective_connectivity() == Scope::Global
    }

    /// DiscoverNew: reports a node, or the address by which other nodes know this one. Engines send the latter
    /// even to local drivers (protocol.md 5.6).
    pub fn discover_new(&self, node: Node) -> Result<(), Error> {
        let Node { address, own } = node;
        if !self.has_connectivity() {
            return Ok(());
        }
        let state = &mut *self.overlays.lock();
        if !own {
            let announced = state.peers.announced(address);
            if announced.is_some() {
                tracing::info!(peer = %address, "a peer joined");
            }
            return self.overlays.record(state, announced.as_slice());
        }
        if state.advertised() != Some(address) {
            self.overlays.record(state, &[Record::OwnAddress { address }])?;
        }
        self.overlays
            .refresh_underlay(state)
            .map_err(|source| Error::Kernel { object: format!("own address {address}"), source })
    }

    /// DiscoverDelete: a hint that a node left; see `state::peers` for how it is handled.
    pub fn discover_delete(&self, node: Node) -> Result<(), Error> {
        let Node { address, own } = node;
        if own || !self.has_connectivity() {
            return Ok(());
        }
        let state = &mut *self.overlays.lock();
        let doubted = state.peers.doubted(address, now());
        if doubted.is_some() {
            tracing::info!(peer = %address, "Swarm reports that a peer left: keeping its tunnel until it is silent");
        }
        self.overlays.record(state, doubted.as_slice())
    }
}
