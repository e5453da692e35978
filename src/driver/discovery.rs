//! Owns the verbs that concern other nodes: discover_new, discover_delete, allocate_network and
//! free_network. With the local scope nothing follows from them, and they succeed.

use super::{Driver, Error};
use crate::api::Empty;
use crate::api::network::{AllocateNetworkRequest, AllocateNetworkResponse, DiscoverRequest, NetworkRequest};
use crate::model::NetworkId;

impl Driver {
    /// DiscoverNew: engines send the own node even to local drivers (protocol.md 5.6).
    pub fn discover_new(&self, request: DiscoverRequest) -> Empty {
        tracing::debug!(kind = request.discovery_type, "discovery is of no use to networks of the local scope");
        Empty {}
    }

    /// DiscoverDelete.
    pub fn discover_delete(&self, request: DiscoverRequest) -> Empty {
        self.discover_new(request)
    }

    /// AllocateNetwork: what is not echoed is lost to the nodes.
    pub fn allocate_network(&self, request: AllocateNetworkRequest) -> Result<AllocateNetworkResponse, Error> {
        NetworkId::parse(&request.network_id)?;
        Ok(AllocateNetworkResponse { options: request.options })
    }

    /// FreeNetwork.
    pub fn free_network(&self, request: NetworkRequest) -> Result<Empty, Error> {
        NetworkId::parse(&request.network_id)?;
        Ok(Empty {})
    }
}
