//! Owns why a verb fails. The message is all a user sees of Pontoon ("remote: ..."), so each is
//! one line that names the object and the remedy.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::sanity::SanityError;
use super::spec::SpecError;
use crate::datapath::kind::Refusal;
use crate::datapath::{KernelError, ReserveError};
use crate::ipam::IpamError;
use crate::model::id::IdError;
use crate::model::{EndpointId, HostPort, IfName, NetworkId, Protocol, Vni};
use crate::state::StoreError;

/// See the module's text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's values do not parse.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The settings parse, and cannot work.
    #[error(transparent)]
    Sanity(#[from] SanityError),
    /// The ledger did not take a record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No pool or address for this request.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The kernel refused.
    #[error("{object}: {source}")]
    Kernel {
        /// Which network or endpoint.
        object: String,
        /// What the kernel said.
        source: KernelError,
    },
    /// A verb for a network that is not in the state.
    #[error(
        "network {network} is not known to Pontoon (was its state removed?): `docker network rm` it and create it again"
    )]
    UnknownNetwork {
        /// Which.
        network: NetworkId,
    },
    /// A verb for an endpoint that is not in the state.
    #[error("endpoint {endpoint} of network {network} is not known to Pontoon: restart its container")]
    UnknownEndpoint {
        /// The network.
        network: NetworkId,
        /// Which.
        endpoint: EndpointId,
    },
    /// A verb for something that may be in a ledger of a newer release.
    #[error(
        "{object}: a newer Pontoon wrote the ledger (format {found}, this one reads up to {known}); install the newer release again, nothing is lost"
    )]
    Unread {
        /// What was asked for.
        object: String,
        /// The ledger's format.
        found: u32,
        /// The newest that this release reads.
        known: u32,
    },
    /// A link that is to be removed although the state does not know it.
    #[error("link {link}: {why}; nothing is removed, see pontoon plan")]
    Unknown {
        /// Which.
        link: String,
        /// Why it stays.
        why: String,
    },
    /// CreateNetwork for a known id with other settings, while endpoints use the network.
    #[error("network {network} exists with other settings and {endpoints} endpoints: remove those first")]
    NetworkDiffers {
        /// Which.
        network: NetworkId,
        /// How many endpoints.
        endpoints: usize,
    },
    /// CreateEndpoint for a known id with other addresses.
    #[error("endpoint {endpoint} of network {network} exists with other addresses: restart its container")]
    EndpointDiffers {
        /// The network.
        network: NetworkId,
        /// Which.
        endpoint: EndpointId,
    },
    /// A network that the ledger does not know may run there.
    #[error(
        "subnet {subnet} overlaps {held} of link {link}, which Pontoon's ledger does not know and which may be in use: choose another --subnet, or see `pontoon doctor`"
    )]
    SubnetOfUnknown {
        /// As asked for.
        subnet: IpNetwork,
        /// The other one.
        held: IpNetwork,
        /// The bridge that has it.
        link: IfName,
    },
    /// Two networks with common addresses cannot both be routed.
    #[error("subnet {subnet} overlaps {held} of network {owner}: choose another --subnet")]
    SubnetOverlap {
        /// As asked for.
        subnet: IpNetwork,
        /// The other one.
        held: IpNetwork,
        /// Whose.
        owner: NetworkId,
    },
    /// A network that needs forwarding, which is off and which Pontoon is not to turn on.
    #[error(
        "network {network} needs forwarding of {family}, which is off on this host and which PONTOON_IP_FORWARD=false keeps Pontoon from turning on: sysctl -w {setting}=1, or create the network with --internal"
    )]
    Unforwarded {
        /// Which.
        network: NetworkId,
        /// The family.
        family: &'static str,
        /// Its setting.
        setting: &'static str,
    },
    /// A subnet whose bridge would take packets that the host itself needs.
    #[error(
        "network {network}: its subnet {subnet} {what}, which a bridge with that subnet would cut off: create the network with another --subnet; where Swarm chose this one, `docker swarm init --default-addr-pool` says where it may choose"
    )]
    Endangers {
        /// Which.
        network: NetworkId,
        /// As chosen.
        subnet: IpNetwork,
        /// What of the host's.
        what: String,
    },
    /// Two networks on one bridge would be one segment.
    #[error("bridge {bridge} already carries network {owner}: choose another com.docker.network.bridge.name")]
    BridgeTaken {
        /// The bridge.
        bridge: IfName,
        /// Whose.
        owner: NetworkId,
    },
    /// com.docker.network.bridge.name is a link of another kind.
    #[error("link {name} is a {kind} link, not a bridge: choose another com.docker.network.bridge.name")]
    NotABridge {
        /// The name.
        name: IfName,
        /// Its kind.
        kind: String,
    },
    /// An option that works through rules for the bridge, and a bridge that gets none.
    #[error(
        "{option} has no effect on {bridge}, a bridge that Pontoon did not make: remove it, or let Pontoon make the bridge"
    )]
    ForeignBridge {
        /// The bridge.
        bridge: IfName,
        /// Which option.
        option: &'static str,
    },
    /// No more endpoints.
    #[error("network {network} has {capacity} endpoints, and its kind takes no more: create another network")]
    Full {
        /// Which.
        network: NetworkId,
        /// How many it takes.
        capacity: usize,
    },
    /// What the kind of a network cannot do.
    #[error(transparent)]
    Kind(#[from] Refusal),
    /// An address that the network does not have.
    #[error("address {address} is not in network {network} ({subnets})")]
    AddressOutside {
        /// As asked for.
        address: IpAddr,
        /// The network.
        network: NetworkId,
        /// Its subnets.
        subnets: String,
    },
    /// The port map of a request is not one.
    #[error("published ports: {what}")]
    PortMap {
        /// What is wrong with it.
        what: String,
    },
    /// Another process has the port, or the host does not have the address.
    #[error("{source}: {}", port_remedy(.source))]
    Port {
        /// Which and why.
        source: ReserveError,
    },
    /// The limit of open files is below what is published.
    #[error(
        "{asked} ports are to be published, each takes an open file, and of the limit of {limit} not as many are left: raise it (LimitNOFILE of pontoon.service, or of docker.service for the managed plugin), or publish fewer ports"
    )]
    Descriptors {
        /// How many ports.
        asked: usize,
        /// The limit.
        limit: u64,
    },
    /// Another endpoint of ours has the port.
    #[error("port {port} is already published by endpoint {endpoint} of network {network}: publish another port")]
    PortHeld {
        /// Which.
        port: HostPort,
        /// Whose network.
        network: NetworkId,
        /// Whose.
        endpoint: EndpointId,
    },
    /// No port of a range, or of the ephemeral ports, is free.
    #[error("no {protocol} port {} is free on this host", range(*.first, *.last))]
    RangeFull {
        /// First of the range; 0 for ephemeral ports.
        first: u16,
        /// Last of the range.
        last: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// A binding to a host address of a family that the container does not have.
    #[error(
        "a port cannot be published at {address}: the container has no {} address on network {network}; publish it at an address of the other family, or create the network {}",
        if .address.is_ipv4() { "IPv4" } else { "IPv6" },
        if .address.is_ipv4() { "with IPv4" } else { "with --ipv6" }
    )]
    NoFamily {
        /// The host's address.
        address: IpAddr,
        /// The network.
        network: NetworkId,
    },
    /// Two overlay networks on one number would be one segment.
    #[error("VNI {vni} belongs to network {owner}: choose another pontoon.vni, or none")]
    VniTaken {
        /// The number.
        vni: Vni,
        /// Whose.
        owner: NetworkId,
    },
    /// The mark of a choice that Pontoon never made.
    #[error(
        "network {network}: pontoon.allocated is written by Pontoon itself: remove it, pontoon.vni chooses a number"
    )]
    NotAllocated {
        /// Which.
        network: NetworkId,
    },
    /// An option of overlay networks on a network that reaches no other host anyway.
    #[error("network {network}: {option} is for overlay networks: add pontoon.vni, or remove it")]
    WithoutVni {
        /// Which.
        network: NetworkId,
        /// The option.
        option: &'static str,
    },
    /// An overlay network on a host that does not know where its packets should leave.
    #[error(
        "network {network}: this host has no address for overlay networks: set PONTOON_DATA_PATH to one of its addresses or links"
    )]
    NoUnderlay {
        /// Which.
        network: NetworkId,
    },
    /// A tunnel takes its bytes off every packet.
    #[error(
        "network {network}: {mtu} bytes are left of the underlay's MTU of {underlay}, IPv4 needs 68 and IPv6 1280: set PONTOON_DATA_PATH to another link"
    )]
    MtuTooSmall {
        /// Which.
        network: NetworkId,
        /// What it would have.
        mtu: u32,
        /// What the link has.
        underlay: u32,
    },
    /// A setting that the request depends on cannot be used.
    #[error(
        "{object}: {setting}; correct it (`docker plugin set` while the plugin is disabled, or /etc/default/pontoon and a restart)"
    )]
    Setting {
        /// What was asked for.
        object: String,
        /// The setting, and what is wrong with it.
        setting: String,
    },
    /// A value under one of the engine's keys cannot be read.
    #[error("{what} {text:?} is not an address")]
    NotAnAddress {
        /// Which field.
        what: &'static str,
        /// The text.
        text: String,
    },
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Error::Spec(error.into())
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
