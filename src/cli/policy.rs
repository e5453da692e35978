//! Arguments of `pontoon policy`.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Print what a container did that its lists do not allow, as lists; it must be audited (--audit on).
    Audit(PolicyAudit),
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

/// Of which containers to print what they did.
#[derive(Debug, Clone, Args)]
pub struct PolicyAudit {
    /// A container, an endpoint or a network: its name, the beginning of its id, an address or a MAC address.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Wait so long, such as 30s, 10m or 2h, and print what was done in that time; without it, in the last day.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub time: Option<Duration>,

    /// Where facts and names are from.
    #[command(flatten)]
    pub view: View,
}

/// Seconds, minutes or hours, at most a day: records do not last longer.
fn time(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(number.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a time up to 24h, such as 30s, 10m or 2h".to_owned())
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
