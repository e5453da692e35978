//! Why an address conflict refuses a network, an endpoint or an address.

use std::net::IpAddr;

use crate::model::{IfName, Mac, NetworkId, options};

/// See the module documentation. Each message is one line with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConflictError {
    /// Another host has the address.
    #[error(
        "network {network}: another host on {link} already has the address {address} (hardware address {other}): choose another --ip, or take the address from that host; -o {}=report starts containers nevertheless",
        options::CONFLICT
    )]
    Taken {
        /// The network.
        network: NetworkId,
        /// The address.
        address: IpAddr,
        /// The link on whose network the other host is.
        link: IfName,
        /// Its hardware address.
        other: Mac,
    },
    /// This host has the address.
    #[error(
        "network {network}: this host itself has the address {address}: choose another --ip, or create the network with an --ip-range without it"
    )]
    OfHost {
        /// The network.
        network: NetworkId,
        /// The address.
        address: IpAddr,
    },
    /// A host has the address that this host is to have on the network.
    #[error("network {network}: {}={address} is not free, {holder} has it: choose another address", options::HOST)]
    HostAddress {
        /// The network.
        network: NetworkId,
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: String,
    },
    /// Other hosts have all addresses that were tried.
    #[error(
        "requesting an address of pool {pool}: other hosts on {link} have all {tried} free addresses that were tried: choose an --ip-range that no other host uses"
    )]
    AllTaken {
        /// The pool's id.
        pool: String,
        /// The link on whose network they are.
        link: IfName,
        /// The number of addresses.
        tried: usize,
    },
    /// The network has no other hosts.
    #[error(
        "network {network}: {option} has an effect only where other hosts are, on a bridge of the user (without pontoon.vlan), macvlan or ipvlan l2: remove it"
    )]
    NoLan {
        /// The network.
        network: NetworkId,
        /// The option.
        option: &'static str,
    },
    /// Probes are not possible.
    #[error(
        "network {network}: {}=refuse is not possible without packet sockets: give Pontoon CAP_NET_RAW when it starts, or remove the option",
        options::CONFLICT
    )]
    NoProbes {
        /// The network.
        network: NetworkId,
    },
}
