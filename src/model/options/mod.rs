//! Options of networks and endpoints: one table defines the parser, the messages, the help text and the table
//! in docs/options.md.
//!
//! An unknown key, or a value that does not parse, is an error that names the nearest known key or the
//! expected form. Names of the built-in driver's options keep their meaning.

mod conflict;
mod dhcp;
mod limits;
mod markdown;
mod shortcut;
mod suggestion;
pub(super) mod table;
pub(in crate::model) mod value;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::overlay::Vni;
use super::vlan::{self, Vid, Vids};
use super::{
    AccessOptions, ConflictOptions, DhcpEndpointOptions, DhcpOptions, IfName, KindOptions, LimitOptions, NetworkId,
};
pub use markdown::markdown;
pub use shortcut::Shortcut;
use suggestion::nearest;
pub use table::{
    ALLOCATED, ALLOW, CONFLICT, CONFLICT_WAIT, CONN_MAX, CONN_RATE, DHCP, DHCP_ID, DHCP_SERVER, DHCP_TIMEOUT,
    ENDPOINT_OPTIONS, GATEWAY_MODE_4, GATEWAY_MODE_6, HOST, HOST_BINDING, HOST_IPV4, HOST_IPV6, MTU, MULTICAST,
    NETWORK_OPTIONS, OptionRow, PACKET_RATE, PARENT, RA, RATE_BURST, RATE_IN, RATE_OUT, SPOOFCHECK, Support, TRUNK,
    TRUSTED, VLAN, VNI,
};
use table::{BRIDGE_NAME, ENABLE_ICC, ENABLE_MASQUERADE, IFACE_PREFIX, INHIBIT_IPV4, PEERS, SHORTCUT};
pub(super) use value::refused;
use value::{addresses, flag, iface_prefix, links, mode, shorten, subnets, vid};

/// Why options are rejected. Each message is one line with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No row has this key.
    #[error("option {key:?} is not known{}", suggestion(.nearest))]
    Unknown {
        /// The key as given.
        key: String,
        /// The most similar known key.
        nearest: Option<&'static str>,
    },
    /// The value does not have the form that the row requires.
    #[error("option {key}={given:?} does not parse: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value as given.
        given: String,
        /// The form that the row requires.
        expected: String,
    },
    /// A list of incoming connections has a DNS name.
    #[error(
        "option {key}: the DNS name {name} is possible only in pontoon.egress.allow, because the names of clients are not looked up; use its addresses or a subnet instead"
    )]
    DnsName {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
    },
    /// The row is marked [`Support::NotYet`].
    #[error("option {key} is not supported by Pontoon {}; remove it ({help})", env!("CARGO_PKG_VERSION"))]
    NotYet {
        /// The key.
        key: &'static str,
        /// What the built-in driver does with the option.
        help: &'static str,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(key) => {
            let rows = NETWORK_OPTIONS.iter().chain(ENDPOINT_OPTIONS).find(|row| row.key == *key);
            format!(", did you mean {key:?} ({})?", rows.map_or("", |row| row.help.trim_end_matches('.')))
        }
        None => "; the command `pontoon options` lists the known ones".to_owned(),
    }
}

/// How one family of a network exchanges traffic with the outside (protocol.md 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Outbound traffic is translated; only published ports are reachable, at host addresses.
    #[default]
    Nat,
    /// As `Nat`, but every port is also reachable at the containers' own addresses.
    NatUnprotected,
    /// Nothing is translated; published ports are reachable at the containers' own addresses.
    Routed,
    /// The host has no address on the bridge. Only for internal networks.
    Isolated,
}

impl GatewayMode {
    /// Whether containers are reachable at their own addresses, without translation.
    pub fn is_direct(self) -> bool {
        matches!(self, GatewayMode::Routed | GatewayMode::NatUnprotected)
    }
}

/// The parsed `-o` options of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOptions {
    /// The bridge's name, if the user chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_name: Option<IfName>,
    /// MTU in bytes, if the user chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether endpoints reach each other.
    pub icc: bool,
    /// Whether outbound traffic is masqueraded.
    pub masquerade: bool,
    /// Whether the IPv4 gateway address is kept off the bridge.
    pub inhibit_ipv4: bool,
    /// Prefix of the names of links in containers; the engine appends a number.
    pub iface_prefix: String,
    /// Gateway mode of IPv4.
    #[serde(default)]
    pub mode4: GatewayMode,
    /// Gateway mode of IPv6.
    #[serde(default)]
    pub mode6: GatewayMode,
    /// Default host address of published ports; `None` is every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_binding: Option<IpAddr>,
    /// Host links from which open ports are reachable directly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<IfName>,
    /// Source address of outbound IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ipv4: Option<Ipv4Addr>,
    /// Source address of outbound IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ipv6: Option<Ipv6Addr>,
    /// Sources that may reach published ports; empty is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpNetwork>,
    /// Whether source address validation is on.
    #[serde(default = "yes")]
    pub spoofcheck: bool,
    /// Whether router advertisements are kept from the endpoints.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_ra: bool,
    /// The VNI of an overlay network, if a user or a Swarm manager chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// Other hosts of this overlay network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IpAddr>,
    /// Whether broadcasts and multicasts of this overlay network are sent to other hosts.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub multicast: bool,
    /// Whether frames between containers bypass the bridge, if a user decided that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// The untagged VLAN of the endpoints' ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// Options that choose the kind of the network.
    #[serde(default, skip_serializing_if = "KindOptions::is_default")]
    pub kind: KindOptions,
    /// Options against address conflicts.
    #[serde(default, skip_serializing_if = "ConflictOptions::is_default")]
    pub conflict: ConflictOptions,
    /// Options about who may talk to the endpoints.
    #[serde(default, skip_serializing_if = "AccessOptions::is_default")]
    pub access: AccessOptions,
    /// Limits of each endpoint.
    #[serde(default, skip_serializing_if = "LimitOptions::is_default")]
    pub limits: LimitOptions,
    /// Options for addresses from a DHCP server.
    #[serde(default, skip_serializing_if = "DhcpOptions::is_default")]
    pub dhcp: DhcpOptions,
    /// The network for which Pontoon allocated the VNI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<NetworkId>,
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// The user's options for one endpoint; `None` means the network's setting.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointOptions {
    /// Sources that may reach its published ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<IpNetwork>>,
    /// Whether source address validation is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoofcheck: Option<bool>,
    /// The untagged VLAN of its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// The tagged VLANs of its port.
    #[serde(default, skip_serializing_if = "Vids::is_empty")]
    pub trunk: Vids,
    /// Options about who may talk to it.
    #[serde(default, skip_serializing_if = "AccessOptions::is_default")]
    pub access: AccessOptions,
    /// Its limits.
    #[serde(default, skip_serializing_if = "LimitOptions::is_default")]
    pub limits: LimitOptions,
    /// Options for its address from a DHCP server.
    #[serde(default, skip_serializing_if = "DhcpEndpointOptions::is_default")]
    pub dhcp: DhcpEndpointOptions,
    /// Name servers that the engine was told to use for it (`--dns`, or `dns` of the engine's configuration).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<IpAddr>,
}

impl EndpointOptions {
    /// Takes one `--driver-opt`; keys that the engine handles itself do not belong here.
    pub fn take(&mut self, key: &str, given: &str) -> Result<(), OptionError> {
        let row = find(ENDPOINT_OPTIONS, key)?;
        match row.key {
            ALLOW => self.allow = Some(subnets(row, given)?),
            SPOOFCHECK => self.spoofcheck = Some(flag(row, given)?),
            VLAN => self.vlan = Some(vid(row, given)?),
            TRUNK => self.trunk = given.parse().map_err(|_| refused(row, given, vlan::VIDS_FORM))?,
            _ => drop(self.dhcp.take(row, given)? || self.access.take(row, given)? || self.limits.take(row, given)?),
        }
        Ok(())
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            bridge_name: None,
            mtu: None,
            icc: true,
            masquerade: true,
            inhibit_ipv4: false,
            iface_prefix: "eth".to_owned(),
            mode4: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            host_binding: None,
            trusted: Vec::new(),
            host_ipv4: None,
            host_ipv6: None,
            allow: Vec::new(),
            spoofcheck: true,
            refuses_ra: false,
            vni: None,
            peers: Vec::new(),
            multicast: true,
            shortcut: None,
            vlan: None,
            kind: KindOptions::default(),
            conflict: ConflictOptions::default(),
            access: AccessOptions::default(),
            limits: LimitOptions::default(),
            dhcp: DhcpOptions::default(),
            allocated: None,
        }
    }
}

impl NetworkOptions {
    /// The first option that works through rules for the network's bridge; a bridge provided by the user gets
    /// none.
    pub fn needs_rules(&self) -> Option<&'static str> {
        [
            (self.mode4 != GatewayMode::Nat, GATEWAY_MODE_4),
            (self.mode6 != GatewayMode::Nat, GATEWAY_MODE_6),
            (!self.trusted.is_empty(), TRUSTED),
            (!self.allow.is_empty(), ALLOW),
            (self.vni.is_some(), VNI),
            (self.shortcut.is_some(), SHORTCUT),
        ]
        .into_iter()
        .find_map(|(given, key)| given.then_some(key))
    }

    /// The first option that has an effect on overlay networks only.
    pub fn of_overlays(&self) -> Option<&'static str> {
        let own = [(!self.peers.is_empty(), PEERS), (!self.multicast, MULTICAST)];
        own.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// The first option that has an effect on networks with a bridge only.
    pub fn of_bridges(&self) -> Option<&'static str> {
        let own = [
            (self.vlan.is_some(), VLAN),
            (self.bridge_name.is_some(), BRIDGE_NAME),
            (!self.icc, ENABLE_ICC),
            (!self.masquerade, ENABLE_MASQUERADE),
            (self.inhibit_ipv4, INHIBIT_IPV4),
            (self.host_binding.is_some(), HOST_BINDING),
            (self.host_ipv4.is_some(), HOST_IPV4),
            (self.host_ipv6.is_some(), HOST_IPV6),
            (self.refuses_ra, RA),
        ];
        own.into_iter()
            .find_map(|(given, key)| given.then_some(key))
            .or(self.needs_rules())
            .or(self.of_overlays())
            .or(self.access.given())
            .or(self.limits.given())
    }

    /// Parses the map under `com.docker.network.generic`.
    pub fn parse(generic: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for (key, given) in generic {
            let row = find(NETWORK_OPTIONS, key)?;
            let text = given.trim();
            match row.key {
                BRIDGE_NAME => {
                    options.bridge_name = Some(IfName::parse(text).map_err(|e| refused(row, given, &e.to_string()))?);
                }
                // The built-in driver treats 0 as "not given".
                MTU => match text.parse::<u32>() {
                    Ok(0) => {}
                    Ok(mtu @ 68..=65535) => options.mtu = Some(mtu),
                    _ => return Err(refused(row, given, row.value)),
                },
                ENABLE_ICC => options.icc = flag(row, given)?,
                ENABLE_MASQUERADE => options.masquerade = flag(row, given)?,
                INHIBIT_IPV4 => options.inhibit_ipv4 = flag(row, given)?,
                GATEWAY_MODE_4 => options.mode4 = mode(row, given)?,
                GATEWAY_MODE_6 => options.mode6 = mode(row, given)?,
                HOST_BINDING => {
                    let address: IpAddr = text.parse().map_err(|_| refused(row, given, row.value))?;
                    options.host_binding = Some(address).filter(|ip| *ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                }
                TRUSTED => options.trusted = links(row, given)?,
                HOST_IPV4 => options.host_ipv4 = Some(text.parse().map_err(|_| refused(row, given, row.value))?),
                HOST_IPV6 => options.host_ipv6 = Some(text.parse().map_err(|_| refused(row, given, row.value))?),
                ALLOW => options.allow = subnets(row, given)?,
                SPOOFCHECK => options.spoofcheck = flag(row, given)?,
                RA => match text {
                    "accept" | "refuse" => options.refuses_ra = text == "refuse",
                    _ => return Err(refused(row, given, row.value)),
                },
                IFACE_PREFIX => options.iface_prefix = iface_prefix(row, given)?,
                VNI => {
                    let vni = text.parse().ok().and_then(|number| Vni::new(number).ok());
                    options.vni = Some(vni.ok_or_else(|| refused(row, given, row.value))?);
                }
                PEERS => options.peers = addresses(row, given)?,
                MULTICAST => options.multicast = flag(row, given)?,
                VLAN => options.vlan = Some(vid(row, given)?),
                SHORTCUT => options.shortcut = Some(Shortcut::parse(row, given)?),
                ALLOCATED => {
                    options.allocated = Some(NetworkId::parse(text).map_err(|e| refused(row, given, &e.to_string()))?);
                }
                _ => {
                    if !options.conflict.take(row, given)?
                        && !options.access.take(row, given)?
                        && !options.limits.take(row, given)?
                        && !options.dhcp.take(row, given)?
                    {
                        options.kind.take(row, given)?;
                    }
                }
            }
        }
        Ok(options)
    }
}

/// Parses the VLAN in `--ipam-opt`.
///
/// # Errors
/// The value is no VLAN id.
pub fn pool_vlan(given: &str) -> Result<Vid, OptionError> {
    vid(find(NETWORK_OPTIONS, VLAN)?, given)
}

fn find(rows: &'static [OptionRow], key: &str) -> Result<&'static OptionRow, OptionError> {
    let Some(row) = rows.iter().find(|row| row.key == key) else {
        return Err(OptionError::Unknown { key: shorten(key), nearest: nearest(rows, key) });
    };
    match row.support {
        Support::NotYet => Err(OptionError::NotYet { key: row.key, help: row.help }),
        Support::Pontoon | Support::Engine => Ok(row),
    }
}

#[cfg(test)]
mod tests;
