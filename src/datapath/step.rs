//! Steps: the only changes that Pontoon ever makes to a kernel.

use std::net::IpAddr;

use super::{Change, FastPath, Object, ObjectKind, Policy, Station};
use crate::model::{Family, IfName, Published};

/// Which links a rule in a foreign chain matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkMatch {
    /// Every link whose name starts with this text (`pnt+` in iptables syntax).
    Prefix(String),
    /// One link.
    Name(IfName),
}

/// An accepting rule at the end of the engine's `FORWARD` chain, where it overrides nothing but
/// the chain's policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForwardRule {
    /// Accepts what comes in from the link (`-i`).
    From(LinkMatch),
    /// Accepts what goes out to the link (`-o`).
    To(LinkMatch),
}

/// One idempotent change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Turns on `net.ipv4.ip_forward` (false) or `net.ipv6.conf.all.forwarding` (true), and first adds the
    /// family to [`Policy::LimitedForwarding`]. Does nothing when it is already on.
    Forward {
        /// Which of the two.
        family: Family,
    },
    /// Creates the firewall's tables with this release's schema and exactly this policy, in one transaction;
    /// replaces existing tables of these names.
    CreateFirewall(Vec<Policy>),
    /// Changes the policy in one transaction; removals come first, so that a published port can change its
    /// container.
    ChangeFirewall {
        /// Policy that must be in force afterwards.
        add: Vec<Policy>,
        /// Policy that must not be in force afterwards.
        remove: Vec<Policy>,
    },
    /// Makes Pontoon's accepting rules in one family's `FORWARD` chain exactly these, if the chain exists.
    ForwardRules {
        /// `ip6 filter` instead of `ip filter`.
        family: Family,
        /// All of Pontoon's rules there.
        rules: Vec<ForwardRule>,
    },
    /// Changes fast path entries in one transaction, removals first. Does nothing where the kernel does not support
    /// fast path entries, nor for ports of a network that has none yet.
    FastPath {
        /// FastPath that must exist afterwards.
        add: Vec<FastPath>,
        /// FastPath that must not exist afterwards.
        remove: Vec<FastPath>,
    },
    /// Changes the routes and neighbour entries of containers on a parent, removals first. Removing those of a link
    /// that does not exist is success.
    Stations {
        /// Stations that must exist afterwards.
        add: Vec<Station>,
        /// Stations that must not exist afterwards.
        remove: Vec<Station>,
    },
    /// Creates the desired object, or completes an incomplete one of Pontoon: up, in its group, with its
    /// addresses, as a port of its bridge.
    Create(IfName, Object),
    /// Changes an object that exists.
    Change(IfName, Change),
    /// Retires an object of Pontoon: a bridge goes down immediately, and all are deleted in the background,
    /// batched with others.
    Delete(IfName, ObjectKind),
    /// Restores the name of a link of Pontoon.
    Rename {
        /// Its present name.
        from: IfName,
        /// Its proper name.
        to: IfName,
    },
    /// Flushes the connection tracking entries to or from these container addresses in the background, so
    /// that no flow keeps its old destination.
    FlushConntrack(Vec<IpAddr>),
    /// Flushes the stale entries of these ports in the background, those that lead elsewhere than the port
    /// does now: the kernel translates only the first packet of a flow.
    FlushStaleConntrack(Vec<Published>),
}

impl Step {
    /// Creates an object.
    pub fn create(name: IfName, object: impl Into<Object>) -> Self {
        Step::Create(name, object.into())
    }

    /// Whether it creates an object of this kind.
    pub fn creates(&self, kind: ObjectKind) -> bool {
        matches!(self, Step::Create(_, object) if object.kind() == kind)
    }

    /// Whether it deletes an object of this kind.
    pub fn deletes(&self, kind: ObjectKind) -> bool {
        matches!(self, Step::Delete(_, found) if *found == kind)
    }

    /// The link that it concerns, by its proper name; `None` when it concerns none or several.
    pub fn link(&self) -> Option<&IfName> {
        match self {
            Step::Create(link, _) | Step::Change(link, _) | Step::Delete(link, _) | Step::Rename { to: link, .. } => {
                Some(link)
            }
            Step::Forward { .. }
            | Step::CreateFirewall(_)
            | Step::ChangeFirewall { .. }
            | Step::ForwardRules { .. }
            | Step::FastPath { .. }
            | Step::Stations { .. }
            | Step::FlushConntrack(_)
            | Step::FlushStaleConntrack(_) => None,
        }
    }

    /// Whether observing the firewall alone shows that it is needed.
    pub fn is_firewall(&self) -> bool {
        matches!(
            self,
            Step::CreateFirewall(_)
                | Step::ChangeFirewall { .. }
                | Step::ForwardRules { .. }
                | Step::FastPath { .. }
                | Step::FlushStaleConntrack(_)
        )
    }
}
