//! Owns the ways in which a pool or an address is refused. Each message is one line with a remedy.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{GLOBAL_SPACE, LOCAL_SPACE};
use crate::model::EndpointId;

/// Why a pool or an address is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// The engine asked in an address space that is not ours.
    #[error("requesting a pool: address space {space:?} is not known, there are {LOCAL_SPACE:?} and {GLOBAL_SPACE:?}")]
    Space {
        /// As asked for.
        space: String,
    },
    /// `--subnet` names an address instead of a network.
    #[error("requesting pool {pool}: it has host bits; write {network}")]
    HostBits {
        /// As asked for.
        pool: IpNetwork,
        /// Without the host bits.
        network: IpNetwork,
    },
    /// `--ip-range` is not a part of `--subnet`.
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
    /// Another pool is in the way.
    #[error(
        "requesting pool {pool}: it overlaps {other} ({by}); choose another --subnet, or remove what uses that one"
    )]
    Overlap {
        /// As asked for.
        pool: IpNetwork,
        /// The pool in the way.
        other: IpNetwork,
        /// What uses it.
        by: String,
    },
    /// No default pool is left.
    #[error(
        "requesting an {family} pool: all {count} default pools of size /{size} overlap a pool, a route or a resolver of this host; remove a network, name one with --subnet, or add default pools with --default-address-pools"
    )]
    Exhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many default pools there are.
        count: u128,
        /// Prefix length asked for, or that of the first default pool.
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
    /// The default pools cannot hold what was asked for.
    #[error(
        "requesting an {family} pool: no default pool has room for a /{size}; name one with --subnet, or add a larger default pool with --default-address-pools"
    )]
    NoneSoLarge {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Prefix length asked for.
        size: u8,
    },
    /// The pool's id is of nobody's making, or of a pool that is gone.
    #[error("requesting an address: pool {id:?} is not known; remove the network and create it again")]
    UnknownPool {
        /// As asked for.
        id: String,
    },
    /// The address belongs elsewhere.
    #[error("requesting {address}: it is not in pool {pool}; choose one inside it")]
    Outside {
        /// As asked for.
        address: IpAddr,
        /// The pool's subnet.
        pool: IpNetwork,
    },
    /// The address means something to everybody in the subnet.
    #[error("requesting {address}: it is the {what} address of pool {pool}; choose another")]
    Reserved {
        /// As asked for.
        address: IpAddr,
        /// The pool's subnet.
        pool: IpNetwork,
        /// `network`, `broadcast` or `subnet-router anycast`.
        what: &'static str,
    },
    /// Somebody has the address.
    #[error("requesting {address} of pool {pool}: it is taken ({by}); choose another, or remove what holds it")]
    Taken {
        /// As asked for.
        address: IpAddr,
        /// The pool's subnet.
        pool: IpNetwork,
        /// Who has it.
        by: String,
    },
    /// The address of an endpoint is somebody else's by now.
    #[error(
        "attaching endpoint {endpoint}: its address {address} is taken ({by}); start the container again to get another"
    )]
    Claimed {
        /// The endpoint that came later.
        endpoint: EndpointId,
        /// Its address.
        address: IpAddr,
        /// Who has it.
        by: String,
    },
    /// Every address is taken.
    #[error(
        "requesting an address: all {count} addresses of {place} are taken: {by}; remove some, or create the network with a larger subnet"
    )]
    Full {
        /// How many there are.
        count: u128,
        /// The pool's subnet, or its range and the subnet.
        place: String,
        /// Counts by kind of holder.
        by: String,
    },
    /// A default pool of the configuration does not parse.
    #[error("default address pool {given:?}: {what}; write base=10.96.0.0/12,size=24")]
    DefaultPool {
        /// As given.
        given: String,
        /// What is wrong with it.
        what: String,
    },
}
