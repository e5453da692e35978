//! Whether the state may be incomplete. The one definition of *degraded*, for the daemon and for commands that read
//! the ledger without it.

use std::path::PathBuf;

use crate::datapath::Protected;
use crate::state::{Opened, Outcome, Seen};

/// The condition of the ledger when it was opened.
#[derive(Debug, Clone)]
pub struct Health {
    /// The condition of the file.
    pub outcome: Outcome,
    /// Quarantined ledgers that an operator has not removed yet.
    pub quarantined: Vec<PathBuf>,
    lacks_facts: bool,
}

impl Health {
    /// The condition as the daemon finds it.
    pub fn of_opened(opened: &Opened) -> Self {
        let (outcome, quarantined) = (opened.outcome.clone(), opened.quarantined.clone());
        Self { outcome, quarantined, lacks_facts: opened.lacks_facts() }
    }

    /// The condition as a reader finds it.
    pub fn of_seen(seen: &Seen) -> Self {
        let (outcome, quarantined) = (seen.outcome.clone(), seen.quarantined.clone());
        Self { outcome, quarantined, lacks_facts: seen.lacks_facts() }
    }

    /// Whether the ledger is known to lack facts. A torn last line is a transaction that was never answered, so no
    /// fact is missing.
    pub fn lacks_facts(&self) -> bool {
        self.lacks_facts
    }

    /// Whether facts may be missing: the ledger is known to lack some, or the kernel has objects of Pontoon that it
    /// does not know (`unknown`).
    pub fn is_degraded(&self, unknown: &Protected) -> bool {
        self.lacks_facts || !unknown.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Ledger;
    use crate::state::record::Record;

    /// What the daemon and a reader say of a ledger whose bytes `damage` changed.
    fn degraded(name: &str, damage: impl Fn(&mut Vec<u8>)) -> (bool, bool) {
        let dir = std::env::temp_dir().join(format!("pontoon-health-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let opened = Ledger::open(&dir, "boot").unwrap();
        for n in 1..4 {
            let address = format!("192.0.2.{n}").parse().unwrap();
            opened.ledger.append(&[Record::OwnAddress { address }]).unwrap();
        }
        drop(opened);
        let mut bytes = std::fs::read(dir.join("ledger")).unwrap();
        damage(&mut bytes);
        std::fs::write(dir.join("ledger"), &bytes).unwrap();
        let seen = Health::of_seen(&Ledger::open_read_only(&dir, "boot").unwrap());
        let opened = Health::of_opened(&Ledger::open(&dir, "boot").unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
        let none = Protected::default();
        (opened.is_degraded(&none), seen.is_degraded(&none))
    }

    #[test]
    fn daemon_and_reader_agree_and_a_torn_line_is_not_degraded() {
        assert_eq!(degraded("whole", |_| {}), (false, false));
        assert_eq!(degraded("torn", |bytes| bytes.truncate(bytes.len() - 3)), (false, false));
        let flip = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
        assert_eq!(degraded("damaged", flip), (true, true));
    }

    #[test]
    fn an_unknown_link_is_degraded() {
        let dir = std::env::temp_dir().join(format!("pontoon-health-{}-link", std::process::id()));
        let health = Health::of_opened(&Ledger::open(&dir, "boot").unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
        let mut unknown = Protected::default();
        assert!(!health.is_degraded(&unknown));
        unknown.links.insert(crate::model::IfName::parse("ptn-x").unwrap());
        assert!(health.is_degraded(&unknown));
    }
}
