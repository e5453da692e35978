//! Finds the installations of Pontoon on this host, so that a command finds the daemon's state without
//! arguments: the socket plugin, and each managed plugin that Docker has.
//!
//! Reads Docker's files and sends no requests, so that it works while no engine runs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::Asked;
use crate::{client, state};

/// Name of a managed plugin's socket for operators, beside its plugin socket: config.json.
const STATUS_SOCKET: &str = "status.sock";

/// One installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Docker's name for the managed plugin; `None` for the socket plugin.
    pub plugin: Option<String>,
    /// Its socket, existing or not.
    pub socket: PathBuf,
    /// Its socket for operators, existing or not.
    pub status_socket: PathBuf,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Whether it is enabled in Docker; the socket plugin always is.
    pub enabled: bool,
}

/// Why the installation cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// None is installed here.
    #[error("no installation of Pontoon found: add --state-dir and --socket")]
    None,
    /// There is more than one.
    #[error("there are {} managed plugins of Pontoon ({}): add --plugin NAME", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    /// None has this name.
    #[error("no managed plugin {0} of Pontoon; `docker plugin ls` lists them")]
    Unknown(String),
    /// Docker's files cannot be read.
    #[error("{}: {cause}; run this as root", dir.display())]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
}

/// Where Docker keeps its data and its sockets.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `--data-root` and `--exec-root` of each engine.
    engines: Vec<(PathBuf, PathBuf)>,
    socket: PathBuf,
    state: PathBuf,
}

impl Roots {
    /// The directories of the engines that run here, those in `/etc/docker/daemon.json`, and the defaults.
    pub fn of_host() -> Self {
        let mut engines = Vec::new();
        let own = fs::read_link("/proc/self/ns/net").ok();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            // An engine in another network namespace has another Pontoon.
            let here = || fs::read_link(entry.path().join("ns/net")).ok() == own;
            let is_engine =
                fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim() == "dockerd") && here();
            if let Some(line) = is_engine.then(|| fs::read(entry.path().join("cmdline")).ok()).flatten() {
                engines.push(roots_of_engine(&line));
            }
        }
        let settings: Value = fs::read("/etc/docker/daemon.json")
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let told = |key: &str, usual: &str| settings[key].as_str().map_or_else(|| usual.into(), PathBuf::from);
        engines.push((told("data-root", "/var/lib/docker"), told("exec-root", "/run/docker")));
        engines.dedup();
        Self { engines, socket: client::SOCKET.into(), state: state::DIRECTORY.into() }
    }

    fn of_socket(&self) -> Installation {
        let (socket, state_dir) = (self.socket.clone(), self.state.clone());
        Installation { plugin: None, socket, status_socket: client::STATUS_SOCKET.into(), state_dir, enabled: true }
    }

    /// The status socket of the daemon that the options mean, existing or not; `None` if they name a daemon that is not
    /// one of the installations.
    ///
    /// # Errors
    /// As [`Roots::choose`].
    pub fn status_socket(&self, asked: &Asked) -> Result<Option<PathBuf>, LocateError> {
        let unset = |path: &Path| path.as_os_str().is_empty();
        if asked.plugin.is_some() || unset(&asked.socket) && unset(&asked.state_dir) {
            return self.choose(asked.plugin.as_deref()).map(|one| Some(one.status_socket));
        }
        let told = |one: &Installation| one.socket == asked.socket || one.state_dir == asked.state_dir;
        Ok(self.installations()?.into_iter().find(told).map(|one| one.status_socket))
    }

    /// All installations: the socket plugin first.
    ///
    /// # Errors
    /// Docker has plugins but they cannot be listed.
    pub fn installations(&self) -> Result<Vec<Installation>, LocateError> {
        let mut found = Vec::new();
        if fs::symlink_metadata(&self.socket).is_ok() {
            found.push(self.of_socket());
        }
        for (data, exec) in &self.engines {
            let dir = data.join("plugins");
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(cause) => return Err(LocateError::Unreadable { dir, cause }),
            };
            for entry in entries.flatten() {
                let config = fs::read(entry.path().join("config.json")).ok();
                let config: Value = config.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
                let one = managed(&config, &entry.path(), exec);
                found.extend(
                    one.filter(|one| !found.iter().any(|other: &Installation| other.state_dir == one.state_dir)),
                );
            }
        }
        Ok(found)
    }

    /// The installation that a command is meant for.
    ///
    /// # Errors
    /// There is none, or more than one, or the files cannot be read.
    pub fn choose(&self, plugin: Option<&str>) -> Result<Installation, LocateError> {
        let found = self.installations()?;
        if let Some(name) = plugin {
            let full = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
            let named = found.into_iter().find(|one| one.plugin.as_ref() == Some(&full));
            return named.ok_or(LocateError::Unknown(full));
        }
        if let Some(socket) = found.iter().find(|one| one.plugin.is_none()) {
            return Ok(socket.clone());
        }
        let enabled: Vec<_> = found.iter().filter(|one| one.enabled).collect();
        match (found.as_slice(), enabled.as_slice()) {
            ([only], _) => Ok(only.clone()),
            (_, [only]) => Ok((*only).clone()),
            ([], _) if self.state.join("ledger").exists() => Ok(self.of_socket()),
            ([], _) => Err(LocateError::None),
            (several, _) => Err(LocateError::Several(several.iter().filter_map(|one| one.plugin.clone()).collect())),
        }
    }

    /// The plugin socket, unless it was given: that of the plugin with this name, or of the installed Pontoon.
    ///
    /// # Errors
    /// As [`Roots::choose`].
    pub fn socket(&self, given: &Path, plugin: Option<&str>) -> Result<PathBuf, LocateError> {
        let (socket, plugin) = (given.to_owned(), plugin.map(str::to_owned));
        let mut asked = Asked { socket, state_dir: PathBuf::new(), plugin, json: false };
        self.fill_in(&mut asked)?;
        Ok(asked.socket)
    }

    /// Fills in paths that were not given.
    ///
    /// # Errors
    /// As [`Roots::choose`]; never fails if both paths are given.
    pub fn fill_in(&self, asked: &mut Asked) -> Result<(), LocateError> {
        let unset = |path: &Path| path.as_os_str().is_empty();
        if asked.plugin.is_none() && !unset(&asked.socket) && !unset(&asked.state_dir) {
            return Ok(());
        }
        let told = |one: &Installation| one.socket == asked.socket || one.state_dir == asked.state_dir;
        let of_path = || self.installations().ok()?.into_iter().find(told);
        let one = if asked.plugin.is_some() || unset(&asked.socket) && unset(&asked.state_dir) {
            self.choose(asked.plugin.as_deref())?
        } else {
            // One path alone: the other is that of the same installation, or the default.
            of_path().unwrap_or_else(|| self.of_socket())
        };
        for (path, found) in [(&mut asked.socket, one.socket), (&mut asked.state_dir, one.state_dir)] {
            if path.as_os_str().is_empty() {
                *path = found;
            }
        }
        Ok(())
    }
}

/// A managed plugin, if it is a Pontoon.
fn managed(config: &Value, dir: &Path, exec: &Path) -> Option<Installation> {
    let plugin = &config["plugin"];
    let field =
        |value: &Value, keys: [&str; 2]| keys.iter().find_map(|key| value.get(*key).cloned()).unwrap_or_default();
    let inside = field(plugin, ["Config", "config"]);
    let interface = field(&inside, ["Interface", "interface"]);
    let socket = field(&interface, ["Socket", "socket"]);
    let entry = field(&inside, ["Entrypoint", "entrypoint"]);
    if socket.as_str() != Some("pontoon.sock") || entry[0].as_str()?.rsplit('/').next() != Some("pontoon") {
        return None;
    }
    let id = field(plugin, ["Id", "id"]);
    let id =
        id.as_str().map_or_else(|| dir.file_name().unwrap_or_default().to_string_lossy().into_owned(), str::to_owned);
    Some(Installation {
        plugin: field(plugin, ["Name", "name"]).as_str().map(str::to_owned),
        socket: exec.join("plugins").join(&id).join("pontoon.sock"),
        status_socket: exec.join("plugins").join(id).join(STATUS_SOCKET),
        state_dir: dir.join("propagated-mount"),
        enabled: field(plugin, ["Enabled", "enabled"]).as_bool().unwrap_or(false),
    })
}

/// `--data-root` and `--exec-root` of a dockerd, from its command line.
fn roots_of_engine(line: &[u8]) -> (PathBuf, PathBuf) {
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let value = |flags: &[&str], usual: &str| {
        let at = words.iter().enumerate().find_map(|(at, word)| {
            flags.iter().find_map(|flag| match word.strip_prefix(flag)?.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None if word == flag => words.get(at + 1).cloned(),
                None => None,
            })
        });
        at.map_or_else(|| PathBuf::from(usual), PathBuf::from)
    };
    (value(&["--data-root", "-g", "--graph"], "/var/lib/docker"), value(&["--exec-root"], "/run/docker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("pontoon-installation-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn roots(&self) -> Roots {
            let engines = vec![(self.0.join("docker"), self.0.join("run"))];
            Roots { engines, socket: self.0.join("pontoon.sock"), state: self.0.join("state") }
        }

        fn plugin(&self, id: &str, name: &str, enabled: bool, socket: &str) {
            let dir = self.0.join("docker/plugins").join(id);
            fs::create_dir_all(&dir).unwrap();
            let config = serde_json::json!({"plugin": {"Id": id, "Name": name, "Enabled": enabled,
                "Config": {"Interface": {"Socket": socket}, "Entrypoint": ["/pontoon", "serve"]}}});
            fs::write(dir.join("config.json"), config.to_string()).unwrap();
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_only_installation_is_found_and_of_several_one_is_to_be_named() {
        let host = Host::new("several");
        let roots = host.roots();
        assert!(matches!(roots.choose(None), Err(LocateError::None)));
        host.plugin("0a", "other:latest", true, "other.sock");
        assert!(matches!(roots.choose(None), Err(LocateError::None)));
        host.plugin("1b", "pontoon:latest", true, "pontoon.sock");
        let one = roots.choose(None).unwrap();
        assert_eq!(one.state_dir, host.0.join("docker/plugins/1b/propagated-mount"));
        assert_eq!(one.socket, host.0.join("run/plugins/1b/pontoon.sock"));
        assert_eq!(one.status_socket, host.0.join("run/plugins/1b/status.sock"));
        // A disabled one beside it is ignored; two enabled ones must be named.
        host.plugin("2c", "pontoon:old", false, "pontoon.sock");
        assert_eq!(roots.choose(None).unwrap(), one);
        host.plugin("2c", "pontoon:old", true, "pontoon.sock");
        let text = roots.choose(None).unwrap_err().to_string();
        assert!(text.contains("--plugin NAME") && text.contains("pontoon:old"), "{text}");
        assert_eq!(roots.choose(Some("pontoon")).unwrap(), one);
        assert!(matches!(roots.choose(Some("pontoon:new")), Err(LocateError::Unknown(_))));
        // The socket plugin comes first.
        fs::write(host.0.join("pontoon.sock"), "").unwrap();
        assert_eq!(roots.choose(None).unwrap().plugin, None);
        assert_eq!(roots.installations().unwrap().len(), 3);
    }

    #[test]
    fn what_is_told_counts_and_the_rest_is_of_the_same_installation() {
        let host = Host::new("told");
        host.plugin("1b", "pontoon:latest", true, "pontoon.sock");
        let roots = host.roots();
        let fill = |socket: &str, state_dir: &str| {
            let asked = Asked { socket: socket.into(), state_dir: state_dir.into(), plugin: None, json: false };
            let mut asked = asked;
            roots.fill_in(&mut asked).unwrap();
            (asked.socket, asked.state_dir)
        };
        let one = roots.choose(None).unwrap();
        assert_eq!(fill("", ""), (one.socket.clone(), one.state_dir.clone()));
        assert_eq!(fill(one.socket.to_str().unwrap(), ""), (one.socket.clone(), one.state_dir.clone()));
        assert_eq!(fill("/x", ""), ("/x".into(), host.0.join("state")));
        assert_eq!(fill("/x", "/y"), ("/x".into(), "/y".into()));
        let status = |socket: &str| {
            let asked = Asked { socket: socket.into(), state_dir: "".into(), plugin: None, json: false };
            roots.status_socket(&asked).unwrap()
        };
        let own = Some(one.status_socket.clone());
        assert_eq!((status(""), status(one.socket.to_str().unwrap()), status("/x")), (own.clone(), own, None));
    }

    #[test]
    fn an_engines_roots_are_read_off_its_command_line() {
        let roots = |line: &str| roots_of_engine(line.replace(' ', "\0").as_bytes());
        assert_eq!(roots("dockerd"), ("/var/lib/docker".into(), "/run/docker".into()));
        assert_eq!(roots("dockerd --data-root=/d --exec-root /e"), ("/d".into(), "/e".into()));
        assert_eq!(roots("dockerd -g /d"), ("/d".into(), "/run/docker".into()));
    }
}
