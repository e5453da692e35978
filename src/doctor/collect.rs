//! Reads the doctor's inputs that are in files: kernel settings, the daemon's process, the socket and its files,
//! the disk.
//!
//! Reads and connects; changes nothing. What cannot be read is absent, not an error: the doctor is made for
//! hosts on which things are missing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

use crate::client::Client;

/// Settings that checks need, below `/proc/sys/net`.
const SETTINGS: [&str; 12] = [
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/arp_ignore",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
    "netfilter/nf_conntrack_count",
    "netfilter/nf_conntrack_max",
    "ipv6/conf/all/disable_ipv6",
    "ipv4/neigh/default/gc_thresh3",
    "ipv6/neigh/default/gc_thresh3",
];

/// Neighbour tables that all namespaces share, and the files with their counts. Only the host's namespace has
/// these files and their limits (net/core/neighbour.c).
const NEIGHBOURS: [(&str, &str); 2] = [("ipv4", "/proc/net/stat/arp_cache"), ("ipv6", "/proc/net/stat/ndisc_cache")];

/// Where engines look for plugins (docs.docker.com/engine/extend/plugin_api).
const SPEC_DIRS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// Where the engine creates the sockets of managed plugins, one directory each.
const PLUGIN_SOCKETS: &str = "/run/docker/plugins";

/// Settings and other properties of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, String>,
    /// Its release.
    pub release: String,
    /// Tables of iptables-legacy in this namespace.
    pub legacy_tables: Vec<String>,
    /// Wireless links, and links above them.
    pub wireless: Vec<String>,
}

impl Settings {
    /// Reads them; `links` are those whose per-link settings are needed.
    pub fn read(links: &[String]) -> Self {
        let mut wanted: Vec<String> = SETTINGS.iter().map(|path| (*path).to_owned()).collect();
        for link in links {
            wanted.push(format!("ipv4/conf/{link}/rp_filter"));
            wanted.push(format!("ipv6/conf/{link}/accept_ra"));
        }
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
        let values =
            wanted.into_iter().filter_map(|path| Some((path.clone(), read(&format!("/proc/sys/net/{path}"))?)));
        let mut values: BTreeMap<String, String> = values.collect();
        for (family, path) in NEIGHBOURS {
            if let Some((entries, refused)) = neighbours(&read(path).unwrap_or_default()) {
                values.insert(format!("{family}/neigh/entries"), entries.to_string());
                values.insert(format!("{family}/neigh/refused"), refused.to_string());
            }
        }
        let mut legacy = Vec::new();
        for names in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
            let prefix = if names.contains("ip6") { "ip6tables" } else { "iptables" };
            legacy.extend(read(names).unwrap_or_default().lines().map(|table| format!("{prefix} {table}")));
        }
        Self {
            values,
            release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            legacy_tables: legacy,
            wireless: wireless(Path::new("/sys/class/net")),
        }
    }

    /// Builds it from these values, for tests.
    pub fn of(values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { values, ..Self::default() }
    }

    /// A setting; `None` when this kernel does not have it.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.values.get(path).map(String::as_str)
    }

    /// A numeric setting.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.parse().ok()
    }
}

/// The number of entries in a neighbour table, and how many were refused because it was full since the host
/// started. The file has a line of names, and one line of hexadecimal numbers for each processor.
fn neighbours(text: &str) -> Option<(u64, u64)> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_whitespace().collect();
    let column = |name: &str| names.iter().position(|column| *column == name);
    let (entries, refused) = (column("entries")?, column("table_fulls")?);
    let mut counts = (0, 0);
    for line in lines {
        let values: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| values.get(at).and_then(|value| u64::from_str_radix(value, 16).ok());
        // The first number is that of the whole table on every line.
        counts = (number(entries)?, number(refused)?.saturating_add(counts.1));
    }
    Some(counts)
}

/// The links in this directory of links that are wireless, or above such a link, as `wlan0.40` is.
fn wireless(dir: &Path) -> Vec<String> {
    /// Levels of links above each other, more than anybody has.
    const LEVELS: usize = 8;
    fn is_wireless(link: &Path, levels: usize) -> bool {
        let lower = || {
            let entries = fs::read_dir(link).into_iter().flatten().flatten();
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("lower_"))
        };
        // The driver's physical device (`cfg80211_netdev_notifier_call`, net/wireless/core.c).
        link.join("phy80211").exists() || (levels > 0 && lower().any(|entry| is_wireless(&entry.path(), levels - 1)))
    }
    let links = fs::read_dir(dir).into_iter().flatten().flatten().filter(|link| is_wireless(&link.path(), LEVELS));
    links.map(|link| link.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether `pontoon vip` runs on this host.
pub fn serves_vips() -> bool {
    let is_agent = |entry: fs::DirEntry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.rsplit(|byte| *byte == b'/').next() == Some(b"pontoon".as_slice()))
            && words.next() == Some(b"vip".as_slice())
    };
    fs::read_dir("/proc").is_ok_and(|entries| entries.flatten().any(is_agent))
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its effective capabilities, as bits.
    pub capabilities: u64,
    /// The limit of open descriptors.
    pub descriptors: Option<u64>,
    /// The number of open descriptors.
    pub open: Option<u64>,
}

impl Process {
    /// Reads a process from `/proc`; `None` when no process has this id.
    pub fn read(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
        Some(Self {
            pid,
            capabilities: u64::from_str_radix(hex.trim(), 16).ok()?,
            descriptors: soft.and_then(|soft| soft.parse().ok()),
            open: fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|entries| entries.count() as u64),
        })
    }

    /// The process of the daemon: the one that listens on the socket, or, if systemd created the socket, the one
    /// that the daemon reports.
    pub fn of_daemon(socket: &Path, says: u32) -> Option<Self> {
        let listener =
            UnixStream::connect(socket).ok().and_then(|stream| getsockopt(&stream, sockopt::PeerCredentials).ok());
        let listener = listener.and_then(|peer| u32::try_from(peer.pid()).ok());
        let is_pontoon =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "pontoon");
        listener.into_iter().chain([says]).find(is_pontoon).and_then(Self::read)
    }
}

/// Whether this process has CAP_NET_ADMIN, which the doctor needs to read the kernel's state. If that cannot be
/// determined, later checks report it.
pub fn may_look() -> bool {
    Process::read(std::process::id()).is_none_or(|own| own.capabilities & (1 << super::daemon::NET_ADMIN) != 0)
}

/// What exists at a socket's path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AtPath {
    /// Nothing.
    #[default]
    Nothing,
    /// Not a socket.
    AnotherFile,
    /// A socket without a listener, and the error of connecting.
    Stale(String),
    /// A listener that does not answer as a plugin does.
    NoPlugin(String),
    /// A network driver.
    Plugin,
}

/// The socket and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wiring {
    /// The path.
    pub socket: PathBuf,
    /// What exists there.
    pub at_path: AtPath,
    /// Its permissions.
    pub mode: Option<u32>,
    /// Sockets of managed plugins with Pontoon's name.
    pub managed: Vec<PathBuf>,
    /// Files that tell the engine where a plugin `pontoon` is, and their contents.
    pub specs: Vec<(PathBuf, String)>,
    /// Whether systemd has a unit for the socket.
    pub unit: bool,
    /// The status socket on this host, and its permissions if it exists.
    pub status: (PathBuf, Option<u32>),
}

impl Wiring {
    /// Reads the files, and asks a listener what it is.
    pub fn read(socket: &Path) -> Self {
        let found = fs::symlink_metadata(socket).ok();
        let at_path = match &found {
            None => AtPath::Nothing,
            Some(found) if !found.file_type().is_socket() => AtPath::AnotherFile,
            Some(_) => match UnixStream::connect(socket) {
                Err(error) => AtPath::Stale(error.to_string()),
                Ok(_) => activated(socket),
            },
        };
        let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let managed = entries(PLUGIN_SOCKETS).map(|dir| dir.join("pontoon.sock")).filter(|path| path.exists());
        let named = |path: &PathBuf| {
            path.file_stem().is_some_and(|stem| stem == "pontoon")
                && path.extension().is_some_and(|end| end == "spec" || end == "json")
        };
        let specs = SPEC_DIRS.iter().flat_map(|dir| entries(dir).filter(named));
        let units = ["/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"];
        Self {
            socket: socket.to_owned(),
            at_path,
            mode: found.map(|found| found.permissions().mode() & 0o777),
            managed: managed.collect(),
            specs: specs
                .map(|path| (path.clone(), fs::read_to_string(&path).unwrap_or_default().trim().to_owned()))
                .collect(),
            unit: units.iter().any(|dir| Path::new(dir).join("pontoon.socket").exists()),
            status: Default::default(),
        }
    }

    /// Finds the status socket that the daemon sees at this path: a managed plugin has it beside its plugin socket.
    pub fn with_status_socket(mut self, seen: &Path) -> Self {
        let beside = self.socket.parent().zip(seen.file_name()).map(|(dir, name)| dir.join(name));
        let path = beside.filter(|_| self.managed.contains(&self.socket)).unwrap_or_else(|| seen.to_owned());
        let mode = fs::symlink_metadata(&path).ok().map(|found| found.permissions().mode() & 0o777);
        self.status = (path, mode);
        self
    }
}

fn activated(socket: &Path) -> AtPath {
    let answer = Client::new(socket, "socket")
        .and_then(|client| client.post::<serde_json::Value>("/Plugin.Activate", &serde_json::json!({})));
    match answer {
        Ok(manifest) => {
            let is = |kind: &str| manifest["Implements"].as_array().is_some_and(|list| list.iter().any(|i| i == kind));
            if is("NetworkDriver") { AtPath::Plugin } else { AtPath::NoPlugin(format!("it answers {manifest}")) }
        }
        Err(error) => AtPath::NoPlugin(error.to_string()),
    }
}

/// The disk with the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that can still be written.
    pub free: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

impl Disk {
    /// Reads the file system of a directory.
    pub fn read(dir: &Path) -> Option<Self> {
        let found = nix::sys::statvfs::statvfs(dir).ok()?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        Some(Self { free, read_only: found.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_neighbours_are_read() {
        let text = "entries  allocs   destroys forced_gc_runs unresolved_discards table_fulls\n\
                    0000040a 00000001 00000002 00000000       00000000            00000010\n\
                    0000040a 00000001 00000002 00000000       00000000            0000000f\n";
        assert_eq!(neighbours(text), Some((1034, 31)));
        for end in 0..text.len() {
            neighbours(&text[..end]);
        }
        assert_eq!((neighbours(""), neighbours("entries table_fulls\nx y")), (None, None));
    }
    #[test]
    fn wireless_links_and_those_above_them_are_found() {
        let dir = std::env::temp_dir().join(format!("pontoon-wireless-{}", std::process::id()));
        for path in ["wlan0/phy80211", "wlan0.40/lower_wlan0", "eth0", "eth0.40/lower_eth0"] {
            fs::create_dir_all(dir.join(path)).unwrap();
        }
        // In /sys these are symbolic links to the lower link.
        fs::remove_dir(dir.join("wlan0.40/lower_wlan0")).unwrap();
        std::os::unix::fs::symlink("../wlan0", dir.join("wlan0.40/lower_wlan0")).unwrap();
        let mut found = wireless(&dir);
        found.sort();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, ["wlan0", "wlan0.40"]);
    }
}
