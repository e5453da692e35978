//! The ledger: the one file to which every change is written before it is answered.
//!
//! The file is a header followed by one line for each transaction, each with its checksum. It only grows, until
//! compaction replaces it by one line for each live fact. It is read once, at start.
//!
//! Interprets only the key and durability of a record, and never accesses the kernel. Called by the app (open,
//! compaction on the tick) and by the driver (append, from any thread).

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::appender::{Appender, Refusal};
use super::codec::{self, Header};
use super::directory::StateDir;
use super::record::{Durability, Record};
use super::replay::{Ending, Replay, replay};
use super::snapshot::Snapshot;
use super::upgrade;

/// Growth below which the ledger is never compacted, in bytes.
const SLACK: u64 = 1 << 20;

/// The condition of the ledger when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No ledger: a first start.
    Absent,
    /// Intact.
    Loaded,
    /// Intact except for its last line, as a crash during a write leaves it.
    Torn {
        /// Length of the truncated part, in bytes.
        dropped: u64,
    },
    /// Damaged. Every good line was salvaged; facts may be missing, so the absence of a fact proves nothing: no
    /// kernel object may be removed because of it.
    Corrupt {
        /// The first bad line, counted from 1; 0 when the whole file is missing.
        line: usize,
        /// What is wrong with it.
        what: String,
        /// The path of the quarantined file.
        kept: PathBuf,
        /// How many lines are bad.
        lost: usize,
    },
    /// A newer release wrote it. It was left unchanged, and every append fails.
    TooNew {
        /// Its format version.
        found: u32,
        /// The newest version that this release reads.
        known: u32,
    },
}

impl std::fmt::Display for Outcome {
    /// One line: the condition, its consequence, and the remedy.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Absent => write!(f, "not found, created"),
            Outcome::Loaded => write!(f, "whole"),
            Outcome::Torn { dropped } => {
                write!(
                    f,
                    "its last {dropped} bytes were an incomplete write and were cut off; everything before them is in use"
                )
            }
            Outcome::Corrupt { line, what, kept, lost } => write!(
                f,
                "damaged in line {line} ({what}), {lost} lines lost; all intact lines are in use, the damaged file is quarantined as {}; \
                 recreate networks that are missing",
                kept.display()
            ),
            Outcome::TooNew { found, known } => write!(
                f,
                "written by a newer Pontoon (format {found}, this one reads up to {known}); it is left unchanged and every change \
                 is refused: install that version again"
            ),
        }
    }
}

impl Outcome {
    /// Whether facts may be missing. A torn last line is a transaction that was never answered; without a
    /// ledger, the kernel shows whether one is missing.
    pub fn lacks_facts(&self) -> bool {
        matches!(self, Outcome::Corrupt { .. } | Outcome::TooNew { .. })
    }
}

/// An open ledger and its contents.
#[derive(Debug)]
pub struct Opened {
    /// Accepts the transactions from now on.
    pub ledger: Ledger,
    /// The live facts, one put each: the ULA prefix, pools, addresses in order of their last put, networks,
    /// endpoints, and pending removals of conntrack entries.
    pub records: Vec<Record>,
    /// Networks and endpoints that were replaced or deleted in this boot, in their last state: their remains in
    /// the kernel may be removed.
    pub former: Vec<Record>,
    /// The condition of the file.
    pub outcome: Outcome,
    /// Whether the host booted since the file was written: endpoints and their addresses are dropped from
    /// `records`, unclaimed addresses are stale. False when that cannot be determined.
    pub rebooted: bool,
    /// Quarantined ledgers of this or an earlier start that an operator has not removed yet. While one exists,
    /// facts may be missing: a restart of Pontoon does not end the degraded state.
    pub quarantined: Vec<PathBuf>,
    /// Why the ledger could not be rewritten (for example a full disk). The file is then unchanged, and every
    /// append first tries again to rewrite it.
    pub unwritten: Option<StoreError>,
}

impl Opened {
    /// Whether facts are known to be missing: the single definition, for the daemon and for readers.
    pub fn lacks_facts(&self) -> bool {
        lacks_facts(&self.outcome, &self.quarantined)
    }
}

fn lacks_facts(outcome: &Outcome, quarantined: &[PathBuf]) -> bool {
    outcome.lacks_facts() || !quarantined.is_empty()
}

/// A ledger as a reader sees it.
#[derive(Debug)]
pub struct Seen {
    /// As in [`Opened`], without what a reboot ended.
    pub records: Vec<Record>,
    /// As in [`Opened`].
    pub former: Vec<Record>,
    /// The condition of the file. A damaged file is not quarantined yet.
    pub outcome: Outcome,
    /// As in [`Opened`].
    pub quarantined: Vec<PathBuf>,
    /// The process that holds the directory, if any, and if the system tells.
    pub holder: Option<u32>,
}

impl Seen {
    /// As [`Opened::lacks_facts`].
    pub fn lacks_facts(&self) -> bool {
        lacks_facts(&self.outcome, &self.quarantined)
    }
}

/// The ledger. Safe to share between threads; holds the lock of the state directory while it exists.
#[derive(Debug)]
pub struct Ledger {
    place: StateDir,
    boot: String,
    /// The format version, if this release does not know it: nothing is written then.
    too_new: Option<u32>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The end of the file for appends; `None` before the first snapshot of this process is written.
    tail: Option<Appender<File>>,
    /// That snapshot, until it is written.
    owed: Vec<u8>,
    /// Length of the last snapshot in bytes: the live data, as far as known without reading.
    live: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`, creating the directory if needed, and compacts it. `boot_id` is the kernel's
    /// (`/proc/sys/kernel/random/boot_id`).
    ///
    /// Damage is not an error but an [`Outcome`]. Errors: another process holds the directory, or the directory
    /// or its ledger cannot be read.
    pub fn open(dir: &Path, boot_id: &str) -> Result<Opened, StoreError> {
        let boot = boot_id.trim();
        let place = StateDir::take(dir)?;
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
        let quarantined = place.quarantined()?;
        let ledger = Ledger { place, boot: boot.to_owned(), too_new, inner: Mutex::new(inner) };
        Ok(Opened { ledger, records, former, outcome, rebooted, quarantined, unwritten })
    }

    /// Reads the ledger in `dir` without locking or changing anything; the process that holds it may go on
    /// writing. The result is consistent as of one moment: a line that is being written is left out.
    ///
    /// # Errors
    /// The directory or the ledger in it cannot be read.
    pub fn open_read_only(dir: &Path, boot_id: &str) -> Result<Seen, StoreError> {
        let place = StateDir::read_only(dir);
        let holder = place.holder();
        let (mut replay, mut outcome, _) = Self::find(&place)?;
        if holder.is_some() && matches!(outcome, Outcome::Torn { .. }) {
            outcome = Outcome::Loaded;
        }
        if replay.boot.as_deref().is_some_and(|then| then != boot_id.trim()) {
            replay.facts.reboot();
        }
        let former = Self::former(&place, &mut replay, boot_id.trim())?;
        let quarantined = if dir.is_dir() { place.quarantined()? } else { Vec::new() };
        Ok(Seen { records: replay.facts.into_records(), former, outcome, quarantined, holder })
    }

    /// The replaced and deleted objects, those of the file's predecessor first: the process that compacted it may have
    /// died before it removed everything from the kernel, no matter what it deleted afterwards.
    fn former(place: &StateDir, found: &mut Replay, boot: &str) -> Result<Vec<Record>, StoreError> {
        let former = found.facts.take_former();
        if found.boot.as_deref() != Some(boot) {
            return Ok(former);
        }
        let Some(bytes) = place.read(&place.prev())? else { return Ok(former) };
        let mut prev = replay(&bytes);
        let mut all = if prev.boot.as_deref() == Some(boot) { prev.facts.take_former() } else { Vec::new() };
        all.extend(former);
        Ok(all)
    }

    /// Reads the ledger, and names the file to quarantine if it is damaged.
    fn find(place: &StateDir) -> Result<(Replay, Outcome, PathBuf), StoreError> {
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
            let nothing = Replay { boot: None, facts: Snapshot::default(), ending: Ending::Whole };
            return Ok((nothing, Outcome::Absent, place.ledger()));
        };
        let replay = replay(&bytes);
        let outcome = match &replay.ending {
            Ending::TooNew { found } => Outcome::TooNew { found: *found, known: upgrade::VERSION },
            ending => Outcome::Corrupt {
                line: 0,
                what: "the file is missing, but ledger.prev exists".to_owned(),
                kept: PathBuf::new(),
                lost: if let Ending::Damaged { lost, .. } = ending { *lost } else { 0 },
            },
        };
        Ok((replay, outcome, place.prev()))
    }

    /// Writes one transaction. After `Ok` all of `records` survive a crash of this process, and power loss too
    /// if any of them is [`Durability::Synced`]; after an error none is in the ledger. Blocks for one write, and
    /// for one `fdatasync` in the second case.
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

    /// Whether the file is much larger than its live data.
    pub fn compact_due(&self) -> bool {
        match self.inner() {
            Ok(inner) => inner.tail.as_ref().is_none_or(|tail| tail.good() > 4 * inner.live + SLACK),
            Err(_) => false,
        }
    }

    /// Compacts the file to one line for each live fact. Reads the facts from the file itself, under the lock of
    /// the appends: a transaction can neither be lost nor reappear, whatever the callers hold in memory
    /// meanwhile.
    ///
    /// Returns the addresses of recently deleted endpoints: the file now records that their conntrack entries
    /// are to be removed, until a [`Record::NoFlows`].
    ///
    /// An error loses nothing; if it leaves undecided which file is the ledger, the next append rewrites it
    /// first.
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
            Ending::Whole => (0, "lines are missing at the end".to_owned()),
            Ending::Damaged { line, what, .. } => (line, what),
            Ending::Torn { .. } | Ending::TooNew { .. } => (0, "another program has written to it".to_owned()),
        };
        if !what.is_empty() {
            return Err(StoreError::Damaged { path, line, what });
        }
        let ended = replay.facts.carry_over();
        let bytes = snapshot(&path, &self.boot, &replay.facts.into_records())?;
        let file = self.place.prepare(&bytes)?;
        // From here on the old file may be `ledger.prev`: nothing may be appended to it.
        inner.tail = None;
        inner.owed = bytes;
        inner.adopt(&self.place, file).map(|_| ended)
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        if let Some(found) = self.too_new {
            return Err(StoreError::TooNew { path: self.place.ledger(), found, known: upgrade::VERSION });
        }
        // No later call can see a half-finished change after a panic.
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// The end of the file for appends, after writing a pending snapshot.
    fn tail(&mut self, place: &StateDir) -> Result<&mut Appender<File>, StoreError> {
        match self.tail.take() {
            Some(tail) => Ok(self.tail.insert(tail)),
            None => {
                let file = place.prepare(&self.owed)?;
                self.adopt(place, file)
            }
        }
    }

    /// Makes `file`, which was prepared from the pending snapshot, the ledger.
    fn adopt(&mut self, place: &StateDir, file: File) -> Result<&mut Appender<File>, StoreError> {
        place.replace()?;
        self.live = self.owed.len() as u64;
        self.owed = Vec::new();
        Ok(self.tail.insert(Appender::new(file, self.live)))
    }
}

/// A header and one line for each record, so that damage to a line costs one fact.
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
    codec::encode(&json, out);
    Ok(())
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
