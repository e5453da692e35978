//! Owns the fuzzing of the ledger: whatever a file says, opening it neither panics nor fails, and
//! what was salvaged is whole, the same, and writable from then on.
//!
//! The first byte says what the rest is: bit 0 gives every line its checksum, as nearly no
//! mutation would; bit 1 also puts a header of today's format in front.

#![no_main]

use std::fs;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use pontoon::state::{Ledger, Outcome};

const HEADER: &str = r#"{"magic":"pontoon-ledger","version":1,"boot":"a"}"#;

/// An empty directory in memory: the disk's syncs would be all that is measured.
fn directory() -> PathBuf {
    let dir = PathBuf::from(format!("/dev/shm/pontoon-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    dir
}

fn summed(json: &[u8]) -> Vec<u8> {
    [format!("{:08x} ", crc32fast::hash(json)).as_bytes(), json, b"\n"].concat()
}

fn file(form: u8, text: &[u8]) -> Vec<u8> {
    if form & 1 == 0 {
        return text.to_vec();
    }
    let header = (form & 2 != 0).then_some(HEADER.as_bytes());
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    header.into_iter().chain(lines).flat_map(summed).collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((form, text)) = data.split_first() else { return };
    let dir = directory();
    let bytes = file(*form, text);
    fs::write(dir.join("ledger"), &bytes).unwrap();

    let first = Ledger::open(&dir, "b").unwrap();
    assert!(first.unwritten.is_none() && first.outcome != Outcome::Absent);
    if matches!(first.outcome, Outcome::TooNew { .. }) {
        assert!(first.ledger.append(&first.records).is_err() || first.records.is_empty());
        assert_eq!(fs::read(dir.join("ledger")).unwrap(), bytes, "a newer ledger was changed");
    } else {
        if let Outcome::Corrupt { kept, .. } = &first.outcome {
            assert_eq!(fs::read(kept).unwrap(), bytes, "the damaged ledger was not kept");
        }
        // The facts again, as one transaction: nothing may change.
        first.ledger.append(&first.records).unwrap();
        first.ledger.compact().unwrap();
        drop(first.ledger);
        let second = Ledger::open(&dir, "b").unwrap();
        assert_eq!((second.outcome, second.rebooted), (Outcome::Loaded, false));
        assert_eq!(second.records, first.records);
    }
    let _ = fs::remove_dir_all(&dir);
});
