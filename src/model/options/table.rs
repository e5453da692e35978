//! The table of options: every known key, the form of its value and what it does.

pub use super::conflict::{CONFLICT, CONFLICT_WAIT};
pub use super::dhcp::{DHCP, DHCP_HOSTNAME, DHCP_ID, DHCP_PARK, DHCP_REQUEST, DHCP_SERVER, DHCP_TIMEOUT};
pub use super::limits::{CONN_MAX, CONN_RATE, PACKET_RATE, RATE_BURST, RATE_IN, RATE_OUT};
use super::{conflict, dhcp, limits};
use crate::model::access::options::{AUDIT, EGRESS_ALLOW, GROUP, INGRESS_ALLOW, POLICY};
use crate::model::vlan::VID_FORM;

/// Who implements an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Pontoon implements it.
    Pontoon,
    /// The engine implements it for every driver; Pontoon accepts and ignores it.
    Engine,
    /// The built-in driver has it, but this release of Pontoon does not.
    NotYet,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// The key as typed after `-o` or `--driver-opt`.
    pub key: &'static str,
    /// The form of a value.
    pub value: &'static str,
    /// The behaviour when the option is absent.
    pub default: &'static str,
    /// Who implements it.
    pub support: Support,
    /// What it does, in one sentence.
    pub help: &'static str,
}

pub(super) const fn row(
    key: &'static str,
    value: &'static str,
    default: &'static str,
    support: Support,
    help: &'static str,
) -> OptionRow {
    OptionRow { key, value, default, support, help }
}

pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The option that chooses the MTU.
pub const MTU: &str = "com.docker.network.driver.mtu";
pub(super) const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
pub(super) const IFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Key of the option for the gateway mode of IPv4.
pub const GATEWAY_MODE_4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
/// Key of the option for the gateway mode of IPv6.
pub const GATEWAY_MODE_6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
/// Key of the option for the default host address of published ports.
pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Key of the option for the links from which open ports are reachable directly.
pub const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
/// Key of the option for the source address of outbound IPv4.
pub const HOST_IPV4: &str = "com.docker.network.host_ipv4";
/// Key of the option for the source address of outbound IPv6.
pub const HOST_IPV6: &str = "com.docker.network.host_ipv6";
/// Key of the option for the sources that may reach published ports, of a network or an endpoint.
pub const ALLOW: &str = "pontoon.publish.allow";
/// Key of the option for source address validation.
pub const SPOOFCHECK: &str = "pontoon.spoofcheck";
/// Key of the option for an overlay network's VNI.
pub const VNI: &str = "pontoon.vni";
pub(super) const PEERS: &str = "pontoon.peers";
/// Key of the option that keeps broadcasts and multicasts of an overlay network on their hosts.
pub const MULTICAST: &str = "pontoon.multicast";
/// Key of the option whether frames between containers bypass the bridge.
pub(super) const SHORTCUT: &str = "pontoon.shortcut";
/// Key of the option by which Pontoon recognises its own answers to the Swarm.
pub const ALLOCATED: &str = "pontoon.allocated";
/// Key of the option that keeps router advertisements from the containers.
pub const RA: &str = "pontoon.ra";
pub(super) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Key of the option for the untagged VLAN of ports of a bridge, of a network or an endpoint; and in `--ipam-opt`.
pub const VLAN: &str = "pontoon.vlan";
/// Key of the option for the tagged VLANs of an endpoint's port.
pub const TRUNK: &str = "pontoon.vlan.trunk";
/// Key of the option for the parent of the endpoints' links.
pub const PARENT: &str = "parent";
/// Key of the option that chooses the mode of macvlan children.
pub const MACVLAN_MODE: &str = "macvlan_mode";
/// Key of the option that chooses the mode of ipvlan children.
pub const IPVLAN_MODE: &str = "ipvlan_mode";
/// Key of the option that chooses which other children an ipvlan child reaches.
pub const IPVLAN_FLAG: &str = "ipvlan_flag";

/// Key of the option that lets the host and the containers on a parent reach each other.
pub const HOST: &str = "pontoon.host";
const ALLOW_LIST: &str = "[PROTOCOL[:PORTS]@]PEER joined by '+'";

/// Options of `docker network create -o`.
pub const NETWORK_OPTIONS: &[OptionRow] = &[
    row(
        BRIDGE_NAME,
        "link name",
        "derived from the network id",
        Support::Pontoon,
        "Name of the bridge. An existing bridge is used, and never deleted or given other addresses.",
    ),
    row(
        MTU,
        "68 to 65535, bytes",
        "that of the default route's link; on an overlay that of the data path minus 50, over IPv6 minus 70",
        Support::Pontoon,
        "MTU of the bridge and of every endpoint; at least 1280 with IPv6.",
    ),
    row(
        ENABLE_ICC,
        "true or false",
        "true",
        Support::Pontoon,
        "false isolates the containers of this network from each other (bridge port isolation).",
    ),
    row(
        ENABLE_MASQUERADE,
        "true or false",
        "true",
        Support::Pontoon,
        "Outbound traffic gets the address of the host's outgoing link.",
    ),
    row(
        INHIBIT_IPV4,
        "true or false",
        "false",
        Support::Pontoon,
        "true keeps the IPv4 gateway address off the bridge.",
    ),
    row(
        IFACE_PREFIX,
        "1 to 12 characters",
        "eth",
        Support::Pontoon,
        "Prefix of link names in the container; a number follows.",
    ),
    row("com.docker.network.enable_ipv4", "true or false", "true", Support::Engine, "The same as --ipv4."),
    row("com.docker.network.enable_ipv6", "true or false", "false", Support::Engine, "The same as --ipv6."),
    row(
        "com.docker.network.advertise_addr_nmsgs",
        "0 to 3",
        "3",
        Support::Engine,
        "How many unsolicited ARP/NA messages announce an endpoint.",
    ),
    row(
        "com.docker.network.advertise_addr_ms",
        "milliseconds",
        "1000",
        Support::Engine,
        "Time between those messages.",
    ),
    row(
        GATEWAY_MODE_4,
        "nat, nat-unprotected, routed or isolated",
        "nat",
        Support::Pontoon,
        "How IPv4 packets enter and leave; isolated requires --internal.",
    ),
    row(
        GATEWAY_MODE_6,
        "nat, nat-unprotected, routed or isolated",
        "nat",
        Support::Pontoon,
        "How IPv6 packets enter and leave; isolated requires --internal.",
    ),
    row(
        HOST_BINDING,
        "address",
        "0.0.0.0",
        Support::Pontoon,
        "Host address of ports that are published without one; 0.0.0.0 includes all IPv6 addresses.",
    ),
    row(
        TRUSTED,
        "link names joined by ':'",
        "",
        Support::Pontoon,
        "Links of the host from which published ports are reachable at the containers' own addresses.",
    ),
    row(
        "com.docker.network.bridge.default_bridge",
        "true or false",
        "false",
        Support::NotYet,
        "Only for the engine's docker0.",
    ),
    row(HOST_IPV4, "IPv4 address", "that of the outgoing link", Support::Pontoon, "Source address of outbound IPv4."),
    row(HOST_IPV6, "IPv6 address", "that of the outgoing link", Support::Pontoon, "Source address of outbound IPv6."),
    row(ALLOW, "subnets joined by ','", "everyone", Support::Pontoon, "Sources that may reach published ports."),
    row(
        SPOOFCHECK,
        "true or false",
        "true",
        Support::Pontoon,
        "Source address validation: containers can use only their own addresses, also in ARP and neighbour discovery.",
    ),
    row(
        RA,
        "accept or refuse",
        "accept",
        Support::Pontoon,
        "Whether router advertisements reach the containers of a network with a bridge, of which they form addresses and routes of their own. Containers never send any (pontoon.spoofcheck).",
    ),
    row(
        VNI,
        "1 to 16777215",
        "none; with scope global derived from the network id",
        Support::Pontoon,
        "Makes the network an overlay (VXLAN) with this VNI, the same on every host.",
    ),
    row(
        PEERS,
        "addresses joined by ','",
        "",
        Support::Pontoon,
        "Other hosts of this overlay, in addition to those of the Swarm and PONTOON_PEERS.",
    ),
    row(
        MULTICAST,
        "true or false",
        "true",
        Support::Pontoon,
        "Whether broadcasts and multicasts of this overlay are sent to other hosts. ARP and neighbour discovery always are.",
    ),
    row(
        SHORTCUT,
        "true, false or auto",
        "true of overlays, else false",
        Support::Pontoon,
        "Whether frames between containers of this network bypass the bridge and the host's firewall there, as with the engine's overlay. With false they pass FORWARD if bridge-nf-call-iptables is set, and are a quarter slower. With true no rule of other programs decides about traffic between two containers of this network on one host; with auto they bypass it as long as there is no such rule.",
    ),
    row(
        VLAN,
        VID_FORM,
        "",
        Support::Pontoon,
        "Puts the containers into this VLAN of a bridge of your own that filters VLANs: their ports carry it without tags, and no other VLAN. The same in `--ipam-opt` lets networks of different VLANs have the same subnet.",
    ),
    row(
        PARENT,
        "link names, @default or @SUBNET, joined by ','",
        "",
        Support::Pontoon,
        "Attaches containers to this link of the host as its macvlan or ipvlan children, directly on its network. Of several, each host uses the first that it has: a link of this name, that of the default route (@default), or that with an address in a subnet (@192.168.1.0/24). Pontoon does not change it; if a link NAME.VID does not exist, Pontoon creates it on NAME for VLAN VID and deletes it with the last network.",
    ),
    row(
        MACVLAN_MODE,
        "bridge, private, vepa or passthru",
        "bridge",
        Support::Pontoon,
        "Which other children of the parent a macvlan container reaches: bridge all, private none, vepa those reachable through an external switch; passthru gives the parent to one container.",
    ),
    row(
        HOST,
        "true, false, auto, or an address of each family joined by ','",
        "false",
        Support::Pontoon,
        "Whether this host and its macvlan and ipvlan containers reach each other, and containers can publish ports: at the host's own addresses with macvlan and ipvlan_mode=l3 and l3s, at this address with ipvlan. true is refused where it is not possible; auto leaves it off there.",
    ),
    row(
        IPVLAN_MODE,
        "l2, l3 or l3s",
        "l2",
        Support::Pontoon,
        "Makes containers ipvlan children: they share the hardware address of the parent. l2 has broadcasts; l3 and l3s route through the parent, and l3s passes the host's firewall.",
    ),
    row(
        IPVLAN_FLAG,
        "bridge, private or vepa",
        "bridge",
        Support::Pontoon,
        "Which other children of the parent an ipvlan container reaches: bridge all, private none, vepa those reachable through an external switch.",
    ),
    conflict::CONFLICT_ROW,
    conflict::CONFLICT_WAIT_ROW,
    dhcp::ROW,
    dhcp::TIMEOUT_ROW,
    dhcp::PARK_ROW,
    dhcp::SERVER_ROW,
    limits::IN_ROW,
    limits::OUT_ROW,
    limits::BURST_ROW,
    limits::CONN_MAX_ROW,
    limits::CONN_RATE_ROW,
    limits::PACKET_RATE_ROW,
    row(
        POLICY,
        "open, deny-egress, deny-ingress or deny",
        "open",
        Support::Pontoon,
        "Restricts what the containers may send (egress), what may be sent to them (ingress), or both: only what an allow list of the network or the container says passes, and replies.",
    ),
    row(
        EGRESS_ALLOW,
        ALLOW_LIST,
        "everything, unless pontoon.policy says otherwise",
        Support::Pontoon,
        "What the containers may reach, such as tcp:443@world+dns; nothing else passes. An empty value allows nothing.",
    ),
    row(
        INGRESS_ALLOW,
        ALLOW_LIST,
        "everything, unless pontoon.policy says otherwise",
        Support::Pontoon,
        "What may reach the containers, such as tcp:5432@group:app; nothing else passes, also to published ports. An empty value allows nothing.",
    ),
    row(
        AUDIT,
        "true or false",
        "false",
        Support::Pontoon,
        "Lists and pontoon.policy refuse nothing: what they do not allow passes and is recorded for `pontoon policy audit`.",
    ),
    row(
        ALLOCATED,
        "network id",
        "",
        Support::Pontoon,
        "Set by Pontoon on Swarm managers, together with the VNI that it chose; not for users.",
    ),
];

/// Options of `docker run --network name=N,driver-opt=K=V` and `docker network connect --driver-opt`.
pub const ENDPOINT_OPTIONS: &[OptionRow] = &[
    row(
        ALLOW,
        "subnets joined by ','",
        "the network's",
        Support::Pontoon,
        "Sources that may reach this container's published ports.",
    ),
    row(SPOOFCHECK, "true or false", "the network's", Support::Pontoon, "As for the network, for this container only."),
    row(VLAN, VID_FORM, "the network's", Support::Pontoon, "As for the network, for this container only."),
    row(
        TRUNK,
        "VLAN ids and ranges joined by ','",
        "",
        Support::Pontoon,
        "VLANs that this container sends and receives with tags, such as 50-59,70, besides its untagged VLAN.",
    ),
    dhcp::ID_ROW,
    dhcp::HOSTNAME_ROW,
    dhcp::REQUEST_ROW,
    limits::ENDPOINT_IN_ROW,
    limits::ENDPOINT_OUT_ROW,
    limits::ENDPOINT_BURST_ROW,
    limits::ENDPOINT_CONN_MAX_ROW,
    limits::ENDPOINT_CONN_RATE_ROW,
    limits::ENDPOINT_PACKET_RATE_ROW,
    row(
        EGRESS_ALLOW,
        ALLOW_LIST,
        "the network's",
        Support::Pontoon,
        "What this container may reach, in addition to what the network's list allows.",
    ),
    row(
        INGRESS_ALLOW,
        ALLOW_LIST,
        "the network's",
        Support::Pontoon,
        "What may reach this container, in addition to what the network's list allows.",
    ),
    row(AUDIT, "true or false", "the network's", Support::Pontoon, "The same for this container alone."),
    row(
        GROUP,
        "up to 16 names of groups joined by '+'",
        "none",
        Support::Pontoon,
        "Groups of this container: allow lists of the network's containers mean all members of a group with group:NAME. Capital letters count as small ones.",
    ),
    row(
        SYSCTLS,
        "sysctls joined by ','",
        "",
        Support::Engine,
        "Sysctls of the link in the container; engines from 27 on apply them.",
    ),
    row(
        "com.docker.network.endpoint.ifname",
        "link name",
        "",
        Support::NotYet,
        "Name of the link in the container: engines before 29.8 do not pass it to remote drivers, use com.docker.network.container_iface_prefix.",
    ),
];
