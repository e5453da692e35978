//! Why a pool or an address is refused. Each message is one line with a remedy.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{GLOBAL_SPACE, LOCAL_SPACE};
use crate::model::{EndpointId, NetworkId, Vid};

/// Why a pool or an address is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// The requested address space is unknown.
    #[error("requesting a pool: address space {space:?} is not known, there are {LOCAL_SPACE:?} and {GLOBAL_SPACE:?}")]
    Space {
        /// The requested space.
        space: String,
    },
    /// `--subnet` is an address instead of a network.
    #[error("requesting pool {pool}: it has host bits; write {network}")]
    HostBits {
        /// The requested subnet.
        pool: IpNetwork,
        /// The subnet without host bits.
        network: IpNetwork,
    },
    /// `--ip-range` is not part of `--subnet`.
    #[error("requesting pool {pool}: the range {range} is not inside it; choose an --ip-range within the --subnet")]
    Range {
        /// The subnet.
        pool: IpNetwork,
        /// The range.
        range: IpNetwork,
    },
    /// `--ip-range` without `--subnet`.
    #[error("requesting a pool: the range {range} needs a subnet around it; add --subnet")]
    RangeAlone {
        /// The range.
        range: IpNetwork,
    },
    /// The pool overlaps another one.
    #[error(
        "requesting pool {pool}: it overlaps {other} ({by}); choose another --subnet, or remove what uses that one"
    )]
    Overlap {
        /// The requested subnet.
        pool: IpNetwork,
        /// The other pool.
        other: IpNetwork,
        /// What uses the other pool.
        by: String,
    },
    /// The pool of a network was requested for another VLAN.
    #[error(
        "network {network}: the pool of its subnet {pool} is for VLAN {of}: give --ipam-opt and -o the same pontoon.vlan"
    )]
    OtherVlan {
        /// The subnet.
        pool: IpNetwork,
        /// The VLAN of the pool.
        of: Vid,
        /// The network.
        network: NetworkId,
    },
    /// No default pool is free.
    #[error(
        "requesting an {family} pool: all {count} default pools of size /{size} overlap a pool, a route or a resolver of this host; remove a network, name one with --subnet, or add default pools with --default-address-pools"
    )]
    Exhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The number of default pools.
        count: u128,
        /// The requested prefix length, or that of the first default pool.
        size: u8,
    },
    /// The configuration has no block of this family.
    #[error(
        "requesting an {family} pool: there are no default pools; name one with --subnet, or add some with --default-address-pools"
    )]
    NoDefaults {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The default pools are too small for the requested prefix length.
    #[error(
        "requesting an {family} pool: no default pool has room for a /{size}; name one with --subnet, or add a larger default pool with --default-address-pools"
    )]
    NoneSoLarge {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The requested prefix length.
        size: u8,
    },
    /// The pool's id is invalid, or the pool was released.
    #[error("requesting an address: pool {id:?} is not known; remove the network and create it again")]
    UnknownPool {
        /// The requested id.
        id: String,
    },
    /// The address is not in the pool.
    #[error("requesting {address}: it is not in pool {pool}; choose one inside it")]
    Outside {
        /// The requested address.
        address: IpAddr,
        /// The pool's subnet.
        pool: IpNetwork,
    },
    /// The address has a special meaning in the subnet.
    #[error("requesting {address}: it is the {what} address of pool {pool}; choose another")]
    Reserved {
        /// The requested address.
        address: IpAddr,
        /// The pool's subnet.
        pool: IpNetwork,
        /// `network`, `broadcast` or `subnet-router anycast`.
        what: &'static str,
    },
    /// The address is in use.
    #[error("requesting {address} of pool {pool}: it is taken ({by}); choose another, or remove what uses it")]
    Taken {
        /// The requested address.
        address: IpAddr,
        /// The pool's subnet.
        pool: IpNetwork,
        /// The holder.
        by: String,
    },
    /// The address of an endpoint now has another holder.
    #[error(
        "attaching endpoint {endpoint}: its address {address} is taken ({by}); start the container again to get another"
    )]
    Claimed {
        /// The endpoint that came later.
        endpoint: EndpointId,
        /// Its address.
        address: IpAddr,
        /// The holder.
        by: String,
    },
    /// All addresses are in use.
    #[error(
        "requesting an address: all {count} addresses of {place} are taken: {by}; remove some, or create the network with a larger subnet"
    )]
    Full {
        /// The number of addresses.
        count: u128,
        /// The pool's subnet, or its range and the subnet.
        place: String,
        /// Numbers by kind of holder.
        by: String,
    },
    /// A default pool of the configuration does not parse.
    #[error("default address pool {given:?}: {what}; write base=10.96.0.0/12,size=24")]
    DefaultPool {
        /// The given text.
        given: String,
        /// What is wrong with it.
        what: String,
    },
}
