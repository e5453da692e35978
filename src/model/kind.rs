//! Kinds of networks and of attachments: what carries a network, and which link goes into a sandbox.
//!
//! A new kind is a variant of both types here with its options, a file in `crate::datapath::kind` with
//! what it needs of the kernel, and a kind of object if its links are new to Pontoon
//! (`crate::datapath::object`, `crate::linux::object`).

use serde::{Deserialize, Serialize};

use super::options::{OptionError, OptionRow};
use super::{IfName, Overlay};

/// Options of a network that choose its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KindOptions {}

impl KindOptions {
    /// Takes an option of the table that chooses a kind; one that does not is left to the engine.
    ///
    /// # Errors
    /// The value is not of the row's form.
    pub fn take(&mut self, _: &OptionRow, _: &str) -> Result<(), OptionError> {
        Ok(())
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they ask for a network with a bridge, which is every network that asks for nothing else.
    pub fn has_bridge(&self) -> bool {
        true
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
    /// A bridge that existed before: it is used, never deleted and never re-addressed.
    UserBridge {
        /// The bridge.
        bridge: IfName,
    },
    /// A bridge of Pontoon's own with a tunnel to other hosts.
    Overlay {
        /// The bridge.
        bridge: IfName,
        /// The tunnel, a port of the bridge.
        #[serde(flatten)]
        overlay: Overlay,
    },
}

impl NetworkKind {
    /// The bridge, for kinds that have one.
    pub fn bridge(&self) -> Option<&IfName> {
        match self {
            Self::Bridge { bridge } | Self::UserBridge { bridge } | Self::Overlay { bridge, .. } => Some(bridge),
        }
    }

    /// The link of the host that carries the network: its bridge, or the parent of its endpoints' links.
    pub fn link(&self) -> &IfName {
        match self {
            Self::Bridge { bridge } | Self::UserBridge { bridge } | Self::Overlay { bridge, .. } => bridge,
        }
    }

    /// Whether it has a bridge that Pontoon made.
    pub fn owns_bridge(&self) -> bool {
        matches!(self, Self::Bridge { .. } | Self::Overlay { .. })
    }

    /// The tunnel, for an overlay network.
    pub fn overlay(&self) -> Option<&Overlay> {
        if let Self::Overlay { overlay, .. } = self { Some(overlay) } else { None }
    }

    /// What it is called in messages and in the status.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bridge { .. } => "bridge",
            Self::UserBridge { .. } => "user_bridge",
            Self::Overlay { .. } => "overlay",
        }
    }

    /// The same network with this tunnel, or without one: only for networks with a bridge of Pontoon's.
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
    /// A veth pair whose one end is a port of the network's bridge.
    Veth {
        /// The end that stays on the host.
        host: IfName,
        /// The end that goes into the sandbox.
        peer: IfName,
    },
}

impl Attachment {
    /// The link that the engine moves into the sandbox.
    pub fn sandbox_link(&self) -> &IfName {
        match self {
            Self::Veth { peer, .. } => peer,
        }
    }

    /// The link that stays on the host, for kinds that have one.
    pub fn host(&self) -> Option<&IfName> {
        match self {
            Self::Veth { host, .. } => Some(host),
        }
    }

    /// All links, the one that stays on the host first.
    pub fn links(&self) -> impl Iterator<Item = &IfName> {
        self.host().into_iter().chain([self.sandbox_link()])
    }
}
