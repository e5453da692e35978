//! Arguments of the commands that show what Pontoon and the kernel do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Asked, path};
use crate::engine;

/// Who sends to whom.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The sender: a container's name or id, an endpoint's id, a MAC address, an address, or `host`.
    #[arg(value_name = "FROM")]
    pub from: String,

    /// The receiver, with a port, or without one for ICMP; an IPv6 address with a port in brackets.
    #[arg(value_name = "TO[:PORT[/PROTOCOL]]")]
    pub to: String,

    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Socket of the engine, which is asked for names for a second at most.
    #[arg(long, value_name = "PATH", default_value = engine::SOCKET)]
    pub docker: PathBuf,

    /// Use IPv6 where both have addresses of both families.
    #[arg(long)]
    pub ipv6: bool,
}

/// What to list.
#[derive(Debug, Args)]
pub struct Ports {
    /// Plugin socket of the daemon [default: that of the installed Pontoon].
    #[arg(long, env = "PONTOON_SOCKET", default_value = "", hide_default_value = true, value_parser = path, value_name = "PATH")]
    pub socket: PathBuf,

    /// Name of the managed plugin, if there are several.
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,

    /// Only networks whose id starts with this; with --docker, or the one of this name.
    #[arg(long, value_name = "ID")]
    pub network: Option<String>,

    /// Only endpoints whose id starts with this; with --docker, or the container of this name.
    #[arg(long, value_name = "ID")]
    pub endpoint: Option<String>,

    /// Show names of containers and networks, from the engine on this socket.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = engine::SOCKET)]
    pub docker: Option<PathBuf>,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// A table with more columns, where there are more.
    Wide,
    /// An object for programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Where facts and names are from.
#[derive(Debug, Clone, Args)]
pub struct View {
    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Form of the output; --json is the same as `-o json`.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Format,

    /// Status socket of the daemon, which members of its group may use [default: that of the installed Pontoon].
    #[arg(long, env = "PONTOON_STATUS_SOCKET", default_value = "", hide_default_value = true, value_parser = path, value_name = "PATH")]
    pub status_socket: PathBuf,

    /// Socket of the engine, which is asked for names for a second at most.
    #[arg(long, value_name = "PATH", default_value = engine::SOCKET)]
    pub docker: PathBuf,
}

impl View {
    /// The form of the output.
    pub fn format(&self) -> Format {
        if self.asked.json { Format::Json } else { self.output }
    }
}

/// A list, and how often it is shown.
#[derive(Debug, Clone, Args)]
pub struct Listing {
    /// Show it again after this many seconds [without a number: 2], until the output is closed or a signal ends it.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,

    /// Where facts and names are from; JSON with --watch is one object per line.
    #[command(flatten)]
    pub view: View,
}

/// What traffic to show.
#[derive(Debug, Clone, Args)]
pub struct Top {
    /// Show only this many endpoints, the busiest ones.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub lines: Option<usize>,

    /// Show it once, and exit.
    #[arg(long)]
    pub once: bool,

    /// Seconds over which traffic is measured.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// Where facts and names are from; JSON without --once is one object per line.
    #[command(flatten)]
    pub view: View,
}

/// Form of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A tree for people.
    Text,
    /// For Graphviz.
    Dot,
    /// For Mermaid, which many web pages and editors draw.
    Mermaid,
    /// A picture.
    Svg,
    /// An object for programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// How to draw.
#[derive(Debug, Clone, Args)]
pub struct Graph {
    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Form of the output; --json is the same as `-o json`.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: GraphFormat,

    /// Status socket of the daemon, which members of its group may use [default: that of the installed Pontoon].
    #[arg(long, env = "PONTOON_STATUS_SOCKET", default_value = "", hide_default_value = true, value_parser = path, value_name = "PATH")]
    pub status_socket: PathBuf,

    /// Socket of the engine, which is asked for names for a second at most.
    #[arg(long, value_name = "PATH", default_value = engine::SOCKET)]
    pub docker: PathBuf,
}

impl Graph {
    /// Where facts and names are from.
    pub fn view(&self) -> View {
        let Self { asked, output: _, status_socket, docker } = self.clone();
        View { asked, output: Format::Table, status_socket, docker }
    }
}

/// What to inspect.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// A container, an endpoint or a network: its name, the beginning of its id, an address or a MAC address.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Where facts and names are from.
    #[command(flatten)]
    pub view: View,
}

/// Which events to print.
#[derive(Debug, Clone, Args)]
pub struct Events {
    /// Continue with events as they happen, until the output is closed or a signal ends it.
    #[arg(short, long)]
    pub follow: bool,

    /// Also what Pontoon's rules drop meanwhile, once a second.
    #[arg(long, requires = "follow")]
    pub drops: bool,

    /// Where facts and names are from; JSON is one object per line.
    #[command(flatten)]
    pub view: View,
}

/// How to judge the daemon.
#[derive(Debug, Clone, Args)]
pub struct Health {
    /// Print one line with performance data, as plugins of Nagios and Icinga do.
    #[arg(long)]
    pub nagios: bool,

    /// Where facts and names are from.
    #[command(flatten)]
    pub view: View,
}

/// Which drops to show.
#[derive(Debug, Clone, Args)]
pub struct Drops {
    /// Wait for this many seconds, and show what was dropped in that time.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,

    /// How often, and where facts and names are from.
    #[command(flatten)]
    pub listing: Listing,
}
