//! The command line: which arguments exist. `app` interprets them.

mod completion;
mod log;
mod man;
mod policy;
mod view;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use self::completion::{Candidates, Complete, Completions, Shell, Wanted, candidates};
pub use self::log::{LogFormat, LogLevel};
pub use self::man::page;
pub use self::policy::{Policy, PolicyAction, PolicyAudit, PolicyRm, PolicySet, PolicyShow, PolicyTarget, Switch};
pub use self::view::{Drops, Events, Explain, Format, Graph, GraphFormat, Health, Inspect, Listing, Ports, Top, View};
use crate::environment::{self, Unreadable};
use crate::ipam::DefaultPool;
use crate::model::overlay::VXLAN_PORT;
use crate::model::{DataPath, Scope};
use crate::{client, engine, group, output, state};

/// A network and IPAM driver plugin for Docker.
#[derive(Debug, Parser)]
#[command(name = "pontoon", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses this process's command line and environment. An invalid environment variable does not end the
    /// program.
    ///
    /// # Errors
    /// The exit code when there is nothing to do: help, or the error of the command line, is printed.
    pub fn read() -> Result<Self, u8> {
        let (command, unreadable) = environment::forget_unreadable(Self::command());
        let matches = command.try_get_matches().map_err(printed)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(printed)?;
        let name = matches.subcommand_name().unwrap_or_default();
        let own = unreadable.into_iter().filter(|(subcommand, _)| subcommand == name).map(|(_, one)| one).collect();
        match &mut cli.command {
            Command::Serve(serve) => {
                serve.state_dir_typed = environment::is_typed(&matches, "state_dir");
                serve.unreadable = own;
            }
            Command::Vip(vip) => vip.unreadable = own,
            // The other subcommands take only paths from the environment.
            _ => {}
        }
        Ok(cli)
    }
}

/// Prints help, a version, or an error; returns the exit code.
fn printed(error: clap::Error) -> u8 {
    if error.use_stderr() {
        let _ = error.print();
    } else {
        output::print(&error.render().to_string());
    }
    u8::try_from(error.exit_code()).unwrap_or(1)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the plugin socket in the foreground until SIGTERM or SIGINT.
    Serve(Serve),
    /// List published ports, including those that Pontoon chose.
    Ports(Ports),
    /// List leases from DHCP servers and routers.
    Leases(Listing),
    /// Show the daemon's condition and all networks.
    Status(Listing),
    /// List endpoints with their containers, addresses and published ports.
    Ls(Listing),
    /// Show a container, an endpoint or a network.
    Inspect(Inspect),
    /// List address pools.
    Pools(Listing),
    /// List the other hosts of overlay networks.
    Peers(Listing),
    /// Show which endpoints receive and send how much at present, the busiest first.
    Top(Top),
    /// Draw networks with their containers, published ports and other hosts.
    Graph(Graph),
    /// Show which rules of Pontoon dropped packets, and what that means.
    Drops(Drops),
    /// Show what happened lately: requests of the engine, repairs, peers, address conflicts.
    Events(Events),
    /// Say whether all is well, for health checks: by the exit code and in one line.
    Health(Health),
    /// Show the version of this program and of the daemon.
    Version(View),
    /// Explain whether a container, the host or an address reaches another, and which rule decides.
    Explain(Explain),
    /// Show or change what containers may exchange with whom, while they run.
    Policy(Policy),
    /// Diagnose the running daemon and its environment.
    Doctor(Doctor),
    /// The same without the daemon: reads its state directory and the kernel, and changes nothing.
    Check(Doctor),
    /// Print the commands that a repair would run.
    Plan(Asked),
    /// Repair links and firewall rules now, through the daemon, or directly when none runs.
    Repair(Repair),
    /// Find networks, endpoints and pools that the engine no longer knows, and remove them.
    Gc(Gc),
    /// Serve virtual addresses (VIPs) of Swarm services to the containers of this host, until SIGTERM or SIGINT.
    Vip(Vip),
    /// Remove everything that Pontoon created in this network namespace, after its daemon was stopped for good.
    Uninstall(Uninstall),
    /// Print all network and endpoint options as Markdown.
    Options,
    /// Print the script that completes commands, flags and names in a shell.
    Completions(Completions),
    /// Print the manual page, for man(1).
    Man,
    /// Print what may follow on a command line, for the scripts of shells.
    #[command(hide = true)]
    Complete(Complete),
}

/// Settings of the daemon. Each has an environment variable of the same name.
#[derive(Debug, Args)]
pub struct Serve {
    /// Unix socket to listen on; unused with systemd socket activation.
    #[arg(long, env = "PONTOON_SOCKET", default_value = client::SOCKET, value_name = "PATH")]
    pub socket: PathBuf,

    /// Unix socket for operators, which only shows; `none` for none [default: that of the default --socket].
    #[arg(long, env = "PONTOON_STATUS_SOCKET", value_name = "PATH|none")]
    pub status_socket: Option<PathBuf>,

    /// Group whose members may use the status socket, by name or number; without it root alone may.
    #[arg(long, env = "PONTOON_STATUS_GROUP", default_value = group::OPERATORS, value_name = "GROUP")]
    pub status_group: String,

    /// Directory of the ledger; created if missing.
    #[arg(long, env = "PONTOON_STATE_DIR", default_value = state::DIRECTORY, value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Log level; the log goes to standard error.
    #[arg(long, env = "PONTOON_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: LogLevel,

    /// Log format.
    #[arg(long, env = "PONTOON_LOG_FORMAT", default_value = "text", value_name = "FORM")]
    pub log_format: LogFormat,

    /// Pools for networks without --subnet, separated by ';' [default: Docker's].
    #[arg(
        long,
        alias = "default-address-pool",
        env = "PONTOON_DEFAULT_ADDRESS_POOLS",
        value_delimiter = ';',
        value_name = "base=CIDR,size=N"
    )]
    pub default_address_pools: Vec<DefaultPool>,

    /// Scope of networks: local for this host, global for the Swarm.
    #[arg(long, env = "PONTOON_SCOPE", default_value = "local", value_name = "SCOPE")]
    pub scope: ScopeWord,

    /// Scope of names on networks with scope local; global is implied by --scope global.
    #[arg(long, env = "PONTOON_CONNECTIVITY", default_value = "local", value_name = "SCOPE")]
    pub connectivity: ScopeWord,

    /// UDP port of overlay networks, the same on every host.
    #[arg(long, env = "PONTOON_VXLAN_PORT", default_value_t = VXLAN_PORT, value_parser = clap::value_parser!(u16).range(1..),
        value_name = "PORT")]
    pub vxlan_port: u16,

    /// Address or link of the tunnels to other hosts [default: the Swarm's, else that of the default route].
    #[arg(long, env = "PONTOON_DATA_PATH", value_parser = data_path, value_name = "ADDRESS|LINK")]
    pub data_path: Option<DataPath>,

    /// Addresses of the other hosts of all overlay networks, separated by ','; not needed for nodes of a Swarm.
    #[arg(long, env = "PONTOON_PEERS", value_delimiter = ',', value_parser = peer, value_name = "ADDRESSES")]
    pub peers: Vec<IpAddr>,

    /// Whether to turn on forwarding when a network needs it, as dockerd does unless --ip-forward=false.
    #[arg(long, env = "PONTOON_IP_FORWARD", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "WHETHER")]
    pub ip_forward: bool,

    /// Path of the host's /proc/sys/net.
    #[arg(long, env = "PONTOON_SYSCTL_ROOT", default_value = "/proc/sys/net", value_name = "DIR")]
    pub sysctl_root: PathBuf,

    /// Whether to drop privileges that serving does not need; off is for debugging.
    #[arg(long, env = "PONTOON_CONFINE", default_value = "on", value_name = "WHETHER")]
    pub confine: Confine,

    /// Whether Docker runs this as a managed plugin, which changes the log format; set by config.json.
    #[arg(long, env = "PONTOON_MANAGED", default_value = "off", action = ArgAction::Set, value_parser = BoolishValueParser::new(),
        value_name = "WHETHER")]
    pub managed: bool,

    /// Whether the state directory was typed, and not set in the environment.
    #[arg(skip)]
    pub state_dir_typed: bool,

    /// Variables that cannot be read.
    #[arg(skip)]
    pub unreadable: Vec<Unreadable>,
}

/// Whether the daemon confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Confine {
    /// It does, as far as the kernel can.
    On,
    /// It keeps what it was started with.
    Off,
}

/// How far networks reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    /// A network is this host's.
    Local,
    /// A network is the Swarm's.
    Global,
}

impl From<ScopeWord> for Scope {
    fn from(word: ScopeWord) -> Self {
        match word {
            ScopeWord::Local => Scope::Local,
            ScopeWord::Global => Scope::Global,
        }
    }
}

/// Where the daemon is, and where it keeps its state.
#[derive(Debug, Clone, Args)]
pub struct Asked {
    /// Plugin socket of the daemon [default: that of the installed Pontoon].
    #[arg(long, env = "PONTOON_SOCKET", default_value = "", hide_default_value = true, value_parser = path, value_name = "PATH")]
    pub socket: PathBuf,

    /// Name of the managed plugin, if there are several.
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,

    /// Directory of the ledger; used when no daemon answers [default: as for --socket].
    #[arg(long, env = "PONTOON_STATE_DIR", default_value = "", hide_default_value = true, value_parser = path, value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What to repair.
#[derive(Debug, Clone, Args)]
pub struct Repair {
    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Also remove this link, which `pontoon plan` lists as not in the ledger; may be repeated.
    #[arg(long, value_name = "LINK", requires = "yes")]
    pub remove: Vec<String>,

    /// Confirm that containers that use the links of --remove lose their connection.
    #[arg(long, requires = "remove")]
    pub yes: bool,
}

/// What to remove.
#[derive(Debug, Clone, Args)]
pub struct Uninstall {
    /// Remove; without this flag only list.
    #[arg(long)]
    pub yes: bool,

    /// Also remove this link of a running container, which loses its connection; may be repeated.
    #[arg(long, value_name = "LINK", requires = "yes")]
    pub cut: Vec<String>,

    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What to look at.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Also compare with the engine on this socket.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = engine::SOCKET)]
    pub docker: Option<PathBuf>,

    /// Also show checks that passed.
    #[arg(long)]
    pub verbose: bool,
}

/// What to compare, and whether to remove.
#[derive(Debug, Clone, Args)]
pub struct Gc {
    /// Where the daemon is.
    #[command(flatten)]
    pub asked: Asked,

    /// Socket of the engine to compare with.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = engine::SOCKET, required = true)]
    pub docker: PathBuf,

    /// Remove what is listed, after comparing a second time.
    #[arg(long)]
    pub yes: bool,

    /// Seconds between the two comparisons.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    pub wait: u64,

    /// Continue although the engine knows none of the networks (its data was removed).
    #[arg(long)]
    pub none_known: bool,
}

/// Whose services, and where. Each has an environment variable, too.
#[derive(Debug, Clone, Args)]
pub struct Vip {
    /// Socket of this host's engine.
    #[arg(long, env = "PONTOON_DOCKER", default_value = engine::SOCKET, value_name = "PATH")]
    pub docker: PathBuf,

    /// Directory where the engine keeps its network namespaces.
    #[arg(long, env = "PONTOON_NETNS", default_value = "/run/docker/netns", value_name = "DIR")]
    pub netns: PathBuf,

    /// Name of the driver of the networks, as the engine shows it.
    #[arg(long, env = "PONTOON_DRIVER", default_value = "pontoon:latest", value_name = "NAME")]
    pub driver: String,

    /// Log level; the log goes to standard error.
    #[arg(long, env = "PONTOON_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: LogLevel,

    /// Log format.
    #[arg(long, env = "PONTOON_LOG_FORMAT", default_value = "text", value_name = "FORM")]
    pub log_format: LogFormat,

    /// Remove service addresses from the containers of this host, and exit.
    #[arg(long)]
    pub clear: bool,

    /// Variables that cannot be read.
    #[arg(skip)]
    pub unreadable: Vec<Unreadable>,
}

/// An empty path is determined later.
fn path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

fn data_path(text: &str) -> Result<DataPath, String> {
    DataPath::parse(text.trim()).map_err(|error| error.to_string())
}

fn peer(text: &str) -> Result<IpAddr, String> {
    let address = text.trim().parse().map_err(|_| format!("{text:?} is not an address"))?;
    match crate::model::overlay::no_host(address) {
        Some(why) => Err(format!("{address} is not another host: {why}")),
        None => Ok(address),
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod cli_tests;
