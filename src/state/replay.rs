//! Reads the bytes of a ledger: the facts, and whether the file is intact.
//!
//! Pure, never panics on any input. The only place that judges damage.

use super::codec::{self, Flaw, Header};
use super::snapshot::Snapshot;
use super::upgrade;

/// Whether the bytes are intact.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every line is good.
    Whole,
    /// Only the last line is bad, as a crash during a write leaves it.
    Torn {
        /// Its length in bytes.
        dropped: u64,
    },
    /// A bad line that a crash of Pontoon cannot explain.
    Damaged {
        /// The first bad line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
        /// How many lines are bad.
        lost: usize,
    },
    /// A newer release wrote it; nothing else was read.
    TooNew {
        /// Its format version.
        found: u32,
    },
}

/// The contents of a ledger.
#[derive(Debug)]
pub(super) struct Replay {
    /// The boot id of the writer; `None` when the header is unreadable.
    pub boot: Option<String>,
    /// The facts of every good line.
    pub facts: Snapshot,
    /// Whether the file is intact.
    pub ending: Ending,
}

/// Reads a complete ledger. Each line is applied completely or not at all.
pub(super) fn replay(bytes: &[u8]) -> Replay {
    let mut facts = Snapshot::default();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let header = codec::decode(lines.next().unwrap_or_default()).and_then(Header::parse);
    let header = header.and_then(|header| match header.version {
        0 => Err(Flaw::Content("no release wrote format 0".to_owned())),
        _ => Ok(header),
    });
    // Without a header, lines are read in the current format: what does not decode is lost.
    let (boot, version, mut first, mut lost) = match header {
        Ok(header) if header.version > upgrade::VERSION => {
            return Replay { boot: None, facts, ending: Ending::TooNew { found: header.version } };
        }
        Ok(header) => (Some(header.boot), header.version, None, 0),
        Err(flaw) => (None, upgrade::VERSION, Some((1, flaw, 0)), 1),
    };
    let mut count = 1;
    for text in lines {
        count += 1;
        match codec::decode(text).and_then(|json| upgrade::records(version, json)) {
            Ok(records) => records.into_iter().for_each(|record| facts.apply(record)),
            Err(flaw) => {
                lost += 1;
                first.get_or_insert((count, flaw, text.len() as u64));
            }
        }
    }
    let ending = match first {
        None => Ending::Whole,
        Some((line, Flaw::Incomplete | Flaw::Checksum, dropped)) if line == count && line > 1 => {
            Ending::Torn { dropped }
        }
        Some((line, flaw, _)) => Ending::Damaged { line, what: flaw.to_string(), lost },
    };
    Replay { boot, facts, ending }
}
