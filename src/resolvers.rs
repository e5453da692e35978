//! Determines the host's name servers: a pool must not contain one of them.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The name servers in the text of a resolv.conf(5); unreadable lines are skipped.
pub fn parse(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(|word| word.split('%').next()?.parse().ok())
        .collect()
}

/// The host's list of name servers.
const FILE: &str = "/etc/resolv.conf";

/// The host's name servers, as last read.
#[derive(Debug)]
pub struct Resolvers {
    file: PathBuf,
    last: Mutex<Vec<IpAddr>>,
}

impl Resolvers {
    /// Reads the name servers. This happens before Landlock is in force, because its rule covers only the inode
    /// of that time, and some programs replace the file.
    pub fn of_host() -> Self {
        Self::in_file(PathBuf::from(FILE))
    }

    fn in_file(file: PathBuf) -> Self {
        let resolvers = Self { file, last: Mutex::default() };
        resolvers.now();
        resolvers
    }

    /// The current name servers, or those of the last successful read.
    pub fn now(&self) -> Vec<IpAddr> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match std::fs::read_to_string(&self.file) {
            Ok(text) => *last = parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => last.clear(),
            Err(error) => {
                tracing::debug!(%error, "{}: cannot read it again; using the name servers read at start", self.file.display())
            }
        }
        last.clone()
    }

    /// The path that must stay readable for this: the directory to which a symbolic link at that name leads,
    /// since the file there may be replaced; but only the file itself if it is not a link.
    pub fn reach() -> PathBuf {
        let file = PathBuf::from(FILE);
        match std::fs::canonicalize(&file) {
            Ok(real) if real.parent() != file.parent() => real.parent().map_or(file, PathBuf::from),
            _ => file,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_name_servers_only() {
        let found = super::parse(
            "# nameserver 9.9.9.9\nsearch lan\nnameserver 10.0.0.53\n nameserver fe80::1%eth0\nnameserver x\nnameserver\n",
        );
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.53", "fe80::1"]);
    }

    #[test]
    fn the_last_answer_counts_while_the_file_cannot_be_read() {
        let file = std::env::temp_dir().join(format!("pontoon-resolvers-{}", std::process::id()));
        std::fs::write(&file, "nameserver 10.0.0.53\n").unwrap();
        let resolvers = super::Resolvers::in_file(file.clone());
        let known = resolvers.now();
        assert_eq!(known.len(), 1);
        // A directory at its path: it exists but cannot be read as a file.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(resolvers.now(), known);
        std::fs::remove_dir(&file).unwrap();
        assert!(resolvers.now().is_empty());
    }
}
