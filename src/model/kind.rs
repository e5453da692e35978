//! Kinds of networks and of attachments: what carries a network, and which link goes into a sandbox.
//!
//! A new kind is a variant of both types here with its options, a file in `crate::datapath::kind` with what
//! it needs from the kernel, and a kind of object if its links are new to Pontoon (`crate::datapath::object`,
//! `crate::linux::object`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::table::{MACVLAN_MODE, PARENT};
use super::options::{OptionError, OptionRow, refused};
use super::{IfName, Overlay};

/// Options of a network that choose its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KindOptions {
    /// The parent: the link of the host to which the endpoints' links are attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<IfName>,
    /// The mode of macvlan children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macvlan_mode: Option<MacvlanMode>,
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

impl MacvlanMode {
    /// All modes, with their names in the built-in driver and in iproute2.
    const WORDS: [(Self, &'static str); 4] =
        [(Self::Bridge, "bridge"), (Self::Private, "private"), (Self::Vepa, "vepa"), (Self::Passthru, "passthru")];
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::WORDS.iter().find(|(mode, _)| mode == self).map_or("", |(_, word)| word))
    }
}

impl KindOptions {
    /// Takes an option of the table if it chooses a kind; the others are ignored, because the engine handles
    /// them.
    ///
    /// # Errors
    /// The value does not have the form that the row requires.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<(), OptionError> {
        let text = given.trim();
        match row.key {
            PARENT => self.parent = Some(IfName::parse(text).map_err(|e| refused(row, given, &e.to_string()))?),
            MACVLAN_MODE => {
                let found = MacvlanMode::WORDS.iter().find(|(_, word)| *word == text);
                self.macvlan_mode = Some(found.ok_or_else(|| refused(row, given, row.value))?.0);
            }
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
    },
}

impl NetworkKind {
    /// The bridge, for kinds that have one.
    pub fn bridge(&self) -> Option<&IfName> {
        match self {
            Self::Bridge { bridge } | Self::UserBridge { bridge, .. } | Self::Overlay { bridge, .. } => Some(bridge),
            Self::Macvlan { .. } => None,
        }
    }

    /// The link of the host that carries the network: its bridge, or the parent of its endpoints' links.
    pub fn link(&self) -> &IfName {
        match self {
            Self::Bridge { bridge } | Self::UserBridge { bridge, .. } | Self::Overlay { bridge, .. } => bridge,
            Self::Macvlan { parent, .. } => parent,
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
}

impl Attachment {
    /// The link that the engine moves into the sandbox.
    pub fn sandbox_link(&self) -> &IfName {
        match self {
            Self::Veth { peer, .. } => peer,
            Self::Macvlan { link } => link,
        }
    }

    /// The link that stays on the host, for kinds that have one.
    pub fn host(&self) -> Option<&IfName> {
        match self {
            Self::Veth { host, .. } => Some(host),
            Self::Macvlan { .. } => None,
        }
    }

    /// All links, the one that stays on the host first.
    pub fn links(&self) -> impl Iterator<Item = &IfName> {
        self.host().into_iter().chain([self.sandbox_link()])
    }
}
