//! Sets and maps of Pontoon's tables: their names, the fields of their keys and values, and their purposes.
//!
//! Pure. Used by `element`, which encodes their elements, by `message`, `ruleset` and `table`.

use super::message::{BRIDGE, INET};

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP` and `NFT_SET_CONCAT`.
const FLAG_INTERVAL: u32 = 0x4;
pub(super) const FLAG_MAP: u32 = 0x8;
const FLAG_CONCAT: u32 = 0x80;
/// `NFT_SET_TIMEOUT` and `NFT_SET_EVAL`: packets add elements, which expire.
const FLAG_NOTES: u32 = 0x10 | 0x20;

/// nft's numbers for byte orders.
pub(super) const ORDER_HOST: u32 = 1;
pub(super) const ORDER_NETWORK: u32 = 2;

/// One field of a key or of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A link's name, padded with zeroes (`IFNAMSIZ`).
    Link,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// A hardware address.
    Mac,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
    /// The VNI and the byte after it, as in a packet.
    Vni,
    /// A family of packets.
    Family,
}

impl Field {
    /// Its bytes.
    pub fn size(self) -> usize {
        match self {
            Field::Link | Field::V6 => 16,
            Field::V4 | Field::Vni => 4,
            Field::Mac => 6,
            Field::Protocol | Field::Family => 1,
            Field::Port => 2,
        }
    }

    /// nft's number of its type, which determines how nft prints it (nft's `datatype.h`).
    fn number(self) -> u32 {
        match self {
            // A mark: the only type of four bytes that nft prints unchanged, in hexadecimal.
            Field::Vni => 19,
            Field::Family => 2,
            Field::V4 => 7,
            Field::V6 => 8,
            Field::Mac => 9,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Link => 41,
        }
    }
}

/// Size in bytes of several concatenated fields: each is padded to a register of four bytes.
pub fn len(fields: &[Field]) -> usize {
    match fields {
        [only] => only.size(),
        _ => fields.iter().map(|field| field.size().next_multiple_of(4)).sum(),
    }
}

/// Type of several concatenated fields in nft's numbers, six bits each.
pub fn kind(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |kind, field| (kind << 6) | field.number())
}

/// A set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "their comments are in the table below, where the kernel gets them from")]
pub enum Set {
    Bridges,
    Internal,
    Engine,
    Neighbours,
    Intra,
    Apart,
    Own4,
    Own6,
    Masq4,
    Masq6,
    Port4,
    Port6,
    At4,
    At6,
    Open4,
    Open6,
    Direct4,
    Direct6,
    Routed4,
    Routed6,
    Trusted,
    Snat4,
    Snat6,
    Guarded4,
    Guarded6,
    Allow4,
    Allow6,
    Checked,
    Macs,
    Addr4,
    Addr6,
    Any4,
    Any6,
    TunnelPorts,
    Tunnels,
    Peers4,
    Peers6,
    Here4,
    Here6,
    Low4,
    Low6,
    Strangers4,
    Strangers6,
    Gateways,
    Gateway4,
    Gateway6,
    Quiet,
    Heard4,
    Heard6,
    BroadcastPorts,
    Broadcasts,
    Closed,
    Routers4,
    Routers6,
    Guests4,
    Guests6,
    Bridged,
}

/// Definition of a set.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Family of its table.
    pub family: u8,
    /// Its name.
    pub name: &'static str,
    /// Its purpose.
    pub comment: &'static str,
    /// Fields of a key.
    pub key: &'static [Field],
    /// Fields of a value; none in a set.
    pub value: &'static [Field],
    /// Whether the last field of the key is a range of addresses.
    pub interval: bool,
    /// For a set to which rules add elements: its maximum size, and the timeout of an element in
    /// milliseconds. Pontoon never adds elements to such a set.
    pub notes: Option<(u32, u64)>,
}

impl Spec {
    const fn set(name: &'static str, key: &'static [Field], comment: &'static str) -> Self {
        Self { family: INET, name, comment, key, value: &[], interval: false, notes: None }
    }

    const fn holding(self, value: &'static [Field]) -> Self {
        Self { value, ..self }
    }

    const fn ranges(self) -> Self {
        Self { interval: true, ..self }
    }

    const fn noting(self, most: u32, milliseconds: u64) -> Self {
        Self { notes: Some((most, milliseconds)), ..self }
    }

    const fn of_frames(self) -> Self {
        Self { family: BRIDGE, ..self }
    }

    /// The kernel's flags.
    pub fn flags(&self) -> u32 {
        let flag = |on: bool, flag| if on { flag } else { 0 };
        flag(self.interval, FLAG_INTERVAL)
            | flag(self.is_map(), FLAG_MAP)
            | flag(self.notes.is_some(), FLAG_NOTES)
            | flag(self.is_concatenated(), FLAG_CONCAT)
    }

    /// Whether its keys have values.
    pub fn is_map(&self) -> bool {
        !self.value.is_empty()
    }

    /// Whether its keys have several fields.
    pub fn is_concatenated(&self) -> bool {
        self.key.len() > 1
    }

    /// Byte order of keys, in nft's numbers; for printing only.
    pub fn byte_order(&self) -> u32 {
        if matches!(self.key, [Field::Link | Field::Family, ..]) { ORDER_HOST } else { ORDER_NETWORK }
    }

    /// Byte order of values; for printing only. All values are addresses.
    pub fn value_order(&self) -> u32 {
        ORDER_NETWORK
    }
}

const PUBLISHED: &str = "ports published on all addresses of the host, and their containers";
const PUBLISHED_AT: &str = "ports published on one address of the host, and their containers";
const OPEN: &str = "container ports reachable without translation, from trusted links and in mode routed";
const DIRECT: &str = "bridges of networks in mode nat-unprotected";
const ROUTED: &str = "bridges of networks in mode routed";
const MASQUERADED: &str = "subnets to masquerade";
const CHOSEN: &str = "subnets and their source address (host_ipv4, host_ipv6)";
const GUARDED: &str = "containers with an allow list";
const ALLOWED: &str = "container and its allowed sources";
const ADDRESSES: &str = "addresses that a port may send from";
const PEERS: &str = "peers of overlay networks";
const HERE: &str = "local address of the tunnels";
const HEARD: &str = "tunnels, and addresses recently announced through them";
const LOW: &str = "peers and VNIs recently seen with source ports below 1024";
const STRANGERS: &str = "hosts that are not peers and recently sent to overlay networks";
/// Maximum size of such a set, and its timeout: a host with containers is heard twice a minute.
const NOTED: u32 = 65_536;
const FIVE_MINUTES: u64 = 300_000;
const STRANGERS_NOTED: u32 = 1024;
const HOUR: u64 = 3_600_000;
const GATEWAYS: &str = "tunnel and the IP address of its network's gateway";
const ROUTERS: &str = "links that forwarded before Pontoon turned forwarding on";
const GUESTS: &str = "containers on bridges of the user";
const OWN: &str = "addresses of the host on the bridges of networks";
const ANY: &str = "ports that may send from any address";

impl Set {
    /// All of them, in order of creation.
    pub const ALL: [Set; 57] = [
        Set::Bridges,
        Set::Internal,
        Set::Engine,
        Set::Neighbours,
        Set::Intra,
        Set::Apart,
        Set::Own4,
        Set::Own6,
        Set::Masq4,
        Set::Masq6,
        Set::Port4,
        Set::Port6,
        Set::At4,
        Set::At6,
        Set::Open4,
        Set::Open6,
        Set::Direct4,
        Set::Direct6,
        Set::Routed4,
        Set::Routed6,
        Set::Trusted,
        Set::Snat4,
        Set::Snat6,
        Set::Guarded4,
        Set::Guarded6,
        Set::Allow4,
        Set::Allow6,
        Set::Checked,
        Set::Macs,
        Set::Addr4,
        Set::Addr6,
        Set::Any4,
        Set::Any6,
        Set::TunnelPorts,
        Set::Tunnels,
        Set::Peers4,
        Set::Peers6,
        Set::Here4,
        Set::Here6,
        Set::Low4,
        Set::Low6,
        Set::Strangers4,
        Set::Strangers6,
        Set::Gateways,
        Set::Gateway4,
        Set::Gateway6,
        Set::Quiet,
        Set::Heard4,
        Set::Heard6,
        Set::BroadcastPorts,
        Set::Broadcasts,
        Set::Closed,
        Set::Routers4,
        Set::Routers6,
        Set::Guests4,
        Set::Guests6,
        Set::Bridged,
    ];

    /// Its definition.
    pub const fn spec(self) -> Spec {
        use Field::{Family, Link, Mac, Port, Protocol, V4, V6, Vni};
        match self {
            Set::Bridges => Spec::set("bridges", &[Link], "bridges of networks, protected from other traffic"),
            Set::Internal => Spec::set("internal", &[Link], "bridges of internal networks"),
            Set::Engine => Spec::set("engine", &[Link], "bridges of the engine's built-in driver"),
            Set::Neighbours => Spec::set("neighbours", &[Link], "bridges with containers, including the engine's"),
            Set::Intra => Spec::set("intra", &[Link, Link], "traffic within one network"),
            Set::Apart => Spec::set("apart", &[Link, Link], "networks with enable_icc=false"),
            Set::Own4 => Spec::set("own4", &[V4], OWN),
            Set::Own6 => Spec::set("own6", &[V6], OWN),
            Set::Masq4 => Spec::set("masq4", &[V4], MASQUERADED).ranges(),
            Set::Masq6 => Spec::set("masq6", &[V6], MASQUERADED).ranges(),
            Set::Port4 => Spec::set("port4", &[Protocol, Port], PUBLISHED).holding(&[V4, Port]),
            Set::Port6 => Spec::set("port6", &[Protocol, Port], PUBLISHED).holding(&[V6, Port]),
            Set::At4 => Spec::set("at4", &[V4, Protocol, Port], PUBLISHED_AT).holding(&[V4, Port]),
            Set::At6 => Spec::set("at6", &[V6, Protocol, Port], PUBLISHED_AT).holding(&[V6, Port]),
            Set::Open4 => Spec::set("open4", &[V4, Protocol, Port], OPEN),
            Set::Open6 => Spec::set("open6", &[V6, Protocol, Port], OPEN),
            Set::Direct4 => Spec::set("direct4", &[Link], DIRECT),
            Set::Direct6 => Spec::set("direct6", &[Link], DIRECT),
            Set::Routed4 => Spec::set("routed4", &[Link], ROUTED),
            Set::Routed6 => Spec::set("routed6", &[Link], ROUTED),
            Set::Trusted => Spec::set("trusted", &[Link, Link], "links of the host, and the networks that trust them"),
            Set::Snat4 => Spec::set("snat4", &[V4], CHOSEN).holding(&[V4]).ranges(),
            Set::Snat6 => Spec::set("snat6", &[V6], CHOSEN).holding(&[V6]).ranges(),
            Set::Guarded4 => Spec::set("guarded4", &[V4], GUARDED),
            Set::Guarded6 => Spec::set("guarded6", &[V6], GUARDED),
            Set::Allow4 => Spec::set("allow4", &[V4, V4], ALLOWED).ranges(),
            Set::Allow6 => Spec::set("allow6", &[V6, V6], ALLOWED).ranges(),
            Set::Checked => Spec::set("checked", &[Link], "ports with source address validation").of_frames(),
            Set::Macs => Spec::set("macs", &[Link, Mac], "MAC addresses that a port may send from").of_frames(),
            Set::Addr4 => Spec::set("addr4", &[Link, V4], ADDRESSES).of_frames(),
            Set::Addr6 => Spec::set("addr6", &[Link, V6], ADDRESSES).of_frames(),
            Set::Any4 => Spec::set("any4", &[Link], ANY).of_frames(),
            Set::Any6 => Spec::set("any6", &[Link], ANY).of_frames(),
            Set::TunnelPorts => Spec::set("tunnel_ports", &[Port], "UDP ports that carry overlay networks"),
            Set::Tunnels => Spec::set("vnis", &[Vni], "VNIs of overlay networks, followed by a zero byte"),
            Set::Peers4 => Spec::set("peers4", &[V4], PEERS),
            Set::Peers6 => Spec::set("peers6", &[V6], PEERS),
            Set::Heard4 => Spec::set("heard4", &[Link, V4], HEARD).noting(NOTED, FIVE_MINUTES).of_frames(),
            Set::Heard6 => Spec::set("heard6", &[Link, V6], HEARD).noting(NOTED, FIVE_MINUTES).of_frames(),
            Set::Here4 => Spec::set("here4", &[V4], HERE),
            Set::Here6 => Spec::set("here6", &[V6], HERE),
            Set::Low4 => Spec::set("low4", &[V4, Vni], LOW).noting(NOTED, FIVE_MINUTES),
            Set::Low6 => Spec::set("low6", &[V6, Vni], LOW).noting(NOTED, FIVE_MINUTES),
            Set::Strangers4 => Spec::set("strangers4", &[V4, Vni], STRANGERS).noting(STRANGERS_NOTED, HOUR),
            Set::Strangers6 => Spec::set("strangers6", &[V6, Vni], STRANGERS).noting(STRANGERS_NOTED, HOUR),
            Set::Closed => {
                Spec::set("closed", &[Family], "address families for which only Pontoon turned forwarding on")
            }
            Set::Routers4 => Spec::set("routers4", &[Link], ROUTERS),
            Set::Routers6 => Spec::set("routers6", &[Link], ROUTERS),
            Set::Guests4 => Spec::set("guests4", &[V4], GUESTS),
            Set::Guests6 => Spec::set("guests6", &[V6], GUESTS),
            Set::Bridged => {
                Spec::set("bridged", &[Link, Link], "bridges of other programs, which may forward internally")
                    .noting(NOTED, HOUR)
            }
            Set::Gateways => {
                Spec::set("gateways", &[Link, Mac], "tunnel and the MAC address of its network's gateway").of_frames()
            }
            Set::Gateway4 => Spec::set("gateway4", &[Link, V4], GATEWAYS).of_frames(),
            Set::Gateway6 => Spec::set("gateway6", &[Link, V6], GATEWAYS).of_frames(),
            Set::Quiet => Spec::set("quiet", &[Link], "tunnels with pontoon.multicast=false").of_frames(),
            Set::BroadcastPorts => {
                // The key is not the port alone: the kernel would search such a set linearly.
                Spec::set("broadcast_ports", &[Protocol, Port], "published UDP ports that receive broadcasts")
            }
            Set::Broadcasts => {
                let comment = "link and broadcast address of the host, and the host's address there";
                Spec::set("broadcasts", &[Link, V4], comment).holding(&[V4])
            }
        }
    }

    /// Selects the set for this family of addresses.
    pub fn either(v6: bool, four: Set, six: Set) -> Set {
        if v6 { six } else { four }
    }

    /// Whether its addresses, or the packets that it applies to, are IPv6.
    pub fn v6(self) -> bool {
        self.spec().name.ends_with('6')
    }
}

#[cfg(test)]
mod tests;
