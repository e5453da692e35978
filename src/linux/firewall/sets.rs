//! Sets and maps of Pontoon's tables: their names, the types of their keys and values, and their purposes.
//!
//! Pure. Used by `elements`, which has the policy that they hold, by the rules, and by `tables`.

use nft::DataType::{Family, Index, Link, Mac, Mark, Port, Protocol, V4, V6, Vlan};
use nft::Set as Spec;
use nft::Stateful;
use nft::message::{BRIDGE, IPV4, IPV6};

use crate::datapath::LinkProperty;
use crate::model::{self, overlay::FDB_AGEING};

const PUBLISHED: &str = "ports published on all addresses of the host, and their containers";
const PUBLISHED_AT: &str = "ports published on one address of the host, and their containers";
const OPEN_PORTS: &str = "container ports reachable without translation, from trusted links and in mode routed";
const UNPROTECTED: &str = "bridges of networks in mode nat-unprotected";
const ROUTED: &str = "bridges of networks in mode routed";
const MASQUERADED: &str = "subnets to masquerade";
const SOURCE_NAT: &str = "subnets and their source address (host_ipv4, host_ipv6)";
const SOURCE_FILTERED: &str = "containers with an allow list";
const ALLOWED_SOURCES: &str = "container and its allowed sources";
const SOURCE_ADDRESSES: &str = "addresses that a port may send from";
const SOURCES: &str = "port, MAC address and address of its packets, for one look-up";
const PEERS: &str = "peers of overlay networks";
const TUNNEL_ADDRESSES: &str = "local address of the tunnels";
const ANNOUNCED: &str = "tunnels, and addresses recently announced through them";
const PRIVILEGED_SENDERS: &str = "peers and VNIs recently seen with source ports below 1024";
const UNKNOWN_SENDERS: &str = "hosts that are not peers and recently sent to overlay networks";
/// Maximum size of such a set, and its timeout in milliseconds: that of the tunnels' forwarding entries.
const RECORDED_MAX: u32 = 65_536;
const RECORDED_TIMEOUT: u64 = FDB_AGEING.as_millis() as u64;
const UNKNOWN_SENDERS_MAX: u32 = 1024;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const GATEWAYS: &str = "tunnel and the IP address of its network's gateway";
const FORWARDING_LINKS: &str = "links that forwarded before Pontoon turned forwarding on";
const USER_BRIDGE_CONTAINERS: &str = "containers on bridges of the user";
const STATIONS: &str = "containers on a parent that the host reaches";
const BRIDGE_ADDRESSES: &str = "addresses of the host on the bridges of networks";
const ANY_ADDRESS: &str = "ports that may send from any address";

const EGRESS: &str = "containers with an egress list";
const INGRESS: &str = "containers with an ingress list";
const EGRESS_AUDITED: &str = "containers whose egress list is only audited";
const INGRESS_AUDITED: &str = "containers whose ingress list is only audited";
const RECORDS: &str = "link to the peer, audited container, and what its list does not allow";
const RECORD_RATE: &str = "audited containers, and how many new records they may have";
const UNRECORDED: &str = "audited containers, and packets beyond what is recorded";
const EGRESS_ALLOWED: &str = "what containers may send, and to whom";
const INGRESS_ALLOWED: &str = "what may be sent to containers, and by whom";
const EGRESS_HOST: &str = "what containers may send to the host";
const INGRESS_HOST: &str = "what the host may send to containers";
const REDIRECTED: &str = "containers whose DNS queries Pontoon answers, and where";
const EGRESS_NAMES: &str = "what containers may send to addresses of DNS names that they looked up";
/// Maximum number of addresses of names, over all containers.
const NAMES_MAX: u32 = 65_536;
const CONN_MAX: &str = "containers, and how many connections they may have";
const CONN_RATE: &str = "containers, and how many connections may be opened in a second";
/// For an element without a limit of its own, which Pontoon never writes.
const CONNECTIONS: Stateful = Stateful::Connections(1);
const PACKETS: Stateful = Stateful::Packets { rate: 1, burst: 5 };
const PARTNERS: &str = "addresses, and those from which packets within the bridge recently came";
const FLOWS: &str = "flows within bridges that lists allowed, in both directions";
const CUT: &str = "TCP connections that lists do not allow any more, in both directions";
/// Maximum number of entries, two a flow.
const FLOWS_MAX: u32 = 262_144;
/// How long a TCP connection within a bridge may be idle, in milliseconds.
pub const FLOW_TIMEOUT: u64 = 3 * HOUR;

/// `typeof vlan id . iifname`, as nft stores it: attributes of one byte each for type and length. A concatenation
/// (`EXPR_CONCAT`) of a payload (`PROTO_DESC_VLAN`, its field for the id, 12 bits) and metadata (`NFT_META_IIFNAME`). A
/// 12-bit number has no type that nft could read back.
const VLAN_ID_AND_LINK: &[u8] = &[
    3, 52, 0, 4, 13, 0, 0, 0, 1, 44, 0, 26, 0, 4, 7, 0, 0, 0, 1, 18, 0, 4, 16, 0, 0, 0, 1, 4, 4, 0, 0, 0, 4, 4, 12, 0,
    0, 0, 1, 14, 0, 4, 9, 0, 0, 0, 1, 6, 0, 4, 6, 0, 0, 0,
];

/// Defines the sets: an enum, the list of all of them in order of creation, and their definitions.
macro_rules! sets {
    ($($name:ident => $spec:expr,)*) => {
        /// A set or map.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "their comments are in the table below, where the kernel gets them from")]
        pub enum Set {
            $($name,)*
        }

        impl Set {
            /// All of them, in order of creation.
            pub const ALL: [Set; [$(stringify!($name)),*].len()] = [$(Set::$name),*];

            /// Its definition.
            pub const fn spec(self) -> Spec<'static> {
                match self {
                    $(Set::$name => $spec,)*
                }
            }
        }
    };
}

// The key of `broadcast_ports` is not the port alone: the kernel would search such a set linearly.
sets! {
    Bridges => Spec::new("bridges", &[Link], "bridges of networks, protected from other traffic"),
    Internal => Spec::new("internal", &[Link], "bridges of internal networks"),
    EngineBridges => Spec::new("engine_bridges", &[Link], "bridges of the engine's built-in driver"),
    ContainerBridges => Spec::new("container_bridges", &[Link], "bridges with containers, including the engine's"),
    IntraNetwork => Spec::new("intra_network", &[Link, Link], "traffic within one network"),
    Isolated => Spec::new("isolated", &[Link, Link], "networks with enable_icc=false"),
    BridgeAddress4 => Spec::new("bridge_address4", &[V4], BRIDGE_ADDRESSES),
    BridgeAddress6 => Spec::new("bridge_address6", &[V6], BRIDGE_ADDRESSES),
    Masq4 => Spec::new("masquerade4", &[V4], MASQUERADED).ranges(),
    Masq6 => Spec::new("masquerade6", &[V6], MASQUERADED).ranges(),
    Published4 => Spec::new("published4", &[Protocol, Port], PUBLISHED).to(&[V4, Port]),
    Published6 => Spec::new("published6", &[Protocol, Port], PUBLISHED).to(&[V6, Port]),
    PublishedAt4 => Spec::new("published_at4", &[V4, Protocol, Port], PUBLISHED_AT).to(&[V4, Port]),
    PublishedAt6 => Spec::new("published_at6", &[V6, Protocol, Port], PUBLISHED_AT).to(&[V6, Port]),
    OpenPort4 => Spec::new("open_port4", &[V4, Protocol, Port], OPEN_PORTS),
    OpenPort6 => Spec::new("open_port6", &[V6, Protocol, Port], OPEN_PORTS),
    Unprotected4 => Spec::new("unprotected4", &[Link], UNPROTECTED),
    Unprotected6 => Spec::new("unprotected6", &[Link], UNPROTECTED),
    Routed4 => Spec::new("routed4", &[Link], ROUTED),
    Routed6 => Spec::new("routed6", &[Link], ROUTED),
    Trusted => Spec::new("trusted", &[Link, Link], "links of the host, and the networks that trust them"),
    Snat4 => Spec::new("snat4", &[V4], SOURCE_NAT).to(&[V4]).ranges(),
    Snat6 => Spec::new("snat6", &[V6], SOURCE_NAT).to(&[V6]).ranges(),
    SourceFiltered4 => Spec::new("source_filtered4", &[V4], SOURCE_FILTERED),
    SourceFiltered6 => Spec::new("source_filtered6", &[V6], SOURCE_FILTERED),
    AllowedSource4 => Spec::new("allowed_source4", &[V4, V4], ALLOWED_SOURCES).ranges(),
    AllowedSource6 => Spec::new("allowed_source6", &[V6, V6], ALLOWED_SOURCES).ranges(),
    SpoofChecked => Spec::new("spoof_checked", &[Link], "ports with source address validation").of_family(BRIDGE),
    Macs => Spec::new("source_macs", &[Link, Mac], "MAC addresses that a port may send from").of_family(BRIDGE),
    Addr4 => Spec::new("source_address4", &[Link, V4], SOURCE_ADDRESSES).of_family(BRIDGE),
    Addr6 => Spec::new("source_address6", &[Link, V6], SOURCE_ADDRESSES).of_family(BRIDGE),
    Source4 => Spec::new("sources4", &[Link, Mac, V4], SOURCES).of_family(BRIDGE),
    Source6 => Spec::new("sources6", &[Link, Mac, V6], SOURCES).of_family(BRIDGE),
    AnyAddr4 => Spec::new("any_address4", &[Link], ANY_ADDRESS).of_family(BRIDGE),
    AnyAddr6 => Spec::new("any_address6", &[Link], ANY_ADDRESS).of_family(BRIDGE),
    TrunkVlans => Spec::new("trunk_vlans", &[Vlan, Link], "VLANs whose tag a port may send").printed_as(VLAN_ID_AND_LINK).of_family(BRIDGE),
    TunnelPorts => Spec::new("tunnel_ports", &[Port], "UDP ports that carry overlay networks"),
    Tunnels => Spec::new("vnis", &[Mark], "VNIs of overlay networks, followed by a zero byte"),
    Peers4 => Spec::new("peers4", &[V4], PEERS),
    Peers6 => Spec::new("peers6", &[V6], PEERS),
    TunnelAddress4 => Spec::new("tunnel_address4", &[V4], TUNNEL_ADDRESSES),
    TunnelAddress6 => Spec::new("tunnel_address6", &[V6], TUNNEL_ADDRESSES),
    PrivilegedSender4 => Spec::new("privileged_sender4", &[V4, Mark], PRIVILEGED_SENDERS).dynamic(RECORDED_MAX, RECORDED_TIMEOUT),
    PrivilegedSender6 => Spec::new("privileged_sender6", &[V6, Mark], PRIVILEGED_SENDERS).dynamic(RECORDED_MAX, RECORDED_TIMEOUT),
    UnknownSender4 => Spec::new("unknown_sender4", &[V4, Mark], UNKNOWN_SENDERS).dynamic(UNKNOWN_SENDERS_MAX, HOUR),
    UnknownSender6 => Spec::new("unknown_sender6", &[V6, Mark], UNKNOWN_SENDERS).dynamic(UNKNOWN_SENDERS_MAX, HOUR),
    Gateways => Spec::new("gateways", &[Link, Mac], "tunnel and the MAC address of its network's gateway").of_family(BRIDGE),
    Gateway4 => Spec::new("gateway4", &[Link, V4], GATEWAYS).of_family(BRIDGE),
    Gateway6 => Spec::new("gateway6", &[Link, V6], GATEWAYS).of_family(BRIDGE),
    NoMulticast => Spec::new("no_multicast", &[Link], "tunnels with pontoon.multicast=false").of_family(BRIDGE),
    NoRouterAdvertisements => Spec::new("no_router_advertisements", &[Link], "ports with pontoon.ra=refuse").of_family(BRIDGE),
    Announced4 => Spec::new("announced4", &[Link, V4], ANNOUNCED).dynamic(RECORDED_MAX, RECORDED_TIMEOUT).of_family(BRIDGE),
    Announced6 => Spec::new("announced6", &[Link, V6], ANNOUNCED).dynamic(RECORDED_MAX, RECORDED_TIMEOUT).of_family(BRIDGE),
    BroadcastPorts => Spec::new("broadcast_ports", &[Protocol, Port], "published UDP ports that receive broadcasts"),
    Broadcasts => Spec::new("broadcasts", &[Link, V4], "link and broadcast address of the host, and the host's address there").to(&[V4]),
    LimitedForwarding => Spec::new("limited_forwarding", &[Family], "address families for which only Pontoon turned forwarding on"),
    ForwardingLink4 => Spec::new("forwarding_link4", &[Link], FORWARDING_LINKS),
    ForwardingLink6 => Spec::new("forwarding_link6", &[Link], FORWARDING_LINKS),
    UserBridgeContainer4 => Spec::new("user_bridge_container4", &[V4], USER_BRIDGE_CONTAINERS),
    UserBridgeContainer6 => Spec::new("user_bridge_container6", &[V6], USER_BRIDGE_CONTAINERS),
    Station4 => Spec::new("station4", &[V4], STATIONS),
    Station6 => Spec::new("station6", &[V6], STATIONS),
    EgressRestricted4 => Spec::new("egress_restricted4", &[V4], EGRESS),
    EgressRestricted6 => Spec::new("egress_restricted6", &[V6], EGRESS),
    EgressAllowed4 => Spec::new("egress_allowed4", &[V4, Protocol, Port, V4], EGRESS_ALLOWED).ranges(),
    EgressAllowed6 => Spec::new("egress_allowed6", &[V6, Protocol, Port, V6], EGRESS_ALLOWED).ranges(),
    EgressHost4 => Spec::new("egress_host4", &[V4, Protocol, Port], EGRESS_HOST).ranges(),
    EgressHost6 => Spec::new("egress_host6", &[V6, Protocol, Port], EGRESS_HOST).ranges(),
    Redirected4 => Spec::new("redirected_queries4", &[Link, V4], REDIRECTED).to(&[V4, Port]),
    Redirected6 => Spec::new("redirected_queries6", &[Link, V6], REDIRECTED).to(&[V6, Port]),
    EgressName4 => Spec::new("egress_names4", &[V4, Protocol, Port, V4], EGRESS_NAMES).ranges().dynamic(NAMES_MAX, HOUR),
    EgressName6 => Spec::new("egress_names6", &[V6, Protocol, Port, V6], EGRESS_NAMES).ranges().dynamic(NAMES_MAX, HOUR),
    IngressRestricted4 => Spec::new("ingress_restricted4", &[V4], INGRESS),
    IngressRestricted6 => Spec::new("ingress_restricted6", &[V6], INGRESS),
    IngressAllowed4 => Spec::new("ingress_allowed4", &[V4, Protocol, Port, V4], INGRESS_ALLOWED).ranges(),
    IngressAllowed6 => Spec::new("ingress_allowed6", &[V6, Protocol, Port, V6], INGRESS_ALLOWED).ranges(),
    IngressHost4 => Spec::new("ingress_host4", &[V4, Protocol, Port], INGRESS_HOST).ranges(),
    IngressHost6 => Spec::new("ingress_host6", &[V6, Protocol, Port], INGRESS_HOST).ranges(),
    EgressAudited4 => Spec::new("egress_audited4", &[V4], EGRESS_AUDITED),
    EgressAudited6 => Spec::new("egress_audited6", &[V6], EGRESS_AUDITED),
    IngressAudited4 => Spec::new("ingress_audited4", &[V4], INGRESS_AUDITED),
    IngressAudited6 => Spec::new("ingress_audited6", &[V6], INGRESS_AUDITED),
    EgressRecord4 => Spec::new("egress_records4", &[Index, V4, Protocol, Port, V4], RECORDS).dynamic(RECORDED_MAX, DAY),
    EgressRecord6 => Spec::new("egress_records6", &[Index, V6, Protocol, Port, V6], RECORDS).dynamic(RECORDED_MAX, DAY),
    EgressRecordRate4 => Spec::new("egress_record_rate4", &[V4], RECORD_RATE).dynamic(RECORDED_MAX, DAY),
    EgressRecordRate6 => Spec::new("egress_record_rate6", &[V6], RECORD_RATE).dynamic(RECORDED_MAX, DAY),
    EgressUnrecorded4 => Spec::new("egress_unrecorded4", &[V4], UNRECORDED).dynamic(RECORDED_MAX, DAY),
    EgressUnrecorded6 => Spec::new("egress_unrecorded6", &[V6], UNRECORDED).dynamic(RECORDED_MAX, DAY),
    IngressRecord4 => Spec::new("ingress_records4", &[Index, V4, Protocol, Port, V4], RECORDS).dynamic(RECORDED_MAX, DAY),
    IngressRecord6 => Spec::new("ingress_records6", &[Index, V6, Protocol, Port, V6], RECORDS).dynamic(RECORDED_MAX, DAY),
    IngressRecordRate4 => Spec::new("ingress_record_rate4", &[V4], RECORD_RATE).dynamic(RECORDED_MAX, DAY),
    IngressRecordRate6 => Spec::new("ingress_record_rate6", &[V6], RECORD_RATE).dynamic(RECORDED_MAX, DAY),
    IngressUnrecorded4 => Spec::new("ingress_unrecorded4", &[V4], UNRECORDED).dynamic(RECORDED_MAX, DAY),
    IngressUnrecorded6 => Spec::new("ingress_unrecorded6", &[V6], UNRECORDED).dynamic(RECORDED_MAX, DAY),
    Cut4 => Spec::new("cut4", &[V4, V4, Protocol, Port, Port], CUT).dynamic(FLOWS_MAX, FLOW_TIMEOUT),
    Cut6 => Spec::new("cut6", &[V6, V6, Protocol, Port, Port], CUT).dynamic(FLOWS_MAX, FLOW_TIMEOUT),
    EgressPorts => Spec::new("egress_ports", &[Link], "ports of containers with an egress list").of_family(BRIDGE),
    BridgeEgress4 => Spec::new("egress_allowed4", &[V4, Protocol, Port, V4], EGRESS_ALLOWED).ranges().of_family(BRIDGE),
    BridgeEgress6 => Spec::new("egress_allowed6", &[V6, Protocol, Port, V6], EGRESS_ALLOWED).ranges().of_family(BRIDGE),
    IngressPorts => Spec::new("ingress_ports", &[Link], "ports of containers with an ingress list").of_family(BRIDGE),
    BridgeIngress4 => Spec::new("ingress_allowed4", &[V4, Protocol, Port, V4], INGRESS_ALLOWED).ranges().of_family(BRIDGE),
    BridgeIngress6 => Spec::new("ingress_allowed6", &[V6, Protocol, Port, V6], INGRESS_ALLOWED).ranges().of_family(BRIDGE),
    AuditedEgressPorts => Spec::new("egress_audited_ports", &[Link], "ports of containers whose egress list is only audited").of_family(BRIDGE),
    AuditedIngressPorts => Spec::new("ingress_audited_ports", &[Link], "ports of containers whose ingress list is only audited").of_family(BRIDGE),
    BridgeEgressRecord4 => Spec::new("egress_records4", &[Index, V4, Protocol, Port, V4], RECORDS).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeEgressRecord6 => Spec::new("egress_records6", &[Index, V6, Protocol, Port, V6], RECORDS).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeEgressRecordRate4 => Spec::new("egress_record_rate4", &[V4], RECORD_RATE).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeEgressRecordRate6 => Spec::new("egress_record_rate6", &[V6], RECORD_RATE).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeEgressUnrecorded4 => Spec::new("egress_unrecorded4", &[V4], UNRECORDED).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeEgressUnrecorded6 => Spec::new("egress_unrecorded6", &[V6], UNRECORDED).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeIngressRecord4 => Spec::new("ingress_records4", &[Index, V4, Protocol, Port, V4], RECORDS).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeIngressRecord6 => Spec::new("ingress_records6", &[Index, V6, Protocol, Port, V6], RECORDS).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeIngressRecordRate4 => Spec::new("ingress_record_rate4", &[V4], RECORD_RATE).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeIngressRecordRate6 => Spec::new("ingress_record_rate6", &[V6], RECORD_RATE).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeIngressUnrecorded4 => Spec::new("ingress_unrecorded4", &[V4], UNRECORDED).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    BridgeIngressUnrecorded6 => Spec::new("ingress_unrecorded6", &[V6], UNRECORDED).dynamic(RECORDED_MAX, DAY).of_family(BRIDGE),
    TrackedPorts => Spec::new("tracked_ports", &[Link], "ports of containers with a list").of_family(BRIDGE),
    Partners4 => Spec::new("partners4", &[V4, V4], PARTNERS).dynamic(FLOWS_MAX, FLOW_TIMEOUT).of_family(BRIDGE),
    Partners6 => Spec::new("partners6", &[V6, V6], PARTNERS).dynamic(FLOWS_MAX, FLOW_TIMEOUT).of_family(BRIDGE),
    Flows4 => Spec::new("flows4", &[V4, V4, Protocol, Port, Port], FLOWS).dynamic(FLOWS_MAX, FLOW_TIMEOUT).of_family(BRIDGE),
    Flows6 => Spec::new("flows6", &[V6, V6, Protocol, Port, Port], FLOWS).dynamic(FLOWS_MAX, FLOW_TIMEOUT).of_family(BRIDGE),
    BridgeCut4 => Spec::new("cut4", &[V4, V4, Protocol, Port, Port], CUT).dynamic(FLOWS_MAX, FLOW_TIMEOUT).of_family(BRIDGE),
    BridgeCut6 => Spec::new("cut6", &[V6, V6, Protocol, Port, Port], CUT).dynamic(FLOWS_MAX, FLOW_TIMEOUT).of_family(BRIDGE),
    ConnMax4 => Spec::new("conn_max4", &[V4], CONN_MAX).limited(CONNECTIONS).of_family(IPV4),
    ConnMax6 => Spec::new("conn_max6", &[V6], CONN_MAX).limited(CONNECTIONS).of_family(IPV6),
    ConnRate4 => Spec::new("conn_rate4", &[V4], CONN_RATE).limited(PACKETS).of_family(IPV4),
    ConnRate6 => Spec::new("conn_rate6", &[V6], CONN_RATE).limited(PACKETS).of_family(IPV6),
    ForeignBridge => Spec::new("foreign_bridge", &[Link, Link], "bridges of other programs, which may forward internally")
                    .dynamic(RECORDED_MAX, HOUR),
}

/// Defines which set has the links with a property.
macro_rules! link_sets {
    ($($property:ident => $set:ident,)*) => {
        impl Set {
            /// The set of links with this property.
            pub const fn of_property(property: LinkProperty) -> Self {
                match property {
                    $(LinkProperty::$property => Set::$set,)*
                }
            }

            /// The property that the links in it have; `None` in a set of something else.
            pub const fn property(self) -> Option<LinkProperty> {
                match self {
                    $(Set::$set => Some(LinkProperty::$property),)*
                    _ => None,
                }
            }
        }
    };
}

link_sets! {
    ProtectedBridge => Bridges,
    Internal => Internal,
    EngineBridge => EngineBridges,
    ContainerBridge => ContainerBridges,
    SpoofChecked => SpoofChecked,
    NoMulticast => NoMulticast,
    NoRouterAdvertisements => NoRouterAdvertisements,
}

impl From<Set> for Spec<'static> {
    fn from(set: Set) -> Self {
        set.spec()
    }
}

/// Names that sets had in rulesets up to 6.
const FORMER_NAMES: &[(&str, &str)] = &[
    ("engine_bridges", "engine"),
    ("container_bridges", "neighbours"),
    ("intra_network", "intra"),
    ("isolated", "apart"),
    ("bridge_address4", "own4"),
    ("bridge_address6", "own6"),
    ("masquerade4", "masq4"),
    ("masquerade6", "masq6"),
    ("published4", "port4"),
    ("published6", "port6"),
    ("published_at4", "at4"),
    ("published_at6", "at6"),
    ("open_port4", "open4"),
    ("open_port6", "open6"),
    ("unprotected4", "direct4"),
    ("unprotected6", "direct6"),
    ("source_filtered4", "guarded4"),
    ("source_filtered6", "guarded6"),
    ("allowed_source4", "allow4"),
    ("allowed_source6", "allow6"),
    ("spoof_checked", "checked"),
    ("source_macs", "macs"),
    ("source_address4", "addr4"),
    ("source_address6", "addr6"),
    ("any_address4", "any4"),
    ("any_address6", "any6"),
    ("tunnel_address4", "here4"),
    ("tunnel_address6", "here6"),
    ("privileged_sender4", "low4"),
    ("privileged_sender6", "low6"),
    ("unknown_sender4", "strangers4"),
    ("unknown_sender6", "strangers6"),
    ("no_multicast", "quiet"),
    ("announced4", "heard4"),
    ("announced6", "heard6"),
    ("limited_forwarding", "closed"),
    ("forwarding_link4", "routers4"),
    ("forwarding_link6", "routers6"),
    ("user_bridge_container4", "guests4"),
    ("user_bridge_container6", "guests6"),
    ("foreign_bridge", "bridged"),
];

impl Set {
    /// The name that it had in earlier releases.
    pub fn former_name(self) -> &'static str {
        let name = self.spec().name;
        FORMER_NAMES.iter().find(|(now, _)| *now == name).map_or(name, |(_, former)| former)
    }

    /// The family of its addresses, or of the packets that it applies to.
    pub fn family(self) -> model::Family {
        if self.spec().name.ends_with('6') { model::Family::V6 } else { model::Family::V4 }
    }
}

#[cfg(test)]
#[path = "sets_tests.rs"]
mod tests;
