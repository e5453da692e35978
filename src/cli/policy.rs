//! Arguments of `pontoon policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Asked, View};
use crate::engine;

/// What to do with allow lists.
#[derive(Debug, Args)]
pub struct Policy {
    /// Which of the commands.
    #[command(subcommand)]
    pub action: PolicyAction,
}

/// What to do with allow lists.
#[derive(Debug, Subcommand)]
pub enum PolicyAction {
    /// Show what a container, an endpoint or a network may exchange with whom.
    Show(PolicyShow),
    /// Store allow lists for a container, an endpoint or a network, in addition to those of its options; in force at once.
    Set(PolicySet),
    /// Remove the stored lists; those of options remain.
    Rm(PolicyRm),
}

/// Whose lists to show.
#[derive(Debug, Clone, Args)]
pub struct PolicyShow {
    /// A container, an endpoint or a network: its name, the beginning of its id, an address or a MAC address.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Where facts and names are from.
    #[command(flatten)]
    pub view: View,
}

/// Whose lists to change, and how.
#[derive(Debug, Clone, Args)]
pub struct PolicyTarget {
    /// A container, an endpoint or a network: its name, the beginning of its id, an address or a MAC address.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Let connections go on that are not allowed any more.
    #[arg(long)]
    pub keep_flows: bool,

    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Socket of the engine, which is asked for names for a second at most.
    #[arg(long, value_name = "PATH", default_value = engine::SOCKET)]
    pub docker: PathBuf,
}

/// What to store.
#[derive(Debug, Clone, Args)]
#[group(id = "lists", required = true, multiple = true, args = ["egress_allow", "ingress_allow", "audit"])]
pub struct PolicySet {
    /// What it may reach, as in the option pontoon.egress.allow; empty for nothing.
    #[arg(long, value_name = "RULES")]
    pub egress_allow: Option<String>,

    /// What may reach it, as in the option pontoon.ingress.allow; empty for nothing.
    #[arg(long, value_name = "RULES")]
    pub ingress_allow: Option<String>,

    /// Whether the lists refuse nothing: what they do not allow passes and is recorded for `pontoon policy audit`.
    #[arg(long, value_name = "on|off")]
    pub audit: Option<Switch>,

    /// For whom.
    #[command(flatten)]
    pub target: PolicyTarget,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// What to remove.
#[derive(Debug, Clone, Args)]
pub struct PolicyRm {
    /// Whose lists.
    #[command(flatten)]
    pub target: PolicyTarget,
}
