//! Why a verb fails. The user sees nothing else of Pontoon ("remote: ..."), so each message is one line that
//! names the object and the remedy.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::conflicts::ConflictError;
use super::leases::LeaseError;
use super::sanity::SanityError;
use crate::datapath::kind::Refusal;
use crate::datapath::{KernelError, ReserveError};
use crate::ipam::IpamError;
use crate::model::{EndpointId, HostPort, IfName, NetworkId, Protocol, Vni};
use crate::state::StoreError;

/// An error of a verb. See the module documentation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings parse but cannot work.
    #[error(transparent)]
    Sanity(#[from] SanityError),
    /// The ledger could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No pool or address satisfies the request.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// Another host has the address, or this cannot be found out.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
    /// No DHCP server or router grants an address, or none can be asked.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The kernel refused the change.
    #[error("{object}: {source}")]
    Kernel {
        /// The network or endpoint.
        object: String,
        /// The kernel's error.
        source: KernelError,
    },
    /// The verb names a network that is not in the state.
    #[error(
        "network {network} is not known to Pontoon (was its state removed?): `docker network rm` it and create it again"
    )]
    UnknownNetwork {
        /// The network.
        network: NetworkId,
    },
    /// The verb names an endpoint that is not in the state.
    #[error("endpoint {endpoint} of network {network} is not known to Pontoon: restart its container")]
    UnknownEndpoint {
        /// The network.
        network: NetworkId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The verb names an object that may be in the ledger of a newer release.
    #[error(
        "{object}: a newer Pontoon wrote the ledger (format {found}, this one reads up to {known}); install the newer release again, nothing is lost"
    )]
    Unread {
        /// The requested object.
        object: String,
        /// The ledger's format version.
        found: u32,
        /// The newest format that this release reads.
        known: u32,
    },
    /// The operator asked to remove an unknown link that must stay.
    #[error("link {link}: {why}; nothing is removed, see pontoon plan")]
    Unknown {
        /// The link.
        link: String,
        /// Why it stays.
        why: String,
    },
    /// CreateNetwork for a known id with other settings, while endpoints use the network.
    #[error("network {network} exists with other settings and {endpoints} endpoints: remove those first")]
    NetworkDiffers {
        /// The network.
        network: NetworkId,
        /// The number of endpoints.
        endpoints: usize,
    },
    /// CreateEndpoint for a known id with other addresses.
    #[error("endpoint {endpoint} of network {network} exists with other addresses: restart its container")]
    EndpointDiffers {
        /// The network.
        network: NetworkId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The subnet is on the bridge of a network that the ledger does not know.
    #[error(
        "subnet {subnet} overlaps {held} of link {link}, which Pontoon's ledger does not know and which may be in use: choose another --subnet, or see `pontoon doctor`"
    )]
    SubnetOfUnknown {
        /// The requested subnet.
        subnet: IpNetwork,
        /// The subnet that is in use.
        held: IpNetwork,
        /// The bridge that has it.
        link: IfName,
    },
    /// The subnets of two networks overlap, so they cannot both be routed.
    #[error("subnet {subnet} overlaps {held} of network {owner}: choose another --subnet")]
    SubnetOverlap {
        /// The requested subnet.
        subnet: IpNetwork,
        /// The subnet that is in use.
        held: IpNetwork,
        /// The network that uses it.
        owner: NetworkId,
    },
    /// The network needs forwarding, which is off and which Pontoon must not turn on.
    #[error(
        "network {network} needs forwarding of {family}, which is off on this host and which PONTOON_IP_FORWARD=false keeps Pontoon from turning on: sysctl -w {setting}=1, or create the network with --internal"
    )]
    Unforwarded {
        /// The network.
        network: NetworkId,
        /// The address family.
        family: &'static str,
        /// The sysctl.
        setting: &'static str,
    },
    /// The subnet's bridge would take packets that the host itself needs.
    #[error(
        "network {network}: its subnet {subnet} {what}, which a bridge with that subnet would cut off: create the network with another --subnet; where Swarm chose this one, `docker swarm init --default-addr-pool` says where it may choose"
    )]
    Endangers {
        /// The network.
        network: NetworkId,
        /// The chosen subnet.
        subnet: IpNetwork,
        /// What the host needs.
        what: String,
    },
    /// Two networks on one bridge would be one segment.
    #[error("bridge {bridge} already carries network {owner}: choose another com.docker.network.bridge.name")]
    BridgeTaken {
        /// The bridge.
        bridge: IfName,
        /// The network that uses it.
        owner: NetworkId,
    },
    /// The bridge belongs to the user and is gone.
    #[error("bridge {bridge}, which network {owner} uses, does not exist: create it first")]
    BridgeMissing {
        /// The bridge.
        bridge: IfName,
        /// The network that uses it.
        owner: NetworkId,
    },
    /// Networks on one link of the user have different settings that apply to the link as a whole.
    #[error(
        "network {network}: {link} already carries network {owner} with {terms}, which applies to all networks on it: choose the same, or another link"
    )]
    LinkTerms {
        /// The network.
        network: NetworkId,
        /// The link.
        link: IfName,
        /// The other network.
        owner: NetworkId,
        /// The settings of the other network.
        terms: String,
    },
    /// The MTU is larger than that of the user bridge.
    #[error(
        "com.docker.network.driver.mtu={mtu} is more than the MTU of bridge {bridge}, {limit}: choose at most that, or raise that of the bridge"
    )]
    MtuOfBridge {
        /// The bridge.
        bridge: IfName,
        /// The requested MTU, in bytes.
        mtu: u32,
        /// The MTU of the bridge, in bytes.
        limit: u32,
    },
    /// com.docker.network.bridge.name is a link of another kind.
    #[error("link {name} is a {kind} link, not a bridge: choose another com.docker.network.bridge.name")]
    NotABridge {
        /// The link.
        name: IfName,
        /// Its kind.
        kind: String,
    },
    /// The option needs rules for the bridge, and this bridge gets none.
    #[error(
        "{option} has no effect on {bridge}, a bridge that Pontoon did not make: remove it, or let Pontoon make the bridge"
    )]
    ForeignBridge {
        /// The bridge.
        bridge: IfName,
        /// The option.
        option: &'static str,
    },
    /// The network has as many endpoints as its kind supports.
    #[error("network {network} has {capacity} endpoints, and its kind takes no more: create another network")]
    Full {
        /// The network.
        network: NetworkId,
        /// The maximum.
        capacity: usize,
    },
    /// The kind of the network does not support this.
    #[error(transparent)]
    Kind(#[from] Refusal),
    /// The address is not in a subnet of the network.
    #[error("address {address} is not in network {network} ({subnets})")]
    AddressOutside {
        /// The requested address.
        address: IpAddr,
        /// The network.
        network: NetworkId,
        /// Its subnets.
        subnets: String,
    },
    /// The port map of the request is invalid.
    #[error(transparent)]
    PortMap(#[from] PortMapError),
    /// Another process uses the port, or the host does not have the address.
    #[error("{source}: {}", port_remedy(.source))]
    Port {
        /// The port and the reason.
        source: ReserveError,
    },
    /// The limit of open files is lower than the number of published ports.
    #[error(
        "{asked} ports are to be published, each takes an open file, and of the limit of {limit} not as many are left: raise it (LimitNOFILE of pontoon.service, or of docker.service for the managed plugin), or publish fewer ports"
    )]
    Descriptors {
        /// The number of ports.
        asked: usize,
        /// The limit.
        limit: u64,
    },
    /// Another endpoint of Pontoon publishes the port.
    #[error("port {port} is already published by endpoint {endpoint} of network {network}: publish another port")]
    PortHeld {
        /// The port.
        port: HostPort,
        /// The network of that endpoint.
        network: NetworkId,
        /// That endpoint.
        endpoint: EndpointId,
    },
    /// No port of the range, or of the ephemeral ports, is free.
    #[error("no {protocol} port {} is free on this host", range(*.first, *.last))]
    RangeFull {
        /// First port of the range; 0 for ephemeral ports.
        first: u16,
        /// Last port of the range.
        last: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// The binding's host address is of a family that the container does not have.
    #[error(
        "a port cannot be published at {address}: the container has no {} address on network {network}; publish it at an address of the other family, or create the network {}",
        if .address.is_ipv4() { "IPv4" } else { "IPv6" },
        if .address.is_ipv4() { "with IPv4" } else { "with --ipv6" }
    )]
    NoFamily {
        /// The host address.
        address: IpAddr,
        /// The network.
        network: NetworkId,
    },
    /// Two overlay networks with one VNI would be one segment.
    #[error("VNI {vni} belongs to network {owner}: choose another pontoon.vni, or none")]
    VniTaken {
        /// The VNI.
        vni: Vni,
        /// The network that has it.
        owner: NetworkId,
    },
    /// The request carries the mark of an allocation that Pontoon never made.
    #[error(
        "network {network}: pontoon.allocated is written by Pontoon itself: remove it, pontoon.vni chooses a number"
    )]
    NotAllocated {
        /// The network.
        network: NetworkId,
    },
    /// An option of overlay networks on a network that does not span hosts.
    #[error("network {network}: {option} is for overlay networks: add pontoon.vni, or remove it")]
    WithoutVni {
        /// The network.
        network: NetworkId,
        /// The option.
        option: &'static str,
    },
    /// An overlay network on a host without a usable underlay address.
    #[error(
        "network {network}: this host has no address for overlay networks: set PONTOON_DATA_PATH to one of its addresses or links"
    )]
    NoUnderlay {
        /// The network.
        network: NetworkId,
    },
    /// The MTU is too large: the tunnel header reduces that of the underlay.
    #[error(
        "network {network}: {mtu} bytes are left of the underlay's MTU of {underlay}, IPv4 needs 68 and IPv6 1280: set PONTOON_DATA_PATH to another link"
    )]
    MtuTooSmall {
        /// The network.
        network: NetworkId,
        /// The network's MTU, in bytes.
        mtu: u32,
        /// The MTU of the underlay link, in bytes.
        underlay: u32,
    },
    /// The request depends on a setting that cannot be used.
    #[error(
        "{object}: {setting}; correct it (`docker plugin set` while the plugin is disabled, or /etc/default/pontoon and a restart)"
    )]
    Setting {
        /// The requested object.
        object: String,
        /// The setting and what is wrong with it.
        setting: String,
    },
}

/// A port map that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("published ports: {what}")]
pub struct PortMapError {
    /// The reason.
    pub what: String,
}

impl Error {
    /// The kernel refused a change of this network.
    pub(super) fn of_network(id: &NetworkId, source: KernelError) -> Self {
        Error::Kernel { object: format!("network {id}"), source }
    }
}

fn port_remedy(error: &ReserveError) -> &'static str {
    match error {
        ReserveError::Taken { .. } => "stop what uses it, or publish another port",
        ReserveError::NoAddress { .. } => {
            "publish at an address that `ip address` shows, or at none, which is every address of the host"
        }
        ReserveError::Refused { errno: libc::EACCES | libc::EPERM, .. } => {
            "publish a port from 1024 on, or give Pontoon CAP_NET_BIND_SERVICE"
        }
        ReserveError::NoDescriptor { .. } | ReserveError::Refused { errno: libc::EMFILE | libc::ENFILE, .. } => {
            "publish fewer ports, or let Pontoon open more files (LimitNOFILE of its unit)"
        }
        ReserveError::Refused { port, .. } if is_link_local(port.address) => {
            "publish at an address that is not link-local, or at none, which is every address of the host"
        }
        ReserveError::Refused { .. } => "publish another port, or at another address",
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn range(first: u16, last: u16) -> String {
    if first == 0 { "of the ephemeral range".to_owned() } else { format!("from {first} to {last}") }
}
