//! Owns the ledger: the one file in which everything promised is written before it is answered.
//!
//! The file is a header and then one line a transaction, each with its checksum. It only grows,
//! until a compaction replaces it by one line a fact. Reading is done once, at start.
//!
//! Never interprets a record beyond its key and durability, never touches the kernel. Called by
//! the app (open, compaction on the tick) and by the driver (append, from any thread).

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::facts::Facts;
use super::line::{self, Header};
use super::place::Place;
use super::record::{Durability, Record};
use super::replay::{Ending, Replay, replay};
use super::tail::{Refusal, Tail};
use super::upgrade;

/// Growth that a compaction is never made for, in bytes.
const SLACK: u64 = 1 << 20;

/// How the ledger was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was none: a first start.
    Absent,
    /// Whole.
    Loaded,
    /// Whole but for its last line, as a crash in the middle of a write leaves it.
    Torn {
        /// Length of what was cut off, in bytes.
        dropped: u64,
    },
    /// Damaged. Every good line was salvaged; facts may be missing, so nothing may be concluded
    /// from the absence of one: no kernel object is to be removed for it.
    Corrupt {
        /// The first bad line, from 1; 0 when the whole file is missing.
        line: usize,
        /// What is wrong with it.
        what: String,
        /// Where the damaged file is kept.
        kept: PathBuf,
        /// How many lines are bad.
        lost: usize,
    },
    /// A newer release wrote it. It was left as it is, and every append fails.
    TooNew {
        /// Its format version.
        found: u32,
        /// The newest that this release reads.
        known: u32,
    },
}

impl std::fmt::Display for Outcome {
    /// One line: what was found, what follows, and what to do.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Absent => write!(f, "there was none, a new one is begun"),
            Outcome::Loaded => write!(f, "whole"),
            Outcome::Torn { dropped } => {
                write!(f, "its last {dropped} bytes were a torn write and are cut off; all before them is in use")
            }
            Outcome::Corrupt { line, what, kept, lost } => write!(
                f,
                "damaged in line {line} ({what}), {lost} lines lost; every good line is in use, the damaged file is kept as {}; \
                 recreate networks that are missing",
                kept.display()
            ),
            Outcome::TooNew { found, known } => write!(
                f,
                "written by a newer Pontoon (format {found}, this one reads up to {known}); it is left alone and every change \
                 is refused: install that version again"
            ),
        }
    }
}

impl Outcome {
    /// Whether facts may be missing. A torn last line is none that anybody was answered for, and
    /// where there was no ledger the kernel tells whether one is missing.
    pub fn lacks_facts(&self) -> bool {
        matches!(self, Outcome::Corrupt { .. } | Outcome::TooNew { .. })
    }
}

/// An open ledger and what it said.
#[derive(Debug)]
pub struct Opened {
    /// Takes the transactions from now on.
    pub ledger: Ledger,
    /// The facts that are alive, one put each: the ULA prefix, pools, addresses in order of their
    /// last put, networks, endpoints, and whose tracked connections the last life may have left.
    pub records: Vec<Record>,
    /// Networks and endpoints that the file says were replaced or ended in this boot, as they were
    /// before: what the kernel still has of them may be removed.
    pub former: Vec<Record>,
    /// How the file was found.
    pub outcome: Outcome,
    /// Whether the host booted since the file was written: endpoints and their addresses are
    /// dropped from `records`, unclaimed addresses are stale. False when that cannot be known.
    pub rebooted: bool,
    /// Damaged ledgers of this or an earlier start that an operator has not removed yet. While
    /// there is one, facts may be missing: degraded does not end by restarting Pontoon.
    pub kept_aside: Vec<PathBuf>,
    /// Why the ledger could not be written anew (a full disk). The file is unchanged then, and
    /// every append tries again before it writes.
    pub unwritten: Option<StoreError>,
}

impl Opened {
    /// Whether facts are known to be missing: the one definition, for the daemon and for who looks.
    pub fn lacks_facts(&self) -> bool {
        lacks_facts(&self.outcome, &self.kept_aside)
    }
}

fn lacks_facts(outcome: &Outcome, kept_aside: &[PathBuf]) -> bool {
    outcome.lacks_facts() || !kept_aside.is_empty()
}

/// What somebody who only looks sees of a ledger.
#[derive(Debug)]
pub struct Seen {
    /// As in [`Opened`], and what a reboot ended is left out.
    pub records: Vec<Record>,
    /// As in [`Opened`].
    pub former: Vec<Record>,
    /// How the file was found. Of damage, nothing is kept aside yet.
    pub outcome: Outcome,
    /// As in [`Opened`].
    pub kept_aside: Vec<PathBuf>,
    /// The process that has the directory, if one has and the system tells.
    pub holder: Option<u32>,
}

impl Seen {
    /// As [`Opened::lacks_facts`].
    pub fn lacks_facts(&self) -> bool {
        lacks_facts(&self.outcome, &self.kept_aside)
    }
}

/// The ledger. Safe to share between threads; holds the lock of the state directory for life.
#[derive(Debug)]
pub struct Ledger {
    place: Place,
    boot: String,
    /// The format version that this release does not know: nothing is written then.
    too_new: Option<u32>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The end that takes lines; none before the first snapshot of this life is written.
    tail: Option<Tail<File>>,
    /// That snapshot, while there is no tail.
    owed: Vec<u8>,
    /// Length of the last snapshot, in bytes: what is alive, as far as is known without reading.
    live: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`, which is created if need be, and rewrites it compacted.
    /// `boot_id` is the kernel's (`/proc/sys/kernel/random/boot_id`).
    ///
    /// Damage is no error but an [`Outcome`]. Errors: another process has the directory, or the
    /// directory or the ledger in it cannot be read.
    pub fn open(dir: &Path, boot_id: &str) -> Result<Opened, StoreError> {
        let boot = boot_id.trim();
        let place = Place::take(dir)?;
        let (mut replay, mut outcome, damaged) = Self::find(&place)?;
        if let Outcome::Corrupt { kept, .. } = &mut outcome {
            *kept = place.keep_aside(&damaged)?;
        }
        let rebooted = replay.boot.as_deref().is_some_and(|then| then != boot);
        if rebooted {
            replay.facts.reboot();
        }
        let former = Self::former(&place, &mut replay, boot)?;
        replay.facts.carry_over();
        let records = replay.facts.into_records();
        let mut inner = Inner { tail: None, owed: snapshot(&place.ledger(), boot, &records)?, live: 0 };
        let (mut too_new, mut unwritten) = (None, None);
        if let Outcome::TooNew { found, .. } = outcome {
            too_new = Some(found);
        } else {
            unwritten = inner.tail(&place).err();
        }
        let kept_aside = place.kept_aside()?;
        let ledger = Ledger { place, boot: boot.to_owned(), too_new, inner: Mutex::new(inner) };
        Ok(Opened { ledger, records, former, outcome, rebooted, kept_aside, unwritten })
    }

    /// Reads the ledger in `dir` without taking or changing anything; whoever has it may go on
    /// writing. What is read is as whole as at some instant: a line that is just being written is
    /// left out.
    ///
    /// # Errors
    /// The directory or the ledger in it cannot be read.
    pub fn look(dir: &Path, boot_id: &str) -> Result<Seen, StoreError> {
        let place = Place::look(dir);
        let holder = place.holder();
        let (mut replay, mut outcome, _) = Self::find(&place)?;
        if holder.is_some() && matches!(outcome, Outcome::Torn { .. }) {
            outcome = Outcome::Loaded;
        }
        if replay.boot.as_deref().is_some_and(|then| then != boot_id.trim()) {
            replay.facts.reboot();
        }
        let former = Self::former(&place, &mut replay, boot_id.trim())?;
        let kept_aside = if dir.is_dir() { place.kept_aside()? } else { Vec::new() };
        Ok(Seen { records: replay.facts.into_records(), former, outcome, kept_aside, holder })
    }

    /// What was replaced or ended. A file in which nothing was may have been rewritten by a life that
    /// died before it had removed everything from the kernel: then its predecessor tells.
    fn former(place: &Place, found: &mut Replay, boot: &str) -> Result<Vec<Record>, StoreError> {
        let former = found.facts.take_former();
        if !former.is_empty() || found.boot.as_deref() != Some(boot) {
            return Ok(former);
        }
        let Some(bytes) = place.read(&place.prev())? else { return Ok(former) };
        let mut prev = replay(&bytes);
        Ok(if prev.boot.as_deref() == Some(boot) { prev.facts.take_former() } else { former })
    }

    /// Reads the ledger, and names the file to keep if it is damaged.
    fn find(place: &Place) -> Result<(Replay, Outcome, PathBuf), StoreError> {
        if let Some(bytes) = place.read(&place.ledger())? {
            let replay = replay(&bytes);
            let outcome = match &replay.ending {
                Ending::Whole => Outcome::Loaded,
                Ending::Torn { dropped } => Outcome::Torn { dropped: *dropped },
                Ending::TooNew { found } => Outcome::TooNew { found: *found, known: upgrade::VERSION },
                Ending::Damaged { line, what, lost } => {
                    Outcome::Corrupt { line: *line, what: what.clone(), kept: PathBuf::new(), lost: *lost }
                }
            };
            return Ok((replay, outcome, place.ledger()));
        }
        let Some(bytes) = place.read(&place.prev())? else {
            let nothing = Replay { boot: None, facts: Facts::default(), ending: Ending::Whole };
            return Ok((nothing, Outcome::Absent, place.ledger()));
        };
        let replay = replay(&bytes);
        let outcome = match &replay.ending {
            Ending::TooNew { found } => Outcome::TooNew { found: *found, known: upgrade::VERSION },
            ending => Outcome::Corrupt {
                line: 0,
                what: "the file is gone and the one before it, ledger.prev, is still there".to_owned(),
                kept: PathBuf::new(),
                lost: if let Ending::Damaged { lost, .. } = ending { *lost } else { 0 },
            },
        };
        Ok((replay, outcome, place.prev()))
    }

    /// Writes one transaction: after `Ok` all of `records` survive the death of this process, and
    /// power loss too if any of them is [`Durability::Synced`]; after an error none is there.
    /// Blocks for one write, and for one `fdatasync` in the second case.
    pub fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut inner = self.inner()?;
        if records.is_empty() {
            return Ok(());
        }
        let path = self.place.ledger();
        let mut text = Vec::new();
        encode(&path, records, &mut text)?;
        let synced = records.iter().any(|record| record.durability() == Durability::Synced);
        inner.tail(&self.place)?.append(&text, synced).map_err(|refusal| match refusal {
            Refusal::Write(cause) => StoreError::Io { operation: "appending to", path, cause },
            Refusal::Ragged(cause) => StoreError::Ragged { path, cause },
        })
    }

    /// Whether the file has outgrown what is alive in it.
    pub fn compact_due(&self) -> bool {
        match self.inner() {
            Ok(inner) => inner.tail.as_ref().is_none_or(|tail| tail.good() > 4 * inner.live + SLACK),
            Err(_) => false,
        }
    }

    /// Replaces the file by one line for each fact that is alive in it. Reads them from the file
    /// itself, under the lock of the appends: a transaction can neither be lost nor come back,
    /// whatever the callers hold in memory meanwhile.
    ///
    /// Returns the addresses of endpoints that ended lately: that their tracked connections are to
    /// be removed is in the file from now on, until a [`Record::NoFlows`] says otherwise.
    ///
    /// An error loses nothing; if it leaves in doubt which file is the ledger, the next append
    /// writes it anew first.
    pub fn compact(&self) -> Result<Vec<IpAddr>, StoreError> {
        let mut inner = self.inner()?;
        let path = self.place.ledger();
        let good = inner.tail(&self.place)?.good();
        let mut bytes = self.place.read(&path)?.unwrap_or_default();
        bytes.truncate(usize::try_from(good).unwrap_or(usize::MAX));
        let short = (bytes.len() as u64) < good;
        let mut replay = replay(&bytes);
        drop(bytes);
        let (line, what) = match replay.ending {
            Ending::Whole if !short => (0, String::new()),
            Ending::Whole => (0, "lines are missing at its end".to_owned()),
            Ending::Damaged { line, what, .. } => (line, what),
            Ending::Torn { .. } | Ending::TooNew { .. } => (0, "another hand has written to it".to_owned()),
        };
        if !what.is_empty() {
            return Err(StoreError::Damaged { path, line, what });
        }
        let ended = replay.facts.carry_over();
        let bytes = snapshot(&path, &self.boot, &replay.facts.into_records())?;
        let file = self.place.prepare(&bytes)?;
        // From here on the old file may be `ledger.prev`: nothing may be appended to it any more.
        inner.tail = None;
        inner.owed = bytes;
        inner.adopt(&self.place, file).map(|_| ended)
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        if let Some(found) = self.too_new {
            return Err(StoreError::TooNew { path: self.place.ledger(), found, known: upgrade::VERSION });
        }
        // Nothing in here is left half-done by a panic that a later call could not see.
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// The end to write to, after the snapshot if that is still owed.
    fn tail(&mut self, place: &Place) -> Result<&mut Tail<File>, StoreError> {
        match self.tail.take() {
            Some(tail) => Ok(self.tail.insert(tail)),
            None => {
                let file = place.prepare(&self.owed)?;
                self.adopt(place, file)
            }
        }
    }

    /// Makes `file`, which was prepared from what is owed, the ledger.
    fn adopt(&mut self, place: &Place, file: File) -> Result<&mut Tail<File>, StoreError> {
        place.replace()?;
        self.live = self.owed.len() as u64;
        self.owed = Vec::new();
        Ok(self.tail.insert(Tail::new(file, self.live)))
    }
}

/// A header and one line a record, so that damage to a line costs one fact.
fn snapshot(path: &Path, boot: &str, records: &[Record]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    encode(path, &Header::new(upgrade::VERSION, boot), &mut bytes)?;
    for record in records {
        encode(path, std::slice::from_ref(record), &mut bytes)?;
    }
    Ok(bytes)
}

fn encode<T: serde::Serialize + ?Sized>(path: &Path, value: &T, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let json = serde_json::to_string(value)
        .map_err(|error| StoreError::Encode { path: path.to_owned(), cause: error.to_string() })?;
    line::encode(&json, out);
    Ok(())
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
