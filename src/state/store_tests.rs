//! The ledger as its callers see it: every way to find it, and what an append promises.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::*;
use crate::model::{EndpointId, NetworkId};
use crate::state::record::{AddressRecord, Holder, PoolRecord};

const BOOT: &str = "b1";

struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pontoon-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file("ledger")).unwrap()
    }
    /// Makes the directory and gives the ledger these bytes.
    fn with(bytes: &[u8]) -> Self {
        let dir = Self::new();
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.file("ledger"), bytes).unwrap();
        dir
    }
    fn open(&self) -> Opened {
        Ledger::open(&self.0, BOOT).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pool(id: &str) -> Record {
    let subnet = id.rsplit_once("local/").unwrap().1.parse().unwrap();
    Record::Pool(PoolRecord { id: id.into(), space: "pontoon-local".into(), subnet, range: None, used: true })
}

fn address(last: u8, holder: Holder) -> Record {
    Record::Address(AddressRecord { pool: POOL.into(), address: [10, 0, 0, last].into(), holder })
}

fn free(last: u8) -> Record {
    Record::NoAddress { pool: POOL.into(), address: [10, 0, 0, last].into() }
}

fn endpoint(network: &str, id: &str) -> Record {
    serde_json::from_value(serde_json::json!({
        "put": "endpoint", "spec": {"network": network, "id": id}, "host": "pnth0", "peer": "pntc0",
        "mac": "02:00:00:00:00:01", "phase": "ready"
    }))
    .unwrap()
}

fn network(id: &str) -> Record {
    serde_json::from_value(serde_json::json!({
        "put": "network", "spec": {"id": id, "options": crate::model::NetworkOptions::default()},
        "bridge": "pntb0", "owns_bridge": true, "mtu": 1500
    }))
    .unwrap()
}

const POOL: &str = "pontoon-local/10.0.0.0/24";

/// Transactions that leave every kind of record behind.
fn story() -> Vec<Vec<Record>> {
    let held =
        Holder::Endpoint { network: NetworkId::parse("n1").unwrap(), endpoint: EndpointId::parse("e1").unwrap() };
    vec![
        vec![Record::Ula { prefix: "fd00:1:2::/48".parse().unwrap() }, pool(POOL)],
        vec![address(1, Holder::Gateway), address(9, Holder::Aux)],
        vec![network("n1")],
        vec![address(3, Holder::Unclaimed { since: 7 })],
        vec![address(2, Holder::Unclaimed { since: 8 })],
        vec![endpoint("n1", "e1"), address(3, held)],
    ]
}

/// A ledger with `story`, one line a transaction behind the header, and its bytes.
fn written() -> (TempDir, Vec<u8>) {
    let dir = TempDir::new();
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::Absent);
    for transaction in story() {
        opened.ledger.append(&transaction).unwrap();
    }
    drop(opened);
    let bytes = dir.bytes();
    (dir, bytes)
}

/// What is alive after the first `count` transactions of the story.
fn alive(count: usize) -> Vec<Record> {
    let mut facts = Facts::default();
    story().into_iter().take(count).flatten().for_each(|record| facts.apply(record));
    facts.into_records()
}

#[test]
fn absent_then_loaded_in_order_of_the_last_put() {
    let (dir, _) = written();
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::Loaded);
    assert!(!opened.rebooted && opened.kept_aside.is_empty() && opened.unwritten.is_none());
    let story: Vec<Record> = story().concat();
    let held = story[8].clone();
    let expected = [&story[0], &story[1], &story[2], &story[3], &story[6], &held, &story[4], &story[7]];
    assert_eq!(opened.records.iter().collect::<Vec<_>>(), expected);
    let compacted = dir.bytes();
    assert_eq!(compacted.iter().filter(|b| **b == b'\n').count(), 1 + expected.len());
    drop(opened);
    assert_eq!(dir.open().records.len(), expected.len());
    assert_eq!(dir.bytes(), compacted);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.0.clone()), mode(dir.file("ledger"))), (0o700, 0o600));
}

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
fn a_reboot_voids_what_described_running_containers() {
    let (dir, _) = written();
    let opened = Ledger::open(&dir.0, "b2\n").unwrap();
    assert!(opened.rebooted);
    let expected = [
        Record::Ula { prefix: "fd00:1:2::/48".parse().unwrap() },
        pool(POOL),
        address(1, Holder::Gateway),
        address(9, Holder::Aux),
        address(2, Holder::Stale),
        network("n1"),
    ];
    assert_eq!(opened.records, expected);
    drop(opened);
    let again = Ledger::open(&dir.0, "b2").unwrap();
    assert!(!again.rebooted);
    assert_eq!(again.records, expected);
}

#[test]
fn cut_at_every_byte_it_is_a_prefix_of_the_transactions() {
    let (_dir, bytes) = written();
    let ends: Vec<usize> = (1..=bytes.len()).filter(|at| bytes[at - 1] == b'\n').collect();
    for cut in 0..=bytes.len() {
        let dir = TempDir::with(&bytes[..cut]);
        let opened = dir.open();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match &opened.outcome {
            Outcome::Corrupt { line: 1, lost: 1, kept, .. } => {
                assert!(cut < ends[0] && opened.records.is_empty(), "{cut}");
                assert_eq!(fs::read(kept).unwrap(), &bytes[..cut]);
            }
            Outcome::Loaded => assert!(ends.contains(&cut), "{cut}"),
            Outcome::Torn { dropped } => assert_eq!(*dropped as usize, cut - ends[whole - 1]),
            other => panic!("{cut}: {other:?}"),
        }
        assert_eq!(opened.records, alive(whole.saturating_sub(1)), "{cut}");
        // Whatever was found, what follows is written to a whole ledger.
        opened.ledger.append(&[free(1)]).unwrap();
        drop(opened);
        assert_eq!(dir.open().outcome, Outcome::Loaded, "{cut}");
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let (_dir, bytes) = written();
    let whole = alive(usize::MAX);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let found = replay(&damaged);
            assert!(matches!(found.ending, Ending::Torn { .. } | Ending::Damaged { .. }), "{at}.{bit}: {found:?}");
            // What is left was true at some time: damage takes facts away, it never alters one.
            for record in found.facts.into_records() {
                let known = whole.contains(&record) || (0..=story().len()).any(|n| alive(n).contains(&record));
                assert!(known, "{at}.{bit}: {record:?}");
            }
        }
    }
}

#[test]
fn damage_is_kept_aside_and_the_rest_salvaged() {
    let (_dir, bytes) = written();
    let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 20;
    let mut damaged = bytes.clone();
    damaged[second] ^= 1;
    let dir = TempDir::with(&damaged);
    fs::write(dir.file("ledger.corrupt-1"), "older").unwrap();
    let opened = dir.open();
    let kept = dir.file("ledger.corrupt-2");
    let Outcome::Corrupt { line: 2, what, kept: named, lost: 1 } = &opened.outcome else {
        panic!("{:?}", opened.outcome)
    };
    assert_eq!((what.as_str(), named), ("its checksum does not match", &kept));
    assert_eq!(fs::read(&kept).unwrap(), damaged);
    assert_eq!(opened.kept_aside, [dir.file("ledger.corrupt-1"), kept.clone()]);
    let salvaged: Vec<Record> =
        alive(9).into_iter().filter(|r| !matches!(r, Record::Ula { .. } | Record::Pool(_))).collect();
    assert_eq!(opened.records, salvaged);
    opened.ledger.append(&[pool(POOL)]).unwrap();
    drop(opened);
    // The doubt outlives the restart until somebody has looked.
    let again = dir.open();
    assert_eq!((again.outcome, again.kept_aside.len()), (Outcome::Loaded, 2));
    assert_eq!(fs::read(&kept).unwrap(), damaged);
}

#[test]
fn damage_is_not_absence() {
    for bytes in ["", "\n", "hello", "00000000 {}\n", "\0\0\0\0"] {
        let dir = TempDir::with(bytes.as_bytes());
        let opened = dir.open();
        assert!(matches!(opened.outcome, Outcome::Corrupt { line: 1, .. }), "{bytes:?}: {:?}", opened.outcome);
        assert!(!opened.rebooted);
    }
    let (dir, _) = written();
    drop(dir.open());
    fs::remove_file(dir.file("ledger")).unwrap();
    let opened = dir.open();
    let Outcome::Corrupt { line: 0, what, lost: 0, .. } = opened.outcome else { panic!("{:?}", opened.outcome) };
    assert!(what.contains("ledger.prev"));
    assert_eq!(opened.records, alive(9));
}

#[test]
fn a_readable_line_of_nonsense_is_damage_even_at_the_end() {
    let (_dir, mut bytes) = written();
    line::encode(r#"[{"put":"weather"}]"#, &mut bytes);
    let opened = TempDir::with(&bytes).open();
    let Outcome::Corrupt { line: 8, what, lost: 1, .. } = opened.outcome else { panic!("{:?}", opened.outcome) };
    assert!(what.contains("does not decode") && what.contains("weather"), "{what}");
    assert_eq!(opened.records, alive(9));
}

#[test]
fn the_ledger_of_a_newer_release_is_left_alone() {
    let mut bytes = Vec::new();
    encode(Path::new(""), &Header::new(2, BOOT), &mut bytes).unwrap();
    bytes.extend_from_slice(b"who knows\n");
    let dir = TempDir::with(&bytes);
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::TooNew { found: 2, known: 1 });
    assert!(opened.records.is_empty() && !opened.ledger.compact_due());
    for error in [opened.ledger.append(&[free(1)]), opened.ledger.append(&[]), opened.ledger.compact()] {
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/ledger: its format is 2 and this release knows up to 1; install"), "{text}");
    }
    drop(opened);
    assert_eq!(dir.bytes(), bytes);
    assert!(!dir.file("ledger.prev").exists());
}

#[test]
fn the_first_format_still_loads() {
    let dir = TempDir::with(include_bytes!("../../tests/fixtures/state/v1.ledger"));
    let opened = dir.open();
    assert_eq!(opened.outcome, Outcome::Loaded);
    // Compared as JSON, so that a field with a default may join but none be lost or renamed.
    let expected: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/fixtures/state/v1.records.json")).unwrap();
    let found: Vec<Value> = opened.records.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(includes(found, expected), "{found:#} lacks something of {expected:#}");
    }
}

fn includes(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| includes(found, value)))
        }
        _ => found == expected,
    }
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
    let sound = opened.ledger.inner().unwrap().tail.replace(Tail::new(full, 0)).unwrap();
    let error = opened.ledger.append(&[free(1)]).unwrap_err();
    assert!(matches!(&error, StoreError::Io { cause, .. } if cause.raw_os_error() == Some(libc::ENOSPC)));
    assert!(error.to_string().contains("free some space"), "{error}");
    // A device cannot be cut, so from here on it refuses instead of writing behind the damage.
    assert!(matches!(opened.ledger.append(&[free(1)]), Err(StoreError::Ragged { .. })));
    opened.ledger.inner().unwrap().tail = Some(sound);
    opened.ledger.append(&[free(1)]).unwrap();
    drop(opened);
    assert!(!dir.open().records.contains(&address(1, Holder::Gateway)));
}

#[test]
fn an_unwritable_start_still_loads_and_catches_up() {
    let (dir, bytes) = written();
    // A directory in the way of the new file stands for a disk without space.
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
    // Damage that came later is not compacted away.
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
