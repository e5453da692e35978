//! The records of the ledger: one fact each, with a key, so that a later record replaces an earlier one.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::peers::PeerRecord;
use super::vnis::VniRecord;
use crate::model::{DataPath, Endpoint, EndpointId, LeaseKey, LeaseRecord, Network, NetworkId, Vid, Vni};

/// How durable a record must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives power loss: synced to disk before the answer.
    Synced,
    /// Survives a crash of the process: written to the operating system before the answer. Void after a reboot
    /// of the host, which ends every container.
    Handed,
}

/// An address pool, as RequestPool granted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// The engine's id for it; derived from address space, subnet, range and VLAN.
    pub id: String,
    /// The address space.
    pub space: String,
    /// The subnet.
    pub subnet: IpNetwork,
    /// `--ip-range`: the range for addresses that Pontoon chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNetwork>,
    /// The VLAN given in `--ipam-opt`: pools of two different VLANs may overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// Whether an address of it was ever requested, or a network made with it. An unused pool is the leak of a
    /// lost reply and yields to the next request for its subnet.
    #[serde(default)]
    pub used: bool,
}

/// The holder of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Holder {
    /// The bridge of a network, or another purpose for which the engine requested a gateway.
    Gateway,
    /// An `--aux-address` of a network of Pontoon.
    Aux,
    /// An endpoint of a network of Pontoon.
    Endpoint {
        /// The network.
        network: NetworkId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Allocated, and not (yet) seen in CreateEndpoint. In the pool of a network of Pontoon it is the leak of a
    /// lost reply once the grace period is over; elsewhere (a built-in network with Pontoon's IPAM) it is simply
    /// in use.
    Unclaimed {
        /// When it was allocated, in seconds of the host's monotonic clock.
        since: u64,
    },
    /// Held by an unknown program before the host's last boot: not chosen while other addresses are free, but
    /// granted to a request that names it.
    Stale,
}

/// An allocated address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// The pool's id.
    pub pool: String,
    /// The address.
    pub address: IpAddr,
    /// Its holder.
    pub holder: Holder,
}

/// How the daemon was configured to reach other hosts, for tools that read or repair without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachRecord {
    /// UDP port.
    pub port: u16,
    /// The data path, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPath>,
    /// The peers that the operator configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IpAddr>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "put", rename_all = "snake_case")]
pub enum Record {
    /// A network exists, or changed.
    Network(Box<Network>),
    /// A network and its endpoints were deleted.
    NoNetwork {
        /// The network.
        id: NetworkId,
    },
    /// An endpoint exists, or changed.
    Endpoint(Box<Endpoint>),
    /// An endpoint was deleted.
    NoEndpoint {
        /// Its network.
        network: NetworkId,
        /// The endpoint.
        id: EndpointId,
    },
    /// A pool exists, or changed.
    Pool(PoolRecord),
    /// A pool and its addresses were released.
    NoPool {
        /// The pool.
        id: String,
    },
    /// An address is allocated, or its holder changed.
    Address(AddressRecord),
    /// An address was released.
    NoAddress {
        /// Its pool.
        pool: String,
        /// The address.
        address: IpAddr,
    },
    /// The /48 for IPv6 pools that the user does not choose (RFC 4193), drawn once.
    Ula {
        /// The prefix.
        prefix: IpNetwork,
    },
    /// A peer exists, or its state changed.
    Peer(PeerRecord),
    /// A peer was forgotten.
    NoPeer {
        /// Its address.
        address: IpAddr,
    },
    /// The engine reported the address by which other nodes know this host.
    OwnAddress {
        /// The address.
        address: IpAddr,
    },
    /// The way to other hosts changed.
    Reach(ReachRecord),
    /// A VNI is allocated to a network of the Swarm, or is in quarantine.
    Vni(VniRecord),
    /// A VNI is free.
    NoVni {
        /// The VNI.
        vni: Vni,
    },
    /// The conntrack entries of these container addresses are to be removed: their ports are no longer
    /// published, or the containers are gone.
    Flows {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// An identity has a lease, or its lease changed. Survives a reboot of the host without its times, so that the next
    /// endpoint with the identity gets its address again.
    Lease(Box<LeaseRecord>),
    /// An identity is forgotten.
    NoLease {
        /// The identity.
        key: LeaseKey,
    },
    /// The conntrack entries of these addresses are removed.
    NoFlows {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

impl Record {
    /// The durability of the record. Addresses of gateways and `--aux-address` are as durable as networks, all
    /// others as endpoints.
    pub fn durability(&self) -> Durability {
        match self {
            Record::Network(_)
            | Record::NoNetwork { .. }
            | Record::Pool(_)
            | Record::NoPool { .. }
            | Record::Ula { .. }
            | Record::Peer(_)
            | Record::NoPeer { .. }
            | Record::OwnAddress { .. }
            | Record::Reach(_)
            | Record::Vni(_)
            | Record::NoVni { .. } => Durability::Synced,
            Record::Address(a) if matches!(a.holder, Holder::Gateway | Holder::Aux) => Durability::Synced,
            Record::Address(_)
            | Record::NoAddress { .. }
            | Record::Endpoint(_)
            | Record::NoEndpoint { .. }
            | Record::Lease(_)
            | Record::NoLease { .. }
            | Record::Flows { .. }
            | Record::NoFlows { .. } => Durability::Handed,
        }
    }
}
