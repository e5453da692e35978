//! Owns the question which name servers the host uses: a pool must not cover one of them.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The name servers in the text of a resolv.conf(5); anything unreadable in it is skipped.
pub fn parse(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(|word| word.split('%').next()?.parse().ok())
        .collect()
}

/// Where the host says it.
const FILE: &str = "/etc/resolv.conf";

/// The host's name servers, as last read.
#[derive(Debug)]
pub struct Resolvers {
    file: PathBuf,
    last: Mutex<Vec<IpAddr>>,
}

impl Resolvers {
    /// Reads them a first time; a confined process may have no second: its leave is for the file
    /// that was there at the start, and some programs replace it by another.
    pub fn of_host() -> Self {
        Self::in_file(PathBuf::from(FILE))
    }

    fn in_file(file: PathBuf) -> Self {
        let resolvers = Self { file, last: Mutex::default() };
        resolvers.now();
        resolvers
    }

    /// The name servers of now, or of the last time that the file could be read.
    pub fn now(&self) -> Vec<IpAddr> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match std::fs::read_to_string(&self.file) {
            Ok(text) => *last = parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => last.clear(),
            Err(error) => tracing::debug!(%error, "{}: the name servers of the start count", self.file.display()),
        }
        last.clone()
    }

    /// What has to stay readable for that: the directory where a link of that name leads, since
    /// what writes there may replace the file; but no more of the directory it is in itself.
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
        // A directory in its place: there, and not to be read.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(resolvers.now(), known);
        std::fs::remove_dir(&file).unwrap();
        assert!(resolvers.now().is_empty());
    }
}
