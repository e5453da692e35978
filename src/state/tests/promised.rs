//! The guarantees of an append, a compaction and the lock, also when the file system fails.

use super::*;

#[test]
fn tombstones_take_along_what_belongs_to_them() {
    let (dir, _) = written();
    let opened = dir.open();
    opened.ledger.append(&[endpoint("n2", "e2"), Record::NoNetwork { id: NetworkId::parse("n1").unwrap() }]).unwrap();
    opened.ledger.append(&[Record::NoPool { id: POOL.into() }]).unwrap();
    drop(opened);
    assert_eq!(dir.open().records, [Record::Ula { prefix: "fd00:1:2::/48".parse().unwrap() }, endpoint("n2", "e2")]);
}

#[test]
fn the_second_to_open_is_told_who_was_first() {
    let dir = TempDir::new();
    let first = dir.open();
    let error = Ledger::open(&dir.0, BOOT).unwrap_err();
    assert!(matches!(&error, StoreError::Busy { pid: Some(pid), .. } if *pid == std::process::id()), "{error:?}");
    assert!(error.to_string().contains(&dir.0.display().to_string()) && error.to_string().contains("stop it"));
    drop(first);
    dir.open();
}

#[test]
fn io_errors_name_path_and_remedy() {
    let dir = TempDir::with(b"");
    let error = Ledger::open(&dir.file("ledger"), BOOT).unwrap_err().to_string();
    assert!(error.contains("creating") && error.contains(&dir.file("ledger").display().to_string()), "{error}");
    assert!(error.contains("make it a directory"), "{error}");
    fs::remove_file(dir.file("ledger")).unwrap();
    fs::create_dir(dir.file("ledger")).unwrap();
    let error = Ledger::open(&dir.0, BOOT).unwrap_err().to_string();
    assert!(error.starts_with("reading ") && error.contains("move that directory away"), "{error}");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let (dir, _) = written();
    let opened = dir.open();
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let sound = opened.ledger.inner().unwrap().tail.replace(Appender::new(full, 0)).unwrap();
    let error = opened.ledger.append(&[free(1)]).unwrap_err();
    assert!(matches!(&error, StoreError::Io { cause, .. } if cause.raw_os_error() == Some(libc::ENOSPC)));
    assert!(error.to_string().contains("free some space"), "{error}");
    // A device cannot be truncated, so from here on it refuses instead of writing after the damage.
    assert!(matches!(opened.ledger.append(&[free(1)]), Err(StoreError::Ragged { .. })));
    opened.ledger.inner().unwrap().tail = Some(sound);
    opened.ledger.append(&[free(1)]).unwrap();
    drop(opened);
    assert!(!dir.open().records.contains(&address(1, Holder::Gateway)));
}

#[test]
fn an_unwritable_start_still_loads_and_catches_up() {
    let (dir, bytes) = written();
    // A directory at the path of the new file simulates a full disk.
    fs::create_dir(dir.file("ledger.new")).unwrap();
    let opened = Ledger::open(&dir.0, "b2").unwrap();
    assert!(opened.rebooted && opened.unwritten.is_some() && opened.ledger.compact_due());
    assert!(opened.ledger.append(&[endpoint("n1", "e9")]).is_err());
    assert_eq!(dir.bytes(), bytes);
    fs::remove_dir(dir.file("ledger.new")).unwrap();
    opened.ledger.append(&[endpoint("n1", "e9")]).unwrap();
    drop(opened);
    let again = Ledger::open(&dir.0, "b2").unwrap();
    assert!(!again.rebooted && again.records.contains(&endpoint("n1", "e9")));
    assert!(!again.records.contains(&endpoint("n1", "e1")));
}

#[test]
fn compaction_keeps_the_meaning_and_the_one_before() {
    let (dir, _) = written();
    let opened = dir.open();
    assert!(!opened.ledger.compact_due());
    let mut rounds = 0u64;
    while !opened.ledger.compact_due() {
        let since = Holder::Unclaimed { since: rounds };
        opened.ledger.append(&[vec![address(200, since); 50], vec![free(200)]].concat()).unwrap();
        rounds += 1;
    }
    let grown = dir.bytes();
    assert!(grown.len() as u64 > SLACK);
    opened.ledger.compact().unwrap();
    assert!(!opened.ledger.compact_due() && dir.bytes().len() < 4096);
    assert_eq!(fs::read(dir.file("ledger.prev")).unwrap(), grown);
    opened.ledger.append(&[address(77, Holder::Stale)]).unwrap();
    drop(opened);
    let again = dir.open();
    assert_eq!((again.records.len(), again.outcome), (alive(9).len() + 1, Outcome::Loaded));
    // Damage that came later is not removed by compaction.
    let mut bytes = dir.bytes();
    bytes[100] ^= 1;
    fs::write(dir.file("ledger"), &bytes).unwrap();
    assert!(matches!(again.ledger.compact(), Err(StoreError::Damaged { line: 1 | 2, .. })));
    assert_eq!(dir.bytes(), bytes);
}

#[test]
fn threads_share_it() {
    let dir = TempDir::new();
    let opened = dir.open();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let ledger = &opened.ledger;
            scope.spawn(move || {
                (0..50).for_each(|n| ledger.append(&[address(thread * 50 + n, Holder::Stale)]).unwrap())
            });
        }
    });
    drop(opened);
    assert_eq!(dir.open().records.len(), 200);
}
