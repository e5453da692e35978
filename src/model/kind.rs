//! Kinds of networks and of attachments: what carries a network, and which link goes into a sandbox.
//!
//! A new kind is a variant of both types here with its options, a file in `crate::datapath::kind` with what
//! it needs from the kernel, and a kind of object if its links are new to Pontoon (`crate::datapath::object`,
//! `crate::linux::object`).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::host_access::{HostAccess, HostAddresses, HostLink, IpvlanHostLink};
use super::options::table::{HOST, IPVLAN_FLAG, IPVLAN_MODE, MACVLAN_MODE, PARENT};
use super::options::{OptionError, OptionRow, refused};
use super::parent::ParentChoice;
use super::{IfName, Overlay};

/// Options of a network that choose its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KindOptions {
    /// Which link of the host is the parent, to which the endpoints' links are attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentChoice>,
    /// The mode of macvlan children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macvlan_mode: Option<MacvlanMode>,
    /// The mode of ipvlan children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipvlan_mode: Option<IpvlanMode>,
    /// Which other children an ipvlan child reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipvlan_flag: Option<IpvlanFlag>,
    /// Whether the host and the containers reach each other.
    #[serde(default, skip_serializing_if = "HostAccess::is_default")]
    pub host: HostAccess,
}

/// Which stations a macvlan link reaches through its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MacvlanMode {
    /// The other children, and stations behind the parent.
    #[default]
    Bridge,
    /// Stations behind the parent, but not the other children.
    Private,
    /// Stations behind the parent; the other children through an external switch that sends frames back.
    Vepa,
    /// The same as the parent itself, which passes it all frames: one endpoint per parent.
    Passthru,
}

/// At which layer the parent of ipvlan links forwards. A setting of the parent: all of its children share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanMode {
    /// Layer 2: the children send and receive broadcasts.
    #[default]
    L2,
    /// Layer 3: the parent routes, and there are no broadcasts.
    L3,
    /// Layer 3, and the host's firewall sees the packets.
    L3s,
}

/// Which stations an ipvlan link reaches through its parent. A setting of the parent, as [`IpvlanMode`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanFlag {
    /// The other children, and stations behind the parent.
    #[default]
    Bridge,
    /// Stations behind the parent, but not the other children.
    Private,
    /// The other children through an external switch that sends frames back.
    Vepa,
}

/// A VLAN link that Pontoon creates to be a parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentVlan {
    /// The link below it.
    pub below: IfName,
    /// The VLAN id, 1 to 4094.
    pub vid: u16,
}

impl ParentVlan {
    /// The VLAN link that a name like `eth0.40` asks for: what is before the last dot is the link below it.
    pub fn of(name: &IfName) -> Option<Self> {
        let (below, vid) = name.as_str().rsplit_once('.')?;
        let vid = vid.parse().ok().filter(|vid| (1..=4094).contains(vid))?;
        Some(Self { below: IfName::parse(below).ok()?, vid })
    }
}

/// Gives an enum its words: those of the built-in drivers and of iproute2.
macro_rules! words {
    ($type:ty, $($variant:ident $word:literal),+) => {
        impl $type {
            const WORDS: &[(Self, &str)] = &[$((Self::$variant, $word)),+];

            fn parse(row: &OptionRow, given: &str) -> Result<Self, OptionError> {
                let found = Self::WORDS.iter().find(|(_, word)| *word == given.trim());
                found.map(|(value, _)| *value).ok_or_else(|| refused(row, given, row.value))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

words!(MacvlanMode, Bridge "bridge", Private "private", Vepa "vepa", Passthru "passthru");
words!(IpvlanMode, L2 "l2", L3 "l3", L3s "l3s");
words!(IpvlanFlag, Bridge "bridge", Private "private", Vepa "vepa");

impl KindOptions {
    /// Takes an option of the table if it chooses a kind; the others are ignored, because the engine handles
    /// them.
    ///
    /// # Errors
    /// The value does not have the form that the row requires.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<(), OptionError> {
        let text = given.trim();
        match row.key {
            PARENT => self.parent = Some(text.parse().map_err(|e: String| refused(row, given, &e))?),
            MACVLAN_MODE => self.macvlan_mode = Some(MacvlanMode::parse(row, given)?),
            IPVLAN_MODE => self.ipvlan_mode = Some(IpvlanMode::parse(row, given)?),
            IPVLAN_FLAG => self.ipvlan_flag = Some(IpvlanFlag::parse(row, given)?),
            HOST => self.host = text.parse().map_err(|()| refused(row, given, row.value))?,
            _ => {}
        }
        Ok(())
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they ask for a network with a bridge, which is the default.
    pub fn has_bridge(&self) -> bool {
        self.is_default()
    }
}

/// What carries a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// A bridge of Pontoon's own.
    Bridge {
        /// The bridge.
        bridge: IfName,
    },
    /// A bridge that existed before: Pontoon uses it, but never deletes it or changes its addresses.
    UserBridge {
        /// The bridge.
        bridge: IfName,
        /// MTU of the bridge in bytes where the network has a smaller one: a port with a smaller MTU would lower
        /// that of the bridge (`br_mtu_auto_adjust`, net/bridge/br_if.c).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bridge_mtu: Option<u32>,
    },
    /// A bridge of Pontoon's own with a tunnel to other hosts.
    Overlay {
        /// The bridge.
        bridge: IfName,
        /// The tunnel, a port of the bridge.
        #[serde(flatten)]
        overlay: Overlay,
    },
    /// A link of the host, the parent of the endpoints' links.
    Macvlan {
        /// The parent.
        parent: IfName,
        /// The mode of the children.
        mode: MacvlanMode,
        /// The parent if Pontoon creates it; it stays as long as a network uses it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<ParentVlan>,
        /// The link by which the host reaches the containers, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostLink>,
    },
    /// A link of the host, whose hardware address the endpoints' links share.
    Ipvlan {
        /// The parent.
        parent: IfName,
        /// The mode of all children of the parent.
        mode: IpvlanMode,
        /// Which other children a child reaches.
        flag: IpvlanFlag,
        /// The parent if Pontoon creates it; it stays as long as a network uses it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<ParentVlan>,
        /// The link by which the host reaches the containers, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<IpvlanHostLink>,
    },
}

impl NetworkKind {
    /// The bridge, for kinds that have one.
    pub fn bridge(&self) -> Option<&IfName> {
        match self {
            Self::Bridge { bridge } | Self::UserBridge { bridge, .. } | Self::Overlay { bridge, .. } => Some(bridge),
            Self::Macvlan { .. } | Self::Ipvlan { .. } => None,
        }
    }

    /// The link of the host that carries the network: its bridge, or the parent of its endpoints' links.
    pub fn link(&self) -> &IfName {
        match self {
            Self::Bridge { bridge } | Self::UserBridge { bridge, .. } | Self::Overlay { bridge, .. } => bridge,
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } => parent,
        }
    }

    /// Whether it has a bridge that Pontoon created.
    pub fn owns_bridge(&self) -> bool {
        matches!(self, Self::Bridge { .. } | Self::Overlay { .. })
    }

    /// The tunnel, for an overlay network.
    pub fn overlay(&self) -> Option<&Overlay> {
        if let Self::Overlay { overlay, .. } = self { Some(overlay) } else { None }
    }

    /// Its name in messages and in the status.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bridge { .. } => "bridge",
            Self::UserBridge { .. } => "user_bridge",
            Self::Overlay { .. } => "overlay",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
        }
    }

    /// The parent of its endpoints' links, for kinds without a bridge.
    pub fn parent(&self) -> Option<&IfName> {
        match self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } => Some(parent),
            _ => None,
        }
    }

    /// The link by which the host reaches the containers on a parent, if it does.
    pub fn host_link(&self) -> Option<&IfName> {
        match self {
            Self::Macvlan { host, .. } => host.as_ref().map(|host| &host.link),
            Self::Ipvlan { host, .. } => host.as_ref().map(|host| &host.link),
            _ => None,
        }
    }

    /// The addresses of the host on the network that no other link of the host has.
    pub fn host_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let own = match self {
            Self::Ipvlan { host, .. } => host.as_ref().and_then(|host| host.addresses),
            _ => None,
        };
        own.into_iter().flat_map(HostAddresses::iter)
    }

    /// How it uses its link of the host, and what all networks that use it like that must have in common; `None` for
    /// a link that belongs to this network alone.
    pub fn terms(&self, icc: bool) -> Option<(LinkUse, String)> {
        match self {
            // The rules of the host know the bridge, not its networks.
            Self::UserBridge { .. } => Some((LinkUse::Bridge, format!("com.docker.network.bridge.enable_icc={icc}"))),
            // A link has children of one kind, and mode and flag of ipvlan belong to the parent.
            Self::Macvlan { .. } => Some((LinkUse::Parent, "macvlan links".to_owned())),
            Self::Ipvlan { mode, flag, .. } => {
                Some((LinkUse::Parent, format!("ipvlan_mode={mode} and ipvlan_flag={flag}")))
            }
            Self::Bridge { .. } | Self::Overlay { .. } => None,
        }
    }

    /// The same network with this tunnel, or without one: only for networks with a bridge created by Pontoon.
    pub fn with_overlay(&self, overlay: Option<Overlay>) -> Self {
        match (self, overlay) {
            (Self::Bridge { bridge } | Self::Overlay { bridge, .. }, Some(overlay)) => {
                Self::Overlay { bridge: bridge.clone(), overlay }
            }
            (Self::Overlay { bridge, .. }, None) => Self::Bridge { bridge: bridge.clone() },
            _ => self.clone(),
        }
    }
}

/// How networks use a link of the host together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkUse {
    /// As a bridge.
    Bridge,
    /// As the parent of their endpoints' links.
    Parent,
}

/// The links of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// A veth pair with one end as a port of the network's bridge.
    Veth {
        /// The end that stays on the host.
        host: IfName,
        /// The end that goes into the sandbox.
        peer: IfName,
    },
    /// A macvlan link, which goes into the sandbox.
    Macvlan {
        /// The link.
        link: IfName,
    },
    /// An ipvlan link, which goes into the sandbox.
    Ipvlan {
        /// The link.
        link: IfName,
    },
}

impl Attachment {
    /// The link that the engine moves into the sandbox.
    pub fn sandbox_link(&self) -> &IfName {
        match self {
            Self::Veth { peer, .. } => peer,
            Self::Macvlan { link } | Self::Ipvlan { link } => link,
        }
    }

    /// The link that stays on the host, for kinds that have one.
    pub fn host(&self) -> Option<&IfName> {
        match self {
            Self::Veth { host, .. } => Some(host),
            Self::Macvlan { .. } | Self::Ipvlan { .. } => None,
        }
    }

    /// Whether the endpoint has a hardware address of its own.
    pub fn has_mac(&self) -> bool {
        !matches!(self, Self::Ipvlan { .. })
    }

    /// All links, the one that stays on the host first.
    pub fn links(&self) -> impl Iterator<Item = &IfName> {
        self.host().into_iter().chain([self.sandbox_link()])
    }
}
