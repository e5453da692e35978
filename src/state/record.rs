//! Owns the records of the ledger: one fact each, keyed, so that a later one replaces an earlier.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::peers::PeerRecord;
use super::vnis::VniRecord;
use crate::model::{DataPath, Endpoint, EndpointId, Network, NetworkId, Vni};

/// How long a record must live (design: durability has two classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives power loss: synced to disk before the answer.
    Synced,
    /// Survives the death of the process: handed to the operating system before the answer.
    /// Void after a reboot of the host, which ends every container.
    Handed,
}

/// An address pool, as RequestPool granted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// What the engine calls it ever after; derived from address space, subnet and range.
    pub id: String,
    /// The address space.
    pub space: String,
    /// The subnet.
    pub subnet: IpNetwork,
    /// `--ip-range`: where addresses that nobody chose come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNetwork>,
    /// Whether an address of it was ever requested, or a network made with it. A pool that was
    /// not is the leak of a lost reply and gives way to the next request for its subnet.
    #[serde(default)]
    pub used: bool,
}

/// Who an address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Holder {
    /// The bridge of a network, or whatever the engine set it aside for as a gateway.
    Gateway,
    /// An `--aux-address` of a network that Pontoon carries.
    Aux,
    /// An endpoint of a network that Pontoon carries.
    Endpoint {
        /// The network.
        network: NetworkId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Requested, and not (yet) seen in CreateEndpoint. In the pool of a network that Pontoon
    /// carries it is the leak of a lost reply once the grace period is over; elsewhere (a
    /// built-in network with Pontoon's IPAM) it is simply in use.
    Unclaimed {
        /// When it was requested, seconds of the host's monotonic clock.
        since: u64,
    },
    /// Was held by something unknown before the host's last boot: not given out by choice while
    /// others are free, but granted to whoever names it.
    Stale,
}

/// An address that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// The pool's id.
    pub pool: String,
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub holder: Holder,
}

/// How the daemon was told to reach other hosts, for who looks or repairs in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachRecord {
    /// UDP port.
    pub port: u16,
    /// The way to them, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPath>,
    /// Those that the operator names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IpAddr>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "put", rename_all = "snake_case")]
pub enum Record {
    /// A network is, or is changed.
    Network(Box<Network>),
    /// A network is no more, nor are its endpoints.
    NoNetwork {
        /// Which.
        id: NetworkId,
    },
    /// An endpoint is, or is changed.
    Endpoint(Box<Endpoint>),
    /// An endpoint is no more.
    NoEndpoint {
        /// Its network.
        network: NetworkId,
        /// Which.
        id: EndpointId,
    },
    /// A pool is, or is changed.
    Pool(PoolRecord),
    /// A pool is no more, nor are its addresses.
    NoPool {
        /// Which.
        id: String,
    },
    /// An address is taken, or changes hands.
    Address(AddressRecord),
    /// An address is free.
    NoAddress {
        /// Its pool.
        pool: String,
        /// Which.
        address: IpAddr,
    },
    /// The /48 that IPv6 pools come from when the user names none (RFC 4193), drawn once.
    Ula {
        /// The prefix.
        prefix: IpNetwork,
    },
    /// Another host is known, or is judged anew.
    Peer(PeerRecord),
    /// Another host is forgotten.
    NoPeer {
        /// Its address.
        address: IpAddr,
    },
    /// The engine said which address of this host's other nodes know it by.
    OwnAddress {
        /// The address.
        address: IpAddr,
    },
    /// Other hosts are reached in another way than before.
    Reach(ReachRecord),
    /// A number is granted to a network of the Swarm, or rests.
    Vni(VniRecord),
    /// A number is free.
    NoVni {
        /// Which.
        vni: Vni,
    },
    /// The tracked connections of these containers' addresses are to be removed: ports that they
    /// published are not any more, or they are gone themselves.
    Flows {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Those of these addresses are removed.
    NoFlows {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

impl Record {
    /// Which class the record belongs to. Addresses of gateways and `--aux-address` belong to
    /// networks, all others to what runs.
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
            | Record::Flows { .. }
            | Record::NoFlows { .. } => Durability::Handed,
        }
    }
}
